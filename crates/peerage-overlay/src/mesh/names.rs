//! Short numbers for streams in what is announced on one link: 2 bytes in place of 43.

use peerage_machine::Instant;

use super::lru::Lru;
use super::message::StreamKey;
use super::packet::{MAX_NAME, Notice, Run};

/// What a number that we gave takes in memory, and one that was given to us.
pub(crate) const GIVEN_BYTES: usize = 160;
pub(crate) const TAKEN_BYTES: usize = size_of::<Option<StreamKey>>();

/// The numbers of one link, both ways. They live as long as the link: who is a neighbour changes nothing.
#[derive(Debug)]
pub(crate) struct Names {
    /// Ours: the number, and when it was said first.
    given: Lru<StreamKey, (u8, Instant)>,
    /// The peer's: the first is that of 1.
    taken: Vec<Option<StreamKey>>,
}

impl Default for Names {
    fn default() -> Self {
        Self { given: Lru::new(MAX_NAME.into()), taken: Vec::new() }
    }
}

impl Names {
    /// How to announce this run now. A number is said with what it stands for until the turn in which that was said is
    /// over, for the link may refuse it.
    pub(crate) fn notice(&mut self, run: Run, now: Instant) -> Notice {
        let Run { stream, ranges, hops, now: urgent } = run;
        if self.given.peek(&stream).is_none() {
            let free = if self.given.len() < MAX_NAME.into() {
                self.given.len() as u8 + 1
            } else {
                self.given.pop_oldest().map_or(MAX_NAME, |(_, (name, _))| name)
            };
            self.given.insert(stream, (free, now));
        }
        let (name, since) = *self.given.touch(&stream, || (MAX_NAME, now)).0;
        let stream = (since >= now).then_some(stream);
        Notice { name, stream, ranges, hops, now: urgent }
    }

    /// The link refused something: what our numbers stand for is said again.
    pub(crate) fn refused(&mut self) {
        self.given = Lru::new(MAX_NAME.into());
    }

    /// What a notice of the peer's is about; `None` if nobody said what its number stands for.
    pub(crate) fn run(&mut self, notice: Notice) -> Option<Run> {
        let Notice { name, stream, ranges, hops, now } = notice;
        let at = usize::from(name).checked_sub(1);
        if let (Some(at), Some(stream)) = (at, stream) {
            if self.taken.len() <= at {
                self.taken.resize(at + 1, None);
            }
            if let Some(taken) = self.taken.get_mut(at) {
                *taken = Some(stream);
            }
        }
        let stream = stream.or_else(|| *self.taken.get(at?)?)?;
        Some(Run { stream, ranges, hops, now })
    }

    pub(crate) fn footprint(&self) -> usize {
        self.given.len() * GIVEN_BYTES + self.taken.len() * TAKEN_BYTES
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
        let mut now = Instant::START;
        for round in 0..3 {
            for origin in 1..=200 {
                let notice = ours.notice(run(origin), now);
                // 200 streams take turns, so that none keeps its number of 127.
                assert!(notice.stream.is_some(), "round {round}: {origin}");
                assert_eq!(theirs.run(notice), Some(run(origin)));
            }
        }
        now = now + Duration::from_millis(1);
        for _ in 0..2 {
            for origin in 100..=200 {
                let notice = ours.notice(run(origin), now);
                assert!(notice.stream.is_none());
                assert_eq!(theirs.run(notice), Some(run(origin)));
            }
        }
        ours.refused();
        assert!(ours.notice(run(200), now).stream.is_some());
        assert!(ours.footprint() + theirs.footprint() > 0);
    }

    #[test]
    fn a_number_that_nobody_explained_stands_for_nothing() {
        let mut names = Names::default();
        let notice = |name, stream| Notice { name, stream, ranges: Vec::new(), hops: 0, now: false };
        assert_eq!(names.run(notice(3, None)), None);
        assert!(names.run(notice(3, Some(run(7).stream))).is_some());
        assert_eq!(names.run(notice(2, None)), None);
        assert_eq!(names.run(notice(3, None)).map(|run| run.stream), Some(run(7).stream));
        // Without a number nothing is remembered.
        assert!(names.run(notice(0, Some(run(8).stream))).is_some());
        assert_eq!(names.run(notice(0, None)), None);
    }
}
