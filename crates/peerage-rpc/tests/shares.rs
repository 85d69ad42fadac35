//! Room is shared: whoever takes much leaves enough for everybody else, at a node and at the broker.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::host::Host;
use common::wire::{self, Body};
use peerage_machine::LinkId;
use peerage_rpc::{BrokerConfig, Code, Destination, Event, Limits, NotPlaced, Placing, Shape};
use peerage_sim::peer;
use peerage_wire::proto::rpc::v1 as proto;

const STREAM_UP: u32 = 2;
const ONE_WAY: u32 = 1;
const IDEMPOTENT: u32 = 32;

fn config() -> BrokerConfig {
    let limits = Limits {
        calls: 8,
        call_bytes: 8 << 10,
        streams: 4,
        stream_messages: 8,
        stream_bytes: 2048,
        message_bytes: 1024,
    };
    BrokerConfig { limits, ..BrokerConfig::default() }
}

fn to_node(number: u32, flags: u32, bytes: usize) -> Body {
    let node = Bytes::copy_from_slice(peer(number).as_bytes());
    Body::Call(proto::Call { node, payload: vec![0; bytes].into(), ..wire::call("work", flags) })
}

fn to_all(flags: u32) -> Body {
    Body::Call(proto::Call { group: Bytes::from_static(b"all"), ..wire::call("work", flags) })
}

/// Calls until it is refused; how often it was not, and why it was.
fn until_refused(host: &mut Host, link: LinkId, body: &Body) -> (usize, proto::Status) {
    host.hears(link);
    for made in 0.. {
        host.item(link, body.clone());
        if let [proto::Reply { status: Some(status), .. }] = &host.replies(link)[..] {
            assert_eq!(status.code, Code::ResourceExhausted.number(), "{status:?}");
            return (made, status.clone());
        }
        assert!(made < 1_000, "it is never refused");
    }
    unreachable!()
}

/// The numbers of calls that came to a node.
fn calls_at(host: &mut Host, node: LinkId) -> Vec<u64> {
    let packets = host.said.remove(&node).unwrap_or_default();
    let calls = packets.into_iter().filter(|packet| matches!(packet.body, Some(Body::Call(_))));
    calls.map(|packet| packet.seq).collect()
}

#[test]
fn an_account_that_fills_a_node_in_all_its_sessions_leaves_room_for_the_others() {
    // Calls, their bytes, and streams; each of which a session, or a node's room, may have so many of.
    for (flags, bytes, each) in [(0, 0, 8), (ONE_WAY, 0, 8), (0, 1024, 8), (STREAM_UP, 0, 4)] {
        let mut host = Host::new(config());
        let node = host.opened_node(100, &[]);
        let call = to_node(100, flags, bytes);
        let greedy = [host.opened(1), host.opened(1), host.opened(1)];
        // One alone may have all that a session may have, and no more in however many.
        let (made, why) = until_refused(&mut host, greedy[0], &call);
        assert_eq!(made, each, "{why:?}");
        for link in &greedy[1..] {
            let (made, why) = until_refused(&mut host, *link, &call);
            let said = why.message;
            assert!(made == 0 && said.contains("of the") && said.contains("that the node takes"), "{said}");
        }
        // Others find half of what is left, each.
        for (number, share) in [(2, each / 2), (3, each / 4), (4, each / 8)] {
            let link = host.opened(number);
            let (made, why) = until_refused(&mut host, link, &call);
            assert!(made >= share.max(1), "user {number} was let make {made}: {why:?}");
        }
        let calls = calls_at(&mut host, node);
        assert!(calls.len() >= each + each / 2 + each / 4, "{}", calls.len());
    }
}

/// What the application calls at a party.
fn placing(shape: Shape, bytes: usize) -> Placing {
    let command = Bytes::from_static(b"work");
    Placing { command, payload: vec![0; bytes].into(), to: Destination::Peer, shape, timeout: None }
}

