//! What group commit is worth: batches a second of one key each, with so many under way, and the same one by one.
//!
//! `cargo run --release -p peerage-store --example group_commit [-- FOLDER]`

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use peerage_store::{Change, Committer, RedbStore, Store};

const SPAN: Duration = Duration::from_secs(3);

fn batch(number: u64) -> Vec<Change> {
    vec![Change::put(number.to_be_bytes().to_vec(), vec![0; 100])]
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = match std::env::args().nth(1) {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(folder.path().join("store"))?);

    let (began, mut number) = (Instant::now(), 0_u64);
    while began.elapsed() < SPAN {
        store.commit(&batch(number))?;
        number += 1;
    }
    let each = began.elapsed() / u32::try_from(number)?;
    println!("one by one: {:.0}/s, {each:.2?} each", 1.0 / each.as_secs_f64());

    for in_flight in [1_u64, 8, 64, 256, 1024] {
        let (tell, told) = channel();
        let committer = Committer::start(Arc::clone(&store), move |group| {
            // The receiver is dropped only after the committer.
            let _ = tell.send(group.len() as u64);
        })?;
        let (began, first) = (Instant::now(), number);
        let (mut answered, mut groups) = (0, 0_u64);
        for _ in 0..in_flight {
            committer.submit(number, batch(number))?;
            number += 1;
        }
        while began.elapsed() < SPAN {
            let group = told.recv()?;
            (answered, groups) = (answered + group, groups + 1);
            for _ in 0..group {
                committer.submit(number, batch(number))?;
                number += 1;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{in_flight} under way: {:.0} batches/s, {:.0} groups/s of {:.1}, {:.2} ms a group ({} in all)",
            answered as f64 / seconds,
            groups as f64 / seconds,
            answered as f64 / groups as f64,
            1000.0 * seconds / groups as f64,
            number - first
        );
    }
    Ok(())
}
