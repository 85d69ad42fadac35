//! The frame codec against the generated code, and against its limits.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use peerage_wire::frame::{
    DataHeader, FrameError, FrameRef, Frames, control_frame_len, data_frame_len, put_control, put_data,
    varint_len, within_limits,
};
use peerage_wire::hello::InstanceError;
use peerage_wire::limits::*;
use peerage_wire::proto::link::v1::{self as proto, control::Kind};
use proptest::prelude::*;
use prost::Message;

fn only(plaintext: &[u8]) -> Result<FrameRef<'_>, FrameError> {
    let mut frames = Frames::new(plaintext);
    let frame = frames.next().unwrap();
    assert!(frames.next().is_none());
    frame
}

/// A frame as prost would send it.
fn by_prost(frame: &proto::Frame) -> Vec<u8> {
    frame.encode_length_delimited_to_vec()
}

fn around(frame: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    prost::encoding::encode_varint(frame.len() as u64, &mut whole);
    whole.extend_from_slice(frame);
    whole
}

fn number() -> impl Strategy<Value = u64> {
    // As likely short as long.
    (0_u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift)
}

fn header() -> impl Strategy<Value = DataHeader> {
    (number(), number(), number()).prop_map(|(channel, class, total)| DataHeader {
        channel: channel as u32,
        class: class as u32,
        total,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_data_frame_has_the_bytes_that_prost_gives_it(
        header in header(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut ours = BytesMut::from(&b"before"[..]);
        put_data(&mut ours, header, &payload);
        let ours = ours.split_off(6);
        let DataHeader { channel, class, total } = header;
        let message = proto::Frame { channel, class, total, payload: payload.clone().into(), control: None };
        prop_assert_eq!(&ours[..], &by_prost(&message)[..]);
        prop_assert_eq!(ours.len(), data_frame_len(header, payload.len()));
        prop_assert_eq!(only(&ours), Ok(FrameRef::Data { header, payload: &payload }));
    }

    #[test]
    fn a_varint_is_as_long_as_prost_says(value in number()) {
        prop_assert_eq!(varint_len(value), prost::encoding::encoded_len_varint(value));
    }

    /// Fields in any order, several times, unknown ones between: whatever prost makes of the bytes, so do we.
    #[test]
    fn any_bytes_are_the_same_frame_to_us_and_to_prost(
        fields in proptest::collection::vec(field(), 0..8),
        cut in any::<prop::sample::Index>(),
        change in proptest::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut frame: Vec<u8> = fields.concat();
        if let Some((at, byte)) = change && !frame.is_empty() {
            let at = at.index(frame.len());
            frame[at] = byte;
            frame.truncate(cut.index(2 * frame.len()).max(at + 1));
        }
        agree(&frame)?;
    }

    #[test]
    fn random_bytes_are_the_same_frame_to_us_and_to_prost(
        frame in proptest::collection::vec(any::<u8>(), 0..40)
    ) {
        agree(&frame)?;
    }

    #[test]
    fn random_plaintexts_are_frames_or_an_error(plaintext in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut frames = Frames::new(&plaintext);
        let count = frames.by_ref().count();
        prop_assert!(count <= plaintext.len());
        prop_assert!(frames.next().is_none());
    }

    #[test]
    fn frames_come_in_the_order_in_which_they_were_put(
        frames in proptest::collection::vec((header(), proptest::collection::vec(any::<u8>(), 0..50)), 0..20)
    ) {
        let mut plaintext = BytesMut::new();
        for (header, payload) in &frames {
            put_data(&mut plaintext, *header, payload);
        }
        let back: Vec<_> = Frames::new(&plaintext).collect::<Result<_, _>>().unwrap();
        let expected: Vec<_> =
            frames.iter().map(|(header, payload)| FrameRef::Data { header: *header, payload }).collect();
        prop_assert_eq!(back, expected);
    }
}

/// One field, known or not, as it may stand in a frame.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let varint = |value: u64| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(value, &mut bytes);
        bytes
    };
    let key = move |tag: u64, wire_type: u64| varint(tag << 3 | wire_type);
    prop_oneof![
        4 => (1_u64..5, number()).prop_map(move |(tag, value)| [key(tag, 0), varint(value)].concat()),
        3 => (1_u64..8, proptest::collection::vec(any::<u8>(), 0..20)).prop_map(move |(tag, bytes)| [
            key(tag, 2),
            varint(bytes.len() as u64),
            bytes
        ]
        .concat()),
        1 => (5_u64..40, any::<[u8; 8]>()).prop_map(move |(tag, bytes)| [key(tag, 1), bytes.to_vec()].concat()),
        1 => (5_u64..40, any::<[u8; 4]>()).prop_map(move |(tag, bytes)| [key(tag, 5), bytes.to_vec()].concat()),
        1 => (5_u64..40, number()).prop_map(move |(tag, value)| [
            key(tag, 3),
            key(7, 3),
            key(1, 0),
            varint(value),
            key(7, 4),
            key(tag, 4)
        ]
        .concat()),
        1 => (any::<u64>(), any::<bool>()).prop_map(move |(nonce, held)| {
            let kind = if held { Kind::Interest(proto::Interest { held }) } else { Kind::Ping(proto::Ping { nonce }) };
            proto::Frame { control: Some(proto::Control { kind: Some(kind) }), ..Default::default() }.encode_to_vec()
        }),
    ]
}

/// Whatever prost makes of these bytes, we make of them: the same frame, or an error.
fn agree(frame: &[u8]) -> Result<(), TestCaseError> {
    let whole = around(frame);
    let ours = only(&whole);
    match (proto::Frame::decode(frame), ours) {
        (Err(_), ours) => prop_assert!(ours.is_err(), "prost refuses what we take: {:?}", ours),
        (Ok(theirs), Ok(FrameRef::Data { header, payload })) => {
            let DataHeader { channel, class, total } = header;
            let payload = Bytes::copy_from_slice(payload);
            prop_assert_eq!(theirs, proto::Frame { channel, class, total, payload, control: None });
        }
        (Ok(theirs), Ok(FrameRef::Control(kind))) => {
            prop_assert_eq!(theirs.control, Some(proto::Control { kind: Some(kind) }));
        }
        (Ok(theirs), Ok(FrameRef::UnknownControl)) => {
            prop_assert_eq!(theirs.control, Some(proto::Control { kind: None }));
        }
        // The grammar takes both in one frame; its comment does not.
        (Ok(theirs), Err(FrameError::Mixed)) => {
            let alone = proto::Frame { control: theirs.control.clone(), ..Default::default() };
            let mixed = theirs.control.is_some() && theirs != alone;
            prop_assert!(mixed, "{:?}", theirs);
        }
        (Ok(theirs), Err(FrameError::NoInstance { .. } | FrameError::Instance(_))) => {
            let opens = matches!(theirs.control, Some(proto::Control { kind: Some(Kind::Open(_)) }));
            prop_assert!(opens, "{:?}", theirs);
        }
        (Ok(theirs), Err(error)) => prop_assert!(false, "we refuse {:?}: {}", theirs, error),
    }
    Ok(())
}

#[test]
fn a_control_frame_has_the_bytes_that_prost_gives_it_and_comes_back() {
    for kind in kinds() {
        let mut ours = BytesMut::new();
        put_control(&mut ours, &kind);
        let control = Some(proto::Control { kind: Some(kind.clone()) });
        assert_eq!(ours, by_prost(&proto::Frame { control, ..Default::default() }));
        assert_eq!(ours.len(), control_frame_len(&kind));
        assert!(matches!(within_limits(&kind), Cow::Borrowed(_)));
        assert_eq!(only(&ours), Ok(FrameRef::Control(kind)));
    }
}

fn instance() -> proto::Instance {
    proto::Instance {
        protocol: "mesh".to_owned(),
        name: "lobby".to_owned(),
        version: 1,
        parameters: Bytes::new(),
    }
}

fn refusal(detail: &str) -> proto::Refusal {
    proto::Refusal { channel: 1, reason: 1, detail: detail.to_owned() }
}

fn kinds() -> Vec<Kind> {
    vec![
        Kind::Accept(proto::Accept::default()),
        Kind::Accept(proto::Accept { refused: vec![refusal("no"); MAX_INSTANCES], ..Default::default() }),
        Kind::Refuse(proto::Refuse { code: 99, detail: "why".to_owned(), refused: vec![refusal("")] }),
        Kind::Credit(proto::Credit { channel: 1, class: u32::MAX, bytes: u64::MAX }),
        Kind::Ping(proto::Ping { nonce: 0 }),
        Kind::Pong(proto::Pong { nonce: 7 }),
        Kind::Open(proto::Open { channel: 4, instance: Some(instance()) }),
        Kind::Opened(proto::Opened { channel: 4, mine: 5 }),
        Kind::Closed(proto::Closed { channel: 4, reason: -1, detail: "d".repeat(MAX_DETAIL) }),
        Kind::Interest(proto::Interest { held: true }),
        Kind::Goodbye(proto::Goodbye { code: 1, detail: String::new() }),
    ]
}

#[test]
fn every_prefix_and_every_changed_byte_of_a_control_is_a_frame_or_an_error() {
    for kind in kinds() {
        let mut whole = BytesMut::new();
        put_control(&mut whole, &kind);
        let step = 1 + whole.len() / 500;
        for length in (1..whole.len()).step_by(step) {
            assert!(only(&whole[..length]).is_err(), "{length} bytes of {kind:?}");
        }
        for at in (0..whole.len()).step_by(step) {
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                Frames::new(&changed).for_each(drop);
            }
        }
    }
}

