//! Addresses from which too many strangers come.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage_link::{Shedding, SheddingConfig};
use peerage_machine::Instant;
use proptest::prelude::*;

const PER_SECOND: u32 = 100;
const SPAN: Duration = Duration::from_secs(5);
const VOUCHED: Duration = Duration::from_secs(120);

fn shedding(most: usize) -> Shedding<u32> {
    let config = SheddingConfig { per_second: PER_SECOND, most, span: SPAN, vouched: VOUCHED };
    Shedding::new(config, at(0))
}

fn at(millis: u64) -> Instant {
    Instant::from_micros(3_600_000_000 + millis * 1_000)
}

/// How many come from there before it is kept out.
fn until_shed(shedding: &mut Shedding<u32>, now: Instant, source: u32) -> Option<u32> {
    let came = (1..=10 * PER_SECOND).find(|_| shedding.count(now, source))?;
    shedding.shed(now, source).then_some(came)
}

fn kept_out(shedding: &Shedding<u32>) -> Vec<u32> {
    shedding.sources().collect()
}

#[test]
fn an_address_is_kept_out_with_the_first_stranger_too_many_and_others_are_not() {
    let mut shedding = shedding(4);
    for _ in 0..PER_SECOND {
        assert!(!shedding.count(at(0), 1) && !shedding.count(at(0), 2));
    }
    assert!(shedding.count(at(999), 1));
    assert!(shedding.shed(at(999), 1));
    assert_eq!(kept_out(&shedding), [1]);
    // Those who were in the queue already are not told of again.
    assert!((0..1_000).all(|_| !shedding.count(at(999), 1)));
    // A second later the other one begins anew.
    assert_eq!(until_shed(&mut shedding, at(1_000), 2), Some(PER_SECOND + 1));
}

#[test]
fn it_comes_back_after_its_time_and_is_tried_with_a_tenth_for_as_long() {
    let mut shedding = shedding(4);
    assert_eq!(until_shed(&mut shedding, at(0), 1), Some(101));
    assert_eq!(shedding.deadline(), Some(at(5_000)));
    shedding.release(at(4_999));
    assert_eq!(kept_out(&shedding), [1]);
    shedding.release(at(5_000));
    assert_eq!((kept_out(&shedding), shedding.deadline()), (vec![], None));
    assert_eq!(until_shed(&mut shedding, at(6_000), 1), Some(11));
    shedding.release(at(11_000));
    shedding.release(at(16_000));
    assert_eq!(until_shed(&mut shedding, at(16_000), 1), Some(101));
}

#[test]
fn whoever_has_shown_a_cookie_keeps_its_address_in_for_a_while() {
    let mut shedding = shedding(4);
    shedding.vouch(at(0), 1);
    assert_eq!(until_shed(&mut shedding, at(0), 1), None);
    assert!(!shedding.shed(at(119_999), 1));
    assert_eq!(until_shed(&mut shedding, at(120_000), 1), Some(101));
    let before = shedding.changes();
    shedding.vouch(at(120_001), 1);
    assert!(kept_out(&shedding).is_empty() && shedding.changes() != before);
}

#[test]
fn many_who_vouch_take_no_more_memory_and_the_last_counts() {
    let mut shedding = shedding(4);
    for (millis, source) in (0..).zip(0..5_000) {
        shedding.vouch(at(millis), source);
    }
    assert_eq!(until_shed(&mut shedding, at(5_000), 4_999), None);
    assert_eq!(until_shed(&mut shedding, at(5_000), 0), Some(101));
}

#[test]
fn no_rate_keeps_nobody_out() {
    let config = SheddingConfig { per_second: 0, most: 4, span: SPAN, vouched: VOUCHED };
    let mut shedding = Shedding::new(config, at(0));
    assert!((0..100_000).all(|_| !shedding.count(at(0), 1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order: nobody is named who sent no more than it may, and never more than there is room for.
    #[test]
    fn nobody_is_kept_out_for_what_others_did(
        bursts in prop::collection::vec((0..600_u32, 1..150_u32, 0..400_u64), 1..200),
        most in 0..6_usize,
    ) {
        let mut shedding = shedding(most);
        let (mut now, mut window) = (0, 0);
        let mut came: BTreeMap<u32, u32> = BTreeMap::new();
        for (source, count, pause) in bursts {
            now += pause;
            for _ in 0..count {
                if now >= window + 1_000 {
                    window = now;
                    came.clear();
                }
                *came.entry(source).or_default() += 1;
                if shedding.count(at(now), source) {
                    prop_assert!(came[&source] > PER_SECOND / 10);
                    shedding.shed(at(now), source);
                }
            }
            shedding.release(at(now));
            prop_assert!(kept_out(&shedding).len() <= most);
            prop_assert!(shedding.deadline().is_none_or(|due| due > at(now) && due <= at(now) + SPAN));
        }
    }

    /// A heavy address is found among any number of light ones.
    #[test]
    fn who_sends_more_than_its_part_is_kept_out(light in 300..3_000_u32, seed in any::<u64>()) {
        let mut shedding = shedding(4);
        let (mut state, mut found) = (seed | 1, false);
        // Half of all, where a part in 257 is certain.
        for source in 0..light.max(4 * PER_SECOND) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shedding.count(at(0), 1_000 + (source ^ (state >> 40) as u32) % light);
            found |= shedding.count(at(0), 7);
        }
        prop_assert!(found);
    }
}
