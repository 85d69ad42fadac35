//! Short numbers for streams in what is announced on one link: 2 bytes in place of 43.

use std::sync::Arc;

use peerage_machine::Instant;

use super::lru::Key as _;
use super::message::StreamKey;
use super::packet::{MAX_NAME, Notice, Run};

/// What a number that we gave takes in memory, and one that was given to us, each with a stream that no other stands for;
/// and with a quarter of one that nothing stands for any more.
pub(crate) const GIVEN_BYTES: usize = size_of::<Given>() + KEY_BYTES + KEY_BYTES / 4;
pub(crate) const TAKEN_BYTES: usize = size_of::<Option<Arc<StreamKey>>>() + KEY_BYTES + KEY_BYTES / 4;
/// What a stream takes: itself, two counts, and its place in a set.
const KEY_BYTES: usize = 80;
/// Rooms for numbers are made so many at a time.
const STEP: usize = 8;
/// Streams that nothing stands for any more are looked for when there are a quarter and so many more.
const SPARE: usize = 32;

/// The streams that the numbers of all links stand for, each once: most are known on every link.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// Ascending, each behind its head, so that few are looked at to find one.
    keys: Vec<(u32, Arc<StreamKey>)>,
    /// How many there were when those that nothing stands for were let go last.
    needed: usize,
}

impl Keys {
    fn find(&self, stream: &StreamKey) -> Result<usize, usize> {
        let head = stream.head();
        self.keys.binary_search_by(|(known, key)| known.cmp(&head).then_with(|| key.as_ref().cmp(stream)))
    }

    fn share(&mut self, stream: &StreamKey) -> Arc<StreamKey> {
        if let Ok(at) = self.find(stream)
            && let Some((_, known)) = self.keys.get(at)
        {
            return Arc::clone(known);
        }
        if self.keys.len() >= self.needed + self.needed / 4 + SPARE {
            self.keys.retain(|(_, key)| Arc::strong_count(key) > 1);
            self.needed = self.keys.len();
        }
        if self.keys.len() == self.keys.capacity() {
            self.keys.reserve_exact(STEP + self.keys.len() / 4);
        }
        let key = Arc::new(*stream);
        let (Ok(at) | Err(at)) = self.find(stream);
        self.keys.insert(at, (stream.head(), Arc::clone(&key)));
        key
    }

    pub(crate) fn footprint(&self) -> usize {
        self.keys.len() * KEY_BYTES
    }
}

/// A number of ours: one more than its place.
#[derive(Debug)]
struct Given {
    stream: Arc<StreamKey>,
    /// When it was used last, by the count of uses.
    used: u64,
}

/// The numbers of one link, both ways. They live as long as the link: who is a neighbour changes nothing.
#[derive(Debug, Default)]
pub(crate) struct Names {
    given: Vec<Given>,
    uses: u64,
    /// When a number was given last, and the places of those that were given then.
    fresh: (Instant, Vec<u8>),
    /// The peer's: the first is that of 1.
    taken: Vec<Option<Arc<StreamKey>>>,
}

impl Names {
    /// How to announce this run now. A number is said with what it stands for until the turn in which that was said is
    /// over, for the link may refuse it.
    pub(crate) fn notice(&mut self, run: Run, now: Instant, keys: &mut Keys) -> Notice {
        let Run { stream, ranges, hops, now: urgent } = run;
        let key = keys.share(&stream);
        self.uses += 1;
        let used = self.uses;
        let known = self.given.iter().position(|given| Arc::ptr_eq(&given.stream, &key));
        if self.fresh.0 < now {
            self.fresh = (now, Vec::new());
        }
        // It fits: at most 126.
        let at = known.unwrap_or_else(|| self.give(Given { stream: key, used })) as u8;
        if known.is_none() {
            self.fresh.1.push(at);
        }
        if let Some(given) = self.given.get_mut(usize::from(at)) {
            given.used = used;
        }
        let is_fresh = self.fresh.1.contains(&at);
        Notice { name: at + 1, stream: is_fresh.then_some(stream), ranges, hops, now: urgent }
    }

