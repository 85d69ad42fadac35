//! A channel that closes says first what waits on it.

use std::time::Duration;

use bytes::Bytes;
use peerage_link::LinkEvent;
use peerage_machine::{Class, Side, Why};
use peerage_wire::frame::DataHeader;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use crate::common::{
    CLASSES, Channel, Got, Heard, Pair, Stranger, body, dialer, hello_of, identity, instance, listener,
};

const SECOND: Duration = Duration::from_secs(1);

fn pair() -> Pair {
    let mut pair = Pair::up(dialer(&["x", "y"]), listener(&["x", "y"]));
    (pair.a.heard, pair.b.heard) = (Heard::default(), Heard::default());
    pair
}

fn down(channel: u32, detail: &str) -> Channel {
    Channel::Down(channel, Why::ChannelClosed { by: Side::Them, detail: detail.to_owned() })
}

fn place(heard: &Heard, of: impl Fn(&LinkEvent) -> bool) -> usize {
    heard.0.iter().position(of).unwrap_or_else(|| panic!("not heard: {heard:?}"))
}

#[test]
fn a_farewell_of_each_class_arrives_before_the_channel_is_down() {
    // Of one fragment, of several, and far beyond the credit that there is at once.
    for lengths in [[9, 9, 9], [50_000, 50_000, 50_000], [1 << 20, 60_000, 1 << 20]] {
        let mut pair = pair();
        for (class, length) in CLASSES.into_iter().zip(lengths) {
            pair.a.link.send(0, class, body(1, length)).unwrap();
            pair.a.link.send(0, class, body(2, length)).unwrap();
        }
        pair.a.link.close_channel(pair.now, 0, "bye");
        assert_eq!(pair.a.link.send(0, Class::Interactive, body(3, 1)), Err(Why::NotUp));
        pair.run();
        assert_eq!(pair.b.heard.messages().len(), 6, "of {lengths:?}");
        let last = pair.b.heard.0.iter().rposition(|event| matches!(event, LinkEvent::Message { .. }));
        let closed = place(&pair.b.heard, |event| matches!(event, LinkEvent::ChannelDown { .. }));
        assert!(last < Some(closed), "down at {closed}, and a message at {last:?}");
        assert_eq!(pair.b.heard.channels(), [down(0, "bye")]);
        // Whoever closed it hears no more of it.
        assert!(pair.a.heard.0.is_empty(), "{:?}", pair.a.heard);
        assert_eq!((pair.a.link.queued(), pair.b.link.held_bytes()), ((0, 0), 0));
    }
}

#[test]
fn a_channel_on_which_nothing_waits_closes_at_once() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Interactive, body(1, 9)).unwrap();
    pair.a.flush(usize::MAX);
    let deadline = pair.a.link.deadline();
    pair.a.link.close_channel(pair.now, 0, "bye");
    assert_eq!(pair.a.link.deadline(), deadline, "there is nothing to wait for");
    pair.a.flush(usize::MAX);
    pair.cross(usize::MAX, 0);
    pair.b.settle(pair.now);
    assert_eq!(pair.b.heard.messages(), [(0, body(1, 9))]);
    assert_eq!(pair.b.heard.channels(), [down(0, "bye")]);
}

#[test]
fn what_arrives_on_a_channel_that_is_closing_is_ignored_and_counted() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
    pair.a.link.close_channel(pair.now, 0, "");
    for class in CLASSES {
        pair.b.link.send(0, class, body(2, 100)).unwrap();
    }
    pair.run();
    assert_eq!(pair.a.heard.messages(), []);
    assert_eq!(pair.a.link.stats().late_fragments, 3);
    assert_eq!(pair.b.heard.messages(), [(0, body(1, 1 << 20))]);
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
}

#[test]
fn two_that_close_at_once_do_not_wait_for_each_other() {
    for under_way in [false, true] {
        let mut pair = pair();
        for class in [Class::Interactive, Class::Bulk] {
            pair.a.link.send(0, class, body(1, 1 << 20)).unwrap();
            pair.b.link.send(0, class, body(2, 2 << 20)).unwrap();
        }
        if under_way {
            // All credit is spent, on messages in parts.
            pair.a.flush(usize::MAX);
            pair.b.flush(usize::MAX);
        }
        pair.a.link.close_channel(pair.now, 0, "");
        pair.b.link.close_channel(pair.now, 0, "");
        pair.run();
        // The first to be done says so, and the other drops its rest.
        assert_eq!((pair.a.link.queued(), pair.b.link.queued()), ((0, 0), (0, 0)), "under way: {under_way}");
        assert_eq!((pair.a.link.held_bytes(), pair.b.link.held_bytes()), (0, 0));
        assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
    }
}

