//! The mesh's words, as an attacker says and hears them: protobuf, as on the wire.

use bytes::{Bytes, BytesMut};
use peerage_machine::Message as _;
use peerage_overlay::Packet;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use peerage_wire::{Address, PeerId};
use prost::Message as _;

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
