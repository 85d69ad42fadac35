//! Links, joined back to back or to a hand-driven stranger, in virtual time.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod agreement;
mod closing;
mod common;
mod door;
mod endings;
mod fairness;
mod handshake;
mod hostile;
mod hostile_bytes;
mod late_open;
mod limits;
mod memory;
mod messages;
mod rates;
mod reclaim;
mod refusals;
mod shedding;
mod time;
mod windows;
