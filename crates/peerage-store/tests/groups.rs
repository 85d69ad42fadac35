//! Group commit: order, sharing, failure, the end.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use peerage_store::{
    Change, Committed, Committer, MAX_KEY, MemoryStore, RedbStore, Stopped, Store, StoreError,
};

/// A disk that commits when it is told to, and fails when it is told to.
struct Disk {
    memory: MemoryStore,
    go: Mutex<Receiver<Result<(), StoreError>>>,
    /// Changes of each commit.
    commits: Mutex<Vec<usize>>,
}

impl Disk {
    fn new() -> (Arc<Self>, Sender<Result<(), StoreError>>) {
        let (tell, go) = channel();
        let disk = Self { memory: MemoryStore::new(), go: Mutex::new(go), commits: Mutex::default() };
        (Arc::new(disk), tell)
    }
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.memory.get(key)
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.memory.scan_from(prefix, after, limit)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.commits.lock().unwrap().push(changes.len());
        self.go.lock().unwrap().recv().unwrap()?;
        self.memory.commit(changes)
    }
}

fn one(number: u64) -> Vec<Change> {
    vec![Change::put(number.to_be_bytes().to_vec(), "value")]
}

fn start(store: &Arc<Disk>) -> (Committer, Receiver<Vec<Committed>>) {
    let (tell, told) = channel();
    let store: Arc<dyn Store> = Arc::<Disk>::clone(store);
    (Committer::start(store, move |group| tell.send(group).unwrap()).unwrap(), told)
}

fn tickets(group: &[Committed]) -> Vec<u64> {
    group.iter().map(|batch| batch.ticket).collect()
}

