//! The bytes of every message, pinned.
//!
//! Each fixture is a file of hex in `tests/fixtures`, named after the message; more than one value of a message are
//! told apart after a dash. When the bytes of a value change, so does the format, and peers of the last version no
//! longer understand it: `docs/wire.md` and the version in the preface have to follow.
//!
//! To pin a value, add one line to [`fixtures`]: `message("package.Message-what", &value)` for a generated message, or
//! `bytes("name", encoded)` for anything else. Then run the test once with `BLESS=1`, look at the new file, and commit
//! it. A package of its own (a mesh's, say) goes into a function of its own that [`fixtures`] chains.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use peerage_wire::Suite;
use peerage_wire::frame::{DataHeader, put_control, put_data};
use peerage_wire::handshake::put_message;
use peerage_wire::preface::{Busy, Notice, Preface};
use peerage_wire::proto::link::v1 as link;
use peerage_wire::proto::link::v1::control::Kind;
use peerage_wire::proto::mesh::v1 as mesh;
use peerage_wire::proto::mesh::v1::packet::Kind as MeshKind;
use peerage_wire::proto::reconcile::v1 as reconcile;
use peerage_wire::proto::reconcile::v1::reconcile::Kind as ReconcileKind;
use prost::Message;

/// A name and the bytes that it stands for.
type Fixture = (&'static str, Vec<u8>);

fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    all.extend(clear());
    all.extend(link());
    all.extend(mesh());
    all.extend(reconciliation());
    all
}

fn clear() -> Vec<Fixture> {
    let mut framed = BytesMut::new();
    put_message(&mut framed, &[0xab; 5]).unwrap();
    vec![
        bytes("preface", Preface::new(Suite::ChaChaPoly).encode().to_vec()),
        bytes("preface-aesgcm", Preface::new(Suite::AesGcm).encode().to_vec()),
        bytes("preface-of_tomorrow", Preface { version: 2, suite: 7 }.encode().to_vec()),
        bytes("notice-cookie", Notice::Cookie([0xc0; 16]).encode()),
        bytes("notice-busy_handshakes", Notice::Busy(Busy::Handshakes).encode()),
        bytes("handshake_message", framed.to_vec()),
    ]
}

