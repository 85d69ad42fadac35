//! Where the machine leaves what the application is to hear.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use peerage_machine::{CallId, OpId, StoreError, Write};
use peerage_net::{Sink, StoreAnswer};
use tokio::sync::{Notify, oneshot, watch};

use super::book::Book;
use super::events::Event;
use super::queue::{Queue, lock};
use crate::mesh::{BOOK, MeshAnswer, MeshConfig, MeshEvent, MeshMachine, Message};

/// Events that wait for a slow subscriber. Few are worth having late.
const EVENTS: usize = 4096;
/// What an event takes beside its message.
const EVENT_BYTES: u64 = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Alone,
    Connected,
    Closed,
}

/// Between the machine and its handles.
pub(super) struct Desk {
    pub(super) inbox: Queue<Message>,
    pub(super) standing: watch::Sender<Standing>,
    /// Told when a broadcast that was refused as full may be tried again.
    pub(super) room: Notify,
    calls: Mutex<BTreeMap<CallId, oneshot::Sender<MeshAnswer>>>,
    subscribers: Mutex<Vec<Weak<Queue<Event>>>>,
    inbox_bytes: u64,
}

impl Desk {
    pub(super) fn new(config: &MeshConfig) -> Self {
        Self {
            inbox: Queue::new(config.inbox_messages, config.inbox_bytes),
            standing: watch::Sender::new(Standing::Alone),
            room: Notify::new(),
            calls: Mutex::default(),
            subscribers: Mutex::default(),
            inbox_bytes: config.inbox_bytes,
        }
    }

    pub(super) fn subscribe(&self) -> Arc<Queue<Event>> {
        let queue = Arc::new(Queue::new(EVENTS, self.inbox_bytes));
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        subscribers.push(Arc::downgrade(&queue));
        if *self.standing.borrow() == Standing::Closed {
            queue.close();
        }
        queue
    }

    /// Where the answer to a call will come. Called while the machine is locked, so before any answer.
    pub(super) fn expect(&self, call: CallId) -> oneshot::Receiver<MeshAnswer> {
        let (answer, answered) = oneshot::channel();
        lock(&self.calls).insert(call, answer);
        answered
    }

    pub(super) fn forget(&self, call: CallId) {
        lock(&self.calls).remove(&call);
    }

    fn tell(&self, event: &Event) {
        let mut subscribers = lock(&self.subscribers);
        subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(queue) => {
                let bytes = if let Event::Message(message) = event { message.len() as u64 } else { 0 };
                queue.push(event.clone(), bytes + EVENT_BYTES);
                true
            }
            None => false,
        });
    }
}

/// The machine's side of the desk.
pub(super) struct Counter {
    pub(super) desk: Arc<Desk>,
    pub(super) book: Option<Arc<Book>>,
}

impl Sink<MeshMachine> for Counter {
    fn event(&mut self, event: MeshEvent) {
        let desk = &self.desk;
        let event = match event {
            MeshEvent::Room => return desk.room.notify_waiters(),
            MeshEvent::Connected => {
                desk.standing.send_replace(Standing::Connected);
                Event::Connected
            }
            MeshEvent::Isolated => {
                desk.standing.send_replace(Standing::Alone);
                Event::Isolated
            }
            MeshEvent::NeighbourUp { peer } => Event::NeighbourUp { peer },
            MeshEvent::NeighbourLost { peer, why } => Event::NeighbourLost { peer, why },
            MeshEvent::Missed { origin, missed } => Event::Missed { origin, missed },
            MeshEvent::Message(message) => {
                // In this order: whoever hears the event finds the message.
                let bytes = message.len() as u64 + EVENT_BYTES;
                let subscribers = lock(&desk.subscribers);
                if subscribers.is_empty() {
                    // Nobody can subscribe in between, look, and then wait for what came meanwhile.
                    return desk.inbox.push(message, bytes);
                }
                drop(subscribers);
                desk.inbox.push(message.clone(), bytes);
                Event::Message(message)
            }
        };
        desk.tell(&event);
    }

    fn answer(&mut self, call: CallId, answer: MeshAnswer) {
        if let Some(waiting) = lock(&self.desk.calls).remove(&call) {
            // Whoever asked may have stopped waiting.
            let _ = waiting.send(answer);
        }
    }

    /// Answered when it is handed on: a mesh does not wait for its book, and needs it at its next start alone.
    fn store(&mut self, _: OpId, batch: Vec<Write>) -> StoreAnswer {
        let Some(book) = &self.book else { return StoreAnswer::Now(Err(StoreError::Absent)) };
        let mut values = batch.into_iter().filter(|write| write.key == BOOK).filter_map(|write| write.value);
        let handed_on = values.try_for_each(|value| book.write_soon(value));
        StoreAnswer::Now(handed_on.map_err(|error| StoreError::Failed(error.to_string())))
    }

    fn closed(&mut self) {
        let desk = &self.desk;
        desk.standing.send_replace(Standing::Closed);
        desk.inbox.close();
        desk.room.notify_waiters();
        lock(&desk.calls).clear();
        for subscriber in lock(&desk.subscribers).iter().filter_map(Weak::upgrade) {
            subscriber.close();
        }
    }
}
