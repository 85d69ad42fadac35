//! The numbers of a session.

use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::error::StartError;
use crate::symbol::Symbol;

/// What a session may cost. The two sides need not have the same numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Symbols of the first message, each of about 14 bytes on the wire. 16 find up to some 8 differences at once, and tell
    /// how large a larger one is to within a third. 0 to `max_symbols`, and to what fits into a message.
    pub first_symbols: u32,
    /// Symbols before the session sends ids instead. The default finds 23,000 differences in 450 KiB. 16 to 2^24.
    pub max_symbols: u32,
    /// Ids of each side that a session finds before it ends with what it has. `max_symbols` to 2^32 − 1.
    pub max_differences: u32,
    /// Keys of our set. 1 to 2^32 − 1.
    pub max_set: usize,
    /// Bytes of a message. 1,024 to 2^24. The default leaves room below the 65,536 of a link's control messages.
    pub max_message: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            first_symbols: 16,
            max_symbols: 32_768,
            max_differences: 1 << 18,
            max_set: 1 << 20,
            max_message: 60_000,
        }
    }
}

impl Config {
    /// Bytes of a message besides its symbols or ids, at most.
    const HEAD: usize = 96;
    /// Bytes of a symbol on the wire and its part of the head, at most.
    const SYMBOL: u64 = 28;

    /// Whether all numbers are in their ranges.
    ///
    /// # Errors
    ///
    /// [`StartError::Config`] for the first that is not.
    pub fn check(&self) -> Result<(), StartError> {
        let symbols = u64::from(self.max_symbols);
        let most = u64::from(u32::MAX);
        let set = u64::try_from(self.max_set).unwrap_or(u64::MAX);
        let message = u64::try_from(self.max_message).unwrap_or(u64::MAX);
        for (field, value, least, most) in [
            ("max_symbols", symbols, 16, 1 << 24),
            ("max_differences", u64::from(self.max_differences), symbols, most),
            ("max_set", set, 1, most),
            ("max_message", message, 1024, 1 << 24),
            ("first_symbols", u64::from(self.first_symbols), 0, symbols.min(message / Self::SYMBOL)),
        ] {
            if value < least || value > most {
                return Err(StartError::Config { field, value, least, most });
            }
        }
        Ok(())
    }

    /// What a session holds at most, in bytes: the set's short ids as they were, symbols, and what it has found. Of that,
    /// short ids and kept symbols are shared with the set, as far as the set does not change meanwhile; a set that keeps
    /// more than `max_symbols` comes on top. What it sends is its caller's: up to `max_symbols` of 20 bytes in one step.
    #[must_use]
    pub const fn worst_case_bytes(&self) -> usize {
        let set = self.max_set.saturating_mul(Encoder::ID);
        // Symbols that the set keeps, those made ahead and those that wait, and those of the decoder with all that grows
        // with them; twice for room to grow.
        let each =
            size_of::<Symbol>() + 2 * (2 * size_of::<Symbol>() + size_of::<Symbol>() / 4 + Decoder::SYMBOL);
        let symbols = (self.max_symbols as usize).saturating_mul(each);
        let found = (self.max_differences as usize).saturating_mul(2 * 2 * size_of::<u64>());
        set.saturating_add(symbols).saturating_add(found).saturating_add(4096)
    }

    /// Ids that fit into a message.
    pub(crate) const fn ids_per_message(&self) -> usize {
        (self.max_message.saturating_sub(Self::HEAD)) / size_of::<u64>()
    }

    /// Bytes of symbols that fit into a message.
    pub(crate) const fn symbol_bytes(&self) -> usize {
        self.max_message.saturating_sub(Self::HEAD)
    }
}
