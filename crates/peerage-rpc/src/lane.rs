//! One direction of numbered items and the other: what was sent and may be wanted again, and what has arrived.
//!
//! A lane lives as long as its session, over any number of links. Of what it sends, it keeps each item until the other end
//! has acknowledged it, or, for a call, answered it; on a new link it goes on after the last that arrived. Of what it
//! receives it remembers how far it came, so that nothing is taken twice.

use std::collections::{BTreeSet, VecDeque};

/// When an item need not be kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The other end acknowledges it.
    Acknowledged,
    /// The other end has done what it asks: [`Lane::done_there`].
    Done,
    /// The other end answers it: [`Lane::answered`].
    Answered,
}

/// What the other end did that no honest one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaneFault {
    #[error("an item is missing before {got}: {expected} was next")]
    Gap { expected: u64, got: u64 },
    #[error("{got} is acknowledged, and {sent} was the last sent")]
    NeverSent { got: u64, sent: u64 },
    #[error("{done} is done, and {arrived} has arrived")]
    DoneBefore { done: u64, arrived: u64 },
}

#[derive(Clone, Debug)]
struct Kept<T> {
    seq: u64,
    size: usize,
    until: Until,
    /// Gone once it is released.
    item: Option<T>,
}

/// Items of one lane, out and in.
#[derive(Clone, Debug)]
pub(crate) struct Lane<T> {
    /// The last number given.
    last: u64,
    /// Up to here, all has been handed to the present link.
    handed: u64,
    /// The highest that any link was handed.
    ever_handed: u64,
    /// Acknowledged by the other end up to here.
    acked: u64,
    /// Done by the other end up to here, but for calls with an answer.
    done_there: u64,
    kept: VecDeque<Kept<T>>,
    released: usize,
    kept_bytes: usize,
    /// Bytes of those that the present link has not been handed.
    unsent_bytes: usize,
    /// The highest that has arrived.
    arrived: u64,
    /// Arrived, and not done yet.
    unfinished: BTreeSet<u64>,
    /// The last acknowledgement that was sent.
    told: u64,
    /// What it said was done.
    told_done: u64,
    /// Bytes that have arrived since.
    untold_bytes: usize,
    /// Up to here, numbers may be missing: they were answered before the broker restarted.
    gaps_until: u64,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            last: 0,
            handed: 0,
            ever_handed: 0,
            acked: 0,
            done_there: 0,
            kept: VecDeque::new(),
            released: 0,
            kept_bytes: 0,
            unsent_bytes: 0,
            arrived: 0,
            unfinished: BTreeSet::new(),
            told: 0,
            told_done: 0,
            untold_bytes: 0,
            gaps_until: 0,
        }
    }
}

impl<T> Lane<T> {
    /// A lane of a session that a broker has from its journal: `arrived` from the other end, of which all up to there is
    /// finished, but for calls; and the other end has `theirs` of ours, after which numbers go on.
    pub(crate) fn from_journal(arrived: u64, theirs: u64) -> Self {
        Self {
            last: theirs,
            handed: theirs,
            ever_handed: theirs,
            acked: theirs,
            done_there: theirs,
            arrived,
            told: arrived,
            told_done: arrived,
            ..Self::default()
        }
    }

    /// Takes an item, of so many bytes, to be sent; gives its number.
    pub(crate) fn push(&mut self, item: T, size: usize, until: Until) -> u64 {
        self.last += 1;
        self.kept.push_back(Kept { seq: self.last, size, until, item: Some(item) });
        self.kept_bytes += size;
        self.unsent_bytes += size;
        self.last
    }

    /// The number that the next item gets.
    pub(crate) fn next_seq(&self) -> u64 {
        self.last + 1
    }

    /// The next items for the present link, with their sizes: each counts as handed to it if `take` says so, and the first that
    /// does not is the next to be asked for.
    pub(crate) fn hand(&mut self, mut take: impl FnMut(&T, usize) -> bool) {
        let mut at = self.position_after(self.handed);
        while let Some(kept) = self.kept.get(at) {
            if let Some(item) = &kept.item {
                if !take(item, kept.size) {
                    return;
                }
                self.unsent_bytes -= kept.size;
                self.handed = kept.seq;
                self.ever_handed = self.ever_handed.max(kept.seq);
            }
            at += 1;
        }
        self.handed = self.last;
    }

    /// How many of the next items for the present link are of at most `longest` bytes and cost at most `most` together, up to the
    /// first that is longer or costs too much; and what they cost.
    pub(crate) fn next_small(
        &self,
        longest: usize,
        most: usize,
        cost: impl Fn(usize) -> usize,
    ) -> (usize, usize) {
        let (mut count, mut sum) = (0, 0);
        for kept in self.kept.range(self.position_after(self.handed)..).filter(|kept| kept.item.is_some()) {
            let with_it = sum + cost(kept.size);
            if kept.size > longest || with_it > most {
                break;
            }
            count += 1;
            sum = with_it;
        }
        (count, sum)
    }

