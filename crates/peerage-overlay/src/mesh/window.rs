//! The messages that are kept for neighbours that did not get them yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use peerage_machine::{Instant, LinkId};

use super::config::MeshConfig;
use super::message::{MessageId, Signed, StreamKey};
use super::packet::Span;
use super::ranges::{Range, append};

/// What an entry takes beside the message, in bytes: its places in two queues, either of which may be half empty, and the
/// stream's in the map, for its only message.
pub(crate) const ENTRY_BYTES: u64 = 224;

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

/// The messages of each stream ascending, so that the newest is mostly put last and the oldest taken first.
#[derive(Debug)]
pub(crate) struct Window {
    streams: BTreeMap<StreamKey, VecDeque<Held>>,
    /// As they came.
    order: VecDeque<(Arc<Signed>, Instant)>,
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
            streams: BTreeMap::new(),
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
        let message = Arc::clone(&held.message);
        let size = message.footprint() + ENTRY_BYTES;
        let stream = self.streams.entry(id.stream()).or_insert_with(|| VecDeque::with_capacity(1));
        match find(stream, id.seq) {
            Ok(at) => {
                if let Some(known) = stream.get_mut(at) {
                    *known = held;
                }
                return;
            }
            Err(at) => stream.insert(at, held),
        }
        self.bytes += size;
        self.ever = self.ever.saturating_add(size);
        self.order.push_back((message, now));
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
        let Some((message, _)) = self.order.pop_front() else { return };
        let id = message.id;
        self.bytes = self.bytes.saturating_sub(message.footprint() + ENTRY_BYTES);
        let Some(stream) = self.streams.get_mut(&id.stream()) else { return };
        if let Ok(at) = find(stream, id.seq) {
            stream.remove(at);
        }
        if stream.is_empty() {
            self.streams.remove(&id.stream());
        } else {
            give_back(stream);
        }
        give_back(&mut self.order);
    }

    pub(crate) fn get(&self, id: &MessageId) -> Option<&Held> {
        let stream = self.streams.get(&id.stream())?;
        stream.get(find(stream, id.seq).ok()?)
    }

    /// The first message that is held of a range.
    pub(crate) fn first_in(&self, stream: StreamKey, range: Range) -> Option<(u64, &Held)> {
        let held = self.streams.get(&stream)?;
        let (Ok(at) | Err(at)) = find(held, range.first);
        held.get(at).map(|held| (held.message.id.seq, held)).filter(|(seq, _)| *seq <= range.last)
    }

    /// What is held of what was said between these, by its origins' clocks, in the order of the ids.
    pub(crate) fn between(&self, span: Span) -> impl Iterator<Item = &MessageId> {
        let held = self.streams.values().flatten();
        held.map(|held| &*held.message)
            .filter(move |message| (span.since..=span.until).contains(&message.sent))
            .map(|message| &message.id)
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
        for held in self.streams.get(&stream).into_iter().flatten() {
            append(&mut ranges, held.message.id.seq);
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

/// Where a stream's message is, or belongs.
fn find(stream: &VecDeque<Held>, seq: u64) -> Result<usize, usize> {
    // Mostly it is the newest: each of those that a search looks at is in another part of memory.
    if stream.back().is_none_or(|newest| newest.message.id.seq < seq) {
        return Err(stream.len());
    }
    stream.binary_search_by_key(&seq, |held| held.message.id.seq)
}

/// What was needed in busier times.
pub(crate) fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 4 * queue.len().max(4) {
        queue.shrink_to(2 * queue.len());
    }
}
