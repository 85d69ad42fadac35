//! The messages that are kept for neighbours that did not get them yet.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{Instant, LinkId, UnixMillis};

use super::config::MeshConfig;
use super::convert::{sent, stream_of};
use super::message::{MessageId, Signed, StreamKey, footprint, split};
use super::packet::Span;
use super::ranges::{Range, append};

/// What an entry takes beside the message's bytes, in bytes: its place in the queue and that in its stream, either of which
/// may have room for twice as many, and the stream's in the map, for its only message.
pub(crate) const ENTRY_BYTES: u64 = 320;
/// A queue that is full gets room for a quarter more and so many: most of what a peer takes is its window.
const STEP: usize = 4;
/// Where a message is is told by 32 bits.
const MOST: usize = 1 << 31;

/// Stands for no link: they are numbered from zero.
const NOBODY: LinkId = LinkId(u64::MAX);

/// A message as it is kept: what neither its place in the window nor its body says.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// As in [`Signed`].
    bytes: Bytes,
    seq: u64,
    from: LinkId,
    /// When it came.
    pub(crate) since: Instant,
    /// As in the payload that it came in.
    pub(crate) hops: u32,
    /// Whether it came by itself, not because it was asked for.
    pub(crate) pushed: bool,
}

impl Held {
    pub(crate) fn new(
        message: &Signed,
        hops: u32,
        pushed: bool,
        from: Option<LinkId>,
        since: Instant,
    ) -> Self {
        let (bytes, seq) = (message.bytes.clone(), message.id.seq);
        Self { bytes, seq, from: from.unwrap_or(NOBODY), since, hops, pushed }
    }

    /// Who sent it; `None` when it is our own.
    pub(crate) fn from(&self) -> Option<LinkId> {
        Some(self.from).filter(|from| *from != NOBODY)
    }

    /// The message again.
    pub(crate) fn message(&self, stream: StreamKey) -> Signed {
        let (id, sent) = (stream.message(self.seq), self.sent());
        Signed { id, sent, bytes: self.bytes.clone(), target: None }
    }

    fn body(&self) -> &[u8] {
        split(&self.bytes).0
    }

    fn sent(&self) -> UnixMillis {
        sent(self.body())
    }

    /// What all of it takes.
    fn footprint(&self) -> u64 {
        footprint(&self.bytes) + ENTRY_BYTES
    }
}

