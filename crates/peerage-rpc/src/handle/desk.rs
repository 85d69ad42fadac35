//! Between a machine and its handles: what the machine leaves there, and who waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use peerage_machine::CallId;
use tokio::sync::{Notify, oneshot};

use super::inbox::{Inbox, lock};
use super::line::{Way, closed};
use super::news::News;
use super::sealed::Seal;
use super::seals::Keys;
use super::sends::{FailedSend, Sends};
use crate::event::{Answer, Event, Run, RunKey, SessionKey, StreamKey};
use crate::packet::{Limits, Shape};
use crate::party::Placed;
use crate::rising::Rising;
use crate::status::Status;

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Something for the worker, in the order in which it happened.
pub(super) enum Work {
    Run(Box<Run>),
    Cancelled(RunKey),
    /// Somebody's answer, to be given to a function of theirs.
    Callback(Box<dyn FnOnce() + Send>),
    Task(Task),
    /// Of a broker's sessions.
    News(News),
}

/// Where the answer to a call goes.
#[derive(Default)]
pub(super) enum ReplyTo {
    /// The end of a stream says it.
    #[default]
    Nobody,
    Waiting(oneshot::Sender<Answer>),
    Callback(Callback),
}

/// A function that is called with an answer once, whatever happens.
pub(super) struct Callback(Option<Box<dyn FnOnce(Answer) + Send>>);

impl Callback {
    pub(super) fn new(callback: impl FnOnce(Answer) + Send + 'static) -> Self {
        Self(Some(Box::new(callback)))
    }

    pub(super) fn call(mut self, answer: Answer) {
        if let Some(callback) = self.0.take() {
            callback(answer);
        }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            // The instance is closed, and nobody else will call it. A panic of it has been printed.
            drop(catch_unwind(AssertUnwindSafe(|| callback(Err(closed())))));
        }
    }
}

/// What a call that is being made will need.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) reply: ReplyTo,
    pub(super) data: Flow,
    pub(super) bulk: Flow,
    pub(super) seal: Seal,
}

/// Both directions of one stream of a call, where they have an end here.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) inbox: Option<Arc<Inbox>>,
    /// Told when the stream takes more, or nothing any more.
    pub(super) room: Option<Arc<Notify>>,
}

impl Flow {
    fn is_used(&self) -> bool {
        self.inbox.is_some() || self.room.is_some()
    }

    fn end(&self, end: Result<(), Status>) {
        if let Some(inbox) = &self.inbox {
            inbox.end(end);
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(room) = &self.room {
            room.notify_one();
        }
    }
}

struct Slot {
    reply: ReplyTo,
    /// Where something flows beside it.
    streams: Option<Placed>,
    seal: Seal,
}

#[derive(Default)]
struct Queue {
    work: Vec<Work>,
    /// Handlers that can go on.
    woken: Vec<u64>,
    closed: bool,
}

/// Those who wait for room to make a call one way or the other: the first of them tries, the others stand behind.
#[derive(Default)]
pub(super) struct Turnstile {
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// Between the machine and its handles.
#[derive(Default)]
pub(super) struct Desk {
    queue: Mutex<Queue>,
    more: Notify,
    calls: Mutex<Rising<Slot>>,
    flows: Mutex<BTreeMap<StreamKey, Flow>>,
    sends: Mutex<Sends>,
    /// Told when one-way calls are done.
    sends_done: Notify,
    /// Told when a call that was refused as one too many may be made.
    pub(super) slots: Notify,
    turnstiles: Mutex<BTreeMap<Way, Arc<Turnstile>>>,
    has_turnstiles: AtomicBool,
    limits: Mutex<Limits>,
    pub(super) seals: Keys,
}

impl Desk {
    // --- the worker's queue ---

    pub(super) fn push(&self, work: Work) {
        let mut queue = lock(&self.queue);
        if queue.closed {
            drop(queue);
            // Nobody takes it: a callback is called where it is dropped.
            return drop(work);
        }
        let was_empty = queue.work.is_empty() && queue.woken.is_empty();
        queue.work.push(work);
        drop(queue);
        if was_empty {
            self.more.notify_one();
        }
    }

    pub(super) fn woken(&self, handler: u64) {
        let mut queue = lock(&self.queue);
        let was_empty = queue.work.is_empty() && queue.woken.is_empty();
        queue.woken.push(handler);
        drop(queue);
        if was_empty {
            self.more.notify_one();
        }
    }

