//! Who looks on: what is run once and in order, streams in order and within their credit, calls answered once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use peerage_machine::Instant;
use peerage_rpc::{Event, Limits, Packet, SessionId, StreamKey};
use peerage_sim::{NodeId, Sent, Watch};
use peerage_wire::proto::rpc::v1 as proto;

use super::Actor;
use super::wire::{self, Body};

/// One direction between two nodes, and a stream of it: its call, whose that is, and whether it is bulk data.
type Way = (NodeId, NodeId, u64, bool, bool);

#[derive(Default)]
pub(crate) struct Ledger {
    limits: Limits,
    /// The last that was run, by node and caller.
    last: BTreeMap<(NodeId, SessionId), u64>,
    /// The next message of each stream.
    next: BTreeMap<(NodeId, StreamKey), u64>,
    /// The highest item that was sent, by way and lane: what comes again does not count again.
    sent: BTreeMap<(NodeId, NodeId, bool), u64>,
    /// Messages that were sent and granted.
    credit: BTreeMap<Way, i64>,
    calls: BTreeSet<(NodeId, NodeId, u64)>,
    replies: BTreeSet<(NodeId, NodeId, u64)>,
    wrong: Option<String>,
}

impl Ledger {
    /// Requests that were sent and have no reply.
    pub(crate) fn unanswered(&self) -> Vec<(NodeId, NodeId, u64)> {
        self.calls.difference(&self.replies).copied().collect()
    }

    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn items(&mut self, way: Way, count: u32) {
        let first = i64::from(self.limits.stream_messages);
        let left = self.credit.entry(way).or_insert(first);
        *left -= i64::from(count);
        if *left < 0 {
            self.wrong(format!("{way:?} is over its credit"));
        }
    }

    fn message(&mut self, node: NodeId, stream: StreamKey, number: u64) {
        let next = self.next.entry((node, stream)).or_default();
        let expected = *next;
        *next = number + 1;
        if number != expected {
            self.wrong(format!("{stream:?} at {node} has message {number}, {expected} is next"));
        }
    }

    fn packet(&mut self, from: NodeId, to: NodeId, packet: proto::Packet) {
        let Some(body) = packet.body.filter(|_| packet.seq > 0) else { return };
        let highest = self.sent.entry((from, to, packet.bulk)).or_default();
        if packet.seq <= *highest {
            return;
        }
        *highest = packet.seq;
        match body {
            Body::Items(items) => {
                self.items((from, to, items.call, items.to_caller, packet.bulk), items.count);
            }
            Body::Credit(credit) => {
                let (first, messages) = (i64::from(self.limits.stream_messages), i64::from(credit.messages));
                let way = (to, from, credit.call, !credit.to_caller, credit.bulk);
                *self.credit.entry(way).or_insert(first) += messages;
            }
            Body::Call(call) if call.flags & 1 == 0 => {
                self.calls.insert((from, to, packet.seq));
            }
            Body::Reply(reply) if !self.replies.insert((to, from, reply.to)) => {
                self.wrong(format!("{from} answers call {} of {to} twice", reply.to));
            }
            _ => {}
        }
    }
}

/// A watch with a ledger that can be asked afterwards.
pub(crate) struct Watching(pub(crate) Rc<RefCell<Ledger>>);

impl Watching {
    pub(crate) fn new(limits: Limits) -> (Self, Rc<RefCell<Ledger>>) {
        let ledger = Rc::new(RefCell::new(Ledger { limits, ..Ledger::default() }));
        (Self(Rc::clone(&ledger)), ledger)
    }
}

fn numbers(is_bulk: bool, count: u32, mut items: Bytes) -> Vec<u64> {
    let number = |message: &[u8]| message.first_chunk().map_or(u64::MAX, |head| u64::from_be_bytes(*head));
    if is_bulk {
        return vec![number(&items)];
    }
    (0..count)
        .map(|_| match prost::decode_length_delimiter(&mut items) {
            Ok(len) if len <= items.len() => number(&items.split_to(len)),
            _ => u64::MAX,
        })
        .collect()
}

impl Watch<Actor> for Watching {
    fn emitted(&mut self, _: Instant, node: NodeId, event: Event) -> Option<Event> {
        let mut ledger = self.0.borrow_mut();
        match &event {
            Event::Run(run) => {
                let last = ledger.last.insert((node, run.caller.session), run.origin).unwrap_or(0);
                if run.origin <= last {
                    ledger.wrong(format!("call {} of {:?} is run after {last}", run.origin, run.caller));
                }
            }
            Event::Data { stream, count, items } => {
                for number in numbers(stream.is_bulk, *count, items.clone()) {
                    ledger.message(node, *stream, number);
                }
            }
            _ => {}
        }
        Some(event)
    }

    fn sent(&mut self, _: Instant, sent: Sent<'_, Packet>) {
        let mut ledger = self.0.borrow_mut();
        for packet in wire::read(sent.message) {
            ledger.packet(sent.from, sent.to, packet);
        }
    }

    fn called(&mut self, _: Instant, _: NodeId, _: &Actor) -> Result<(), String> {
        self.0.borrow_mut().wrong.take().map_or(Ok(()), Err)
    }
}
