//! Parties that break the rules: each is told or closed with the reason, and counted, and everybody else is served.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::host::strict;
use common::wire::{self, Body, control, items, with_node};
use peerage_machine::{Message as _, Why};
use peerage_rpc::{Code, Event, Packet};
use peerage_sim::peer;
use peerage_wire::proto::rpc::v1 as proto;

const SECOND: Duration = Duration::from_secs(1);

fn status() -> Option<proto::Status> {
    Some(proto::Status { code: 10, ..proto::Status::default() })
}

#[test]
fn an_item_before_the_session_is_open() {
    let (mut host, other) = strict();
    let link = host.up(1);
    host.item(link, Body::Call(wire::call("x", 0)));
    host.faulted(link, "an item at the wrong time");
    host.serves(other);
}

#[test]
fn opening_twice() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    host.say(link, wire::open());
    host.faulted(link, "Open at the wrong time");
    host.serves(other);
}

#[test]
fn a_number_that_leaves_one_out_and_one_that_no_session_reaches() {
    for seq in [2, 9, u64::MAX - 1, u64::MAX] {
        let (mut host, other) = strict();
        let link = host.opened(1);
        host.say(link, wire::item(seq, Body::Call(wire::call("x", 0))));
        host.faulted(link, "an item is missing");
        host.serves(other);
    }
}

#[test]
fn acknowledging_what_was_never_sent_or_what_has_not_come_as_done() {
    for (up_to, bulk_up_to, done, why) in [
        (1, 0, 0, "last sent"),
        (u64::MAX, 0, 0, "last sent"),
        (0, 1, 0, "last sent"),
        (0, 0, 1, "is done"),
        (0, u64::MAX, u64::MAX, "is done"),
    ] {
        let (mut host, other) = strict();
        let link = host.opened(1);
        host.say(link, control(Body::Ack(proto::Ack { up_to, bulk_up_to, done })));
        host.faulted(link, why);
        host.serves(other);
    }
}

#[test]
fn a_reply_to_nothing() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    host.item(link, Body::Reply(proto::Reply { to: 5, ..proto::Reply::default() }));
    host.faulted(link, "never made");
    host.serves(other);
    // To what is no call, or over, it is only counted.
    let link = host.opened(3);
    host.item(link, Body::Call(wire::call("x", 0)));
    let run = host.runs()[0].key;
    host.complete(run, Ok(Bytes::new()));
    host.item(link, Body::Reply(proto::Reply { to: 1, ..proto::Reply::default() }));
    assert_eq!((host.closed.get(&link), host.counted["rpc_stray_replies_total"]), (None, 1));
}

#[test]
fn messages_of_a_stream_that_is_not_there_are_dropped_and_counted() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    for (call, to_caller) in [(77, false), (77, true), (0, false), (u64::MAX, true)] {
        host.item(link, items(call, to_caller, 3, 3));
        let end = proto::End { call, to_caller, status: None };
        host.item(link, Body::End(end));
        host.item(
            link,
            Body::Credit(proto::Credit { call, to_caller, bulk: false, messages: 1, bytes: u64::MAX }),
        );
        host.item(link, Body::Cancel(proto::Cancel { call }));
    }
    assert_eq!((host.closed.get(&link), host.counted["rpc_late_messages_total"]), (None, 12));
    host.serves(other);
    host.serves(link);
}

#[test]
fn bulk_data_that_overtakes_its_call_waits_for_it() {
    let (mut host, _) = strict();
    let link = host.opened(1);
    host.say(link, wire::packet(1, true, items(1, false, 1, 5)));
    host.say(link, wire::packet(2, true, Body::End(proto::End { call: 1, to_caller: false, status: None })));
    assert!(!host.events.iter().any(|event| matches!(event, Event::Data { .. })));
    host.item(link, Body::Call(wire::call("up", 8)));
    let told: Vec<_> = host.events.iter().filter(|event| !matches!(event, Event::Opened { .. })).collect();
    assert!(
        matches!(told[..], [Event::Run(_), Event::Data { .. }, Event::StreamEnded { status: None, .. }]),
        "{told:?}"
    );
}