    /// Waits for work and takes all of it; false when there is no more for ever, but for what was taken.
    pub(super) async fn take(&self, work: &mut Vec<Work>, woken: &mut Vec<u64>) -> bool {
        loop {
            {
                let mut queue = lock(&self.queue);
                std::mem::swap(&mut queue.work, work);
                std::mem::swap(&mut queue.woken, woken);
                if queue.closed {
                    return false;
                }
            }
            if !work.is_empty() || !woken.is_empty() {
                return true;
            }
            self.more.notified().await;
        }
    }

    // --- calls ---

    /// A call was made. Called with the machine locked.
    pub(super) fn expect(&self, placed: Placed, shape: Shape, expected: Expected) {
        if shape.has(Shape::ONE_WAY) {
            lock(&self.sends).made(placed.session, placed.seq, expected.seal);
            return;
        }
        let Expected { reply, data, bulk, seal } = expected;
        let has_streams = shape.has_streams();
        if has_streams {
            let mut flows = lock(&self.flows);
            for (is_bulk, flow) in [(false, data), (true, bulk)] {
                if flow.is_used() {
                    flows.insert(placed.stream(is_bulk), flow);
                }
            }
        }
        lock(&self.calls).insert(placed.id.0, Slot { reply, streams: has_streams.then_some(placed), seal });
    }

    /// Something else was asked. Called with the machine locked.
    pub(super) fn expect_answer(&self, call: CallId, reply: oneshot::Sender<Answer>) {
        lock(&self.calls).insert(call.0, Slot { reply: ReplyTo::Waiting(reply), streams: None, seal: None });
    }

    /// Nobody waits for the answer any more.
    pub(super) fn forget(&self, placed: Placed) {
        lock(&self.calls).remove(placed.id.0);
        for is_bulk in [false, true] {
            self.end_flow(placed.stream(is_bulk), &Err(Status::cancelled("nobody waits for it any more")));
        }
    }

    fn end_flow(&self, stream: StreamKey, end: &Result<(), Status>) {
        let flow = lock(&self.flows).remove(&stream);
        if let Some(flow) = flow {
            flow.end(end.clone());
        }
    }

    pub(super) fn answer(&self, call: CallId, answer: Answer) {
        let Some(slot) = lock(&self.calls).remove(call.0) else { return };
        let answer = match &slot.seal {
            Some(seal) => seal.open_answer(answer),
            None => answer,
        };
        if let Some(placed) = slot.streams {
            let end = answer.as_ref().map(drop).map_err(Clone::clone);
            self.end_flow(placed.stream(false), &end);
            if end.is_err() {
                self.end_flow(placed.stream(true), &end);
            } else if let Some(flow) = lock(&self.flows).get(&placed.stream(true)) {
                // Bulk data may follow the reply; what goes the other way is not taken any more.
                flow.wake();
            }
        }
        match slot.reply {
            ReplyTo::Nobody => {}
            // Whoever asked may have stopped waiting.
            ReplyTo::Waiting(waiting) => drop(waiting.send(answer)),
            ReplyTo::Callback(callback) => self.push(Work::Callback(Box::new(move || callback.call(answer)))),
        }
    }

    // --- streams ---

    /// Where messages of a stream that came with a call wait, or have waited.
    pub(super) fn inbox(&self, stream: StreamKey) -> Option<Arc<Inbox>> {
        lock(&self.flows).get(&stream)?.inbox.clone()
    }

    /// Told when that stream, which goes out from here, takes more.
    pub(super) fn room_of(&self, stream: StreamKey) -> Arc<Notify> {
        let mut flows = lock(&self.flows);
        Arc::clone(flows.entry(stream).or_default().room.get_or_insert_default())
    }

    /// A call that ran here is over, or its bulk data is.
    pub(super) fn close_flow(&self, stream: StreamKey) {
        self.end_flow(stream, &Err(Status::cancelled("the call is over")));
    }

    // --- one-way calls ---

    /// Calls that are not answered, and one-way calls that are not done.
    pub(super) fn under_way(&self) -> usize {
        let sends = lock(&self.sends).under_way();
        sends + lock(&self.calls).len()
    }

    /// Waits until all one-way calls that were made before are done.
    pub(super) async fn flush(&self, session: Option<SessionKey>) -> Result<(), Status> {
        let marks = lock(&self.sends).until(session);
        loop {
            // Made before the look, so that no end is missed in between.
            let done = self.sends_done.notified();
            {
                let mut sends = lock(&self.sends);
                if sends.are_done(&marks) {
                    return sends.first_failure(session).map_or(Ok(()), Err);
                }
            }
            done.await;
        }
    }

    /// One-way calls that failed since this was asked.
    pub(super) fn take_failed(&self) -> Vec<FailedSend> {
        lock(&self.sends).take_failed()
    }

    // --- room for calls ---

