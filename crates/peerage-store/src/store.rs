//! What a store does.

use bytes::Bytes;

use crate::{Change, StoreError};

/// An ordered map of bytes to bytes that is written in batches. Any number of threads may use one at a time.
pub trait Store: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Keys with this prefix and their values, in the order of the keys' bytes: those after `after`, or from the first, and at
    /// most `limit` of them. Whoever passes the last key of one page as `after` gets the next; fewer than `limit`
    /// are the last.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan_from(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// All keys with this prefix and their values, in the order of the keys' bytes, as one commit left them.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.scan_from(prefix, None, usize::MAX)
    }

    /// Writes all changes or none; of several changes of one key the last counts. What is written survives what the store
    /// promises to survive when this returns. One commit waits for another.
    ///
    /// # Errors
    /// [`StoreError`].
    fn commit(&self, changes: &[Change]) -> Result<(), StoreError>;
}
