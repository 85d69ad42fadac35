//! What a session takes, counted in steps: the same on every machine.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use bytes::BytesMut;
use common::{Key, Steps, key, run, set};
use peerage_reconcile::{Config, Insertion, KeyedSet, Message, Open, Session};

/// Symbols that the sets keep.
const KEPT: u32 = 4096;

/// Two sets that keep symbols, of so many keys, with so many that only one has. Some come one by one, some go.
fn kept(seed: u64, keys: u64, differences: u64) -> (KeyedSet<Key>, KeyedSet<Key>) {
    let mine = differences / 2;
    let mut alice = set(seed, 0..keys - 100);
    let mut bob = set(seed, mine..keys + differences - mine + 100);
    alice.keep(KEPT);
    bob.keep(KEPT);
    (keys - 100..keys).for_each(|number| assert_eq!(alice.insert(key(number)), Insertion::New));
    let gone = keys + differences - mine..keys + differences - mine + 100;
    gone.for_each(|number| assert!(bob.remove(&key(number)).is_some()));
    (alice, bob)
}

fn config() -> Config {
    Config::default()
}

#[test]
fn a_session_of_kept_symbols_costs_by_the_difference_and_not_by_the_set() {
    for differences in [0, 1, 10, 100, 1000] {
        let cost = |keys| {
            let (alice, bob) = kept(1, keys, differences);
            let outcome = run(&alice, &bob, &config(), &config());
            assert_eq!((outcome.alice.ours.len() + outcome.alice.theirs.len()) as u64, differences);
            outcome.steps
        };
        let (small, large) = (cost(5000), cost(40_000));
        println!("{differences} differences: {small:?} steps of 5,000 keys, {large:?} of 40,000");
        for Steps { alices, bobs } in [small, large] {
            // A symbol is a step, an id some 14, of up to 2.5 symbols for each difference besides the first 16.
            assert!(alices <= 40 + 5 * differences, "{differences} differences: {alices} steps");
            assert!(bobs <= 60 + 30 * differences, "{differences} differences: {bobs} steps");
        }
    }
}

#[test]
fn a_second_session_after_changes_costs_no_more_than_the_first() {
    let (mut alice, mut bob) = kept(2, 50_000, 20);
    for number in 0..50_u64 {
        let outcome = run(&alice, &bob, &config(), &config());
        let settled: Vec<_> = outcome.alice.theirs.iter().map(|short| *bob.key(*short).unwrap()).collect();
        assert!(outcome.steps.alices < 500 && outcome.steps.bobs < 2500, "{number}: {:?}", outcome.steps);
        assert_eq!(outcome.alice.agrees, Some(true));
        settled.into_iter().for_each(|key| assert_eq!(alice.insert(key), Insertion::New));
        for more in 0..10 {
            alice.insert(key(1_000_000 + 10 * number + more));
            bob.insert(key(2_000_000 + 10 * number + more));
            let gone = alice.keys().next().copied().unwrap();
            alice.remove(&gone);
            bob.remove(&gone);
        }
        for short in outcome.bob.theirs {
            if let Some(key) = alice.key(short) {
                bob.insert(*key);
            }
        }
    }
}

#[test]
fn symbols_beyond_those_kept_take_one_look_at_each_key_for_each_batch() {
    let keys = 20_000_u64;
    let mut alice = set(3, 0..keys);
    alice.keep(64);
    let mut encoder = alice.encoder();
    encoder.next(64);
    assert_eq!(encoder.steps(), 64);
    encoder.next(1000);
    // All indices up to there, one look, and the symbols.
    let indices = 2.0 * (1064.0_f64 / 2.0).ln() + 1.0;
    let expected = keys as f64 * (1.0 + indices);
    let steps = encoder.steps() as f64;
    assert!((steps / expected - 1.0).abs() < 0.1, "{steps} steps, not {expected}");
}

#[test]
fn symbols_one_by_one_cost_little_more_than_at_once() {
    let alice = set(4, 0..5000);
    let (mut one_by_one, mut at_once) = (alice.encoder(), alice.encoder());
    let singles: Vec<_> = (0..4000).flat_map(|_| one_by_one.next(1)).collect();
    assert_eq!(singles, at_once.next(4000));
    let (singles, whole) = (one_by_one.steps(), at_once.steps());
    assert!(singles < 4 * whole, "{singles} steps one by one, {whole} at once");
}

#[test]
fn a_peer_that_asks_for_symbols_one_by_one_costs_little_more_than_one_that_asks_for_all() {
    let alice = set(5, 0..3000);
    let ask = |until: &mut dyn Iterator<Item = u32>| {
        let (mut session, _) = Session::start(&alice, config()).unwrap();
        for until in until {
            assert_eq!(session.on_message(Message::More { until }).unwrap().send.len(), 1);
        }
        session.steps()
    };
    let (greedy, patient) = (ask(&mut (17..=3000)), ask(&mut std::iter::once(3000)));
    assert!(greedy < 4 * patient, "{greedy} steps, instead of {patient}");
}

/// The same message with one bit of symbol 0's checksum wrong: all differences are found, and there is no end.
fn spoiled(open: &Message, alice: &KeyedSet<Key>) -> Open {
    let mut bytes = BytesMut::new();
    open.encode(&mut bytes);
    let check = alice.encoder().next(1)[0].check.to_le_bytes();
    let place = bytes.windows(4).position(|window| window == check).unwrap();
    bytes[place] ^= 1;
    let Message::Open(open) = Message::decode(bytes.freeze()).unwrap() else { panic!() };
    open
}

#[test]
fn a_peer_that_sends_symbols_one_by_one_costs_little_more_than_one_that_sends_all() {
    let (alice, bob) = (set(6, 0..3000), set(6, 300..3300));
    let config = Config { max_symbols: 2500, ..config() };
    let by = |per_message: u32| {
        let (mut alices, open) = Session::start(&alice, config.clone()).unwrap();
        let open = spoiled(&open, &alice);
        let (mut session, mut step) = Session::accept(&bob, config.clone(), &open).unwrap();
        let mut made = 16;
        while let Some(Message::More { until }) = step.send.pop() {
            while made < until {
                made = until.min(made.saturating_add(per_message));
                for message in alices.on_message(Message::More { until: made }).unwrap().send {
                    step = session.on_message(message).unwrap();
                }
            }
        }
        assert!(made > 1500, "the session ended after {made} symbols");
        session.steps()
    };
    let (slow, fast) = (by(1), by(u32::MAX));
    assert!(slow < 3 * fast, "{slow} steps, instead of {fast}");
}

#[test]
fn a_list_costs_a_step_for_each_id_that_is_looked_at_said_or_heard() {
    let (mut alice, mut bob) = (set(7, 0..20_000), set(7, 20_000..20_100));
    alice.keep(KEPT);
    bob.keep(KEPT);
    let outcome = run(&alice, &bob, &config(), &config());
    assert!(outcome.kinds.contains(&"List"), "{:?}", outcome.kinds);
    assert!(outcome.steps.alices + outcome.steps.bobs < 3 * 20_100 + 500, "{:?}", outcome.steps);
}
