//! Questions of the application's that take a while.

use std::collections::BTreeMap;

use crate::{CallId, Instant, Timers};

/// What is pending: for each question its id, its deadline, and what the machine needs to go on with it.
///
/// ```
/// use std::time::Duration;
/// use peerage_machine::{Calls, Instant};
///
/// let mut calls = Calls::new(1);
/// let call = calls.open(Instant::START + Duration::from_secs(5), "who has it?").unwrap();
/// assert_eq!(calls.open(Instant::START, "another").unwrap_err().to_string(), "1 of 1 calls are pending");
/// assert_eq!(calls.close(call), Some("who has it?"));
/// assert_eq!(calls.close(call), None); // a late result of something forgotten
/// ```
///
/// Ids count from 0 and are not used again. Every call has a deadline, so none is pending for ever; like with
/// [`Timers`], a deadline that [`Calls::expire`] has already reached is taken as one microsecond after it, so that a
/// loop over `expire` ends.
#[derive(Clone, Debug)]
pub struct Calls<C> {
    pending: BTreeMap<CallId, C>,
    deadlines: Timers<CallId>,
    next: u64,
    limit: usize,
}

/// No room for another call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pending} of {limit} calls are pending")]
pub struct CallsFull {
    /// How many are.
    pub pending: usize,
    /// How many may be.
    pub limit: usize,
}

impl<C> Calls<C> {
    /// At most `limit` pending at once.
    pub fn new(limit: usize) -> Self {
        Self { pending: BTreeMap::new(), deadlines: Timers::new(), next: 0, limit }
    }

    /// A new question, pending until [`Calls::close`] or [`Calls::expire`] gives its continuation back.
    ///
    /// # Errors
    /// [`CallsFull`] at the limit.
    pub fn open(&mut self, deadline: Instant, continuation: C) -> Result<CallId, CallsFull> {
        if self.pending.len() >= self.limit {
            return Err(CallsFull { pending: self.pending.len(), limit: self.limit });
        }
        let call = CallId(self.next);
        self.next += 1;
        self.pending.insert(call, continuation);
        self.deadlines.arm(call, deadline);
        Ok(call)
    }

    /// Ends a question: answered, or cancelled. `None` when it is not pending any more.
    pub fn close(&mut self, call: CallId) -> Option<C> {
        self.deadlines.cancel(&call);
        self.pending.remove(&call)
    }

    /// Takes out the first question whose deadline has come, in the order of (deadline, id).
    pub fn expire(&mut self, now: Instant) -> Option<(CallId, C)> {
        let call = self.deadlines.expire(now)?;
        self.pending.remove(&call).map(|continuation| (call, continuation))
    }

    /// The first deadline.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.deadline()
    }

    /// The continuation of a pending question.
    pub fn get(&self, call: CallId) -> Option<&C> {
        self.pending.get(&call)
    }

    /// The continuation of a pending question, to change it.
    pub fn get_mut(&mut self, call: CallId) -> Option<&mut C> {
        self.pending.get_mut(&call)
    }

    /// What is pending, in the order in which it was asked.
    pub fn iter(&self) -> impl Iterator<Item = (CallId, &C)> {
        self.pending.iter().map(|(call, continuation)| (*call, continuation))
    }

    /// Moves the deadline of a pending question; whether it is pending.
    pub fn extend(&mut self, call: CallId, deadline: Instant) -> bool {
        let pending = self.pending.contains_key(&call);
        if pending {
            self.deadlines.arm(call, deadline);
        }
        pending
    }

    /// How many are pending.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether [`Calls::open`] would fail.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= self.limit
    }
}
