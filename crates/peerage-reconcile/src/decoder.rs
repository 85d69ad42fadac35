//! Finds the difference of two sets by peeling their symbols.

use crate::encoder::Encoder;
use crate::error::DecodeError;
use crate::mapping::Mapping;
use crate::short::ShortId;
use crate::symbol::Symbol;

/// An id of theirs that was found, and from which symbol on it is to be subtracted. 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Found {
    short: ShortId,
    mapping: Mapping,
}

/// Takes their symbols, one batch after the other, until it has the difference.
///
/// Each id that is found costs one step for each symbol that it is part of. Whatever the symbols are, there are never more
/// ids found than symbols taken, and none is found twice, so a hostile stream costs about what an honest one of its length does.
#[derive(Clone, Debug)]
pub struct Decoder {
    ours: Encoder,
    max_symbols: u32,
    /// Their symbols less ours, less what was found.
    symbols: Vec<Symbol>,
    theirs: Vec<Found>,
    ours_found: Vec<ShortId>,
    /// Symbols that may stand for one id, each once.
    candidates: Vec<u32>,
    /// Of each symbol, whether it is among them.
    is_candidate: Vec<bool>,
    /// The symbols of the id at hand.
    places: Vec<u32>,
    is_done: bool,
}

impl Decoder {
    /// Bytes for each symbol, of which each can also find one id, be a candidate, and be a part of the id at hand.
    pub(crate) const SYMBOL: usize = size_of::<Symbol>() + Self::FOUND + 2 * size_of::<u32>() + 1;
    const FOUND: usize = size_of::<Found>() + size_of::<ShortId>();

    /// Compares with our set, whose encoder has made no symbol yet; takes at most `max_symbols`.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Begun`] if the encoder has made symbols.
    pub fn new(ours: Encoder, max_symbols: u32) -> Result<Self, DecodeError> {
        if ours.made() > 0 {
            return Err(DecodeError::Begun { made: ours.made() });
        }
        Ok(Self {
            ours,
            max_symbols,
            symbols: Vec::new(),
            theirs: Vec::new(),
            ours_found: Vec::new(),
            candidates: Vec::new(),
            is_candidate: Vec::new(),
            places: Vec::new(),
            is_done: false,
        })
    }

    /// Takes their next symbols. `true` when the difference is known; further symbols are then ignored.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when there are too many, or when no two sets have such symbols. The decoder is of no use any more.
    pub fn push(&mut self, theirs: &[Symbol]) -> Result<bool, DecodeError> {
        if self.is_done {
            return Ok(true);
        }
        let (begin, limit) = (self.symbols.len(), self.max_symbols);
        if theirs.len() > (limit as usize).saturating_sub(begin) {
            return Err(DecodeError::TooManySymbols { symbols: begin.saturating_add(theirs.len()), limit });
        }
        self.symbols.reserve_exact(theirs.len());
        self.symbols.extend_from_slice(theirs);
        let end = self.symbols.len() as u32;
        self.ours.subtract(self.symbols.get_mut(begin..).unwrap_or_default());
        for found in &mut self.theirs {
            let check = self.ours.salt().hash(found.short) as u32;
            while found.mapping.next < end {
                if let Some(symbol) = self.symbols.get_mut(found.mapping.next as usize) {
                    symbol.apply(found.short, check, -1);
                }
                found.mapping.advance();
            }
        }
        self.candidates.extend(begin as u32..end);
        self.is_candidate.resize(end as usize, true);
        self.peel()?;
        // Every id is part of symbol 0.
        if self.symbols.first().is_some_and(Symbol::is_empty) {
            self.finish()?;
        }
        Ok(self.is_done)
    }

