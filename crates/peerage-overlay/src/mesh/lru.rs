//! A map that forgets what was used longest ago.

use super::room::more;

/// Stands for no slot.
const NONE: u32 = u32::MAX;

/// What entries are found by.
pub(crate) trait Key: Ord + Clone {
    /// How it begins: of two keys, that of the greater is no less.
    fn head(&self) -> u32;
}

impl Key for u64 {
    fn head(&self) -> u32 {
        (self >> 32) as u32
    }
}

/// At most `limit` entries; one more pushes out the one that was touched longest ago. The entries are in one piece of
/// memory, and beside them 8 bytes each that say how the keys are ordered: O(log n) to find one, and 8 bytes moved for each
/// of n to add or remove one. Half of these are the heads of the keys: entries are looked up all the time, and each of the
/// log n would be in another part of memory.
#[derive(Clone, Debug)]
pub(crate) struct Lru<K, V> {
    slots: Vec<Slot<K, V>>,
    /// The slots in the order of their keys, each behind the head of its key.
    sorted: Vec<(u32, u32)>,
    oldest: u32,
    newest: u32,
    /// The one that was touched or changed last, or another.
    recent: u32,
    limit: usize,
}

#[derive(Clone, Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    /// Touched just before this one, and just after.
    older: u32,
    newer: u32,
}

