//! A handshake with somebody in between, and one with somebody who never heard of it.

use std::collections::BTreeMap;

use peerage_machine::{Direction, Instant};
use peerage_wire::Suite;
use peerage_wire::limits::MAX_HANDSHAKE_MESSAGE;

use crate::Choices;
use crate::peers::End;

/// More than what either side says before both are up.
const TURNS: usize = 8;
/// A link in its handshake leaves no more than this of what a stranger sends to its host: a message and its length.
const HELD: usize = 2 + MAX_HANDSHAKE_MESSAGE;

/// The first byte says whether the rest is all that a link gets to read, or the list of the bytes that somebody in
/// between changes. Whoever reads a changed byte before it is up, never is.
pub fn handshake(data: &[u8]) {
    let mut choices = Choices(data);
    let how = choices.byte();
    let direction = if how & 1 == 0 { Direction::Inbound } else { Direction::Outbound };
    let suite = choices.suite();
    if how & 2 == 0 { strange(direction, suite, choices.0) } else { changed(direction, suite, choices) }
}

fn strange(direction: Direction, suite: Suite, bytes: &[u8]) {
    let now = Instant::from_micros(1_000_000);
    let mut end = End::new(direction, suite, now);
    end.said();
    for piece in bytes.chunks(97) {
        end.arrive(now, piece);
        end.said();
        assert!(end.is_closed || end.left() <= HELD, "{} bytes are left to the host", end.left());
    }
    assert!(!end.is_up, "up with somebody who has no key");
}

fn changed(victim: Direction, suite: Suite, mut choices: Choices<'_>) {
    let mut edits = BTreeMap::<_, u8>::new();
    while !choices.is_empty() {
        *edits.entry(usize::from(choices.number() & 0x03ff)).or_default() ^= choices.byte();
    }
    edits.retain(|_, mask| *mask != 0);
    let now = Instant::from_micros(1_000_000);
    let mut ends = [Direction::Outbound, Direction::Inbound].map(|direction| End::new(direction, suite, now));
    let (mut at, mut spoilt) = (0, false);
    for _ in 0..TURNS {
        for from in 0..2 {
            let [dialer, listener] = &mut ends;
            let (from, to, reader) = if from == 0 {
                (dialer, listener, Direction::Inbound)
            } else {
                (listener, dialer, Direction::Outbound)
            };
            for byte in from.said() {
                let mut byte = byte;
                if reader == victim {
                    if let Some(mask) = edits.get(&at) {
                        byte ^= mask;
                        spoilt |= !to.is_up;
                    }
                    at += 1;
                }
                to.arrive(now, &[byte]);
            }
        }
    }
    let [dialer, listener] = &ends;
    let victim = if victim == Direction::Outbound { dialer } else { listener };
    assert!(!(spoilt && victim.is_up), "up although a byte was changed");
    assert!(!edits.is_empty() || (dialer.is_up && listener.is_up), "not up although nothing was changed");
}
