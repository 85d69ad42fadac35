//! A process that commits is killed: what it was told is written is there, and nothing is there by half.
//!
//! What the disk does at a loss of power this does not show: the system outlives the process.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use peerage_store::{Change, Committer, RedbStore, Store};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Set for the child: the file that it is to write to.
const STORE: &str = "PEERAGE_TEST_STORE";
/// However it goes, a child ends after so many batches.
const MOST: u64 = 3000;
const ROUNDS: u32 = 20;

/// The keys of one batch, between one and five, and as many as its number says.
fn batch(number: u64) -> Vec<Change> {
    let parts = number % 5 + 1;
    let part = |part: u64| {
        let key = [number.to_be_bytes(), part.to_be_bytes()].concat();
        Change::put(key, vec![number as u8; (number % 700) as usize])
    };
    (0..parts).map(part).collect()
}

/// The highest number of a batch in the store, once all that there are have been found whole.
fn check(store: &dyn Store) -> Option<u64> {
    let mut found: BTreeMap<u64, Vec<Change>> = BTreeMap::new();
    for (key, value) in store.scan(b"").unwrap() {
        let number = u64::from_be_bytes(*key.first_chunk().unwrap());
        found.entry(number).or_default().push(Change::put(key, value));
    }
    for (number, changes) in &found {
        assert_eq!(*changes, batch(*number), "batch {number} is torn");
    }
    let last = found.keys().next_back().copied();
    assert_eq!(found.len() as u64, last.map_or(0, |last| last + 1), "one before {last:?} is missing");
    last
}

/// Not a test by itself: what the child does. Writes batches that follow those in the store, and says of each that it is
/// written.
#[test]
fn child() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).unwrap());
    let first = check(&*store).map_or(0, |last| last + 1);
    println!("start {first}");
    let committer = Committer::start(store, |group| {
        let mut out = std::io::stdout().lock();
        for committed in group {
            committed.result.unwrap();
            // The parent may be gone.
            if writeln!(out, "written {}", committed.ticket).is_err() {
                std::process::exit(1);
            }
        }
    })
    .unwrap();
    for number in first..first + MOST {
        committer.submit(number, batch(number)).unwrap();
        // About as many at once as a busy broker has.
        while committer.waiting() > 16 {
            std::thread::yield_now();
        }
    }
}

/// Kills a child after so many words of it; the last batch that it was told of.
fn run_and_kill(path: &Path, after: u64) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads", "1"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told = None;
    let mut seen = 0;
    if after > 0 {
        for line in lines.by_ref() {
            told = line.strip_prefix("written ").map(|number| number.parse().unwrap()).or(told);
            seen += 1;
            if seen == after {
                break;
            }
        }
    }
    child.kill().unwrap();
    // What it had said before it died; the last line may be cut.
    for line in lines {
        let whole = line.strip_prefix("written ").and_then(|number| number.parse().ok());
        told = whole.max(told);
    }
    child.wait().unwrap();
    told
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_nothing_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut written = 0;
    for round in 0..ROUNDS {
        // At once, which hits the making and the opening of the file, or in the middle of the work.
        let after = if round % 4 == 0 {
            u64::from(random.next_u32() % 3)
        } else {
            u64::from(random.next_u32() % 600)
        };
        let told = run_and_kill(&path, after);
        let last = check(&RedbStore::open(&path).unwrap());
        assert!(last >= told, "round {round}: {told:?} was acknowledged, and the last is {last:?}");
        written = last.map_or(0, |last| last + 1);
    }
    assert!(written > 1000, "the children wrote only {written} batches");
}
