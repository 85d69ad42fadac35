//! Deadlines, pings, silence, and links that nobody holds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peerage_link::{LinkEvent, Setup};
use peerage_machine::{Class, Instant, Side, Why};
use peerage_wire::frame::{DataHeader, put_data};
use peerage_wire::preface::Preface;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use crate::common::{End, Heard, Pair, Stranger, dialer, hello_of, identity, instance, listener};

const SECOND: Duration = Duration::from_secs(1);

fn pair() -> Pair {
    let mut pair = Pair::up(dialer(&["x"]), listener(&["x"]));
    pair.a.heard = Heard::default();
    pair.b.heard = Heard::default();
    pair
}

fn timed_out() -> Why {
    Why::TimedOut { what: "the handshake", after: 5 * SECOND }
}

#[test]
fn a_stall_in_any_step_of_the_handshake_times_out_on_both_sides() {
    for steps in 0..4 {
        let mut pair = Pair::new(dialer(&["x"]), listener(&["x"]));
        for _ in 0..steps {
            pair.exchange(Duration::ZERO);
        }
        let up = (pair.a.heard.is_up(), pair.b.heard.is_up());
        let began = pair.now;
        while pair.tick(began + 6 * SECOND) {}
        for (end, up) in [(&pair.a, up.0), (&pair.b, up.1)] {
            if up {
                assert_eq!(end.heard.closed(), None);
            } else {
                assert_eq!(end.closed(), &timed_out(), "after {steps} steps");
                assert_eq!(end.link.deadline(), None);
            }
        }
        assert!(steps > 2 || up == (false, false));
    }
}

#[test]
fn a_host_that_never_decides_times_out_and_the_peer_is_told() {
    let mut pair = Pair::new(dialer(&["x"]), listener(&["x"]));
    pair.b.answer = None;
    pair.run();
    pair.now = pair.now + 5 * SECOND;
    pair.b.on_timer(pair.now);
    pair.run();
    assert_eq!(pair.b.closed(), &timed_out());
    assert_eq!(
        pair.a.closed().to_string(),
        "the connection was lost: the peer said goodbye: the handshake took longer than 5s"
    );
}

#[test]
fn a_drip_of_bytes_does_not_put_the_end_of_the_handshake_off() {
    let mut end = End::new(listener(&["x"]), Instant::START);
    let preface = Preface::CURRENT.encode();
    let mut drip = preface.iter().chain(&[0x40, 0]).copied().chain(std::iter::repeat(0));
    let mut now = Instant::START;
    while end.heard.closed().is_none() {
        now = now + SECOND / 10;
        end.arrive(now, &[drip.next().unwrap()]);
        end.on_timer(now);
        assert!(now < Instant::START + 6 * SECOND);
    }
    assert_eq!(end.closed(), &timed_out());
}

#[test]
fn a_peer_from_which_nothing_comes_is_silent() {
    let mut pair = pair();
    let began = pair.now;
    while pair.a.heard.closed().is_none() {
        assert!(pair.tick(began + 20 * SECOND));
        // Nothing crosses.
    }
    assert_eq!(pair.a.closed(), &Why::Silent { after: 15 * SECOND });
    assert_eq!(pair.now.since(began), 15 * SECOND);
    pair.a.flush(usize::MAX);
    pair.cross(usize::MAX, 0);
    pair.b.poll();
    assert!(matches!(pair.b.closed(), Why::Silent { .. } | Why::Lost(_)));
}

#[test]
fn pings_keep_a_quiet_link_and_tell_the_round_trip_time() {
    let mut pair = pair();
    let until = pair.now + 60 * SECOND;
    while pair.tick(until) {
        for _ in 0..2 {
            pair.exchange(Duration::from_millis(7));
        }
    }
    for end in [&pair.a, &pair.b] {
        assert_eq!(end.heard.closed(), None);
        // Eight in the first 5.1 s, then one every 5 s.
        assert!((17..=19).contains(&end.heard.rtts()), "{}", end.heard.rtts());
        // The handshake took no time, and counts for nothing once a ping was answered.
        let rtt = end.link.rtt().unwrap();
        assert!(rtt > Duration::from_millis(12) && rtt <= Duration::from_millis(14), "{rtt:?}");
        let told = end.heard.0.iter().rev().find_map(|event| match event {
            LinkEvent::Rtt(rtt) => Some(*rtt),
            _ => None,
        });
        assert_eq!(told, Some(rtt));
    }
}

