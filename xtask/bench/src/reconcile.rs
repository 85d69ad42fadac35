//! `bench reconcile`: what it costs to find what only one of two sets has. One thread, no network.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use peerage_reconcile::{Config, Decoder, KeyedSet, Message, Salt, Session};

use crate::figure::Figures;

/// Keys of each set.
const KEYS: u64 = 100_000;
/// Keys that only one of the sets has, both sides together.
const DIFFERENCES: [u64; 5] = [1, 10, 100, 1000, 10_000];

/// Symbols that sets keep up to date, where they do.
const KEPT: u32 = 32_768;

type Key = [u8; 32];

/// Measures, shows, and appends.
pub(crate) fn run(rounds: usize, json: Option<PathBuf>) -> Result<()> {
    println!("sets of {KEYS} keys of 32 bytes, one thread; medians of {rounds} salts");
    let mut figures = Figures::default();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let salt = Salt::new((round as u128).to_le_bytes());
        for differences in DIFFERENCES {
            measure(&mut figures, salt, differences)?;
        }
    }
    figures.show();
    match json {
        Some(path) => figures.write("reconcile", &path),
        None => Ok(()),
    }
}

fn key(number: u64) -> Key {
    let mut key = [0x6b; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

fn measure(figures: &mut Figures, salt: Salt, differences: u64) -> Result<()> {
    let name = |what: &str| format!("{what}_{differences}");
    let (mine, shared) = (differences / 2, KEYS - differences);
    let keys = |from, to| (0..shared).chain(from..to).map(key);
    let began = Instant::now();
    let mut alice = KeyedSet::from_keys(salt, keys(KEYS, KEYS + mine));
    figures.add("set_ns_per_key", "ns", began.elapsed().as_nanos() as f64 / alice.len() as f64);
    let mut bob = KeyedSet::from_keys(salt, keys(2 * KEYS, 2 * KEYS + differences - mine));

    // Symbols that it takes: one by one, of the differences alone, since what both have is subtracted.
    let some = |from, count| KeyedSet::from_keys(salt, (from..from + count).map(key));
    let mut encoder = some(KEYS, mine).encoder();
    let mut decoder = Decoder::new(some(2 * KEYS, differences - mine).encoder(), u32::MAX)?;
    while !decoder.push(&encoder.next(1))? {}
    let needed = decoder.taken();
    figures.add(name("symbols_per_difference"), "", f64::from(needed) / differences as f64);

    // Encoding whole sets, and decoding, ours being encoded as well.
    let mut encoder = alice.encoder();
    let began = Instant::now();
    let symbols = black_box(encoder.next(needed));
    figures.add(name("encode_ns_per_symbol"), "ns", began.elapsed().as_nanos() as f64 / f64::from(needed));
    let mut decoder = Decoder::new(bob.encoder(), needed)?;
    let began = Instant::now();
    if !decoder.push(&symbols)? {
        bail!("{needed} symbols of the whole sets are too few");
    }
    figures.add(
        name("decode_ns_per_difference"),
        "ns",
        began.elapsed().as_nanos() as f64 / differences as f64,
    );
    // The peeling alone.
    let mut encoder = some(KEYS, mine).encoder();
    let mut decoder = Decoder::new(some(2 * KEYS, differences - mine).encoder(), needed)?;
    let symbols = encoder.next(needed);
    let began = Instant::now();
    black_box(decoder.push(&symbols)?);
    figures.add(name("peel_ns_per_difference"), "ns", began.elapsed().as_nanos() as f64 / differences as f64);
    let fresh = session(&alice, &bob, differences)?;
    figures.add(name("session_bytes_per_difference"), "B", fresh.bytes as f64 / differences as f64);
    figures.add(name("session_bytes"), "B", fresh.bytes as f64);
    figures.add(name("session_round_trips"), "", fresh.trips);
    figures.add(name("session_ms"), "ms", fresh.elapsed.as_secs_f64() * 1e3);
    figures.add(name("session_steps"), "", fresh.steps as f64);
    // The same between sets that keep their symbols up to date.
    alice.keep(KEPT);
    bob.keep(KEPT);
    let kept = session(&alice, &bob, differences)?;
    figures.add(name("kept_session_us"), "us", kept.elapsed.as_secs_f64() * 1e6);
    figures.add(name("kept_session_steps"), "", kept.steps as f64);
    Ok(())
}

/// What a whole session takes: its bytes both ways, its round trips, the time and the steps of both sides.
struct Cost {
    bytes: usize,
    trips: f64,
    elapsed: Duration,
    steps: u64,
}

fn session(alice: &KeyedSet<Key>, bob: &KeyedSet<Key>, differences: u64) -> Result<Cost> {
    let began = Instant::now();
    let (mut alices, first) = Session::start(alice, Config::default())?;
    let mut bytes = first.encoded_len();
    let Message::Open(open) = first else { bail!("a session does not begin with Open") };
    let (mut bobs, step) = Session::accept(bob, Config::default(), &open)?;
    let (mut to_alice, mut trips, mut found) = (step.send, 0.5, None);
    while found.is_none() && !to_alice.is_empty() {
        let mut to_bob = Vec::new();
        trips += 0.5;
        for message in to_alice.drain(..) {
            bytes += message.encoded_len();
            let step = alices.on_message(message)?;
            to_bob.extend(step.send);
            found = found.or(step.difference);
        }
        if !to_bob.is_empty() {
            trips += 0.5;
        }
        for message in to_bob {
            bytes += message.encoded_len();
            to_alice.extend(bobs.on_message(message)?.send);
        }
    }
    let elapsed = began.elapsed();
    let found = found.context("the session came to nothing")?;
    if (found.ours.len() + found.theirs.len()) as u64 != differences {
        bail!("{} and {} keys found, of {differences}", found.ours.len(), found.theirs.len());
    }
    Ok(Cost { bytes, trips, elapsed, steps: alices.steps() + bobs.steps() })
}
