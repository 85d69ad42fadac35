//! Small things that every module needs.

use std::cell::{Cell, RefCell};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::LocalKey;

use bytes::{Bytes, BytesMut};

use crate::link_handle::Command;

/// Locks. A panic elsewhere while it was locked leaves data that is still whole enough to close down with.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one read takes at most. What follows from it, signatures too, is done before any other link has its turn: a
/// record's worth of the smallest messages is 15 ms of checking, and that is enough.
pub(crate) const READ: usize = 64 << 10;
/// Reads in a row, while there is more and time for it.
pub(crate) const READS: usize = 4;
/// Room for them, behind what an earlier one left: less than a record.
pub(crate) const SCRATCH: usize = READS * READ + (66 << 10);

thread_local! {
    /// One read buffer for each thread, so that an idle link has none.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// And one for what is sealed and written, which a link that cannot write at once takes along.
    static WRITE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    /// For commands that a link takes from its mail.
    pub(crate) static COMMANDS: Cell<Vec<Command>> = const { Cell::new(Vec::new()) };
    /// For messages on their way to an instance.
    pub(crate) static BATCH: Cell<Vec<Bytes>> = const { Cell::new(Vec::new()) };
}

/// As many things as a thread keeps room for: a flood must not leave its room behind.
const KEPT: usize = 1024;

/// Lends this thread's room for such things, which is empty, and is emptied.
pub(crate) fn with_room<T, R>(
    room: &'static LocalKey<Cell<Vec<T>>>,
    use_it: impl FnOnce(&mut Vec<T>) -> R,
) -> R {
    // Whoever wants it inside gets another one.
    let mut lent = room.take();
    let result = use_it(&mut lent);
    lent.clear();
    if lent.capacity() <= KEPT {
        room.set(lent);
    }
    result
}

/// Takes this thread's write buffer, empty, or a new one.
pub(crate) fn take_write_buffer() -> BytesMut {
    WRITE
        .with(|buffer| buffer.try_borrow_mut().map(|mut buffer| std::mem::take(&mut *buffer)))
        .unwrap_or_default()
}

/// Gives it back.
pub(crate) fn give_write_buffer(mut written: BytesMut) {
    WRITE.with(|buffer| {
        if let Ok(mut buffer) = buffer.try_borrow_mut() {
            written.clear();
            *buffer = written;
        }
    });
}

/// Lends this thread's read buffer.
pub(crate) fn with_read_buffer<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => {
            if buffer.len() < SCRATCH {
                // Made of zeros, so that the system gives memory only for what is read into.
                *buffer = vec![0; SCRATCH];
            }
            use_it(&mut buffer)
        }
        // A link inside a link's turn: none does that today, and memory of its own serves as well.
        Err(_) => use_it(&mut vec![0; SCRATCH]),
    })
}
