//! Packets as somebody else would write them: by the generated code, right or wrong.

use bytes::Bytes;
use peerage_machine::{Message as _, Rng};
use peerage_rpc::Packet;
use peerage_wire::PeerId;
use peerage_wire::proto::rpc::v1 as proto;
use prost::Message as _;

pub(crate) use proto::packet::Body;

/// As it is on the wire.
pub(crate) fn bytes(seq: u64, bulk: bool, body: Body) -> Bytes {
    proto::Packet { seq, bulk, body: Some(body) }.encode_to_vec().into()
}

/// A packet that can be read.
pub(crate) fn packet(seq: u64, bulk: bool, body: Body) -> Packet {
    Packet::decode(bytes(seq, bulk, body)).unwrap()
}

/// What a packet says, one thing after the other where it is several.
pub(crate) fn read(packet: &Packet) -> Vec<proto::Packet> {
    let packet = proto::Packet::decode(packet.to_bytes()).unwrap();
    match packet.body {
        Some(Body::Several(several)) => {
            several.packets.into_iter().map(|packet| proto::Packet::decode(packet).unwrap()).collect()
        }
        _ => vec![packet],
    }
}

/// Several packets as one.
pub(crate) fn several(packets: impl IntoIterator<Item = Bytes>) -> Body {
    Body::Several(proto::Several { packets: packets.into_iter().collect() })
}

pub(crate) fn item(seq: u64, body: Body) -> Packet {
    packet(seq, false, body)
}

pub(crate) fn call(command: &str, flags: u32) -> proto::Call {
    let command = Bytes::copy_from_slice(command.as_bytes());
    proto::Call { command, flags, ..proto::Call::default() }
}

pub(crate) fn open() -> Packet {
    packet(0, false, Body::Open(proto::Open::default()))
}

/// What is no item.
pub(crate) fn control(body: Body) -> Packet {
    packet(0, false, body)
}

/// A call to a node.
pub(crate) fn with_node(number: u32, flags: u32) -> Body {
    let node = Bytes::copy_from_slice(peerage_sim::peer(number).as_bytes());
    Body::Call(proto::Call { node, ..call("work", flags) })
}

/// Messages of a stream, or a piece of bulk data.
pub(crate) fn items(call: u64, to_caller: bool, count: u32, len: usize) -> Body {
    Body::Items(proto::Items { call, to_caller, count, items: vec![0; len].into() })
}

/// Keys that the hostile host of the contract's kit has peers of.
pub(crate) fn host_peers() -> Vec<PeerId> {
    (0..40_u64).map(|n| PeerId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())).collect()
}

pub(crate) fn host_peer() -> PeerId {
    host_peers()[0]
}

fn number(rng: &mut Rng) -> u64 {
    match rng.below(20) {
        0 => u64::MAX - rng.below(3),
        1 => 1 << rng.below(64),
        _ => rng.below(12),
    }
}

fn some_bytes(rng: &mut Rng) -> Bytes {
    let len = if rng.chance(0.1) { rng.below(3000) } else { rng.below(100) };
    vec![7; len as usize].into()
}

fn status(rng: &mut Rng) -> Option<proto::Status> {
    rng.chance(0.4).then(|| proto::Status {
        code: 1 + rng.below(20) as u32,
        message: "x".repeat(rng.below(50) as usize),
        may_have_run: rng.chance(0.5),
        details: Vec::new(),
    })
}

fn lanes(rng: &mut Rng) -> Option<proto::Lanes> {
    rng.chance(0.5).then(|| proto::Lanes {
        arrived: rng.below(4),
        bulk_arrived: rng.below(3),
        sent: rng.below(20),
        bulk_sent: rng.below(3),
    })
}

