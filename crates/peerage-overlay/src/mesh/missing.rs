//! What neighbours announced and is not here.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage_machine::{Instant, LinkId};

use super::message::{MessageId, StreamKey};
use super::promises::Promises;
use super::ranges::Range;

/// Neighbours that are remembered to have a message.
pub(crate) const MAX_SOURCES: usize = 8;
/// How often each is asked before a range is given up until somebody announces it again.
const ROUNDS: u32 = 3;
/// The part of all ranges that one neighbour may be the first to announce, if it is trusted and if not: all seven who are
/// not leave room for one who is.
const SHARE: usize = 3;
const UNTRUSTED_SHARE: usize = 8;
/// What a range takes in memory.
pub(crate) const GAP_BYTES: usize = 400;
/// More ranges than these are not looked through more often than this.
const MANY: usize = 256;
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
struct Source {
    link: LinkId,
    /// How far from the origin we would be by it.
    hops: u32,
    /// In this round.
    asked: bool,
}

#[derive(Clone, Debug)]
struct Gap {
    last: u64,
    /// Who announced it first.
    by: LinkId,
    sources: Vec<Source>,
    /// Ask for pushes of the origin's messages from now on, too.
    graft: bool,
    /// It takes long to come.
    large: bool,
    heard: Instant,
    /// Whether by somebody who is trusted.
    credible: bool,
    due: Instant,
    asked: Option<LinkId>,
    /// Whether whoever was asked is trusted.
    relied: bool,
    /// Whoever was asked and is not has it alone until then.
    alone: Instant,
    /// When whoever was asked should have sent it.
    until: Instant,
    /// Whoever was asked has sent it, and it is being looked at.
    kept: bool,
    round: u32,
}

/// A neighbour that announced something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcer {
    pub(crate) link: LinkId,
    /// How far from the origin we would be by it.
    pub(crate) hops: u32,
    /// Ask for pushes of the origin's messages from now on, too.
    pub(crate) graft: bool,
    /// It is known to take long to come.
    pub(crate) large: bool,
    /// Whether what it announces has come so far.
    pub(crate) trusted: bool,
}

/// What the parent of a stream is doing about a message that others announced. Announcements overtake pushes, all the more on
/// links that are full: that it is late is no reason to leave a parent that is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// There is none, or it has been silent for too long.
    Not,
    /// It is at it, or the message is here and being checked. Until then.
    Soon(Instant),
    /// It has passed on what follows, but not this.
    Passed,
}

/// A request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) link: LinkId,
    pub(crate) stream: StreamKey,
    pub(crate) range: Range,
    pub(crate) graft: bool,
    /// When it was first announced.
    pub(crate) heard: Instant,
}

/// What was known of a message that now came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// When it was first announced.
    pub(crate) heard: Instant,
    /// Whether by somebody who is trusted: others may announce what has not been said yet.
    pub(crate) credible: bool,
    /// Who was asked for it last.
    pub(crate) asked: Option<LinkId>,
    /// Who announced it from nearest to the origin, and how far we would be by that.
    pub(crate) nearest: Option<(LinkId, u32)>,
    /// Who else announced it.
    pub(crate) sources: Vec<LinkId>,
}

#[derive(Debug)]
pub(crate) struct Missing {
    /// By stream and first number; they do not overlap.
    gaps: BTreeMap<(StreamKey, u64), Gap>,
    /// How many of them each link announced first.
    counts: BTreeMap<LinkId, usize>,
    promises: Promises,
    limit: usize,
    /// Not after the first `due`, but for the pause.
    next: Option<Instant>,
    /// When they were looked through last.
    looked: Instant,
}

