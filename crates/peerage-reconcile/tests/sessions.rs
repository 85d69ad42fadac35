//! Two honest sides.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::collections::BTreeSet;

use common::{Key, Outcome, key, run, salt, set};
use peerage_reconcile::{Config, Insertion, KeyedSet, Message, Session};
use proptest::prelude::*;

/// The result is exact on both sides.
fn assert_exact(alice: &KeyedSet<Key>, bob: &KeyedSet<Key>, outcome: &Outcome) {
    let lacks = |one: &KeyedSet<Key>, other: &KeyedSet<Key>| -> Vec<_> {
        one.keys().filter(|key| !other.contains(&key[..])).map(|key| one.short_id(key)).collect()
    };
    assert!(outcome.alice.is_complete && outcome.bob.is_complete);
    assert_eq!(outcome.alice.ours, lacks(alice, bob));
    assert_eq!(outcome.alice.theirs, lacks(bob, alice));
    assert_eq!((&outcome.bob.ours, &outcome.bob.theirs), (&outcome.alice.theirs, &outcome.alice.ours));
    assert!([outcome.alice.agrees, outcome.bob.agrees].contains(&Some(true)), "nobody checked");
    assert!(![outcome.alice.agrees, outcome.bob.agrees].contains(&Some(false)));
}

fn small() -> Config {
    Config {
        first_symbols: 4,
        max_symbols: 64,
        max_differences: 1 << 20,
        max_message: 1024,
        ..Config::default()
    }
}

#[test]
fn equal_sets_are_found_equal_with_one_message_each_way() {
    for config in [Config::default(), Config { first_symbols: 0, ..Config::default() }] {
        let (alice, bob) = (set(1, 0..1000), set(1, (0..1000).rev()));
        let outcome = run(&alice, &bob, &config, &Config::default());
        assert_exact(&alice, &bob, &outcome);
        assert_eq!(outcome.kinds, ["Open", "Answer"]);
        assert_eq!((outcome.alice.agrees, outcome.bob.agrees), (Some(true), Some(true)));
        assert!(outcome.bytes <= if config.first_symbols == 0 { 80 } else { 330 }, "{} bytes", outcome.bytes);
    }
}

#[test]
fn empty_sets_and_subsets_and_disjoint_sets_reconcile() {
    for (alice, bob) in
        [(0..0, 0..0), (0..0, 0..500), (0..500, 0..0), (0..500, 0..499), (0..10, 0..500), (0..500, 500..900)]
    {
        for config in [Config::default(), small()] {
            let (alice, bob) = (set(2, alice.clone()), set(2, bob.clone()));
            assert_exact(&alice, &bob, &run(&alice, &bob, &config, &config));
        }
    }
}

#[test]
fn both_sides_know_that_they_agree_when_the_responder_lacks_nothing() {
    for (bob, known) in [(0..700, Some(true)), (1..700, None)] {
        let (alice, bob) = (set(13, 0..600), set(13, bob));
        let outcome = run(&alice, &bob, &Config::default(), &Config::default());
        assert_exact(&alice, &bob, &outcome);
        assert_eq!((outcome.alice.agrees, outcome.bob.agrees), (Some(true), known));
    }
}

#[test]
fn a_small_difference_of_large_sets_takes_a_round_trip_and_few_bytes() {
    let (alice, bob) = (set(3, 0..20_000), set(3, 3..20_003));
    let outcome = run(&alice, &bob, &Config::default(), &Config::default());
    assert_exact(&alice, &bob, &outcome);
    assert_eq!(outcome.kinds, ["Open", "Answer"]);
    assert!(outcome.bytes < 400, "{} bytes", outcome.bytes);
}

