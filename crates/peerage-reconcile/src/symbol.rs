//! One coded symbol.

use crate::short::ShortId;

/// The ids that are mapped to an index, added up.
///
/// Symbols of the same index and salt can be subtracted: what remains stands for the ids that only one of the two sets
/// has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symbol {
    /// The exclusive or of the short ids.
    pub sum: u64,
    /// How many they are; of a difference, theirs less ours.
    pub count: i64,
    /// The exclusive or of their checksums.
    pub check: u32,
}

impl Symbol {
    /// No ids.
    pub const EMPTY: Self = Self { sum: 0, count: 0, check: 0 };

    /// Whether it stands for no ids.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Adds an id `times` times, which is 1 or −1.
    #[inline]
    pub(crate) fn apply(&mut self, short: ShortId, check: u32, times: i64) {
        self.sum ^= short.0;
        self.check ^= check;
        self.count = self.count.wrapping_add(times);
    }
}

impl std::ops::Sub for Symbol {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            sum: self.sum ^ other.sum,
            count: self.count.wrapping_sub(other.count),
            check: self.check ^ other.check,
        }
    }
}
