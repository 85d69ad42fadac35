//! Where what flows to us waits to be read.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::status::Status;

/// Locks; data of ours stays whole whoever panics.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Messages of a stream, or pieces of bulk data, that nobody has taken yet: at most what credit was given for.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<(u32, Bytes)>,
    end: Option<Result<(), Status>>,
    reader: Option<Waker>,
}

/// What a reader finds.
pub(super) enum Found {
    /// The chunks are where it wanted them.
    Chunks,
    /// That was all.
    End(Result<(), Status>),
}

impl Inbox {
    pub(super) fn push(&self, count: u32, items: Bytes) {
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        state.chunks.push_back((count, items));
        wake(state);
    }

    /// Nothing follows; the first end counts.
    pub(super) fn end(&self, end: Result<(), Status>) {
        let mut state = lock(&self.state);
        if state.end.is_none() {
            state.end = Some(end);
            wake(state);
        }
    }

    /// What has come is of no use: that is the end, whatever was to follow.
    pub(super) fn fail(&self, status: &Status) {
        let mut state = lock(&self.state);
        state.chunks.clear();
        state.end = Some(Err(status.clone()));
    }

    /// Takes all that there is, under one lock.
    pub(super) fn poll_take(&self, cx: &Context<'_>, into: &mut VecDeque<(u32, Bytes)>) -> Poll<Found> {
        let mut state = lock(&self.state);
        if !state.chunks.is_empty() {
            into.append(&mut state.chunks);
            return Poll::Ready(Found::Chunks);
        }
        if let Some(end) = &state.end {
            return Poll::Ready(Found::End(end.clone()));
        }
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}
