//! The schedule of dials: a value, told the time and lent randomness.

use std::time::Duration;

use peerage_machine::{Instant, Seed};
use peerage_net::{Backoff, BackoffConfig};
use proptest::prelude::*;

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn configs() -> impl Strategy<Value = BackoffConfig> {
    (millis(0..5_000), millis(0..100_000), millis(0..60_000))
        .prop_map(|(first, cap, stable_after)| BackoffConfig { first, cap, stable_after })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn each_wait_is_within_its_bounds_and_none_beyond_the_cap(config in configs(), seed: u64) {
        let (mut backoff, mut rng) = (Backoff::new(config), Seed::from_u64(seed).rng());
        let least = Duration::from_millis(1);
        let cap = config.cap.max(least);
        let first = config.first.clamp(least, cap);
        let mut ceiling = first;
        for n in 0..100_u32 {
            prop_assert_eq!(backoff.waits(), n);
            let wait = backoff.next(&mut rng);
            prop_assert!(wait <= ceiling, "{n}: {wait:?}");
            prop_assert!(n == 0 || wait >= first, "{n}: {wait:?}");
            ceiling = (ceiling * 2).min(cap);
        }
    }

    #[test]
    fn only_a_link_that_was_up_long_enough_begins_the_series_anew(
        config in configs(),
        seed: u64,
        links in prop::collection::vec((0_u64..100_000, 0_u64..100_000), 1..20),
    ) {
        let (mut backoff, mut rng) = (Backoff::new(config), Seed::from_u64(seed).rng());
        let (mut now, mut waits) = (Instant::START, 0);
        for (away, there) in links {
            backoff.next(&mut rng);
            waits += 1;
            now = now + Duration::from_millis(away);
            backoff.up(now);
            prop_assert_eq!(backoff.waits(), waits, "coming up alone proves nothing");
            now = now + Duration::from_millis(there);
            backoff.down(now);
            if Duration::from_millis(there) >= config.stable_after {
                waits = 0;
            }
            prop_assert_eq!(backoff.waits(), waits);
        }
    }

    #[test]
    fn the_same_randomness_gives_the_same_waits(config in configs(), seed: u64) {
        let run = || {
            let (mut backoff, mut rng) = (Backoff::new(config), Seed::from_u64(seed).rng());
            std::iter::repeat_with(|| backoff.next(&mut rng)).take(40).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn waits_double_on_average_up_to_the_cap() {
    let config = BackoffConfig::default();
    let average = |n: u32| {
        let total: Duration = (0..2_000)
            .map(|seed| {
                let (mut backoff, mut rng) = (Backoff::new(config), Seed::from_u64(seed).rng());
                for _ in 0..n {
                    backoff.next(&mut rng);
                }
                backoff.next(&mut rng)
            })
            .sum();
        total.as_secs_f64() / 2_000.0
    };
    // Halfway between 0.1 s and 2ⁿ × 0.1 s.
    for (n, expected) in [(0, 0.05), (1, 0.15), (4, 0.85), (7, 6.45), (9, 15.05), (30, 15.05)] {
        let found = average(n);
        assert!((found / expected - 1.0).abs() < 0.1, "wait {n}: {found} s, expected about {expected} s");
    }
}

#[test]
fn a_thousand_peers_of_one_that_fell_do_not_come_back_together() {
    let mut waits: Vec<_> = (0..1_000)
        .map(|seed| Backoff::new(BackoffConfig::default()).next(&mut Seed::from_u64(seed).rng()).as_millis())
        .collect();
    waits.sort_unstable();
    let most_at_once = waits.chunk_by(|a, b| a == b).map(<[u128]>::len).max();
    assert!(most_at_once < Some(40), "{most_at_once:?} of them within one millisecond of a hundred");
}
