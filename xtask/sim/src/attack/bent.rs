//! Attackers that are real meshes, and leave out what they like.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{Effect, Input, Instant, Machine, Now, Outbox, OutboxOf, Rng};
use peerage_overlay::{MeshAnswer, MeshConfig, MeshEvent, MeshMachine, MeshStart, Packet};
use peerage_sim::Start;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::{Gang, words};

/// What a bent mesh leaves unsaid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Omission {
    /// The messages of the one that the gang has picked, and every word about them.
    Target,
    /// All messages and announcements, once the gang strikes. Until then it is as useful as any.
    All,
}

/// A mesh that asks urgently, knows only honest peers, names only attackers, and omits.
pub(super) struct Bent {
    inner: MeshMachine,
    gang: Rc<Gang>,
    omission: Omission,
    strikes: Instant,
    rng: Rng,
}

impl Bent {
    pub(super) fn new(gang: &Rc<Gang>, identity: &Arc<Identity>, omission: Omission, start: &Start) -> Self {
        let inner = MeshStart {
            now: start.now,
            seed: start.seed.clone(),
            identity: Arc::clone(identity),
            incarnation: start.incarnation,
            addresses: start.addresses.clone(),
        };
        let inner = MeshMachine::new(MeshConfig::named(gang.network.as_str()), inner);
        let strikes = start.now.mono + gang.bides;
        Self { inner, gang: Rc::clone(gang), omission, strikes, rng: start.seed.fork("bent").rng() }
    }

    fn run(
        &mut self,
        now: Instant,
        out: &mut OutboxOf<MeshMachine>,
        call: impl FnOnce(&mut MeshMachine, &mut OutboxOf<MeshMachine>),
    ) {
        let mut inner: OutboxOf<MeshMachine> = Outbox::new();
        call(&mut self.inner, &mut inner);
        for effect in inner.drain() {
            match effect {
                Effect::Send { to, message, class, id } => {
                    if let Some(message) = self.bend(now, message) {
                        out.push(Effect::Send { to, message, class, id });
                    }
                }
                // It has no application.
                Effect::Emit(_) | Effect::Count { .. } => {}
                other => out.push(other),
            }
        }
    }

    /// What it says instead.
    fn bend(&mut self, now: Instant, message: Packet) -> Option<Packet> {
        let bent = match words::kind(&message)? {
            Kind::Join(_) => Kind::Join(proto::Join { urgent: true }),
            Kind::Neighbour(_) => Kind::Neighbour(proto::Neighbour { urgent: true }),
            Kind::NeighbourReply(reply) => {
                let others = self.gang.named(&mut self.rng);
                Kind::NeighbourReply(proto::NeighbourReply { others, ..reply })
            }
            Kind::Disconnect(goodbye) => {
                let others = self.gang.named(&mut self.rng);
                Kind::Disconnect(proto::Disconnect { others, ..goodbye })
            }
            Kind::ShuffleReply(reply) => {
                let sample = self.gang.named(&mut self.rng);
                Kind::ShuffleReply(proto::ShuffleReply { sample, ..reply })
            }
            Kind::ForwardJoin(_) => return None,
            kind if self.is_omitted(now, &kind) => {
                self.gang.act();
                return None;
            }
            Kind::Announce(proto::Announce { runs }) if self.omission == Omission::Target => {
                Kind::Announce(proto::Announce { runs: self.but_target(runs) })
            }
            Kind::Summary(proto::Summary { runs, ask }) if self.omission == Omission::Target => {
                Kind::Summary(proto::Summary { runs: self.but_target(runs), ask })
            }
            _ => return Some(message),
        };
        words::packet(bent)
    }

    /// Without the name being said, nobody knows later what it stands for.
    fn but_target(&self, mut runs: Vec<proto::Run>) -> Vec<proto::Run> {
        let all = runs.len();
        runs.retain(|run| !self.is_target(&run.origin));
        (runs.len()..all).for_each(|_| self.gang.act());
        runs
    }

    fn is_omitted(&self, now: Instant, kind: &Kind) -> bool {
        match (self.omission, kind) {
            (Omission::All, Kind::Payload(_) | Kind::Announce(_) | Kind::Summary(_)) => self.strikes <= now,
            (Omission::Target, Kind::Payload(payload)) => {
                words::body(payload).is_some_and(|body| self.is_target(&body.origin))
            }
            _ => false,
        }
    }

    fn is_target(&self, origin: &Bytes) -> bool {
        self.gang.victims.first().is_some_and(|(target, _)| target.as_bytes()[..] == **origin)
    }

    /// It would rather know honest peers. Whom it does not hear of, it does not know.
    fn hear(&self, message: Packet) -> Option<Packet> {
        let honest = |contact: &proto::Contact| {
            self.gang.victims.iter().any(|(victim, _)| victim.as_bytes()[..] == *contact.peer)
        };
        let heard = match words::kind(&message)? {
            Kind::NeighbourReply(mut reply) => {
                reply.others.retain(honest);
                Kind::NeighbourReply(reply)
            }
            Kind::Disconnect(mut goodbye) => {
                goodbye.others.retain(honest);
                Kind::Disconnect(goodbye)
            }
            Kind::ShuffleReply(mut reply) => {
                reply.sample.retain(honest);
                Kind::ShuffleReply(reply)
            }
            Kind::Shuffle(mut shuffle) => {
                shuffle.sample.retain(honest);
                Kind::Shuffle(shuffle)
            }
            Kind::ForwardJoin(_) => return None,
            _ => return Some(message),
        };
        words::packet(heard)
    }
}

impl Machine for Bent {
    type Message = Packet;
    type Event = MeshEvent;
    type Answer = MeshAnswer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        let starts = matches!(input, Input::OwnAddresses(_));
        let input = match input {
            Input::Message { link, message } => match self.hear(message) {
                Some(message) => Input::Message { link, message },
                None => return,
            },
            other => other,
        };
        let victims = self.rng.sample(&self.gang.victims, self.gang.links);
        let contacts = victims.into_iter().map(|(_, address)| address.clone()).collect();
        self.run(now.mono, out, |inner, out| {
            inner.on_input(now, input, out);
            if starts {
                // The contacts are well-formed, and no other join is pending.
                inner.join(now, contacts, out).ok();
            }
        });
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        self.run(now.mono, out, |inner, out| inner.on_timer(now, out));
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }
}
