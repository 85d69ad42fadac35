//! Windows that fall silent give back what they have grown by, and nobody loses credit on the way.

use std::collections::VecDeque;

use peerage_machine::Instant;
use peerage_wire::limits::MAX_FRAGMENT;
use proptest::prelude::*;

use super::*;
use crate::budget::Memory;
use crate::{FRAGMENT_COST, LinkConfig};

const SECOND: Duration = Duration::from_secs(1);
const ROUND: Duration = Duration::from_millis(100);

/// What the sender says, on its way.
enum There {
    Data(u32, u64, usize),
    Returned(u32, u64),
}

/// What the receiver says, on its way.
enum Back {
    Credit(u32, u64),
    Reclaim(u32, u64),
}

/// One link with one channel: the receiving side, and an honest sender at some distance.
struct Line {
    inbound: Inbound,
    there: VecDeque<There>,
    back: VecDeque<Back>,
    /// What the sender may send of each class.
    credit: [u64; 3],
    /// What is missing of the message under way of each class.
    rest: [usize; 3],
    /// How often the receiver could say something: each third time something else leaves that credit can go with.
    spoken: u32,
}

impl Line {
    fn new(memory: &Memory, now: Instant) -> Self {
        let config = LinkConfig::default();
        let mut inbound = Inbound::new(&config, config.max_message, memory, now);
        inbound.measured(ROUND, ROUND);
        inbound.open(0);
        let credit = [config.window; 3];
        Self { inbound, there: VecDeque::new(), back: VecDeque::new(), credit, rest: [0; 3], spoken: 0 }
    }

    /// Sends as much of a message as there is credit for, in whole fragments: the one under way, or a new one.
    fn send(&mut self, class: u32, length: usize) {
        let (credit, rest) = (&mut self.credit[class as usize], &mut self.rest[class as usize]);
        let begins = *rest == 0;
        let mut total = 0;
        if begins {
            *rest = length;
            total = if length > MAX_FRAGMENT { length as u64 } else { 0 };
        }
        while *rest > 0 {
            let piece = (*rest).min(MAX_FRAGMENT);
            let Some(left) = credit.checked_sub(FRAGMENT_COST + piece as u64) else { break };
            *credit = left;
            *rest -= piece;
            self.there.push_back(There::Data(class, std::mem::take(&mut total), piece));
        }
        if begins && *rest == length {
            // Not even its first fragment went.
            *rest = 0;
        }
    }

    fn arrive_there(&mut self, count: usize) {
        for _ in 0..count.min(self.there.len()) {
            match self.there.pop_front().unwrap() {
                There::Data(class, total, length) => {
                    let whole = self.inbound.fragment(0, class, total, &vec![0; length]).unwrap();
                    if let Some(whole) = whole {
                        self.inbound.taken(0, whole.receipt, whole.message.len());
                    }
                }
                There::Returned(class, bytes) => self.inbound.returned(0, class, bytes).unwrap(),
            }
        }
        self.speak();
    }

    fn arrive_back(&mut self, count: usize) {
        for _ in 0..count.min(self.back.len()) {
            match self.back.pop_front().unwrap() {
                Back::Credit(class, bytes) => self.credit[class as usize] += bytes,
                Back::Reclaim(class, bytes) => {
                    let bytes = bytes.min(self.credit[class as usize]);
                    self.credit[class as usize] -= bytes;
                    if bytes > 0 {
                        self.there.push_back(There::Returned(class, bytes));
                    }
                }
            }
        }
    }

    fn speak(&mut self) {
        self.spoken += 1;
        while let Some((_, class, bytes)) = self.inbound.next_credit(self.spoken.is_multiple_of(3)) {
            assert!(bytes > 0);
            self.back.push_back(Back::Credit(class, bytes));
        }
        while let Some((_, class, bytes)) = self.inbound.next_reclaim() {
            assert!(bytes > 0);
            self.back.push_back(Back::Reclaim(class, bytes));
        }
    }

    /// Everything that is on its way arrives, and what it causes.
    fn settle(&mut self) {
        while !self.there.is_empty() || !self.back.is_empty() {
            self.arrive_there(usize::MAX);
            self.arrive_back(usize::MAX);
        }
    }

