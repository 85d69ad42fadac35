//! A neighbour that passes nothing on, and says things in the names of others.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{Input, Instant, Machine, Now, OutboxOf, Rng};
use peerage_overlay::{MeshAnswer, MeshEvent, Packet};
use peerage_sim::Start;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use prost::Message as _;

use super::sink::Sink;
use super::{Gang, words};

/// The domain of a broadcast's signature.
const DOMAIN: &str = "peerage mesh message v1";
/// From one forgery to the next.
const EVERY: Duration = Duration::from_secs(1);

/// A [`Sink`] that tells everyone it has a link to, once a second, what an honest peer is to have said, signed by itself.
#[derive(Debug)]
pub(super) struct Forger {
    sink: Sink,
    gang: Rc<Gang>,
    identity: Arc<Identity>,
    rng: Rng,
    next: Instant,
    seq: u64,
}

impl Forger {
    pub(super) fn new(gang: Rc<Gang>, identity: Arc<Identity>, start: &Start) -> Self {
        let mut rng = start.seed.fork("forger").rng();
        let next = start.now.mono + rng.duration_between(Duration::ZERO, EVERY);
        Self { sink: Sink::new(Rc::clone(&gang), start), gang, identity, rng, next, seq: 0 }
    }

    fn forge(&mut self, now: Now) -> Option<Packet> {
        let (origin, _) = self.rng.pick(&self.gang.victims)?.clone();
        self.seq += 1;
        let body = proto::Body {
            network: self.gang.network.clone(),
            origin: Bytes::copy_from_slice(origin.as_bytes()),
            epoch: now.wall.0,
            seq: self.seq,
            sent: now.wall.0,
            parts: vec![Bytes::from_static(b"forged")],
        };
        let body = Bytes::from(body.encode_to_vec());
        let signature = Bytes::copy_from_slice(&self.identity.sign(DOMAIN, &body));
        words::packet(Kind::Payload(proto::Payload { body, signature, hops: 0, pulled: false }))
    }
}

impl Machine for Forger {
    type Message = Packet;
    type Event = MeshEvent;
    type Answer = MeshAnswer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        self.sink.on_input(now, input, out);
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        self.sink.on_timer(now, out);
        if self.next > now.mono {
            return;
        }
        self.next = now.mono + EVERY;
        if let Some(packet) = self.forge(now) {
            for link in self.sink.links() {
                out.send(link, packet.clone());
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.sink.deadline().map(|at| at.min(self.next))
    }
}