/// What the application calls at a node, until it finds no room; how much that is.
fn until_full(host: &mut Host, shape: Shape, bytes: usize, of_group: bool) -> usize {
    let placing = placing(shape, bytes);
    let group = Bytes::from_static(b"all");
    for made in 0..1_000 {
        let placed = host.ask(|broker, now, out| match of_group {
            true => broker.call_group(now, &group, placing.clone(), out),
            false => broker.call_node(now, &peer(100), placing.clone(), out),
        });
        if let Err(refused) = placed {
            assert!(matches!(refused, NotPlaced::Full(_)), "{refused:?}");
            return made;
        }
    }
    unreachable!("it is never refused")
}

#[test]
fn what_the_brokers_application_calls_has_a_share_as_an_account_has() {
    let kinds = [
        (Shape::REQUEST, 0, 0, 8),
        (Shape::ONE_WAY, ONE_WAY, 0, 8),
        (Shape::REQUEST, 0, 1024, 8),
        (Shape::STREAM_UP, STREAM_UP, 0, 4),
    ];
    for (shape, flags, bytes, each) in kinds {
        // It comes first, and leaves half.
        let mut host = Host::new(config());
        let node = host.opened_node(100, &["all"]);
        assert_eq!(until_full(&mut host, shape, bytes, false), each);
        assert_eq!(until_full(&mut host, shape, bytes, true), 0);
        let link = host.opened(1);
        let (made, why) = until_refused(&mut host, link, &to_node(100, flags, bytes));
        assert!(made >= each / 2, "a user was let make {made}: {why:?}");
        // What is done makes room again, and is told.
        host.events.clear();
        for to in calls_at(&mut host, node) {
            host.item(node, Body::Reply(proto::Reply { to, ..proto::Reply::default() }));
        }
        if flags != ONE_WAY {
            assert!(host.events.iter().any(|event| matches!(event, Event::Slots(_))));
            assert_eq!(until_full(&mut host, shape, bytes, true), each);
        }
        // It comes last, and finds as much as a user would.
        let mut host = Host::new(config());
        host.opened_node(100, &["all"]);
        let greedy = [host.opened(1), host.opened(1)];
        for link in greedy {
            until_refused(&mut host, link, &to_node(100, flags, bytes));
        }
        assert!(until_full(&mut host, shape, bytes, true) >= each / 2);
    }
    // A user, whom nobody else calls, may be asked for all that its session takes.
    let mut host = Host::new(config());
    host.opened(1);
    let key = host.broker.sessions().next().unwrap().key;
    for _ in 0..8 {
        host.ask(|broker, now, out| broker.call(now, key, placing(Shape::REQUEST, 0), out)).unwrap();
    }
}

#[test]
fn what_a_caller_does_not_want_any_more_counts_until_the_node_has_done_with_it() {
    let mut host = Host::new(config());
    let node = host.opened_node(100, &[]);
    let link = host.opened(1);
    until_refused(&mut host, link, &to_node(100, STREAM_UP, 0));
    let calls = calls_at(&mut host, node);
    for call in 1..=4 {
        host.item(link, Body::Cancel(proto::Cancel { call }));
    }
    // Neither does a new session help.
    host.item(link, Body::Leave(proto::Leave {}));
    let link = host.opened(1);
    assert_eq!(until_refused(&mut host, link, &to_node(100, STREAM_UP, 0)).0, 0);
    let status = Some(proto::Status { code: Code::Cancelled.number(), ..proto::Status::default() });
    for to in &calls[..3] {
        host.item(
            node,
            Body::Reply(proto::Reply { to: *to, status: status.clone(), ..proto::Reply::default() }),
        );
    }
    assert_eq!(until_refused(&mut host, link, &to_node(100, STREAM_UP, 0)).0, 3);
}

