//! What will happen, in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use peerage_machine::Instant;

/// Things by (time, order of scheduling). The heap holds 24 bytes per thing; the things themselves stay where they are.
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    things: Vec<Option<T>>,
    free: Vec<u32>,
    scheduled: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), things: Vec::new(), free: Vec::new(), scheduled: 0 }
    }

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
        self.heap.push(Reverse((at, self.scheduled, slot)));
        self.scheduled += 1;
    }

    /// The first thing, if it happens until `until`.
    pub(crate) fn pop(&mut self, until: Instant) -> Option<(Instant, T)> {
        let Reverse((at, _, slot)) = *self.heap.peek()?;
        if at > until {
            return None;
        }
        self.heap.pop();
        self.free.push(slot);
        let thing = self.things.get_mut(slot as usize)?.take()?;
        Some((at, thing))
    }
}

#[cfg(test)]
mod tests {
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
    fn what_is_later_stays() {
        let mut queue = Queue::new();
        queue.push(Instant::from_micros(5), ());
        assert_eq!(queue.pop(Instant::from_micros(4)), None);
        assert_eq!(queue.pop(Instant::from_micros(5)), Some((Instant::from_micros(5), ())));
    }
}
