//! A peer that is who it says and does not keep to the protocol.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use peerage_link::LinkConfig;
use peerage_machine::{Class, Why};
use peerage_wire::frame::{DataHeader, put_control, put_data};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;
use proptest::prelude::*;

use crate::common::{Channel, Got, Stranger, body, dialer, hello_of, identity, instance, listener, with};

fn up() -> Stranger {
    Stranger::up(listener(&["x", "y"]), vec![instance("x"), instance("z")])
}

fn accept() -> Kind {
    Kind::Accept(proto::Accept::default())
}

fn open(channel: u32, name: &str) -> Kind {
    Kind::Open(proto::Open { channel, instance: Some((&instance(name)).into()) })
}

fn opened(channel: u32, mine: u32) -> Kind {
    Kind::Opened(proto::Opened { channel, mine })
}

fn credit(channel: u32, class: u32, bytes: u64) -> Kind {
    Kind::Credit(proto::Credit { channel, class, bytes })
}

fn closed(channel: u32) -> Kind {
    Kind::Closed(proto::Closed { channel, reason: 0, detail: String::new() })
}

fn accused(of: &str, does: impl FnOnce(&mut Stranger)) {
    let mut stranger = up();
    does(&mut stranger);
    stranger.assert_accused(of);
}

#[test]
fn frames_before_accept_are_a_fault() {
    type Early = fn(&mut Stranger);
    let early: [(&str, Early); 4] = [
        ("before both sides accepted", |it| it.data(0, 0, 0, b"early")),
        ("before Accept", |it| it.control(credit(0, 0, 1))),
        ("before Accept", |it| it.control(open(1, "y"))),
        ("before Accept", |it| it.control(Kind::Interest(proto::Interest { held: true }))),
    ];
    for (of, does) in early {
        let mut stranger = Stranger::greet(listener(&["x"]), &hello_of(&identity(9), vec![instance("x")]));
        does(&mut stranger);
        assert!(!stranger.end.heard.is_up());
        stranger.assert_accused(of);
    }
}

#[test]
fn a_second_answer_to_the_greeting_is_a_fault() {
    accused("second Accept", |it| it.control(accept()));
    accused("second Accept", |it| it.control(Kind::Refuse(proto::Refuse::default())));
}

#[test]
fn data_on_a_channel_that_was_never_opened_is_a_fault() {
    accused("channel 2 was never opened", |it| it.data(2, 0, 0, b"?"));
    accused("channel 4294967295 was never opened", |it| it.data(u32::MAX, 0, 0, b"?"));
}

#[test]
fn data_on_a_channel_that_was_refused_is_dropped_and_counted() {
    let mut stranger = up();
    stranger.data(1, 0, 0, b"?");
    assert_eq!((stranger.end.heard.messages(), stranger.end.heard.closed()), (vec![], None));
    assert_eq!(stranger.end.link.stats().late_fragments, 1);
}

#[test]
fn data_on_a_channel_that_its_sender_closed_is_dropped() {
    let mut stranger = up();
    stranger.control(closed(0));
    stranger.data(0, 0, 0, b"?");
    stranger.control(open(2, "x"));
    stranger.data(0, 0, 0, b"?");
    stranger.data(2, 0, 0, b"!");
    assert_eq!(stranger.end.heard.messages(), [(0, Bytes::from_static(b"!"))]);
    assert_eq!(stranger.end.link.stats().late_fragments, 2);
}

#[test]
fn data_beyond_the_credit_is_a_fault() {
    let mut stranger = up();
    // 15 fragments fit into 256 KiB with what each costs beside its payload; the host takes none.
    for _ in 0..15 {
        let mut plaintext = BytesMut::new();
        put_data(&mut plaintext, DataHeader { channel: 0, class: 0, total: 0 }, &[0; 16_384]);
        let record = stranger.seal(&plaintext);
        stranger.end.arrive(stranger.now, &record);
    }
    assert!(!stranger.end.link.is_closed());
    stranger.data(0, 0, 0, &[0; 16_384]);
    assert_eq!(stranger.end.heard.messages().len(), 15);
    stranger.assert_accused("with 15904 bytes of credit left");
}

