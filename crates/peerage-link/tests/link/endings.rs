//! How links end, and what the other side hears.

use std::time::Duration;

use peerage_link::LinkEvent;
use peerage_machine::{Class, InstanceName, Refusal, RefusalReason, Side, Why};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use crate::common::{CLASSES, Pair, Stranger, body, dialer, instance, listener, peer, with};

fn pair() -> Pair {
    Pair::up(dialer(&["x"]), listener(&["x"]))
}

fn shutdown(by: Side, detail: &str) -> Why {
    Why::Shutdown { by, detail: detail.to_owned() }
}

#[test]
fn a_drain_sends_all_that_waits_and_then_says_goodbye() {
    let mut pair = pair();
    for number in 0..30 {
        pair.a.link.send(0, CLASSES[number as usize % 3], body(number, 50_000)).unwrap_or(());
    }
    let (queued, _) = pair.a.link.queued();
    assert!(queued >= 24);
    pair.a.link.drain(shutdown(Side::Us, "bye"));
    assert_eq!(pair.a.link.send(0, Class::Interactive, body(0, 1)), Err(Why::NotUp));
    pair.run();
    assert_eq!(pair.b.heard.messages().len() as u64, queued);
    assert_eq!(pair.a.closed(), &shutdown(Side::Us, "bye"));
    assert_eq!(pair.b.closed(), &shutdown(Side::Them, "bye"));
    let room: u64 = CLASSES.into_iter().map(|class| pair.a.heard.room(0, class)).sum();
    assert_eq!(room, queued * 50_000);
}

#[test]
fn a_drain_of_nothing_says_goodbye_at_once() {
    let mut pair = pair();
    pair.a.link.drain(shutdown(Side::Us, ""));
    assert!(pair.a.link.is_closed() && pair.a.link.has_work());
    pair.run();
    assert_eq!(pair.b.closed(), &shutdown(Side::Them, ""));
}

#[test]
fn a_drain_whose_channel_closes_ends_as_well() {
    for by_peer in [true, false] {
        let mut pair = pair();
        pair.a.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
        pair.a.flush(usize::MAX);
        pair.a.link.drain(shutdown(Side::Us, ""));
        assert!(!pair.a.link.has_work(), "out of credit");
        if by_peer {
            pair.b.link.close_channel(pair.now, 0, "");
            pair.b.flush(usize::MAX);
            pair.cross(0, usize::MAX);
        } else {
            pair.a.link.close_channel(pair.now, 0, "");
        }
        // What the peer closed has nowhere to go; what is closed here goes out first.
        assert_eq!(pair.a.link.has_work(), by_peer, "there is a goodbye to say");
        pair.run();
        assert_eq!(pair.b.heard.messages().len(), usize::from(!by_peer));
        assert_eq!((pair.a.closed(), pair.b.closed()), (&shutdown(Side::Us, ""), &shutdown(Side::Them, "")));
    }
}

#[test]
fn the_first_reason_to_drain_is_the_reason() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
    pair.a.link.drain(shutdown(Side::Us, "first"));
    // Nobody holds it either; that is not why it ends.
    pair.a.link.set_held(pair.now, false);
    pair.now = pair.now + Duration::from_secs(3);
    pair.a.on_timer(pair.now);
    pair.run();
    assert_eq!(pair.b.closed(), &shutdown(Side::Them, "first"));
    assert_eq!(pair.b.heard.messages().len(), 1);
}

#[test]
fn a_close_cuts_what_waits_and_says_so() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Bulk, body(1, 4 << 20)).unwrap();
    pair.a.flush(100_000);
    pair.a.link.close(Why::Superseded);
    assert_eq!(pair.a.link.queued(), (0, 0));
    pair.run();
    assert_eq!((pair.a.closed(), pair.b.closed()), (&Why::Superseded, &Why::Superseded));
    assert_eq!(pair.b.heard.messages(), []);
    assert_eq!(pair.b.link.held_bytes(), 0);
}

#[test]
fn an_end_is_told_once() {
    let mut pair = pair();
    pair.a.link.close(Why::Unheld);
    pair.a.poll();
    pair.a.link.close(Why::Superseded);
    pair.a.link.drain(Why::Superseded);
    pair.a.link.fault("late");
    pair.a.link.set_held(pair.now, false);
    pair.a.link.open(instance("late"));
    pair.a.link.close_channel(pair.now, 0, "late");
    pair.a.link.admit();
    pair.a.on_timer(pair.now + Duration::from_secs(100));
    pair.run();
    assert_eq!(pair.a.closed(), &Why::Unheld);
    assert_eq!(pair.b.closed(), &Why::Unheld);
}

#[test]
fn messages_that_came_before_an_end_are_heard_before_it() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Interactive, body(1, 10)).unwrap();
    pair.a.flush(usize::MAX);
    pair.a.link.close(Why::Duplicate);
    pair.a.flush(usize::MAX);
    pair.cross(usize::MAX, 0);
    pair.b.settle(pair.now);
    assert_eq!(pair.b.heard.messages(), [(0, body(1, 10))]);
    assert_eq!(pair.b.closed(), &Why::Duplicate);
    assert!(!pair.b.link.has_work(), "to a peer that has gone");
}

