//! What a link has few of, in no more memory than it takes: most have one instance, and a node of a map has room for eleven.

/// What is found by a key of its own.
pub(crate) trait Keyed {
    type Key: Copy + Ord;

    fn key(&self) -> Self::Key;
}

/// Things in the order of their keys. Few: to add one moves those behind it, and keys are mostly given in ascending order.
#[derive(Debug)]
pub(crate) struct Few<T>(Vec<T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Keyed> Few<T> {
    fn find(&self, key: T::Key) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, T::key)
    }

    pub(crate) fn get(&self, key: T::Key) -> Option<&T> {
        self.0.get(self.find(key).ok()?)
    }

    pub(crate) fn get_mut(&mut self, key: T::Key) -> Option<&mut T> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at)
    }

    /// Takes one in, in place of one with the same key.
    pub(crate) fn insert(&mut self, one: T) {
        match self.find(one.key()) {
            Ok(at) => {
                if let Some(known) = self.0.get_mut(at) {
                    *known = one;
                }
            }
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(1 + self.0.len() / 2);
                }
                self.0.insert(at, one);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: T::Key) -> Option<T> {
        let at = self.find(key).ok()?;
        Some(self.0.remove(at))
    }

    pub(crate) fn retain(&mut self, stays: impl FnMut(&T) -> bool) {
        self.0.retain(stays);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

impl<T: Keyed> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut few = Self::default();
        all.into_iter().for_each(|one| few.insert(one));
        few
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for (u8, char) {
        type Key = u8;

        fn key(&self) -> u8 {
            self.0
        }
    }

    #[test]
    fn things_are_found_whatever_the_order_in_which_they_came_and_went() {
        let mut few: Few<_> = [(5, 'a'), (1, 'b'), (9, 'c'), (5, 'd')].into_iter().collect();
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [(1, 'b'), (5, 'd'), (9, 'c')]);
        assert_eq!((few.get(5), few.get(4)), (Some(&(5, 'd')), None));
        assert_eq!((few.remove(5), few.remove(5)), (Some((5, 'd')), None));
        few.iter_mut().for_each(|(_, letter)| letter.make_ascii_uppercase());
        assert_eq!(few.get_mut(9), Some(&mut (9, 'C')));
        assert_eq!(few.get_mut(5), None);
        few.retain(|(key, _)| *key > 1);
        assert_eq!(few.into_iter().collect::<Vec<_>>(), [(9, 'C')]);
        assert!(Few::<(u8, char)>::default().is_empty());
    }
}
