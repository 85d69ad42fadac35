//! Two links meet.

use std::time::Duration;

use peerage_link::{LinkEvent, Setup};
use peerage_machine::{Class, Direction};
use peerage_wire::Suite;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;
use proptest::prelude::*;

use crate::common::{
    Channel, End, Pair, Stranger, body, dialer, hello_of, identity, instance, listener, of_suites, peer,
    setup,
};

const DELAY: Duration = Duration::from_millis(20);

fn met() -> Pair {
    Pair::new(dialer(&["x"]), listener(&["x"]))
}

fn assert_met(pair: &Pair) {
    assert_eq!(pair.a.link.peer(), Some(peer(2)));
    assert_eq!(pair.b.link.peer(), Some(peer(1)));
    for end in [&pair.a, &pair.b] {
        assert!(end.heard.is_up(), "{:?}", end.heard);
        assert_eq!(end.heard.channels(), [Channel::Up(0)]);
        assert_eq!(end.heard.closed(), None);
    }
}

#[test]
fn both_come_up_and_know_each_other() {
    let mut pair = met();
    pair.run();
    assert_met(&pair);
    let hello = pair.a.heard.hello().unwrap();
    assert_eq!((hello.identity, hello.incarnation), (peer(2), [2; 16]));
    assert_eq!(hello.software, "test 2");
    assert_eq!(pair.b.heard.hello().unwrap().identity, peer(1));
    assert_eq!(pair.a.link.max_message(), 16 << 20);
}

#[test]
fn two_that_are_joined_without_a_handshake_are_as_two_that_shook_hands() {
    let mut pair = Pair::without_handshake(dialer(&["x"]), listener(&["x"])).unwrap();
    pair.run();
    assert_met(&pair);
    let hello = pair.a.heard.hello().unwrap();
    assert_eq!((hello.identity, hello.incarnation, hello.software.as_str()), (peer(2), [2; 16], "test 2"));
    for number in 0..3 {
        pair.a.link.send(0, Class::Interactive, body(number, 40_000)).unwrap();
        pair.b.link.send(0, Class::Bulk, body(number, 300)).unwrap();
    }
    pair.run();
    assert_eq!((pair.a.heard.messages().len(), pair.b.heard.messages().len()), (3, 3));
}

#[test]
fn two_that_would_not_shake_hands_are_not_joined_without_a_handshake_either() {
    let other = of_suites(listener(&["x"]), &[Suite::AesGcm]);
    let why = Pair::without_handshake(dialer(&["x"]), other).map(drop).unwrap_err();
    assert!(why.to_string().contains("no cipher suite"), "{why}");
    for (a, b) in [
        (Setup { expected: Some(peer(9)), ..dialer(&["x"]) }, listener(&["x"])),
        (dialer(&["x"]), setup(Direction::Inbound, 1, &["x"])),
        (dialer(&["x"]), listener(&["y"])),
    ] {
        let mut pair = Pair::without_handshake(a, b).unwrap();
        pair.run();
        assert!(pair.a.heard.closed().is_some() && !pair.b.heard.is_up(), "{:?}", pair.a.heard);
    }
}