#[test]
fn a_call_to_a_group_goes_to_a_node_that_has_room_for_its_caller() {
    let mut host = Host::new(config());
    let nodes = [host.opened_node(100, &["all"]), host.opened_node(101, &["all"])];
    let (first, greedy, last, other) = (host.opened(1), host.opened(1), host.opened(1), host.opened(2));
    until_refused(&mut host, first, &to_node(100, STREAM_UP, 0));
    for _ in 0..6 {
        host.item(other, to_node(101, 0, 0));
    }
    calls_at(&mut host, nodes[1]);
    // The first has less to do, and no room for this account.
    host.item(greedy, to_all(STREAM_UP));
    assert_eq!((host.replies(greedy).len(), calls_at(&mut host, nodes[1]).len()), (0, 1));
    calls_at(&mut host, nodes[0]);
    host.item(other, to_all(STREAM_UP));
    assert_eq!((host.replies(other).len(), calls_at(&mut host, nodes[0]).len()), (0, 1));
    // Where none has, it is said.
    until_refused(&mut host, greedy, &to_all(STREAM_UP));
    let (made, why) = until_refused(&mut host, last, &to_all(STREAM_UP));
    assert!(made == 0 && why.message.contains("8 calls with streams that the node takes"), "{}", why.message);
}

/// Limits of one session that are far above what an account may hold.
fn caps() -> BrokerConfig {
    let limits = Limits { calls: 256, call_bytes: 1 << 20, streams: 16, ..config().limits };
    BrokerConfig { limits, account_bytes: 192 << 10, broker_bytes: 448 << 10, max_sessions: 16, ..config() }
}

fn held_of(host: &Host, number: u32) -> u64 {
    let sessions = host.broker.sessions().filter(|session| session.peer == peer(number));
    sessions.map(|session| session.held_bytes).sum()
}

fn is_within(host: &Host, config: &BrokerConfig) {
    let all: u64 = host.broker.sessions().map(|session| session.held_bytes).sum();
    let uncounted = (16 << 10) * host.broker.sessions().count() as u64;
    assert!(all <= config.broker_bytes + uncounted, "{all} bytes are held");
    assert!(config.broker_bytes + uncounted <= config.worst_case_bytes());
}

/// Has calls answered and acknowledges none of the answers, until calls are refused.
fn hoard(host: &mut Host, link: LinkId) -> proto::Status {
    for _ in 0..1_000 {
        host.hears(link);
        host.item(link, Body::Call(wire::call("x", 0)));
        for run in host.runs() {
            host.complete(run.key, Ok(vec![0; 1024].into()));
        }
        let refused = host.replies(link).into_iter().find_map(|reply| reply.status);
        if let Some(status) = refused {
            assert_eq!(status.code, Code::ResourceExhausted.number(), "{status:?}");
            return status;
        }
    }
    unreachable!("it is never refused")
}

#[test]
fn an_account_is_given_no_more_calls_when_all_its_sessions_together_hold_half_of_what_they_may() {
    let mut host = Host::new(caps());
    let (first, second, other) = (host.opened(1), host.opened(1), host.opened(2));
    hoard(&mut host, first);
    let held = held_of(&host, 1);
    assert!((80 << 10..=120 << 10).contains(&held), "{held}");
    // Its other sessions are refused, too, and what the application asks of any.
    let why = hoard(&mut host, second).message;
    assert!(why.contains("in all its sessions"), "{why}");
    let key = host.broker.sessions().find(|session| session.peer == peer(1)).unwrap().key;
    let refused =
        host.ask(|broker, now, out| broker.call(now, key, placing(Shape::REQUEST, 0), out)).unwrap_err();
    assert!(matches!(&refused, NotPlaced::NotOpen(status) if status.code == Code::ResourceExhausted));
    host.serves(other);
    // It has room again as soon as it acknowledges.
    host.acknowledge(first);
    host.serves(first);
    host.serves(second);
}

