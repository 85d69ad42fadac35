//! Neighbours that say things in the names of others.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{Now, Rng};
use peerage_sim::Start;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use prost::Message as _;

use super::scripted::{Script, Voice};
use super::{Gang, words};

/// Tells everyone it has a link to, once a second, what an honest peer is to have said, signed by itself.
#[derive(Debug)]
pub(super) struct Forger {
    gang: Rc<Gang>,
    identity: Arc<Identity>,
    rng: Rng,
    seq: u64,
}

impl Forger {
    pub(super) fn new(gang: &Rc<Gang>, identity: &Arc<Identity>, start: &Start) -> Self {
        let rng = start.seed.fork("forger").rng();
        Self { gang: Rc::clone(gang), identity: Arc::clone(identity), rng, seq: 0 }
    }
}

impl Script for Forger {
    fn every(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn turn(&mut self, now: Now, voice: &mut Voice<'_>) {
        let Some((origin, _)) = self.rng.pick(&self.gang.victims).cloned() else { return };
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
        let signature = Bytes::copy_from_slice(&self.identity.sign(words::DOMAIN, &body));
        voice.everywhere(None, Kind::Payload(proto::Payload { body, signature, hops: 0, pulled: false }));
    }
}
