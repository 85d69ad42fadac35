//! Windows that grow with bandwidth and delay, out of one budget, and shrink again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peerage_link::{LinkConfig, Memory, Setup};
use peerage_machine::{Class, Instant};
use peerage_wire::proto::link::v1::control::Kind;

use crate::common::{End, Pair, Stranger, dialer, instance, listener, with};

const STEP: Duration = Duration::from_millis(1);

/// One direction of a path: so many bytes in each step, each so long on its way.
struct Way {
    one_way: Duration,
    rate: usize,
    /// What it could have carried and did not, less what it has carried too much.
    free: isize,
    under_way: VecDeque<(Instant, Bytes)>,
}

impl Way {
    fn new(one_way: Duration, bytes_per_second: usize) -> Self {
        Self { one_way, rate: bytes_per_second / 1_000, free: 0, under_way: VecDeque::new() }
    }

    fn step(&mut self, now: Instant, from: &mut End, to: &mut End) {
        // What was not used is gone, as on a wire.
        self.free = self.free.min(0) + self.rate as isize;
        if self.free > 0 {
            let mut said = BytesMut::new();
            from.link.transmit(&mut said, self.free as usize);
            self.free -= said.len() as isize;
            self.under_way.push_back((now + self.one_way, said.freeze()));
        }
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = self.under_way.pop_front().unwrap();
            to.arrive(now, &bytes);
            to.settle(now);
        }
        from.poll();
    }
}

/// Two links over a path in virtual time.
struct Line {
    pair: Pair,
    there: Way,
    back: Way,
}

impl Line {
    fn new(a: Setup, b: Setup, one_way: Duration, bytes_per_second: usize) -> Self {
        let way = || Way::new(one_way, bytes_per_second);
        let mut line = Self { pair: Pair::new(a, b), there: way(), back: way() };
        line.run(one_way * 5 + SECOND / 50, |_| {});
        assert!(line.pair.a.heard.is_up() && line.pair.b.heard.is_up());
        line
    }

    fn run(&mut self, span: Duration, mut each_step: impl FnMut(&mut Pair)) {
        let until = self.pair.now + span;
        while self.pair.now < until {
            self.pair.now = self.pair.now + STEP;
            let now = self.pair.now;
            each_step(&mut self.pair);
            for end in [&mut self.pair.a, &mut self.pair.b] {
                end.on_timer(now);
            }
            self.there.step(now, &mut self.pair.a, &mut self.pair.b);
            self.back.step(now, &mut self.pair.b, &mut self.pair.a);
        }
    }

    /// Sends all that goes on channel 0 for so long; the bytes of messages that arrive at the other end.
    fn pour(&mut self, span: Duration, class: Class, message: &Bytes) -> u64 {
        let before = self.pair.b.link.stats().messages_received;
        self.run(span, |pair| {
            while pair.a.link.queued().1 < 1 << 20 {
                pair.a.link.send(0, class, message.clone()).unwrap();
            }
            pair.b.heard.0.clear();
        });
        (self.pair.b.link.stats().messages_received - before) * message.len() as u64
    }

    /// By how much windows at the receiver have grown.
    fn grown(&self) -> u64 {
        self.pair.b.link.borrowed_bytes().0
    }
}

/// Setups as programs have them by default.
fn growing(memory: &Memory) -> (Setup, Setup) {
    let config = std::sync::Arc::new(LinkConfig::default());
    let (mut a, mut b) = (dialer(&["x"]), listener(&["x"]));
    (a.config, b.config) = (config.clone(), config);
    b.memory = memory.clone();
    (a, b)
}

const FAR: Duration = Duration::from_millis(50);
const FAST: usize = 50_000_000;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_channel_fills_a_path_of_50_megabytes_a_second_at_100_milliseconds() {
    for (class, length) in [(Class::Bulk, 16_384), (Class::Interactive, 1 << 20)] {
        let memory = Memory::new(64 << 20, 128 << 20);
        let (a, b) = growing(&memory);
        let mut line = Line::new(a, b, FAR, FAST);
        let message = Bytes::from(vec![7; length]);
        let at_first = line.pour(SECOND / 5, class, &message);
        assert!(at_first < FAST as u64 / 25, "{at_first} bytes went at once: the window was no small one");
        line.pour(SECOND * 9 / 5, class, &message);
        let grown = line.pour(SECOND, class, &message);
        assert!(grown > FAST as u64 * 4 / 5, "{grown} bytes of messages of {length} in a second");
        // Twice the product of bandwidth and delay, 5 MB, and what doubling goes beyond.
        assert!((5_000_000..=20_000_000).contains(&line.grown()), "{}", line.grown());
        drop(line);
        assert_eq!((memory.windows.left(), memory.messages.left()), (64 << 20, 128 << 20));
    }
}

