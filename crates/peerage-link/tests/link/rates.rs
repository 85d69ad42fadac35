//! So many messages and controls a second: an honest link waits, one that does not is at fault.

use std::time::Duration;

use peerage_link::LinkConfig;
use peerage_machine::Class;
use peerage_wire::limits::LEAST_CREDIT;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use crate::common::{Pair, Stranger, body, dialer, hello_of, identity, instance, listener, with};

const SECOND: Duration = Duration::from_secs(1);

fn ping(nonce: u64) -> Kind {
    Kind::Ping(proto::Ping { nonce })
}

/// A listener that takes 10 messages and 20 controls a second, and two seconds' worth at once.
fn strict(config: &mut LinkConfig) {
    config.max_messages_per_second = Some(10);
    config.max_controls_per_second = 20;
    config.silent_after = SECOND;
}

#[test]
fn the_hello_says_what_is_taken_a_second() {
    let pair = Pair::up(dialer(&["x"]), with(listener(&["x"]), strict));
    let limits = pair.a.heard.hello().unwrap().limits;
    assert_eq!((limits.max_messages_per_second, limits.max_controls_per_second), (10, 20));
    let limits = pair.b.heard.hello().unwrap().limits;
    assert_eq!((limits.max_messages_per_second, limits.max_controls_per_second), (20_000_000, 10_000));
}

#[test]
fn a_sender_waits_for_the_rate_of_its_receiver_and_loses_nothing() {
    let patient = |config: &mut LinkConfig| config.max_messages_per_second = Some(10);
    let mut pair = Pair::up(dialer(&["x"]), with(listener(&["x"]), patient));
    let began = pair.now;
    for number in 0..60 {
        let class = [Class::Interactive, Class::Control, Class::Bulk][number as usize % 3];
        pair.a.link.send(0, class, body(number, 10_000)).unwrap();
    }
    pair.run();
    // A second's worth at once, and the rate from then on.
    assert_eq!(pair.b.heard.messages().len(), 10);
    assert!(!pair.a.link.has_work());
    pair.elapse(SECOND);
    assert_eq!(pair.b.heard.messages().len(), 20);
    pair.elapse(4 * SECOND);
    assert_eq!(pair.now.since(began), 5 * SECOND);
    assert_eq!(pair.b.heard.messages().len(), 60);
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
}

#[test]
fn a_message_under_way_waits_for_no_rate_and_starves_behind_none() {
    let slow = |config: &mut LinkConfig| config.max_messages_per_second = Some(1);
    let mut pair = Pair::up(dialer(&["x", "y"]), with(listener(&["x", "y"]), slow));
    pair.a.link.send(1, Class::Interactive, body(1, 2_000_000)).unwrap();
    pair.a.flush(100_000);
    for number in 2..5 {
        pair.a.link.send(0, Class::Interactive, body(number, 10)).unwrap();
    }
    pair.run();
    let lengths: Vec<usize> = pair.b.heard.messages().iter().map(|(_, body)| body.len()).collect();
    assert_eq!(lengths, [2_000_000]);
    pair.elapse(3 * SECOND);
    assert_eq!(pair.b.heard.messages().len(), 4);
}

#[test]
fn what_a_stall_of_the_network_held_up_may_come_at_once() {
    let mut pair = Pair::up(dialer(&["x"]), with(listener(&["x"]), strict));
    // All of it is on its way for almost as long as makes the link silent.
    for number in 0..10 {
        pair.a.link.send(0, Class::Control, body(number, 8)).unwrap();
    }
    pair.a.flush(usize::MAX);
    pair.now = pair.now + SECOND - Duration::from_millis(1);
    pair.a.on_timer(pair.now);
    for number in 10..19 {
        pair.a.link.send(0, Class::Control, body(number, 8)).unwrap();
    }
    pair.a.flush(usize::MAX);
    pair.run();
    assert_eq!((pair.b.heard.messages().len(), pair.b.heard.closed()), (19, None));
}

#[test]
fn a_peer_that_sends_more_messages_a_second_is_at_fault() {
    let mut stranger = Stranger::up(with(listener(&["x"]), strict), vec![instance("x")]);
    for _ in 0..20 {
        stranger.data(0, 0, 0, b"more");
    }
    assert_eq!(stranger.end.heard.closed(), None);
    stranger.data(0, 0, 0, b"and more");
    stranger.assert_accused("more than 10 messages a second");
    assert_eq!((stranger.end.heard.messages().len(), stranger.end.link.held_bytes()), (20, 0));
}

#[test]
fn a_peer_that_sends_more_controls_a_second_is_at_fault() {
    let mut stranger = Stranger::up(with(listener(&["x"]), strict), vec![instance("x")]);
    (0..40).for_each(|nonce| stranger.control(ping(nonce)));
    assert_eq!(stranger.end.heard.closed(), None);
    stranger.now = stranger.now + SECOND / 2;
    (0..10).for_each(|nonce| stranger.control(ping(nonce)));
    assert_eq!(stranger.end.heard.closed(), None);
    // Field 15, a control, whose field 99 is empty: unknown ones count, too.
    stranger.plaintext(&[5, 0x7a, 3, 0x9a, 6, 0]);
    stranger.assert_accused("more than 20 controls a second");
}

#[test]
fn credit_for_data_does_not_count_and_crumbs_of_credit_do() {
    let credit = |bytes| Kind::Credit(proto::Credit { channel: 0, class: 0, bytes });
    let mut stranger = Stranger::up(with(listener(&["x"]), strict), vec![instance("x")]);
    (0..10_000).for_each(|_| stranger.control(credit(LEAST_CREDIT)));
    assert_eq!(stranger.end.heard.closed(), None);
    (0..41).for_each(|_| stranger.control(credit(LEAST_CREDIT - 1)));
    stranger.assert_accused("more than 20 controls a second");
}

#[test]
fn by_default_a_hundred_thousand_pings_at_once_are_borne_and_a_flood_is_not() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    (0..160_000).for_each(|nonce| stranger.control(ping(nonce)));
    assert_eq!(stranger.end.heard.closed(), None);
    stranger.control(ping(0));
    stranger.assert_accused("more than 10000 controls a second");
}

#[test]
fn a_link_paces_its_own_controls_and_still_says_its_last_word() {
    let mut hello = hello_of(&identity(9), vec![instance("x")]);
    hello.limits.max_controls_per_second = 2;
    let mut stranger = Stranger::greet(listener(&["x"]), &hello);
    stranger.control(Kind::Accept(proto::Accept::default()));
    stranger.read();
    stranger.got.clear();
    (0..5).for_each(|nonce| stranger.control(ping(nonce)));
    assert_eq!(
        stranger.controls(),
        [Kind::Pong(proto::Pong { nonce: 0 }), Kind::Pong(proto::Pong { nonce: 1 })]
    );
    assert!(!stranger.end.link.has_work());
    let began = stranger.now;
    while !stranger.end.link.has_work() {
        stranger.now = stranger.end.link.deadline().unwrap();
        stranger.end.on_timer(stranger.now);
    }
    assert_eq!(stranger.now.since(began), SECOND / 2);
    assert_eq!(stranger.controls(), [Kind::Pong(proto::Pong { nonce: 2 })]);
    stranger.end.link.close(peerage_machine::Why::Unheld);
    stranger.end.settle(stranger.now);
    assert!(matches!(stranger.controls().last(), Some(Kind::Goodbye(_))));
}