    fn at(&mut self, now: Instant) -> Result<(), Kept> {
        self.inbound.at(now);
        let due = self.inbound.deadline();
        let looked = self.inbound.on_timer();
        if looked.is_ok() {
            let next = self.inbound.deadline();
            assert!(next.is_none_or(|at| at > now), "due {due:?}, and again {next:?} at {now:?}");
        }
        self.speak();
        looked
    }

    fn grown(&self) -> u64 {
        self.inbound.borrowed().0
    }

    /// Both sides agree on what the sender may send, what is on its way counted.
    fn check(&self) {
        let gauge = &self.inbound.gauge;
        let lanes = &self.inbound.channels.get(0).unwrap().classes;
        for (class, lane) in (0_u32..).zip(lanes) {
            let there: u64 = self
                .there
                .iter()
                .map(|frame| match frame {
                    There::Data(of, _, length) if *of == class => FRAGMENT_COST + *length as u64,
                    There::Returned(of, bytes) if *of == class => *bytes,
                    _ => 0,
                })
                .sum();
            let back: u64 = self
                .back
                .iter()
                .map(|frame| match frame {
                    Back::Credit(of, bytes) if *of == class => *bytes,
                    _ => 0,
                })
                .sum();
            assert_eq!(lane.window.available(), self.credit[class as usize] + there + back, "class {class}");
            assert!(lane.window.available() + lane.window.spent() >= gauge.least, "class {class}");
            assert!(!lane.window.is_urgent(gauge), "class {class} may have to wait for what it is owed");
        }
        let grown: u64 = lanes.iter().map(|lane| lane.window.grown(gauge)).sum();
        assert_eq!(grown, self.grown());
    }
}

/// Each sends all it can, round by round.
fn pour(lines: &mut [Line], now: &mut Instant, rounds: u32, length: usize) {
    for _ in 0..rounds {
        *now = *now + ROUND;
        for line in &mut *lines {
            line.at(*now).unwrap();
            // All of a window in one round trip, and no more: what comes back is for the next.
            let mut before = u64::MAX;
            while line.credit[2] < before {
                before = line.credit[2];
                line.send(2, length);
            }
            line.settle();
        }
    }
}

/// Time goes by, and nothing is sent but what timers bring about.
fn silence<'a>(lines: impl IntoIterator<Item = &'a mut Line>, now: &mut Instant, span: Duration) {
    let until = *now + span;
    let mut lines: Vec<_> = lines.into_iter().collect();
    while *now < until {
        *now = *now + ROUND;
        for line in &mut lines {
            line.at(*now).unwrap();
            line.settle();
            line.check();
        }
    }
}

const TOTAL: u64 = 64 << 20;

#[test]
fn a_thousand_that_grew_and_fell_silent_leave_newcomers_their_part() {
    let memory = Memory::new(TOTAL, 128 << 20);
    let mut now = Instant::START;
    let mut silent: Vec<Line> = (0..1_000).map(|_| Line::new(&memory, now)).collect();
    pour(&mut silent, &mut now, 20, MAX_FRAGMENT);
    assert!(memory.windows.left() < TOTAL / 100, "{}", memory.windows.left());
    silence(&mut silent, &mut now, 4 * SECOND);
    let mut newcomers: Vec<Line> = (0..7).map(|_| Line::new(&memory, now)).collect();
    for _ in 0..4 {
        pour(&mut newcomers, &mut now, 10, MAX_FRAGMENT);
        silence(&mut silent, &mut now, ROUND);
    }
    for line in &newcomers {
        // Of seven, an eighth each.
        assert!(line.grown() > TOTAL / 9 && line.grown() <= TOTAL / 8, "{}", line.grown());
    }
    assert!(memory.windows.left() < TOTAL / 7);
    // Those who had to give way have their first window, all of it, and can come back.
    let credit: Vec<u64> = silent.iter().map(|line| line.credit[2]).collect();
    assert!(credit.iter().all(|credit| *credit >= 48 << 10), "{credit:?}");
    pour(&mut silent[..1], &mut now, 4, MAX_FRAGMENT);
}

