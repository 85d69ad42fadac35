//! What a responder that lacks symbols does next.

/// Bytes of a symbol on the wire, about.
const SYMBOL: f64 = 14.0;
/// Bytes of a short id.
const ID: f64 = 8.0;
/// Symbols for each difference, about: 1.35 for many (Yang, Gilad and Alizadeh, SIGCOMM 2024, section 5).
const OVERHEAD: f64 = 1.4;

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
/// Of few symbols the estimate is rough, so the first step falls short of it on purpose: what lacks then is asked for
/// by a better one. A step is at least a fifth of what was taken, so that few are needed however wrong the estimates
/// are. Ids are sent where that costs less, which is from a difference of about a third of the smaller set on, and where
/// there may be no more symbols; whoever has fewer sends them.
pub(crate) fn next_step(taken: u32, estimate: f64, max_symbols: u32, ours: u64, theirs: u64) -> Plan {
    let have = f64::from(taken);
    let least = have + (have / 5.0).max(12.0);
    let doubt = if taken < 4 { 1.0 } else { (2.0 / have).sqrt() };
    let aim = OVERHEAD * estimate * (1.0 - doubt / 2.0);
    let list = ours.min(theirs) as f64 * ID;
    let is_cheaper = (OVERHEAD * estimate).max(least) - have < list / SYMBOL;
    let until = least.max(aim).ceil();
    if is_cheaper && until <= f64::from(max_symbols) {
        return Plan::Symbols { until: until as u32 };
    }
    if ours <= theirs { Plan::OurList } else { Plan::TheirList }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_difference_is_approached_in_one_step() {
        let plan = next_step(16, 10_000.0, 32_768, 100_000, 100_000);
        assert!(matches!(plan, Plan::Symbols { until: 10_000..=14_000 }), "{plan:?}");
        let plan = next_step(12_000, 10_000.0, 32_768, 100_000, 100_000);
        assert!(matches!(plan, Plan::Symbols { until: 13_900..=14_500 }), "{plan:?}");
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
}