#[test]
fn a_thousand_differences_take_few_rounds_and_few_bytes() {
    let (alice, bob) = (set(4, 0..20_000), set(4, 500..20_500));
    let outcome = run(&alice, &bob, &Config::default(), &Config::default());
    assert_exact(&alice, &bob, &outcome);
    assert!(outcome.symbols < 1800, "{} symbols", outcome.symbols);
    assert!(outcome.bytes < 34_000, "{} bytes", outcome.bytes);
    assert_eq!(outcome.kinds, ["Open", "More", "Symbols", "More", "Symbols", "Answer"]);
}

#[test]
fn whoever_has_fewer_sends_its_ids_when_that_is_cheaper() {
    let few = set(5, 0..2000);
    let many = set(5, 1000..9000);
    let to_many = run(&few, &many, &Config::default(), &Config::default());
    assert_exact(&few, &many, &to_many);
    assert!(to_many.kinds.contains(&"AskList") && to_many.bytes < 100_000, "{:?}", to_many.kinds);
    let to_few = run(&many, &few, &Config::default(), &Config::default());
    assert_exact(&many, &few, &to_few);
    assert!(!to_few.kinds.contains(&"AskList") && to_few.kinds.contains(&"List"), "{:?}", to_few.kinds);
}

#[test]
fn no_message_is_longer_than_the_configuration_says() {
    let config = Config { max_message: 1024, ..Config::default() };
    for (alice, bob) in [(0..3000, 300..3300), (0..3000, 2900..9000), (0..9000, 8900..9300)] {
        let (alice, bob) = (set(6, alice), set(6, bob));
        let outcome = run(&alice, &bob, &config, &config);
        assert_exact(&alice, &bob, &outcome);
        assert!(
            outcome.longest <= 1024 && outcome.kinds.len() > 4,
            "{} {:?}",
            outcome.longest,
            outcome.kinds
        );
    }
}

#[test]
fn differences_beyond_the_limit_come_in_several_sessions() {
    let config = Config { max_symbols: 16, max_differences: 100, max_message: 1024, ..Config::default() };
    for (mut alice, mut bob) in [
        (set(7, 0..1000), set(7, 700..1600)),
        (set(7, 700..1600), set(7, 0..1000)),
        (set(7, 0..0), set(7, 0..350)),
        (set(7, 0..350), set(7, 0..0)),
    ] {
        let mut sessions = 0;
        loop {
            sessions += 1;
            assert!(sessions < 30);
            let outcome = run(&alice, &bob, &config, &Config { max_differences: 77, ..config.clone() });
            let got: Vec<_> = outcome.alice.theirs.iter().map(|short| *bob.key(*short).unwrap()).collect();
            let gave: Vec<_> = outcome.alice.ours.iter().map(|short| *alice.key(*short).unwrap()).collect();
            assert!(got.len() <= 100 && gave.len() <= 100);
            alice.extend_with(got);
            bob.extend_with(gave);
            if outcome.alice.is_complete && outcome.bob.is_complete {
                break;
            }
        }
        assert_eq!(alice.fingerprint(), bob.fingerprint());
        assert!(sessions > 2);
    }
}

/// Puts several keys into a set.
trait Extend {
    fn extend_with(&mut self, keys: Vec<Key>);
}

impl Extend for KeyedSet<Key> {
    fn extend_with(&mut self, keys: Vec<Key>) {
        for key in keys {
            assert_ne!(self.insert(key), Insertion::Collides);
        }
    }
}

