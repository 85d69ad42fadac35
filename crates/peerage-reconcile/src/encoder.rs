//! Makes symbols of a set, as many as are asked for, one after the other.

use std::sync::Arc;

use crate::mapping::{LAST, Mapping};
use crate::names::Names;
use crate::short::{Name, Salt, ShortId};
use crate::symbol::Symbol;

/// An id and how far it is encoded. 32 bytes.
#[derive(Clone, Copy, Debug)]
struct Item {
    short: ShortId,
    mapping: Mapping,
    check: u32,
}

/// A frozen set of short ids, and how far it is encoded.
///
/// It shares ids and kept symbols with the set that it is of, so making one costs nothing, and neither does a symbol that
/// the set keeps. Only for the others does it look at each id, once for each batch: a batch is what is asked for, or a
/// fourth of all before it if that is more, and what nobody asked for yet waits. So many small steps cost little more than
/// a large one.
#[derive(Clone, Debug)]
pub struct Encoder {
    names: Names,
    /// The first symbols, where somebody keeps them.
    kept: Arc<Vec<Symbol>>,
    /// All ids, in ascending order, and where they go on after the last symbol there is. Empty while the kept ones suffice.
    items: Vec<Item>,
    /// Symbols that were made and not asked for yet.
    ahead: Vec<Symbol>,
    /// Where those begin.
    ahead_from: u32,
    salt: Salt,
    made: u32,
    steps: u64,
}

impl Encoder {
    /// Bytes for each id, at most.
    pub(crate) const ID: usize = Names::NAME + size_of::<Item>();

    pub(crate) fn new(salt: Salt, names: Names, kept: Arc<Vec<Symbol>>) -> Self {
        let ahead_from = kept.len() as u32;
        Self { names, kept, items: Vec::new(), ahead: Vec::new(), ahead_from, salt, made: 0, steps: 0 }
    }

    /// The next `count` symbols.
    pub fn next(&mut self, count: u32) -> Vec<Symbol> {
        let (from, to) = (self.made, self.made.saturating_add(count).min(LAST));
        let kept = self.kept.len() as u32;
        let range = from.min(kept) as usize..to.min(kept) as usize;
        let mut symbols = self.kept.get(range).unwrap_or_default().to_vec();
        if to > kept {
            let from = from.max(kept);
            self.make(from, to);
            let range = (from - self.ahead_from) as usize..(to - self.ahead_from) as usize;
            symbols.extend_from_slice(self.ahead.get(range).unwrap_or_default());
        }
        self.made = to;
        self.steps += symbols.len() as u64;
        symbols
    }

    /// Makes those ahead go from `from`, where they begin or later, as far as `to` at least.
    fn make(&mut self, from: u32, to: u32) {
        let end = self.ahead_from + self.ahead.len() as u32;
        if to <= end {
            return;
        }
        self.ahead.drain(..((from - self.ahead_from) as usize).min(self.ahead.len()));
        self.ahead_from = from;
        if self.items.is_empty() {
            self.items.reserve_exact(self.names.len());
            self.items.extend(self.names.from(ShortId(0)).map(|Name { short, .. }| {
                let hash = self.salt.hash(short);
                Item { short, mapping: Mapping::new(hash), check: hash as u32 }
            }));
        }
        // Some more, so that many small steps cost no more than few large ones.
        let to = to.max(end.saturating_add(end / 4)).min(LAST);
        self.ahead.resize((to - from) as usize, Symbol::EMPTY);
        for item in &mut self.items {
            self.steps += 1;
            while item.mapping.next < to {
                // What is before `from` was made: the difference wraps, and there is no such symbol.
                if let Some(symbol) = self.ahead.get_mut(item.mapping.next.wrapping_sub(from) as usize) {
                    symbol.apply(item.short, item.check, 1);
                }
                item.mapping.advance();
                self.steps += 1;
            }
        }
    }

    /// How many symbols were made.
    #[must_use]
    pub const fn made(&self) -> u32 {
        self.made
    }

    /// How many ids there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names.len() == 0
    }

    /// What it took so far: one for each look at an id, each time that one was added to a symbol, and each symbol that was
    /// asked for. It does not depend on the processor.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Counts what others did with its ids.
    pub(crate) const fn count(&mut self, steps: usize) {
        self.steps += steps as u64;
    }

    pub(crate) const fn salt(&self) -> Salt {
        self.salt
    }

    pub(crate) fn has(&self, short: ShortId) -> bool {
        self.names.find(short).is_some()
    }

    pub(crate) fn name(&self, short: ShortId) -> Option<Name> {
        self.names.find(short)
    }

    /// The ids from one on, in ascending order.
    pub(crate) fn from(&self, first: ShortId) -> impl Iterator<Item = ShortId> {
        self.names.from(first).map(|name| name.short)
    }

    /// What it holds, in bytes, as if it shared nothing.
    pub(crate) fn held_bytes(&self) -> usize {
        self.names.len() * Names::NAME
            + self.items.capacity() * size_of::<Item>()
            + (self.kept.capacity() + self.ahead.capacity()) * size_of::<Symbol>()
    }
}