#[test]
fn the_session_that_goes_beyond_what_its_account_may_hold_is_ended() {
    let mut host = Host::new(caps());
    let (first, second, other) = (host.opened(1), host.opened(1), host.opened(2));
    while !host.closed.contains_key(&first) {
        host.item(first, Body::Call(wire::call("x", 0)));
        for run in host.runs() {
            host.complete(run.key, Ok(vec![0; 1024].into()));
        }
        is_within(&host, &caps());
        assert!(held_of(&host, 1) <= (192 + 32) << 10);
    }
    let heard = host.hears(first);
    let Some(Body::Ended(proto::Ended { status: Some(status) })) = heard.last() else {
        panic!("{:?}", heard.last())
    };
    assert!(
        status.code == Code::ResourceExhausted.number() && status.message.contains("account"),
        "{status:?}"
    );
    assert_eq!(host.counted["rpc_hoarders_total"], 1);
    host.serves(second);
    host.serves(other);
}

#[test]
fn a_broker_that_is_filled_holds_what_it_promises_and_serves_those_who_hold_little() {
    // Three accounts may hold more together than the broker.
    let config = BrokerConfig { account_bytes: 512 << 10, max_sessions: 200, ..caps() };
    let mut host = Host::new(config.clone());
    let other = host.opened(4);
    let mut rounds = 0;
    while host.counted.get("rpc_hoarders_total").copied().unwrap_or(0) < 20 {
        rounds += 1;
        assert!(rounds < 1_000);
        for number in [1, 2, 3] {
            let link = host.opened(number);
            let refused = hoard(&mut host, link);
            is_within(&host, &config);
            assert!(refused.message.contains("bytes"), "{refused:?}");
            // Refusals are not acknowledged either.
            for _ in 0..60 {
                if host.closed.contains_key(&link) {
                    break;
                }
                host.item(link, Body::Call(wire::call("x", 0)));
                is_within(&host, &config);
            }
            host.serves(other);
        }
    }
    assert!(!host.closed.contains_key(&other));
}

#[test]
fn a_node_that_takes_nothing_in_is_given_no_more_and_its_callers_are_served_by_others() {
    let config = BrokerConfig { account_bytes: 16 << 10, ..caps() };
    let mut host = Host::new(config.clone());
    let (full, free) = (host.opened_node(100, &["all"]), host.opened_node(101, &["all"]));
    let callers = [host.opened(1), host.opened(2), host.opened(3)];
    let mut refused = None;
    for round in 0..30 {
        let link = callers[round % 3];
        host.hears(link);
        host.item(link, to_node(100, ONE_WAY, 1024));
        refused = refused.or_else(|| host.replies(link).into_iter().find_map(|reply| reply.status));
        is_within(&host, &config);
    }
    let refused = refused.expect("the node holds half of what it may");
    assert!(refused.message.contains(&peer(100).short().to_string()), "{refused:?}");
    assert!(!host.closed.contains_key(&full));
    // The other one has more to do, and still is the one of the group.
    for _ in 0..40 {
        host.item(callers[0], to_node(101, 0, 0));
    }
    for link in callers {
        host.hears(link);
        host.hears(free);
        host.item(link, to_node(101, 0, 0));
        assert!(calls_at(&mut host, free).len() == 1, "a caller that holds little calls another node");
        host.item(link, to_all(0));
        assert_eq!((host.replies(link).len(), calls_at(&mut host, free).len()), (0, 1), "of the group, too");
    }
}

/// The first node of the group has no room for the first user, whose eight calls with numbers from 1 on were at the second, which has
/// left.
fn waiting_for_room(config: BrokerConfig) -> (Host, LinkId, Vec<u64>, LinkId) {
    let mut host = Host::new(config);
    let (full, leaves) = (host.opened_node(100, &["all"]), host.opened_node(101, &["all"]));
    let (first, waits) = (host.opened(1), host.opened(1));
    until_refused(&mut host, first, &to_node(100, 0, 0));
    let theirs = calls_at(&mut host, full);
    for _ in 0..8 {
        host.item(waits, to_all(IDEMPOTENT));
    }
    assert_eq!(calls_at(&mut host, leaves).len(), 8);
    host.item(leaves, Body::Leave(proto::Leave {}));
    (host, full, theirs, waits)
}

