use std::collections::BTreeMap;
use std::time::Duration;

use peerage_machine::Seed;

#[test]
fn a_seed_gives_the_same_stream_in_every_process() {
    let mut rng = Seed::from_u64(7).fork("a part").rng();
    let drawn = [rng.next_u64(), rng.below(1000), rng.next_u64()];
    assert_eq!(drawn, [6_706_005_942_580_165_780, 371, 2_586_618_212_981_396_837]);
}

#[test]
fn forks_differ_by_label_and_do_not_depend_on_what_was_drawn() {
    let seed = Seed::from_u64(1);
    assert_ne!(seed.fork("a"), seed.fork("b"));
    assert_ne!(seed.fork("a"), seed);
    assert_ne!(seed.fork("a").fork("b"), seed.fork("b").fork("a"));
    seed.rng().next_u64();
    assert_eq!(seed.fork("a"), Seed::from_u64(1).fork("a"));
    assert_ne!(Seed::from_u64(1), Seed::from_u64(2));
}

#[test]
fn seeds_and_streams_are_not_printed() {
    let seed = Seed::from_bytes([0xab; 32]);
    assert_eq!(format!("{seed:?} {:?}", seed.rng()), "Seed(…) Rng(…)");
}

#[test]
fn below_is_uniform_and_in_range() {
    let mut rng = Seed::from_u64(2).rng();
    let mut counts = [0_u32; 7];
    for _ in 0..70_000 {
        counts[rng.below(7) as usize] += 1;
    }
    assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
    // Without rejection, a third of the range would come twice as often.
    let n = 3 << 62;
    let low = (0..10_000).filter(|_| rng.below(n) < n / 3).count();
    assert!((3_150..3_520).contains(&low), "{low}");
    assert_eq!((rng.below(0), rng.below(1)), (0, 0));
}

#[test]
fn chances_come_true_as_often_as_they_say() {
    let mut rng = Seed::from_u64(3).rng();
    let hits = (0..100_000).filter(|_| rng.chance(0.3)).count();
    assert!((29_500..30_500).contains(&hits), "{hits}");
    assert!((0..1000).all(|_| rng.chance(1.0) && rng.chance(7.0)));
    assert!((0..1000).all(|_| !rng.chance(0.0) && !rng.chance(-1.0) && !rng.chance(f64::NAN)));
}

#[test]
fn shuffles_and_samples_are_uniform() {
    let mut rng = Seed::from_u64(4).rng();
    let (mut orders, mut pairs) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..24_000 {
        let mut order = [0, 1, 2, 3];
        rng.shuffle(&mut order);
        *orders.entry(order).or_insert(0) += 1;
        *pairs.entry(rng.sample(0..4, 2)).or_insert(0) += 1;
    }
    assert_eq!((orders.len(), pairs.len()), (24, 12));
    assert!(orders.values().all(|count| (850..1150).contains(count)), "{orders:?}");
    assert!(pairs.values().all(|count| (1800..2200).contains(count)), "{pairs:?}");
}

#[test]
fn of_little_there_is_little() {
    let mut rng = Seed::from_u64(5).rng();
    assert_eq!(rng.pick::<u8>(&[]), None);
    assert_eq!(rng.sample(0..3, 10).len(), 3);
    assert!(rng.sample(0..3, 0).is_empty());
    rng.shuffle::<u8>(&mut []);
}

#[test]
fn durations_stay_within_their_bounds_and_reach_them() {
    let mut rng = Seed::from_u64(6).rng();
    let micros = Duration::from_micros;
    let mut seen = [false; 4];
    for _ in 0..200 {
        seen[rng.duration_between(micros(8), micros(5)).as_micros() as usize - 5] = true;
        let jittered = rng.jitter(Duration::from_secs(10), 0.2);
        assert!(jittered >= Duration::from_secs(8) && jittered <= Duration::from_secs(12), "{jittered:?}");
    }
    assert_eq!(seen, [true; 4]);
    assert_eq!(rng.jitter(Duration::from_secs(1), 0.0), Duration::from_secs(1));
    assert!(rng.jitter(Duration::MAX, 9.0) <= micros(u64::MAX));
    assert_eq!(rng.duration_between(Duration::MAX, Duration::MAX), micros(u64::MAX));
}
