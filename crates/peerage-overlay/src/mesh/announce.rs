//! Announcements that leave: what waits to be told to each neighbour, and when it goes.
//!
//! They wait for each other. While messages come in quick succession they also wait for a message that is pushed to the
//! neighbour anyway: what goes with it in one record costs neither end a packet of its own, which is most of what an
//! announcement costs.

use peerage_machine::{Instant, LinkId};

use super::broadcast::{Broadcast, Timer};
use super::links::Cx;
use super::lru::Lru;
use super::message::{MessageId, StreamKey};
use super::neighbour::{Neighbour, News};
use super::packet::{MAX_HOPS, Run, Words};
use super::ranges::{Range, append, normalise, subtract};
use super::repair::packets;
use super::stream::Stream;

/// Ranges that wait to be announced to one neighbour. More are left to the next summary.
pub(crate) const MAX_ANNOUNCE_RANGES: usize = 4096;
/// Streams in the same place.
pub(crate) const MAX_ANNOUNCE_STREAMS: usize = 1024;
/// Messages between two flushes from which on they come in quick succession: more will come while the first wait.
const QUICK: u32 = 3;
/// Flushes that announcements may then let pass: with those before the first, four times
/// [`announce_after`](super::MeshConfig::announce_after) in all.
pub(crate) const MOST_WAITS: u8 = 3;

/// What waits to be announced of one stream, for one reason, with the hops of the newest.
#[derive(Debug)]
pub(crate) struct Note {
    stream: StreamKey,
    news: News,
    pub(crate) ranges: Vec<Range>,
    hops: u32,
}

