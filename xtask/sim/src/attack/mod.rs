//! Peers that do not keep to the protocol. An attack is a machine that speaks the mesh's words and does what it likes: most are
//! a foothold among honest peers and a script of what to say there, and some are real meshes that omit something. A new one
//! is a file here, and a line in each of the matches.

mod alterer;
mod announcer;
mod bent;
mod flooder;
mod foothold;
mod forger;
mod grafter;
mod promiser;
mod replayer;
mod scripted;
mod silence;
mod words;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bent::{Bent, Omission};
use clap::ValueEnum;
use foothold::Aim;
use peerage_identity::Identity;
use peerage_machine::Rng;
use peerage_overlay::MeshMachine;
use peerage_sim::{Impostor, Start};
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::{Address, PeerId};
use scripted::Scripted;

/// How many of the gang its members name at once.
const NAMED: usize = 8;

/// What attackers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// They become neighbours of as many as they can, name only each other to them, and pass nothing on.
    Sink,
    /// The same, and say things in the names of honest peers.
    Forger,
    /// The same, and repeat genuine messages to everyone.
    Replay,
    /// The same, and pass everything on at once, altered.
    Alter,
    /// The same, and say much of their own, and a thousand words of control a second.
    Flood,
    /// The same, and announce what nobody has said yet.
    Ihave,
    /// The same, and want everything pushed and sent, again and again.
    Graft,
    /// The same, and announce at once whatever they hear of, and never send it.
    Promise,
    /// All of them become neighbours of one peer, and pass nothing on.
    Eclipse,
    /// They are as useful as any peer, but that nothing of one origin passes by them.
    Censor,
    /// They are as useful as any peer for a minute, and then all at once pass nothing on.
    Turncoat,
    /// All of these together, each done by as many.
    All,
}

/// What all attackers of a run know and share.
#[derive(Debug)]
pub(crate) struct Gang {
    /// The mesh's name.
    pub(crate) network: String,
    /// Links to honest peers that each attacker tries to have.
    pub(crate) links: usize,
    /// The honest peers, and where they listen. The first is the one that some attacks are about.
    pub(crate) victims: Vec<(PeerId, Address)>,
    /// The attackers: who, and where they listen.
    pub(crate) members: RefCell<Vec<(PeerId, Address)>>,
    /// How long those bide their time that do, from their start.
    pub(crate) bides: Duration,
    /// What they have done so far that no honest peer does: a count.
    pub(crate) acts: Cell<u64>,
}

impl Gang {
    /// Some of its members, as others to try.
    fn named(&self, rng: &mut Rng) -> Vec<proto::Contact> {
        let members = self.members.borrow();
        (0..NAMED).filter_map(|_| rng.pick(&members).map(words::contact)).collect()
    }

    fn act(&self) {
        self.acts.set(self.acts.get() + 1);
    }
}

impl Attack {
    /// Those that are not a mixture.
    const KINDS: [Self; 11] = [
        Self::Sink,
        Self::Forger,
        Self::Replay,
        Self::Alter,
        Self::Flood,
        Self::Ihave,
        Self::Graft,
        Self::Promise,
        Self::Eclipse,
        Self::Censor,
        Self::Turncoat,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Forger => "forger",
            Self::Replay => "replay",
            Self::Alter => "alter",
            Self::Flood => "flood",
            Self::Ihave => "ihave",
            Self::Graft => "graft",
            Self::Promise => "promise",
            Self::Eclipse => "eclipse",
            Self::Censor => "censor",
            Self::Turncoat => "turncoat",
            Self::All => "all",
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Sink => "become neighbours of all, name only each other, pass nothing on",
            Self::Forger => "the same, and say things in the names of honest peers",
            Self::Replay => "the same, and repeat genuine messages to everyone",
            Self::Alter => "the same, and pass everything on at once, altered",
            Self::Flood => "the same, and say much of their own, and a thousand words of control a second",
            Self::Ihave => "the same, and announce what nobody has said yet",
            Self::Graft => "the same, and want everything pushed and sent, again and again",
            Self::Promise => "the same, and announce whatever they hear of at once, and never send it",
            Self::Eclipse => "all go for the places of one peer, and pass nothing on",
            Self::Censor => "useful as any, but that nothing of one origin passes by them",
            Self::Turncoat => "useful as any for a minute, then all at once pass nothing on",
            Self::All => "all of these together, each done by as many",
        }
    }

    /// What the attacker of this number does.
    fn of(self, number: usize) -> Self {
        match self {
            Self::All => Self::KINDS.get(number % Self::KINDS.len()).copied().unwrap_or(Self::Sink),
            one => one,
        }
    }

    /// The machine of one attacker, who has an identity of its own.
    pub(crate) fn machine(
        self,
        number: usize,
        gang: &Rc<Gang>,
        identity: &Arc<Identity>,
        start: &Start,
    ) -> Box<Impostor<MeshMachine>> {
        let anybody = Aim::Anybody;
        match self.of(number) {
            Self::Forger => {
                Box::new(Scripted::new(gang, anybody, forger::Forger::new(gang, identity, start), start))
            }
            Self::Replay => Box::new(Scripted::new(gang, anybody, replayer::Replayer::new(start), start)),
            Self::Alter => Box::new(Scripted::new(gang, anybody, alterer::Alterer, start)),
            Self::Flood => {
                Box::new(Scripted::new(gang, anybody, flooder::Flooder::new(gang, identity), start))
            }
            Self::Ihave => Box::new(Scripted::new(gang, anybody, announcer::Announcer::default(), start)),
            Self::Graft => Box::new(Scripted::new(gang, anybody, grafter::Grafter::default(), start)),
            Self::Promise => Box::new(Scripted::new(gang, anybody, promiser::Promiser, start)),
            Self::Eclipse => Box::new(Scripted::new(gang, Aim::Target, silence::Silence, start)),
            Self::Censor => Box::new(Bent::new(gang, identity, Omission::Target, start)),
            Self::Turncoat => Box::new(Bent::new(gang, identity, Omission::All, start)),
            Self::Sink | Self::All => Box::new(Scripted::new(gang, anybody, silence::Silence, start)),
        }
    }
}