/// Hands in batch 0, and waits until the disk is busy with it.
fn busy(committer: &Committer, disk: &Disk) {
    committer.submit(0, one(0)).unwrap();
    while disk.commits.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn what_waits_while_the_disk_is_busy_shares_the_next_commit() {
    let (disk, go) = Disk::new();
    let (committer, told) = start(&disk);
    busy(&committer, &disk);
    for number in 1..=100 {
        committer.submit(number, one(number)).unwrap();
    }
    assert_eq!(committer.waiting(), 101);
    go.send(Ok(())).unwrap();
    assert_eq!(tickets(&told.recv().unwrap()), [0]);
    go.send(Ok(())).unwrap();
    assert_eq!(tickets(&told.recv().unwrap()), (1..=100).collect::<Vec<_>>());
    committer.flush();
    assert_eq!(committer.waiting(), 0);
    assert_eq!(*disk.commits.lock().unwrap(), [1, 100]);
    assert_eq!((committer.totals().groups, committer.totals().written), (2, 101));
}

#[test]
fn a_group_is_bounded_in_batches_and_bytes() {
    let (disk, go) = Disk::new();
    let (committer, told) = start(&disk);
    busy(&committer, &disk);
    let most = Committer::GROUP_BATCHES as u64;
    for number in 1..=most + 1 {
        committer.submit(number, one(number)).unwrap();
    }
    let third = Bytes::from(vec![0; Committer::GROUP_BYTES / 3]);
    for number in 0..4_u8 {
        committer.submit(u64::from(number), vec![Change::put(vec![number], third.clone())]).unwrap();
    }
    // Longer than a group: one of its own.
    let long = vec![Change::put("long", vec![0; Committer::GROUP_BYTES + 1])];
    committer.submit(99, long).unwrap();
    (0..10).for_each(|_| go.send(Ok(())).unwrap());
    committer.flush();
    assert_eq!(*disk.commits.lock().unwrap(), [1, most as usize, 3, 2, 1]);
    let order: Vec<u64> = told.try_iter().flat_map(|group| tickets(&group)).collect();
    assert_eq!(order, (0..=most + 1).chain([0, 1, 2, 3, 99]).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_fails_fails_each_ticket_of_the_group_and_no_later_one() {
    let (disk, go) = Disk::new();
    let (committer, told) = start(&disk);
    busy(&committer, &disk);
    (1..=3).for_each(|number| committer.submit(number, one(number)).unwrap());
    let full = StoreError::Io { kind: ErrorKind::StorageFull, why: "no room".to_owned() };
    go.send(Ok(())).unwrap();
    go.send(Err(full.clone())).unwrap();
    assert_eq!(told.recv().unwrap(), [Committed { ticket: 0, result: Ok(()) }]);
    let failed = told.recv().unwrap();
    assert_eq!(tickets(&failed), [1, 2, 3]);
    assert!(failed.iter().all(|batch| batch.result == Err(full.clone())));
    committer.submit(4, one(4)).unwrap();
    go.send(Ok(())).unwrap();
    assert_eq!(told.recv().unwrap(), [Committed { ticket: 4, result: Ok(()) }]);
    assert_eq!(disk.scan(b"").unwrap().len(), 2);
    committer.flush();
    assert_eq!((committer.totals().written, committer.totals().failed), (2, 3));
}

#[test]
fn a_batch_that_is_refused_harms_no_other_in_its_group() {
    let (disk, go) = Disk::new();
    let (committer, told) = start(&disk);
    busy(&committer, &disk);
    let bad = vec![Change::put("good", "value"), Change::put(vec![0; MAX_KEY + 1], "")];
    committer.submit(1, one(1)).unwrap();
    committer.submit(2, bad).unwrap();
    committer.submit(3, one(3)).unwrap();
    committer.submit(4, Vec::new()).unwrap();
    (0..2).for_each(|_| go.send(Ok(())).unwrap());
    committer.flush();
    let results: Vec<_> =
        told.try_iter().flatten().map(|batch| (batch.ticket, batch.result.is_ok())).collect();
    assert_eq!(results, [(0, true), (1, true), (2, false), (3, true), (4, true)]);
    assert_eq!(disk.get(b"good").unwrap(), None);
}

#[test]
fn dropping_waits_for_what_was_submitted() {
    let (disk, go) = Disk::new();
    let (committer, told) = start(&disk);
    (0..50).for_each(|number| committer.submit(number, one(number)).unwrap());
    (0..50).for_each(|_| go.send(Ok(())).unwrap());
    drop(committer);
    let order: Vec<u64> = told.try_iter().flat_map(|group| tickets(&group)).collect();
    assert_eq!(order, (0..50).collect::<Vec<_>>());
    assert_eq!(disk.scan(b"").unwrap().len(), 50);
    assert_eq!(Arc::strong_count(&disk), 1, "its thread is gone");
}

#[test]
fn whoever_is_answered_may_submit_and_may_drop_the_committer() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let slot: Arc<Mutex<Option<Committer>>> = Arc::default();
    let (ended, end) = channel();
    let inside = Arc::clone(&slot);
    let committer = Committer::start(store, move |group| {
        let mut slot = inside.lock().unwrap();
        let ticket = group.last().unwrap().ticket;
        if ticket == 10 {
            drop(slot.take());
            ended.send(()).unwrap();
        } else if let Some(committer) = &*slot {
            committer.submit(ticket + 1, one(ticket + 1)).unwrap();
            // Of no use here, and no dead lock.
            committer.flush();
        }
    })
    .unwrap();
    let mut held = slot.lock().unwrap();
    held.insert(committer).submit(0, one(0)).unwrap();
    drop(held);
    end.recv().unwrap();
    assert!(slot.lock().unwrap().is_none());
}

#[test]
fn a_panic_of_whoever_is_answered_is_told_to_those_who_submit() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let committer = Committer::start(store, |_| panic!("as the test wants")).unwrap();
    committer.submit(1, one(1)).unwrap();
    committer.flush();
    assert_eq!(committer.submit(2, one(2)), Err(Stopped));
}

#[test]
fn a_store_that_panics_is_broken() {
    struct Panics;
    impl Store for Panics {
        fn get(&self, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
            Ok(None)
        }
        fn scan_from(&self, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
            Ok(Vec::new())
        }
        fn commit(&self, _: &[Change]) -> Result<(), StoreError> {
            panic!("as the test wants")
        }
    }
    let (tell, told) = channel();
    let committer = Committer::start(Arc::new(Panics), move |group| tell.send(group).unwrap()).unwrap();
    (0..2).for_each(|number| committer.submit(number, one(number)).unwrap());
    committer.flush();
    let results: Vec<_> = told.try_iter().flatten().collect();
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|batch| matches!(batch.result, Err(StoreError::Broken { .. }))));
}

#[test]
fn many_threads_share_a_file_and_each_is_answered_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
    let (tell, told) = channel();
    let committer = Committer::start(store, move |group| tell.send(group).unwrap()).unwrap();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    committer.submit(number, one(number)).unwrap();
                }
            });
        }
    });
    drop(committer);
    let answered: Vec<Committed> = told.try_iter().flatten().collect();
    assert!(answered.iter().all(|batch| batch.result.is_ok()));
    assert_eq!(answered.len(), 1000);
    assert_eq!(answered.iter().map(|batch| batch.ticket).collect::<BTreeSet<_>>().len(), 1000);
    assert_eq!(RedbStore::open(&path).unwrap().scan(b"").unwrap().len(), 1000);
}
