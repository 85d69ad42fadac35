//! A message that is here in part, and the room that it has.

use std::time::Duration;

use peerage_machine::Instant;
use peerage_wire::limits::MAX_FRAGMENT;

/// For so long a message may have room that others wait for, and for a second more with each so many bytes that have come:
/// who stalls is as slow as who drips.
pub(super) const LENT_FOR: Duration = Duration::from_secs(15);
const LENT_PER_SECOND: u64 = 64 << 10;

/// Where the room for a message in parts comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The credit of its channel and class, which is withheld until it is taken: it is not large, or it waits for the budget.
    Credit,
    /// The link's part of what the endpoint has for messages in parts.
    Budget,
    /// Control messages are small and there is one at a time for each channel.
    Own,
}

/// A message of several fragments that is not whole yet.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) bytes: Vec<u8>,
    pub(super) total: usize,
    pub(super) room: Room,
    pub(super) withheld: u64,
    /// Since when it has room that others may wait for.
    pub(super) lent: Option<Instant>,
}

impl Partial {
    /// Until when it may have the room, by what has come.
    pub(super) fn lent_until(&self) -> Option<Instant> {
        let earned = Duration::from_secs(self.bytes.len() as u64 / LENT_PER_SECOND);
        self.lent.map(|since| since + LENT_FOR + earned)
    }

    /// Grows in steps: with room by doubling, without it a fragment or an eighth at a time, never beyond the whole. By
    /// how much its buffer has grown.
    pub(super) fn extend(&mut self, payload: &[u8]) -> u64 {
        let (needed, before) = (self.bytes.len() + payload.len(), self.bytes.capacity());
        if needed > before {
            let step = match self.room {
                Room::Credit => (needed + needed / 8).next_multiple_of(MAX_FRAGMENT),
                Room::Budget | Room::Own => needed.saturating_mul(2),
            };
            self.bytes.reserve_exact(step.min(self.total) - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
        (self.bytes.capacity() - before) as u64
    }
}
