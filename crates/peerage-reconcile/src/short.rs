//! Short ids and what they are made with.

use std::fmt;

use crate::sip;

/// The key of a session's hashes: 16 bytes that nobody could know before.
///
/// Short ids, checksums and fingerprints are made with it. Whoever knows a salt finds two keys with the same short id
/// in some 2^32 steps, seconds on a graphics card, but none that has the short id of a given key: that takes 2^64. So a salt
/// should be new for each session, or last no longer than minutes, and not be told to more peers than need it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Salt([u8; 16]);

impl Salt {
    /// A salt of random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn key(self) -> (u64, u64) {
        let all = u128::from_le_bytes(self.0);
        (all as u64, (all >> 64) as u64)
    }

    /// What stands for a key under this salt.
    #[inline]
    pub(crate) fn name(self, key: &[u8]) -> Name {
        let (short, tag) = sip::hash_128(self.key(), key);
        Name { short: ShortId(short), tag }
    }

    /// The hash of a short id: seeds its mapping, and its lower half is its checksum.
    #[inline]
    pub(crate) fn hash(self, short: ShortId) -> u64 {
        sip::hash_u64(self.key(), short.0)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salt({:032x})", u128::from_be_bytes(self.0))
    }
}

/// Eight bytes that stand for a key during a session: the first half of SipHash-2-4-128 of the key under the salt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId(pub u64);

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Both halves of a key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) short: ShortId,
    pub(crate) tag: u64,
}

/// What stands for a whole set under a salt: the sum of its keys' 128-bit hashes.
///
/// Equal fingerprints under a salt that nobody could know mean equal sets, but for one chance in 2^128.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    pub(crate) fn add(&mut self, name: Name) {
        self.0 = self.0.wrapping_add(whole(name));
    }

    pub(crate) fn remove(&mut self, name: Name) {
        self.0 = self.0.wrapping_sub(whole(name));
    }
}

fn whole(name: Name) -> u128 {
    u128::from(name.tag) << 64 | u128::from(name.short.0)
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({:032x})", self.0)
    }
}