/// Which calls of their caller came to a node, and under which numbers.
fn origins_at(host: &mut Host, node: LinkId) -> Vec<(u64, u64)> {
    let packets = host.said.remove(&node).unwrap_or_default().into_iter();
    let calls = packets.filter_map(|packet| match packet.body {
        Some(Body::Call(call)) => Some((call.origin, packet.seq)),
        _ => None,
    });
    calls.collect()
}

#[test]
fn an_idempotent_call_of_a_node_that_left_waits_for_room_at_another_of_its_group() {
    let (mut host, full, theirs, waits) = waiting_for_room(config());
    assert_eq!((host.replies(waits), origins_at(&mut host, full)), (vec![], vec![]));
    // An answer makes room for the first of them.
    let mut at_full = Vec::new();
    for (to, origin) in theirs.into_iter().zip(1..=3) {
        host.item(full, Body::Reply(proto::Reply { to, ..proto::Reply::default() }));
        let came = origins_at(&mut host, full);
        assert!(matches!(came[..], [(of, _)] if of == origin), "{came:?}");
        at_full.extend(came);
    }
    // The next start of the one that left takes the rest.
    let back = host.up(101);
    let groups = vec!["all".to_owned()];
    host.say(back, wire::packet(0, false, Body::Open(proto::Open { groups, ..proto::Open::default() })));
    host.acknowledge(back);
    let at_back = origins_at(&mut host, back);
    assert!(at_back.iter().map(|(origin, _)| *origin).eq(4..=8), "{at_back:?}");
    assert_eq!((host.replies(waits), origins_at(&mut host, full)), (vec![], vec![]));
    for (node, calls) in [(full, at_full), (back, at_back)] {
        for (_, to) in calls {
            host.item(node, Body::Reply(proto::Reply { to, ..proto::Reply::default() }));
        }
    }
    let replies = host.replies(waits);
    assert!(replies.len() == 8 && replies.iter().all(|reply| reply.status.is_none()), "{replies:?}");
}

#[test]
fn who_waited_for_room_in_vain_hears_that_there_was_none() {
    // It is there that there may be room, whether or not the one that left may come back.
    for is_shut_out in [false, true] {
        let (mut host, full, _, waits) = waiting_for_room(config());
        if is_shut_out {
            host.ask(|broker, now, out| broker.suspend(now, &peer(101), out)).unwrap();
        }
        host.wait(Duration::from_millis(4_900));
        assert_eq!(host.replies(waits), []);
        host.wait(Duration::from_millis(200));
        let replies = host.replies(waits);
        let says_so = |reply: &proto::Reply| {
            reply.status.as_ref().is_some_and(|status| {
                status.code == Code::ResourceExhausted.number()
                    && status.may_have_run
                    && status.message.contains("that the node takes")
            })
        };
        assert!(replies.len() == 8 && replies.iter().all(says_so), "{replies:?}");
        assert_eq!(origins_at(&mut host, full), []);
    }
}

#[test]
fn the_application_does_not_hear_of_the_end_of_a_call_that_waits_for_a_node() {
    let mut host = Host::new(config());
    let (node, link) = (host.opened_node(100, &["all"]), host.opened(1));
    let group = Bytes::from_static(b"all");
    for timeout_micros in [0, 1_000_000, 0] {
        let call = proto::Call { group: group.clone(), timeout_micros, ..wire::call("work", IDEMPOTENT) };
        host.item(link, Body::Call(call));
    }
    host.item(node, Body::Leave(proto::Leave {}));
    host.events.clear();
    host.item(link, Body::Cancel(proto::Cancel { call: 1 }));
    host.wait(Duration::from_secs(2));
    let replies = host.replies(link);
    let codes = replies.iter().map(|reply| (reply.to, reply.status.as_ref().map_or(0, |status| status.code)));
    assert!(codes.eq([(1, Code::Cancelled.number()), (2, Code::DeadlineExceeded.number())]), "{replies:?}");
    host.item(link, Body::Leave(proto::Leave {}));
    let told: Vec<_> = host.events.iter().filter(|event| matches!(event, Event::Cancelled(_))).collect();
    assert!(told.is_empty(), "it never got them to run: {told:?}");
}
