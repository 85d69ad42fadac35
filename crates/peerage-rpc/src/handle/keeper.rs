//! How a broker's machine has things kept.

use std::sync::{Arc, Mutex, OnceLock};

use peerage_machine::{OpId, StoreError as Failure, Write};
use peerage_net::{StoreAnswer, WeakHosted};
use peerage_store::{Change, Committer, MemoryStore, Store};

use super::inbox::lock;
use crate::broker::BrokerMachine;

/// A store, and who writes to it.
pub(super) struct Keeper {
    pub(super) store: Arc<dyn Store>,
    /// Where there is a disk to wait for.
    committer: Option<Committer>,
    machine: Arc<OnceLock<WeakHosted<BrokerMachine>>>,
}

impl Keeper {
    /// Keeps things in memory.
    pub(super) fn in_memory() -> Self {
        Self { store: Arc::new(MemoryStore::new()), committer: None, machine: Arc::default() }
    }

    /// Keeps things in a store, several batches at a time.
    pub(super) fn of(store: Arc<dyn Store>) -> std::io::Result<Self> {
        let machine = Arc::<OnceLock<WeakHosted<BrokerMachine>>>::default();
        let tells = Arc::clone(&machine);
        let committer = Committer::start(Arc::clone(&store), move |group| {
            let results = group.into_iter().map(|committed| {
                let result = committed.result.map_err(|error| Failure::Failed(error.to_string()));
                (OpId(committed.ticket), result)
            });
            if let Some(machine) = tells.get() {
                // A broker that is closed meanwhile need not know.
                let _ = machine.stored(results);
            }
        })?;
        Ok(Self { store, committer: Some(committer), machine })
    }

    pub(super) fn hosted(&self, machine: WeakHosted<BrokerMachine>) {
        // Told once.
        let _ = self.machine.set(machine);
    }

    pub(super) fn keep(&self, op: OpId, batch: Vec<Write>) -> StoreAnswer {
        let changes: Vec<_> =
            batch.into_iter().map(|write| Change { key: write.key, value: write.value }).collect();
        match &self.committer {
            Some(committer) => match committer.submit(op.0, changes) {
                Ok(()) => StoreAnswer::Later,
                Err(stopped) => StoreAnswer::Now(Err(Failure::Failed(stopped.to_string()))),
            },
            None => {
                let kept = self.store.commit(&changes);
                StoreAnswer::Now(kept.map_err(|error| Failure::Failed(error.to_string())))
            }
        }
    }

    /// Waits until what was handed in is written, on a thread that may wait.
    pub(super) async fn flush(self: &Arc<Self>) {
        if self.committer.is_none() {
            return;
        }
        let keeper = Arc::clone(self);
        let flush = move || {
            if let Some(committer) = &keeper.committer {
                committer.flush();
            }
        };
        // It does not panic, and a runtime that ends does not wait for it.
        let _ = tokio::task::spawn_blocking(flush).await;
    }
}

/// What a handler wants written, together with its reply.
#[derive(Debug)]
pub struct Batch<'a> {
    writes: &'a Mutex<Vec<Write>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(writes: &'a Mutex<Vec<Write>>) -> Self {
        Self { writes }
    }

    /// The key has this value. Keys of the application must not begin with `rpc/`.
    ///
    /// # Errors
    /// The key is the broker's, or key or value are too long.
    pub fn put(
        &self,
        key: impl Into<bytes::Bytes>,
        value: impl Into<bytes::Bytes>,
    ) -> Result<&Self, crate::Status> {
        self.add(key.into(), Some(value.into()))
    }

    /// The key has no value.
    ///
    /// # Errors
    /// The key is the broker's, or too long.
    pub fn delete(&self, key: impl Into<bytes::Bytes>) -> Result<&Self, crate::Status> {
        self.add(key.into(), None)
    }

    fn add(&self, key: bytes::Bytes, value: Option<bytes::Bytes>) -> Result<&Self, crate::Status> {
        if key.starts_with(b"rpc/") {
            return Err(crate::Status::internal("keys that begin with `rpc/` are the broker's own"));
        }
        let length = value.as_ref().map_or(0, bytes::Bytes::len);
        if key.len() > peerage_store::MAX_KEY || length > peerage_store::MAX_VALUE {
            return Err(crate::Status::internal(format!(
                "a key of {} bytes with a value of {length} is too long for the store",
                key.len()
            )));
        }
        lock(self.writes).push(Write { key, value });
        Ok(self)
    }
}