fn link() -> Vec<Fixture> {
    let refused = vec![
        link::Refusal {
            channel: 0,
            reason: link::refusal::Reason::UnknownInstance.into(),
            detail: String::new(),
        },
        link::Refusal { channel: 3, reason: link::refusal::Reason::Version.into(), detail: "2".to_owned() },
        link::Refusal {
            channel: 300,
            reason: link::refusal::Reason::Parameters.into(),
            detail: "0a0b".to_owned(),
        },
        link::Refusal {
            channel: 4,
            reason: link::refusal::Reason::Limit.into(),
            detail: "16 channels".to_owned(),
        },
    ];
    let instance = link::Instance {
        protocol: "mesh".to_owned(),
        name: "lobby".to_owned(),
        version: 1,
        parameters: Bytes::from_static(&[8, 150, 1]),
    };
    let limits = link::Limits {
        max_message: 1 << 20,
        window: 65_536,
        max_channels: 64,
        max_messages_per_second: 0,
        max_controls_per_second: 10_000,
        ..Default::default()
    };
    let crowded = link::Limits {
        max_links: 4_096,
        max_links_per_address: 1_024,
        max_handshakes: 512,
        handshake_timeout_ms: 5_000,
        ..limits
    };
    let slow = link::Limits { max_messages_per_second: 500, ..limits };
    let detail = "because".to_owned();
    let code = link::goodbye::Code::NoCommonInstance.into();
    vec![
        message("link.Hello-empty", &link::Hello::default()),
        message(
            "link.Hello",
            &link::Hello {
                identity: Bytes::from_static(&[1; 32]),
                signature: Bytes::from_static(&[2; 64]),
                incarnation: Bytes::from_static(&[3; 16]),
                software: "example 1.0".to_owned(),
                limits: Some(limits),
                addresses: vec!["tcp://192.0.2.1:4000".to_owned(), "tcp://[2001:db8::1]:4000".to_owned()],
                instances: vec![
                    instance.clone(),
                    link::Instance { protocol: "dict".to_owned(), ..Default::default() },
                ],
            },
        ),
        message("link.Limits", &limits),
        message("link.Limits-slow", &slow),
        message("link.Limits-crowded", &crowded),
        message("link.Instance", &instance),
        message("link.Refusal", &refused[2]),
        message("link.Frame-empty", &link::Frame::default()),
        message(
            "link.Frame-data",
            &link::Frame {
                channel: 300,
                class: 2,
                total: 1 << 20,
                payload: Bytes::from_static(b"part"),
                control: None,
            },
        ),
        data("frame-data_empty", 0, 0, 0, b""),
        data("frame-data_whole", 1, 0, 0, b"hello"),
        data("frame-data_first_fragment", 300, 2, 1 << 20, &[0xcd; 200]),
        data("frame-data_greatest_head", u32::MAX, u32::MAX, u64::MAX, b"x"),
        control(
            "control-Accept",
            Kind::Accept(link::Accept { refused: refused.clone(), observed: String::new() }),
        ),
        control(
            "control-Accept_observed",
            Kind::Accept(link::Accept { refused: Vec::new(), observed: "tcp://192.0.2.1:51234".to_owned() }),
        ),
        control("control-Accept_all", Kind::Accept(link::Accept::default())),
        control("control-Refuse", Kind::Refuse(link::Refuse { code, detail: detail.clone(), refused })),
        control("control-Credit", Kind::Credit(link::Credit { channel: 3, class: 2, bytes: 16_416 })),
        control("control-Ping", Kind::Ping(link::Ping { nonce: u64::MAX })),
        control("control-Pong", Kind::Pong(link::Pong { nonce: 1 })),
        control("control-Open", Kind::Open(link::Open { channel: 5, instance: Some(instance) })),
        control("control-Opened", Kind::Opened(link::Opened { channel: 5, mine: 9 })),
        control(
            "control-Closed",
            Kind::Closed(link::Closed {
                channel: 5,
                reason: link::refusal::Reason::UnknownInstance.into(),
                detail: detail.clone(),
            }),
        ),
        control("control-Interest", Kind::Interest(link::Interest { held: true })),
        control("control-Interest_none", Kind::Interest(link::Interest { held: false })),
        control("control-Reclaim", Kind::Reclaim(link::Reclaim { channel: 5, class: 2, bytes: 1 << 20 })),
        control(
            "control-Returned",
            Kind::Returned(link::Returned { channel: 9, class: 2, bytes: 1_000_000 }),
        ),
        control(
            "control-Goodbye",
            Kind::Goodbye(link::Goodbye { code: link::goodbye::Code::Silent.into(), detail }),
        ),
    ]
}

