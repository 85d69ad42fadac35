//! The messages that are kept for neighbours that did not get them yet.

use std::collections::VecDeque;
use std::time::Duration;

use peerage_machine::{Instant, UnixMillis};

use super::config::MeshConfig;
use super::convert::{head_len, mend, sent};
use super::held::{Coming, Held, Left};
use super::kept::Streams;
use super::message::{MessageId, Signed, StreamKey};
use super::packet::Span;
use super::ranges::{Range, append};
use super::room::{give_back, more};

/// Where a message is is told by 32 bits.
const MOST: usize = 1 << 31;

/// A message that is kept, and what the window knows of all of its stream.
pub(crate) struct Found<'a> {
    pub(crate) held: &'a Held,
    stream: StreamKey,
    sent: UnixMillis,
    network: &'a str,
}

impl Found<'_> {
    /// The length of its body.
    pub(crate) fn body_len(&self) -> usize {
        let head = match &self.held.left {
            Left::Cut(_) => head_len(self.network, &self.id(), self.sent_apart()),
            Left::Whole(_) => 0,
        };
        head + self.held.left.body().len()
    }

    /// When it was said, if what is left of its bytes does not say so.
    fn sent_apart(&self) -> Option<UnixMillis> {
        self.held.apart().map(|_| self.sent)
    }

    fn id(&self) -> MessageId {
        self.stream.message(self.held.seq)
    }

    /// The message again.
    pub(crate) fn message(&self) -> Signed {
        let bytes = match &self.held.left {
            Left::Cut(left) => mend(left, self.network, &self.id(), self.sent_apart()),
            Left::Whole(bytes) => bytes.as_ref().clone(),
        };
        Signed { id: self.id(), sent: self.sent, bytes, target: None }
    }
}

