//! Parties that want more than they may have: each is told or closed with the reason, nothing more is held, and everybody else is served.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::host::{Host, STRICT, strict};
use common::wire::{self, Body, control, items, with_node};
use peerage_machine::Why;
use peerage_rpc::{BrokerConfig, Code, Destination, Placing, SessionKey, Shape, Status};
use peerage_wire::proto::rpc::v1 as proto;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_stream_over_its_credit() {
    for (bulk, count, len) in [(false, 9, 9), (false, 1, 2048 + 1024 + 20), (true, 1, 2048 + 1024 + 20)] {
        let (mut host, other) = strict();
        let link = host.opened(1);
        let call = host.item(link, Body::Call(wire::call("up", if bulk { 8 } else { 2 })));
        let seq = if bulk { 1 } else { call + 1 };
        host.say(link, wire::packet(seq, bulk, items(call, false, count, len)));
        host.faulted(link, "over its credit");
        host.serves(other);
    }
}

#[test]
fn bulk_data_of_calls_that_never_come_goes_only_so_far() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    for seq in 1..20 {
        host.say(link, wire::packet(seq, true, items(1000 + seq, false, 1, 1024)));
    }
    host.faulted(link, "have not come");
    host.serves(other);
}

#[test]
fn parameters_that_are_too_long() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    host.item(link, Body::Call(proto::Call { payload: vec![0; 1025].into(), ..wire::call("x", 0) }));
    assert_eq!(host.code(link), Code::InvalidArgument.number());
    assert!(host.runs().is_empty());
    host.serves(other);
    host.serves(link);
}

#[test]
fn too_many_calls_bytes_and_streams_under_way() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    let times = |host: &mut Host, link, times, call: &proto::Call| {
        for _ in 0..times {
            host.item(link, Body::Call(call.clone()));
        }
    };
    times(&mut host, link, 4, &wire::call("x", 0));
    assert_eq!(host.replies(link), []);
    let run = host.runs()[0].key;
    host.item(link, Body::Call(wire::call("x", 0)));
    assert_eq!(host.code(link), Code::ResourceExhausted.number());
    host.serves(other);
    // With one finished, there is room for one.
    host.complete(run, Ok(Bytes::new()));
    host.hears(link);
    host.item(link, Body::Call(wire::call("x", 0)));
    assert_eq!(host.replies(link), []);

    let link = host.opened(3);
    let big = proto::Call { payload: vec![0; 1024].into(), ..wire::call("x", 0) };
    times(&mut host, link, 3, &big);
    assert_eq!(host.replies(link), []);
    times(&mut host, link, 1, &big);
    assert_eq!(host.code(link), Code::ResourceExhausted.number());
    let link = host.opened(4);
    times(&mut host, link, 2, &wire::call("x", 2));
    host.item(link, Body::Call(wire::call("x", 16)));
    assert_eq!(host.code(link), Code::ResourceExhausted.number());
    assert!(host.counted["rpc_exhausted_total"] >= 2);
    host.serves(other);
}

#[test]
fn a_link_that_says_nothing_and_too_many_of_them() {
    let (mut host, other) = strict();
    let links: Vec<_> = (0..5).map(|_| host.up(77)).collect();
    let one_more = host.up(77);
    assert!(matches!(host.hears(one_more)[..], [Body::Refused(_)]));
    assert!(host.closed.contains_key(&one_more));
    host.serves(other);
    // Strangers lock out nobody who has an account.
    host.opened(1);
    host.wait(11 * SECOND);
    for link in links {
        assert!(matches!(host.closed[&link], Why::TimedOut { .. }));
    }
    assert_eq!(host.counted["rpc_unopened_total"], 5);
    host.serves(other);
    host.opened(1);
}

#[test]
fn the_shortest_and_the_longest_deadline() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    host.item(link, Body::Call(proto::Call { timeout_micros: 1, ..wire::call("x", 0) }));
    host.item(link, Body::Call(proto::Call { timeout_micros: u64::MAX, ..wire::call("x", 0) }));
    host.wait(SECOND);
    assert_eq!(host.code(link), Code::DeadlineExceeded.number());
    let runs = host.runs();
    host.complete(runs[0].key, Ok(Bytes::new()));
    assert_eq!(host.replies(link), [], "it was answered before");
    host.complete(runs[1].key, Ok(Bytes::new()));
    assert_eq!(host.replies(link).len(), 1);
    host.serves(other);
}

