//! What is opened as a store, and what is not.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use peerage_store::{Change, OpenError, RedbStore, Store};
use proptest::prelude::*;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    (folder, path)
}

/// A store with something in it, closed.
fn filled() -> (TempDir, PathBuf) {
    let (folder, path) = place();
    let store = RedbStore::open(&path).unwrap();
    for round in 0..20_u8 {
        let changes = (0..50_u8).map(|key| Change::put(vec![key, round], vec![round; 200]));
        store.commit(&changes.collect::<Vec<_>>()).unwrap();
    }
    (folder, path)
}

#[cfg(unix)]
#[test]
fn a_new_file_is_its_owners_alone_and_nothing_else_is_left() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = place();
    let _store = RedbStore::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_open_is_in_use_until_it_is_closed() {
    let (_folder, path) = place();
    let store = RedbStore::open(&path).unwrap();
    store.commit(&[Change::put("a", "1")]).unwrap();
    assert_eq!(RedbStore::open(&path).unwrap_err(), OpenError::InUse { path: path.clone() });
    drop(store);
    assert_eq!(RedbStore::open(&path).unwrap().get(b"a").unwrap(), Some("1".into()));
}

#[test]
fn many_that_make_a_store_at_once_make_one() {
    let (folder, path) = place();
    std::thread::scope(|scope| {
        let open = || match RedbStore::open(&path) {
            Ok(store) => store.commit(&[Change::put("a", "1")]).unwrap(),
            Err(error) => assert_eq!(error, OpenError::InUse { path: path.clone() }),
        };
        (0..8).for_each(|_| drop(scope.spawn(open)));
    });
    assert_eq!(RedbStore::open(&path).unwrap().get(b"a").unwrap(), Some("1".into()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_store_is_said_to_be_none_and_left_as_it_is() {
    let (folder, path) = place();
    for alien in [&b"x"[..], b"-----BEGIN PRIVATE KEY-----\n", &[0; 8192]] {
        fs::write(&path, alien).unwrap();
        let error = RedbStore::open(&path).unwrap_err();
        assert!(matches!(&error, OpenError::NotAStore { path: named, .. } if *named == path), "{error}");
        assert_eq!(fs::read(&path).unwrap(), alien);
    }
    let error = RedbStore::open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Io { kind: ErrorKind::IsADirectory, .. }), "{error}");
    let error = RedbStore::open(folder.path().join("no/such/store")).unwrap_err();
    assert!(matches!(error, OpenError::Io { kind: ErrorKind::NotFound, action: "make", .. }), "{error}");
}

#[test]
fn the_database_of_another_program_is_no_store() {
    let (_folder, path) = place();
    let other = redb::Database::create(&path).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, &str>::new("films")).unwrap().insert(1, "Ran").unwrap();
    write.commit().unwrap();
    drop(other);
    let error = RedbStore::open(&path).unwrap_err();
    assert!(matches!(&error, OpenError::NotAStore { why, .. } if why.contains("films")), "{error}");
    // Nor is one that uses our table's name for something else.
    let (_folder, path) = place();
    let other = redb::Database::create(&path).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, &str>::new("peerage")).unwrap().insert(1, "").unwrap();
    write.commit().unwrap();
    drop(other);
    assert!(matches!(RedbStore::open(&path).unwrap_err(), OpenError::NotAStore { .. }));
}

#[test]
fn a_file_that_was_cut_is_damaged() {
    let (_folder, path) = filled();
    let whole = fs::read(&path).unwrap();
    for length in [100, 4096, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = RedbStore::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{length} of {}: {error}", whole.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Bytes that nobody reads may be anything; of those that matter, each is seen to have changed.
    #[test]
    fn damage_is_found_or_does_no_harm(
        at in prop_oneof![0..4096_usize, 0..4_000_000_usize],
        length in 1..200_usize,
        with in any::<u8>(),
    ) {
        static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let (_folder, path) = filled();
            fs::read(path).unwrap()
        });
        let (_folder, path) = place();
        let mut bytes = WHOLE.clone();
        let at = at % bytes.len();
        bytes.iter_mut().skip(at).take(length).for_each(|byte| *byte = with);
        fs::write(&path, &bytes).unwrap();
        match RedbStore::open(&path) {
            Ok(store) => {
                let found = store.scan(b"").unwrap();
                prop_assert_eq!(found.len(), 1000);
                let is_whole = |(key, value): &(Bytes, Bytes)| **value == [key.last().copied().unwrap_or(255); 200];
                prop_assert!(found.iter().all(is_whole));
                store.commit(&[Change::put("more", "value")]).unwrap();
            }
            Err(OpenError::Damaged { .. } | OpenError::NotAStore { .. } | OpenError::Version { .. }) => {}
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
