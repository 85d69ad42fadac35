//! Peers that do not keep to the protocol. An attack is a machine that speaks the mesh's words and does what it likes; a new
//! one is a file here and a line in each of the two matches.

mod forger;
mod sink;
mod words;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use clap::ValueEnum;
use peerage_identity::Identity;
use peerage_overlay::MeshMachine;
use peerage_sim::{Impostor, Start};
use peerage_wire::{Address, PeerId};

/// What attackers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// They become neighbours of as many as they can, name only each other to them, and pass nothing on.
    Sink,
    /// The same, and each says things in the names of honest peers.
    Forger,
}

/// What all attackers of a run know and share.
#[derive(Debug)]
pub(crate) struct Gang {
    /// The mesh's name.
    pub(crate) network: String,
    /// Links to honest peers that each attacker tries to have.
    pub(crate) links: usize,
    /// The honest peers, and where they listen.
    pub(crate) victims: Vec<(PeerId, Address)>,
    /// The attackers: who, and where they listen.
    pub(crate) members: RefCell<Vec<(PeerId, Address)>>,
}

impl Attack {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Forger => "forger",
        }
    }

    /// The machine of one attacker, who has an identity of its own.
    pub(crate) fn machine(
        self,
        gang: &Rc<Gang>,
        identity: &Arc<Identity>,
        start: &Start,
    ) -> Box<Impostor<MeshMachine>> {
        match self {
            Self::Sink => Box::new(sink::Sink::new(Rc::clone(gang), start)),
            Self::Forger => Box::new(forger::Forger::new(Rc::clone(gang), Arc::clone(identity), start)),
        }
    }
}