/// All that waits to be announced to one neighbour, in the order of the streams. There is little of it at a time, and it
/// is added to with each message.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    fn find(&self, stream: &StreamKey, news: News) -> Result<usize, usize> {
        self.0.binary_search_by(|it| it.stream.cmp(stream).then(it.news.cmp(&news)))
    }

    pub(crate) fn get(&self, stream: &StreamKey, news: News) -> Option<&Note> {
        self.0.get(self.find(stream, news).ok()?)
    }

    pub(crate) fn remove(&mut self, stream: &StreamKey, news: News) -> Option<Note> {
        self.find(stream, news).ok().map(|at| self.0.remove(at))
    }

    /// Streams of which something is noted for this reason.
    pub(crate) fn streams(&self, news: News) -> impl Iterator<Item = StreamKey> {
        self.0.iter().filter(move |it| it.news == news).map(|it| it.stream)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Neighbour {
    /// Has a message announced with the next flush; false when too much waits already.
    pub(crate) fn note(&mut self, id: MessageId, hops: u32, news: News) -> bool {
        let stream = id.stream();
        // Whoever has a stream from a comparison alone does not know how far it is: as far as can be said.
        let hops = hops.min(MAX_HOPS);
        if self.announce.is_empty() {
            self.announce_waits = 0;
        }
        if self.announce_ranges >= MAX_ANNOUNCE_RANGES {
            return false;
        }
        match self.announce.find(&stream, news) {
            Ok(at) => {
                let Some(note) = self.announce.0.get_mut(at) else { return false };
                let before = note.ranges.len();
                append(&mut note.ranges, id.seq);
                self.announce_ranges += note.ranges.len() - before;
                note.hops = hops;
            }
            Err(_) if self.announce.len() >= MAX_ANNOUNCE_STREAMS => return false,
            Err(at) => {
                let ranges = vec![Range::one(id.seq)];
                self.announce.0.insert(at, Note { stream, news, ranges, hops });
                self.announce_ranges += 1;
            }
        }
        true
    }

    /// The neighbour has these itself, and is so far from the origin: they need not be announced to it, unless it would
    /// be nearer by us.
    pub(crate) fn has(&mut self, stream: StreamKey, range: Range, depth: u32) {
        if self.announce.is_empty() {
            return;
        }
        for news in [News::Lazy, News::PutOff] {
            let Ok(at) = self.announce.find(&stream, news) else { continue };
            let nearer_by_us =
                news == News::Lazy && self.announce.0.get(at).is_some_and(|note| note.hops < depth);
            if !nearer_by_us {
                self.take_out(at, range);
            }
        }
    }

    /// Takes a range out of what is to be announced.
    pub(crate) fn note_no_more(&mut self, stream: StreamKey, range: Range, news: News) {
        if let Ok(at) = self.announce.find(&stream, news) {
            self.take_out(at, range);
        }
    }

    /// The same of the note at this place.
    fn take_out(&mut self, at: usize, range: Range) {
        let Some(note) = self.announce.0.get_mut(at) else { return };
        let before = note.ranges.len();
        subtract(&mut note.ranges, range);
        let left = note.ranges.len();
        self.announce_ranges = (self.announce_ranges + left).saturating_sub(before);
        if left == 0 {
            self.announce.0.remove(at);
        }
    }

    /// What waits to be announced goes with the next flush, or before.
    pub(crate) fn hurry(&mut self) {
        self.announce_waits = MOST_WAITS;
    }

    /// Whether what is to be announced may wait for a push to go with.
    fn may_wait(&self) -> bool {
        self.announce_waits < MOST_WAITS && self.announce.streams(News::PutOff).next().is_none()
    }
}

impl Broadcast {
    pub(crate) fn arm_flush(&mut self, cx: &Cx<'_>) {
        if !self.timers.is_armed(&Timer::Flush) {
            self.timers.arm(Timer::Flush, cx.now.mono + self.config.announce_after);
        }
    }

    /// Announces what has waited long enough.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.mono;
        let quick = std::mem::take(&mut self.noted) >= QUICK;
        let mut again = false;
        for (link, neighbour) in &mut self.neighbours {
            if neighbour.announce.is_empty() {
                continue;
            }
            if quick && neighbour.may_wait() {
                neighbour.announce_waits += 1;
                again = true;
            } else if is_busy(*link, now, cx) {
                again = true;
            } else {
                announce(*link, neighbour, &self.streams, cx);
            }
        }
        if again {
            self.timers.arm(Timer::Flush, now + self.config.announce_after);
        }
    }

    /// A message is pushed to this neighbour: what has let a flush pass for this goes with it.
    pub(crate) fn announce_beside(&mut self, link: LinkId, cx: &mut Cx<'_>) {
        if let Some(neighbour) = self.neighbours.get_mut(&link)
            && neighbour.announce_waits > 0
            && !neighbour.announce.is_empty()
            && !is_busy(link, cx.now.mono, cx)
        {
            announce(link, neighbour, &self.streams, cx);
        }
    }
}

fn is_busy(link: LinkId, now: Instant, cx: &Cx<'_>) -> bool {
    cx.links.get(link).is_none_or(|link| link.is_busy(now))
}

/// Announces all that waits for this.
fn announce(link: LinkId, neighbour: &mut Neighbour, streams: &Lru<StreamKey, Stream>, cx: &mut Cx<'_>) {
    neighbour.announce_ranges = 0;
    let Notes(waiting) = std::mem::take(&mut neighbour.announce);
    let runs = waiting.into_iter().map(|Note { stream: key, news, mut ranges, hops }| {
        normalise(&mut ranges);
        // What the trees will be like when the origin is quiet: others need not wait for the next message to learn of it.
        let fed = streams.peek(&key).filter(|stream| stream.from.is_some());
        let soon = fed.map(|stream| stream.hops_soon(&key, cx));
        let hops = soon.map_or(hops, |soon| hops.min(soon.saturating_add(1)));
        Run { stream: key, ranges, hops, now: news == News::PutOff }
    });
    for runs in packets(runs) {
        let notices = cx.links.notices(link, runs, cx.now.mono);
        cx.links.control_if_room(link, Words::Announce { notices }, cx.out);
    }
}
