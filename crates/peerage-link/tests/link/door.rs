//! Strangers while many want in.

use std::time::Duration;

use bytes::BytesMut;
use peerage_link::{Door, DoorConfig, Knock, Turned};
use peerage_machine::{Instant, Side, Why};
use peerage_wire::Suite;
use peerage_wire::handshake::{Answer, take_answer};
use peerage_wire::preface::{Busy, Cookie, Notice, Preface};

use crate::common::{End, Pair, dialer, listener};

const HOUR: Instant = Instant::from_micros(3_600_000_000);

fn config() -> DoorConfig {
    let preface = Preface::new(Suite::AesGcm);
    DoorConfig { cookies_above: 10, without_cookie: 100, preface, per_source: 50 }
}

fn door() -> Door {
    Door::new(config(), [3; 32], HOUR)
}

/// What a link with this cookie says first.
fn opening(cookie: Option<Cookie>) -> Vec<u8> {
    let mut setup = dialer(&["x"]);
    setup.cookie = cookie;
    let mut end = End::new(setup, Instant::START);
    end.flush(usize::MAX);
    end.wire.to_vec()
}

fn cookie_in(knock: Knock) -> Cookie {
    let Knock::Answer(bytes, Turned::Cookie) = knock else { panic!("{knock:?}") };
    match take_answer(&mut BytesMut::from(&bytes[..])) {
        Ok(Some(Answer::Notice(Notice::Cookie(cookie)))) => cookie,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_comes_back_with_the_cookie_enters_and_nobody_else_does() {
    let mut door = door();
    let cookie = cookie_in(door.knock(HOUR, b"alice", &opening(None)));
    assert_eq!(door.knock(HOUR, b"alice", &opening(Some(cookie))), Knock::Enter);
    // It is of no use to others, nor at another door, and each of its bits counts.
    assert_ne!(cookie_in(door.knock(HOUR, b"bob", &opening(Some(cookie)))), cookie);
    let mut other = Door::new(config(), [4; 32], HOUR);
    assert_ne!(cookie_in(other.knock(HOUR, b"alice", &opening(Some(cookie)))), cookie);
    for bit in 0..128 {
        let mut forged = cookie;
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(cookie_in(door.knock(HOUR, b"alice", &opening(Some(forged)))), cookie);
    }
}

#[test]
fn a_cookie_is_good_for_two_minutes_at_least_and_four_at_most() {
    for second in [0, 1, 60, 119] {
        let mut door = door();
        let made = HOUR + Duration::from_secs(second);
        let cookie = opening(Some(cookie_in(door.knock(made, b"alice", &opening(None)))));
        let good = |door: &mut Door, after: u64| {
            door.knock(made + Duration::from_secs(after), b"alice", &cookie) == Knock::Enter
        };
        assert!(good(&mut door, 0) && good(&mut door, 120), "{second}");
        assert!(!good(&mut door, 240), "{second}");
        // A clock that was read a little earlier by somebody else does no harm.
        assert!(good(&mut door, 100), "{second}");
    }
}

#[test]
fn a_stranger_is_waited_for_byte_by_byte() {
    let mut door = door();
    let cookie = cookie_in(door.knock(HOUR, b"alice", &opening(None)));
    for (bytes, enough) in [(opening(None), 11), (opening(Some(cookie)), 59)] {
        for length in 0..bytes.len() {
            let waits = door.knock(HOUR, b"alice", &bytes[..length]) == Knock::Wait;
            assert_eq!(waits, length < enough, "{length}");
        }
    }
}

#[test]
fn who_speaks_something_else_gets_no_cookie() {
    let mut door = door();
    assert_eq!(door.knock(HOUR, b"alice", b"GET / HTTP/1.1"), Knock::Silence);
    assert_eq!(door.knock(HOUR, b"alice", b"PEERAGE\x01\x01\xff\xff"), Knock::Silence);
    let current = Preface::new(Suite::AesGcm).encode().to_vec();
    assert_eq!(door.knock(HOUR, b"alice", b"PEERAGE\x63\x01"), Knock::Answer(current, Turned::Incompatible));
}

#[test]
fn a_door_is_open_until_too_many_are_in_it_or_have_come_in_a_second() {
    let mut door = door();
    assert!(door.is_open(HOUR, 9));
    assert!(!door.is_open(HOUR, 10));
    assert_eq!((0..1_000).filter(|_| door.is_open(HOUR, 0)).count(), 99);
    let later = HOUR + Duration::from_millis(100);
    assert_eq!((0..1_000).filter(|_| door.is_open(later, 0)).count(), 10);
}

#[test]
fn one_address_has_its_rate_and_another_its_own() {
    let mut door = door();
    let of =
        |door: &mut Door, source: &[u8]| opening(Some(cookie_in(door.knock(HOUR, source, &opening(None)))));
    let (alice, bob) = (of(&mut door, b"alice"), of(&mut door, b"bob"));
    for _ in 0..50 {
        assert_eq!(door.knock(HOUR, b"alice", &alice), Knock::Enter);
    }
    let busy = Notice::Busy(Busy::Address).encode();
    assert_eq!(door.knock(HOUR, b"alice", &alice), Knock::Answer(busy, Turned::AddressRate));
    assert_eq!(door.knock(HOUR, b"bob", &bob), Knock::Enter);
    assert_eq!(door.knock(HOUR + Duration::from_millis(20), b"alice", &alice), Knock::Enter);
}

#[test]
fn a_dialer_has_the_cookie_and_the_reason_when_it_is_asked_to_come_back() {
    let mut end = End::new(dialer(&["x"]), Instant::START);
    end.arrive(Instant::START, &Notice::Cookie([8; 16]).encode());
    end.poll();
    assert_eq!(end.link.cookie(), Some([8; 16]));
    assert!(matches!(end.closed(), Why::Limit { by: Side::Them, what } if what.contains("cookie")));
    assert!(!end.link.has_work() || end.wire.is_empty());
}

#[test]
fn a_dialer_is_told_which_limit_it_met() {
    for (busy, what) in
        [(Busy::Links, "links"), (Busy::Handshakes, "handshakes"), (Busy::Address, "links from one address")]
    {
        let mut end = End::new(dialer(&["x"]), Instant::START);
        end.arrive(Instant::START, &Notice::Busy(busy).encode());
        end.poll();
        assert_eq!(end.closed(), &Why::Limit { by: Side::Them, what: what.to_owned() });
        assert_eq!(end.link.cookie(), None);
    }
}

#[test]
fn a_cookie_is_no_hindrance_where_nobody_asked_for_one() {
    let mut setup = dialer(&["x"]);
    setup.cookie = Some([8; 16]);
    let pair = Pair::up(setup, listener(&["x"]));
    assert!(pair.b.heard.is_up());
}
