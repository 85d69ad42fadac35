//! Sets of sequence numbers as ranges.

use peerage_machine::Instant;

/// A range of sequence numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Range {
    pub(crate) const fn new(first: u64, last: u64) -> Self {
        Self { first, last }
    }

    pub(crate) const fn one(seq: u64) -> Self {
        Self { first: seq, last: seq }
    }

    /// Whether they have a number in common.
    pub(crate) const fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    pub(crate) const fn len(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// Appends a number to ranges in ascending order.
pub(crate) fn append(ranges: &mut Vec<Range>, seq: u64) {
    match ranges.last_mut() {
        Some(range) if range.last.saturating_add(1) == seq => range.last = seq,
        Some(range) if (range.first..=range.last).contains(&seq) => {}
        Some(_) => ranges.push(Range::one(seq)),
        None => {
            // Most often the only one.
            ranges.reserve_exact(1);
            ranges.push(Range::one(seq));
        }
    }
}

/// Takes the numbers of one range out of ranges in any order.
pub(crate) fn subtract(ranges: &mut Vec<Range>, gone: Range) {
    let mut tails = Vec::new();
    ranges.retain_mut(|range| {
        if range.last < gone.first || gone.last < range.first {
            return true;
        }
        let tail = (gone.last < range.last).then(|| Range::new(gone.last + 1, range.last));
        if range.first < gone.first {
            range.last = gone.first - 1;
            tails.extend(tail);
            return true;
        }
        if let Some(tail) = tail {
            *range = tail;
        }
        tail.is_some()
    });
    ranges.extend(tails);
}

/// Ranges in ascending order that do not touch.
pub(crate) fn normalise(ranges: &mut Vec<Range>) {
    let apart = |pair: &[Range]| matches!(pair, [a, b] if a.last.saturating_add(1) < b.first);
    if ranges.windows(2).all(apart) {
        return;
    }
    ranges.sort_unstable_by_key(|range| range.first);
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges.drain(..) {
        match merged.last_mut() {
            Some(before) if range.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(range.last)
            }
            _ => merged.push(range),
        }
    }
    *ranges = merged;
}

/// What of an origin's run has been seen, with the time since when each gap is known.
///
/// The gap before the first range is not one: nobody knows how much an unknown origin said before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Ascending, apart by at least one number. `since` is when the range began, so the gap before it is that old.
    runs: Vec<(Range, Instant)>,
}

impl Seen {
    pub(crate) fn contains(&self, seq: u64) -> bool {
        let after = self.runs.partition_point(|(range, _)| range.first <= seq);
        after.checked_sub(1).and_then(|at| self.runs.get(at)).is_some_and(|(range, _)| seq <= range.last)
    }

    /// Whether all of the range has been seen.
    pub(crate) fn has_all(&self, range: Range) -> bool {
        let after = self.runs.partition_point(|(run, _)| run.first <= range.first);
        after.checked_sub(1).and_then(|at| self.runs.get(at)).is_some_and(|(run, _)| range.last <= run.last)
    }

    /// Adds a number; whether it is new.
    pub(crate) fn insert(&mut self, seq: u64, now: Instant) -> bool {
        let after = self.runs.partition_point(|(range, _)| range.first <= seq);
        let next_touches =
            self.runs.get(after).is_some_and(|(next, _)| seq.checked_add(1) == Some(next.first));
        if let Some((before, _)) = after.checked_sub(1).and_then(|at| self.runs.get_mut(at)) {
            if seq <= before.last {
                return false;
            }
            if before.last.checked_add(1) == Some(seq) {
                before.last = seq;
                if next_touches {
                    let (next, _) = self.runs.remove(after);
                    if let Some((before, _)) = after.checked_sub(1).and_then(|at| self.runs.get_mut(at)) {
                        before.last = next.last;
                    }
                }
                return true;
            }
        }
        match self.runs.get_mut(after) {
            Some((next, _)) if next_touches => next.first = seq,
            _ => {
                if self.runs.is_empty() {
                    // Most often the only one.
                    self.runs.reserve_exact(1);
                }
                self.runs.insert(after, (Range::one(seq), now));
            }
        }
        true
    }

    /// The parts of `range` that were not seen, ascending; at most `limit` of them.
    pub(crate) fn missing_in(&self, range: Range, limit: usize) -> Vec<Range> {
        let mut missing = Vec::new();
        let mut at = range.first;
        let start = self.runs.partition_point(|(seen, _)| seen.last < range.first);
        for (seen, _) in self.runs.iter().skip(start) {
            if seen.first > range.last || missing.len() >= limit {
                break;
            }
            if seen.first > at {
                missing.push(Range::new(at, seen.first - 1));
            }
            match seen.last.checked_add(1) {
                Some(next) => at = next,
                None => return missing,
            }
        }
        if at <= range.last && missing.len() < limit {
            missing.push(Range::new(at, range.last));
        }
        missing
    }

