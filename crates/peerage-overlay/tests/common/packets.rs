//! What a peer might say: well-formed words about a small world, so that they meet, and some that lie.

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{Message as _, Rng};
use peerage_overlay::Packet;
use peerage_wire::PeerId;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use peerage_wire::proto::reconcile::v1 as proto_reconcile;
use prost::Message as _;

use super::identity;

pub(crate) const DOMAIN: &str = "peerage mesh message v1";
pub(crate) const WHISPER_DOMAIN: &str = "peerage mesh whisper v1";

pub(crate) fn bytes(peer: &PeerId) -> Bytes {
    Bytes::copy_from_slice(peer.as_bytes())
}

pub(crate) fn packet(kind: Kind) -> Packet {
    let bytes = proto::Packet { kind: Some(kind) }.encode_to_vec();
    Packet::decode(bytes.into()).unwrap()
}

/// A broadcast as its origin signs it.
pub(crate) fn payload(
    origin: &Identity,
    network: &str,
    epoch: u64,
    seq: u64,
    sent: u64,
    parts: Vec<Bytes>,
) -> proto::Payload {
    let body = proto::Body {
        network: network.to_owned(),
        origin: bytes(&origin.peer_id()),
        epoch,
        seq,
        sent,
        parts,
    };
    let body = Bytes::from(body.encode_to_vec());
    let signature = Bytes::copy_from_slice(&origin.sign(DOMAIN, &body));
    proto::Payload { body, signature, hops: 0, pulled: false }
}

pub(crate) fn whisper(origin: &Identity, target: &PeerId, seq: u64, sent: u64) -> proto::Whisper {
    let body = proto::WhisperBody {
        network: "news".to_owned(),
        origin: bytes(&origin.peer_id()),
        epoch: 1,
        seq,
        sent,
        parts: vec![Bytes::from_static(b"psst")],
        target: bytes(target),
    };
    let body = Bytes::from(body.encode_to_vec());
    let signature = Bytes::copy_from_slice(&origin.sign(WHISPER_DOMAIN, &body));
    proto::Whisper { body, signature, hops: 0 }
}

fn contact(rng: &mut Rng) -> proto::Contact {
    let number = rng.below(40) as u32;
    let peer = identity(number).peer_id();
    let addresses = (0..rng.below(5)).map(|port| format!("tcp://10.0.0.{number}:{}", 4000 + port)).collect();
    proto::Contact { peer: bytes(&peer), addresses }
}

fn contacts(rng: &mut Rng) -> Vec<proto::Contact> {
    (0..rng.below(17)).map(|_| contact(rng)).collect()
}

fn run(rng: &mut Rng) -> proto::Run {
    let mut ranges = Vec::new();
    let giant = rng.chance(0.05);
    let most = if rng.chance(0.05) { 513 } else { 6 };
    for place in 0..rng.below(most) {
        ranges.push(rng.below(8) + u64::from(place > 0));
        ranges.push(if giant && place == 0 { (1 << 20) - 600 * 9 } else { rng.below(9) });
    }
    if let Some(first) = ranges.first_mut().filter(|_| rng.chance(0.05)) {
        *first = u64::MAX - (1 << 21);
    }
    let number = if rng.chance(0.5) { rng.below(4) } else { rng.below(60) } as u32;
    proto::Run {
        origin: bytes(&identity(number).peer_id()),
        epoch: rng.below(3),
        ranges,
        hops: rng.below(1024) as u32,
        now: rng.chance(0.5),
        name: 0,
    }
}

fn runs(rng: &mut Rng) -> Vec<proto::Run> {
    (0..rng.below(8)).map(|_| run(rng)).collect()
}

/// Some of them about streams that have a number, or should have one.
fn named(rng: &mut Rng) -> Vec<proto::Run> {
    let mut runs = runs(rng);
    for run in &mut runs {
        if rng.chance(0.5) {
            run.name = if rng.chance(0.5) { rng.below(4) + 1 } else { rng.below(127) + 1 } as u32;
            if rng.chance(0.5) {
                run.origin = Bytes::new();
                run.epoch = 0;
            }
        }
    }
    runs
}