    /// Bytes that wait for the present link.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Whether something waits for the present link.
    pub(crate) fn has_unsent(&self) -> bool {
        self.handed < self.last
    }

    /// Whether the item may have reached the other end.
    pub(crate) fn was_handed(&self, seq: u64) -> bool {
        seq <= self.ever_handed
    }

    fn position_after(&self, seq: u64) -> usize {
        // Mostly one of the last is wanted, and none of those behind it is missing.
        let Some(last) = self.kept.back() else { return 0 };
        let at = (self.kept.len() as u64).checked_sub(last.seq.saturating_sub(seq));
        let at = at.and_then(|at| usize::try_from(at).ok());
        let is_before = |at: usize| at == 0 || self.kept.get(at - 1).is_some_and(|kept| kept.seq <= seq);
        match at {
            Some(at) if self.kept.get(at).is_none_or(|kept| kept.seq > seq) && is_before(at) => at,
            _ => self.kept.partition_point(|kept| kept.seq <= seq),
        }
    }

    /// The other end has all up to there, which need not be sent again, calls excepted.
    pub(crate) fn acknowledged(&mut self, up_to: u64) -> Result<(), LaneFault> {
        if up_to > self.ever_handed {
            return Err(LaneFault::NeverSent { got: up_to, sent: self.ever_handed });
        }
        let after = self.acked;
        self.acked = after.max(up_to);
        self.release(Until::Acknowledged, after, up_to);
        Ok(())
    }

    /// The other end has done all up to there, calls with an answer excepted.
    pub(crate) fn done_there(&mut self, up_to: u64) -> Result<(), LaneFault> {
        if up_to > self.acked {
            return Err(LaneFault::DoneBefore { done: up_to, arrived: self.acked });
        }
        let after = self.done_there;
        self.done_there = after.max(up_to);
        self.release(Until::Done, after, up_to);
        Ok(())
    }

    fn release(&mut self, until: Until, after: u64, up_to: u64) {
        let mut at = self.position_after(after);
        while self.kept.get(at).is_some_and(|kept| kept.seq <= up_to) {
            if self.kept.get(at).is_some_and(|kept| kept.until == until) {
                self.let_go(at);
            }
            at += 1;
        }
        self.tidy();
    }

    /// The item at that place is not needed any more; whether it was there.
    fn let_go(&mut self, at: usize) -> bool {
        let Some(kept) = self.kept.get_mut(at) else { return false };
        if kept.item.take().is_none() {
            return false;
        }
        self.kept_bytes -= kept.size;
        self.released += 1;
        if kept.seq > self.handed {
            self.unsent_bytes -= kept.size;
        }
        true
    }

    /// The other end has answered a call, or it is not wanted any more; whether it was kept.
    pub(crate) fn answered(&mut self, seq: u64) -> bool {
        // Mostly none is missing before it.
        let first = self.kept.front().map_or(0, |first| first.seq);
        let guess = usize::try_from(seq.wrapping_sub(first)).unwrap_or(usize::MAX);
        let at = match self.kept.get(guess) {
            Some(kept) if kept.seq == seq => guess,
            _ => self.kept.partition_point(|kept| kept.seq < seq),
        };
        if self.kept.get(at).is_none_or(|kept| kept.seq != seq) || !self.let_go(at) {
            return false;
        }
        self.tidy();
        true
    }

    fn tidy(&mut self) {
        while self.kept.front().is_some_and(|kept| kept.item.is_none()) {
            self.kept.pop_front();
            self.released -= 1;
        }
        // One call that takes long must not keep the places of all that came after it.
        if self.released > 64 && self.released > self.kept.len() / 2 {
            self.kept.retain(|kept| kept.item.is_some());
            self.released = 0;
        }
    }