impl<K: Key, V> Lru<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, NONE as usize);
        Self { slots: Vec::new(), sorted: Vec::new(), oldest: NONE, newest: NONE, recent: NONE, limit }
    }

    /// The place of the key among the sorted, or where it belongs.
    fn find(&self, key: &K) -> Result<usize, usize> {
        let head = key.head();
        self.sorted.binary_search_by(|(known, slot)| {
            known.cmp(&head).then_with(|| match self.slot(*slot) {
                Some(slot) => slot.key.cmp(key),
                // There is one for each.
                None => std::cmp::Ordering::Less,
            })
        })
    }

    fn at(&self, key: &K) -> Option<u32> {
        // Mostly it is the same as before: what a message is about is looked up many times on its way.
        if self.slot(self.recent).is_some_and(|recent| recent.key == *key) {
            return Some(self.recent);
        }
        self.sorted.get(self.find(key).ok()?).map(|(_, slot)| *slot)
    }

    fn slot(&self, at: u32) -> Option<&Slot<K, V>> {
        self.slots.get(at as usize)
    }

    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot<K, V>> {
        self.slots.get_mut(at as usize)
    }

    /// Looks without touching.
    pub(crate) fn peek(&self, key: &K) -> Option<&V> {
        self.slot(self.at(key)?).map(|slot| &slot.value)
    }

    /// Changes without touching.
    pub(crate) fn peek_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.at(key)?;
        self.recent = at;
        self.slot_mut(at).map(|slot| &mut slot.value)
    }

    /// The entry, made when it is absent, and touched; and what it pushed out.
    pub(crate) fn touch(&mut self, key: &K, make: impl FnOnce() -> V) -> (&mut V, Option<(K, V)>) {
        let (at, out) = match self.at(key) {
            Some(at) if at == self.newest => (at, None),
            Some(at) => {
                self.unlink(at);
                self.link_newest(at);
                (at, None)
            }
            None => {
                let out = if self.slots.len() >= self.limit { self.pop_oldest() } else { None };
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact(more(self.slots.len()));
                }
                let at = self.slots.len() as u32;
                let (Ok(place) | Err(place)) = self.find(key);
                self.slots.push(Slot { key: key.clone(), value: make(), older: NONE, newer: NONE });
                self.sorted.insert(place, (key.head(), at));
                self.link_newest(at);
                (at, out)
            }
        };
        self.recent = at;
        #[expect(clippy::indexing_slicing, reason = "it was found or pushed just now")]
        let slot = &mut self.slots[at as usize];
        (&mut slot.value, out)
    }

    /// Sets the entry and touches it. Says whether another one was pushed out.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        self.remove(&key);
        self.touch(&key, || value).1.is_some()
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.find(key).ok()?;
        let (_, at) = self.sorted.remove(place);
        self.unlink(at);
        // The last slot takes the place of the one that goes.
        let last = (self.slots.len() - 1) as u32;
        if last != at
            && let Some(moved) = self.slot(last)
        {
            let (older, newer) = (moved.older, moved.newer);
            if let Ok(place) = self.find(&moved.key.clone())
                && let Some((_, known)) = self.sorted.get_mut(place)
            {
                *known = at;
            }
            self.join(older, at);
            self.join(at, newer);
        }
        Some(self.slots.swap_remove(at as usize).value)
    }

    /// These two were touched one after the other; `NONE` before the first and after the last.
    fn join(&mut self, older: u32, newer: u32) {
        match self.slot_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slot_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    fn unlink(&mut self, at: u32) {
        if let Some(slot) = self.slot(at) {
            let (older, newer) = (slot.older, slot.newer);
            self.join(older, newer);
        }
    }

    fn link_newest(&mut self, at: u32) {
        self.join(self.newest, at);
        self.join(at, NONE);
    }

    /// The entry that was touched longest ago.
    pub(crate) fn oldest(&self) -> Option<(&K, &V)> {
        self.slot(self.oldest).map(|slot| (&slot.key, &slot.value))
    }

    /// The entry that was touched last.
    pub(crate) fn newest(&self) -> Option<(&K, &V)> {
        self.slot(self.newest).map(|slot| (&slot.key, &slot.value))
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let key = self.slot(self.oldest)?.key.clone();
        let value = self.remove(&key)?;
        Some((key, value))
    }

    /// In the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.sorted.iter().filter_map(|(_, at)| self.slot(*at)).map(|slot| (&slot.key, &slot.value))
    }

    /// In no order that means anything.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.slots.iter_mut().map(|slot| &mut slot.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Key for u16 {
        /// Several have the same.
        fn head(&self) -> u32 {
            u32::from(self / 4)
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_a_queue(
            limit in 1_usize..8, steps in prop::collection::vec((0_u8..4, 0_u16..12), 0..120),
        ) {
            let mut lru = Lru::new(limit);
            // The one touched longest ago first.
            let mut model: Vec<(u16, u16)> = Vec::new();
            for (number, (verb, key)) in (0..).zip(steps) {
                let at = model.iter().position(|(known, _)| *known == key);
                match verb {
                    0 => prop_assert_eq!(lru.remove(&key), at.map(|at| model.remove(at).1)),
                    1 => prop_assert_eq!(
                        lru.pop_oldest(), (!model.is_empty()).then(|| model.remove(0))
                    ),
                    2 => {
                        let value = at.map_or(number, |at| model.remove(at).1);
                        let out = (model.len() >= limit).then(|| model.remove(0));
                        model.push((key, value));
                        let (found, pushed_out) = lru.touch(&key, || number);
                        prop_assert_eq!((*found, pushed_out), (value, out));
                    }
                    _ => {
                        at.map(|at| model.remove(at));
                        let out = (model.len() >= limit).then(|| model.remove(0));
                        model.push((key, number));
                        prop_assert_eq!(lru.insert(key, number), out.is_some());
                    }
                }
                prop_assert_eq!(lru.oldest().map(|(key, _)| *key), model.first().map(|(key, _)| *key));
                prop_assert_eq!(lru.newest().map(|(key, _)| *key), model.last().map(|(key, _)| *key));
                let mut sorted = model.clone();
                sorted.sort_unstable();
                let found: Vec<(u16, u16)> = lru.iter().map(|(key, value)| (*key, *value)).collect();
                prop_assert_eq!(found, sorted);
                let found = (lru.peek(&key).copied(), lru.peek_mut(&key).copied());
                prop_assert_eq!(found.0, found.1);
                prop_assert_eq!(found.0, model.iter().find(|(known, _)| *known == key).map(|it| it.1));
            }
        }
    }

    #[test]
    fn what_was_touched_longest_ago_goes_first() {
        let mut lru = Lru::new(2);
        assert!(!lru.insert(1_u16, "one"));
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