#[test]
fn a_near_path_needs_little_and_takes_little() {
    let memory = Memory::new(64 << 20, 128 << 20);
    let (a, b) = growing(&memory);
    let mut line = Line::new(a, b, STEP, FAST);
    let message = Bytes::from(vec![7; 16_384]);
    line.pour(SECOND / 2, Class::Bulk, &message);
    let arrived = line.pour(SECOND, Class::Bulk, &message);
    assert!(arrived > FAST as u64 * 4 / 5, "{arrived}");
    assert!(line.grown() <= 1 << 20, "{}", line.grown());
}

#[test]
fn a_sender_with_little_to_say_makes_no_window_grow() {
    let memory = Memory::new(64 << 20, 128 << 20);
    let (a, b) = growing(&memory);
    let mut line = Line::new(a, b, FAR, FAST);
    // A quarter of the first window in each round trip.
    let message = Bytes::from(vec![7; 160]);
    line.run(SECOND * 3, |pair| pair.a.link.send(0, Class::Interactive, message.clone()).unwrap());
    assert_eq!(line.grown(), 0);
    assert!(line.pair.b.link.stats().messages_received > 2_800);
}

#[test]
fn a_window_that_is_not_used_any_more_shrinks_as_credit_is_not_renewed() {
    let memory = Memory::new(64 << 20, 128 << 20);
    let (a, b) = growing(&memory);
    let mut line = Line::new(a, b, FAR, FAST);
    let message = Bytes::from(vec![7; 16_384]);
    line.pour(SECOND * 2, Class::Bulk, &message);
    line.run(SECOND, |_| {});
    let grown = line.grown();
    assert!(grown > 4 << 20);
    // 160 KB a second.
    let mut step = 0;
    line.run(SECOND * 90, |pair| {
        step += 1;
        if step % 100 == 0 {
            pair.a.link.send(0, Class::Bulk, message.clone()).unwrap();
        }
        pair.b.heard.0.clear();
    });
    assert!(line.grown() < grown / 8, "{} of {grown}", line.grown());
    assert_eq!(line.pair.a.link.queued(), (0, 0));
    // And what is left is enough to begin again.
    let again = line.pour(SECOND * 2, Class::Bulk, &message);
    assert!(again > FAST as u64, "{again}");
}

#[test]
fn a_peer_that_answers_late_gains_nothing() {
    let grown_by = |late: Duration| {
        let memory = Memory::new(64 << 20, 128 << 20);
        let (a, b) = growing(&memory);
        let mut line = Line::new(a, b, STEP, FAST);
        // After the handshake and the first pings, all that it says is held up: its pongs, and what it sends.
        line.there.one_way += late;
        line.pour(SECOND * 4, Class::Bulk, &Bytes::from(vec![7; 16_384]));
        line.grown()
    };
    let honest = grown_by(Duration::ZERO);
    let late = grown_by(SECOND / 2);
    assert!(late <= honest, "{late} and not {honest}");
}

#[test]
fn a_path_that_gets_twice_as_long_is_still_filled() {
    let memory = Memory::new(64 << 20, 128 << 20);
    let (a, b) = growing(&memory);
    let mut line = Line::new(a, b, FAR, FAST / 5);
    line.pour(SECOND, Class::Bulk, &Bytes::from(vec![7; 16_384]));
    (line.there.one_way, line.back.one_way) = (FAR * 19 / 10, FAR * 19 / 10);
    line.pour(SECOND * 2, Class::Bulk, &Bytes::from(vec![7; 16_384]));
    let arrived = line.pour(SECOND, Class::Bulk, &Bytes::from(vec![7; 16_384]));
    assert!(arrived > FAST as u64 / 5 * 4 / 5, "{arrived}");
}

