//! What will happen, in order.

use std::collections::VecDeque;

use peerage_machine::Instant;

/// Things by (time, order of scheduling): a radix heap (Ahuja, Mehlhorn, Orlin, Tarjan, JACM 37(2), 1990), which needs that
/// nothing is scheduled before what was taken out last, and touches memory in order, where a binary heap of a million
/// things misses the cache at each level.
///
/// A thing waits in the bucket that its time shares its leading bits with the last one's for. Equal times are always in
/// one bucket, in the order of scheduling, since buckets are emptied from the front. Entries have 16 bytes; the things
/// themselves stay where they are.
pub(crate) struct Queue<T> {
    /// The time of what was taken out last.
    last: u64,
    /// What happens at that time.
    present: VecDeque<u32>,
    /// Bucket `n`: times whose highest bit that differs from `last` is bit `n`.
    buckets: Vec<Bucket>,
    /// A bit for each bucket that is not empty.
    occupied: u64,
    things: Vec<Option<T>>,
    free: Vec<u32>,
}

struct Bucket {
    earliest: u64,
    entries: Vec<(u64, u32)>,
}

/// A clock of microseconds has so many bits.
const BITS: usize = 64;

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        let buckets = (0..BITS).map(|_| Bucket { earliest: u64::MAX, entries: Vec::new() }).collect();
        Self { last: 0, present: VecDeque::new(), buckets, occupied: 0, things: Vec::new(), free: Vec::new() }
    }

    /// `at` must not be before what was taken out last; it is taken as that time if it is.
    pub(crate) fn push(&mut self, at: Instant, thing: T) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.things.push(None);
                // Four thousand million pending events do not fit into memory.
                (self.things.len() - 1) as u32
            }
        };
        if let Some(place) = self.things.get_mut(slot as usize) {
            *place = Some(thing);
        }
        self.place(at.as_micros().max(self.last), slot);
    }

    fn place(&mut self, at: u64, slot: u32) {
        let Some(bit) = (at ^ self.last).checked_ilog2() else { return self.present.push_back(slot) };
        if let Some(bucket) = self.buckets.get_mut(bit as usize) {
            bucket.earliest = bucket.earliest.min(at);
            bucket.entries.push((at, slot));
            self.occupied |= 1 << bit;
        }
    }

    /// The first thing, if it happens until `until`.
    pub(crate) fn pop(&mut self, until: Instant) -> Option<(Instant, T)> {
        if self.present.is_empty() {
            self.advance(until.as_micros())?;
        } else if self.last > until.as_micros() {
            return None;
        }
        let slot = self.present.pop_front()?;
        let thing = self.things.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some((Instant::from_micros(self.last), thing))
    }

    /// Goes on to the next time at which something happens, if that is not after `until`.
    fn advance(&mut self, until: u64) -> Option<()> {
        let index = self.occupied.trailing_zeros();
        let bucket = self.buckets.get_mut(index as usize)?;
        if bucket.earliest > until {
            return None;
        }
        self.last = bucket.earliest;
        self.occupied &= !(1 << index);
        bucket.earliest = u64::MAX;
        let mut entries = std::mem::take(&mut bucket.entries);
        for (at, slot) in entries.drain(..) {
            // To a lower bucket, or to the present.
            self.place(at, slot);
        }
        if let Some(bucket) = self.buckets.get_mut(index as usize) {
            bucket.entries = entries;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use peerage_machine::Seed;

    use super::*;

    #[test]
    fn things_of_one_time_come_in_the_order_of_scheduling() {
        let mut queue = Queue::new();
        let at = Instant::from_micros;
        queue.push(at(5), "c");
        queue.push(at(1), "a");
        queue.push(at(5), "d");
        queue.push(at(1), "b");
        let order: String = std::iter::from_fn(|| queue.pop(at(9))).map(|(_, thing)| thing).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn what_is_later_stays_and_something_may_still_come_before_it() {
        let mut queue = Queue::new();
        let at = Instant::from_micros;
        queue.push(at(5000), "late");
        assert_eq!(queue.pop(at(4)), None);
        queue.push(at(7), "early");
        assert_eq!(queue.pop(at(5)), None);
        assert_eq!(queue.pop(at(5000)), Some((at(7), "early")));
        assert_eq!(queue.pop(at(5000)), Some((at(5000), "late")));
        assert_eq!(queue.pop(at(u64::MAX)), None);
    }

    #[test]
    fn the_order_is_that_of_time_and_scheduling_whatever_comes_between() {
        let mut rng = Seed::from_u64(7).rng();
        let (mut queue, mut model) = (Queue::new(), std::collections::BTreeSet::new());
        let (mut now, mut scheduled) = (0, 0_u32);
        for _ in 0..20_000 {
            if rng.below(5) < 3 {
                let reach = 1 << rng.below(24);
                let at = now + rng.below(reach);
                queue.push(Instant::from_micros(at), scheduled);
                model.insert((at, scheduled));
                scheduled += 1;
            } else {
                let reach = 1 << rng.below(24);
                let until = now + rng.below(reach);
                let expected = model.first().copied().filter(|(at, _)| *at <= until);
                if let Some(first) = expected {
                    model.remove(&first);
                }
                let found = queue.pop(Instant::from_micros(until)).map(|(at, thing)| (at.as_micros(), thing));
                assert_eq!(found, expected);
                now = found.map_or(until, |(at, _)| at);
            }
        }
        assert!(scheduled > 10_000 && model.len() > 100);
    }
}