#[test]
fn what_changes_during_a_session_is_not_part_of_it() {
    let (mut alice, mut bob) = (set(8, 0..2000), set(8, 200..2200));
    let mut cached = KeyedSet::with_cached(salt(8), 256);
    alice.keys().for_each(|key| assert_eq!(cached.insert(*key), Insertion::New));
    let config = Config::default();
    let (mut alices, Message::Open(open)) = Session::start(&cached, config.clone()).unwrap() else {
        panic!()
    };
    let (mut bobs, mut step) = Session::accept(&bob, config, &open).unwrap();
    let mut alices_result = None;
    for number in 10_000.. {
        cached.insert(key(number));
        bob.insert(key(number + 10_000));
        cached.remove(&key(number - 10_000));
        let mut to_bob = Vec::new();
        for message in std::mem::take(&mut step.send) {
            let step = alices.on_message(message).unwrap();
            to_bob.extend(step.send);
            alices_result = alices_result.or(step.difference);
        }
        if to_bob.is_empty() {
            break;
        }
        for message in to_bob {
            let next = bobs.on_message(message).unwrap();
            step.send.extend(next.send);
        }
    }
    let result = alices_result.unwrap();
    assert_eq!((result.ours.len(), result.theirs.len(), result.agrees), (200, 200, Some(true)));
    // What was taken out meanwhile is found, and has no key any more.
    assert_eq!(cached.key(alice.short_id(&key(0))), None);
    assert!(result.ours.contains(&alice.short_id(&key(0))));
    alice.remove(&key(0));
}

#[test]
fn kept_symbols_are_those_of_the_set_as_it_is() {
    let mut kept = KeyedSet::with_cached(salt(9), 100);
    (0..300).for_each(|number| assert_eq!(kept.insert(key(number)), Insertion::New));
    (0..300).step_by(3).for_each(|number| assert_eq!(kept.remove(&key(number)), Some(key(number))));
    let fresh = set(9, (0..300).filter(|number| number % 3 != 0));
    assert_eq!(kept.fingerprint(), fresh.fingerprint());
    let mut encoder = fresh.encoder();
    let symbols = encoder.next(300);
    assert_eq!(kept.cached(), &symbols[..100]);
    let mut encoder = kept.encoder();
    assert_eq!([encoder.next(40), encoder.next(100), encoder.next(160)].concat(), symbols);
}

#[test]
fn the_same_sessions_say_the_same_bytes() {
    let transcript = |order: bool| {
        let numbers: Vec<u64> = if order { (0..3000).collect() } else { (0..3000).rev().collect() };
        run(&set(10, numbers), &set(10, 150..3150), &Config::default(), &Config::default()).transcript
    };
    assert_eq!(transcript(true), transcript(false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_two_sets_reconcile_exactly(
        alice in prop::collection::vec(0_u64..400, 0..300),
        bob in prop::collection::vec(0_u64..400, 0..300),
        common in 0_u64..3000,
        seed: u64,
        first_symbols in 0_u32..16,
        max_symbols in 16_u32..600,
        max_message in 1024_usize..3000,
    ) {
        let config = Config { first_symbols, max_symbols, max_message, ..Config::default() };
        let with = |some: &[u64]| {
            let mut set = KeyedSet::new(salt(seed));
            for number in some.iter().copied().chain(1000..1000 + common) {
                assert_ne!(set.insert(key(number)), Insertion::Collides);
            }
            set
        };
        let (alice, bob) = (with(&alice), with(&bob));
        let outcome = run(&alice, &bob, &config, &Config::default());
        assert_exact(&alice, &bob, &outcome);
        prop_assert!(outcome.kinds.iter().filter(|kind| **kind == "Open").count() == 1);
    }

    #[test]
    fn a_set_is_what_was_put_in_and_not_taken_out(
        operations in prop::collection::vec((any::<bool>(), 0_u64..60), 0..200),
        cached in 0_u32..40,
    ) {
        let (mut set, mut model) = (KeyedSet::with_cached(salt(11), cached), BTreeSet::new());
        for (is_insertion, number) in operations {
            if is_insertion {
                let was_new = model.insert(number);
                prop_assert_eq!(set.insert(key(number)) == Insertion::New, was_new);
            } else {
                prop_assert_eq!(set.remove(&key(number)).is_some(), model.remove(&number));
            }
        }
        let fresh = common::set(11, model);
        prop_assert_eq!(set.fingerprint(), fresh.fingerprint());
        prop_assert_eq!(set.cached().to_vec(), fresh.encoder().next(cached));
        prop_assert!(set.keys().eq(fresh.keys()));
    }
}
