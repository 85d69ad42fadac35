//! What a batch is made of.

use bytes::Bytes;

use crate::StoreError;

/// The longest key, in bytes. Four keys and more fit a page of a [`crate::RedbStore`], so that its tree stays flat.
pub const MAX_KEY: usize = 1024;
/// The longest value, in bytes.
pub const MAX_VALUE: usize = 16 << 20;
/// The most that the keys and values of one batch take, in bytes: a batch is in memory until it is on the disk.
pub const MAX_BATCH: usize = 64 << 20;

/// One change of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, at most [`MAX_KEY`] bytes.
    pub key: Bytes,
    /// The new value, at most [`MAX_VALUE`] bytes, or `None` to delete. It is no error that there is nothing to delete.
    pub value: Option<Bytes>,
}

impl Change {
    /// `key` has this value now.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    /// `key` has no value now.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: None }
    }

    /// Bytes of key and value.
    pub(crate) fn len(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Bytes of a batch within the limits.
pub(crate) fn check(changes: &[Change]) -> Result<usize, StoreError> {
    let mut batch = 0_usize;
    for change in changes {
        let (key, value) = (change.key.len(), change.value.as_ref().map_or(0, Bytes::len));
        if key > MAX_KEY {
            return Err(StoreError::KeyTooLong { length: key, limit: MAX_KEY });
        }
        if value > MAX_VALUE {
            return Err(StoreError::ValueTooLong { length: value, limit: MAX_VALUE });
        }
        batch = batch.saturating_add(change.len());
    }
    if batch > MAX_BATCH {
        return Err(StoreError::BatchTooLong { length: batch, limit: MAX_BATCH });
    }
    Ok(batch)
}