/// The messages as they came, and for each stream where its own are, ascending by their numbers, so that the newest is mostly
/// put last and the oldest taken first.
#[derive(Debug)]
pub(crate) struct Window {
    messages: VecDeque<Held>,
    /// How many have come and gone, modulo 2^32: what is beyond that is where a message is.
    gone: u32,
    /// How many had come before each.
    streams: BTreeMap<StreamKey, VecDeque<u32>>,
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
            messages: VecDeque::new(),
            gone: 0,
            streams: BTreeMap::new(),
            bytes: 0,
            ever: 0,
            max_bytes: config.retain_bytes,
            max_messages: config.retain_messages.min(MOST),
            max_age: config.retain_for,
        }
    }

    /// Keeps a message; the oldest ones go when there is no room. The newest stays, however large.
    pub(crate) fn insert(&mut self, stream: StreamKey, held: Held) {
        let size = held.footprint();
        let number = self.gone.wrapping_add(self.messages.len() as u32);
        let numbers = self.streams.entry(stream).or_default();
        match find(numbers, &self.messages, self.gone, held.seq) {
            Ok(at) => {
                // It came again after its stream was forgotten. It goes when it would have.
                let number = numbers.get(at).map_or(self.gone, |number| *number).wrapping_sub(self.gone);
                if let Some(known) = self.messages.get_mut(number as usize) {
                    (known.hops, known.pushed, known.from) = (held.hops, held.pushed, held.from);
                }
                return;
            }
            Err(at) => {
                make_room(numbers);
                numbers.insert(at, number);
            }
        }
        self.bytes += size;
        self.ever = self.ever.saturating_add(size);
        make_room(&mut self.messages);
        self.messages.push_back(held);
        while self.len() > 1 && (self.bytes > self.max_bytes || self.len() > self.max_messages) {
            self.drop_oldest();
        }
    }

    /// Drops what is too old.
    pub(crate) fn expire(&mut self, now: Instant) {
        while self.messages.front().is_some_and(|held| held.since + self.max_age <= now) {
            self.drop_oldest();
        }
    }

    /// When the oldest message is too old.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.messages.front().map(|held| held.since + self.max_age)
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.messages.pop_front() else { return };
        self.bytes = self.bytes.saturating_sub(oldest.footprint());
        let number = self.gone;
        self.gone = self.gone.wrapping_add(1);
        give_back(&mut self.messages);
        let Some(stream) = stream_of(oldest.body()) else { return };
        let Some(numbers) = self.streams.get_mut(&stream) else { return };
        if let Some(at) = numbers.iter().position(|it| *it == number) {
            numbers.remove(at);
        }
        if numbers.is_empty() {
            self.streams.remove(&stream);
        } else {
            give_back(numbers);
        }
    }

    fn at(&self, number: u32) -> Option<&Held> {
        at(&self.messages, self.gone, number)
    }

    pub(crate) fn get(&self, id: &MessageId) -> Option<&Held> {
        let numbers = self.streams.get(&id.stream())?;
        let at = find(numbers, &self.messages, self.gone, id.seq).ok()?;
        self.at(*numbers.get(at)?)
    }

    /// The first message that is held of a range.
    pub(crate) fn first_in(&self, stream: StreamKey, range: Range) -> Option<(u64, &Held)> {
        let numbers = self.streams.get(&stream)?;
        let (Ok(at) | Err(at)) = find(numbers, &self.messages, self.gone, range.first);
        let held = self.at(*numbers.get(at)?)?;
        (held.seq <= range.last).then_some((held.seq, held))
    }

    /// What is held of what was said between these, by its origins' clocks, in the order of the ids.
    pub(crate) fn between(&self, span: Span) -> impl Iterator<Item = MessageId> {
        self.streams.iter().flat_map(move |(stream, numbers)| {
            let held = numbers.iter().filter_map(|number| self.at(*number));
            held.filter(move |held| (span.since..=span.until).contains(&held.sent()))
                .map(|held| stream.message(held.seq))
        })
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
        let numbers = self.streams.get(&stream).into_iter().flatten();
        for held in numbers.filter_map(|number| self.at(*number)) {
            append(&mut ranges, held.seq);
        }
        ranges
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of all that were ever kept.
    pub(crate) fn ever(&self) -> u64 {
        self.ever
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn at(messages: &VecDeque<Held>, gone: u32, number: u32) -> Option<&Held> {
    messages.get(number.wrapping_sub(gone) as usize)
}

/// Where among its stream's a message is, or belongs.
fn find(numbers: &VecDeque<u32>, messages: &VecDeque<Held>, gone: u32, seq: u64) -> Result<usize, usize> {
    // None is without a message.
    let seq_of = |number: &u32| at(messages, gone, *number).map_or(0, |held| held.seq);
    // Mostly it is the newest: each of those that a search looks at is in another part of memory.
    if numbers.back().is_none_or(|newest| seq_of(newest) < seq) {
        return Err(numbers.len());
    }
    numbers.binary_search_by_key(&seq, seq_of)
}

fn make_room<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(STEP + queue.len() / 4);
    }
}

/// What was needed in busier times.
pub(crate) fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 4 * queue.len().max(4) {
        queue.shrink_to(2 * queue.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::convert::Draft;
    use bytes::Bytes;
    use peerage_wire::PeerId;

    fn message(origin: u8, seq: u64) -> Signed {
        let id = MessageId { origin: PeerId::from_bytes([origin; 32]), epoch: 7, seq };
        let parts = vec![Bytes::copy_from_slice(&[origin; 9])];
        let draft = Draft { network: "news", id, sent: UnixMillis(1000 + seq), parts, target: None };
        draft.sign(|_| [origin; 64])
    }

    #[test]
    fn what_came_first_goes_first_and_all_else_is_found_however_many_have_come() {
        let mut window = Window::new(&MeshConfig { retain_messages: 5, ..MeshConfig::named("news") });
        // The places of messages are counted beyond what 32 bits hold.
        window.gone = u32::MAX - 3;
        let came = [(1, 2), (2, 1), (1, 1), (1, 4), (2, 2), (1, 3), (2, 3), (3, 1)];
        for (at, (origin, seq)) in (0..).zip(came) {
            let (message, now) = (message(origin, seq), Instant::START + Duration::from_secs(at));
            window.insert(message.id.stream(), Held::new(&message, 3, true, Some(LinkId(at)), now));
        }
        for (at, (origin, seq)) in (0..).zip(came) {
            let message = message(origin, seq);
            let held = window.get(&message.id);
            assert_eq!(held.and_then(Held::from), (at >= 3).then_some(LinkId(at)), "{origin}/{seq}");
            assert!(held.is_none_or(|held| held.message(message.id.stream()) == message));
        }
        let first = window.first_in(message(1, 1).id.stream(), Range::new(1, 9));
        assert_eq!(first.map(|(seq, _)| seq), Some(3));
        let span = Span { since: UnixMillis(1002), until: UnixMillis(1003) };
        let kept: Vec<u64> = window.between(span).map(|id| id.seq).collect();
        assert_eq!(kept, [3, 2, 3]);
        assert_eq!(window.deadline(), Some(Instant::START + Duration::from_secs(3) + window.max_age));
        window.expire(Instant::START + Duration::from_secs(60) + window.max_age);
        assert_eq!((window.len(), window.bytes(), window.streams.len()), (0, 0, 0));
    }
}