#[test]
fn a_large_message_that_gets_no_room_cannot_have_more_than_the_window() {
    let config = |config: &mut LinkConfig| {
        config.max_message = 1 << 20;
        config.reassembly = 1 << 20;
    };
    let mut stranger = Stranger::up(with(listener(&["x", "y"]), config), vec![instance("x"), instance("y")]);
    stranger.data(0, 2, 1 << 20, &[0; 16_384]);
    stranger.data(1, 2, 1 << 20, &[0; 16_384]);
    for _ in 0..14 {
        stranger.data(1, 2, 0, &[0; 16_384]);
    }
    assert!(
        !stranger.controls().iter().any(|kind| matches!(kind, Kind::Credit(credit) if credit.channel == 1))
    );
    stranger.data(1, 2, 0, &[0; 16_384]);
    stranger.assert_accused("credit left");
}

#[test]
fn messages_longer_than_the_limit_are_a_fault_from_their_first_fragment() {
    accused("a message of 16777217 bytes, the limit is 16777216", |it| {
        it.data(0, 0, (16 << 20) + 1, &[0; 9])
    });
    accused("the limit is 16777216", |it| it.data(0, 2, u64::MAX, &[0; 9]));
    accused("the limit is 65536", |it| it.data(0, 1, 65_537, &[0; 9]));
}

#[test]
fn fragments_that_do_not_make_a_message_are_a_fault() {
    for class in 0..3 {
        accused("inside another", |it| {
            it.data(0, class, 100, &[0; 9]);
            it.data(0, class, 100, &[0; 9]);
        });
        accused("an empty fragment", |it| {
            it.data(0, class, 100, &[0; 9]);
            it.data(0, class, 0, &[]);
        });
        accused("a first fragment of 0 bytes", |it| it.data(0, class, 100, &[]));
        accused("a first fragment of 9 bytes of a message of 9", |it| it.data(0, class, 9, &[0; 9]));
        accused("fragments of 101 bytes for a message of 100", |it| {
            it.data(0, class, 100, &[0; 9]);
            it.data(0, class, 0, &[0; 92]);
        });
    }
    accused("class 3 does not exist", |it| it.data(0, 3, 0, b"?"));
    accused("class 4294967295 does not exist", |it| it.data(0, u32::MAX, 0, b"?"));
    accused("the limit is 16384", |it| it.data(0, 0, 0, &[0; 16_385]));
}

#[test]
fn credit_that_overflows_is_a_fault_and_credit_for_nothing_is_nothing() {
    for class in [0, 2] {
        accused("overflows", |it| it.control(credit(0, class, u64::MAX)));
        let mut stranger = up();
        for channel in [1, 2, u32::MAX] {
            stranger.control(credit(channel, class, u64::MAX));
        }
        stranger.control(credit(0, class, 0));
        assert_eq!(stranger.end.heard.closed(), None);
    }
}

#[test]
fn credit_for_a_class_that_needs_none_or_does_not_exist_is_a_fault() {
    for class in [1, 3, u32::MAX] {
        // Whether or not there is such a channel.
        for channel in [0, 1] {
            accused(&format!("credit for class {class}"), |it| it.control(credit(channel, class, 1)));
        }
    }
}

#[test]
fn credit_is_for_one_class_and_is_given_back_to_that_class() {
    let mut hello = hello_of(&identity(9), vec![instance("x")]);
    hello.limits.window = 0;
    let mut stranger = Stranger::greet(dialer(&["x"]), &hello);
    stranger.control(accept());
    stranger.read();
    for class in [0, 2] {
        stranger.got.clear();
        stranger.end.link.send(0, Class::Interactive, body(0, 100)).unwrap();
        stranger.end.link.send(0, Class::Bulk, body(2, 100)).unwrap();
        stranger.control(credit(0, class, 132));
        stranger.read();
        let header = DataHeader { channel: 0, class, total: 0 };
        assert_eq!(stranger.got, [Got::Data(header, body(class, 100))]);
        // A quarter of the window and more.
        (0..5).for_each(|_| stranger.data(0, class, 0, &[0; 16_384]));
        assert_eq!(stranger.controls(), [credit(0, class, 4 * 16_416)]);
    }
}

