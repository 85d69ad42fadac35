//! Neighbours that pass on something else than what they heard.

use bytes::Bytes;
use peerage_machine::{LinkId, Now};
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use prost::Message as _;

use super::scripted::{Script, Voice};
use super::words;

/// Pushes every message that it gets to everyone else at once, with other words under the same number and signature, and as
/// if it were the origin's neighbour.
#[derive(Debug)]
pub(super) struct Alterer;

impl Script for Alterer {
    fn hear(&mut self, _: Now, from: LinkId, kind: &Kind, voice: &mut Voice<'_>) {
        let Kind::Payload(payload) = kind else { return };
        let Some(body) = words::body(payload) else { return };
        let body = proto::Body { parts: vec![Bytes::from_static(b"altered")], ..body };
        let altered = proto::Payload {
            body: body.encode_to_vec().into(),
            signature: payload.signature.clone(),
            hops: 1,
            pulled: false,
        };
        voice.everywhere(Some(from), Kind::Payload(altered));
    }
}
