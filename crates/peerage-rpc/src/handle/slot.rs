//! What a handler that runs and the worker that runs it have in common.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use peerage_machine::Write;

use super::desk::{Desk, Task};
use super::inbox::lock;

/// The place of one running handler.
pub(super) struct Slot {
    pub(super) number: u64,
    desk: Arc<Desk>,
    /// It is in the queue of those that can go on.
    is_queued: AtomicBool,
    is_cancelled: AtomicBool,
    /// Told when it is cancelled, whoever still looks at it then.
    pub(super) cancelled: tokio::sync::Notify,
    pub(super) writes: Mutex<Vec<Write>>,
    /// Bulk data that goes to the caller once the reply is there.
    pub(super) reply_bulk: Mutex<Option<Task>>,
}

impl Slot {
    pub(super) fn new(number: u64, desk: &Arc<Desk>) -> (Arc<Self>, Waker) {
        let slot = Arc::new(Self {
            number,
            desk: Arc::clone(desk),
            is_queued: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            cancelled: tokio::sync::Notify::new(),
            writes: Mutex::default(),
            reply_bulk: Mutex::default(),
        });
        let waker = Waker::from(Arc::clone(&slot));
        (slot, waker)
    }

    /// Whether only the worker, by the slot and its waker, still knows of it.
    pub(super) fn is_free(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 2
    }

    /// It is polled now: whatever wakes it from here on counts anew.
    pub(super) fn unqueue(&self) {
        self.is_queued.store(false, Ordering::Release);
    }

    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
        self.cancelled.notify_waiters();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Acquire)
    }

    pub(super) fn take_writes(&self) -> Vec<Write> {
        std::mem::take(&mut *lock(&self.writes))
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.desk.woken(self.number);
        }
    }
}
