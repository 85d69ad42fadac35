//! A queue that never makes the network wait: at its bound it drops the oldest, and says how many.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Locks; data of ours stays whole whoever panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Items for which an empty queue has room.
const KEPT: usize = 16;

struct State<T> {
    items: VecDeque<(T, u64)>,
    bytes: u64,
    missed: u64,
    closed: bool,
}

/// Bounded by number and bytes.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    more: Notify,
    most: usize,
    most_bytes: u64,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    Item(T),
    /// So many were dropped before the next item.
    Lagged(u64),
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(most: usize, most_bytes: u64) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, missed: 0, closed: false };
        Self { state: Mutex::new(state), more: Notify::new(), most: most.max(1), most_bytes }
    }

    pub(super) fn push(&self, item: T, bytes: u64) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        state.items.push_back((item, bytes));
        state.bytes += bytes;
        // The newest stays, however large.
        while state.items.len() > self.most || (state.bytes > self.most_bytes && state.items.len() > 1) {
            if let Some((_, bytes)) = state.items.pop_front() {
                state.bytes -= bytes;
                state.missed += 1;
            }
        }
        drop(state);
        self.more.notify_one();
    }

    /// Others were dropped before they came here.
    pub(super) fn note_missed(&self, missed: u64) {
        lock(&self.state).missed += missed;
        self.more.notify_one();
    }

    /// Readers get what there is, then the end.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.more.notify_waiters();
        // For the one that looks next.
        self.more.notify_one();
    }

    pub(super) fn try_next(&self) -> Option<Next<T>> {
        let mut state = lock(&self.state);
        if state.missed > 0 {
            return Some(Next::Lagged(std::mem::take(&mut state.missed)));
        }
        if state.items.is_empty() && state.items.capacity() > KEPT {
            // It was needed in busier times. A reader that is kept busy does not get here each time.
            let half = state.items.capacity() / 2;
            state.items.shrink_to(half);
        }
        if let Some((item, bytes)) = state.items.pop_front() {
            state.bytes -= bytes;
            let more = !state.items.is_empty();
            drop(state);
            if more {
                // Several may read: one wake-up serves one of them.
                self.more.notify_one();
            }
            return Some(Next::Item(item));
        }
        state.closed.then_some(Next::Closed)
    }

    /// Waits for the next. Dropping the future loses nothing.
    pub(super) async fn next(&self) -> Next<T> {
        loop {
            let more = self.more.notified();
            if let Some(next) = self.try_next() {
                if matches!(next, Next::Closed) {
                    self.more.notify_one();
                }
                return next;
            }
            more.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Next, Queue};

    #[test]
    fn at_its_bound_it_drops_the_oldest_and_says_how_many() {
        let queue = Queue::new(3, 1000);
        (0..5).for_each(|number| queue.push(number, 1));
        assert_eq!(queue.try_next(), Some(Next::Lagged(2)));
        assert_eq!((2..5).map(Next::Item).map(Some).collect::<Vec<_>>(), [(); 3].map(|()| queue.try_next()));
        assert_eq!(queue.try_next(), None);
    }

    #[test]
    fn bytes_bound_it_too_but_never_the_newest() {
        let queue = Queue::new(100, 10);
        queue.push("small", 6);
        queue.push("large", 50);
        assert_eq!(queue.try_next(), Some(Next::Lagged(1)));
        assert_eq!(queue.try_next(), Some(Next::Item("large")));
    }

    #[test]
    fn after_the_close_readers_get_the_rest_and_then_the_end() {
        let queue = Queue::new(100, 10);
        queue.push(1, 1);
        queue.close();
        queue.push(2, 1);
        assert_eq!(queue.try_next(), Some(Next::Item(1)));
        assert_eq!(queue.try_next(), Some(Next::Closed));
        assert_eq!(queue.try_next(), Some(Next::Closed));
    }
}