#[test]
fn after_an_error_there_are_no_more_frames() {
    let mut plaintext = BytesMut::new();
    put_data(&mut plaintext, DataHeader::default(), b"good");
    plaintext.extend_from_slice(&[2, 0xff, 0xff]);
    put_data(&mut plaintext, DataHeader::default(), b"good");
    let frames: Vec<_> = Frames::new(&plaintext).collect();
    assert_eq!(frames.len(), 2);
    assert!(frames[0].is_ok() && frames[1].is_err());
}

#[test]
fn a_huge_announced_length_is_refused_at_once() {
    for length in [MAX_FRAME as u64 + 1, u64::from(u32::MAX), u64::MAX] {
        let mut plaintext = Vec::new();
        prost::encoding::encode_varint(length, &mut plaintext);
        assert_eq!(only(&plaintext), Err(FrameError::Frame { length, limit: MAX_FRAME }));
        let mut frame = vec![0x22];
        prost::encoding::encode_varint(length, &mut frame);
        let error = FrameError::Truncated { needed: length, left: 0 };
        assert_eq!(only(&around(&frame)), Err(error));
    }
    assert_eq!(only(&[0xff; 11]), Err(FrameError::Varint));
    assert_eq!(only(&[5, 8]), Err(FrameError::Truncated { needed: 5, left: 1 }));
}