#[test]
fn few_that_grew_wide_and_fell_silent_keep_half_at_most() {
    let memory = Memory::new(TOTAL, 128 << 20);
    let mut now = Instant::START;
    let mut silent: Vec<Line> = (0..3).map(|_| Line::new(&memory, now)).collect();
    pour(&mut silent, &mut now, 20, 1 << 20);
    assert!(memory.windows.left() <= TOTAL / 4 + (1 << 20), "{}", memory.windows.left());
    silence(&mut silent, &mut now, 4 * SECOND);
    assert!(memory.windows.left() >= TOTAL / 2, "{}", memory.windows.left());
    assert!(silent.iter().any(|line| line.grown() > 8 << 20), "where nobody wants it, it stays");
    // Somebody does.
    let mut busy = [Line::new(&memory, now)];
    for _ in 0..6 {
        pour(&mut busy, &mut now, 10, 1 << 20);
        silence(&mut silent, &mut now, ROUND);
    }
    assert!(busy[0].grown() > 15 << 20, "{}", busy[0].grown());
}

#[test]
fn who_drips_counts_as_idle_and_keeps_no_more_than_it_uses() {
    let memory = Memory::new(TOTAL, 128 << 20);
    let mut now = Instant::START;
    let mut lines: Vec<Line> = (0..3).map(|_| Line::new(&memory, now)).collect();
    pour(&mut lines, &mut now, 20, 1 << 20);
    for _ in 0..40 {
        now = now + SECOND / 4;
        for line in &mut lines {
            line.at(now).unwrap();
            line.send(2, 1);
            line.settle();
            line.check();
        }
    }
    assert!(memory.windows.left() >= TOTAL / 2, "{}", memory.windows.left());
}

#[test]
fn who_keeps_what_others_want_is_found_and_who_hurts_nobody_is_not() {
    let memory = Memory::new(TOTAL, 128 << 20);
    let mut now = Instant::START;
    let mut keeps: Vec<Line> = (0..3).map(|_| Line::new(&memory, now)).collect();
    pour(&mut keeps, &mut now, 20, 1 << 20);
    let asked = now;
    // Nothing is heard of any of them any more.
    let mut found = None;
    let mut one = keeps.remove(0);
    for _ in 0..400 {
        now = now + ROUND;
        match one.at(now) {
            Ok(()) => {}
            Err(kept) => {
                found = Some(kept);
                break;
            }
        }
    }
    assert!(matches!(found, Some(Kept::Credit { bytes }) if bytes > 8 << 20), "{found:?}");
    assert!(now.since(asked) <= RETURN_WITHIN + 3 * SECOND, "{:?}", now.since(asked));
    drop(one);
    assert!(memory.windows.left() >= TOTAL / 2);
    for line in &mut keeps {
        for _ in 0..100 {
            now = now + SECOND;
            line.at(now).unwrap();
        }
    }
    assert!(keeps.iter().all(|line| line.grown() > 8 << 20));
}

#[test]
fn who_has_returned_what_it_was_asked_for_is_not_blamed_for_what_others_want_later() {
    let memory = Memory::new(TOTAL, 128 << 20);
    let mut now = Instant::START;
    let mut one = Line::new(&memory, now);
    pour(std::slice::from_mut(&mut one), &mut now, 20, 1 << 20);
    // Of what it has grown to it goes on to use a part.
    one.at(now + 2 * SECOND).unwrap();
    one.send(2, 1 << 20);
    one.settle();
    let mut crowd: Vec<Line> = (0..200).map(|_| Line::new(&memory, now)).collect();
    pour(&mut crowd, &mut now, 40, MAX_FRAGMENT);
    assert!(memory.windows.left() < TOTAL / 2);
    one.at(now).unwrap();
    one.settle();
    let kept = one.grown();
    assert!(kept > 256 << 10 && kept < 2 << 20, "{kept}");
    // That is more than its part of late, which shows when a little comes; and then nothing.
    one.send(2, MAX_FRAGMENT);
    one.settle();
    silence([&mut one], &mut now, 2 * RETURN_WITHIN);
    assert!(one.grown() < kept, "{}", one.grown());
}

