//! Which symbols an id is part of: each is part of symbol 0, and of symbol i with probability 1 / (1 + i / 2).
//!
//! Yang, Gilad and Alizadeh, "Practical Rateless Set Reconciliation", SIGCOMM 2024, section 4.2: the gap to the next index
//! is drawn at once from one random number, by the inverse of its distribution, so an id costs one step for each symbol
//! that it is part of: about 2 ln(m / 2) + 1 for the first m.
//!
//! From index i, the gap is more than k with probability (i + 1) (i + 2) / ((i + k + 1) (i + k + 2)). The paper's authors
//! invert an approximation of it; this is exact, and costs the same division and square root.

/// The multiplier of the generator (Steele and Vigna 2021, table 4: a good one for 64 bits).
const MULTIPLIER: u64 = 0xda94_2042_e4dd_58b5;

/// How many different numbers are drawn.
const TWO_TO_52: f64 = (1_u64 << 52) as f64;

/// No symbol is further out: what would be stays here.
pub(crate) const LAST: u32 = u32::MAX - 1;

/// The indices of one id, in ascending order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    state: u64,
    /// The next index.
    pub(crate) next: u32,
}

impl Mapping {
    /// Begins at index 0.
    #[inline]
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed, next: 0 }
    }

    /// Goes on to the next index, which is always greater, or [`LAST`].
    ///
    /// All operations are exact or correctly rounded in IEEE 754, so every processor and language gets the same.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER);
        let drawn = (self.state >> 12) as i64 as f64 + 1.0;
        let here = f64::from(self.next);
        let stretched = (here + 1.0) * (here + 2.0) * TWO_TO_52 / drawn;
        let step = ((stretched + 0.25).sqrt() - (here + 1.5)).ceil() as u32;
        self.next = self.next.saturating_add(step.max(1)).min(LAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id is part of symbol i with probability 1 / (1 + i / 2), within five standard deviations.
    #[test]
    fn ids_are_spread_as_the_paper_says() {
        const IDS: u32 = 20_000;
        let mut found = [0_u32; 100];
        for id in 0..u64::from(IDS) {
            let mut mapping = Mapping::new(crate::sip::hash_u64((1, 2), id));
            while let Some(cell) = found.get_mut(mapping.next as usize) {
                *cell += 1;
                mapping.advance();
            }
        }
        for (index, found) in found.into_iter().enumerate() {
            let share = 1.0 / (1.0 + index as f64 / 2.0);
            let (mean, deviation) = (f64::from(IDS) * share, (f64::from(IDS) * share * (1.0 - share)).sqrt());
            assert!(
                (f64::from(found) - mean).abs() <= 5.0 * deviation + 1.0,
                "symbol {index}: {found}, not {mean}"
            );
        }
    }

    /// Seeds that a hostile peer may choose: the least and the greatest steps.
    #[test]
    fn indices_always_rise_until_the_last() {
        for seed in [0, 1, u64::MAX, 1 << 63, MULTIPLIER] {
            let mut mapping = Mapping::new(seed);
            for _ in 0..1000 {
                let before = mapping.next;
                mapping.advance();
                assert!(mapping.next > before || before == LAST, "{seed} stays at {before}");
            }
        }
    }

    /// Pinned: another implementation must come to the same indices.
    #[test]
    fn the_indices_of_a_seed_are_these() {
        let mut mapping = Mapping::new(0x0123_4567_89ab_cdef);
        let indices: Vec<_> = std::iter::repeat_with(|| {
            let index = mapping.next;
            mapping.advance();
            index
        })
        .take(8)
        .collect();
        assert_eq!(indices, [0, 1, 2, 4, 6, 8, 20, 24]);
    }
}
