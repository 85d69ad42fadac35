//! The fingerprint of a run.

use peerage_machine::Instant;

/// What kind of thing a line of the trace is. The numbers are part of the fingerprint.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Start = 0,
    Timer = 1,
    Up = 2,
    Down = 3,
    Message = 4,
    Dialed = 5,
    DialFailed = 6,
    Undelivered = 7,
    Stored = 8,
    Verified = 9,
    OwnAddresses = 10,
    Credit = 11,
    Command = 12,
    Crash = 13,
    Emit = 14,
    Answer = 15,
    Refused = 16,
    Sent = 17,
    Lost = 18,
}

/// Hashes a line of 29 bytes for everything that happens: when, what, to which node, on which link or under which id,
/// and how much.
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    // Lines are hashed by the thousand: a call of the hasher per line would cost more than the line.
    pending: Vec<u8>,
}

const PENDING: usize = 32 * 1024;

impl Trace {
    pub(crate) fn new() -> Self {
        let hasher = blake3::Hasher::new_derive_key("peerage 2026 simulation trace v1");
        Self { hasher, pending: Vec::with_capacity(PENDING + 64) }
    }

    pub(crate) fn line(&mut self, at: Instant, kind: Kind, node: u32, id: u64, amount: u64) {
        self.pending.extend_from_slice(&at.as_micros().to_le_bytes());
        self.pending.push(kind as u8);
        self.pending.extend_from_slice(&node.to_le_bytes());
        self.pending.extend_from_slice(&id.to_le_bytes());
        self.pending.extend_from_slice(&amount.to_le_bytes());
        if self.pending.len() >= PENDING {
            self.hasher.update(&self.pending);
            self.pending.clear();
        }
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.pending);
        *hasher.finalize().as_bytes()
    }
}