/// The packets of a mesh, each in its `Packet`, and what origins sign.
fn mesh() -> Vec<Fixture> {
    let peer = |byte: u8| Bytes::from(vec![byte; 32]);
    let signature = Bytes::from_static(&[2; 64]);
    let contact = |byte: u8| mesh::Contact {
        peer: peer(byte),
        addresses: vec!["tcp://192.0.2.1:4000".to_owned(), "tcp://[2001:db8::1]:4000".to_owned()],
    };
    let stranger = mesh::Contact { peer: peer(8), addresses: Vec::new() };
    let body = mesh::Body {
        network: "news".to_owned(),
        origin: peer(1),
        epoch: 1_809_639_014_400_341,
        seq: 300,
        sent: 1_767_225_600_000,
        parts: vec![Bytes::from_static(b"hello"), Bytes::new()],
    };
    let whisper = mesh::WhisperBody {
        network: "news".to_owned(),
        origin: peer(1),
        epoch: 1_809_639_014_400_341,
        seq: 1,
        sent: 1_767_225_600_000,
        parts: vec![Bytes::from_static(b"psst")],
        target: peer(4),
    };
    let run = |ranges: &[u64], hops, now| mesh::Run {
        origin: peer(1),
        epoch: 1_809_639_014_400_341,
        ranges: ranges.to_vec(),
        hops,
        now,
        name: 0,
    };
    // 3 to 5 and 9; 300 alone.
    let (some, one) = ([2, 2, 3, 0], [299, 0]);
    let result = |outcome, signature| {
        MeshKind::WhisperResult(mesh::WhisperResult {
            origin: peer(1),
            epoch: 1_809_639_014_400_341,
            seq: 1,
            outcome,
            signature,
        })
    };
    let payload = |hops, pulled| {
        let body = Bytes::from(body.encode_to_vec());
        MeshKind::Payload(mesh::Payload { body, signature: signature.clone(), hops, pulled })
    };
    let whispered =
        mesh::Whisper { body: whisper.encode_to_vec().into(), signature: signature.clone(), hops: 2 };
    let sample = vec![contact(1), stranger.clone()];
    vec![
        message("mesh.Contact", &contact(1)),
        message("mesh.Contact-no_address", &stranger),
        message("mesh.Body", &body),
        message("mesh.WhisperBody", &whisper),
        message("mesh.Run", &run(&some, 3, true)),
        packet("mesh-Join", MeshKind::Join(mesh::Join { urgent: false })),
        packet("mesh-Join_urgent", MeshKind::Join(mesh::Join { urgent: true })),
        packet("mesh-Neighbour", MeshKind::Neighbour(mesh::Neighbour { urgent: false })),
        packet("mesh-Neighbour_urgent", MeshKind::Neighbour(mesh::Neighbour { urgent: true })),
        packet(
            "mesh-NeighbourReply_accepted",
            MeshKind::NeighbourReply(mesh::NeighbourReply { accepted: true, others: Vec::new() }),
        ),
        packet(
            "mesh-NeighbourReply_refused",
            MeshKind::NeighbourReply(mesh::NeighbourReply { accepted: false, others: sample.clone() }),
        ),
        packet(
            "mesh-Disconnect",
            MeshKind::Disconnect(mesh::Disconnect { leaving: false, others: sample.clone() }),
        ),
        packet(
            "mesh-Disconnect_leaving",
            MeshKind::Disconnect(mesh::Disconnect { leaving: true, others: Vec::new() }),
        ),
        packet(
            "mesh-ForwardJoin",
            MeshKind::ForwardJoin(mesh::ForwardJoin { joiner: Some(contact(1)), ttl: 6 }),
        ),
        packet(
            "mesh-Shuffle",
            MeshKind::Shuffle(mesh::Shuffle { nonce: 0x0102_0304_0506_0708, ttl: 6, sample: sample.clone() }),
        ),
        packet(
            "mesh-ShuffleReply",
            MeshKind::ShuffleReply(mesh::ShuffleReply { nonce: 0x0102_0304_0506_0708, sample }),
        ),
        packet("mesh-Payload", payload(0, false)),
        packet("mesh-Payload_pulled", payload(5, true)),
        packet(
            "mesh-Announce",
            MeshKind::Announce(mesh::Announce { runs: vec![run(&some, 3, false), run(&one, 0, true)] }),
        ),
        packet(
            "mesh-Announce_named",
            MeshKind::Announce(mesh::Announce {
                runs: vec![
                    mesh::Run { name: 1, ..run(&some, 3, false) },
                    mesh::Run { name: 1, origin: Bytes::new(), epoch: 0, ..run(&one, 4, false) },
                ],
            }),
        ),
        packet("mesh-Probe", MeshKind::Probe(mesh::Probe { answer: false })),
        packet("mesh-Probe_answer", MeshKind::Probe(mesh::Probe { answer: true })),
        packet(
            "mesh-Compare",
            MeshKind::Compare(mesh::Compare {
                since: 1_767_225_600_000,
                until: 1_767_225_640_000,
                hash: 0x0102_0304_0506_0708,
            }),
        ),
        packet(
            "mesh-Reconcile",
            MeshKind::Reconcile(mesh::Reconcile {
                session: 0x0102_0304,
                since: 1_767_225_600_000,
                until: 1_767_225_640_000,
                step: Some(reconcile::Reconcile {
                    kind: Some(ReconcileKind::More(reconcile::More { until: 300 })),
                }),
            }),
        ),
        packet("mesh-Spare", MeshKind::Spare(mesh::Spare { runs: vec![run(&one, 3, false)] })),
        packet("mesh-Summary_ask", MeshKind::Summary(mesh::Summary { runs: Vec::new(), ask: true })),
        packet("mesh-Want", MeshKind::Want(mesh::Want { runs: vec![run(&one, 0, false)] })),
        packet("mesh-Want_graft", MeshKind::Want(mesh::Want { runs: vec![run(&[], 0, true)] })),
        packet("mesh-Prune", MeshKind::Prune(mesh::Prune { origin: peer(1) })),
        packet(
            "mesh-Summary",
            MeshKind::Summary(mesh::Summary { runs: vec![run(&some, 0, false)], ask: false }),
        ),
        packet("mesh-Whisper", MeshKind::Whisper(whispered)),
        packet(
            "mesh-WhisperResult_delivered",
            result(mesh::whisper_result::Outcome::Delivered.into(), signature.clone()),
        ),
        packet(
            "mesh-WhisperResult_no_route",
            result(mesh::whisper_result::Outcome::NoRoute.into(), Bytes::new()),
        ),
        packet("mesh-WhisperResult_busy", result(mesh::whisper_result::Outcome::Busy.into(), Bytes::new())),
    ]
}