#[test]
fn a_link_is_of_the_dialers_suite_if_the_listener_takes_it() {
    let both = [[Suite::ChaChaPoly, Suite::AesGcm], [Suite::AesGcm, Suite::ChaChaPoly]];
    for of_dialer in both {
        for of_listener in both {
            let mut pair =
                Pair::new(of_suites(dialer(&["x"]), &of_dialer), of_suites(listener(&["x"]), &of_listener));
            assert_eq!((pair.a.link.suite(), pair.b.link.suite()), (None, None));
            pair.run();
            assert_met(&pair);
            for end in [&pair.a, &pair.b] {
                assert_eq!(end.link.suite(), Some(of_dialer[0]), "the listener's order does not matter");
                assert_eq!(end.link.counter_offer(), None);
            }
            for number in 0..3 {
                let text = body(number, 40_000);
                pair.a.link.send(0, Class::Interactive, text.clone()).unwrap();
                pair.b.link.send(0, Class::Bulk, text).unwrap();
            }
            pair.run();
            for end in [&pair.a, &pair.b] {
                let heard = end.heard.messages();
                assert_eq!(heard, (0..3).map(|number| (0, body(number, 40_000))).collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn both_know_the_round_trip_time_when_they_come_up() {
    let mut pair = met();
    for _ in 0..6 {
        pair.exchange(DELAY);
    }
    assert_met(&pair);
    for end in [&pair.a, &pair.b] {
        let rtt = end.heard.0.iter().find_map(|event| match event {
            LinkEvent::Up { rtt, .. } => *rtt,
            _ => None,
        });
        assert_eq!(rtt, Some(2 * DELAY));
        assert_eq!(end.link.rtt(), Some(2 * DELAY));
    }
}

#[test]
fn the_dialer_hears_where_the_listener_sees_it_and_the_listener_nothing() {
    let mut pair = met();
    pair.run();
    assert_met(&pair);
    let observed = |end: &End| {
        end.heard.0.iter().find_map(|event| match event {
            LinkEvent::Up { observed, .. } => Some(observed.clone()),
            _ => None,
        })
    };
    // The listener's host said where the connection comes from.
    assert_eq!(observed(&pair.a), Some(Some("tcp://192.0.2.1:2".parse().unwrap())));
    assert_eq!(observed(&pair.b), Some(None));
}

#[test]
fn what_is_no_address_is_nobodys_fault() {
    let mut stranger = Stranger::greet(dialer(&["x"]), &hello_of(&identity(9), vec![instance("x")]));
    let observed = "somewhere".to_owned();
    stranger.control(Kind::Accept(proto::Accept { refused: Vec::new(), observed }));
    let up = stranger.end.heard.0.iter().any(|event| matches!(event, LinkEvent::Up { observed: None, .. }));
    assert!(up, "{:?}", stranger.end.heard);
}

#[test]
fn nobody_is_up_before_both_hosts_agreed() {
    let mut pair = met();
    pair.b.answer = None;
    pair.run();
    assert!(pair.a.heard.hello().is_some() && pair.b.heard.hello().is_some());
    assert!(!pair.a.heard.is_up() && !pair.b.heard.is_up());
    pair.b.link.admit();
    pair.run();
    assert_met(&pair);
}

/// What the two said on the way to a first message, in the order in which it crossed: (whether the dialer said it, what).
fn transcript() -> Vec<(bool, Vec<u8>)> {
    let mut pair = met();
    let mut said = Vec::new();
    let mut sent = false;
    loop {
        pair.a.settle(pair.now);
        pair.b.settle(pair.now);
        if pair.a.heard.is_up() && pair.b.heard.is_up() && !sent {
            sent = true;
            pair.a.link.send(0, Class::Interactive, body(1, 3000)).unwrap();
        }
        pair.a.flush(usize::MAX);
        pair.b.flush(usize::MAX);
        if pair.a.wire.is_empty() && pair.b.wire.is_empty() {
            assert!(sent);
            return said;
        }
        said.push((true, pair.a.wire.to_vec()));
        said.push((false, pair.b.wire.to_vec()));
        pair.cross(usize::MAX, usize::MAX);
    }
}

#[test]
fn a_cut_anywhere_in_the_stream_changes_nothing() {
    // The listener hears the same bytes every time, cut once, at each place in turn.
    let said: Vec<Vec<u8>> =
        transcript().into_iter().filter_map(|(by_a, said)| by_a.then_some(said)).collect();
    let whole: usize = said.iter().map(Vec::len).sum();
    // Every place in the handshake; beyond it, the message's record is long and all alike.
    for cut in (0..whole).filter(|cut| *cut < 700 || cut % 97 == 0) {
        let mut pair = met();
        let mut at = 0;
        for piece in &said {
            let place = cut.saturating_sub(at).min(piece.len());
            for part in [&piece[..place], &piece[place..]] {
                pair.b.arrive(pair.now, part);
                pair.b.settle(pair.now);
            }
            at += piece.len();
            pair.b.flush(usize::MAX);
        }
        assert_eq!(pair.b.heard.messages(), [(0, body(1, 3000))], "cut at {cut}: {:?}", pair.b.heard);
    }
}

#[test]
fn one_byte_at_a_time_changes_nothing() {
    let mut pair = met();
    pair.run_in_pieces(|_| 1);
    assert_met(&pair);
    pair.a.link.send(0, Class::Bulk, body(7, 40_000)).unwrap();
    pair.run_in_pieces(|_| 1);
    assert_eq!(pair.b.heard.messages(), [(0, body(7, 40_000))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_pieces_change_nothing(pieces in prop::collection::vec(1_usize..400, 1..40)) {
        let mut pair = met();
        let mut next = pieces.iter().cycle();
        pair.run_in_pieces(|_| *next.next().unwrap());
        assert_met(&pair);
    }
}

#[test]
fn the_same_entropy_says_the_same_bytes() {
    assert_eq!(transcript(), transcript());
}

#[test]
fn a_hello_that_no_peer_would_take_ends_the_link_at_once_and_blames_nobody_else() {
    let names: Vec<String> = (0..257).map(|number| number.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut end = End::new(dialer(&names), peerage_machine::Instant::START);
    end.poll();
    assert_eq!(
        end.closed().to_string(),
        "this endpoint is at its limit: the hello has 257 instances, the limit is 256"
    );
    end.flush(usize::MAX);
    assert!(end.wire.is_empty());
}
