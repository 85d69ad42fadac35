//! How many symbols a difference takes, beside what the paper says.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use peerage_reconcile::{Decoder, KeyedSet, Salt};

/// Symbols until a difference of so many ids is known, taken one by one. What both sets have does not matter: it is
/// subtracted.
fn needed(differences: u64, seed: u64) -> u32 {
    let salt = Salt::new(u128::from(seed).to_le_bytes());
    let half = differences / 2;
    let theirs = KeyedSet::from_keys(salt, (0..half).map(u64::to_be_bytes));
    let ours = KeyedSet::from_keys(salt, (half..differences).map(u64::to_be_bytes));
    let mut decoder = Decoder::new(ours.encoder(), 1 << 20).unwrap();
    let mut encoder = theirs.encoder();
    while !decoder.push(&encoder.next(1)).unwrap() {}
    decoder.taken()
}

/// The paper's figures 5 and 6: 1.72 symbols for each difference at the worst, near 4, and 1.35 for many.
#[test]
fn a_difference_takes_the_symbols_that_the_paper_says() {
    for (differences, seeds, least, most) in [
        (1, 200, 1.0, 1.0),
        (4, 400, 1.5, 1.95),
        (10, 200, 1.55, 1.9),
        (100, 60, 1.38, 1.56),
        (1000, 8, 1.34, 1.45),
    ] {
        let all: u32 = (0..seeds).map(|seed| needed(differences, seed)).sum();
        let overhead = f64::from(all) / (differences * seeds) as f64;
        println!("{differences} differences: {overhead:.3} symbols each, over {seeds} seeds");
        assert!((least..=most).contains(&overhead), "{differences} differences: {overhead} symbols each");
    }
}
