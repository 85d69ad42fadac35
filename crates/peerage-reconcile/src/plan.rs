//! What a responder that lacks symbols does next.

/// Bytes of a symbol on the wire, about.
const SYMBOL: f64 = 14.0;
/// Bytes of a short id.
const ID: f64 = 8.0;
/// Symbols for each difference, about: 1.35 for many (Yang, Gilad and Alizadeh, SIGCOMM 2024, section 5), and some more for
/// few, as `tests/overhead.rs` measures.
fn needed(estimate: f64) -> f64 {
    estimate * (1.36 + 1.0 / estimate.max(4.0).sqrt())
}

/// An estimate is rough while it may be wrong by more than this part, at one standard deviation: of 22 symbols or fewer.
const ROUGH: f64 = 0.3;

/// What part of a rough estimate is aimed at. The next one will be the better the larger the difference is.
fn approach(estimate: f64) -> f64 {
    0.65 + 0.2 * (100.0 / estimate.max(100.0))
}

/// How many standard deviations above a good estimate are aimed at.
const MARGIN: f64 = 1.75;

/// More symbols, or ids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plan {
    /// Symbols until there are so many in all.
    Symbols { until: u32 },
    /// We send our ids.
    OurList,
    /// They send theirs.
    TheirList,
}

/// With `taken` symbols, and a difference that is probably of `estimate` ids, between sets of `ours` and `theirs` ids.
///
/// Two steps are to be enough. A rough estimate makes one that falls short of it on purpose, since what is asked for in vain
/// is lost; the next estimate is good, and makes a step that goes beyond it by as much as it may be wrong. A step is at
/// least a fourth of what was taken, so that few are needed however wrong the estimates are. Ids are sent where that costs
/// less, which is from a difference of about a third of the smaller set on, and where there may be no more symbols; whoever
/// has fewer sends them.
pub(crate) fn next_step(taken: u32, estimate: f64, max_symbols: u32, ours: u64, theirs: u64) -> Plan {
    let have = f64::from(taken);
    let least = have + (have / 4.0).max(16.0);
    let doubt = (2.0 / have.max(2.0)).sqrt();
    let aim = needed(estimate) * if doubt > ROUGH { approach(estimate) } else { 1.0 + MARGIN * doubt };
    let list = ours.min(theirs) as f64 * ID;
    let is_cheaper = needed(estimate).max(least) - have < list / SYMBOL;
    let until = least.max(aim).ceil();
    let most = f64::from(max_symbols);
    // The margin is no reason to give up on symbols.
    if is_cheaper && least.max(needed(estimate)) <= most {
        return Plan::Symbols { until: until.min(most) as u32 };
    }
    if ours <= theirs { Plan::OurList } else { Plan::TheirList }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, KeyedSet, Salt};

    #[test]
    fn a_rough_estimate_is_approached_and_a_good_one_exceeded() {
        let plan = next_step(16, 10_000.0, 32_768, 100_000, 100_000);
        assert!(matches!(plan, Plan::Symbols { until: 8000..=10_000 }), "{plan:?}");
        let plan = next_step(10_000, 10_000.0, 32_768, 100_000, 100_000);
        assert!(matches!(plan, Plan::Symbols { until: 13_900..=14_200 }), "{plan:?}");
        let plan = next_step(10_000, 10_000.0, 13_800, 100_000, 100_000);
        assert_eq!(plan, Plan::Symbols { until: 13_800 });
    }

    #[test]
    fn whoever_has_fewer_sends_ids_when_that_is_cheaper_or_symbols_run_out() {
        assert_eq!(next_step(16, 900.0, 32_768, 1000, 1100), Plan::OurList);
        assert_eq!(next_step(16, 900.0, 32_768, 1100, 1000), Plan::TheirList);
        assert_eq!(next_step(16, 50_000.0, 32_768, 1_000_000, 1_000_000), Plan::OurList);
        assert_eq!(next_step(32_768, 10.0, 32_768, 1_000_000, 1_000_000), Plan::OurList);
    }

    #[test]
    fn steps_grow_however_wrong_the_estimate_is() {
        let (mut taken, mut steps) = (0, 0);
        while let Plan::Symbols { until } = next_step(taken, 0.0, 32_768, 1 << 30, 1 << 30) {
            assert!(until > taken);
            (taken, steps) = (until, steps + 1);
        }
        assert!(steps < 50, "{steps}");
    }
    /// Symbols that a session comes to, and its round trips, with what only one side has.
    fn session(differences: u64, seed: u64) -> (u32, u32) {
        let salt = Salt::new(u128::from(seed).to_le_bytes());
        let set =
            |keys: std::ops::Range<u64>| KeyedSet::from_keys(salt, keys.map(u64::to_be_bytes)).encoder();
        let mut theirs = set(0..differences / 2);
        let mut decoder = Decoder::new(set(differences / 2..differences), 1 << 24).unwrap();
        let (mut until, mut trips) = (16, 1);
        while !decoder.push(&theirs.next(until - decoder.taken())).unwrap() {
            let step = next_step(decoder.taken(), decoder.estimate(), 1 << 24, 1 << 40, 1 << 40);
            let Plan::Symbols { until: next } = step else { panic!("{step:?}") };
            (until, trips) = (next, trips + 1);
        }
        (decoder.taken(), trips)
    }

    #[test]
    fn three_round_trips_are_enough_as_a_rule_and_little_is_asked_for_in_vain() {
        for (differences, runs, most, limit) in LIMITS {
            let all: Vec<_> = (0..runs).map(|seed| session(differences, seed)).collect();
            let symbols = all.iter().map(|(symbols, _)| f64::from(*symbols)).sum::<f64>();
            let each = symbols / (differences * runs) as f64;
            let late = all.iter().filter(|(_, trips)| *trips > 3).count() as f64 / runs as f64;
            let worst = all.iter().map(|(_, trips)| *trips).max().unwrap();
            println!(
                "{differences} differences: {each:.2} symbols each; {late:.3} take over 3 trips, {worst} at most"
            );
            assert!(each <= most, "{differences} differences: {each} symbols each");
            assert!(
                late <= limit && worst <= 5,
                "{differences} differences: {late} late, {worst} trips at most"
            );
        }
    }

    /// Differences, sessions, symbols for each at most, and the part of sessions that may take more than three round trips.
    const LIMITS: [(u64, u64, f64, f64); 7] = [
        (10, 300, 2.6, 0.02),
        (20, 300, 2.1, 0.03),
        (50, 300, 2.0, 0.12),
        (100, 300, 1.86, 0.07),
        (300, 150, 1.72, 0.07),
        (1000, 40, 1.62, 0.08),
        (5000, 10, 1.55, 0.05),
    ];
}