    /// A number that is free, or that of the stream that was not spoken of for longest.
    fn give(&mut self, new: Given) -> usize {
        if self.given.len() < MAX_NAME.into() {
            if self.given.len() == self.given.capacity() {
                self.given.reserve_exact(STEP);
            }
            self.given.push(new);
            return self.given.len() - 1;
        }
        let oldest = self.given.iter_mut().enumerate().min_by_key(|(_, given)| given.used);
        oldest.map_or(0, |(at, given)| {
            *given = new;
            at
        })
    }

    /// The link refused something: what our numbers stand for is said again.
    pub(crate) fn refused(&mut self) {
        self.given.clear();
        self.fresh.1.clear();
    }

    /// What a notice of the peer's is about; `None` if nobody said what its number stands for.
    pub(crate) fn run(&mut self, notice: Notice, keys: &mut Keys) -> Option<Run> {
        let Notice { name, stream, ranges, hops, now } = notice;
        let at = usize::from(name).checked_sub(1);
        if let (Some(at), Some(stream)) = (at, stream) {
            if self.taken.len() <= at {
                self.taken.reserve_exact((at + 1).next_multiple_of(STEP) - self.taken.len());
                self.taken.resize(at + 1, None);
            }
            if let Some(taken) = self.taken.get_mut(at) {
                *taken = Some(keys.share(&stream));
            }
        }
        let stream = stream.or_else(|| self.taken.get(at?)?.as_deref().copied())?;
        Some(Run { stream, ranges, hops, now })
    }

    pub(crate) fn footprint(&self) -> usize {
        self.given.len() * size_of::<Given>() + self.taken.len() * size_of::<Option<Arc<StreamKey>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::ranges::Range;
    use peerage_wire::PeerId;
    use std::time::Duration;

    fn run(origin: u8) -> Run {
        let stream = StreamKey { origin: PeerId::from_bytes([origin; 32]), epoch: 1 };
        Run { stream, ranges: vec![Range::one(1)], hops: 1, now: false }
    }

    #[test]
    fn numbers_are_explained_until_they_are_known_and_again_when_they_change() {
        let (mut ours, mut theirs) = (Names::default(), Names::default());
        let (mut our_keys, mut their_keys) = (Keys::default(), Keys::default());
        let mut now = Instant::START;
        for round in 0..3 {
            for origin in 1..=200 {
                let notice = ours.notice(run(origin), now, &mut our_keys);
                // 200 streams take turns, so that none keeps its number of 127.
                assert!(notice.stream.is_some(), "round {round}: {origin}");
                assert_eq!(theirs.run(notice, &mut their_keys), Some(run(origin)));
            }
        }
        now = now + Duration::from_millis(1);
        for _ in 0..2 {
            for origin in 100..=200 {
                let notice = ours.notice(run(origin), now, &mut our_keys);
                assert!(notice.stream.is_none());
                assert_eq!(theirs.run(notice, &mut their_keys), Some(run(origin)));
            }
        }
        ours.refused();
        assert!(ours.notice(run(200), now, &mut our_keys).stream.is_some());
        assert!(ours.footprint() + theirs.footprint() > 0);
    }

    #[test]
    fn a_number_that_nobody_explained_stands_for_nothing() {
        let (mut names, mut keys) = (Names::default(), Keys::default());
        let notice = |name, stream| Notice { name, stream, ranges: Vec::new(), hops: 0, now: false };
        assert_eq!(names.run(notice(3, None), &mut keys), None);
        assert!(names.run(notice(3, Some(run(7).stream)), &mut keys).is_some());
        assert_eq!(names.run(notice(2, None), &mut keys), None);
        assert_eq!(names.run(notice(3, None), &mut keys).map(|run| run.stream), Some(run(7).stream));
        // Without a number nothing is remembered.
        assert!(names.run(notice(0, Some(run(8).stream)), &mut keys).is_some());
        assert_eq!(names.run(notice(0, None), &mut keys), None);
    }
}
