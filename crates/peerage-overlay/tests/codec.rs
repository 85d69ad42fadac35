//! Bytes that are no message are an error, never a panic, and cost no more than their size.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use bytes::{Bytes, BytesMut};
use common::{identity, packets};
use peerage_machine::{Message as _, Seed};
use peerage_overlay::{MessageId, Packet};
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use proptest::prelude::*;
use prost::Message as _;

fn encoded(packet: &Packet) -> Bytes {
    let mut bytes = BytesMut::new();
    packet.encode(&mut bytes);
    assert_eq!(bytes.len(), packet.encoded_len());
    bytes.freeze()
}

#[test]
fn every_packet_survives_its_encoding() {
    let mut rng = Seed::from_u64(1).rng();
    for _ in 0..500 {
        let packet = packets::random(&mut rng, 5);
        assert_eq!(Packet::decode(encoded(&packet)).unwrap(), packet);
    }
}

#[test]
fn every_prefix_and_every_changed_byte_is_a_packet_or_an_error() {
    let mut rng = Seed::from_u64(2).rng();
    for _ in 0..50 {
        let bytes = encoded(&packets::random(&mut rng, 5));
        for end in 0..bytes.len() {
            let _ = Packet::decode(bytes.slice(..end));
            let mut changed = BytesMut::from(&bytes[..]);
            if let Some(byte) = changed.get_mut(end) {
                *byte ^= 1 << rng.below(8);
            }
            if let Ok(packet) = Packet::decode(changed.freeze()) {
                // What is accepted has one meaning.
                assert_eq!(Packet::decode(encoded(&packet)).unwrap(), packet);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_a_packet_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Packet::decode(bytes.into());
    }

    #[test]
    fn message_ids_survive_their_text(seed in any::<u32>(), epoch in any::<u64>(), seq in any::<u64>()) {
        let id = MessageId { origin: identity(seed).peer_id(), epoch, seq };
        prop_assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
    }
}

fn refused(kind: Kind) -> String {
    Packet::decode(proto::Packet { kind: Some(kind) }.encode_to_vec().into()).unwrap_err().to_string()
}

fn run(ranges: Vec<u64>) -> Kind {
    let origin = Bytes::from(vec![1; 32]);
    Kind::Announce(proto::Announce {
        runs: vec![proto::Run { origin, epoch: 1, ranges, hops: 0, now: false, name: 0 }],
    })
}

#[test]
fn what_exceeds_a_bound_is_refused_by_name() {
    let contact = |addresses| proto::Contact { peer: vec![1; 32].into(), addresses };
    let many = vec![contact(vec![]); 17];
    let signed = |parts: usize, seq| {
        let body = proto::Body {
            network: "news".to_owned(),
            origin: vec![1; 32].into(),
            epoch: 1,
            seq,
            sent: 1,
            parts: vec![Bytes::new(); parts],
        };
        let body = body.encode_to_vec().into();
        Kind::Payload(proto::Payload { body, signature: vec![0; 64].into(), hops: 0, pulled: false })
    };
    let cases = [
        (Kind::Disconnect(proto::Disconnect { leaving: false, others: many }), "17 contacts"),
        (Kind::ForwardJoin(proto::ForwardJoin { joiner: None, ttl: 1 }), "no joiner"),
        (Kind::ForwardJoin(proto::ForwardJoin { joiner: Some(contact(vec![])), ttl: 17 }), "ttl is 17"),
        (
            Kind::ForwardJoin(proto::ForwardJoin { joiner: Some(contact(vec!["x".to_owned()])), ttl: 1 }),
            "not an address",
        ),
        (run(vec![0, 1 << 20]), "2^20"),
        (run(vec![u64::MAX, 1]), "2^64"),
        (run(vec![0, 1, 0, 1]), "touch"),
        (run(vec![1]), "pairs"),
        (run(vec![1; 1026]), "pairs"),
        (signed(0, 1), "no part"),
        (signed(65, 1), "too much of field 6"),
        (signed(1, 0), "begin with 1"),
        (Kind::Prune(proto::Prune { origin: vec![1; 31].into() }), "32 bytes"),
        (
            Kind::WhisperResult(proto::WhisperResult { origin: vec![1; 32].into(), ..Default::default() }),
            "outcome",
        ),
    ];
    for (kind, reason) in cases {
        let error = refused(kind.clone());
        assert!(error.contains(reason), "{kind:?} is refused because {error}");
    }
}

#[test]
fn a_small_packet_of_many_fields_is_refused_before_it_is_decoded() {
    // 64 KiB of empty runs would take fifty times as much when decoded.
    let runs = vec![proto::Run::default(); 40_000];
    let error = refused(Kind::Announce(proto::Announce { runs }));
    assert!(error.contains("too much of field 9"), "{error}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_packets_are_pinned() {
    let origin = identity(1);
    let run = proto::Run {
        origin: vec![0x11; 32].into(),
        epoch: 300,
        ranges: vec![2, 2, 3, 0],
        hops: 2,
        now: true,
        name: 0,
    };
    let payload =
        packets::payload(&origin, "news", 300, 7, 1_767_225_600_000, vec!["hi".into(), Bytes::new()]);
    let cases = [
        (Kind::Join(proto::Join { urgent: true }), "0a020801"),
        (Kind::Shuffle(proto::Shuffle { nonce: 1, ttl: 6, sample: vec![] }), "320b09010000000000000010 06"),
        (
            Kind::Announce(proto::Announce { runs: vec![run] }),
            "4a310a2f0a20 1111111111111111111111111111111111111111111111111111111111111111 10ac02 1a0402020300 2002 2801",
        ),
    ];
    for (kind, expected) in cases {
        assert_eq!(hex(&encoded(&packets::packet(kind))), expected.replace(' ', ""));
    }
    let (body, key) = (hex(&payload.body), hex(origin.peer_id().as_bytes()));
    let expected = format!("0a046e657773 1220{key} 18ac02 2007 2880d0eab6b733 32026869 3200");
    assert_eq!(body, expected.replace(' ', ""));
    let signature = hex(&payload.signature);
    // Field 8 of the packet: 2 + 58 bytes of body, 2 + 64 of signature.
    let expected = format!("427e 0a3a{body} 1240{signature}");
    assert_eq!(hex(&encoded(&packets::packet(Kind::Payload(payload)))), expected.replace(' ', ""));
}