#[test]
fn more_credit_than_a_stream_can_have_is_not_passed_on() {
    let (mut host, _) = strict();
    let node = host.opened_node(100, &[]);
    let link = host.opened(1);
    host.item(link, with_node(100, 4));
    host.hears(node);
    // Nothing was sent yet, so that nothing more may be.
    let credit = |messages, bytes| {
        Body::Credit(proto::Credit { call: 1, to_caller: false, bulk: false, messages, bytes })
    };
    host.item(link, credit(u32::MAX, u64::MAX));
    assert_eq!((host.hears(node), host.counted["rpc_excess_credit_total"]), (Vec::new(), 1));
    host.item(node, items(2, true, 3, 300));
    host.hears(link);
    host.item(link, credit(u32::MAX, u64::MAX));
    let heard = host.hears(node);
    let granted = proto::Credit { call: 2, to_caller: false, bulk: false, messages: 3, bytes: 300 };
    assert!(heard.contains(&Body::Credit(granted)), "{heard:?}");
    // The node that goes beyond is the one that is closed.
    host.item(node, items(2, true, 9, 9));
    host.faulted(node, "over its credit");
    host.serves(link);
}

#[test]
fn one_that_takes_everything_and_acknowledges_nothing_is_ended() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    let worst = BrokerConfig { limits: STRICT, ..BrokerConfig::default() };
    let most = worst.worst_case_session_bytes();
    let mut calls = 0;
    while !host.closed.contains_key(&link) {
        host.item(link, Body::Call(wire::call("x", 0)));
        for run in host.runs() {
            host.complete(run.key, Ok(vec![0; 1024].into()));
        }
        let held: u64 = host.broker.sessions().map(|session| session.held_bytes).sum();
        assert!(held <= 2 * most, "{held} of {most}");
        calls += 1;
        assert!(calls < 100_000);
    }
    let heard = host.hears(link);
    let Some(Body::Ended(proto::Ended { status: Some(status) })) = heard.last() else {
        panic!("{:?}", heard.last())
    };
    assert_eq!(status.code, Code::ResourceExhausted.number());
    assert_eq!(host.counted["rpc_hoarders_total"], 1);
    host.serves(other);
}

#[test]
fn one_that_never_says_that_it_has_heard_of_a_failure_does_not_make_the_journal_grow() {
    let mut host = Host::new(BrokerConfig { limits: STRICT, journal: true, ..BrokerConfig::default() });
    let other = host.opened(2);
    let link = host.opened(1);
    let one_way = |host: &mut Host, result: Result<Bytes, Status>| {
        host.item(link, Body::Call(wire::call("x", 1)));
        for run in host.runs() {
            host.complete(run.key, result.clone());
        }
    };
    one_way(&mut host, Err(Status::not_found("no such command")));
    for _ in 0..10_000 {
        one_way(&mut host, Ok(Bytes::new()));
        let records = host.stored.len();
        assert!(records < 1100, "{records} records");
    }
    host.faulted(link, "acknowledges nothing");
    host.serves(other);
}

#[test]
fn failures_that_are_not_acknowledged_count_also_when_their_answers_have_arrived() {
    let (mut host, _) = strict();
    let link = host.opened(1);
    for _ in 0..100 {
        host.item(link, Body::Call(wire::call("x", 1)));
        for run in host.runs() {
            host.complete(run.key, Err(Status::not_found("no such command")));
        }
    }
    let session = host.broker.sessions().last().unwrap();
    // What has arrived is said on a new link, and nothing is acknowledged.
    let next = host.up(1);
    let lanes = Some(proto::Lanes { arrived: 100, sent: 100, ..proto::Lanes::default() });
    let id = Bytes::copy_from_slice(&session.id.0);
    host.say(next, control(Body::Open(proto::Open { session: id, lanes, groups: Vec::new() })));
    let held = |host: &Host| {
        let session = host.broker.sessions().last().unwrap();
        (session.kept_items, session.held_bytes)
    };
    assert_eq!(held(&host), (0, 100 * 100));
    host.say(next, control(Body::Ack(proto::Ack { up_to: 100, bulk_up_to: 0, done: 100 })));
    assert_eq!(held(&host), (0, 0));
}

