//! Messages arrive whole, once and in order, whatever the sizes, pieces and times.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use peerage_link::LinkConfig;
use peerage_machine::{Class, Why};
use proptest::prelude::*;

use crate::common::{CLASSES, End, Pair, body, dialer, listener, with};

const NAMES: [&str; 3] = ["x", "y", "z"];

#[derive(Clone, Debug)]
enum Op {
    /// By the dialer or not; the channel; the class; the length.
    Send(bool, u32, usize, usize),
    Transmit(bool, usize),
    Cross(usize, usize),
    Poll(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let length = prop_oneof![
        4 => 0_usize..2_000,
        2 => 2_000_usize..40_000,
        1 => 40_000_usize..200 << 10,
        1 => Just(16_384_usize),
        1 => Just(16_385_usize),
    ];
    prop_oneof![
        3 => (any::<bool>(), 0_u32..3, 0_usize..3, length)
            .prop_map(|(by_a, channel, class, length)| Op::Send(by_a, channel, class, length)),
        2 => (any::<bool>(), 1_usize..200_000).prop_map(|(by_a, budget)| Op::Transmit(by_a, budget)),
        2 => (0_usize..100_000, 0_usize..100_000).prop_map(|(of_a, of_b)| Op::Cross(of_a, of_b)),
        1 => any::<bool>().prop_map(Op::Poll),
    ]
}

/// What was sent and has not arrived, by channel and class; and all that was ever sent, in bytes.
#[derive(Default)]
struct Sent {
    waiting: BTreeMap<(u32, usize), VecDeque<Bytes>>,
    bytes: BTreeMap<(u32, usize), u64>,
    count: u32,
}

impl Sent {
    fn send(&mut self, end: &mut End, channel: u32, class: usize, length: usize) {
        // Messages too short to have a number of their own stay in one class, so that each is known by its bytes.
        let (class, length) = match (class, length) {
            (_, 0..5) => (0, length),
            (1, _) => (1, length.min(60 << 10)),
            other => other,
        };
        self.count += 1;
        let message = body(self.count, length);
        match end.link.send(channel, CLASSES[class], message.clone()) {
            Ok(()) => {
                self.waiting.entry((channel, class)).or_default().push_back(message);
                *self.bytes.entry((channel, class)).or_default() += length as u64;
            }
            // The queue of control messages is bounded, and says so.
            Err(Why::Full { queued, limit }) => {
                assert_eq!(class, 1);
                assert!(queued + length as u64 > limit, "{queued} of {limit}, and {length}");
            }
            Err(why) => panic!("{why}"),
        }
    }