#[test]
fn a_link_that_hears_something_pings_up_to_an_eighth_of_the_wait_early() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    let up = stranger.now;
    let since_up = |stranger: &mut Stranger, micros| {
        stranger.now = up + Duration::from_micros(micros);
        stranger.data(0, 0, 0, b"something");
        stranger.controls().iter().filter(|kind| matches!(kind, Kind::Ping(_))).count()
    };
    // The first is due after 20 ms, the second 40 ms after it.
    assert_eq!(since_up(&mut stranger, 17_490), 0);
    assert_eq!(since_up(&mut stranger, 17_500), 1);
    assert_eq!(stranger.end.link.deadline(), Some(up + Duration::from_micros(57_500)));
    assert_eq!(since_up(&mut stranger, 52_490), 0);
    assert_eq!(since_up(&mut stranger, 52_500), 1);
}

#[test]
fn a_late_answer_shows_how_late_it_is() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    let mut pings = Vec::new();
    while pings.len() < 2 {
        stranger.now = stranger.end.link.deadline().unwrap();
        stranger.end.on_timer(stranger.now);
        pings.extend(stranger.controls().into_iter().filter_map(|kind| match kind {
            Kind::Ping(ping) => Some(ping.nonce),
            _ => None,
        }));
    }
    for nonce in pings {
        stranger.control(Kind::Pong(proto::Pong { nonce }));
    }
    // The answer to the first, after the second was sent, 40 ms later.
    assert_eq!(stranger.end.heard.rtts(), 1);
    assert_eq!(stranger.end.link.rtt(), Some(Duration::from_millis(40)));
}

#[test]
fn the_timer_does_nothing_early_and_moves_on_when_due() {
    let mut pair = pair();
    let until = pair.now + 30 * SECOND;
    let mut turns = 0;
    while pair.now < until {
        // `End::on_timer` sees to the contract, whether early or due.
        pair.now = pair.now + Duration::from_millis(100);
        for end in [&mut pair.a, &mut pair.b] {
            end.on_timer(pair.now);
        }
        pair.run();
        turns += 1;
    }
    assert_eq!(turns, 300);
    // Eight in the first 5.1 s, and at 10.1, 15.1, 20.1, 25.1.
    assert_eq!(pair.a.heard.rtts(), 12);
}

#[test]
fn a_timer_that_comes_late_catches_up_in_one_call() {
    let mut pair = pair();
    pair.now = pair.now + 14 * SECOND;
    pair.a.on_timer(pair.now);
    assert_eq!(pair.a.link.deadline(), Some(pair.now + Duration::from_millis(40)));
    pair.run();
    assert_eq!(pair.a.heard.rtts(), 1);
}

#[test]
fn a_link_that_nobody_holds_closes_on_both_sides_after_the_grace() {
    let mut pair = pair();
    pair.elapse(3600 * SECOND);
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
    let began = pair.now;
    pair.a.link.set_held(pair.now, false);
    pair.elapse(Duration::from_millis(1_900));
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
    pair.elapse(SECOND);
    assert_eq!((pair.a.closed(), pair.b.closed()), (&Why::Unheld, &Why::Unheld));
    assert!(pair.now.since(began) < 3 * SECOND);
}

#[test]
fn either_side_can_hold_a_link() {
    let mut pair = pair();
    pair.b.link.set_held(pair.now, true);
    pair.a.link.set_held(pair.now, false);
    pair.elapse(60 * SECOND);
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
    pair.b.link.set_held(pair.now, false);
    pair.elapse(SECOND);
    pair.a.link.set_held(pair.now, true);
    pair.elapse(60 * SECOND);
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
    pair.a.link.set_held(pair.now, false);
    pair.elapse(60 * SECOND);
    assert_eq!((pair.a.closed(), pair.b.closed()), (&Why::Unheld, &Why::Unheld));
}