#[test]
fn what_is_no_packet_is_not_read() {
    let call = wire::call("x", 0);
    let of = |call: proto::Call| Body::Call(call);
    let one = wire::bytes(1, false, Body::Cancel(proto::Cancel { call: 1 }));
    let key = Bytes::from(vec![1; 32]);
    let open = proto::Open::default();
    let wrong = [
        wire::bytes(1, false, of(proto::Call { flags: 128, ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { flags: u32::MAX, ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { flags: 1 | 2, ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { flags: 1 | 16, ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { node: key.clone(), group: key.clone(), ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { node: vec![1; 31].into(), ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { group: vec![b'g'; 65].into(), ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { command: vec![b'c'; 129].into(), ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { command: vec![0xff].into(), ..call.clone() })),
        wire::bytes(1, false, of(proto::Call { payload: vec![0; 2 << 20].into(), ..call.clone() })),
        wire::bytes(0, false, of(call.clone())),
        wire::bytes(1, true, of(call)),
        wire::bytes(1, false, items(1, false, 0, 0)),
        wire::bytes(1, true, items(1, false, 2, 0)),
        wire::bytes(1, false, Body::Open(open.clone())),
        wire::bytes(0, false, Body::Open(proto::Open { session: vec![1; 15].into(), ..open.clone() })),
        wire::bytes(0, false, Body::Open(proto::Open { groups: vec!["g".to_owned(); 17], ..open.clone() })),
        wire::bytes(0, false, Body::Open(proto::Open { groups: vec![String::new()], ..open.clone() })),
        wire::bytes(
            0,
            false,
            Body::Open(proto::Open {
                lanes: Some(proto::Lanes { sent: u64::MAX, ..proto::Lanes::default() }),
                ..open.clone()
            }),
        ),
        wire::bytes(0, false, Body::Open(proto::Open { groups: vec!["g".repeat(200_000)], ..open })),
        wire::bytes(0, false, Body::Refused(proto::Refused { status: None, session_lost: false })),
        proto::Packet { seq: 1, bulk: false, body: None }.encode_to_bytes(),
        wire::bytes(1, false, wire::several([one.clone(), one.clone()])),
        wire::bytes(0, false, wire::several(vec![one; 2_000])),
        wire::bytes(0, false, wire::several(vec![Bytes::new(); 100])),
        [&b"\x08\x00"[..], &wire::bytes(0, false, wire::several(vec![Bytes::new(); 1_000_000]))]
            .concat()
            .into(),
        Bytes::from_static(b"\xff\xff\xff"),
    ];
    for (index, bytes) in wrong.into_iter().enumerate() {
        assert!(Packet::decode(bytes).is_err(), "number {index} was read");
    }
}

trait Encode {
    fn encode_to_bytes(&self) -> Bytes;
}

impl Encode for proto::Packet {
    fn encode_to_bytes(&self) -> Bytes {
        prost::Message::encode_to_vec(self).into()
    }
}

#[test]
fn of_several_packets_those_before_a_wrong_one_count_and_it_closes_the_channel() {
    let item = |seq| wire::bytes(seq, false, Body::Call(wire::call("work", 0)));
    let wrong = [
        wire::bytes(0, false, Body::Open(proto::Open::default())),
        wire::bytes(0, false, wire::several([item(2)])),
        wire::bytes(1, true, Body::End(proto::End { call: 1, to_caller: false, status: None })),
        Bytes::from_static(b"\xff\xff"),
    ];
    for wrong in wrong {
        let (mut host, _) = strict();
        let link = host.opened(1);
        host.say(link, wire::packet(0, false, wire::several([item(1), wrong, item(2)])));
        assert_eq!(host.runs().len(), 1);
        host.faulted(link, "");
    }
    let (mut host, _) = strict();
    let link = host.opened(1);
    host.say(link, wire::packet(0, false, wire::several([])));
    host.say(link, wire::packet(0, false, wire::several([item(1), item(2), item(3)])));
    assert_eq!(host.runs().len(), 3);
}

#[test]
fn nobody_passes_for_somebody_else() {
    let (mut host, _) = strict();
    let node = host.opened_node(100, &[]);
    let link = host.opened(1);
    let spoofed = proto::Call { caller: 1, origin: 99, ..wire::call("who", 0) };
    host.item(link, Body::Call(spoofed.clone()));
    let run = host.runs().remove(0);
    assert_eq!((run.caller.peer, run.origin), (peer(1), 1));
    host.hears(node);
    let to = Bytes::copy_from_slice(peer(100).as_bytes());
    host.item(link, Body::Call(proto::Call { node: to, ..spoofed }));
    let heard = host.hears(node);
    let [Body::Caller(caller), Body::Call(call), ..] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(caller.peer, peer(1).as_bytes()[..]);
    assert_eq!((call.caller, call.origin, call.node.len()), (caller.caller, 2, 0));
}

#[test]
fn what_only_a_broker_says_is_not_taken_from_a_party() {
    let session = Bytes::from(vec![1; 16]);
    let key = Bytes::copy_from_slice(peer(2).as_bytes());
    let items = [
        Body::Offers(proto::Offers { resources: Bytes::new() }),
        Body::Caller(proto::Caller { caller: 1, peer: key, kind: 1, session: session.clone() }),
        Body::Gone(proto::Gone { caller: 1 }),
    ];
    for body in items {
        let (mut host, other) = strict();
        let link = host.opened(1);
        host.item(link, body);
        host.faulted(link, "only a broker says");
        host.serves(other);
    }
    let controls = [
        Body::Opened(proto::Opened {
            session,
            limits: Some(proto::Limits::default()),
            kind: 1,
            ..proto::Opened::default()
        }),
        Body::Refused(proto::Refused { status: status(), session_lost: true }),
        Body::Ended(proto::Ended { status: status() }),
        Body::Enrolled(proto::Enrolled { kind: 2, confirmed: true }),
        Body::Enrol(proto::Enrol { token: Bytes::new() }),
    ];
    for body in controls {
        let (mut host, other) = strict();
        let link = host.opened(1);
        host.say(link, control(body));
        host.faulted(link, "at the wrong time");
        host.serves(other);
    }
}

#[test]
fn accounts_that_may_not_act() {
    let (mut host, other) = strict();
    for (number, code) in
        [(9, Code::Unauthenticated), (50, Code::PermissionDenied), (51, Code::PermissionDenied)]
    {
        let link = host.up(number);
        host.say(link, wire::open());
        let heard = host.hears(link);
        let [Body::Refused(proto::Refused { status: Some(status), session_lost: false })] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert_eq!(status.code, code.number());
        assert!(matches!(host.closed[&link], Why::ChannelClosed { .. }));
    }
    assert_eq!(host.counted["rpc_refused_total"], 3);
    host.serves(other);
}

#[test]
fn tokens_that_are_wrong_used_or_expired_and_so_many_tries() {
    let (mut host, other) = strict();
    let (token, late) = (host.token(60 * SECOND), host.token(SECOND));
    let enrol = |token: &[u8]| control(Body::Enrol(proto::Enrol { token: Bytes::copy_from_slice(token) }));
    let link = host.up(60);
    host.say(link, enrol(token.as_bytes()));
    assert!(matches!(host.hears(link)[..], [Body::Enrolled(proto::Enrolled { kind: 1, confirmed: true })]));
    host.say(link, wire::open());
    assert!(matches!(host.hears(link)[..], [Body::Opened(_), ..]));
    host.wait(2 * SECOND);
    let thief = host.up(61);
    for wrong in [token.as_bytes().to_vec(), late.as_bytes().to_vec(), vec![0; 16]] {
        host.say(thief, enrol(&wrong));
        let heard = host.hears(thief);
        let [Body::Refused(proto::Refused { status: Some(status), .. })] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert_eq!(status.code, Code::PermissionDenied.number());
        assert_eq!(host.closed.get(&thief), None);
    }
    host.say(thief, enrol(b""));
    assert!(host.closed.contains_key(&thief), "the fourth is the last");
    assert_eq!(host.counted["rpc_wrong_tokens_total"], 4);
    host.serves(other);
}

#[test]
fn somebody_elses_session_is_none() {
    let (mut host, other) = strict();
    let id = host.broker.sessions().next().unwrap().id;
    let link = host.up(1);
    let open = proto::Open { session: Bytes::copy_from_slice(&id.0), ..proto::Open::default() };
    host.say(link, control(Body::Open(open)));
    let heard = host.hears(link);
    assert!(matches!(heard[..], [Body::Refused(proto::Refused { session_lost: true, .. })]), "{heard:?}");
    host.say(link, wire::open());
    assert!(matches!(host.hears(link)[..], [Body::Opened(_), ..]), "it may still have its own");
    host.serves(other);
}

#[test]
fn nodes_and_groups_that_are_not_there() {
    let (mut host, other) = strict();
    let link = host.opened(1);
    host.item(link, with_node(101, 0));
    assert_eq!(host.code(link), Code::Unavailable.number());
    // A user is no node, and nor is the caller.
    host.item(link, with_node(2, 0));
    assert_eq!(host.code(link), Code::Unavailable.number());
    host.item(link, Body::Call(proto::Call { group: Bytes::from_static(b"none"), ..wire::call("x", 0) }));
    assert_eq!(host.code(link), Code::Unavailable.number());
    host.serves(other);
}

#[test]
fn a_new_session_has_nothing_whatever_is_said() {
    let (mut host, other) = strict();
    let before = host.broker.sessions().count();
    let link = host.up(1);
    let lanes = Some(proto::Lanes { arrived: 5, bulk_arrived: 5, sent: 5, bulk_sent: 5 });
    host.say(link, control(Body::Open(proto::Open { lanes, ..proto::Open::default() })));
    assert!(matches!(host.hears(link)[..], [Body::Opened(_), ..]));
    assert_eq!(host.broker.sessions().count(), before + 1);
    host.serves(link);
    host.serves(other);
}

#[test]
fn a_party_that_claims_more_than_it_was_sent_keeps_the_link_that_it_had() {
    let (mut host, _) = strict();
    let link = host.opened_node(100, &[]);
    let id = host.broker.sessions().find(|session| session.peer == peer(100)).unwrap().id;
    let second = host.up(100);
    let lanes = Some(proto::Lanes { arrived: 5, ..proto::Lanes::default() });
    let open = proto::Open { session: Bytes::copy_from_slice(&id.0), lanes, groups: Vec::new() };
    host.say(second, control(Body::Open(open)));
    host.faulted(second, "last sent");
    assert_eq!(host.closed.get(&link), None);
    host.serves(link);
}

#[test]
fn a_node_that_serves_other_groups_on_its_next_link_leaves_the_old_ones() {
    let (mut host, _) = strict();
    host.opened_node(100, &["a", "b"]);
    let id = host.broker.sessions().find(|session| session.peer == peer(100)).unwrap().id;
    let second = host.up(100);
    let session = Bytes::copy_from_slice(&id.0);
    host.say(second, control(Body::Open(proto::Open { session, lanes: None, groups: vec!["b".to_owned()] })));
    let link = host.opened(1);
    let group = |name: &'static str| {
        Body::Call(proto::Call { group: Bytes::from_static(name.as_bytes()), ..wire::call("x", 0) })
    };
    host.item(link, group("a"));
    assert_eq!(host.code(link), Code::Unavailable.number());
    host.item(link, group("b"));
    assert_eq!(host.replies(link), []);
}
