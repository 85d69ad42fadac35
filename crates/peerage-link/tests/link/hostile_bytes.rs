//! Bytes that are not what a peer would send: changed, cut short, out of place, or none of ours.

use bytes::BytesMut;
use peerage_link::{LinkEvent, Setup};
use peerage_machine::{Side, Why};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;
use proptest::prelude::*;

use crate::common::{End, Pair, Stranger, body, dialer, hello_of, identity, instance, listener, peer};

/// What each side of an honest handshake says in turn, up to its `Accept`: (by the dialer, the bytes).
fn honest() -> Vec<(bool, Vec<u8>)> {
    let mut pair = Pair::new(dialer(&["x"]), listener(&["x"]));
    let mut said = Vec::new();
    loop {
        pair.a.settle(pair.now);
        pair.b.settle(pair.now);
        pair.a.flush(usize::MAX);
        pair.b.flush(usize::MAX);
        if pair.a.wire.is_empty() && pair.b.wire.is_empty() {
            return said;
        }
        for (by_a, end) in [(true, &pair.a), (false, &pair.b)] {
            if !end.wire.is_empty() {
                said.push((by_a, end.wire.to_vec()));
            }
        }
        pair.cross(usize::MAX, usize::MAX);
    }
}

/// Feeds one side of the honest conversation to a link, with one part of it replaced; what became of it.
fn replay(setup: Setup, said: &[Vec<u8>], replaced: usize, by: &[u8]) -> End {
    let now = peerage_machine::Instant::from_micros(1_000_000);
    let mut end = End::new(setup, now);
    for (place, bytes) in said.iter().enumerate() {
        end.settle(now);
        end.flush(usize::MAX);
        end.arrive(now, if place == replaced { by } else { bytes });
        end.settle(now);
    }
    end
}

/// Whether a link that was told something else than the truth is where it may be.
fn assert_not_fooled(end: &End, honest: usize, what: &str) {
    assert!(!end.heard.is_up(), "{what}: up");
    if let Some(hello) = end.heard.hello() {
        assert_eq!(hello.identity, peer([2, 1][honest]), "{what}");
    }
    match end.heard.closed() {
        None | Some(Why::Fault { by: Side::Them, .. } | Why::Incompatible { .. }) => {}
        Some(other) => panic!("{what}: {other}"),
    }
}

/// A side by its number, a setup of it, and what it hears.
type SideOf = (usize, fn() -> Setup, Vec<Vec<u8>>);

fn sides() -> [SideOf; 2] {
    let said = honest();
    let of =
        |side: bool| said.iter().filter(|(by_a, _)| *by_a == side).map(|(_, said)| said.clone()).collect();
    [(0, || dialer(&["x"]), of(false)), (1, || listener(&["x"]), of(true))]
}

#[test]
fn the_honest_conversation_brings_either_side_up() {
    for (_, setup, said) in sides() {
        let end = replay(setup(), &said, usize::MAX, &[]);
        assert!(end.heard.is_up(), "{:?}", end.heard);
    }
}

#[test]
fn no_changed_byte_of_the_handshake_or_the_first_record_brings_a_link_up() {
    for (side, setup, said) in sides() {
        for (place, bytes) in said.iter().enumerate() {
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                let end = replay(setup(), &said, place, &changed);
                assert_not_fooled(&end, side, &format!("side {side}, part {place}, byte {at}"));
            }
        }
    }
}

#[test]
fn no_truncated_part_of_the_handshake_brings_a_link_up() {
    for (side, setup, said) in sides() {
        for (place, bytes) in said.iter().enumerate() {
            for length in 0..bytes.len() {
                let end = replay(setup(), &said, place, &bytes[..length]);
                assert_not_fooled(&end, side, &format!("side {side}, part {place}, cut to {length}"));
            }
        }
    }
}

#[test]
fn handshake_messages_of_another_handshake_do_not_fit() {
    let said = honest();
    let first_of_b: Vec<u8> = said.iter().find(|(by_a, _)| !by_a).unwrap().1.clone();
    let mut other = dialer(&["x"]);
    other.entropy = [42; 32];
    let end = replay(other, &[first_of_b], usize::MAX, &[]);
    assert!(matches!(end.closed(), Why::Fault { by: Side::Them, .. }));
}

fn up() -> Stranger {
    Stranger::up(listener(&["x"]), vec![instance("x")])
}

fn data_record(stranger: &mut Stranger, number: u32) -> BytesMut {
    let mut plaintext = BytesMut::new();
    let header = peerage_wire::frame::DataHeader { channel: 0, class: 0, total: 0 };
    peerage_wire::frame::put_data(&mut plaintext, header, &body(number, 20));
    stranger.seal(&plaintext)
}

#[test]
fn every_changed_byte_of_a_record_is_a_fault_or_a_longer_wait() {
    let length = data_record(&mut up(), 1).len();
    for at in 0..length {
        for bit in [0, 7] {
            let mut stranger = up();
            let mut record = data_record(&mut stranger, 1);
            record[at] ^= 1 << bit;
            stranger.raw(&record);
            assert_eq!(stranger.end.heard.messages(), []);
            match stranger.end.heard.closed() {
                None => assert!(at < 2, "byte {at}"),
                Some(_) => stranger.assert_accused("record"),
            }
        }
    }
}