#[test]
fn a_fragment_may_be_as_long_as_the_limit_and_no_longer() {
    let header = DataHeader { channel: u32::MAX, class: u32::MAX, total: u64::MAX };
    let payload = vec![1; MAX_FRAGMENT + 1];
    let mut plaintext = BytesMut::new();
    put_data(&mut plaintext, header, &payload[1..]);
    assert_eq!(only(&plaintext), Ok(FrameRef::Data { header, payload: &payload[1..] }));
    plaintext.clear();
    put_data(&mut plaintext, header, &payload);
    let error = FrameError::Fragment { length: MAX_FRAGMENT + 1, limit: MAX_FRAGMENT };
    assert_eq!(only(&plaintext), Err(error.clone()));
    assert_eq!(error.to_string(), "the fragment is 16385 bytes, the limit is 16384");
}

#[test]
fn three_full_fragments_fit_into_a_record() {
    let header = DataHeader { channel: u32::MAX, class: 2, total: u64::MAX };
    assert!(3 * data_frame_len(header, MAX_FRAGMENT) <= MAX_PLAINTEXT);
}

/// A control as a sender would send it that minds no limits.
fn careless(kind: Kind) -> Vec<u8> {
    by_prost(&proto::Frame { control: Some(proto::Control { kind: Some(kind) }), ..Default::default() })
}