    /// Where to stand for a call that way; `None` when nobody stands there.
    pub(super) fn standing(&self, way: &Way) -> Option<Arc<Turnstile>> {
        if !self.has_turnstiles.load(Ordering::Acquire) {
            return None;
        }
        lock(&self.turnstiles).get(way).cloned()
    }

    pub(super) fn stand(&self, way: &Way) -> Arc<Turnstile> {
        let mut turnstiles = lock(&self.turnstiles);
        self.has_turnstiles.store(true, Ordering::Release);
        Arc::clone(turnstiles.entry(way.clone()).or_default())
    }

    /// Somebody has gone through, or away.
    pub(super) fn leave(&self, way: &Way) {
        let mut turnstiles = lock(&self.turnstiles);
        // The map's.
        if turnstiles.get(way).is_some_and(|turnstile| Arc::strong_count(turnstile) <= 1) {
            turnstiles.remove(way);
        }
        self.has_turnstiles.store(!turnstiles.is_empty(), Ordering::Release);
    }

    pub(super) fn limits(&self) -> Limits {
        *lock(&self.limits)
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        *lock(&self.limits) = limits;
    }

    // --- the machine ---

    /// What every machine says; gives back what is of its own kind.
    pub(super) fn event(&self, event: Event) -> Option<Event> {
        match event {
            Event::Run(run) => {
                if run.shape.has_streams() {
                    let mut flows = lock(&self.flows);
                    for (flag, is_bulk) in [(Shape::STREAM_UP, false), (Shape::BULK_UP, true)] {
                        if run.shape.has(flag) {
                            let flow = Flow { inbox: Some(Arc::default()), room: None };
                            flows.insert(theirs(run.key, is_bulk), flow);
                        }
                    }
                }
                self.push(Work::Run(run));
            }
            Event::Cancelled(run) => self.push(Work::Cancelled(run)),
            Event::Data { stream, count, items } => {
                if let Some(inbox) = self.inbox(stream) {
                    inbox.push(count, items);
                }
            }
            Event::StreamEnded { stream, status } => {
                let end = status.map_or(Ok(()), |status| Err(*status));
                let inbox = self.inbox(stream);
                if let Some(inbox) = inbox {
                    inbox.end(end);
                }
            }
            Event::Room(stream) => {
                if let Some(flow) = lock(&self.flows).get(&stream) {
                    flow.wake();
                }
            }
            Event::Slots(_) => self.slots.notify_waiters(),
            Event::OneWayFailed { session, seq, status } => {
                lock(&self.sends).failed(session, seq, *status);
                self.sends_done.notify_waiters();
            }
            Event::OneWaysDone { session, up_to } => {
                lock(&self.sends).done(session, up_to);
                self.sends_done.notify_waiters();
            }
            other => return Some(other),
        }
        None
    }

    /// A session is over: what flowed in it ends, and one-way calls that are not known to be done may be or not.
    pub(super) fn session_closed(&self, session: SessionKey, status: &Status) {
        let first = StreamKey { session, call: 0, is_ours: false, is_bulk: false };
        let mut flows = lock(&self.flows);
        let keys: BTreeSet<_> =
            flows.range(first..).map(|(key, _)| *key).take_while(|key| key.session == session).collect();
        let ended: Vec<_> = keys.iter().filter_map(|key| flows.remove(key)).collect();
        drop(flows);
        for flow in ended {
            flow.end(Err(status.clone()));
        }
        lock(&self.sends).session_closed(session, status);
        self.sends_done.notify_waiters();
        self.slots.notify_waiters();
    }

    /// The instance is closed: nothing follows.
    pub(super) fn close(&self) {
        let calls: Vec<_> = lock(&self.calls).iter().map(|(call, _)| CallId(call)).collect();
        for call in calls {
            self.answer(call, Err(closed().may_have_run()));
        }
        let flows = std::mem::take(&mut *lock(&self.flows));
        for flow in flows.into_values() {
            flow.end(Err(closed()));
        }
        let sessions = lock(&self.sends).sessions();
        for session in sessions {
            self.session_closed(session, &closed());
        }
        lock(&self.queue).closed = true;
        self.more.notify_one();
        self.slots.notify_waiters();
        self.sends_done.notify_waiters();
    }
}

/// The stream of a call that came here.
pub(super) const fn theirs(run: RunKey, is_bulk: bool) -> StreamKey {
    StreamKey { session: run.session, call: run.seq, is_ours: false, is_bulk }
}

/// Names the answer that a call gets when nobody will answer it.
pub(super) fn answered(answer: Result<Answer, oneshot::error::RecvError>) -> Result<Bytes, Status> {
    answer.unwrap_or_else(|_| Err(closed().may_have_run()))
}
