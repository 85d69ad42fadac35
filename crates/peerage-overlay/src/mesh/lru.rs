//! A map that forgets what was used longest ago.

use std::collections::BTreeMap;

/// At most `limit` entries; one more pushes out the one that was touched longest ago. O(log n) each.
#[derive(Clone, Debug)]
pub(crate) struct Lru<K, V> {
    entries: BTreeMap<K, (V, u64)>,
    order: BTreeMap<u64, K>,
    clock: u64,
    limit: usize,
}

impl<K: Ord + Clone, V> Lru<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: BTreeMap::new(), order: BTreeMap::new(), clock: 0, limit: limit.max(1) }
    }

    /// Looks without touching.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// Changes without touching.
    pub(crate) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    /// The entry, made when it is absent, and touched; and what it pushed out.
    pub(crate) fn touch(&mut self, key: &K, make: impl FnOnce() -> V) -> (&mut V, Option<(K, V)>) {
        self.clock += 1;
        let stamp = self.clock;
        let mut out = None;
        if let Some((_, before)) = self.entries.get_mut(key) {
            self.order.remove(&std::mem::replace(before, stamp));
        } else if self.entries.len() >= self.limit {
            out = self.pop_oldest();
        }
        self.order.insert(stamp, key.clone());
        (&mut self.entries.entry(key.clone()).or_insert_with(|| (make(), stamp)).0, out)
    }

    /// Sets the entry and touches it. Says whether another one was pushed out.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        self.remove(&key);
        self.touch(&key, || value).1.is_some()
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (value, stamp) = self.entries.remove(key)?;
        self.order.remove(&stamp);
        Some(value)
    }

    /// The entry that was touched longest ago.
    pub(crate) fn oldest(&self) -> Option<(&K, &V)> {
        let key = self.order.values().next()?;
        self.peek(key).map(|value| (key, value))
    }

    /// The entry that was touched last.
    pub(crate) fn newest(&self) -> Option<(&K, &V)> {
        let key = self.order.values().next_back()?;
        self.peek(key).map(|value| (key, value))
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        self.entries.remove(&key).map(|(value, _)| (key, value))
    }

    /// In the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (value, _))| (key, value))
    }

    /// In the order of the keys.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|(value, _)| value)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_longest_ago_goes_first() {
        let mut lru = Lru::new(2);
        assert!(!lru.insert(1, "one"));
        assert!(!lru.insert(2, "two"));
        assert_eq!(lru.touch(&1, || "new"), (&mut "one", None));
        assert_eq!(lru.touch(&3, || "three"), (&mut "three", Some((2, "two"))));
        assert!(!lru.insert(3, "drei"));
        assert_eq!((lru.oldest(), lru.newest()), (Some((&1, &"one")), Some((&3, &"drei"))));
        assert_eq!(lru.remove(&1), Some("one"));
        assert_eq!(lru.pop_oldest(), Some((3, "drei")));
        assert_eq!((lru.len(), lru.oldest()), (0, None));
    }
}