#[test]
fn a_message_in_parts_gives_its_credit_back_when_its_channel_begins_to_close() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    // Less than what makes a link say of itself that there is credit again.
    stranger.data(0, 0, 20_000, &[0; 10_000]);
    stranger.data(0, 1, 20_000, &[0; 10_000]);
    stranger.end.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
    assert_eq!(stranger.controls(), []);
    stranger.end.link.close_channel(stranger.now, 0, "");
    let credit = |bytes: u64| Kind::Credit(proto::Credit { channel: 0, class: 0, bytes });
    assert_eq!(stranger.controls(), [credit(10_032)]);
    // And so does what comes after; a class that there is not is of no consequence here.
    for class in [0, 1, 3] {
        stranger.data(0, class, 0, &[0; 10_000]);
    }
    assert_eq!(stranger.controls(), [credit(10_032)]);
    assert_eq!(stranger.end.link.stats().late_fragments, 3);
}

#[test]
fn a_peer_that_closes_the_channel_too_is_told_nothing_more() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    stranger.end.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
    stranger.end.link.close_channel(stranger.now, 0, "");
    stranger.read();
    stranger.got.clear();
    stranger.control(Kind::Closed(proto::Closed { channel: 0, reason: 0, detail: String::new() }));
    assert_eq!(stranger.end.link.queued(), (0, 0));
    stranger.control(Kind::Credit(proto::Credit { channel: 0, class: 2, bytes: 1 << 20 }));
    stranger.read();
    assert_eq!(stranger.got, []);
    assert_eq!(stranger.end.heard.channels(), [Channel::Up(0)]);
}

#[test]
fn an_answer_that_crosses_a_closing_ends_nothing_early() {
    let mut stranger = Stranger::up(listener(&["x", "y"]), vec![instance("x")]);
    stranger.control(Kind::Open(proto::Open { channel: 1, instance: Some((&instance("y")).into()) }));
    stranger.end.link.send(1, Class::Bulk, body(1, 1 << 20)).unwrap();
    stranger.end.link.close_channel(stranger.now, 1, "");
    stranger.read();
    stranger.got.clear();
    // The answer to the offer in the link's own hello.
    stranger.control(Kind::Opened(proto::Opened { channel: 1, mine: 1 }));
    assert_eq!(stranger.controls(), []);
    assert!(stranger.end.link.queued().1 > 700 << 10);
}

/// A stranger that gives no credit of itself.
fn stingy(names: &[&str]) -> Stranger {
    let mut hello = hello_of(&identity(9), names.iter().map(|name| instance(name)).collect());
    hello.limits.window = 0;
    let mut stranger = Stranger::greet(dialer(names), &hello);
    stranger.control(Kind::Accept(proto::Accept::default()));
    stranger.read();
    stranger.got.clear();
    stranger
}

/// Time goes by while the stranger answers pings; what the link said meanwhile, pings aside.
fn answer_pings(stranger: &mut Stranger, span: Duration) -> Vec<Kind> {
    let until = stranger.now + span;
    let mut said = Vec::new();
    loop {
        for kind in stranger.controls() {
            match kind {
                Kind::Ping(ping) => stranger.control(Kind::Pong(proto::Pong { nonce: ping.nonce })),
                other => said.push(other),
            }
        }
        stranger.end.poll();
        let Some(due) = stranger.end.link.deadline().filter(|due| *due <= until) else { break };
        stranger.now = due;
        stranger.end.on_timer(due);
    }
    stranger.now = until;
    said
}

fn closed(channel: u32, detail: &str) -> Kind {
    Kind::Closed(proto::Closed { channel, reason: 0, detail: detail.to_owned() })
}

fn open(channel: u32, name: &str) -> Kind {
    Kind::Open(proto::Open { channel, instance: Some((&instance(name)).into()) })
}

#[test]
fn a_peer_that_gives_no_credit_gets_what_needs_none_and_hears_of_the_end_after_15_seconds() {
    let mut stranger = stingy(&["x"]);
    // Not when a ping is due anyway.
    answer_pings(&mut stranger, SECOND);
    stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"stuck")).unwrap();
    stranger.end.link.send(0, Class::Control, Bytes::from_static(b"farewell")).unwrap();
    stranger.end.link.close_channel(stranger.now, 0, "bye");
    stranger.read();
    let header = DataHeader { channel: 0, class: 1, total: 0 };
    assert_eq!(std::mem::take(&mut stranger.got), [Got::Data(header, Bytes::from_static(b"farewell"))]);
    assert_eq!(answer_pings(&mut stranger, 14 * SECOND), []);
    assert_eq!(stranger.end.link.queued(), (1, 5));
    assert_eq!(answer_pings(&mut stranger, SECOND), [closed(0, "bye")]);
    assert_eq!((stranger.end.link.queued(), stranger.end.heard.closed()), ((0, 0), None));
    assert_eq!(stranger.end.link.stats().messages_dropped, 1);
    // Nothing of it is left to come back.
    stranger.control(Kind::Credit(proto::Credit { channel: 0, class: 2, bytes: 1000 }));
    assert_eq!(answer_pings(&mut stranger, 60 * SECOND), []);
    assert_eq!(stranger.got, []);
}

