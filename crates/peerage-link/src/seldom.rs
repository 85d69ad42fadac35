//! A queue that is nearly always empty, and then takes no more than a pointer.

use std::collections::VecDeque;

/// First in, first out. It has room while something is in it.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "without the box it takes 32 bytes, and the other allocation is as rare"
)]
pub(crate) struct Seldom<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Seldom<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.0.as_ref()?.front()
    }

    pub(crate) fn push_back(&mut self, one: T) {
        self.0.get_or_insert_default().push_back(one);
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let first = self.0.as_mut()?.pop_front();
        self.give_room_back();
        first
    }

    pub(crate) fn retain(&mut self, stays: impl FnMut(&T) -> bool) {
        if let Some(queue) = &mut self.0 {
            queue.retain(stays);
            self.give_room_back();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|queue| queue.iter())
    }

    fn give_room_back(&mut self) {
        self.0.take_if(|queue| queue.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_order_and_leaves_no_room_behind() {
        let mut queue = Seldom::default();
        assert_eq!(queue.front(), None);
        assert_eq!(queue.pop_front(), None);
        (1..=4).for_each(|one| queue.push_back(one));
        queue.retain(|one| *one != 2);
        assert_eq!(queue.iter().copied().collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(queue.pop_front(), Some(1));
        assert_eq!((queue.front(), queue.is_empty()), (Some(&3), false));
        queue.retain(|one| *one > 4);
        assert!(queue.is_empty() && queue.0.is_none());
        queue.push_back(5);
        assert_eq!(queue.pop_front(), Some(5));
        assert!(queue.0.is_none());
        queue.push_back(6);
        queue.clear();
        assert!(queue.is_empty());
    }
}