#[test]
fn both_can_close_at_once() {
    let mut pair = pair();
    pair.a.link.close(shutdown(Side::Us, "a"));
    pair.b.link.close(shutdown(Side::Us, "b"));
    pair.run();
    assert_eq!((pair.a.closed(), pair.b.closed()), (&shutdown(Side::Us, "a"), &shutdown(Side::Us, "b")));
}

#[test]
fn each_reason_arrives_as_what_it_is() {
    let limit = |by| Why::Limit { by, what: "9 links".to_owned() };
    let fault = |by| Why::Fault { by, what: "nonsense".to_owned() };
    let refusal = Refusal {
        by: Side::Them,
        instance: InstanceName { protocol: "test".to_owned(), name: "x".to_owned() },
        reason: RefusalReason::UnknownInstance,
    };
    let wrong = Why::WrongPeer { expected: peer(5), found: peer(2) };
    let lost = |what: &str| Why::Lost(what.to_owned());
    let after = Duration::from_secs(15);
    for (said, heard) in [
        (shutdown(Side::Us, "d"), shutdown(Side::Them, "d")),
        (Why::Unheld, Why::Unheld),
        (Why::Superseded, Why::Superseded),
        (Why::Duplicate, Why::Duplicate),
        (fault(Side::Them), fault(Side::Us)),
        (limit(Side::Us), limit(Side::Them)),
        (wrong.clone(), wrong),
        (Why::SelfDial, Why::SelfDial),
        (Why::Silent { after }, lost("the peer heard nothing from this endpoint for 15s")),
        (
            Why::Refused(refusal),
            lost(
                "the peer found no instance in common: \
                 the peer refused test \"x\": it runs no instance of that protocol and name",
            ),
        ),
        (lost("cable"), lost("the peer said goodbye: the connection was lost: cable")),
    ] {
        let mut pair = pair();
        pair.a.link.close(said.clone());
        pair.run();
        assert_eq!((pair.a.closed(), pair.b.closed()), (&said, &heard));
    }
}

#[test]
fn a_reason_of_any_length_arrives() {
    let mut pair = pair();
    pair.a.link.close(shutdown(Side::Us, &"é".repeat(5_000)));
    pair.run();
    assert_eq!(pair.b.closed(), &shutdown(Side::Them, &"é".repeat(128)));
}

#[test]
fn goodbyes_of_strangers_are_goodbyes() {
    for (code, detail, heard) in [
        (99, "x", "the connection was lost: the peer said goodbye with the unknown code 99: x"),
        (0, "y", "the connection was lost: the peer said goodbye: y"),
        (8, "nobody", "the connection was lost: the peer meant somebody else: nobody"),
    ] {
        let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
        // The answer to the ping is owed and nobody is left to hear it.
        stranger.control(Kind::Ping(proto::Ping { nonce: 1 }));
        stranger.control(Kind::Goodbye(proto::Goodbye { code, detail: detail.to_owned() }));
        assert_eq!(stranger.end.closed().to_string(), heard);
        assert_eq!(stranger.controls(), [], "an answer to a goodbye");
    }
}

#[test]
fn complaints_end_the_link_at_their_limit() {
    let mut pair = Pair::up(with(dialer(&["x"]), |config| config.fault_limit = 3), listener(&["x"]));
    for turn in 1..3 {
        pair.a.link.fault("bad gossip");
        pair.run();
        assert_eq!((pair.a.link.stats().faults, pair.a.heard.closed()), (turn, None));
    }
    pair.a.link.fault("worse gossip");
    pair.run();
    let fault = |by| Why::Fault { by, what: "worse gossip".to_owned() };
    assert_eq!((pair.a.closed(), pair.b.closed()), (&fault(Side::Them), &fault(Side::Us)));
}

#[test]
fn a_goodbye_is_the_last_frame() {
    let mut stranger = Stranger::up(listener(&["x"]), vec![instance("x")]);
    for _ in 0..10 {
        stranger.data(0, 0, 0, &[0; 16_000]);
    }
    // Messages taken after the end owe the peer no credit any more.
    let mut plaintext = bytes::BytesMut::new();
    let header = peerage_wire::frame::DataHeader::default();
    (0..3).for_each(|_| peerage_wire::frame::put_data(&mut plaintext, header, &[0; 16_384]));
    for _ in 0..2 {
        let record = stranger.seal(&plaintext);
        stranger.end.arrive(stranger.now, &record);
    }
    stranger.end.link.close(Why::Unheld);
    stranger.end.poll();
    assert!(matches!(stranger.end.heard.0.last(), Some(LinkEvent::Closed(Why::Unheld))));
    assert!(matches!(stranger.controls().last(), Some(Kind::Goodbye(_))));
}
