//! What belongs to the channels of a link, in order, in no more memory than they take: most links have one channel, and a node
//! of a map has room for eleven.

/// A value for each of some numbers. Few: to add one moves those behind it, and numbers are mostly given in ascending order.
#[derive(Debug)]
pub(crate) struct Few<V>(Vec<(u32, Box<V>)>);

impl<V> Default for Few<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Few<V> {
    fn find(&self, number: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |(number, _)| *number)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&V> {
        self.0.get(self.find(number).ok()?).map(|(_, value)| &**value)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut V> {
        let at = self.find(number).ok()?;
        self.0.get_mut(at).map(|(_, value)| &mut **value)
    }

    /// Sets the value of a number.
    pub(crate) fn insert(&mut self, number: u32, value: V) {
        match self.find(number) {
            Ok(at) => {
                if let Some((_, known)) = self.0.get_mut(at) {
                    **known = value;
                }
            }
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(1 + self.0.len() / 2);
                }
                self.0.insert(at, (number, Box::new(value)));
            }
        }
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<V> {
        let at = self.find(number).ok()?;
        Some(*self.0.remove(at).1)
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        self.0.iter().map(|(number, value)| (*number, &**value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut V)> {
        self.0.iter_mut().map(|(number, value)| (*number, &mut **value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u32> {
        self.iter().map(|(number, _)| number)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<V> FromIterator<(u32, V)> for Few<V> {
    fn from_iter<I: IntoIterator<Item = (u32, V)>>(values: I) -> Self {
        let mut few = Self::default();
        values.into_iter().for_each(|(number, value)| few.insert(number, value));
        few
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_whatever_the_order_in_which_they_came_and_went() {
        let mut few: Few<char> = [(5, 'a'), (1, 'b'), (9, 'c'), (5, 'd')].into_iter().collect();
        assert_eq!(few.iter().collect::<Vec<_>>(), [(1, &'b'), (5, &'d'), (9, &'c')]);
        assert_eq!((few.get(5), few.get(4)), (Some(&'d'), None));
        assert_eq!((few.remove(5), few.remove(5)), (Some('d'), None));
        few.iter_mut().for_each(|(_, value)| value.make_ascii_uppercase());
        assert_eq!(few.get_mut(9), Some(&mut 'C'));
        assert_eq!(few.get_mut(5), None);
        assert_eq!(
            (few.keys().collect::<Vec<_>>(), few.values().collect::<String>()),
            (vec![1, 9], "BC".into())
        );
        few.clear();
        assert!(few.is_empty());
    }
}
