use std::collections::BTreeMap;
use std::time::Duration;

use peerage_machine::{Instant, Timers};
use proptest::prelude::*;

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

#[test]
fn timers_come_due_in_the_order_of_time_and_then_key() {
    let mut timers = Timers::new();
    for (key, when) in [("d", 5), ("b", 5), ("c", 4), ("a", 9)] {
        timers.arm(key, at(when));
    }
    assert_eq!(timers.deadline(), Some(at(4)));
    assert_eq!(timers.expire(at(3)), None);
    let due: Vec<_> = std::iter::from_fn(|| timers.expire(at(5))).collect();
    assert_eq!(due, ["c", "b", "d"]);
    assert_eq!((timers.deadline(), timers.len()), (Some(at(9)), 1));
}

#[test]
fn arming_again_moves_and_cancelling_forgets() {
    let mut timers = Timers::new();
    timers.arm('a', at(5));
    timers.arm('a', at(50));
    assert_eq!((timers.at(&'a'), timers.len()), (Some(at(50)), 1));
    assert!(timers.cancel(&'a'));
    assert!(!timers.cancel(&'a'));
    assert!(!timers.is_armed(&'a') && timers.is_empty());
    assert_eq!(timers.expire(at(100)), None);
}

#[test]
fn a_machine_that_makes_up_for_missed_periods_still_ends_its_loop() {
    let mut timers = Timers::new();
    let period = Duration::from_secs(1);
    timers.arm("beat", at(0));
    timers.arm("now", at(0));
    let (now, mut due, mut turns) = (at(3_600_000_000), at(0), 0);
    while let Some(key) = timers.expire(now) {
        turns += 1;
        due = due + period;
        timers.arm(key, if key == "beat" { due } else { now });
    }
    assert_eq!(turns, 2, "an hour late, and yet each came once");
    assert_eq!(timers.deadline(), Some(now.next()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a map that is searched from one end to the other.
    #[test]
    fn timers_behave_like_a_plain_map(operations in prop::collection::vec((0_u8..4, 0_u8..6, 0_u64..50), 0..200)) {
        let mut timers = Timers::new();
        let mut model: BTreeMap<u8, u64> = BTreeMap::new();
        let (mut now, mut earliest) = (0, 0);
        for (operation, key, value) in operations {
            match operation {
                0 | 1 => {
                    timers.arm(key, at(now + value));
                    model.insert(key, (now + value).max(earliest));
                }
                2 => prop_assert_eq!(timers.cancel(&key), model.remove(&key).is_some()),
                _ => {
                    now += value;
                    let due = model.iter().map(|(key, at)| (*at, *key)).min().filter(|(at, _)| *at <= now);
                    earliest = now + 1;
                    if let Some((_, key)) = due {
                        model.remove(&key);
                    }
                    prop_assert_eq!(timers.expire(at(now)), due.map(|(_, key)| key));
                }
            }
            prop_assert_eq!(timers.deadline(), model.values().min().map(|micros| at(*micros)));
            prop_assert_eq!(timers.len(), model.len());
            prop_assert_eq!(timers.is_armed(&key), model.contains_key(&key));
        }
    }
}