#[test]
fn what_waits_for_room_is_no_idle_credit() {
    // Room for one message, which another has.
    let memory = Memory::new(1 << 20, 16 << 20);
    let mut now = Instant::START;
    let mut waits = Line::new(&memory, now);
    pour(std::slice::from_mut(&mut waits), &mut now, 12, MAX_FRAGMENT);
    assert_eq!(waits.grown(), 512 << 10);
    let mut holds = Line::new(&memory, now);
    holds.send(2, 16 << 20);
    holds.settle();
    pour(std::slice::from_mut(&mut holds), &mut now, 1, 16 << 20);
    assert!(holds.inbound.borrowed().1 > 0);
    // All of its window is in a message that has no room.
    waits.send(2, 4 << 20);
    waits.settle();
    assert!(waits.rest[2] > 0 && waits.credit[2] < 20_000);
    assert_eq!(waits.inbound.borrowed().1, 0);
    let mut third = Line::new(&memory, now);
    for _ in 0..60 {
        pour(std::slice::from_mut(&mut third), &mut now, 10, MAX_FRAGMENT);
        assert!(third.grown() > 0, "nobody wants any");
        waits.at(now).unwrap();
        waits.settle();
        waits.check();
    }
    drop(holds);
    for _ in 0..2_000 {
        pour(std::slice::from_mut(&mut waits), &mut now, 1, 4 << 20);
        if waits.rest[2] == 0 {
            return;
        }
    }
    panic!("{} bytes are missing", waits.rest[2]);
}

/// What happens next, to which of the lines.
#[derive(Clone, Debug)]
enum Step {
    Send(usize, u32, usize),
    There(usize, usize),
    Back(usize, usize),
    Time(u64),
    Settle(usize),
}

const LINES: usize = 5;

fn step() -> impl Strategy<Value = Step> {
    let class = prop_oneof![Just(0_u32), Just(2)];
    let length = prop_oneof![1_usize..2_000, Just(MAX_FRAGMENT), 20_000_usize..3_000_000];
    prop_oneof![
        8 => (0..LINES, class, length).prop_map(|(line, class, length)| Step::Send(line, class, length)),
        4 => (0..LINES, 1_usize..20).prop_map(|(line, count)| Step::There(line, count)),
        4 => (0..LINES, 1_usize..20).prop_map(|(line, count)| Step::Back(line, count)),
        4 => (1_u64..2_000).prop_map(Step::Time),
        4 => (0..LINES).prop_map(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_crosses_on_the_way_no_credit_is_lost_and_the_budget_holds(
        total in prop_oneof![Just(0_u64), 1_u64..4_000_000],
        steps in proptest::collection::vec(step(), 1..400),
    ) {
        let memory = Memory::new(total, 32 << 20);
        let mut now = Instant::START;
        let mut lines: Vec<Line> = (0..LINES).map(|_| Line::new(&memory, now)).collect();
        let mut settled = [now; LINES];
        for step in steps {
            match step {
                Step::Send(line, class, length) => lines[line].send(class, length),
                Step::There(line, count) => lines[line].arrive_there(count),
                Step::Back(line, count) => lines[line].arrive_back(count),
                Step::Settle(line) => {
                    lines[line].settle();
                    settled[line] = now;
                }
                Step::Time(millis) => {
                    now = now + Duration::from_millis(millis);
                    for (line, settled) in lines.iter_mut().zip(&mut settled) {
                        // No network takes so long that an honest peer is blamed.
                        if now.since(*settled) > RETURN_WITHIN / 2 {
                            line.settle();
                            *settled = now;
                        }
                        match line.at(now) {
                            Ok(()) | Err(Kept::Room { .. }) => {}
                            Err(kept) => panic!("an honest peer is blamed: {kept}"),
                        }
                    }
                }
            }
            let lent: u64 = lines.iter().map(Line::grown).sum();
            prop_assert_eq!(lent + memory.windows.left(), total);
            lines.iter().for_each(Line::check);
        }
        // All fall silent.
        for _ in 0..60 {
            now = now + SECOND / 2;
            for line in &mut lines {
                line.settle();
                let _ = line.at(now);
                line.settle();
            }
        }
        prop_assert!(memory.windows.left() >= total / 2, "{} of {total}", memory.windows.left());
        drop(lines);
        prop_assert_eq!(memory.windows.left(), total);
    }
}
