//! A small ordered key-value trait with batches: memory, and `redb` for what must survive.
//!
//! | | |
//! |---|---|
//! | [`Store`] | read a key, read the keys with a prefix, write a batch |
//! | [`MemoryStore`] | for tests, and for what may be lost |
//! | [`RedbStore`] | one file, with every batch on the disk when its commit returns |
//! | [`Committer`] | group commit: many batches share the disk's slowest operation |
//!
//! ```
//! use std::sync::Arc;
//! use peerage_store::{Change, Committer, MemoryStore, Store};
//!
//! let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
//! store.commit(&[Change::put("note/1", "milk"), Change::put("note/2", "bread")])?;
//! store.commit(&[Change::delete("note/1")])?;
//! assert_eq!(store.scan(b"note/")?, [("note/2".into(), "bread".into())]);
//!
//! let (told, committed) = std::sync::mpsc::channel();
//! let committer = Committer::start(Arc::clone(&store), move |group| {
//!     let _ = told.send(group);
//! })?;
//! committer.submit(7, vec![Change::put("note/3", "salt")])?;
//! committer.flush();
//! let group = committed.recv()?;
//! assert_eq!((group[0].ticket, &group[0].result), (7, &Ok(())));
//! assert_eq!(store.get(b"note/3")?, Some("salt".into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! - A batch is applied in whole or not at all, also across a kill or a loss of power; the last change of a key in it wins.
//! - After [`Store::commit`] of a [`RedbStore`] has returned `Ok`, the batch is on the disk as far as the operating system
//!   and the disk say so.
//! - Every reader sees the store as one commit left it, never one that is half done. Keys come in the order of their bytes.
//! - Every ticket of a [`Committer`] is answered once, in the order of submission. A batch that is answered with `Ok` and all
//!   that were submitted before it and answered with `Ok` are on the disk.
//! - A second opening of a file, a file that is no store and one that is damaged are told apart, and left as they are.
//! - No thread outlives its [`Committer`].
//!
//! # Non-guarantees
//!
//! - That a batch whose commit failed is not there. After a failure of the disk it is there in whole or not at all, and who
//!   opens the file again can see which.
//! - That a [`RedbStore`] goes on after the disk has failed, or was full: what the system still holds in memory then need not
//!   be what is on the disk, so it reads what was written, and writes nothing ([`StoreError::Broken`]) until the file is
//!   opened again.
//! - A defence against who chooses what is written, *and* when the machine loses power, *and* in which order the disk writes:
//!   checksums tell a half-written commit, and are no cryptographic hashes.
//! - Secrecy: values are kept as they are given, in a file that only its owner may read.
//!
//! # Limits
//!
//! - A key has at most [`MAX_KEY`] bytes, a value [`MAX_VALUE`], and a batch [`MAX_BATCH`] in all.
//! - A [`RedbStore`] keeps at most [`RedbStore::CACHE`] bytes of its file in memory, beside what a batch changes. Opening reads
//!   the whole file and checks it.
//! - A group of a [`Committer`] has at most [`Committer::GROUP_BATCHES`] batches, and [`Committer::GROUP_BYTES`] or one batch.
//!   What waits is for whoever submits to bound: [`Committer::waiting`].

mod change;
mod committer;
mod error;
mod memory;
mod redb_store;
mod store;

pub use change::{Change, MAX_BATCH, MAX_KEY, MAX_VALUE};
pub use committer::{Committed, Committer, Stopped, Totals};
pub use error::{OpenError, StoreError};
pub use memory::MemoryStore;
pub use redb_store::RedbStore;
pub use store::Store;