    /// Closes the first gap if there are more than `limit` ranges, or if it is known since before `horizon`: what lies
    /// in it counts as seen. Returns it. To be called until it returns `None`.
    pub(crate) fn give_up(&mut self, limit: usize, horizon: Option<Instant>) -> Option<Range> {
        let ripe = |index: usize, since: Instant| {
            (self.runs.len() > limit && index == 1) || horizon.is_some_and(|horizon| since <= horizon)
        };
        let at = self
            .runs
            .iter()
            .enumerate()
            .skip(1)
            .find_map(|(index, (_, since))| ripe(index, *since).then_some(index))?;
        let (range, _) = self.runs.remove(at);
        let (before, _) = self.runs.get_mut(at - 1)?;
        let gap = Range::new(before.last + 1, range.first - 1);
        before.last = range.last;
        Some(gap)
    }

    /// Since when the oldest gap is known.
    pub(crate) fn oldest_gap(&self) -> Option<Instant> {
        self.runs.iter().skip(1).map(|(_, since)| *since).min()
    }

    /// The newest number of all.
    pub(crate) fn last(&self) -> Option<u64> {
        self.runs.last().map(|(range, _)| range.last)
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn seen_is_a_set(seqs in prop::collection::vec(1_u64..40, 0..60), first in 1_u64..40, len in 0_u64..40) {
            let mut seen = Seen::default();
            let mut model = BTreeSet::new();
            for seq in seqs {
                prop_assert_eq!(seen.insert(seq, Instant::START), model.insert(seq));
                prop_assert!(seen.runs.windows(2).all(|pair| pair[0].0.last + 1 < pair[1].0.first));
            }
            for seq in 0..45 {
                prop_assert_eq!(seen.contains(seq), model.contains(&seq));
            }
            let missing: Vec<u64> =
                seen.missing_in(Range::new(first, first + len), 100).iter().flat_map(|r| r.first..=r.last).collect();
            let expected: Vec<u64> = (first..=first + len).filter(|seq| !model.contains(seq)).collect();
            prop_assert_eq!(seen.has_all(Range::new(first, first + len)), missing.is_empty());
            prop_assert_eq!(missing, expected);
        }

        #[test]
        fn what_is_subtracted_is_gone_and_nothing_else(
            pairs in prop::collection::vec((1_u64..50, 0_u64..6), 0..20), first in 1_u64..50, len in 0_u64..12,
        ) {
            let mut ranges: Vec<Range> = pairs.iter().map(|(first, len)| Range::new(*first, first + len)).collect();
            let gone = Range::new(first, first + len);
            let mut expected: Vec<u64> = ranges.iter().flat_map(|r| r.first..=r.last).collect();
            expected.retain(|seq| !(gone.first..=gone.last).contains(seq));
            subtract(&mut ranges, gone);
            let mut after: Vec<u64> = ranges.iter().flat_map(|r| r.first..=r.last).collect();
            expected.sort_unstable();
            after.sort_unstable();
            prop_assert_eq!(after, expected);
        }

        #[test]
        fn normalised_ranges_hold_the_same_numbers(pairs in prop::collection::vec((1_u64..50, 0_u64..6), 0..20)) {
            let mut ranges: Vec<Range> = pairs.iter().map(|(first, len)| Range::new(*first, first + len)).collect();
            let before: BTreeSet<u64> = ranges.iter().flat_map(|r| r.first..=r.last).collect();
            normalise(&mut ranges);
            let after: Vec<u64> = ranges.iter().flat_map(|r| r.first..=r.last).collect();
            prop_assert_eq!(after, before.into_iter().collect::<Vec<_>>());
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
        }
    }

    #[test]
    fn the_last_number_of_all_does_not_overflow() {
        let mut seen = Seen::default();
        assert!(seen.insert(u64::MAX, Instant::START));
        assert!(seen.insert(u64::MAX - 1, Instant::START));
        assert!(!seen.insert(u64::MAX, Instant::START));
        assert!(seen.missing_in(Range::new(u64::MAX - 1, u64::MAX), 4).is_empty());
        assert_eq!(Range::new(0, u64::MAX).len(), u64::MAX);
    }

    #[test]
    fn gaps_are_given_up_by_age_and_by_number() {
        let mut seen = Seen::default();
        let at = Instant::from_micros;
        for (seq, time) in [(1, 0), (3, 10), (5, 20), (9, 30)] {
            seen.insert(seq, at(time));
        }
        assert_eq!(seen.give_up(8, Some(at(9))), None);
        assert_eq!(seen.give_up(8, Some(at(10))), Some(Range::new(2, 2)));
        assert_eq!(seen.give_up(2, None), Some(Range::new(4, 4)));
        assert_eq!(seen.give_up(2, None), None);
        assert_eq!(seen.missing_in(Range::new(1, 9), 9), [Range::new(6, 8)]);
    }
}
