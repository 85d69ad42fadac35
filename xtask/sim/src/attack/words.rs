//! The mesh's words, as an attacker says and hears them: protobuf, as on the wire.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use peerage_machine::Message as _;
use peerage_overlay::Packet;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use peerage_wire::{Address, PeerId};
use prost::Message as _;

/// The domain of a broadcast's signature.
pub(crate) const DOMAIN: &str = "peerage mesh message v1";

/// A packet that says this; `None` for what honest hosts would not even take for a packet.
pub(crate) fn packet(kind: Kind) -> Option<Packet> {
    Packet::decode(proto::Packet { kind: Some(kind) }.encode_to_vec().into()).ok()
}

/// What a packet says.
pub(crate) fn kind(packet: &Packet) -> Option<Kind> {
    let mut bytes = BytesMut::with_capacity(packet.encoded_len());
    packet.encode(&mut bytes);
    proto::Packet::decode(bytes.freeze()).ok()?.kind
}

pub(crate) fn contact((peer, address): &(PeerId, Address)) -> proto::Contact {
    proto::Contact { peer: Bytes::copy_from_slice(peer.as_bytes()), addresses: vec![address.to_string()] }
}

/// Numbers of one origin's start, as they are announced and asked for.
pub(crate) fn run(origin: &Bytes, epoch: u64, first: u64, last: u64) -> proto::Run {
    let ranges = vec![first.saturating_sub(1), last.saturating_sub(first)];
    proto::Run { origin: origin.clone(), epoch, ranges, ..proto::Run::default() }
}

/// The last number of a run, if it has any.
pub(crate) fn last(run: &proto::Run) -> Option<u64> {
    let pairs = run.ranges.chunks_exact(2);
    let end = pairs.fold(0_u64, |end, pair| pair.iter().fold(end, |end, by| end.saturating_add(*by)) + 1);
    (end > 0).then_some(end)
}

/// What an honest peer would have said.
pub(crate) fn body(payload: &proto::Payload) -> Option<proto::Body> {
    proto::Body::decode(payload.body.clone()).ok()
}

/// How much each start of each origin has said, as far as it was heard of.
#[derive(Debug, Default)]
pub(crate) struct Streams(BTreeMap<(Bytes, u64), u64>);

impl Streams {
    pub(crate) fn hear(&mut self, kind: &Kind) {
        match kind {
            Kind::Payload(payload) => {
                if let Some(body) = body(payload) {
                    self.note(body.origin, body.epoch, body.seq);
                }
            }
            Kind::Announce(proto::Announce { runs }) | Kind::Summary(proto::Summary { runs, .. }) => {
                for run in runs {
                    if let Some(last) = last(run) {
                        self.note(run.origin.clone(), run.epoch, last);
                    }
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, origin: Bytes, epoch: u64, seq: u64) {
        let last = self.0.entry((origin, epoch)).or_default();
        *last = seq.max(*last);
    }

    /// Origin, epoch, and the last number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Bytes, u64, u64)> {
        self.0.iter().map(|((origin, epoch), last)| (origin, *epoch, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_of_a_run_is_read_as_the_mesh_reads_it() {
        let origin = Bytes::from_static(b"origin");
        assert_eq!(last(&run(&origin, 1, 1, 1)), Some(1));
        assert_eq!(last(&run(&origin, 1, 3, 5)), Some(5));
        // 3..=5 and 9.
        let two = proto::Run { ranges: vec![2, 2, 3, 0], ..proto::Run::default() };
        assert_eq!(last(&two), Some(9));
        assert_eq!(last(&proto::Run::default()), None);
    }
}