/// A step of a session, most likely of none.
fn session(rng: &mut Rng) -> proto_reconcile::reconcile::Kind {
    use proto_reconcile::reconcile::Kind;
    let batch = |rng: &mut Rng| {
        let symbols = rng.below(20) as usize;
        let mut sums = || (0..symbols).map(|_| rng.next_u64()).collect::<Vec<_>>();
        let (sums, counts) = (sums(), sums());
        let checks = sums.iter().map(|sum| *sum as u32).collect();
        let counts = counts.into_iter().map(|count| (count % 9) as i64 - 4).collect();
        Some(proto_reconcile::Batch { sums, checks, counts })
    };
    let ids = |rng: &mut Rng| {
        let mut ids: Vec<u64> = (0..rng.below(6)).map(|_| rng.next_u64()).collect();
        ids.sort_unstable();
        ids
    };
    match rng.below(8) {
        0 => Kind::More(proto_reconcile::More { until: rng.below(3000) as u32 }),
        1 => Kind::Symbols(proto_reconcile::Symbols { from: rng.below(40) as u32, symbols: batch(rng) }),
        2 => Kind::AskList(proto_reconcile::AskList {}),
        3 => Kind::List(proto_reconcile::List { ids: ids(rng), through: u64::MAX }),
        4 => Kind::Answer(proto_reconcile::Answer {
            want: ids(rng),
            have: ids(rng),
            end: rng.below(3) as i32 + 1,
            common: vec![1; 16].into(),
        }),
        5 => Kind::Stop(proto_reconcile::Stop {}),
        _ => Kind::Open(proto_reconcile::Open {
            salt: vec![3; 16].into(),
            count: rng.below(60),
            fingerprint: vec![4; 16].into(),
            max_symbols: rng.below(2000) as u32,
            symbols: batch(rng),
        }),
    }
}

/// Something that a peer might say at about that time.
pub(crate) fn random(rng: &mut Rng, wall: u64) -> Packet {
    let (ttl, nonce) = (rng.below(17) as u32, rng.below(4));
    let signer = identity(rng.below(4) as u32);
    let sent = if rng.chance(0.1) { rng.next_u64() } else { wall };
    packet(match rng.below(19) {
        0 => Kind::Join(proto::Join { urgent: rng.chance(0.3) }),
        1 => Kind::Neighbour(proto::Neighbour { urgent: rng.chance(0.3) }),
        2 => Kind::NeighbourReply(proto::NeighbourReply { accepted: rng.chance(0.7), others: contacts(rng) }),
        3 => Kind::Disconnect(proto::Disconnect { leaving: rng.chance(0.3), others: contacts(rng) }),
        4 => Kind::ForwardJoin(proto::ForwardJoin { joiner: Some(contact(rng)), ttl }),
        5 => Kind::Shuffle(proto::Shuffle { nonce, ttl, sample: contacts(rng) }),
        6 => Kind::ShuffleReply(proto::ShuffleReply { nonce, sample: contacts(rng) }),
        7 => {
            let network = if rng.chance(0.9) { "news" } else { "olds" };
            let parts = (0..=rng.below(3)).map(|n| Bytes::from(vec![b'x'; 300 * n as usize])).collect();
            let mut payload = payload(&signer, network, rng.below(3), rng.below(12) + 1, sent, parts);
            payload.hops = rng.below(1024) as u32;
            payload.pulled = rng.chance(0.3);
            if rng.chance(0.2) {
                payload.signature = vec![9; 64].into();
            }
            Kind::Payload(payload)
        }
        8 => Kind::Announce(proto::Announce { runs: named(rng) }),
        9 => Kind::Want(proto::Want { runs: runs(rng) }),
        10 => Kind::Prune(proto::Prune { origin: bytes(&signer.peer_id()) }),
        11 => Kind::Summary(proto::Summary { runs: named(rng), ask: rng.chance(0.3) }),
        12 => Kind::Probe(proto::Probe { answer: rng.chance(0.5) }),
        13 => Kind::Compare(proto::Compare {
            since: wall.saturating_sub(60_000),
            until: wall,
            hash: rng.below(2),
        }),
        14 => {
            let target = identity(rng.below(5) as u32).peer_id();
            let mut whisper = whisper(&signer, &target, rng.below(6) + 1, sent);
            whisper.hops = rng.below(33) as u32;
            Kind::Whisper(whisper)
        }
        15 => Kind::Spare(proto::Spare { runs: named(rng) }),
        16 | 17 => {
            let step = Some(proto_reconcile::Reconcile { kind: Some(session(rng)) });
            let (session, since) = (rng.below(3) as u32, if rng.chance(0.5) { 0 } else { wall });
            Kind::Reconcile(proto::Reconcile { session, since, until: u64::MAX, step })
        }
        _ => Kind::WhisperResult(proto::WhisperResult {
            origin: bytes(&signer.peer_id()),
            epoch: rng.below(2),
            seq: rng.below(6),
            outcome: rng.below(3) as i32 + 1,
            signature: vec![1; 64].into(),
        }),
    })
}