#[test]
fn a_number_that_was_used_cannot_be_opened() {
    accused("opened channel 1, the next is 2", |it| it.control(open(1, "y")));
    accused("opened channel 7, the next is 8", |it| {
        it.control(open(7, "w"));
        it.control(open(7, "y"));
    });
    accused("opened channel 4294967295", |it| {
        it.control(open(u32::MAX, "w"));
        it.control(open(u32::MAX, "y"));
    });
}

#[test]
fn an_instance_opens_once() {
    let mut stranger = up();
    stranger.control(open(2, "y"));
    stranger.control(open(3, "y"));
    stranger.control(open(4, "x"));
    assert_eq!(stranger.end.heard.channels().last(), Some(&Channel::Up(1)));
    let answers = stranger.controls();
    assert_eq!(answers[0], opened(2, 1));
    for (answer, number) in answers[1..].iter().zip([3, 4]) {
        match answer {
            Kind::Closed(closed) => {
                assert_eq!((closed.channel, closed.reason()), (number, proto::refusal::Reason::Limit))
            }
            other => panic!("{other:?}"),
        }
    }
    stranger.data(2, 0, 0, b"fits");
    assert_eq!(stranger.end.heard.messages(), [(1, Bytes::from_static(b"fits"))]);
}

#[test]
fn opened_that_pairs_what_does_not_meet_is_a_fault() {
    let what = "which does not meet it";
    // Theirs is "z"; was never offered; ours was never offered; ours is up with another; theirs is.
    accused(what, |it| it.control(opened(1, 1)));
    accused(what, |it| it.control(opened(1, 9)));
    accused(what, |it| it.control(opened(2, 1)));
    accused(what, |it| it.control(opened(0, 1)));
    accused(what, |it| it.control(opened(1, 0)));
    // Equal, and theirs is up with another of ours.
    let mut stranger = Stranger::up(listener(&["x", "x"]), vec![instance("x")]);
    stranger.control(opened(1, 0));
    stranger.assert_accused(what);
    let mut stranger = up();
    stranger.control(opened(0, 0));
    assert_eq!(stranger.end.heard.closed(), None);
}

#[test]
fn thousands_of_opens_by_a_peer_that_reads_cost_nothing_that_stays() {
    let mut stranger = up();
    for number in 2..5_000 {
        stranger.control(open(number, "unknown"));
        assert!(matches!(&stranger.controls()[..], [Kind::Closed(closed)] if closed.channel == number));
    }
    assert_eq!(stranger.end.heard.closed(), None);
    stranger.control(open(5_000, "y"));
    assert_eq!(stranger.controls(), [opened(5_000, 1)]);
}

#[test]
fn thousands_of_opens_by_a_peer_that_does_not_read_are_a_fault() {
    let mut stranger = up();
    let mut number = 2;
    while stranger.end.heard.closed().is_none() {
        stranger.control(open(number, "unknown"));
        number += 1;
        assert!(number < 2_000);
    }
    assert!(number > 1_000, "{number} opens at once are not many");
    stranger.assert_accused("answers unread");
}

/// What a link has to say after its peer said this ten thousand times, without reading.
fn said_after(does: impl Fn(&mut Stranger, u32)) -> usize {
    let mut stranger = up();
    for turn in 0..10_000 {
        does(&mut stranger, turn);
    }
    assert_eq!(stranger.end.heard.closed(), None);
    stranger.controls().len()
}

#[test]
fn floods_make_no_queue_grow() {
    let ping = |turn: u32| Kind::Ping(proto::Ping { nonce: u64::from(turn) });
    assert_eq!(said_after(|it, turn| it.control(ping(turn))), 8);
    let interest = |turn: u32| Kind::Interest(proto::Interest { held: turn.is_multiple_of(2) });
    assert_eq!(said_after(|it, turn| it.control(interest(turn))), 0);
    assert_eq!(said_after(|it, turn| it.control(Kind::Pong(proto::Pong { nonce: u64::from(turn) }))), 0);
    assert_eq!(said_after(|it, turn| it.control(credit(turn, 0, 1))), 0);
    assert_eq!(said_after(|it, _| it.control(closed(1))), 0);
    // 80 MB in all: credit is given again and again, in one frame that waits.
    assert_eq!(said_after(|it, _| it.data(0, 0, 0, &[0; 8_000])), 1);
}