    fn check(&mut self, sender: &End, receiver: &End) {
        for (channel, message) in receiver.heard.messages() {
            let mut fronts = (0..3).filter(|class| {
                self.waiting.get(&(channel, *class)).is_some_and(|waiting| waiting.front() == Some(&message))
            });
            let class = fronts.next().unwrap_or_else(|| {
                panic!("{} bytes on channel {channel} are not what comes next", message.len())
            });
            self.waiting.get_mut(&(channel, class)).unwrap().pop_front();
        }
        assert!(self.waiting.values().all(VecDeque::is_empty), "something did not arrive");
        for ((channel, class), bytes) in &self.bytes {
            assert_eq!(sender.heard.room(*channel, CLASSES[*class]), *bytes, "room of {channel} {class}");
        }
    }
}

fn narrow(config: &mut LinkConfig) {
    config.window = 32 << 10;
    config.max_message = 256 << 10;
    config.reassembly = 256 << 10;
}

fn play(ops: &[Op], config: impl Fn(&mut LinkConfig)) {
    let mut pair = Pair::up(with(dialer(&NAMES), &config), with(listener(&NAMES), &config));
    let (mut by_a, mut by_b) = (Sent::default(), Sent::default());
    for op in ops {
        match *op {
            Op::Send(true, channel, class, length) => by_a.send(&mut pair.a, channel, class, length),
            Op::Send(false, channel, class, length) => by_b.send(&mut pair.b, channel, class, length),
            Op::Transmit(true, budget) => pair.a.flush(budget),
            Op::Transmit(false, budget) => pair.b.flush(budget),
            Op::Cross(of_a, of_b) => pair.cross(of_a, of_b),
            Op::Poll(true) => pair.a.poll(),
            Op::Poll(false) => pair.b.poll(),
        }
        for end in [&pair.a, &pair.b] {
            assert!(end.link.held_bytes() <= pair_bound(&config), "{}", end.link.held_bytes());
        }
    }
    pair.run();
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
    assert_eq!((pair.a.link.queued(), pair.b.link.queued()), ((0, 0), (0, 0)));
    by_a.check(&pair.a, &pair.b);
    by_b.check(&pair.b, &pair.a);
    assert_eq!((pair.a.link.held_bytes(), pair.b.link.held_bytes()), (0, 0));
    assert_eq!(pair.b.link.stats().messages_received, pair.a.link.stats().messages_sent);
}

fn pair_bound(config: &impl Fn(&mut LinkConfig)) -> u64 {
    let mut made = LinkConfig::default();
    config(&mut made);
    made.worst_case_inbound_bytes() + made.reassembly
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_message_arrives_once_whole_and_in_order(ops in prop::collection::vec(op(), 1..80)) {
        play(&ops, |_| {});
    }

    #[test]
    fn narrow_windows_and_one_message_of_room_stop_nothing(ops in prop::collection::vec(op(), 1..80)) {
        play(&ops, narrow);
    }
}

fn large(config: &mut LinkConfig) {
    config.max_message = 64 << 20;
    config.reassembly = 64 << 20;
}

#[test]
fn a_message_of_64_mebibytes_arrives_where_it_is_allowed() {
    let mut pair = Pair::up(dialer(&["x"]), with(listener(&["x"]), large));
    let message = Bytes::from(vec![0x5a; 64 << 20]);
    pair.a.link.send(0, Class::Bulk, message.clone()).unwrap();
    pair.run();
    let arrived = pair.b.heard.messages();
    assert!(arrived.len() == 1 && arrived[0].1 == message);
    assert_eq!(pair.a.heard.room(0, Class::Bulk), 64 << 20);
}

#[test]
fn a_message_beyond_the_peers_limit_is_refused_at_the_sender_with_the_numbers() {
    let mut pair = Pair::up(with(dialer(&["x"]), large), listener(&["x"]));
    let (size, limit) = (64 << 20, 16 << 20);
    let refused = pair.a.link.send(0, Class::Bulk, Bytes::from(vec![0; 64 << 20]));
    assert_eq!(refused, Err(Why::TooLarge { size, limit }));
    assert_eq!(pair.a.link.send(0, Class::Bulk, Bytes::from(vec![1; 16 << 20])), Ok(()));
    pair.run();
    assert_eq!(pair.b.heard.messages()[0].1.len() as u64, limit);
}

#[test]
fn a_control_message_is_small_whatever_the_peer_takes() {
    let mut pair = Pair::up(dialer(&["x"]), listener(&["x"]));
    let refused = pair.a.link.send(0, Class::Control, body(0, 65_537));
    assert_eq!(refused, Err(Why::TooLarge { size: 65_537, limit: 65_536 }));
    pair.a.link.send(0, Class::Control, body(0, 65_536)).unwrap();
    pair.run();
    assert_eq!(pair.b.heard.messages(), [(0, body(0, 65_536))]);
}

#[test]
fn the_queue_of_control_messages_is_bounded_and_has_room_again_when_it_was_sent() {
    let mut pair = Pair::up(dialer(&["x"]), listener(&["x"]));
    for number in 0..4 {
        pair.a.link.send(0, Class::Control, body(number, 65_536)).unwrap();
    }
    let full = Why::Full { queued: 256 << 10, limit: 256 << 10 };
    assert_eq!(pair.a.link.send(0, Class::Control, body(4, 1)), Err(full));
    pair.run();
    assert_eq!(pair.a.link.send(0, Class::Control, body(4, 1)), Ok(()));
}

/// With room for one large message, as many as there are channels and classes.
fn several_at_once(channels: u32, classes: &[Class]) {
    let config = |config: &mut LinkConfig| {
        config.max_message = 1 << 20;
        config.reassembly = 1 << 20;
        config.window = 64 << 10;
    };
    let mut pair = Pair::up(dialer(&NAMES), with(listener(&NAMES), config));
    let mut number = 0;
    let mut sent = Vec::new();
    for _ in 0..2 {
        for channel in 0..channels {
            for class in classes {
                number += 1;
                let message = body(number, (1 << 20) - number as usize);
                pair.a.link.send(channel, *class, message.clone()).unwrap();
                sent.push((channel, message));
            }
        }
    }
    pair.run();
    let mut arrived = pair.b.heard.messages();
    assert_eq!(arrived.len(), sent.len(), "{:?} wait", pair.a.link.queued());
    let key = |(channel, message): &(u32, Bytes)| (*channel, message.len());
    arrived.sort_by_key(key);
    sent.sort_by_key(key);
    assert!(arrived == sent);
    assert_eq!(pair.b.link.held_bytes(), 0);
}

#[test]
fn large_messages_on_several_channels_take_turns_where_there_is_room_for_one() {
    several_at_once(3, &[Class::Bulk]);
}

#[test]
fn large_messages_of_both_classes_of_one_channel_do_not_block_each_other() {
    several_at_once(1, &[Class::Interactive, Class::Bulk]);
}

#[test]
fn large_messages_of_both_classes_of_several_channels_do_not_block_each_other() {
    several_at_once(3, &[Class::Interactive, Class::Bulk]);
}

#[test]
fn a_message_that_needs_all_the_room_is_not_overtaken_for_ever_by_smaller_ones() {
    let config = |config: &mut LinkConfig| {
        config.max_message = 1 << 20;
        config.reassembly = 1 << 20;
        config.window = 64 << 10;
    };
    let mut pair = Pair::up(dialer(&NAMES), with(listener(&NAMES), config));
    // Two channels with half a megabyte always under way, each begun before the other's ends.
    let mut next = 0;
    let mut refill = |pair: &mut Pair, least: u64| {
        while pair.a.link.queued().0 < least {
            next += 1;
            pair.a.link.send(next % 2, Class::Bulk, body(next, 500_000)).unwrap();
        }
    };
    refill(&mut pair, 4);
    pair.a.flush(300_000);
    pair.a.link.send(2, Class::Bulk, body(0, 1 << 20)).unwrap();
    for turn in 0.. {
        assert!(turn < 2_000, "overtaken by {} messages", pair.b.heard.messages().len());
        refill(&mut pair, 5);
        pair.a.flush(50_000);
        pair.b.flush(50_000);
        pair.cross(usize::MAX, usize::MAX);
        pair.a.settle(pair.now);
        pair.b.settle(pair.now);
        if pair.b.heard.messages().iter().any(|(channel, _)| *channel == 2) {
            return;
        }
    }
}

#[test]
fn a_host_that_takes_no_events_holds_the_sender_back_and_loses_nothing() {
    let mut pair = Pair::up(dialer(&["x"]), listener(&["x"]));
    let count = 5_000;
    for number in 0..count {
        pair.a.link.send(0, CLASSES[number as usize % 3], body(number, 300)).unwrap_or(());
    }
    let queued = pair.a.link.queued().0;
    for _ in 0..100 {
        pair.a.flush(usize::MAX);
        pair.b.flush(usize::MAX);
        pair.cross(usize::MAX, usize::MAX);
    }
    assert_eq!(pair.b.heard.messages().len(), 0);
    assert!(pair.b.link.held_bytes() < 600 << 10, "{}", pair.b.link.held_bytes());
    pair.run();
    assert_eq!(pair.b.heard.messages().len() as u64, queued);
}

#[test]
fn nothing_can_be_sent_on_what_is_not_up() {
    let mut pair = Pair::new(dialer(&["x"]), listener(&["x"]));
    assert_eq!(pair.a.link.send(0, Class::Interactive, body(1, 10)), Err(Why::NotUp));
    pair.run();
    assert_eq!(pair.a.link.send(1, Class::Interactive, body(1, 10)), Err(Why::NotUp));
    assert_eq!(pair.a.link.send(0, Class::Interactive, body(1, 10)), Ok(()));
    pair.a.link.close(Why::Unheld);
    assert_eq!(pair.a.link.send(0, Class::Interactive, body(1, 10)), Err(Why::NotUp));
}