/// A packet of a mesh, as it stands in a message of its channel.
fn packet(name: &'static str, kind: MeshKind) -> Fixture {
    message(name, &mesh::Packet { kind: Some(kind) })
}

/// A generated message by itself. It must also come back as it went.
fn message<M: Message + Default + PartialEq + Debug>(name: &'static str, value: &M) -> Fixture {
    let encoded = value.encode_to_vec();
    assert_eq!(&M::decode(encoded.as_slice()).unwrap(), value, "{name}");
    (name, encoded)
}

/// A control in its frame, with the length before it.
fn control(name: &'static str, kind: Kind) -> Fixture {
    let mut frame = BytesMut::new();
    put_control(&mut frame, &kind);
    (name, frame.to_vec())
}

/// A data frame with the length before it.
fn reconciliation() -> Vec<Fixture> {
    let symbols = reconcile::Batch {
        sums: vec![0x0123_4567_89ab_cdef, 1],
        checks: vec![0xdead_beef, 2],
        counts: vec![0, -65],
    };
    let says = |name, kind| message(name, &reconcile::Reconcile { kind: Some(kind) });
    vec![
        says(
            "reconcile-Open",
            ReconcileKind::Open(reconcile::Open {
                salt: Bytes::from_static(&[0x5a; 16]),
                count: 300,
                fingerprint: Bytes::from_static(&[0xf0; 16]),
                max_symbols: 32_768,
                symbols: Some(symbols.clone()),
            }),
        ),
        says("reconcile-More", ReconcileKind::More(reconcile::More { until: 300 })),
        says(
            "reconcile-Symbols",
            ReconcileKind::Symbols(reconcile::Symbols { from: 16, symbols: Some(symbols) }),
        ),
        says("reconcile-AskList", ReconcileKind::AskList(reconcile::AskList {})),
        says("reconcile-List", ReconcileKind::List(reconcile::List { ids: vec![1, 2], through: u64::MAX })),
        says(
            "reconcile-Answer",
            ReconcileKind::Answer(reconcile::Answer {
                want: vec![3],
                have: vec![4, 5],
                end: reconcile::answer::End::Complete.into(),
                common: Bytes::from_static(&[0xc0; 16]),
            }),
        ),
        says("reconcile-Stop", ReconcileKind::Stop(reconcile::Stop {})),
    ]
}

fn data(name: &'static str, channel: u32, class: u32, total: u64, payload: &[u8]) -> Fixture {
    let mut frame = BytesMut::new();
    put_data(&mut frame, DataHeader { channel, class, total }, payload);
    (name, frame.to_vec())
}

