//! Lots, drawn from a seed: who sends, who is killed, when. Sebastiano Vigna's SplitMix64, which is enough for lots.

/// An urn. The same seed gives the same lots.
pub(crate) struct Draw(u64);

impl Draw {
    /// An urn from a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// One of them, taken out.
    pub(crate) fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        if from.is_empty() { None } else { Some(from.swap_remove(self.below(from.len()))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_lots() {
        let lots = |seed| {
            let mut draw = Draw::new(seed);
            (0..50).map(|_| draw.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(lots(7), lots(7));
        assert_ne!(lots(7), lots(8));
        assert!(lots(7).iter().all(|lot| *lot < 1000));
    }

    #[test]
    fn taking_empties_the_urn_without_repeats() {
        let (mut draw, mut urn) = (Draw::new(1), (0..10).collect::<Vec<_>>());
        let mut taken = Vec::new();
        while let Some(lot) = draw.take(&mut urn) {
            taken.push(lot);
        }
        taken.sort_unstable();
        assert_eq!(taken, (0..10).collect::<Vec<_>>());
    }
}
