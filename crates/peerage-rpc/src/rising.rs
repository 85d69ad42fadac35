//! A map whose keys are numbers that are given one after the other, and which are mostly removed in about that order: calls.
//!
//! It is a queue in which a number is found by its distance from the front, so that nothing is searched, and nothing is
//! allocated for each entry.

use std::collections::VecDeque;

/// Places of removed entries that are left until they are more than the entries.
const LEFT: usize = 64;

/// What belongs to numbers, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Rising<T> {
    /// Sorted; `None` once it is removed.
    places: VecDeque<(u64, Option<T>)>,
    len: usize,
}

impl<T> Default for Rising<T> {
    fn default() -> Self {
        Self { places: VecDeque::new(), len: 0 }
    }
}

impl<T> Rising<T> {
    /// Where the number is, or where it would be.
    #[inline]
    fn place(&self, number: u64) -> Result<usize, usize> {
        let Some((first, _)) = self.places.front() else { return Err(0) };
        // Mostly none is missing before it.
        let guess = usize::try_from(number.wrapping_sub(*first)).unwrap_or(usize::MAX);
        match self.places.get(guess) {
            Some((there, _)) if *there == number => Ok(guess),
            _ => self.search(number),
        }
    }

    #[cold]
    fn search(&self, number: u64) -> Result<usize, usize> {
        self.places.binary_search_by_key(&number, |(there, _)| *there)
    }

    pub(crate) fn insert(&mut self, number: u64, value: T) {
        if self.places.back().is_none_or(|(last, _)| *last < number) {
            self.places.push_back((number, Some(value)));
            self.len += 1;
            return;
        }
        match self.place(number) {
            Ok(at) => {
                if let Some((_, place)) = self.places.get_mut(at) {
                    self.len += usize::from(place.is_none());
                    *place = Some(value);
                }
            }
            Err(at) => {
                self.places.insert(at, (number, Some(value)));
                self.len += 1;
            }
        }
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        // A number that is new is asked for often.
        self.places.back().filter(|(last, _)| number <= *last)?;
        self.places.get(self.place(number).ok()?)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let at = self.place(number).ok()?;
        self.places.get_mut(at)?.1.as_mut()
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let at = self.place(number).ok()?;
        let value = self.places.get_mut(at)?.1.take()?;
        self.len -= 1;
        while self.places.front().is_some_and(|(_, place)| place.is_none()) {
            self.places.pop_front();
        }
        if self.places.len() > LEFT.max(2 * self.len) {
            self.places.retain(|(_, place)| place.is_some());
        }
        Some(value)
    }

    /// Gives room back, when there are no entries.
    pub(crate) fn rest(&mut self) {
        if self.places.is_empty() {
            self.places = VecDeque::new();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.places.iter().filter_map(|(number, place)| Some((*number, place.as_ref()?)))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        /// The next number, after so many that are left out.
        Next(u64),
        Insert(u64),
        Remove(u64),
        RemoveFirst,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..3_u64).prop_map(Op::Next),
            1 => (0..300_u64).prop_map(Op::Insert),
            3 => (0..300_u64).prop_map(Op::Remove),
            2 => Just(Op::RemoveFirst),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds_and_little_room_besides(ops in proptest::collection::vec(op(), 0..600)) {
            let (mut rising, mut map) = (Rising::default(), BTreeMap::new());
            for (value, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Next(left_out) => {
                        let number = map.last_key_value().map_or(0, |(last, _)| *last) + 1 + left_out;
                        rising.insert(number, value);
                        map.insert(number, value);
                    }
                    Op::Insert(number) => {
                        rising.insert(number, value);
                        map.insert(number, value);
                    }
                    Op::Remove(number) => prop_assert_eq!(rising.remove(number), map.remove(&number)),
                    Op::RemoveFirst => {
                        if let Some((first, value)) = map.pop_first() {
                            prop_assert!(rising.contains(first));
                            prop_assert_eq!(rising.remove(first), Some(value));
                        }
                    }
                }
                prop_assert!(rising.places.len() <= LEFT.max(2 * map.len()) + 1);
                prop_assert!(rising.iter().eq(map.iter().map(|(number, value)| (*number, value))));
                prop_assert!((0..300).all(|number| rising.get(number) == map.get(&number)));
            }
        }
    }

    #[test]
    fn it_gives_its_room_back_when_it_is_empty_and_rests() {
        let mut rising = Rising::default();
        (0..1_000).for_each(|number| rising.insert(number, number));
        (0..1_000).rev().for_each(|number| assert_eq!(rising.remove(number), Some(number)));
        rising.rest();
        assert_eq!(rising.places.capacity(), 0);
    }
}
