//! Every message of every protocol, and what else is read from a peer or from text.

use bytes::{Bytes, BytesMut};
use peerage_machine::Message as _;
use peerage_overlay::Packet;
use peerage_wire::handshake::{take_answer, take_message};
use peerage_wire::hello::Hello;
use peerage_wire::preface::Preface;
use peerage_wire::proto::{link::v1 as link, mesh::v1 as mesh};
use peerage_wire::{Address, PeerId};
use prost::Message;

/// Reads the bytes after the first as the message that the first one names. What is read can be written, and is the
/// same when it is read again.
pub fn messages(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let protobuf: &[fn(&[u8])] = &[
        generated::<link::Frame>,
        generated::<link::Control>,
        generated::<link::Hello>,
        generated::<link::Limits>,
        generated::<link::Instance>,
        generated::<mesh::Packet>,
        generated::<mesh::Body>,
        generated::<mesh::WhisperBody>,
    ];
    let own: &[fn(&[u8])] = &[hello, packet, preface, lengths, names, rpc];
    let all = protobuf.iter().chain(own);
    if let Some(read) = all.cycle().nth(usize::from(*which)) {
        read(bytes);
    }
}

fn generated<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    assert!(M::decode(&*message.encode_to_vec()).is_ok_and(|again| again == message), "{message:?}");
}

fn hello(bytes: &[u8]) {
    let Ok(hello) = Hello::decode(bytes) else { return };
    assert_eq!(Hello::decode(&hello.encode()).as_ref(), Ok(&hello));
}

fn packet(bytes: &[u8]) {
    let Ok(packet) = Packet::decode(Bytes::copy_from_slice(bytes)) else { return };
    let mut written = BytesMut::new();
    packet.encode(&mut written);
    assert_eq!(written.len(), packet.encoded_len(), "{packet:?}");
    let again = Packet::decode(written.clone().freeze()).unwrap();
    let mut rewritten = BytesMut::new();
    again.encode(&mut rewritten);
    assert_eq!(rewritten, written);
}

/// What is read by hand is what the generated code reads.
fn rpc(bytes: &[u8]) {
    generated::<peerage_wire::proto::rpc::v1::Packet>(bytes);
    let Ok(packet) = peerage_rpc::Packet::decode(Bytes::copy_from_slice(bytes)) else { return };
    let written = packet.to_bytes();
    let again = peerage_rpc::Packet::decode(written.clone()).unwrap();
    assert_eq!(again.to_bytes(), written, "{packet:?}");
    assert_eq!(again.encoded_len(), written.len());
}

fn preface(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk() else { return };
    if let Ok(preface) = Preface::decode(bytes) {
        assert_eq!(preface.encode(), *bytes);
    }
}

/// Handshake messages with their lengths, until there is one that is no more.
fn lengths(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(message)) = take_message(&mut buffer) {
        assert!(message.len() <= bytes.len());
    }
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(_)) = take_answer(&mut buffer) {}
}

fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse().as_ref(), Ok(&address));
    }
    if let Ok(peer) = text.parse::<PeerId>() {
        assert_eq!(peer.to_string().parse().as_ref(), Ok(&peer));
    }
}
