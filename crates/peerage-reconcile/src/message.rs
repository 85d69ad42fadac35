//! What the two sides say.

use crate::short::{Fingerprint, Salt, ShortId};
use crate::symbol::Symbol;

/// One message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The initiator's set in short.
    Open(Open),
    /// The responder asks for symbols until there are so many in all.
    More {
        /// How many.
        until: u32,
    },
    /// The initiator's next symbols.
    Symbols {
        /// The index of the first.
        from: u32,
        /// They.
        symbols: Batch,
    },
    /// The responder asks for ids instead.
    AskList,
    /// All ids of the sender in a range that begins where the last one ended.
    List {
        /// Ascending.
        ids: Vec<ShortId>,
        /// The last of the range, itself included.
        through: ShortId,
    },
    /// The difference, or a part of it.
    Answer(Answer),
    /// What was found is enough.
    Stop,
}

impl Message {
    /// Its kind, for people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Open(_) => "Open",
            Self::More { .. } => "More",
            Self::Symbols { .. } => "Symbols",
            Self::AskList => "AskList",
            Self::List { .. } => "List",
            Self::Answer(_) => "Answer",
            Self::Stop => "Stop",
        }
    }
}

/// How a session begins. The responder needs a set with this salt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The key of all hashes.
    pub salt: Salt,
    /// How many keys the initiator's set has.
    pub count: u64,
    /// What stands for all of them.
    pub fingerprint: Fingerprint,
    /// How many symbols the initiator makes at most.
    pub max_symbols: u32,
    /// The first ones.
    pub symbols: Batch,
}

/// The difference, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the receiver has and the sender lacks. Ascending, through all parts.
    pub want: Vec<ShortId>,
    /// What the sender has and the receiver lacks. Ascending, through all parts.
    pub have: Vec<ShortId>,
    /// What comes next.
    pub end: End,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Another part follows.
    Continues,
    /// That is all for the last list: the next, please.
    Next,
    /// That is all. What both have has this fingerprint, by the sender's hashes.
    Complete(Fingerprint),
    /// There is more, and the sender has no room for it.
    Partial,
}

/// Symbols that follow each other, as they are on the wire: 12 bytes and a count of mostly one or two.
///
/// A count is told as what it is beyond the one that its index lets expect in a set of that size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub(crate) sums: Vec<u64>,
    pub(crate) checks: Vec<u32>,
    /// As many as the others.
    pub(crate) excesses: Vec<i64>,
}

/// How many of `of` ids are part of a symbol, about.
fn expected(index: u32, of: u64) -> i64 {
    i64::try_from(2 * u128::from(of) / (u128::from(index) + 2)).unwrap_or(i64::MAX)
}

impl Batch {
    /// How many symbols there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// As many of the symbols as fit into so many bytes; takes them away from the front. Their first has this index, in a
    /// set of `of` keys.
    pub(crate) fn pack(symbols: &mut &[Symbol], from: u32, of: u64, mut bytes: usize) -> Self {
        let mut batch = Self::default();
        for index in from.. {
            let Some((symbol, rest)) = symbols.split_first() else { break };
            let excess = symbol.count.wrapping_sub(expected(index, of));
            let cost = size_of::<u64>() + size_of::<u32>() + varint_len(excess);
            let Some(left) = bytes.checked_sub(cost) else { break };
            (bytes, *symbols) = (left, rest);
            batch.sums.push(symbol.sum);
            batch.checks.push(symbol.check);
            batch.excesses.push(excess);
        }
        batch
    }

    /// The symbols, of which the first has this index, in a set of `of` keys. An error is the index of the first
    /// with an impossible count, and that count.
    pub(crate) fn unpack(&self, from: u32, of: u64) -> Result<Vec<Symbol>, (u32, i64)> {
        let parts = self.sums.iter().zip(&self.checks).zip(&self.excesses);
        (from..)
            .zip(parts)
            .map(|(index, ((sum, check), excess))| {
                let count = expected(index, of).saturating_add(*excess);
                let is_possible =
                    if index == 0 { count as u64 == of } else { (0..=of as i64).contains(&count) };
                if is_possible { Ok(Symbol { sum: *sum, count, check: *check }) } else { Err((index, count)) }
            })
            .collect()
    }
}

/// Bytes of a signed number in protobuf's zigzag encoding.
const fn varint_len(number: i64) -> usize {
    let zigzag = ((number << 1) ^ (number >> 63)) as u64;
    ((64 - (zigzag | 1).leading_zeros()) as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_counts_are_protobufs() {
        for (number, len) in
            [(0, 1), (-1, 1), (63, 1), (-64, 1), (64, 2), (-65, 2), (i64::MIN, 10), (i64::MAX, 10)]
        {
            assert_eq!(varint_len(number), len, "{number}");
        }
    }

    #[test]
    fn a_batch_takes_what_fits_and_unpacks_to_the_same() {
        let symbols: Vec<_> = (0..10)
            .map(|n| Symbol { sum: n, count: if n == 0 { 40 } else { n as i64 }, check: n as u32 })
            .collect();
        let mut left = symbols.as_slice();
        let first = Batch::pack(&mut left, 0, 40, 4 * 13);
        assert_eq!((first.len(), left.len()), (4, 6));
        assert_eq!(first.unpack(0, 40).unwrap(), symbols[..4]);
        let rest = Batch::pack(&mut left, 4, 40, 1000);
        assert_eq!(rest.unpack(4, 40).unwrap(), symbols[4..]);
    }

    #[test]
    fn counts_beyond_the_set_are_refused() {
        let batch = Batch { sums: vec![0; 2], checks: vec![0; 2], excesses: vec![0, 4] };
        assert_eq!(
            batch.unpack(0, 10),
            Ok(vec![Symbol { count: 10, ..Symbol::EMPTY }, Symbol { count: 10, ..Symbol::EMPTY }])
        );
        let batch = Batch { excesses: vec![0, 5], ..batch };
        assert_eq!(batch.unpack(0, 10), Err((1, 11)));
        let batch = Batch { excesses: vec![-1, 0], ..batch };
        assert_eq!(batch.unpack(0, 10), Err((0, 9)));
    }
}
