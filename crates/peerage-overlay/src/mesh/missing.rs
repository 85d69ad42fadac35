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
mod tests;