#[test]
fn what_exceeds_a_controls_limits_is_refused_with_the_numbers() {
    let long = "d".repeat(MAX_DETAIL + 1);
    let named = |protocol: String, name: String, parameters: usize| {
        let instance = proto::Instance { protocol, name, version: 1, parameters: vec![0; parameters].into() };
        Kind::Open(proto::Open { channel: 4, instance: Some(instance) })
    };
    let detail = FrameError::Detail { length: MAX_DETAIL + 1, limit: MAX_DETAIL };
    let cases = [
        (Kind::Goodbye(proto::Goodbye { code: 1, detail: long.clone() }), detail.clone()),
        (Kind::Closed(proto::Closed { channel: 1, reason: 1, detail: long.clone() }), detail.clone()),
        (Kind::Accept(proto::Accept { refused: vec![refusal(&long)], ..Default::default() }), detail.clone()),
        (Kind::Refuse(proto::Refuse { code: 1, detail: long.clone(), refused: vec![] }), detail.clone()),
        (
            Kind::Refuse(proto::Refuse { code: 1, detail: String::new(), refused: vec![refusal(&long)] }),
            detail,
        ),
        (
            Kind::Accept(proto::Accept {
                refused: vec![proto::Refusal::default(); MAX_INSTANCES + 1],
                ..Default::default()
            }),
            FrameError::Refusals { count: MAX_INSTANCES + 1, limit: MAX_INSTANCES },
        ),
        (
            Kind::Refuse(proto::Refuse {
                refused: vec![proto::Refusal::default(); 5_000],
                ..Default::default()
            }),
            FrameError::Refusals { count: 5_000, limit: MAX_INSTANCES },
        ),
        (Kind::Open(proto::Open { channel: 4, instance: None }), FrameError::NoInstance { channel: 4 }),
        (
            named(String::new(), String::new(), 0),
            InstanceError::Protocol { length: 0, limit: MAX_PROTOCOL }.into(),
        ),
        (
            named("p".repeat(33), String::new(), 0),
            InstanceError::Protocol { length: 33, limit: MAX_PROTOCOL }.into(),
        ),
        (
            named("p".to_owned(), "n".repeat(129), 0),
            InstanceError::Name { length: 129, limit: MAX_NAME }.into(),
        ),
        (
            named("p".to_owned(), String::new(), 1_025),
            InstanceError::Parameters { length: 1_025, limit: MAX_PARAMETERS }.into(),
        ),
    ];
    for (kind, error) in cases {
        assert_eq!(only(&careless(kind)), Err(error));
    }
}

/// 16,384 bytes and no more, though the frame around it has room for 16,640.
#[test]
fn a_control_longer_than_its_limit_is_refused() {
    let detail = "d".repeat(MAX_CONTROL - 7);
    let kind = Kind::Goodbye(proto::Goodbye { code: 1, detail });
    let plaintext = careless(kind.clone());
    let length = kind.encoded_len();
    assert!(length > MAX_CONTROL && plaintext.len() < MAX_FRAME);
    assert_eq!(only(&plaintext), Err(FrameError::Control { length, limit: MAX_CONTROL }));
}

#[test]
fn many_empty_refusals_in_one_control_are_counted_wherever_they_hide() {
    // The field of the accept again and again: protobuf merges them into one.
    let accept = proto::Accept { refused: vec![proto::Refusal::default(); 100], ..Default::default() };
    let control = proto::Control { kind: Some(Kind::Accept(accept)) };
    let once = proto::Frame { control: Some(control.clone()), ..Default::default() }.encode_to_vec();
    let error = Err(FrameError::Refusals { count: 300, limit: MAX_INSTANCES });
    assert_eq!(only(&around(&once.repeat(3))), error);
    let inside = control.encode_to_vec().repeat(3);
    let mut frame = vec![0x7a];
    prost::encoding::encode_varint(inside.len() as u64, &mut frame);
    frame.extend_from_slice(&inside);
    assert_eq!(only(&around(&frame)), error);
}

#[test]
fn a_control_of_tomorrow_is_seen_and_is_no_error() {
    // Field 99 of Control, empty.
    assert_eq!(only(&[5, 0x7a, 3, 0x9a, 0x06, 0]), Ok(FrameRef::UnknownControl));
    assert_eq!(only(&[2, 0x7a, 0]), Ok(FrameRef::UnknownControl));
}

#[test]
fn a_control_with_data_beside_it_is_refused() {
    let control = Some(proto::Control { kind: Some(Kind::Ping(proto::Ping { nonce: 1 })) });
    for frame in [
        proto::Frame { channel: 1, control: control.clone(), ..Default::default() },
        proto::Frame { class: 1, control: control.clone(), ..Default::default() },
        proto::Frame { total: 1, control: control.clone(), ..Default::default() },
        proto::Frame { payload: Bytes::from_static(b"x"), control, ..Default::default() },
    ] {
        assert_eq!(only(&by_prost(&frame)), Err(FrameError::Mixed));
    }
}

