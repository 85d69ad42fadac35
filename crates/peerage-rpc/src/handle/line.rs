//! The way from the handles to the machine, whichever it is.

use std::sync::Arc;

use bytes::Bytes;
use peerage_machine::{Machine, Now, OutboxOf, Write};
use peerage_net::Hosted;
use peerage_wire::PeerId;

use super::desk::{Desk, Expected, theirs};
use crate::broker::BrokerMachine;
use crate::event::{Answer, Event, RunKey, SendError, SessionKey, StreamKey};
use crate::packet::{Destination, Packet};
use crate::party::{NotPlaced, PartyMachine, Placed, Placing};
use crate::status::Status;

/// Whom a call goes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Whoever is at the other end of our session.
    Peer,
    /// A node, by its key.
    Node(PeerId),
    /// Any node of a group.
    Group(Bytes),
    /// From a broker: one of its sessions.
    Session(SessionKey),
}

/// A call that ran here is over.
pub(super) struct Done {
    pub(super) run: RunKey,
    pub(super) result: Result<Bytes, Status>,
    /// What is to be written with it, where there is a journal.
    pub(super) writes: Vec<Write>,
    /// Something flowed beside it.
    pub(super) has_streams: bool,
    /// The caller takes bulk data, and there is none.
    pub(super) has_no_bulk: bool,
}

/// What the machines of parties and brokers have in common.
pub(super) trait Engine:
    Machine<Message = Packet, Event = Event, Answer = Answer> + Send + 'static
{
    fn place(
        &mut self,
        now: Now,
        way: &Way,
        placing: Placing,
        out: &mut OutboxOf<Self>,
    ) -> Result<Placed, NotPlaced>;
    fn take_back(&mut self, placed: Placed, out: &mut OutboxOf<Self>);
    /// Ends these calls; what flowed beside them has ended.
    fn done(&mut self, now: Now, done: &mut Vec<Done>, out: &mut OutboxOf<Self>);
    fn send(&mut self, stream: StreamKey, message: Bytes, out: &mut OutboxOf<Self>) -> Result<(), SendError>;
    fn finish(&mut self, stream: StreamKey, status: Option<Status>, out: &mut OutboxOf<Self>);
    fn grant(&mut self, stream: StreamKey, messages: u32, bytes: u64, out: &mut OutboxOf<Self>);
}

impl Engine for PartyMachine {
    fn place(
        &mut self,
        now: Now,
        way: &Way,
        mut placing: Placing,
        out: &mut OutboxOf<Self>,
    ) -> Result<Placed, NotPlaced> {
        placing.to = match way {
            Way::Peer | Way::Session(_) => Destination::Peer,
            Way::Node(node) => Destination::Node(*node),
            Way::Group(group) => Destination::Group(group.clone()),
        };
        self.call(now, placing, out)
    }

    fn take_back(&mut self, placed: Placed, out: &mut OutboxOf<Self>) {
        self.cancel(placed, out);
    }

    fn done(&mut self, now: Now, done: &mut Vec<Done>, out: &mut OutboxOf<Self>) {
        self.complete_all(now, done.drain(..).map(|done| (done.run, done.result)), out);
    }

    fn send(&mut self, stream: StreamKey, message: Bytes, out: &mut OutboxOf<Self>) -> Result<(), SendError> {
        Self::send(self, stream, message, out)
    }

    fn finish(&mut self, stream: StreamKey, status: Option<Status>, out: &mut OutboxOf<Self>) {
        Self::finish(self, stream, status, out);
    }

    fn grant(&mut self, stream: StreamKey, messages: u32, bytes: u64, out: &mut OutboxOf<Self>) {
        Self::grant(self, stream, messages, bytes, out);
    }
}

impl Engine for BrokerMachine {
    fn place(
        &mut self,
        now: Now,
        way: &Way,
        placing: Placing,
        out: &mut OutboxOf<Self>,
    ) -> Result<Placed, NotPlaced> {
        match way {
            Way::Session(key) => self.call(now, *key, placing, out),
            Way::Node(node) => self.call_node(now, node, placing, out),
            Way::Group(group) => self.call_group(now, group, placing, out),
            Way::Peer => Err(NotPlaced::NotOpen(Status::internal("a broker has no broker"))),
        }
    }

