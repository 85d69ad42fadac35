//! Any list of operations gives the same in memory, in a file, and in a file that is opened again.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use bytes::Bytes;
use peerage_store::{Change, MAX_BATCH, MAX_KEY, MAX_VALUE, MemoryStore, RedbStore, Store, StoreError};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Operation {
    Commit(Vec<Change>),
    Get(Bytes),
    Scan { prefix: Bytes, after: Option<Bytes>, limit: usize },
    Reopen,
}

/// Of few letters, so that keys and prefixes meet; among them the last of all bytes.
fn key() -> impl Strategy<Value = Bytes> {
    vec(prop_oneof![Just(0), Just(b'a'), Just(255)], 0..5).prop_map(Bytes::from)
}

fn change() -> impl Strategy<Value = Change> {
    let value = prop_oneof![
        4 => vec(any::<u8>(), 0..20),
        1 => (any::<u8>(), 3000..10_000_usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    (key(), proptest::option::weighted(0.7, value))
        .prop_map(|(key, value)| Change { key, value: value.map(Bytes::from) })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => vec(change(), 0..8).prop_map(Operation::Commit),
        3 => key().prop_map(Operation::Get),
        4 => (key(), proptest::option::of(key()), prop_oneof![0..4_usize, Just(usize::MAX)])
            .prop_map(|(prefix, after, limit)| Operation::Scan { prefix, after, limit }),
        1 => Just(Operation::Reopen),
    ]
}

/// What is there, by the simplest means.
#[derive(Default)]
struct Model(Vec<(Bytes, Bytes)>);

impl Model {
    fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            self.0.retain(|(key, _)| *key != change.key);
            self.0.extend(change.value.clone().map(|value| (change.key.clone(), value)));
        }
        self.0.sort();
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Bytes, Bytes)> {
        let found = self.0.iter().filter(|(key, _)| key.starts_with(prefix));
        let found = found.filter(|(key, _)| after.is_none_or(|after| &**key > after));
        found.take(limit).cloned().collect()
    }
}

fn agree(model: &Model, store: &dyn Store) {
    assert_eq!(store.scan(b"").unwrap(), model.0);
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|(key, _): &(Bytes, Bytes)| key.clone());
        let page = store.scan_from(b"", after.as_deref(), 3).unwrap();
        let is_last = page.len() < 3;
        paged.extend(page);
        if is_last {
            break;
        }
    }
    assert_eq!(paged, model.0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_file_give_the_same_for_any_operations(operations in vec(operation(), 1..24)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let (mut model, memory, mut file) =
            (Model::default(), MemoryStore::new(), RedbStore::open(&path).unwrap());
        for operation in operations {
            match operation {
                Operation::Commit(changes) => {
                    model.commit(&changes);
                    memory.commit(&changes).unwrap();
                    file.commit(&changes).unwrap();
                }
                Operation::Get(key) => {
                    let expected = model.0.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
                    prop_assert_eq!(&memory.get(&key).unwrap(), &expected);
                    prop_assert_eq!(&file.get(&key).unwrap(), &expected);
                }
                Operation::Scan { prefix, after, limit } => {
                    let expected = model.scan(&prefix, after.as_deref(), limit);
                    prop_assert_eq!(&memory.scan_from(&prefix, after.as_deref(), limit).unwrap(), &expected);
                    prop_assert_eq!(&file.scan_from(&prefix, after.as_deref(), limit).unwrap(), &expected);
                }
                Operation::Reopen => {
                    drop(file);
                    file = RedbStore::open(&path).unwrap();
                }
            }
        }
        agree(&model, &memory);
        agree(&model, &file);
        drop(file);
        agree(&model, &RedbStore::open(&path).unwrap());
    }
}

#[test]
fn what_is_too_long_is_refused_and_nothing_of_its_batch_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = RedbStore::open(folder.path().join("store")).unwrap();
    let long = vec![0; MAX_VALUE];
    let much: Vec<Change> = (0..4_u8).map(|number| Change::put(vec![number], long.clone())).collect();
    for store in [&MemoryStore::new() as &dyn Store, &file] {
        let good = Change::put("good", "value");
        let error = store.commit(&[good.clone(), Change::put(vec![0; MAX_KEY + 1], "")]).unwrap_err();
        assert_eq!(error, StoreError::KeyTooLong { length: MAX_KEY + 1, limit: MAX_KEY });
        let error = store.commit(&[good.clone(), Change::put("k", vec![0; MAX_VALUE + 1])]).unwrap_err();
        assert_eq!(error, StoreError::ValueTooLong { length: MAX_VALUE + 1, limit: MAX_VALUE });
        let error = store.commit(&much).unwrap_err();
        assert_eq!(error, StoreError::BatchTooLong { length: MAX_BATCH + 4, limit: MAX_BATCH });
        assert_eq!(store.scan(b"").unwrap(), []);
        // And exactly as long as that is not too long.
        store.commit(&[good, Change::put(vec![0; MAX_KEY], long.clone())]).unwrap();
        assert_eq!(store.get(&[0; MAX_KEY]).unwrap().map(|value| value.len()), Some(MAX_VALUE));
    }
}

#[test]
fn a_scan_sees_one_commit_while_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = RedbStore::open(folder.path().join("store")).unwrap();
    let memory = MemoryStore::new();
    for store in [&file as &dyn Store, &memory] {
        let write = |round: u32| {
            let changes = (0..50_u8).map(|key| Change::put(vec![key], round.to_be_bytes().to_vec()));
            store.commit(&changes.collect::<Vec<_>>()).unwrap();
        };
        write(0);
        std::thread::scope(|scope| {
            scope.spawn(|| (1..30).for_each(write));
            for _ in 0..100 {
                let found = store.scan(b"").unwrap();
                assert_eq!(found.len(), 50);
                assert!(found.windows(2).all(|pair| pair[0].1 == pair[1].1), "a commit that is half there");
            }
        });
    }
}
