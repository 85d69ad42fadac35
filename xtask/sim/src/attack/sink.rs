//! A neighbour that passes nothing on.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use peerage_machine::{DialId, Input, Instant, LinkId, Machine, Now, OutboxOf, Rng, Target};
use peerage_overlay::{MeshAnswer, MeshEvent, MeshMachine, Packet};
use peerage_sim::Start;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

use super::{Gang, words};

/// How often it looks whether it has the links that it wants, and asks again who refused it.
const AGAIN: Duration = Duration::from_secs(1);
/// How many of the gang it names at once.
const NAMED: usize = 8;

/// Asks to be a neighbour, urgently, of random honest peers; says yes to whoever asks; names only attackers; and neither
/// sends nor announces any message.
#[derive(Debug)]
pub(super) struct Sink {
    gang: Rc<Gang>,
    rng: Rng,
    /// Whether it has been taken as a neighbour there.
    links: BTreeMap<LinkId, bool>,
    dials: u64,
    open_dials: usize,
    next: Instant,
}

impl Sink {
    pub(super) fn new(gang: Rc<Gang>, start: &Start) -> Self {
        let mut rng = start.seed.fork("sink").rng();
        let next = start.now.mono + rng.duration_between(Duration::ZERO, AGAIN);
        Self { gang, rng, links: BTreeMap::new(), dials: 0, open_dials: 0, next }
    }

    /// The links that it has.
    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> {
        self.links.keys().copied()
    }

    fn say(link: LinkId, kind: Kind, out: &mut OutboxOf<MeshMachine>) {
        if let Some(packet) = words::packet(kind) {
            out.control(link, packet);
        }
    }

    fn named(&mut self) -> Vec<proto::Contact> {
        let members = self.gang.members.borrow();
        let mut named = Vec::with_capacity(NAMED);
        for _ in 0..NAMED {
            named.extend(self.rng.pick(&members).map(words::contact));
        }
        named
    }

    fn hear(&mut self, link: LinkId, packet: &Packet, out: &mut OutboxOf<MeshMachine>) {
        match words::kind(packet) {
            Some(Kind::Join(_) | Kind::Neighbour(_)) => {
                self.links.insert(link, true);
                let others = self.named();
                Self::say(link, Kind::NeighbourReply(proto::NeighbourReply { accepted: true, others }), out);
            }
            Some(Kind::NeighbourReply(reply)) => {
                self.links.insert(link, reply.accepted);
            }
            Some(Kind::Disconnect(_)) => {
                self.links.insert(link, false);
            }
            Some(Kind::Shuffle(shuffle)) => {
                let sample = self.named();
                Self::say(
                    link,
                    Kind::ShuffleReply(proto::ShuffleReply { nonce: shuffle.nonce, sample }),
                    out,
                );
            }
            _ => {}
        }
    }
}

impl Machine for Sink {
    type Message = Packet;
    type Event = MeshEvent;
    type Answer = MeshAnswer;

    fn on_input(&mut self, _: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        match input {
            Input::Up { link, .. } => {
                self.links.insert(link, false);
            }
            Input::Down { link, .. } => {
                self.links.remove(&link);
            }
            Input::Message { link, message } => self.hear(link, &message, out),
            Input::Dialed { link, .. } => {
                self.open_dials -= 1;
                Self::say(link, Kind::Neighbour(proto::Neighbour { urgent: true }), out);
            }
            Input::DialFailed { .. } => self.open_dials -= 1,
            _ => {}
        }
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        if self.next > now.mono {
            return;
        }
        self.next = now.mono + self.rng.jitter(AGAIN, 0.2);
        for (link, taken) in &self.links {
            if !taken {
                Self::say(*link, Kind::Neighbour(proto::Neighbour { urgent: true }), out);
            }
        }
        while self.links.len() + self.open_dials < self.gang.links {
            let Some((_, address)) = self.rng.pick(&self.gang.victims) else { return };
            out.dial(DialId(self.dials), Target::Address(address.clone()));
            self.dials += 1;
            self.open_dials += 1;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next)
    }
}