#[test]
fn texts_are_cut_to_what_the_other_end_takes() {
    let long = "ü".repeat(MAX_DETAIL);
    let kind = Kind::Goodbye(proto::Goodbye { code: 1, detail: "x".to_owned() + &long });
    // 255 bytes: the next letter has two.
    let cut = Kind::Goodbye(proto::Goodbye { code: 1, detail: "x".to_owned() + &"ü".repeat(127) });
    assert_eq!(sent(&kind), cut);

    let one = Kind::Accept(proto::Accept { refused: vec![refusal(&long)], ..Default::default() });
    assert_eq!(
        sent(&one),
        Kind::Accept(proto::Accept { refused: vec![refusal(&"ü".repeat(128))], ..Default::default() })
    );
    let all =
        Kind::Accept(proto::Accept { refused: vec![refusal(&long); MAX_INSTANCES], ..Default::default() });
    let bare =
        Kind::Accept(proto::Accept { refused: vec![refusal(""); MAX_INSTANCES], ..Default::default() });
    assert_eq!(sent(&all), bare, "there is no room for the texts");
    // Each text is in order, all together are too much.
    let many = vec![refusal(&"d".repeat(100)); MAX_INSTANCES];
    assert_eq!(sent(&Kind::Accept(proto::Accept { refused: many, ..Default::default() })), bare);

    let refuse =
        Kind::Refuse(proto::Refuse { code: 6, detail: long.clone(), refused: vec![refusal(&long); 200] });
    let Kind::Refuse(told) = sent(&refuse) else { panic!("it is a refusal still") };
    assert_eq!((told.code, told.detail, told.refused.len()), (6, "ü".repeat(128), 200));
    let closed = Kind::Closed(proto::Closed { channel: 1, reason: 1, detail: long });
    let cut = Kind::Closed(proto::Closed { channel: 1, reason: 1, detail: "ü".repeat(128) });
    assert_eq!(sent(&closed), cut);
}

/// What arrives of a control, which must be as long as announced.
fn sent(kind: &Kind) -> Kind {
    let mut plaintext = BytesMut::new();
    put_control(&mut plaintext, kind);
    assert_eq!(plaintext.len(), control_frame_len(kind));
    match only(&plaintext) {
        Ok(FrameRef::Control(kind)) => kind,
        other => panic!("{other:?}"),
    }
}

/// The corners that random bytes seldom reach: 64 bits and one more, tag 0, wire types that do not exist, tags too large.
#[test]
fn the_edges_of_the_encoding_are_the_same_to_us_and_to_prost() {
    let mut frames = Vec::new();
    for key in [0x08, 0x18, 0x28] {
        for length in 8..11 {
            for last in [0x00, 0x01, 0x02, 0x7f, 0x80] {
                frames.push([&[key][..], &vec![0xff; length], &[last]].concat());
            }
        }
    }
    for key in 0..=u8::MAX {
        // Enough for whatever the key announces; the last is a group's end.
        frames.push(vec![key, 0, 0, 0, 0, 0, 0, 0, 0]);
        frames.push(vec![key, (key & 0xf8) | 4]);
    }
    for top in [0x00, 0x0f, 0x10, 0x1f, 0x7f] {
        frames.push(vec![0xf8, 0xff, 0xff, 0xff, top, 0]);
        // The field's number in two bytes that one would do for.
        frames.push(vec![0x88, 0x80, 0x80, 0x80, top, 5]);
    }
    let taken = frames.iter().filter(|frame| only(&around(frame)).is_ok()).count();
    assert!(taken > 40 && taken < frames.len() - 40, "{taken} of {}", frames.len());
    for frame in frames {
        agree(&frame).unwrap_or_else(|error| panic!("{frame:02x?}: {error}"));
    }
}

#[test]
fn groups_deeper_than_a_hundred_are_refused_as_prost_does() {
    for depth in [99_usize, 100, 101, 200] {
        let frame = [vec![0x33; depth], vec![0x34; depth]].concat();
        assert_eq!(only(&around(&frame)).is_ok(), proto::Frame::decode(&frame[..]).is_ok(), "{depth}");
    }
}
