//! Instances that both sides open and close as they like, with words crossing: in the end both agree.

use std::time::Duration;

use peerage_machine::Class;
use proptest::prelude::*;

use crate::common::{Channel, End, Pair, body, dialer, instance, listener, with};

const NAMES: [&str; 2] = ["x", "y"];

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Opens it, or closes it when it is open.
    Toggle(bool, usize),
    /// Closes it and opens it again at once.
    Again(bool, usize),
    /// Something to say before it is closed.
    Say(bool, usize, usize),
    Flush(bool),
    /// So much of what a side said arrives.
    Arrive(bool, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (side, name) = (any::<bool>, 0..NAMES.len());
    prop_oneof![
        4 => (side(), name.clone()).prop_map(|(side, name)| Op::Toggle(side, name)),
        2 => (side(), name.clone()).prop_map(|(side, name)| Op::Again(side, name)),
        1 => (side(), name, 0_usize..400_000).prop_map(|(side, name, length)| Op::Say(side, name, length)),
        4 => side().prop_map(Op::Flush),
        4 => (side(), prop_oneof![0_usize..200, Just(usize::MAX)])
            .prop_map(|(side, bytes)| Op::Arrive(side, bytes)),
    ]
}

/// One side, and the numbers of what it runs.
struct Side {
    open: [Option<u32>; 2],
}

impl Side {
    fn toggle(&mut self, now: peerage_machine::Instant, end: &mut End, name: usize) {
        match self.open[name].take() {
            Some(number) => end.link.close_channel(now, number, "done"),
            None => self.open[name] = Some(end.link.open(instance(NAMES[name]))),
        }
    }

    fn is_up(&self, end: &End, name: usize) -> bool {
        let Some(number) = self.open[name] else { return false };
        let last = end.heard.channels().into_iter().rfind(|news| match news {
            Channel::Up(of) | Channel::Refused(of, _) | Channel::Down(of, _) => *of == number,
        });
        matches!(last, Some(Channel::Up(_)))
    }
}

fn play(from_the_start: &[&str], ops: &[Op]) {
    play_with(from_the_start, 64, ops);
}

/// With so many channels at most at the listener.
fn play_with(from_the_start: &[&str], most: u32, ops: &[Op]) {
    let limited = with(listener(from_the_start), |config| config.max_channels = most);
    let mut pair = Pair::up(dialer(from_the_start), limited);
    let begun = || Side { open: [0, 1].map(|name| (name < from_the_start.len()).then_some(name as u32)) };
    let mut sides = [begun(), begun()];
    for op in ops {
        match *op {
            Op::Toggle(of_a, name) => {
                let (side, end) = of(&mut sides, &mut pair.a, &mut pair.b, of_a);
                side.toggle(pair.now, end, name);
            }
            Op::Again(of_a, name) => {
                let (side, end) = of(&mut sides, &mut pair.a, &mut pair.b, of_a);
                side.toggle(pair.now, end, name);
                side.toggle(pair.now, end, name);
            }
            Op::Say(of_a, name, length) => {
                let (side, end) = of(&mut sides, &mut pair.a, &mut pair.b, of_a);
                if let Some(number) = side.open[name] {
                    // It may not be up.
                    let _ = end.link.send(number, Class::Bulk, body(1, length));
                }
            }
            Op::Flush(true) => pair.a.flush(usize::MAX),
            Op::Flush(false) => pair.b.flush(usize::MAX),
            Op::Arrive(of_a, bytes) => {
                pair.cross(if of_a { bytes } else { 0 }, if of_a { 0 } else { bytes });
                pair.a.settle(pair.now);
                pair.b.settle(pair.now);
            }
        }
    }
    // Long enough for a side to give up what it waits for in order to close.
    pair.elapse(Duration::from_secs(60));
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
    for (name, named) in NAMES.iter().enumerate() {
        let both = sides[0].open[name].is_some() && sides[1].open[name].is_some();
        let at = (sides[0].is_up(&pair.a, name), sides[1].is_up(&pair.b, name));
        let heard = (pair.a.heard.channels(), pair.b.heard.channels());
        if most as usize >= NAMES.len() {
            assert_eq!(at, (both, both), "{named}: {heard:?}");
        } else {
            assert!(at == (true, true) || at == (false, false), "{named}: {at:?} {heard:?}");
        }
    }
    for name in [0, 1] {
        if !sides[0].is_up(&pair.a, name) {
            continue;
        }
        if let (Some(of_a), Some(of_b)) = (sides[0].open[name], sides[1].open[name]) {
            let before = (pair.a.heard.messages().len(), pair.b.heard.messages().len());
            pair.a.link.send(of_a, Class::Interactive, body(1, 300_000)).unwrap();
            pair.b.link.send(of_b, Class::Interactive, body(2, 300_000)).unwrap();
            pair.run();
            assert_eq!(pair.a.heard.messages()[before.0..], [(of_a, body(2, 300_000))]);
            assert_eq!(pair.b.heard.messages()[before.1..], [(of_b, body(1, 300_000))]);
        }
    }
}

fn of<'a>(
    sides: &'a mut [Side; 2],
    a: &'a mut End,
    b: &'a mut End,
    of_a: bool,
) -> (&'a mut Side, &'a mut End) {
    let [first, second] = sides;
    if of_a { (first, a) } else { (second, b) }
}

#[test]
fn one_that_is_opened_closed_and_opened_again_while_answers_cross_stays_open_on_both_sides() {
    use Op::{Again, Arrive, Flush, Toggle};
    for again in [true, false] {
        // Both open it at once, and one of them again while the other's answer is on its way to it.
        play(
            &[],
            &[
                Toggle(true, 0),
                Toggle(false, 0),
                Flush(true),
                Flush(false),
                Arrive(true, usize::MAX),
                Arrive(false, usize::MAX),
                Again(again, 0),
            ],
        );
        // The same before it has heard anything.
        play(&[], &[Toggle(true, 0), Flush(true), Toggle(false, 0), Flush(false), Again(again, 0)]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_crosses_both_sides_agree_in_the_end(ops in prop::collection::vec(op(), 1..40)) {
        play(&["x"], &ops);
    }

    #[test]
    fn whatever_crosses_both_sides_agree_in_the_end_with_nothing_open_at_first(
        ops in prop::collection::vec(op(), 1..40),
    ) {
        play(&[], &ops);
    }

    #[test]
    fn whatever_crosses_both_sides_agree_in_the_end_where_one_has_room_for_one(
        ops in prop::collection::vec(op(), 1..40),
    ) {
        play_with(&["x"], 1, &ops);
    }
}