    fn take_back(&mut self, placed: Placed, out: &mut OutboxOf<Self>) {
        self.cancel(placed, out);
    }

    fn done(&mut self, now: Now, done: &mut Vec<Done>, out: &mut OutboxOf<Self>) {
        self.complete_all(now, done.drain(..).map(|done| (done.run, done.result, done.writes)), out);
    }

    fn send(&mut self, stream: StreamKey, message: Bytes, out: &mut OutboxOf<Self>) -> Result<(), SendError> {
        Self::send(self, stream, message, out)
    }

    fn finish(&mut self, stream: StreamKey, status: Option<Status>, out: &mut OutboxOf<Self>) {
        Self::finish(self, stream, status, out);
    }

    fn grant(&mut self, stream: StreamKey, messages: u32, bytes: u64, out: &mut OutboxOf<Self>) {
        Self::grant(self, stream, messages, bytes, out);
    }
}

/// What calls, streams and handlers need of an instance. Each method takes the machine's lock once.
pub(super) trait Line: Send + Sync + 'static {
    fn desk(&self) -> &Arc<Desk>;
    /// Makes a call; `expected` is taken when it is made.
    fn place(&self, way: &Way, placing: Placing, expected: &mut Expected) -> Result<Placed, NotPlaced>;
    fn cancel(&self, placed: Placed);
    fn complete(&self, done: &mut Vec<Done>);
    fn send(&self, stream: StreamKey, message: Bytes) -> Result<(), SendError>;
    /// Sends messages from the front until the stream takes no more; gives how many went.
    fn send_all(&self, stream: StreamKey, messages: &[Bytes]) -> (usize, Result<(), SendError>);
    fn finish(&self, stream: StreamKey, status: Option<Status>);
    fn grant(&self, stream: StreamKey, messages: u32, bytes: u64);
}

/// A hosted machine and its desk.
pub(super) struct Core<E: Engine> {
    pub(super) hosted: Hosted<E>,
    pub(super) desk: Arc<Desk>,
}

pub(super) fn closed() -> Status {
    Status::unavailable("this end is closed")
}

impl<E: Engine> Line for Core<E> {
    fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    fn place(&self, way: &Way, placing: Placing, expected: &mut Expected) -> Result<Placed, NotPlaced> {
        let shape = placing.shape;
        let placed = self.hosted.call(|machine, now, out| {
            let placed = machine.place(now, way, placing, out)?;
            // With the machine locked, so before any answer.
            self.desk.expect(placed, shape, std::mem::take(expected));
            Ok(placed)
        });
        placed.unwrap_or_else(|_| Err(NotPlaced::NotOpen(closed())))
    }

    // A closed instance has ended all of them already.

    fn cancel(&self, placed: Placed) {
        let _ = self.hosted.call(|machine, _, out| machine.take_back(placed, out));
    }

    fn complete(&self, done: &mut Vec<Done>) {
        let _ = self.hosted.call(|machine, now, out| {
            for done in done.iter().filter(|done| done.has_no_bulk) {
                machine.finish(theirs(done.run, true), None, out);
            }
            machine.done(now, done, out);
        });
    }

    fn send(&self, stream: StreamKey, message: Bytes) -> Result<(), SendError> {
        let sent = self.hosted.call(|machine, _, out| machine.send(stream, message, out));
        sent.unwrap_or(Err(SendError::Closed))
    }

    fn send_all(&self, stream: StreamKey, messages: &[Bytes]) -> (usize, Result<(), SendError>) {
        let sent = self.hosted.call(|machine, _, out| {
            for (at, message) in messages.iter().enumerate() {
                if let Err(error) = machine.send(stream, message.clone(), out) {
                    return (at, Err(error));
                }
            }
            (messages.len(), Ok(()))
        });
        sent.unwrap_or((0, Err(SendError::Closed)))
    }

    fn finish(&self, stream: StreamKey, status: Option<Status>) {
        let _ = self.hosted.call(|machine, _, out| machine.finish(stream, status, out));
    }

    fn grant(&self, stream: StreamKey, messages: u32, bytes: u64) {
        let _ = self.hosted.call(|machine, _, out| machine.grant(stream, messages, bytes, out));
    }
}