/// The messages as they came, and for each stream where its own are, ascending by their numbers, so that the newest is mostly
/// put last and the oldest taken first.
#[derive(Debug)]
pub(crate) struct Window {
    messages: VecDeque<Held>,
    /// How many have come and gone, modulo 2^32: what is beyond that is where a message is.
    gone: u32,
    /// For each stream, how many messages had come before each of its own.
    streams: Streams,
    network: Box<str>,
    /// What origins' clocks showed at [`Instant::START`], by the first message: all others say how far they are from that.
    clock: Option<u64>,
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
            streams: Streams::default(),
            network: config.name.as_str().into(),
            clock: None,
            bytes: 0,
            ever: 0,
            max_bytes: config.retain_bytes,
            max_messages: config.retain_messages.min(MOST),
            max_age: config.retain_for,
        }
    }

    /// Keeps a message; the oldest ones go when there is no room. The newest stays, however large.
    pub(crate) fn insert(&mut self, message: &Signed, how: Coming) {
        let (key, seq) = (message.id.stream(), message.id.seq);
        let number = self.gone.wrapping_add(self.messages.len() as u32);
        let stream = self.streams.name(key);
        let Some(numbers) = self.streams.get_mut(stream) else { return };
        match find(numbers, &self.messages, self.gone, seq) {
            Ok(at) => {
                // It came again after its stream was forgotten. It goes when it would have.
                let number = numbers.get(at).map_or(self.gone, |number| *number).wrapping_sub(self.gone);
                if let Some(held) = self.messages.get_mut(number as usize) {
                    held.came(&how);
                }
                return;
            }
            Err(at) => {
                make_room(numbers);
                numbers.insert(at, number);
            }
        }
        let apart = self.apart(message.sent, how.since);
        let held = Held::new(message, &self.network, stream, apart, &how);
        let size = held.footprint();
        self.bytes += size;
        self.ever = self.ever.saturating_add(size);
        make_room(&mut self.messages);
        self.messages.push_back(held);
        while self.len() > 1 && (self.bytes > self.max_bytes || self.len() > self.max_messages) {
            self.drop_oldest();
        }
    }

    /// How far the origin's clock is from ours, which went by the first message's.
    fn apart(&mut self, sent: UnixMillis, since: Instant) -> i64 {
        let start = sent.0.wrapping_sub(millis(since));
        start.wrapping_sub(*self.clock.get_or_insert(start)).cast_signed()
    }

    /// When a message was said.
    fn sent(&self, held: &Held) -> UnixMillis {
        match (self.clock, held.apart()) {
            (Some(clock), Some(apart)) => {
                UnixMillis(clock.wrapping_add(millis(held.since)).wrapping_add(apart.cast_unsigned()))
            }
            // There is a clock while a message is kept: its own says when.
            _ => sent(held.left.body()),
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
        if self.messages.is_empty() {
            // Where the next one's is may be nearer.
            self.clock = None;
        }
        let Some(numbers) = self.streams.get_mut(oldest.stream) else { return };
        // Mostly it is the first; an origin may have sent its numbers in any order.
        if numbers.front() == Some(&number) {
            numbers.pop_front();
        } else if let Some(at) = numbers.iter().position(|it| *it == number) {
            numbers.remove(at);
        }
        if numbers.is_empty() {
            self.streams.remove(oldest.stream);
            if let Some(renamed) = self.streams.shrink() {
                for held in &mut self.messages {
                    held.stream = renamed.get(&held.stream).copied().unwrap_or(held.stream);
                }
            }
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
    pub(crate) fn first_in(&self, stream: StreamKey, range: Range) -> Option<Found<'_>> {
        let numbers = self.streams.get(&stream)?;
        let (Ok(at) | Err(at)) = find(numbers, &self.messages, self.gone, range.first);
        let held = self.at(*numbers.get(at)?)?;
        let sent = self.sent(held);
        (held.seq <= range.last).then_some(Found { held, stream, sent, network: &self.network })
    }

    /// What is held of what was said between these, by its origins' clocks, in the order of the ids.
    pub(crate) fn between(&self, span: Span) -> impl Iterator<Item = MessageId> {
        self.streams.iter().flat_map(move |(stream, numbers)| {
            let held = numbers.iter().filter_map(|number| self.at(*number));
            held.filter(move |held| (span.since..=span.until).contains(&self.sent(held)))
                .map(move |held| stream.message(held.seq))
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

fn millis(since: Instant) -> u64 {
    since.as_micros() / 1000
}

fn make_room<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact(more(queue.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::convert::Draft;
    use crate::mesh::held::LONG;
    use crate::mesh::message::SIGNATURE;
    use crate::mesh::packet::{Packet, Words};
    use bytes::Bytes;
    use peerage_machine::{LinkId, Message as _};
    use peerage_wire::PeerId;
    use peerage_wire::proto::mesh::v1 as proto;
    use prost::Message as _;

    fn message(origin: u8, seq: u64) -> Signed {
        said(MessageId { origin: PeerId::from_bytes([origin; 32]), epoch: 7, seq }, 1000 + seq, 9)
    }

    fn said(id: MessageId, sent: u64, bytes: usize) -> Signed {
        let parts = vec![Bytes::from(vec![id.seq as u8; bytes])];
        let draft = Draft { network: "news", id, sent: UnixMillis(sent), parts, target: None };
        draft.sign(|_| [id.seq as u8; SIGNATURE])
    }

    fn from(link: u64, since: Instant) -> Coming {
        Coming { hops: 3, pushed: true, from: Some(LinkId(link)), since }
    }

    /// A message with this body, as it comes.
    fn written(body: proto::Body, written: &[u8]) -> Signed {
        let payload = proto::Payload {
            body: written.to_vec().into(),
            signature: [9; 64].to_vec().into(),
            ..Default::default()
        };
        let packet = proto::Packet { kind: Some(proto::packet::Kind::Payload(payload)) };
        let Ok(Packet(Words::Payload { message, .. })) = Packet::decode(packet.encode_to_vec().into()) else {
            unreachable!("it is well formed: {body:?}")
        };
        assert_eq!((message.body(), message.id.seq), (written, body.seq));
        message
    }

    #[test]
    fn what_came_first_goes_first_and_all_else_is_found_however_many_have_come() {
        let mut window = Window::new(&MeshConfig { retain_messages: 5, ..MeshConfig::named("news") });
        // The places of messages are counted beyond what 32 bits hold.
        window.gone = u32::MAX - 3;
        let came = [(1, 2), (2, 1), (1, 1), (1, 4), (2, 2), (1, 3), (2, 3), (3, 1)];
        for (at, (origin, seq)) in (0..).zip(came) {
            let now = Instant::START + Duration::from_secs(at);
            window.insert(&message(origin, seq), from(at, now));
        }
        for (at, (origin, seq)) in (0..).zip(came) {
            let message = message(origin, seq);
            let held = window.get(&message.id);
            assert_eq!(held.and_then(Held::from), (at >= 3).then_some(LinkId(at)), "{origin}/{seq}");
            let found = window.first_in(message.id.stream(), Range::one(seq));
            assert_eq!(found.is_some(), at >= 3);
            assert!(found.is_none_or(|found| found.message() == message));
        }
        let first = window.first_in(message(1, 1).id.stream(), Range::new(1, 9));
        assert_eq!(first.map(|found| found.held.seq), Some(3));
        let span = Span { since: UnixMillis(1002), until: UnixMillis(1003) };
        let kept: Vec<u64> = window.between(span).map(|id| id.seq).collect();
        assert_eq!(kept, [3, 2, 3]);
        assert_eq!(window.deadline(), Some(Instant::START + Duration::from_secs(3) + window.max_age));
        window.expire(Instant::START + Duration::from_secs(60) + window.max_age);
        assert_eq!((window.len(), window.bytes()), (0, 0));
        assert_eq!(window.streams.len(), 0);
    }

    #[test]
    fn what_few_streams_are_left_are_found_when_many_have_gone() {
        let mut window = Window::new(&MeshConfig { retain_messages: 90, ..MeshConfig::named("news") });
        (1..=80).for_each(|origin| window.insert(&message(origin, 1), from(1, Instant::START)));
        for seq in 2..=100 {
            let of = if seq % 2 == 0 { 80 } else { 7 };
            window.insert(&message(of, seq), from(seq, Instant::START));
        }
        assert_eq!(window.streams.len(), 2);
        for seq in 11..=100 {
            let message = message(if seq % 2 == 0 { 80 } else { 7 }, seq);
            assert_eq!(window.get(&message.id).and_then(Held::from), Some(LinkId(seq)));
            let found = window.first_in(message.id.stream(), Range::one(seq));
            assert!(found.is_some_and(|found| found.message() == message));
        }
        window.expire(Instant::START + window.max_age);
        assert_eq!((window.bytes(), window.streams.len()), (0, 0));
    }

    #[test]
    fn what_streams_and_places_say_is_not_kept_of_each_message() {
        let mut window = Window::new(&MeshConfig::named("news"));
        let stream = message(1, 1).id.stream();
        for epoch in [7, 1_700_000_000_000, 0] {
            let message = said(StreamKey { epoch, ..stream }.message(1), 1000, 50);
            window.insert(&message, from(1, Instant::START));
            let Some(found) = window.first_in(message.id.stream(), Range::one(1)) else {
                panic!("it is kept")
            };
            let Left::Cut(left) = &found.held.left else { panic!("it begins as all do") };
            // A part with what it is before it.
            assert_eq!(left.len(), 2 + 50 + SIGNATURE);
            assert_eq!((found.body_len(), found.message()), (message.body().len(), message));
        }
        assert!(size_of::<Held>() <= 48);
    }

    #[test]
    fn what_others_wrote_otherwise_is_kept_byte_for_byte() {
        let body = proto::Body {
            network: "news".into(),
            origin: vec![4; 32].into(),
            epoch: 7,
            seq: 1,
            sent: 1000,
            parts: vec![Bytes::from_static(b"part")],
        };
        let ours = body.encode_to_vec();
        // Up to the epoch, with it; then come the number and the time, of one byte and of two beside their tags.
        let head = head_len("news", &message(4, 0).id, None);
        let (same, rest) = ours.split_at(head);
        let mut padded_epoch = same[..head - 1].to_vec();
        padded_epoch.extend([0x87, 0]);
        let forms = [
            // In another order.
            [rest, same].concat(),
            // The stream said twice, in the same way and after another one's.
            [same, same, rest].concat(),
            [
                &proto::Body { epoch: 8, origin: vec![5; 32].into(), ..body.clone() }.encode_to_vec()[..head],
                same,
                rest,
            ]
            .concat(),
            [same, rest, &same[6..]].concat(),
            // A number that is longer than need be, and one that nobody knows.
            [&padded_epoch, rest].concat(),
            [&[0xf8, 1, 1], same, rest].concat(),
            [same, &[0xf8, 1, 1], rest].concat(),
            // The time before the number, each said twice, and a number and a time that are longer than need be.
            [same, &rest[2..5], &rest[..2], &rest[5..]].concat(),
            [same, &rest[..5], rest].concat(),
            [same, &[0x20, 2, 0x28, 9], rest].concat(),
            [same, &rest[..2], &[0x28, 9], &rest[2..]].concat(),
            [same, &[0x20, 0x81, 0], &rest[2..]].concat(),
            [same, &rest[..2], &[0x28, 0xe8, 0x87, 0], &rest[5..]].concat(),
            ours.clone(),
        ];
        for form in forms {
            let mut window = Window::new(&MeshConfig::named("news"));
            let message = written(body.clone(), &form);
            window.insert(&message, from(1, Instant::START));
            let Some(found) = window.first_in(message.id.stream(), Range::one(1)) else {
                panic!("it is kept")
            };
            assert_eq!((found.body_len(), found.message()), (form.len(), message));
            window.expire(Instant::START + window.max_age);
            assert_eq!((window.bytes(), window.streams.len()), (0, 0));
        }
    }

    #[test]
    fn a_message_says_when_it_was_said_however_far_its_clock_is() {
        let mut window = Window::new(&MeshConfig::named("news"));
        let years = 40 * 365 * 86_400_000;
        let times = [years, years + 5, years - 2, 0, u64::MAX, years + (1 << 31), years - (1 << 31), 7];
        for (seq, sent) in (1..).zip(times) {
            let message = said(MessageId { seq, ..message(1, 1).id }, sent, 9);
            window.insert(&message, from(1, Instant::START + Duration::from_micros(seq * 1_300_700)));
        }
        for (seq, sent) in (1..).zip(times) {
            let found = window.first_in(message(1, 1).id.stream(), Range::one(seq));
            let expected = said(MessageId { seq, ..message(1, 1).id }, sent, 9);
            assert!(found.is_some_and(|found| {
                matches!(found.held.left, Left::Cut(_))
                    && (found.body_len(), found.message()) == (expected.body().len(), expected)
            }));
            let (since, until) = (UnixMillis(sent), UnixMillis(sent));
            let then: Vec<u64> = window.between(Span { since, until }).map(|id| id.seq).collect();
            assert_eq!(then, [seq]);
        }
    }

    #[test]
    fn long_messages_are_not_copied_and_links_whose_numbers_do_not_fit_are_nobody() {
        let mut window = Window::new(&MeshConfig::named("news"));
        let long = said(message(1, 1).id, 1000, LONG);
        window.insert(&long, from(1 << 32, Instant::START));
        let Some(found) = window.first_in(long.id.stream(), Range::one(1)) else { panic!("it is kept") };
        assert_eq!(found.message().bytes.as_ptr(), long.bytes.as_ptr());
        assert_eq!((found.held.from(), found.held.hops()), (None, 3));
    }
}
