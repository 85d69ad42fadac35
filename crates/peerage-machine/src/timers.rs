//! The timers inside a machine, with one deadline out.

use std::collections::{BTreeMap, BTreeSet};

use crate::Instant;

/// Timers by key. A key has at most one; they come due in the order of (time, key).
///
/// A machine's `on_timer` is a loop, and it always ends:
///
/// ```
/// use std::time::Duration;
/// use peerage_machine::{Instant, Timers};
///
/// #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
/// enum Timer { Shuffle, Retry(u32) }
///
/// let mut timers = Timers::new();
/// timers.arm(Timer::Shuffle, Instant::START + Duration::from_secs(30));
/// timers.arm(Timer::Retry(7), Instant::START + Duration::from_secs(1));
///
/// let now = timers.deadline().unwrap();
/// while let Some(timer) = timers.expire(now) {
///     match timer {
///         Timer::Shuffle => timers.arm(Timer::Shuffle, now + Duration::from_secs(30)),
///         Timer::Retry(n) => assert_eq!(n, 7),
///     }
/// }
/// assert_eq!(timers.deadline(), Some(Instant::START + Duration::from_secs(30)));
/// ```
///
/// # Guarantees
/// - A time that [`Timers::expire`] has already reached is armed as one microsecond after it. So the loop above takes
///   at most as many turns as timers were armed when it began, and afterwards the deadline lies in the future, even if
///   a machine arms a timer for now, or for the period that it missed.
/// - Cancelled timers leave nothing behind: memory is two entries per armed timer.
///
/// All operations take O(log n).
#[derive(Clone, Debug)]
pub struct Timers<K> {
    at: BTreeMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
    earliest: Instant,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new(), earliest: Instant::START }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// None armed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms the timer, or arms it anew when it is armed.
    pub fn arm(&mut self, key: K, at: Instant) {
        let at = at.max(self.earliest);
        if let Some(before) = self.at.insert(key.clone(), at) {
            let entry = (before, key);
            self.order.remove(&entry);
            self.order.insert((at, entry.1));
        } else {
            self.order.insert((at, key));
        }
    }

    /// Forgets the timer; whether it was armed.
    pub fn cancel(&mut self, key: &K) -> bool {
        match self.at.remove_entry(key) {
            Some((key, at)) => self.order.remove(&(at, key)),
            None => false,
        }
    }

    /// Forgets all timers.
    pub fn clear(&mut self) {
        self.at.clear();
        self.order.clear();
    }

    /// Whether the timer is armed.
    pub fn is_armed(&self, key: &K) -> bool {
        self.at.contains_key(key)
    }

    /// When the timer comes due, if it is armed.
    pub fn at(&self, key: &K) -> Option<Instant> {
        self.at.get(key).copied()
    }

    /// When the first timer comes due.
    pub fn deadline(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out the first timer that is due at `now`, in the order of (time, key).
    pub fn expire(&mut self, now: Instant) -> Option<K> {
        self.earliest = self.earliest.max(now.next());
        if self.deadline()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.at.remove(&key);
        Some(key)
    }

    /// How many are armed.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether none is armed.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}