#[test]
fn what_hosts_said_before_the_link_was_up_counts() {
    let mut pair = Pair::new(dialer(&["x"]), listener(&["x"]));
    pair.a.link.set_held(pair.now, false);
    pair.run();
    pair.elapse(10 * SECOND);
    assert_eq!((pair.a.closed(), pair.b.closed()), (&Why::Unheld, &Why::Unheld));

    let mut pair = Pair::new(dialer(&["x"]), listener(&["x"]));
    pair.a.link.set_held(pair.now, false);
    pair.b.link.set_held(pair.now, true);
    pair.run();
    pair.elapse(10 * SECOND);
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
}

/// A link that nobody holds, with a message that the peer gives no credit for.
fn unheld_and_stuck() -> Stranger {
    let mut hello = hello_of(&identity(9), vec![instance("x")]);
    hello.limits.window = 0;
    let mut stranger = Stranger::greet(dialer(&["x"]), &hello);
    stranger.control(Kind::Accept(proto::Accept::default()));
    stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"stuck")).unwrap();
    stranger.end.link.set_held(stranger.now, false);
    stranger
}

/// Time goes by while the stranger answers pings.
fn answer_pings(stranger: &mut Stranger, span: Duration) {
    let until = stranger.now + span;
    while let Some(due) = stranger.end.link.deadline().filter(|due| *due <= until) {
        stranger.now = due;
        stranger.end.on_timer(due);
        for kind in stranger.controls() {
            if let Kind::Ping(ping) = kind {
                stranger.control(Kind::Pong(proto::Pong { nonce: ping.nonce }));
            }
        }
    }
    stranger.now = until;
}

#[test]
fn a_peer_that_takes_nothing_cannot_keep_a_link_that_nobody_holds() {
    let mut stranger = unheld_and_stuck();
    answer_pings(&mut stranger, 10 * SECOND);
    assert_eq!(stranger.end.heard.closed(), None);
    answer_pings(&mut stranger, 10 * SECOND);
    assert_eq!(stranger.end.closed(), &Why::Unheld);
}

#[test]
fn a_link_that_is_held_again_before_its_queue_is_empty_stays() {
    let mut stranger = unheld_and_stuck();
    answer_pings(&mut stranger, 10 * SECOND);
    assert_eq!(stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"no")), Err(Why::NotUp));
    stranger.end.link.set_held(stranger.now, true);
    assert_eq!(stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"yes")), Ok(()));
    answer_pings(&mut stranger, 60 * SECOND);
    assert_eq!(stranger.end.heard.closed(), None);
}

fn answers(end: &End) -> usize {
    end.heard.0.iter().filter(|event| matches!(event, LinkEvent::Answered)).count()
}

#[test]
fn a_peer_that_is_asked_for_a_sign_of_life_answers_at_once_and_once() {
    let mut pair = pair();
    pair.a.link.probe(pair.now);
    // A second question while the first is open is the same.
    pair.a.link.probe(pair.now);
    pair.run();
    assert_eq!(answers(&pair.a), 1);
    let began = pair.now;
    while pair.tick(began + 3 * SECOND) {
        pair.run();
    }
    assert_eq!((answers(&pair.a), pair.a.heard.closed()), (1, None));
}

#[test]
fn a_peer_that_does_not_answer_a_probe_is_silent_after_a_second() {
    let mut pair = pair();
    // It was heard just before: that does not count.
    pair.a.link.probe(pair.now);
    let began = pair.now;
    while pair.a.heard.closed().is_none() {
        assert!(pair.tick(began + 2 * SECOND));
    }
    assert_eq!(pair.a.closed(), &Why::Silent { after: SECOND });
    assert_eq!(pair.now.since(began), SECOND);
    assert_eq!(answers(&pair.a), 0);
}

