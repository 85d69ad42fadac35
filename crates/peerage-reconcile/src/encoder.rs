//! Makes symbols of a set, as many as are asked for, one after the other.

use crate::mapping::Mapping;
use crate::short::{Name, Salt, ShortId};
use crate::symbol::Symbol;

/// Stands where the next index of an id would be that is not to be encoded any more.
const TAKEN_OUT: u32 = u32::MAX;

/// An id and how far it is encoded. 32 bytes.
#[derive(Clone, Copy, Debug)]
struct Item {
    short: ShortId,
    tag: u64,
    mapping: Mapping,
    check: u32,
}

/// A frozen set of short ids, and how far it is encoded.
///
/// It goes through its ids once per batch and each id's indices in a row, so the cost of a batch is one look at each
/// id and one step for each symbol that the id is part of; there is no heap, and nothing is allocated but the batch. Ask for
/// few large batches rather than many small ones.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Ascending by short id.
    items: Vec<Item>,
    /// The first symbols, where somebody keeps them.
    cached: Vec<Symbol>,
    salt: Salt,
    made: u32,
}

impl Encoder {
    /// Bytes for each id.
    pub(crate) const ITEM: usize = size_of::<Item>();

    /// The ids come in ascending order, each once.
    pub(crate) fn new(salt: Salt, names: impl ExactSizeIterator<Item = Name>, cached: &[Symbol]) -> Self {
        let mut items = Vec::with_capacity(names.len());
        items.extend(names.map(|Name { short, tag }| {
            let hash = salt.hash(short);
            Item { short, tag, mapping: Mapping::new(hash), check: hash as u32 }
        }));
        Self { items, cached: cached.to_vec(), salt, made: 0 }
    }

    /// The next `count` symbols.
    pub fn next(&mut self, count: u32) -> Vec<Symbol> {
        let (from, to) = (self.made, self.made.saturating_add(count).min(crate::mapping::LAST));
        let mut symbols = vec![Symbol::EMPTY; to.saturating_sub(from) as usize];
        let cached = self.cached.get(from as usize..).unwrap_or_default();
        for (symbol, cached) in symbols.iter_mut().zip(cached) {
            *symbol = *cached;
        }
        let known = cached.len().min(symbols.len());
        if let Some(rest) = symbols.get_mut(known..)
            && !rest.is_empty()
        {
            self.add(from.saturating_add(known as u32), rest, 1);
        }
        self.made = to;
        symbols
    }

    /// How many symbols were made.
    #[must_use]
    pub const fn made(&self) -> u32 {
        self.made
    }

    /// How many ids there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) const fn salt(&self) -> Salt {
        self.salt
    }

    /// Subtracts the next symbols from these.
    pub(crate) fn subtract(&mut self, symbols: &mut [Symbol]) {
        self.add(self.made, symbols, -1);
        self.made = self.made.saturating_add(symbols.len() as u32);
    }

    fn add(&mut self, from: u32, symbols: &mut [Symbol], times: i64) {
        let to = from.saturating_add(symbols.len() as u32).min(crate::mapping::LAST);
        for item in &mut self.items {
            while item.mapping.next < to {
                // What is before `from` was cached: the difference wraps, and there is no such symbol.
                if let Some(symbol) = symbols.get_mut(item.mapping.next.wrapping_sub(from) as usize) {
                    symbol.apply(item.short, item.check, times);
                }
                item.mapping.advance();
            }
        }
    }

    fn find(&self, short: ShortId) -> Option<usize> {
        self.items.binary_search_by_key(&short, |item| item.short).ok()
    }

    pub(crate) fn has(&self, short: ShortId) -> bool {
        self.find(short).is_some()
    }

    pub(crate) fn name(&self, short: ShortId) -> Option<Name> {
        self.items.get(self.find(short)?).map(|item| Name { short, tag: item.tag })
    }

    /// The ids from one on, in ascending order.
    pub(crate) fn from(&self, first: ShortId) -> impl Iterator<Item = ShortId> {
        let begin = self.items.partition_point(|item| item.short < first);
        self.items.get(begin..).unwrap_or_default().iter().map(|item| item.short)
    }

    /// Leaves an id out of all symbols to come. `false` if there is none, or it was left out before.
    pub(crate) fn take_out(&mut self, short: ShortId) -> bool {
        let Some(item) = self.find(short).and_then(|index| self.items.get_mut(index)) else { return false };
        std::mem::replace(&mut item.mapping.next, TAKEN_OUT) != TAKEN_OUT
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.items.capacity() * Self::ITEM + self.cached.capacity() * size_of::<Symbol>()
    }
}