#[test]
fn real_links_that_grew_and_fell_silent_return_their_credit_and_lose_nothing() {
    let memory = Memory::new(8 << 20, 16 << 20);
    let mut lines: Vec<Line> = (0..4)
        .map(|_| {
            let (a, b) = growing(&memory);
            Line::new(a, b, FAR, FAST)
        })
        .collect();
    let message = Bytes::from(vec![7; 16_384]);
    for _ in 0..40 {
        for line in &mut lines {
            line.pour(SECOND / 10, Class::Bulk, &message);
        }
    }
    assert!(memory.windows.left() < 3 << 20, "{}", memory.windows.left());
    for _ in 0..100 {
        lines.iter_mut().for_each(|line| line.run(SECOND / 10, |_| {}));
    }
    assert!(memory.windows.left() >= 4 << 20, "{}", memory.windows.left());
    for line in &mut lines {
        let arrived = line.pour(SECOND * 2, Class::Bulk, &message);
        assert!(arrived > FAST as u64 / 10, "{arrived}");
        assert!(line.pair.a.heard.closed().is_none() && line.pair.b.heard.closed().is_none());
    }
}

#[test]
fn a_channel_that_closes_gives_back_what_its_window_had_grown_by() {
    let memory = Memory::new(64 << 20, 128 << 20);
    let (a, b) = growing(&memory);
    let mut line = Line::new(a, b, FAR, FAST);
    line.pour(SECOND, Class::Bulk, &Bytes::from(vec![7; 16_384]));
    assert!(memory.windows.left() < 63 << 20);
    line.pair.a.link.close_channel(line.pair.now, 0, "done");
    line.run(SECOND, |_| {});
    assert_eq!(memory.windows.left(), 64 << 20);
    assert_eq!(memory.messages.left(), 128 << 20);
}

#[test]
fn where_nothing_is_left_a_channel_still_has_its_first_window() {
    for length in [100, 16_384, 1 << 20] {
        let memory = Memory::new(0, 16 << 20);
        let (a, b) = growing(&memory);
        let mut line = Line::new(a, b, FAR, FAST);
        let arrived = line.pour(SECOND * 4, Class::Bulk, &Bytes::from(vec![7; length]));
        // 64 KiB in each round trip, or nearly: a quarter of it may be owed.
        assert!((1 << 20..=3 << 20).contains(&arrived), "{arrived} in messages of {length}");
        assert_eq!(line.grown(), 0);
    }
}

#[test]
fn what_a_peer_is_owed_waits_for_something_to_go_with_while_it_has_enough_left() {
    let setup = with(listener(&["x"]), |config| config.window = 64 << 10);
    let mut stranger = Stranger::up(setup, vec![instance("x")]);
    let owed = |stranger: &mut Stranger| {
        let credits = stranger.controls().into_iter();
        credits.map(|kind| if let Kind::Credit(credit) = kind { credit.bytes } else { 0 }).sum::<u64>()
    };
    // Each costs 32 bytes more: five are a quarter of the window, and nine more than half of it.
    let say = |stranger: &mut Stranger, messages: u32, between: Duration| {
        for _ in 0..messages {
            stranger.now = stranger.now + between;
            stranger.data(0, 0, 0, &[7; 4_000]);
        }
    };
    say(&mut stranger, 7, STEP);
    assert_eq!(owed(&mut stranger), 0, "nothing else leaves");
    stranger.end.link.send(0, Class::Interactive, Bytes::from_static(b"an answer")).unwrap();
    assert_eq!(owed(&mut stranger), 7 * 4_032);
    say(&mut stranger, 8, STEP);
    assert_eq!(owed(&mut stranger), 0);
    // A part of a message gives nothing back before the rest of it is here.
    stranger.data(0, 0, 16_384, &[7; 1_000]);
    assert_eq!(owed(&mut stranger), 8 * 4_032, "less is left than is owed");
    stranger.data(0, 0, 0, &[7; 15_384]);
    say(&mut stranger, 5, Duration::ZERO);
    assert!(owed(&mut stranger) >= 5 * 4_032, "so much within a round trip may hold the peer up");
}
