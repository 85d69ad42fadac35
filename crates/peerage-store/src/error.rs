//! What can go wrong.

use std::io::ErrorKind;
use std::path::PathBuf;

/// Why a store did not read or write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A key is too long. Nothing of its batch is written.
    #[error("a key of {length} bytes, the limit is {limit}")]
    KeyTooLong {
        /// Its length, in bytes.
        length: usize,
        /// [`crate::MAX_KEY`].
        limit: usize,
    },
    /// A value is too long. Nothing of its batch is written.
    #[error("a value of {length} bytes, the limit is {limit}")]
    ValueTooLong {
        /// Its length, in bytes.
        length: usize,
        /// [`crate::MAX_VALUE`].
        limit: usize,
    },
    /// A batch has too much in it. Nothing of it is written.
    #[error("a batch of {length} bytes, the limit is {limit}")]
    BatchTooLong {
        /// Its keys and values, in bytes.
        length: usize,
        /// [`crate::MAX_BATCH`].
        limit: usize,
    },
    /// The file system failed. A batch is there in whole or not at all; which, only who opens the file again can say.
    #[error("the file system failed: {why}")]
    Io {
        /// The kind of failure: [`ErrorKind::StorageFull`] for a full disk.
        kind: ErrorKind,
        /// What the file system said.
        why: String,
    },
    /// The file has been changed by somebody else.
    #[error("the file is damaged: {why}")]
    Damaged {
        /// What does not hold.
        why: String,
    },
    /// An earlier operation failed, so nothing is written until the store is opened again. What was written before can be
    /// read.
    #[error("the store has failed before and must be opened again: {why}")]
    Broken {
        /// What is known of it.
        why: String,
    },
}

/// Why a file was not opened as a store. It is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Somebody has it open, here or in another process.
    #[error("{} is in use", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is not a store: {why}", .path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is, or what it lacks.
        why: String,
    },
    /// It was a store, and has been changed, or cut, by somebody else.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        why: String,
    },
    /// It is of another version of the file format.
    #[error("{} has version {found} of the file format, which is not read here", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// The file system failed.
    #[error("cannot {action} {}: {why}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The kind of failure.
        kind: ErrorKind,
        /// What the file system said.
        why: String,
    },
}
