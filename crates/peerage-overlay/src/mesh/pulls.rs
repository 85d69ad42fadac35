//! Requests that ask again: what is on its way is not sent twice, and nobody is sent the same over and over.

use std::time::Duration;

use peerage_machine::Instant;

use super::message::StreamKey;
use super::neighbour::{Neighbour, News};
use super::ranges::{Range, subtract};
use super::window::Window;

/// How often a neighbour may ask for all that is kept, and comes to be kept, within the time that it is kept for. Once is
/// enough; a request that times out is made up to three times.
const TIMES: u64 = 3;
/// What it may ask for however little is kept.
const LEAST: u64 = 1 << 20;

/// What a neighbour was sent because it asked.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    since: Option<Instant>,
    bytes: u64,
    /// All that was ever kept, at that time, but for what was kept still.
    before: u64,
}

impl Pulls {
    /// So many bytes more: whether that is more than anybody needs.
    pub(crate) fn is_too_much(
        &mut self,
        size: u64,
        window: &Window,
        kept_for: Duration,
        now: Instant,
    ) -> bool {
        if self.since.is_none_or(|since| since + kept_for <= now) {
            *self = Self { since: Some(now), bytes: 0, before: window.ever().saturating_sub(window.bytes()) };
        }
        let kept = window.ever().saturating_sub(self.before).max(LEAST);
        if self.bytes + size > kept.saturating_mul(TIMES) {
            return true;
        }
        self.bytes += size;
        false
    }
}

impl Neighbour {
    /// What of a range that it asks for it will not have anyway, because that is owed already or queued. It need not
    /// hear of any of it.
    pub(crate) fn not_under_way(
        &mut self,
        stream: StreamKey,
        range: Range,
        queued: impl Iterator<Item = u64>,
    ) -> Vec<Range> {
        let mut ranges = vec![range];
        for owed in self.owed.iter().filter(|owed| owed.stream == stream && owed.range.meets(range)) {
            subtract(&mut ranges, owed.range);
        }
        self.offered.retain(|id, _| id.stream() != stream || !range.meets(Range::one(id.seq)));
        queued.for_each(|seq| subtract(&mut ranges, Range::one(seq)));
        for news in [News::Lazy, News::PutOff] {
            self.note_no_more(stream, range, news);
        }
        ranges
    }
}