#[test]
fn credit_in_time_lets_the_rest_go_before_the_last_word() {
    let mut stranger = stingy(&["x"]);
    stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"farewell")).unwrap();
    stranger.end.link.close_channel(stranger.now, 0, "bye");
    answer_pings(&mut stranger, 14 * SECOND);
    stranger.control(Kind::Credit(proto::Credit { channel: 0, class: 2, bytes: 40 }));
    stranger.read();
    let header = DataHeader { channel: 0, class: 2, total: 0 };
    let farewell = Got::Data(header, Bytes::from_static(b"farewell"));
    assert_eq!(std::mem::take(&mut stranger.got), [farewell, Got::Control(closed(0, "bye"))]);
    assert_eq!(answer_pings(&mut stranger, 60 * SECOND), []);
}

#[test]
fn a_channel_that_cannot_close_holds_up_a_drain_no_longer_than_itself() {
    let mut stranger = stingy(&["x"]);
    stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"stuck")).unwrap();
    stranger.end.link.close_channel(stranger.now, 0, "bye");
    stranger.end.link.drain(Why::Shutdown { by: Side::Us, detail: String::new() });
    assert_eq!(answer_pings(&mut stranger, 14 * SECOND), []);
    assert_eq!(stranger.end.heard.closed(), None);
    let said = answer_pings(&mut stranger, SECOND);
    assert!(matches!(&said[..], [Kind::Closed(_), Kind::Goodbye(_)]), "{said:?}");
    assert_eq!(stranger.end.closed(), &Why::Shutdown { by: Side::Us, detail: String::new() });
}

#[test]
fn a_channel_that_cannot_close_keeps_no_link_that_nobody_holds() {
    let mut stranger = stingy(&["x"]);
    stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"stuck")).unwrap();
    stranger.end.link.close_channel(stranger.now, 0, "bye");
    stranger.end.link.set_held(stranger.now, false);
    answer_pings(&mut stranger, 16 * SECOND);
    assert_eq!(stranger.end.closed(), &Why::Unheld);
}

#[test]
fn an_instance_that_is_opened_again_at_once_meets_the_peers_after_the_farewell() {
    for length in [0, 9, 1 << 20] {
        let mut pair = pair();
        let mut last = 0;
        for round in 0..3 {
            pair.a.link.send(last, Class::Bulk, body(round, length)).unwrap();
            pair.a.link.close_channel(pair.now, last, "again");
            last = pair.a.link.open(instance("x"));
            // What is opened after it has a greater number, and must not overtake it.
            let other = pair.a.link.open(instance("other"));
            pair.a.link.close_channel(pair.now, other, "");
            pair.run();
            assert_eq!(pair.b.heard.messages(), [(0, body(round, length))]);
            assert_eq!(pair.b.heard.channels(), [down(0, "again"), Channel::Up(0)]);
            assert_eq!(pair.a.heard.channels()[0], Channel::Up(last), "after {length} bytes");
            assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
            (pair.a.heard, pair.b.heard) = (Heard::default(), Heard::default());
        }
        // With full credit both ways.
        pair.a.link.send(last, Class::Interactive, body(9, 200_000)).unwrap();
        pair.a.flush(usize::MAX);
        assert_eq!(pair.a.link.queued(), (0, 0));
        pair.b.link.send(0, Class::Bulk, body(9, 200_000)).unwrap();
        pair.run();
        assert_eq!(pair.a.heard.messages(), [(last, body(9, 200_000))]);
        assert_eq!(pair.b.heard.messages(), [(0, body(9, 200_000))]);
    }
}

#[test]
fn instances_that_wait_for_a_closing_channel_are_offered_in_order_when_it_is_given_up() {
    let mut stranger = stingy(&["x"]);
    stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"stuck")).unwrap();
    stranger.end.link.close_channel(stranger.now, 0, "");
    assert_eq!(stranger.end.link.open(instance("x")), 1);
    assert_eq!(stranger.end.link.open(instance("y")), 2);
    assert_eq!(answer_pings(&mut stranger, 14 * SECOND), []);
    assert_eq!(answer_pings(&mut stranger, SECOND), [closed(0, ""), open(1, "x"), open(2, "y")]);
}

#[test]
fn instances_wait_no_longer_when_the_peer_closes_or_what_they_wait_behind_is_gone() {
    for by_peer in [true, false] {
        let mut stranger = stingy(&["x"]);
        stranger.end.link.send(0, Class::Bulk, Bytes::from_static(b"stuck")).unwrap();
        stranger.end.link.close_channel(stranger.now, 0, "");
        stranger.end.link.open(instance("x"));
        stranger.end.link.open(instance("y"));
        assert_eq!(stranger.controls(), []);
        if by_peer {
            stranger.control(closed(0, ""));
            assert_eq!(stranger.controls(), [open(1, "x"), open(2, "y")]);
        } else {
            stranger.end.link.close_channel(stranger.now, 1, "");
            assert_eq!(stranger.controls(), [open(2, "y")]);
        }
    }
}
