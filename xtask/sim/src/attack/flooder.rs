//! Neighbours that say more than anybody can use.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::Now;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use prost::Message as _;

use super::scripted::{Script, Voice};
use super::{Gang, words};

/// How long its messages are.
const LEN: usize = 1024;
/// Words of control for each message.
const PROBES: usize = 1_000;

/// Once a second, says something of its own, well signed, to everyone it has a link to; and asks its neighbours a thousand
/// times whether they are there.
#[derive(Debug)]
pub(super) struct Flooder {
    gang: Rc<Gang>,
    identity: Arc<Identity>,
    seq: u64,
}

impl Flooder {
    pub(super) fn new(gang: &Rc<Gang>, identity: &Arc<Identity>) -> Self {
        Self { gang: Rc::clone(gang), identity: Arc::clone(identity), seq: 0 }
    }
}

impl Script for Flooder {
    fn every(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn turn(&mut self, now: Now, voice: &mut Voice<'_>) {
        self.seq += 1;
        let body = proto::Body {
            network: self.gang.network.clone(),
            origin: Bytes::copy_from_slice(self.identity.peer_id().as_bytes()),
            epoch: 1,
            seq: self.seq,
            sent: now.wall.0,
            parts: vec![Bytes::from(vec![b'x'; LEN])],
        };
        let body = Bytes::from(body.encode_to_vec());
        let signature = Bytes::copy_from_slice(&self.identity.sign(words::DOMAIN, &body));
        voice.everywhere(None, Kind::Payload(proto::Payload { body, signature, hops: 0, pulled: false }));
        for _ in 0..PROBES {
            voice.nearby(None, Kind::Probe(proto::Probe { answer: false }));
        }
    }
}
