//! Finds the difference of two sets by peeling their symbols.

use crate::encoder::Encoder;
use crate::error::DecodeError;
use crate::mapping::Mapping;
use crate::short::{Salt, ShortId};
use crate::symbol::Symbol;

/// How often an estimate is made better by the last one.
const ROUNDS: usize = 4;

/// By how much an estimate of what is left falls short, for each part that was found: measured for differences of 50 to
/// 5,000 ids.
const PEELED: f64 = 0.4;

/// An id that was found, and from which symbol on it is to be taken out. 24 bytes.
#[derive(Clone, Copy, Debug)]
struct Found {
    short: ShortId,
    mapping: Mapping,
}

impl Found {
    /// Takes it out of all symbols that have come since.
    fn leave(&mut self, symbols: &mut [Symbol], salt: Salt, times: i64) -> usize {
        if self.mapping.next as usize >= symbols.len() {
            return 1;
        }
        let (check, mut steps) = (salt.hash(self.short) as u32, 1);
        while let Some(symbol) = symbols.get_mut(self.mapping.next as usize) {
            symbol.apply(self.short, check, times);
            self.mapping.advance();
            steps += 1;
        }
        steps
    }
}

/// Takes their symbols, one batch after the other, until it has the difference.
///
/// Each id that is found costs one step for each symbol that it is part of. Whatever the symbols are, there are never more
/// ids found than symbols taken, so a hostile stream costs about what an honest one of its length does. Symbols are to come in
/// few large batches: each batch looks at each id that was found before.
#[derive(Clone, Debug)]
pub struct Decoder {
    ours: Encoder,
    max_symbols: u32,
    /// Their symbols less ours, less what was found.
    symbols: Vec<Symbol>,
    theirs: Vec<Found>,
    ours_found: Vec<Found>,
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
    pub(crate) const SYMBOL: usize = size_of::<Symbol>() + size_of::<Found>() + 2 * size_of::<u32>() + 1;

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
        let ours = self.ours.next(theirs.len() as u32);
        for (symbol, ours) in self.symbols.iter_mut().skip(begin).zip(ours) {
            *symbol = *symbol - ours;
        }
        let salt = self.ours.salt();
        let mut steps = 0;
        for (found, times) in [(&mut self.theirs, -1), (&mut self.ours_found, 1)] {
            for found in found {
                steps += found.leave(&mut self.symbols, salt, times);
            }
        }
        self.ours.count(steps);
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
            self.ours.count(self.places.len());
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
        // What they have and we lack, or the other way round.
        if self.ours.has(short) == (count > 0) {
            return Err(DecodeError::Impossible);
        }
        let side = if count > 0 { &mut self.theirs } else { &mut self.ours_found };
        side.push(Found { short, mapping });
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DecodeError> {
        if !self.symbols.iter().all(Symbol::is_empty) {
            return Err(DecodeError::Impossible);
        }
        for side in [&mut self.theirs, &mut self.ours_found] {
            side.sort_unstable_by_key(|found| found.short);
            if side.iter().zip(side.iter().skip(1)).any(|(one, other)| one.short == other.short) {
                return Err(DecodeError::Impossible);
            }
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
    pub fn ours(&self) -> impl ExactSizeIterator<Item = ShortId> {
        self.ours_found.iter().map(|found| found.short)
    }

    /// What they have and we lack, as far as it is known: ascending when done.
    pub fn theirs(&self) -> impl ExactSizeIterator<Item = ShortId> {
        self.theirs.iter().map(|found| found.short)
    }

    /// How large the difference probably is: what was found, and what the spread of the counts says of the rest. Of k
    /// symbols it is right to within a factor of about 1 ± sqrt(2 / k), and no less than the difference of the sizes.
    #[must_use]
    pub fn estimate(&self) -> f64 {
        let found = (self.theirs.len() + self.ours_found.len()) as f64;
        let Some((first, rest)) = self.symbols.split_first() else { return 0.0 };
        let surplus = first.count as f64;
        // A symbol's count is a sum of independent ids, each there with its share: of mean surplus * share, and of
        // variance ids * share * (1 - share). The square of its distance from the mean says how many ids there are, and is
        // worth the less the more it varies itself; which depends on the ids, so that they are guessed first.
        let mut left = surplus.abs();
        for _ in 0..ROUNDS {
            let (mut spread, mut weight) = (0.0, 0.0);
            for (index, symbol) in (1_u32..).zip(rest) {
                let share = 2.0 / (f64::from(index) + 2.0);
                let distance = symbol.count as f64 - surplus * share;
                let variance = share * (1.0 - share);
                let worth = 1.0 / (1.0 + 2.0 * left * variance);
                spread += worth * distance * distance;
                weight += worth * variance;
            }
            if weight > 0.0 {
                left = (spread / weight).max(surplus.abs());
            }
        }
        // Peeling takes the symbols that stand for one id, so that those that are left tell less of the rest.
        let all = found + left;
        if all > 0.0 { found + left * (1.0 + PEELED * found / all) } else { 0.0 }
    }

    /// What it took so far, by the same measure as [`Encoder::steps`], that of our set included.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.ours.steps()
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
            + (self.theirs.capacity() + self.ours_found.capacity()) * size_of::<Found>()
            + (self.candidates.capacity() + self.places.capacity()) * size_of::<u32>()
            + self.is_candidate.capacity()
    }
}