#[test]
fn a_peer_that_is_slow_to_answer_and_yet_speaks_lives() {
    for (speaks_at, lives) in [(SECOND / 4, false), (SECOND * 3 / 4, true)] {
        let mut pair = pair();
        pair.a.link.probe(pair.now);
        pair.a.flush(usize::MAX);
        // The question is on its way; what the peer says meanwhile arrives.
        pair.now = pair.now + speaks_at;
        pair.b.link.send(0, Class::Interactive, Bytes::from_static(b"word")).unwrap();
        pair.b.flush(usize::MAX);
        pair.cross(0, usize::MAX);
        pair.now = pair.now + (SECOND - speaks_at);
        pair.a.on_timer(pair.now);
        pair.a.poll();
        assert_eq!((answers(&pair.a) == 1, pair.a.heard.closed().is_none()), (lives, lives), "{speaks_at:?}");
    }
}

/// A record of 60,000 bytes on a link that is up, and its other end.
fn long_record(setup: Setup) -> (Stranger, BytesMut) {
    let mut stranger = Stranger::up(setup, vec![instance("x")]);
    let mut plaintext = BytesMut::new();
    for _ in 0..4 {
        put_data(&mut plaintext, DataHeader { channel: 0, class: 0, total: 0 }, &[7; 15_000]);
    }
    let record = stranger.seal(&plaintext);
    (stranger, record)
}

#[test]
fn a_slow_network_that_brings_a_byte_now_and_then_is_not_silent() {
    let (mut stranger, record) = long_record(listener(&["x"]));
    // 1 KiB a second: 59 s for one record, with nothing whole in between.
    for piece in record.chunks(1024) {
        stranger.now = stranger.now + SECOND;
        stranger.raw(piece);
        stranger.end.on_timer(stranger.now);
    }
    assert_eq!((stranger.end.heard.closed(), stranger.end.heard.messages().len()), (None, 4));
    // The next record has its own time.
    stranger.now = stranger.now + 14 * SECOND;
    stranger.end.on_timer(stranger.now);
    assert_eq!(stranger.end.heard.closed(), None);
    stranger.now = stranger.now + SECOND;
    stranger.end.on_timer(stranger.now);
    assert_eq!(stranger.end.closed(), &Why::Silent { after: 15 * SECOND });
}

#[test]
fn a_record_that_drips_is_cut_and_the_peer_is_told() {
    let (mut stranger, record) = long_record(listener(&["x"]));
    let began = stranger.now;
    let mut drip = record.iter();
    while stranger.end.heard.closed().is_none() {
        let next = began + SECOND * (stranger.now.since(began).as_secs() as u32 + 1);
        while let Some(due) = stranger.end.link.deadline().filter(|due| *due <= next) {
            stranger.now = due;
            stranger.end.on_timer(due);
        }
        if stranger.end.heard.closed().is_none() {
            stranger.now = next;
            stranger.raw(&[*drip.next().unwrap()]);
        }
    }
    // From its first byte.
    assert_eq!(stranger.now.since(began), 121 * SECOND);
    let why = Why::Limit { by: Side::Us, what: "120s for one record".to_owned() };
    assert_eq!(stranger.end.closed(), &why);
    let controls = stranger.controls();
    let Some(Kind::Goodbye(goodbye)) = controls.last() else { panic!("{controls:?}") };
    assert_eq!(
        (goodbye.code(), goodbye.detail.as_str()),
        (proto::goodbye::Code::Limit, "120s for one record")
    );
}

#[test]
fn a_record_of_which_nothing_more_comes_is_silent_before_it_is_slow() {
    let (mut stranger, record) = long_record(listener(&["x"]));
    stranger.raw(&record[..10]);
    // The host may offer the same bytes again and again.
    for second in 1..=15 {
        stranger.now = stranger.now + SECOND;
        stranger.end.go_on(stranger.now);
        stranger.end.on_timer(stranger.now);
        assert_eq!(stranger.end.heard.closed().is_some(), second == 15);
    }
    assert_eq!(stranger.end.closed(), &Why::Silent { after: 15 * SECOND });
}
