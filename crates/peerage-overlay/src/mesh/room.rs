//! How much room is made for more, and what of it is given back: most of what a peer takes are a few long lists.

use std::collections::VecDeque;

/// A list that is full gets room for an eighth more and so many.
const STEP: usize = 4;

/// For how many more a list that is full gets room.
pub(crate) fn more(len: usize) -> usize {
    STEP + len / 8
}

/// What was needed in busier times.
pub(crate) fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 4 * queue.len().max(4) {
        queue.shrink_to(2 * queue.len());
    }
}