#[test]
fn one_that_acknowledges_late_may_have_any_number_of_failures() {
    let mut host = Host::new(BrokerConfig { limits: STRICT, journal: true, ..BrokerConfig::default() });
    let (node, link) = (host.opened_node(100, &[]), host.opened(1));
    // This one takes long, so that nothing after it is finished.
    host.item(link, with_node(100, 1));
    for n in 0..10_000 {
        host.item(link, Body::Call(wire::call("x", 1)));
        for run in host.runs() {
            host.complete(run.key, Err(Status::not_found("no such command")));
        }
        if n % 255 == 254 {
            host.acknowledge(link);
        }
    }
    assert_eq!(host.closed, std::collections::BTreeMap::new());
    assert!(host.stored.len() < 1100, "{} records", host.stored.len());
    host.serves(link);
    host.serves(node);
}

#[test]
fn calls_that_are_cancelled_behind_one_that_takes_long_are_not_held() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    host.item(link, Body::Call(wire::call("long", 1)));
    for _ in 0..200 {
        let call =
            host.item(link, Body::Call(proto::Call { payload: vec![0; 1000].into(), ..wire::call("x", 0) }));
        host.item(link, Body::Cancel(proto::Cancel { call }));
        host.acknowledge(link);
    }
    let held = host.broker.sessions().map(|session| session.held_bytes).max().unwrap();
    assert!(held < 2_000, "{held} bytes");
    let runs = host.runs();
    assert_eq!(runs.len(), 1);
    host.complete(runs[0].key, Ok(Bytes::new()));
    assert!(host.runs().is_empty(), "what was cancelled is run");
    host.serves(other);
    host.serves(link);
}

#[test]
fn a_one_way_call_that_takes_long_does_not_have_the_rest_kept() {
    let (mut host, _) = strict();
    let node = host.opened_node(100, &[]);
    let link = host.opened(1);
    host.item(link, with_node(100, 1));
    host.item(link, with_node(100, 2));
    let call = 3;
    for _ in 0..1000 {
        host.item(link, items(2, false, 1, 1000));
        // All but the one-way call are done, as a node says it that is at it.
        let came = host.said[&node].iter().map(|packet| packet.seq).max().unwrap();
        host.say(node, control(Body::Ack(proto::Ack { up_to: came, bulk_up_to: 0, done: 0 })));
        host.item(
            node,
            Body::Credit(proto::Credit { call, to_caller: true, bulk: false, messages: 1, bytes: 1000 }),
        );
        host.acknowledge(link);
    }
    let held = host.broker.sessions().map(|session| session.held_bytes).max().unwrap();
    assert!(held < 4_000, "{held} bytes");
}

#[test]
fn what_an_application_gets_wrong_does_not_end_the_session() {
    let (mut host, _) = strict();
    let link = host.opened(1);
    host.item(link, Body::Call(wire::call("x", 0)));
    host.item(link, Body::Call(wire::call("x", 0)));
    let runs = host.runs();
    let mut status = Status::internal("x");
    status.message = "é".repeat(10_000);
    status.details = (0..100).map(|n| (format!("{n}"), Bytes::from(vec![0; 5_000]))).collect();
    host.complete(runs[0].key, Err(status));
    host.complete(runs[1].key, Ok(vec![0; 5_000].into()));
    let replies = host.replies(link);
    let cut = replies[0].status.as_ref().unwrap();
    assert!(cut.message.len() <= 4096 && cut.details.len() <= 16);
    let long = replies[1].status.as_ref().unwrap();
    assert_eq!((long.code, long.may_have_run), (Code::ResourceExhausted.number(), true));
    let placing = |command: &'static [u8], shape| Placing {
        command: Bytes::from_static(command),
        payload: Bytes::new(),
        to: Destination::Peer,
        shape,
        timeout: None,
    };
    let key: SessionKey = host.broker.sessions().last().unwrap().key;
    for wrong in [placing(b"\xff", Shape::REQUEST), placing(b"x", Shape::ONE_WAY.and(Shape::STREAM_UP))] {
        assert!(host.ask(|broker, now, out| broker.call(now, key, wrong, out)).is_err());
    }
    let placed =
        host.ask(|broker, now, out| broker.call(now, key, placing(b"x", Shape::STREAM_UP), out)).unwrap();
    let long = host.ask(|broker, _, out| broker.send(placed.stream(false), vec![0; 5_000].into(), out));
    assert_eq!(long, Err(peerage_rpc::SendError::TooLong { bytes: 5_000, limit: 1024 }));
}