    fn peel(&mut self) -> Result<(), DecodeError> {
        while let Some(index) = self.candidates.pop() {
            if let Some(is_candidate) = self.is_candidate.get_mut(index as usize) {
                *is_candidate = false;
            }
            let Some(symbol) = self.symbols.get(index as usize).copied() else { continue };
            if symbol.count.unsigned_abs() != 1 {
                continue;
            }
            let short = ShortId(symbol.sum);
            let hash = self.ours.salt().hash(short);
            if hash as u32 != symbol.check {
                continue;
            }
            let Some(mapping) = self.locate(hash, index) else { continue };
            self.take(short, mapping, symbol.count)?;
            for place in &self.places {
                let Some(touched) = self.symbols.get_mut(*place as usize) else { continue };
                touched.apply(short, hash as u32, -symbol.count);
                let Some(is_candidate) = self.is_candidate.get_mut(*place as usize) else { continue };
                if touched.count.unsigned_abs() == 1 && !std::mem::replace(is_candidate, true) {
                    self.candidates.push(*place);
                }
            }
        }
        Ok(())
    }

    /// Puts the symbols that an id is part of into `places`; `None` unless `index` is one of them. Where the first symbol
    /// to come is, in the mapping that it returns.
    fn locate(&mut self, hash: u64, index: u32) -> Option<Mapping> {
        let end = self.symbols.len() as u32;
        let mut mapping = Mapping::new(hash);
        let mut is_part = false;
        self.places.clear();
        while mapping.next < end {
            is_part |= mapping.next == index;
            self.places.push(mapping.next);
            mapping.advance();
        }
        is_part.then_some(mapping)
    }

    fn take(&mut self, short: ShortId, mapping: Mapping, count: i64) -> Result<(), DecodeError> {
        if self.theirs.len() + self.ours_found.len() >= self.symbols.len() {
            return Err(DecodeError::Impossible);
        }
        if count > 0 {
            if self.ours.has(short) {
                return Err(DecodeError::Impossible);
            }
            self.theirs.push(Found { short, mapping });
        } else {
            if !self.ours.take_out(short) {
                return Err(DecodeError::Impossible);
            }
            self.ours_found.push(short);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DecodeError> {
        if !self.symbols.iter().all(Symbol::is_empty) {
            return Err(DecodeError::Impossible);
        }
        self.theirs.sort_unstable_by_key(|found| found.short);
        self.ours_found.sort_unstable();
        let mut next = self.theirs.iter().skip(1);
        if self.theirs.iter().any(|found| next.next().is_some_and(|next| next.short == found.short)) {
            return Err(DecodeError::Impossible);
        }
        self.is_done = true;
        Ok(())
    }

    /// Whether the difference is known.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.is_done
    }

    /// How many symbols were taken.
    #[must_use]
    pub const fn taken(&self) -> u32 {
        self.symbols.len() as u32
    }

    /// What we have and they lack, as far as it is known: ascending when done.
    #[must_use]
    pub fn ours(&self) -> &[ShortId] {
        &self.ours_found
    }

    /// What they have and we lack, as far as it is known: ascending when done.
    pub fn theirs(&self) -> impl ExactSizeIterator<Item = ShortId> {
        self.theirs.iter().map(|found| found.short)
    }

    /// How large the difference probably is: what was found, and what the spread of the counts says of the rest. Of k
    /// symbols it is right to within a factor of about sqrt(2 / k), and no less than the difference of the sizes.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        let found = (self.theirs.len() + self.ours_found.len()) as f64;
        let Some((first, rest)) = self.symbols.split_first() else { return 0.0 };
        let surplus = first.count as f64;
        // A symbol's count is a sum of independent ids, each there with its share: of mean surplus * share, and of
        // variance ids * share * (1 - share).
        let (mut spread, mut weight) = (0.0, 0.0);
        for (index, symbol) in (1_u32..).zip(rest) {
            let share = 2.0 / (f64::from(index) + 2.0);
            let distance = symbol.count as f64 - surplus * share;
            spread += distance * distance;
            weight += share * (1.0 - share);
        }
        let left = if weight > 0.0 { spread / weight } else { 0.0 };
        found + left.max(surplus.abs())
    }

    pub(crate) const fn set(&self) -> &Encoder {
        &self.ours
    }

    pub(crate) fn into_set(self) -> Encoder {
        self.ours
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.ours.held_bytes()
            + self.symbols.capacity() * size_of::<Symbol>()
            + self.theirs.capacity() * size_of::<Found>()
            + self.ours_found.capacity() * size_of::<ShortId>()
            + (self.candidates.capacity() + self.places.capacity()) * size_of::<u32>()
            + self.is_candidate.capacity()
    }
}