#[test]
fn the_newest_pings_are_answered() {
    let mut stranger = up();
    for nonce in 0..100 {
        stranger.control(Kind::Ping(proto::Ping { nonce }));
    }
    let answers: Vec<Kind> = (92..100).map(|nonce| Kind::Pong(proto::Pong { nonce })).collect();
    assert_eq!(stranger.controls(), answers);
}

#[test]
fn a_host_that_changes_its_mind_makes_no_queue_grow() {
    let mut stranger = up();
    for turn in 0..1_001 {
        stranger.end.link.set_held(stranger.now, turn % 2 == 0);
    }
    assert_eq!(stranger.controls(), [Kind::Interest(proto::Interest { held: true })]);
}

#[test]
fn one_read_full_of_closes_does_not_make_a_mountain_of_events() {
    let mut stranger = up();
    let mut bytes = BytesMut::new();
    for _ in 0..100 {
        let mut plaintext = BytesMut::new();
        (0..5_000).for_each(|_| put_control(&mut plaintext, &closed(1)));
        bytes.unsplit(stranger.seal(&plaintext));
    }
    stranger.end.arrive(stranger.now, &bytes);
    let mut waiting = 0;
    while stranger.end.link.poll_event().is_some() {
        waiting += 1;
    }
    assert!(waiting <= 6_024, "{waiting} events");
}

#[test]
fn credit_of_an_earlier_opening_does_not_come_back_in_a_later_one() {
    let mut stranger = up();
    let frame = |channel: u32| {
        let mut plaintext = BytesMut::new();
        put_data(&mut plaintext, DataHeader { channel, class: 0, total: 0 }, &[0; 16_000]);
        plaintext
    };
    for _ in 0..10 {
        let record = stranger.seal(&frame(0));
        stranger.end.arrive(stranger.now, &record);
    }
    // Closed and opened again before the host looks; then it takes what came before.
    let mut plaintext = BytesMut::new();
    put_control(&mut plaintext, &closed(0));
    put_control(&mut plaintext, &open(2, "x"));
    stranger.plaintext(&plaintext);
    assert_eq!(stranger.end.heard.messages().len(), 10);
    let controls = stranger.controls();
    assert!(!controls.iter().any(|kind| matches!(kind, Kind::Credit(_))), "{controls:?}");
    assert_eq!(stranger.end.link.held_bytes(), 0);
}

#[test]
fn unknown_controls_are_of_no_consequence() {
    let mut stranger = up();
    // Field 15, a control, whose field 99 is empty.
    stranger.plaintext(&[5, 0x7a, 3, 0x9a, 6, 0]);
    assert_eq!(stranger.end.heard.closed(), None);
    stranger.data(0, 0, 0, b"on");
    assert_eq!(stranger.end.heard.messages().len(), 1);
}

#[test]
fn a_peer_without_credit_to_give_stops_nothing_but_what_needs_it() {
    let mut hello = hello_of(&identity(9), vec![instance("x")]);
    hello.limits.window = 0;
    hello.limits.max_message = u64::MAX;
    let mut stranger = Stranger::greet(dialer(&["x"]), &hello);
    stranger.control(accept());
    stranger.read();
    stranger.got.clear();
    for class in [Class::Interactive, Class::Control, Class::Bulk] {
        stranger.end.link.send(0, class, body(1, 100)).unwrap();
    }
    stranger.read();
    let header = DataHeader { channel: 0, class: 1, total: 0 };
    assert_eq!(std::mem::take(&mut stranger.got), [Got::Data(header, body(1, 100))]);
    assert!(!stranger.end.link.has_work());
    stranger.control(credit(0, 0, 132));
    stranger.read();
    assert_eq!(stranger.got.len(), 1);
}

