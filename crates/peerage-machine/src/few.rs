//! Maps of a few entries in no more memory than these take: a node of a B-tree has room for eleven, and of what each link or
//! each of hundreds of trees has one or two of, that would be most.

/// Room for so many stays while there is one.
const LEAST: usize = 4;

/// A map in the order of its keys, in one piece of memory, which grows by half. For few entries: to find one takes O(log n), to
/// add or remove one moves those behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Copy + Ord, V> Few<K, V> {
    fn find(&self, key: K) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |(key, _)| *key)
    }

    /// The key's value.
    pub fn get(&self, key: K) -> Option<&V> {
        self.0.get(self.find(key).ok()?).map(|(_, value)| value)
    }

    /// The key's value, to change.
    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// The key's value: this one when it had none.
    pub fn get_or(&mut self, key: K, value: V) -> &mut V {
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) => {
                self.put(at, key, value);
                at
            }
        };
        #[expect(clippy::indexing_slicing, reason = "it was found or put there just now")]
        &mut self.0[at].1
    }

    fn put(&mut self, at: usize, key: K, value: V) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(1 + self.0.len() / 2);
        }
        self.0.insert(at, (key, value));
    }

    /// Whether the key has a value.
    pub fn contains(&self, key: K) -> bool {
        self.find(key).is_ok()
    }

    /// Sets the key's value, and gives what it was.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(key) {
            Ok(at) => self.0.get_mut(at).map(|(_, known)| std::mem::replace(known, value)),
            Err(at) => {
                self.put(at, key, value);
                None
            }
        }
    }

    /// Removes the key, and gives its value.
    pub fn remove(&mut self, key: K) -> Option<V> {
        let at = self.find(key).ok()?;
        let (_, value) = self.0.remove(at);
        self.give_back();
        Some(value)
    }

    /// What was needed for more, when most of it is left over.
    fn give_back(&mut self) {
        if self.0.is_empty() {
            self.0 = Vec::new();
        } else if self.0.capacity() > 4 * self.0.len().max(LEAST) {
            self.0.shrink_to(2 * self.0.len());
        }
    }

    /// Removes those of which `stays` says no.
    pub fn retain(&mut self, mut stays: impl FnMut(K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| stays(*key, value));
        self.give_back();
    }

    /// Removes all, and gives their memory back.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &V)> + ExactSizeIterator {
        self.0.iter().map(|(key, value)| (*key, value))
    }

    /// The same, to change.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (K, &mut V)> + ExactSizeIterator {
        self.0.iter_mut().map(|(key, value)| (*key, value))
    }

    /// The keys, in ascending order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = K> + ExactSizeIterator {
        self.0.iter().map(|(key, _)| *key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<K: Copy + Ord, V> Extend<(K, V)> for Few<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(key, value)| drop(self.insert(key, value)));
    }
}

impl<K: Copy + Ord, V> FromIterator<(K, V)> for Few<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut few = Self::default();
        few.extend(entries);
        few
    }
}

impl<K, V> IntoIterator for Few<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u8..7, 0_u8..12, any::<u16>()), 0..80)) {
            let mut few = Few::default();
            let mut model = BTreeMap::new();
            for (verb, key, value) in steps {
                match verb {
                    0 => prop_assert_eq!(few.insert(key, value), model.insert(key, value)),
                    1 => prop_assert_eq!(few.remove(key), model.remove(&key)),
                    2 => prop_assert_eq!(*few.get_or(key, value), *model.entry(key).or_insert(value)),
                    3 => {
                        few.retain(|other, value| other != key && *value > 99);
                        model.retain(|other, value| *other != key && *value > 99);
                    }
                    4 => {
                        let all = few.iter_mut().map(|(_, it)| it).chain(model.values_mut());
                        all.for_each(|it| *it = it.wrapping_add(value));
                    }
                    5 => few.iter_mut().for_each(|(at, it)| if at == key { *it = 7 } ),
                    _ => prop_assert_eq!(few.get_mut(key), model.get_mut(&key)),
                }
                if verb == 5 && let Some(it) = model.get_mut(&key) {
                    *it = 7;
                }
                prop_assert_eq!((few.get(key), few.contains(key)), (model.get(&key), model.contains_key(&key)));
                prop_assert_eq!((few.len(), few.is_empty()), (model.len(), model.is_empty()));
                prop_assert!(few.iter().eq(model.iter().map(|(key, value)| (*key, value))));
                prop_assert!(few.keys().eq(model.keys().copied()) && few.values().eq(model.values()));
                let again: Few<u8, u16> = few.iter().rev().map(|(key, value)| (key, *value)).collect();
                prop_assert_eq!(&again, &few);
                prop_assert!(again.into_iter().eq(model.clone()));
            }
        }
    }

    #[test]
    fn one_entry_takes_the_room_of_one_and_what_many_took_is_given_back() {
        let mut few = Few::default();
        few.insert(3, [0_u64; 40]);
        assert_eq!(few.0.capacity(), 1);
        few.remove(3);
        assert_eq!(few.0.capacity(), 0);
        few.extend((0..1000).map(|key| (key, [0; 40])));
        for key in 1..1000 {
            assert!(few.remove(key).is_some());
        }
        assert!(few.0.capacity() <= 4 * LEAST);
        few.extend((0..1000).map(|key| (key, [0; 40])));
        few.retain(|key, _| key == 7);
        assert!(few.0.capacity() <= 4 * LEAST && few.contains(7));
    }
}
