//! What the application of the broker has for a party.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use super::command::decode_reply;
use crate::status::Status;

/// What the broker offers now, and what becomes of that. The newest counts; who looks late misses what was between.
#[derive(Clone)]
pub struct Offers<T> {
    watched: watch::Receiver<Option<Bytes>>,
    types: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Offers<T> {
    pub(super) fn new(mut watched: watch::Receiver<Option<Bytes>>) -> Self {
        // What there is already counts as new.
        watched.mark_changed();
        Self { watched, types: PhantomData }
    }

    /// What is offered now; `None` when nothing has come yet.
    ///
    /// # Errors
    /// It is something else than a `T`.
    pub fn current(&self) -> Result<Option<T>, Status> {
        self.watched.borrow().clone().map(decode_reply).transpose()
    }

    /// What is offered now, as it is on the wire; `None` when nothing has come yet.
    pub fn bytes(&self) -> Option<Bytes> {
        self.watched.borrow().clone()
    }

    /// The next offers that this has not given; `None` when the party is closed and none will come.
    ///
    /// # Errors
    /// They are something else than a `T`.
    pub async fn next(&mut self) -> Option<Result<T, Status>> {
        loop {
            self.watched.changed().await.ok()?;
            let now = self.watched.borrow_and_update().clone();
            if let Some(bytes) = now {
                return Some(decode_reply(bytes));
            }
        }
    }
}

impl<T> fmt::Debug for Offers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offers").finish_non_exhaustive()
    }
}