impl Missing {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            gaps: BTreeMap::new(),
            counts: BTreeMap::new(),
            promises: Promises::default(),
            limit,
            next: None,
            looked: Instant::START,
        }
    }

    /// The link has this range, which is not here. Due at that time, or when it was already. False when there is no
    /// room to remember it, or this link has taken its share: who announces what there is not must not silence others.
    pub(crate) fn announced(
        &mut self,
        stream: StreamKey,
        range: Range,
        by: Announcer,
        now: Instant,
        due: Instant,
    ) -> bool {
        let Announcer { link, hops, graft, large, trusted } = by;
        if self.gaps.len() + 2 >= self.limit {
            return false;
        }
        self.split(stream, range.first);
        if let Some(after) = range.last.checked_add(1) {
            self.split(stream, after);
        }
        let mut at = Some(range.first);
        let mut fresh = Vec::new();
        let mut first_due = due;
        for ((_, first), gap) in self.gaps.range_mut((stream, range.first)..=(stream, range.last)) {
            if let Some(at) = at.filter(|at| at < first) {
                fresh.push(Range::new(at, first - 1));
            }
            if gap.sources.len() < MAX_SOURCES && !gap.sources.iter().any(|source| source.link == link) {
                gap.sources.push(Source { link, hops, asked: false });
                if gap.asked.is_some() && !gap.relied {
                    gap.due = gap.due.min(due.max(gap.alone));
                }
            }
            if trusted && !gap.credible {
                gap.credible = true;
                gap.heard = now;
            }
            if gap.asked.is_none() {
                gap.due = gap.due.min(due);
            }
            gap.large |= large;
            first_due = first_due.min(gap.due);
            at = gap.last.checked_add(1);
        }
        if let Some(at) = at.filter(|at| *at <= range.last) {
            fresh.push(Range::new(at, range.last));
        }
        self.wake(first_due);
        for range in fresh {
            let share = (self.limit / if trusted { SHARE } else { UNTRUSTED_SHARE }).max(1);
            if self.gaps.len() >= self.limit || self.counts.get(&link).is_some_and(|count| *count >= share) {
                return false;
            }
            let gap = Gap {
                last: range.last,
                by: link,
                sources: vec![Source { link, hops, asked: false }],
                graft,
                large,
                heard: now,
                credible: trusted,
                due,
                asked: None,
                relied: false,
                alone: due,
                until: due,
                kept: false,
                round: 0,
            };
            self.put((stream, range.first), gap);
        }
        true
    }

    /// Makes `at` the first number of a gap if it lies within one.
    fn split(&mut self, stream: StreamKey, at: u64) {
        if let Some(((_, first), gap)) = self.gaps.range_mut((stream, 0)..=(stream, at)).next_back()
            && *first < at
            && at <= gap.last
        {
            let after = gap.clone();
            gap.last = at - 1;
            self.put((stream, at), after);
        }
    }

    fn put(&mut self, key: (StreamKey, u64), gap: Gap) {
        *self.counts.entry(gap.by).or_default() += 1;
        self.gaps.insert(key, gap);
    }

    fn take(&mut self, key: (StreamKey, u64)) -> Option<Gap> {
        let gap = self.gaps.remove(&key)?;
        uncount(&mut self.counts, gap.by);
        Some(gap)
    }

    /// The message is here, by this link.
    pub(crate) fn arrived(&mut self, id: &MessageId, from: Option<LinkId>) -> Option<Awaited> {
        let stream = id.stream();
        let ((_, first), gap) = self.gaps.range((stream, 0)..=(stream, id.seq)).next_back()?;
        if gap.last < id.seq {
            return None;
        }
        let nearest = gap.sources.iter().min_by_key(|it| it.hops).map(|it| (it.link, it.hops));
        let sources = gap.sources.iter().map(|it| it.link).collect();
        let awaited =
            Awaited { heard: gap.heard, credible: gap.credible, asked: gap.asked, nearest, sources };
        let first = *first;
        let mut gap = self.take((stream, first))?;
        if let Some(link) = gap.asked.filter(|link| Some(*link) != from && !gap.kept) {
            self.promise(link, *id, gap.until);
        }
        if id.seq < gap.last {
            self.put((stream, id.seq + 1), gap.clone());
        }
        if first < id.seq && self.gaps.len() < self.limit {
            gap.last = id.seq - 1;
            self.put((stream, first), gap);
        }
        Some(awaited)
    }

    /// Whether somebody was asked for it.
    pub(crate) fn is_asked(&self, id: &MessageId) -> bool {
        let at = self.gaps.range((id.stream(), 0)..=(id.stream(), id.seq)).next_back();
        at.is_some_and(|(_, gap)| id.seq <= gap.last && gap.asked.is_some())
    }

    /// The link is told that the message is here, and need not send it.
    pub(crate) fn call_off(&mut self, link: LinkId, id: &MessageId) {
        self.promises.keep(link, id);
    }

    fn promise(&mut self, link: LinkId, id: MessageId, until: Instant) {
        if self.promises.add(link, id, until) {
            self.wake(until);
        }
    }

    /// The link sent a message, which is looked at now. If it was asked for it, it has kept its promise, whatever we make
    /// of what it sent. Whether it has not sent it before.
    pub(crate) fn came(&mut self, id: &MessageId, link: LinkId) -> bool {
        let stream = id.stream();
        if self.promises.keep(link, id) {
            return true;
        }
        let at = self.gaps.range((stream, 0)..=(stream, id.seq)).next_back();
        if !at.is_some_and(|(_, gap)| id.seq <= gap.last && gap.asked == Some(link) && !gap.kept) {
            return false;
        }
        if self.gaps.len() + 2 < self.limit {
            self.split(stream, id.seq);
            if let Some(after) = id.seq.checked_add(1) {
                self.split(stream, after);
            }
            if let Some(gap) = self.gaps.get_mut(&(stream, id.seq)) {
                gap.kept = true;
            }
        }
        true
    }

    /// What will not be waited for any more.
    pub(crate) fn forget(&mut self, stream: StreamKey, range: Range) {
        self.split(stream, range.first);
        if let Some(after) = range.last.checked_add(1) {
            self.split(stream, after);
        }
        let gone: Vec<u64> = self
            .gaps
            .range((stream, range.first)..=(stream, range.last))
            .map(|((_, first), _)| *first)
            .collect();
        for first in gone {
            self.take((stream, first));
        }
    }

    /// The link is gone: what was asked of it is due at once.
    pub(crate) fn link_down(&mut self, link: LinkId, now: Instant) {
        let mut woken = false;
        self.promises.link_down(link);
        self.gaps.retain(|_, gap| {
            gap.sources.retain(|source| source.link != link);
            if gap.asked == Some(link) {
                gap.asked = None;
                gap.due = now;
                woken = true;
            }
            if gap.sources.is_empty() {
                uncount(&mut self.counts, gap.by);
            }
            !gap.sources.is_empty()
        });
        if woken {
            self.wake(now);
        }
    }

    /// What is announced of a stream is due at once: nobody pushes it.
    pub(crate) fn hurry(&mut self, stream: StreamKey, now: Instant) {
        let mut woken = false;
        for gap in self.gaps.range_mut((stream, 0)..=(stream, u64::MAX)).map(|(_, gap)| gap) {
            if gap.asked.is_none() {
                gap.due = gap.due.min(now);
                woken = true;
            }
        }
        if woken {
            self.wake(now);
        }
    }

    fn wake(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let pause = if self.gaps.len() > MANY { PAUSE } else { Duration::ZERO };
        self.next.map(|at| at.max(self.looked + pause))
    }

    /// What to ask for now, and of whom: those that are trusted first. One who is not is given `hasty` before the next is
    /// asked as well, if there is one. `answers_since` says when a link last sent something that it was asked for: a link
    /// that is at it is given `patience` from there, which goes by the link and by whether the message is large. `fed` says what the parent does about a message that was announced then.
    /// Then, how many ranges are given up, and who did not send what it was asked for.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        patience: impl Fn(LinkId, bool) -> Duration,
        hasty: impl Fn(LinkId) -> Duration,
        answers_since: impl Fn(LinkId) -> Instant,
        fed: impl Fn(&MessageId, Instant) -> Fed,
        trusted: impl Fn(LinkId, &StreamKey) -> bool,
    ) -> (Vec<Ask>, u64, Vec<LinkId>) {
        let (mut asks, mut next, mut given_up) = (Vec::new(), None::<Instant>, 0);
        let mut promises = Vec::new();
        let mut broken = self.promises.broken(now, |link| answers_since(link) + patience(link, true));
        self.gaps.retain(|(stream, first), gap| {
            if gap.due <= now {
                let busy = match gap.asked {
                    Some(link) => Some(answers_since(link) + patience(link, gap.large)),
                    None if gap.graft => match fed(&stream.message(*first), gap.heard) {
                        Fed::Soon(until) => Some(until),
                        Fed::Passed => {
                            gap.graft = false;
                            None
                        }
                        Fed::Not => None,
                    },
                    None => None,
                };
                if let Some(until) = busy.filter(|until| *until > now) {
                    gap.due = until;
                } else {
                    if let Some(link) = gap.asked.filter(|_| !gap.kept) {
                        if gap.until > now {
                            promises.push((link, stream.message(*first), gap.until));
                        } else {
                            broken.push(link);
                        }
                    }
                    if gap.sources.iter().all(|source| source.asked) {
                        gap.round += 1;
                        gap.sources.iter_mut().for_each(|source| source.asked = false);
                    }
                    let left = gap.sources.iter().filter(|source| !source.asked).count();
                    let open = gap.sources.iter_mut().filter(|source| !source.asked);
                    let source = open.min_by_key(|source| !trusted(source.link, stream));
                    let Some(source) = source.filter(|_| gap.round < ROUNDS) else {
                        given_up += 1;
                        uncount(&mut self.counts, gap.by);
                        return false;
                    };
                    source.asked = true;
                    gap.asked = Some(source.link);
                    gap.kept = false;
                    gap.relied = trusted(source.link, stream);
                    let patience = patience(source.link, gap.large).saturating_mul(1 << gap.round.min(8));
                    gap.until = now + patience.max(Duration::from_millis(1));
                    gap.due = gap.until;
                    gap.alone = now + hasty(source.link).max(Duration::from_millis(1));
                    if left > 1 && !gap.relied {
                        gap.due = gap.due.min(gap.alone);
                    }
                    let range = Range::new(*first, gap.last);
                    asks.push(Ask {
                        link: source.link,
                        stream: *stream,
                        range,
                        graft: gap.graft,
                        heard: gap.heard,
                    });
                }
            }
            next = Some(next.map_or(gap.due, |next| next.min(gap.due)));
            true
        });
        self.next = next.into_iter().chain(self.promises.next()).min();
        self.looked = now;
        promises.into_iter().for_each(|(link, id, until)| self.promise(link, id, until));
        (asks, given_up, broken)
    }

    pub(crate) fn len(&self) -> usize {
        self.gaps.len()
    }

    pub(crate) fn footprint(&self) -> usize {
        self.gaps.len() * GAP_BYTES + self.promises.footprint()
    }
}

