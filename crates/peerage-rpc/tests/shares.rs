//! Room is shared: whoever takes much leaves enough for everybody else, at a node and at the broker.

mod common;

use bytes::Bytes;
use common::host::Host;
use common::wire::{self, Body};
use peerage_machine::LinkId;
use peerage_rpc::{BrokerConfig, Code, Limits};
use peerage_sim::peer;
use peerage_wire::proto::rpc::v1 as proto;

const STREAM_UP: u32 = 2;
const ONE_WAY: u32 = 1;

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