    /// Gives room back, when no items are kept.
    pub(crate) fn rest(&mut self) {
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    /// Items that are kept, and their bytes.
    pub(crate) fn kept(&self) -> (usize, usize) {
        (self.kept.len() - self.released, self.kept_bytes)
    }

    /// The highest number up to which the other end has done all, calls with an answer excepted.
    pub(crate) fn known_done(&self) -> u64 {
        self.done_there
    }

    /// Whether the other end can have that much, as it says on a new link.
    pub(crate) fn can_resume(&self, arrived: u64) -> Result<(), LaneFault> {
        if arrived > self.ever_handed {
            return Err(LaneFault::NeverSent { got: arrived, sent: self.ever_handed });
        }
        Ok(())
    }

    /// A new link: the other end has all up to there.
    pub(crate) fn resume(&mut self, arrived: u64) -> Result<(), LaneFault> {
        self.acknowledged(arrived)?;
        self.hand_from(arrived);
        Ok(())
    }

    /// The present link has been handed all up to there, and nothing else.
    fn hand_from(&mut self, handed: u64) {
        self.handed = handed;
        let unsent = self.kept.iter().filter(|kept| kept.seq > handed && kept.item.is_some());
        self.unsent_bytes = unsent.map(|kept| kept.size).sum();
    }

    /// A new link to a broker that restarted, and has finished all up to there, calls excepted: whatever is kept is sent
    /// again.
    pub(crate) fn resume_from_journal(&mut self, acknowledged: u64) -> Result<(), LaneFault> {
        self.acknowledged(acknowledged)?;
        self.done_there(acknowledged)?;
        self.hand_from(0);
        Ok(())
    }

    /// Whatever is kept comes to nothing: the other end has lost what it belongs to.
    pub(crate) fn abandon(&mut self) {
        self.kept.clear();
        (self.released, self.kept_bytes, self.unsent_bytes) = (0, 0, 0);
        (self.handed, self.ever_handed) = (self.last, self.last);
        (self.acked, self.done_there) = (self.last, self.last);
    }

    /// An item has come; whether it is new. One that is not `finishes` is done by [`Lane::finished`].
    pub(crate) fn arrives(&mut self, seq: u64, size: usize, finishes: bool) -> Result<bool, LaneFault> {
        if seq <= self.arrived {
            // Sent again after a restart: it may be new all the same, to whoever knows calls by their numbers.
            return Ok(false);
        }
        let expected = self.arrived + 1;
        if seq != expected && seq - 1 > self.gaps_until {
            return Err(LaneFault::Gap { expected, got: seq });
        }
        self.arrived = seq;
        self.untold_bytes += size;
        if !finishes {
            self.unfinished.insert(seq);
        }
        Ok(true)
    }

    /// Numbers up to there may be missing, because they were answered before.
    pub(crate) fn allow_gaps_until(&mut self, sent: u64) {
        self.gaps_until = sent;
    }

    /// What an item asks for is done.
    pub(crate) fn finished(&mut self, seq: u64) {
        self.unfinished.remove(&seq);
    }

    /// Nothing that has arrived is to be done any more.
    pub(crate) fn finish_all(&mut self) {
        self.unfinished.clear();
    }

    /// The highest that has arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// The last number given.
    pub(crate) fn sent(&self) -> u64 {
        self.last
    }

    /// Up to here, all is finished.
    pub(crate) fn done(&self) -> u64 {
        self.unfinished.first().map_or(self.arrived, |first| first - 1)
    }

    /// The same, if those were finished, too.
    pub(crate) fn done_with(&self, finished: &BTreeSet<u64>) -> u64 {
        let first = self.unfinished.iter().find(|seq| !finished.contains(seq));
        first.map_or(self.arrived, |first| first - 1)
    }

    /// Items and bytes that the other end keeps only because it was not told.
    pub(crate) fn untold(&self) -> (u64, usize) {
        (self.arrived.abs_diff(self.told).max(self.done().abs_diff(self.told_done)), self.untold_bytes)
    }

    /// What to acknowledge, and what is done of it, which then counts as told.
    pub(crate) fn tell(&mut self) -> (u64, u64) {
        (self.told, self.told_done) = (self.arrived, self.done());
        self.untold_bytes = 0;
        (self.told, self.told_done)
    }

    /// What must be so between its numbers, whatever has happened.
    pub(crate) fn check(&self) -> Result<(), String> {
        let numbers = [self.done_there, self.acked, self.ever_handed, self.last];
        if !numbers.is_sorted() || self.handed > self.last {
            return Err(format!("done, acked, ever handed, last are {numbers:?}, handed {}", self.handed));
        }
        let bytes: usize = self.kept.iter().filter(|kept| kept.item.is_some()).map(|kept| kept.size).sum();
        let released = self.kept.iter().filter(|kept| kept.item.is_none()).count();
        if (bytes, released) != (self.kept_bytes, self.released) {
            let counted = (self.kept_bytes, self.released);
            return Err(format!("{bytes} bytes and {released} places are kept, {counted:?} are counted"));
        }
        let unsent = self.kept.iter().filter(|kept| kept.seq > self.handed && kept.item.is_some());
        let unsent: usize = unsent.map(|kept| kept.size).sum();
        if unsent != self.unsent_bytes {
            return Err(format!("{unsent} bytes are not handed, {} are counted", self.unsent_bytes));
        }
        if !self.kept.iter().is_sorted_by(|a, b| a.seq < b.seq) {
            return Err("items are kept out of order".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