fn uncount(counts: &mut BTreeMap<LinkId, usize>, link: LinkId) {
    if let Some(count) = counts.get_mut(&link) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerage_wire::PeerId;

    const STREAM: StreamKey = StreamKey { origin: PeerId::from_bytes([1; 32]), epoch: 1 };
    const NOW: Instant = Instant::START;
    const LATER: Instant = Instant::from_micros(1_000_000);

    fn due_of(missing: &mut Missing, now: Instant) -> (Vec<Ask>, u64, Vec<LinkId>) {
        let second = |_| Duration::from_secs(1);
        missing.due(
            now,
            |_, _| Duration::from_secs(1),
            second,
            |_| Instant::START,
            |_, _| Fed::Not,
            |_, _| true,
        )
    }

    fn due(missing: &mut Missing, now: Instant) -> Vec<(u64, u64, u64)> {
        let (asks, _, _) = due_of(missing, now);
        asks.into_iter().map(|ask| (ask.link.0, ask.range.first, ask.range.last)).collect()
    }

    #[test]
    fn a_range_is_split_where_only_part_of_it_is_announced_or_arrives() {
        let mut missing = Missing::new(16);
        let by =
            |link, hops| Announcer { link: LinkId(link), hops, graft: true, large: false, trusted: true };
        assert!(missing.announced(STREAM, Range::new(1, 9), by(1, 4), NOW, LATER));
        assert!(missing.announced(STREAM, Range::new(4, 12), by(2, 3), NOW, LATER));
        let nearest = Some((LinkId(2), 3));
        assert_eq!(
            missing.arrived(&STREAM.message(6), None),
            Some(Awaited {
                heard: NOW,
                credible: true,
                asked: None,
                nearest,
                sources: vec![LinkId(1), LinkId(2)]
            })
        );
        assert_eq!(missing.arrived(&STREAM.message(6), None), None);
        assert_eq!(due(&mut missing, LATER - Duration::from_micros(1)), []);
        assert_eq!(due(&mut missing, LATER), [(1, 1, 3), (1, 4, 5), (1, 7, 9), (2, 10, 12)]);
        // The next in line is asked when the first does not answer.
        assert_eq!(
            due(&mut missing, LATER + Duration::from_secs(1)),
            [(1, 1, 3), (2, 4, 5), (2, 7, 9), (2, 10, 12)]
        );
        missing.link_down(LinkId(2), LATER);
        assert_eq!(missing.len(), 3);
    }

    #[test]
    fn one_who_announces_what_there_is_not_leaves_room_for_others() {
        let mut missing = Missing::new(30);
        let by = |link| Announcer { link: LinkId(link), hops: 1, graft: false, large: false, trusted: true };
        let taken = |missing: &mut Missing, link, from: u64| {
            (from..from + 20)
                .filter(|seq| missing.announced(STREAM, Range::one(seq * 2), by(link), NOW, LATER))
                .count()
        };
        assert_eq!(taken(&mut missing, 1, 1), 10);
        assert_eq!(taken(&mut missing, 2, 100), 10);
        (1..=10).for_each(|seq| assert!(missing.arrived(&STREAM.message(seq * 2), None).is_some()));
        assert_eq!(taken(&mut missing, 1, 50), 10);
        missing.link_down(LinkId(1), NOW);
        missing.forget(STREAM, Range::new(1, 1000));
        assert_eq!((missing.len(), missing.counts.len()), (0, 0));
    }

    #[test]
    fn who_sent_what_it_was_asked_for_has_broken_nothing() {
        let mut missing = Missing::new(16);
        let by = Announcer { link: LinkId(1), hops: 1, graft: false, large: false, trusted: true };
        missing.announced(STREAM, Range::new(1, 3), by, NOW, NOW);
        assert_eq!(due(&mut missing, NOW), [(1, 1, 3)]);
        assert!(!missing.came(&STREAM.message(2), LinkId(2)));
        assert!(missing.came(&STREAM.message(2), LinkId(1)));
        let (asks, _, broken) = due_of(&mut missing, LATER);
        // It was of no use, so it is asked for again, as the others are; those alone are broken promises.
        assert_eq!((asks.len(), broken.len()), (3, 2));
    }

    #[test]
    fn what_nobody_sends_is_given_up() {
        let mut missing = Missing::new(16);
        let by = Announcer { link: LinkId(1), hops: 1, graft: false, large: false, trusted: true };
        missing.announced(STREAM, Range::one(1), by, NOW, NOW);
        let mut now = NOW;
        let mut asked = 0;
        while let Some(at) = missing.deadline() {
            assert!(at > now || now == NOW, "the deadline moves");
            now = at;
            asked += due(&mut missing, now).len();
        }
        assert_eq!((asked, missing.len()), (3, 0));
    }

    #[test]
    fn one_who_is_not_trusted_has_its_time_before_the_next_is_asked_however_many_announce_it() {
        let mut missing = Missing::new(64);
        let ask = |missing: &mut Missing, now| {
            let millis = |millis| move |_| Duration::from_millis(millis);
            let (asks, ..) = missing.due(
                now,
                |_, _| Duration::from_secs(1),
                millis(20),
                |_| Instant::START,
                |_, _| Fed::Not,
                |_, _| false,
            );
            asks.into_iter().map(|ask| ask.link.0).collect::<Vec<_>>()
        };
        let mut asked = Vec::new();
        for link in 1..=5 {
            let now = LATER + Duration::from_millis(link);
            let by = Announcer { link: LinkId(link), hops: 1, graft: false, large: false, trusted: false };
            missing.announced(STREAM, Range::one(1), by, now, now);
            asked.extend(ask(&mut missing, now));
        }
        assert_eq!(asked, [1]);
        assert_eq!(ask(&mut missing, LATER + Duration::from_millis(20)), []);
        assert_eq!(missing.deadline(), Some(LATER + Duration::from_millis(21)));
        assert_eq!(ask(&mut missing, LATER + Duration::from_millis(21)), [2]);
    }
}
