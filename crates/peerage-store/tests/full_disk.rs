//! A disk that has no room: what a store says, and what is there afterwards.

#![cfg(unix)]

use std::io::ErrorKind;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;

use peerage_store::{Change, Committed, Committer, RedbStore, Store, StoreError};

/// Set for the child: the file that it is to write to.
const STORE: &str = "PEERAGE_TEST_STORE";

fn batch(number: u64) -> Vec<Change> {
    let part = |part: u8| Change::put([&number.to_be_bytes()[..], &[part]].concat(), vec![part; 20_000]);
    (0..5).map(part).collect()
}

/// Not a test by itself: writes until there is no room, and a little longer.
#[test]
fn child() {
    let Some(path) = std::env::var_os(STORE) else { return };
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(path).unwrap());
    let (tell, told) = channel();
    let committer = Committer::start(Arc::clone(&store), move |group| tell.send(group).unwrap()).unwrap();
    // 100 MB: ten times what there is room for.
    for number in 0..1000 {
        committer.submit(number, batch(number)).unwrap();
        committer.flush();
    }
    let answered: Vec<Committed> = told.try_iter().flatten().collect();
    let written = answered.iter().take_while(|batch| batch.result.is_ok()).count();
    println!("\nwritten {written}");
    let failed: Vec<&StoreError> =
        answered.iter().skip(written).map(|batch| batch.result.as_ref().unwrap_err()).collect();
    assert!(written > 0 && failed.len() == 1000 - written);
    let (first, later) = failed.split_first().unwrap();
    assert!(matches!(first, StoreError::Io { kind: ErrorKind::FileTooLarge, .. }), "{first}");
    assert!(later.iter().all(|error| matches!(error, StoreError::Broken { .. })), "{later:?}");
    assert!(matches!(store.commit(&batch(0)), Err(StoreError::Broken { .. })));
    // What was written can be read, and nothing else.
    assert_eq!(store.scan(b"").unwrap().len(), 5 * written);
}

#[test]
fn without_room_each_batch_fails_and_those_before_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    // The limit stands for the disk's end. Its signal would end the process before any error.
    let ran = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 20000; exec \"$0\" --exact child --nocapture --test-threads 1"])
        .arg(std::env::current_exe().unwrap())
        .env(STORE, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let written = said.lines().find_map(|line| line.strip_prefix("written ")?.parse::<u64>().ok()).unwrap();

    let store = RedbStore::open(&path).unwrap();
    let found = store.scan(b"").unwrap();
    let expected =
        |batches: u64| (0..batches).flat_map(batch).map(|change| (change.key, change.value.unwrap()));
    // The first that failed may be there, and then in whole.
    let is_kept =
        found.iter().cloned().eq(expected(written)) || found.iter().cloned().eq(expected(written + 1));
    assert!(is_kept, "{written} batches were written, and {} keys are there", found.len());
    // With room, it goes on.
    store.commit(&batch(written)).unwrap();
}