fn random_frame() -> impl Strategy<Value = Vec<u8>> {
    let channel = prop_oneof![4 => 0_u32..4, 1 => any::<u32>()];
    let number = prop_oneof![2 => 0_u64..40_000, 1 => any::<u64>()];
    let payload = prop_oneof![3 => 0_usize..600, 1 => 16_000_usize..16_400];
    let name = prop_oneof![Just("x"), Just("y"), Just("z"), Just("w")];
    let data = (channel.clone(), 0_u32..4, prop_oneof![3 => Just(0), 1 => number.clone()], payload).prop_map(
        |(channel, class, total, payload)| {
            let mut frame = BytesMut::new();
            put_data(&mut frame, DataHeader { channel, class, total }, &vec![7; payload]);
            frame.to_vec()
        },
    );
    let control = prop_oneof![
        (channel.clone(), prop_oneof![4 => Just(0_u32), 4 => Just(2), 1 => 0_u32..4], number.clone())
            .prop_map(|(channel, class, bytes)| credit(channel, class, bytes)),
        (channel.clone(), name).prop_map(|(channel, name)| open(channel, name)),
        (channel.clone(), channel.clone()).prop_map(|(channel, mine)| opened(channel, mine)),
        channel.clone().prop_map(closed),
        number.clone().prop_map(|nonce| Kind::Ping(proto::Ping { nonce })),
        number.clone().prop_map(|nonce| Kind::Pong(proto::Pong { nonce })),
        (channel.clone(), 0_u32..3, number.clone())
            .prop_map(|(channel, class, bytes)| Kind::Reclaim(proto::Reclaim { channel, class, bytes })),
        (channel.clone(), 0_u32..3, number)
            .prop_map(|(channel, class, bytes)| Kind::Returned(proto::Returned { channel, class, bytes })),
        any::<bool>().prop_map(|held| Kind::Interest(proto::Interest { held })),
    ];
    let control = control.prop_map(|kind| {
        let mut frame = BytesMut::new();
        put_control(&mut frame, &kind);
        frame.to_vec()
    });
    prop_oneof![3 => data, 2 => control]
}

/// What the link's own host does meanwhile.
#[derive(Clone, Debug)]
enum Own {
    Nothing,
    Poll,
    Open,
    Close(u32),
    Send(u32, usize),
}

fn own() -> impl Strategy<Value = Own> {
    prop_oneof![
        6 => Just(Own::Nothing),
        2 => Just(Own::Poll),
        1 => Just(Own::Open),
        1 => (0_u32..4).prop_map(Own::Close),
        1 => (0_u32..4, 0_usize..100_000).prop_map(|(channel, length)| Own::Send(channel, length)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_frames_end_in_a_fault_or_nothing_within_the_bounds(
        turns in prop::collection::vec((prop::collection::vec(random_frame(), 1..4), own()), 1..60),
    ) {
        let setup = with(listener(&["x", "y"]), |config| {
            config.max_message = 40_000;
            config.reassembly = 40_000;
            config.window = 32 << 10;
            config.max_channels = 3;
        });
        let bound = Arc::clone(&setup.config).worst_case_inbound_bytes() + 40_000;
        let mut stranger = Stranger::up(setup, vec![instance("x"), instance("z")]);
        for (frames, own) in turns {
            let record = stranger.seal(&frames.concat());
            stranger.end.arrive(stranger.now, &record);
            match own {
                Own::Nothing => {}
                Own::Poll => stranger.end.settle(stranger.now),
                Own::Open => { stranger.end.link.open(instance("w")); }
                Own::Close(channel) => stranger.end.link.close_channel(stranger.now, channel, "done"),
                Own::Send(channel, length) => drop(stranger.end.link.send(channel, Class::Bulk, body(1, length))),
            }
            prop_assert!(stranger.end.link.held_bytes() <= bound);
        }
        stranger.end.settle(stranger.now);
        stranger.read();
        match stranger.end.heard.closed() {
            None | Some(Why::Fault { .. }) => {}
            Some(other) => prop_assert!(false, "{}", other),
        }
        if stranger.end.heard.closed().is_some() {
            prop_assert_eq!(stranger.end.link.held_bytes(), 0);
        }
    }
}