/// An item's body: well-behaved, out of place, or hostile.
pub(crate) fn random_item(rng: &mut Rng) -> (bool, Body) {
    let bulk = rng.chance(0.25);
    let (call, to_caller) = (number(rng), rng.chance(0.5));
    let body = match if bulk { rng.below(3) } else { rng.below(14) } {
        0 | 1 => Body::Items(proto::Items {
            call,
            to_caller,
            count: if bulk { 1 } else { 1 + rng.below(20) as u32 },
            items: some_bytes(rng),
        }),
        2 => Body::End(proto::End { call, to_caller, status: status(rng) }),
        3..7 => {
            let flags = *rng.pick(&[0, 0, 1, 1, 2, 4, 6, 8, 16, 24, 30, 32, 64]).unwrap();
            let node = host_peers()[rng.below(8) as usize];
            Body::Call(proto::Call {
                command: Bytes::from_static(b"x"),
                payload: some_bytes(rng),
                node: if rng.chance(0.2) { Bytes::copy_from_slice(node.as_bytes()) } else { Bytes::new() },
                group: Bytes::new(),
                timeout_micros: if rng.chance(0.3) { number(rng) } else { 0 },
                flags,
                caller: if rng.chance(0.2) { rng.below(3) } else { 0 },
                origin: number(rng),
            })
        }
        7 => Body::Reply(proto::Reply { to: number(rng), status: status(rng), payload: some_bytes(rng) }),
        8 | 9 => Body::Credit(proto::Credit {
            call,
            to_caller,
            bulk: rng.chance(0.5),
            messages: rng.below(100) as u32,
            bytes: number(rng),
        }),
        10 => Body::Cancel(proto::Cancel { call }),
        11 => Body::Offers(proto::Offers { resources: some_bytes(rng) }),
        12 => Body::Caller(proto::Caller {
            caller: rng.below(3),
            peer: Bytes::copy_from_slice(host_peer().as_bytes()),
            kind: 1,
            session: vec![1; 16].into(),
        }),
        _ if rng.chance(0.2) => Body::Leave(proto::Leave {}),
        _ => Body::Gone(proto::Gone { caller: rng.below(3) }),
    };
    (bulk, body)
}

/// Anything, for a machine whose sessions are young.
pub(crate) fn random(rng: &mut Rng, to_party: bool) -> Packet {
    let session = Bytes::from(vec![rng.below(2) as u8; 16]);
    let control = match rng.below(if to_party { 30 } else { 20 }) {
        0..6 if to_party => Some(Body::Opened(proto::Opened {
            session,
            resumed: rng.chance(0.4),
            from_journal: rng.chance(0.3),
            acknowledged: rng.below(3),
            lanes: lanes(rng),
            limits: Some(proto::Limits {
                calls: 8,
                call_bytes: 4096,
                streams: 3,
                stream_messages: 16,
                stream_bytes: 2048,
                message_bytes: 1024,
            }),
            grace_millis: rng.below(60_000) as u32,
            kind: 1,
        })),
        0..6 => Some(Body::Open(proto::Open {
            session: if rng.chance(0.2) { session } else { Bytes::new() },
            lanes: lanes(rng),
            groups: if rng.chance(0.5) { vec!["all".to_owned()] } else { Vec::new() },
        })),
        6 => Some(Body::Ack(proto::Ack { up_to: number(rng), bulk_up_to: number(rng), done: number(rng) })),
        7 => Some(Body::Refused(proto::Refused {
            status: Some(proto::Status { code: 14, ..proto::Status::default() }),
            session_lost: rng.chance(0.7),
        })),
        8 if rng.chance(0.1) => Some(Body::Ended(proto::Ended {
            status: Some(proto::Status { code: 10, ..proto::Status::default() }),
        })),
        9 => Some(Body::Enrol(proto::Enrol { token: some_bytes(rng) })),
        10 if rng.chance(0.1) => Some(Body::Enrolled(proto::Enrolled { kind: 1, confirmed: true })),
        _ => None,
    };
    if let Some(body) = control {
        return packet(0, false, body);
    }
    let (bulk, body) = random_item(rng);
    let seq = if rng.chance(0.02) { u64::MAX - rng.below(2) } else { 1 + rng.below(4) };
    packet(seq, bulk, body)
}