/// Anything else.
fn bytes(name: &'static str, encoded: Vec<u8>) -> Fixture {
    (name, encoded)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// 32 bytes a line.
fn to_hex(bytes: &[u8]) -> String {
    bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect()
}

#[test]
fn every_message_has_the_bytes_that_its_fixture_pins() {
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut wrong = BTreeMap::new();
    for (name, bytes) in fixtures() {
        let path = folder().join(format!("{name}.hex"));
        let (now, pinned) = (to_hex(&bytes), std::fs::read_to_string(&path).ok());
        if pinned.as_ref() == Some(&now) {
            continue;
        }
        if bless {
            std::fs::write(&path, &now).unwrap();
        } else {
            wrong.insert(name, (pinned.unwrap_or_else(|| "no fixture\n".to_owned()), now));
        }
    }
    if !wrong.is_empty() {
        let report: String = wrong
            .iter()
            .map(|(name, (pinned, now))| format!("{name}\npinned:\n{pinned}now:\n{now}"))
            .collect();
        panic!(
            "the bytes on the wire are not the pinned ones:\n{report}\nPeers that speak the pinned format will not \
             understand the new one. If that is meant, run\n    BLESS=1 cargo test -p peerage-wire --test fixtures\n\
             and commit the fixtures together with docs/wire.md."
        );
    }
}

#[test]
fn every_fixture_stands_for_a_value() {
    let names: BTreeSet<_> = fixtures().into_iter().map(|(name, _)| format!("{name}.hex")).collect();
    assert_eq!(names.len(), fixtures().len(), "two fixtures have one name");
    let files: BTreeSet<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let stale: Vec<_> = files.difference(&names).collect();
    assert!(stale.is_empty(), "no value has these fixtures: {stale:?}");
}

/// Adding a kind of control makes this match incomplete: pin the new kind, then add it here.
#[test]
fn every_kind_of_control_is_pinned() {
    let pinned: BTreeSet<_> = link()
        .into_iter()
        .filter(|(name, _)| name.starts_with("control-"))
        .map(|(_, bytes)| match peerage_wire::frame::Frames::new(&bytes).next().unwrap().unwrap() {
            peerage_wire::frame::FrameRef::Control(kind) => match kind {
                Kind::Accept(_) => "Accept",
                Kind::Refuse(_) => "Refuse",
                Kind::Credit(_) => "Credit",
                Kind::Ping(_) => "Ping",
                Kind::Pong(_) => "Pong",
                Kind::Open(_) => "Open",
                Kind::Opened(_) => "Opened",
                Kind::Closed(_) => "Closed",
                Kind::Interest(_) => "Interest",
                Kind::Goodbye(_) => "Goodbye",
                Kind::Reclaim(_) => "Reclaim",
                Kind::Returned(_) => "Returned",
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pinned.len(), 12, "{pinned:?}");
}

/// The same for the packets of a mesh.
#[test]
fn every_kind_of_mesh_packet_is_pinned() {
    let pinned: BTreeSet<_> = mesh()
        .into_iter()
        .filter(|(name, _)| name.starts_with("mesh-"))
        .map(|(_, bytes)| match mesh::Packet::decode(bytes.as_slice()).unwrap().kind.unwrap() {
            MeshKind::Join(_) => "Join",
            MeshKind::Neighbour(_) => "Neighbour",
            MeshKind::NeighbourReply(_) => "NeighbourReply",
            MeshKind::Disconnect(_) => "Disconnect",
            MeshKind::ForwardJoin(_) => "ForwardJoin",
            MeshKind::Shuffle(_) => "Shuffle",
            MeshKind::ShuffleReply(_) => "ShuffleReply",
            MeshKind::Payload(_) => "Payload",
            MeshKind::Announce(_) => "Announce",
            MeshKind::Want(_) => "Want",
            MeshKind::Prune(_) => "Prune",
            MeshKind::Summary(_) => "Summary",
            MeshKind::Whisper(_) => "Whisper",
            MeshKind::WhisperResult(_) => "WhisperResult",
            MeshKind::Probe(_) => "Probe",
            MeshKind::Compare(_) => "Compare",
            MeshKind::Reconcile(_) => "Reconcile",
            MeshKind::Spare(_) => "Spare",
        })
        .collect();
    assert_eq!(pinned.len(), 18, "{pinned:?}");
}

/// And for the messages of a reconciliation.
#[test]
fn every_kind_of_reconciliation_message_is_pinned() {
    let pinned: BTreeSet<_> = reconciliation()
        .into_iter()
        .map(|(_, bytes)| match reconcile::Reconcile::decode(bytes.as_slice()).unwrap().kind.unwrap() {
            ReconcileKind::Open(_) => "Open",
            ReconcileKind::More(_) => "More",
            ReconcileKind::Symbols(_) => "Symbols",
            ReconcileKind::AskList(_) => "AskList",
            ReconcileKind::List(_) => "List",
            ReconcileKind::Answer(_) => "Answer",
            ReconcileKind::Stop(_) => "Stop",
        })
        .collect();
    assert_eq!(pinned.len(), 7, "{pinned:?}");
}
