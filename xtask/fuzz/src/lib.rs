//! Whatever a stranger may send, as functions of bytes: each panics when something does not hold that must.
//!
//! `fuzz/` at the root of the repository has a fuzzer for each (`cargo +nightly fuzz run NAME`, with cargo-fuzz). What one
//! finds is put into `fuzz/regressions/NAME/`, and runs with the ordinary tests from then on, beside the seeds in
//! `fuzz/seeds/NAME/`.
//!
//! # Guarantees
//! - Deterministic: the same bytes do the same, in any process.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a fuzzer looks for panics; here they say what does not hold"
)]

mod boxes;
mod frames;
mod handshake;
mod link_input;
mod messages;
mod peers;
mod reconcile;
mod records;

pub use boxes::boxes;
pub use frames::frames;
pub use handshake::handshake;
pub use link_input::link_input;
pub use messages::messages;
pub use reconcile::reconcile;
pub use records::records;

use peerage_wire::Suite;

/// A function of bytes that panics when something does not hold.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("boxes", boxes),
    ("frames", frames),
    ("handshake", handshake),
    ("link_input", link_input),
    ("messages", messages),
    ("reconcile", reconcile),
    ("records", records),
];

/// Reads bytes as small decisions; zeros when there are no more.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of the suites, by the lowest bit of a byte.
    fn suite(&mut self) -> Suite {
        if self.byte() & 1 == 0 { Suite::ChaChaPoly } else { Suite::AesGcm }
    }

    fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
