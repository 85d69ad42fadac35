//! The tools that machines are built of, and the kit that tests them.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first thing that is not as it should be")]

mod asker;
mod calls;
mod contract;
mod outbox;
mod seed;
mod timers;
