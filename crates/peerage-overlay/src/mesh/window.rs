//! The messages that are kept for neighbours that did not get them yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use peerage_machine::{Instant, LinkId};

use super::config::MeshConfig;
use super::message::{MessageId, Signed, StreamKey};
use super::packet::Span;
use super::ranges::{Range, append};

/// What an entry takes beside the message, in bytes: two keys, a time, and the share of the map's nodes.
pub(crate) const ENTRY_BYTES: u64 = 256;

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) message: Arc<Signed>,
    /// As in the payload that it came in.
    pub(crate) hops: u32,
    /// Whether it came by itself, not because it was asked for.
    pub(crate) pushed: bool,
    /// Who sent it; `None` when it is our own.
    pub(crate) from: Option<LinkId>,
    /// When it came.
    pub(crate) since: Instant,
}

#[derive(Debug)]
pub(crate) struct Window {
    messages: BTreeMap<MessageId, Held>,
    order: VecDeque<(MessageId, Instant)>,
    bytes: u64,
    /// Of all messages that were ever kept.
    ever: u64,
    max_bytes: u64,
    max_messages: usize,
    max_age: Duration,
}

impl Window {
    pub(crate) fn new(config: &MeshConfig) -> Self {
        Self {
            messages: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            ever: 0,
            max_bytes: config.retain_bytes,
            max_messages: config.retain_messages,
            max_age: config.retain_for,
        }
    }

    /// Keeps a message; the oldest ones go when there is no room. The newest stays, however large.
    pub(crate) fn insert(&mut self, now: Instant, held: Held) {
        let id = held.message.id;
        let size = held.message.footprint() + ENTRY_BYTES;
        if self.messages.insert(id, held).is_some() {
            return;
        }
        self.bytes += size;
        self.ever = self.ever.saturating_add(size);
        self.order.push_back((id, now));
        while self.order.len() > 1 && (self.bytes > self.max_bytes || self.order.len() > self.max_messages) {
            self.drop_oldest();
        }
    }

    /// Drops what is too old.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(_, since)| *since + self.max_age <= now) {
            self.drop_oldest();
        }
    }

    /// When the oldest message is too old.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.order.front().map(|(_, since)| *since + self.max_age)
    }

    fn drop_oldest(&mut self) {
        if let Some((id, _)) = self.order.pop_front()
            && let Some(held) = self.messages.remove(&id)
        {
            self.bytes = self.bytes.saturating_sub(held.message.footprint() + ENTRY_BYTES);
        }
    }

    pub(crate) fn get(&self, id: &MessageId) -> Option<&Held> {
        self.messages.get(id)
    }

    /// The first message that is held of a range.
    pub(crate) fn first_in(&self, stream: StreamKey, range: Range) -> Option<(u64, &Held)> {
        let span = stream.message(range.first)..=stream.message(range.last);
        self.messages.range(span).next().map(|(id, held)| (id.seq, held))
    }

    /// What is held of what was said between these, by its origins' clocks, in the order of the ids.
    pub(crate) fn between(&self, span: Span) -> impl Iterator<Item = &MessageId> {
        let held = self.messages.iter();
        held.filter(move |(_, held)| (span.since..=span.until).contains(&held.message.sent)).map(|(id, _)| id)
    }

    /// The same, by stream.
    pub(crate) fn streams(&self, span: Span) -> Vec<(StreamKey, Vec<Range>)> {
        let mut streams: Vec<(StreamKey, Vec<Range>)> = Vec::new();
        for id in self.between(span) {
            match streams.last_mut() {
                Some((stream, ranges)) if *stream == id.stream() => append(ranges, id.seq),
                _ => streams.push((id.stream(), vec![Range::one(id.seq)])),
            }
        }
        streams
    }

    /// What is held of one stream.
    pub(crate) fn ranges(&self, stream: StreamKey) -> Vec<Range> {
        let mut ranges = Vec::new();
        for (id, _) in self.messages.range(stream.message(0)..=stream.message(u64::MAX)) {
            append(&mut ranges, id.seq);
        }
        ranges
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Bytes of all that were ever kept.
    pub(crate) fn ever(&self) -> u64 {
        self.ever
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