#[test]
fn a_truncated_record_is_waited_for() {
    let mut stranger = up();
    let record = data_record(&mut stranger, 1);
    for byte in &record[..record.len() - 1] {
        stranger.raw(&[*byte]);
    }
    assert_eq!((stranger.end.heard.messages(), stranger.end.heard.closed()), (vec![], None));
    stranger.raw(&record[record.len() - 1..]);
    assert_eq!(stranger.end.heard.messages(), [(0, body(1, 20))]);
}

#[test]
fn a_replayed_record_is_a_fault() {
    let mut stranger = up();
    let record = data_record(&mut stranger, 1);
    stranger.raw(&record);
    stranger.raw(&record);
    assert_eq!(stranger.end.heard.messages().len(), 1);
    stranger.assert_accused("record");
}

#[test]
fn records_out_of_order_are_a_fault() {
    let mut stranger = up();
    let (_, second) = (data_record(&mut stranger, 1), data_record(&mut stranger, 2));
    stranger.raw(&second);
    assert_eq!(stranger.end.heard.messages(), []);
    stranger.assert_accused("record 1");
}

#[test]
fn records_too_short_for_a_tag_are_a_fault() {
    for length in 0..16_u8 {
        let mut stranger = up();
        let mut record = vec![0, length];
        record.resize(2 + usize::from(length), 0);
        stranger.raw(&record);
        stranger.assert_accused("the least is 16");
    }
}

#[test]
fn an_empty_record_says_nothing() {
    let mut stranger = up();
    stranger.plaintext(&[]);
    assert_eq!(stranger.end.heard.closed(), None);
    assert_eq!(stranger.end.link.stats().records_received, 2);
}

#[test]
fn a_certificate_for_another_key_is_refused_and_the_peer_is_told() {
    for setup in [dialer(&["x"]), listener(&["x"])] {
        let mut hello = hello_of(&identity(9), vec![instance("x")]);
        // Somebody else's good certificate, for somebody else's key.
        (hello.identity, hello.signature) = (peer(8), *identity(8).noise_certificate());
        let mut stranger = Stranger::greet(setup, &hello);
        assert!(
            matches!(stranger.end.closed(), Why::Fault { by: Side::Them, what } if what.contains("signature"))
        );
        assert!(stranger.end.heard.hello().is_none());
        match &stranger.controls()[..] {
            [Kind::Refuse(refuse)] => {
                assert_eq!(refuse.code(), proto::goodbye::Code::Fault);
                assert!(refuse.detail.contains("signature"), "{refuse:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_bad_hello_is_refused_and_the_peer_is_told_what_is_wrong() {
    let good = hello_of(&identity(9), vec![instance("x")]);
    let mut long = good.clone();
    long.software = "s".repeat(129);
    let mut nameless = good.clone();
    nameless.instances[0].protocol.clear();
    for (hello, what) in [
        (Vec::new(), "no limits"),
        (vec![0xff; 300], "malformed"),
        (good.encode()[..40].to_vec(), "malformed"),
        (long.encode(), "129"),
        (nameless.encode(), "protocol"),
    ] {
        let mut stranger = Stranger::greet_with(listener(&["x"]), &hello);
        assert!(matches!(stranger.end.closed(), Why::Fault { by: Side::Them, .. }));
        match &stranger.controls()[..] {
            [Kind::Refuse(refuse)] => assert!(refuse.detail.contains(what), "{what}: {refuse:?}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn who_is_accused_hears_of_what() {
    // The other side of the same: a link that gets such a Refuse, or Goodbye.
    let mut stranger = Stranger::greet(listener(&["x"]), &hello_of(&identity(9), vec![instance("x")]));
    stranger.got.clear();
    let code = proto::goodbye::Code::Fault.into();
    stranger.control(Kind::Refuse(proto::Refuse { code, detail: "bad hello".to_owned(), refused: vec![] }));
    assert_eq!(stranger.end.closed(), &Why::Fault { by: Side::Us, what: "bad hello".to_owned() });
    assert_eq!(stranger.controls(), []);
}

#[test]
fn an_end_takes_what_came_before_it_and_nothing_after() {
    let mut stranger = up();
    let mut bytes = data_record(&mut stranger, 1);
    bytes.unsplit(data_record(&mut stranger, 2));
    bytes.extend_from_slice(&[0, 3, 1, 2, 3]);
    bytes.unsplit(data_record(&mut stranger, 3));
    stranger.raw(&bytes);
    assert_eq!(stranger.end.heard.messages(), [(0, body(1, 20)), (0, body(2, 20))]);
    assert!(matches!(stranger.end.heard.0.last(), Some(LinkEvent::Closed(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn strangers_bytes_end_in_a_fault_or_a_wait(bytes in prop::collection::vec(any::<u8>(), 0..3000), outbound in any::<bool>()) {
        let now = peerage_machine::Instant::START;
        let mut end = End::new(if outbound { dialer(&["x"]) } else { listener(&["x"]) }, now);
        let mut all = if outbound { Vec::new() } else { b"PEERAGE\x01\x01".to_vec() };
        all.extend(bytes);
        end.arrive(now, &all);
        end.settle(now);
        assert_not_fooled(&end, 0, "noise");
        prop_assert!(end.heard.hello().is_none());
    }

    #[test]
    fn sealed_noise_ends_in_a_fault_or_nothing(plaintext in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut stranger = up();
        stranger.plaintext(&plaintext);
        match stranger.end.heard.closed() {
            None | Some(Why::Fault { by: Side::Them, .. }) => {}
            // A goodbye of one or two bytes can come about.
            Some(other) => prop_assert!(plaintext.contains(&0x52), "{}", other),
        }
    }
}
