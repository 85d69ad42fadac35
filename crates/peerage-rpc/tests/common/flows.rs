//! An application of streams and bulk data in all directions, which numbers what it sends and checks what it gets.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use peerage_machine::CallId;
use peerage_rpc::{Code, Destination, Event, Placed, RunKey, SendError, Shape, Status, StreamKey};
use peerage_sim::NodeId;

use super::{MS, World};

/// One direction of a stream at its sender.
#[derive(Debug)]
struct Producer {
    next: u64,
    total: u64,
    is_done: bool,
    /// It was told to wait.
    is_blocked: bool,
}

/// The same at its receiver.
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    pub(crate) next: u64,
    pub(crate) end: Option<Option<Status>>,
    ends: u32,
    owed: (u32, u64),
    /// Grants what it owes every so many milliseconds.
    pace: u64,
}

/// A call with streams, at its caller.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) from: NodeId,
    pub(crate) placed: Placed,
    pub(crate) shape: Shape,
    pub(crate) answer: Option<Result<Bytes, Status>>,
    pub(crate) is_cancelled: bool,
}

type End = (NodeId, StreamKey);

/// All flows of a world.
pub(crate) struct Flows {
    pub(crate) world: World,
    pub(crate) flows: Vec<Flow>,
    producers: BTreeMap<End, Producer>,
    pub(crate) consumers: BTreeMap<End, Consumer>,
    /// Calls that run, and what they were asked for.
    runs: BTreeMap<(NodeId, RunKey), (Shape, u64)>,
    answers: BTreeMap<(NodeId, CallId), usize>,
    /// Messages in each direction.
    pub(crate) total: u64,
    /// How late slow consumers grant, in milliseconds; one in four is slow.
    pub(crate) slow: u64,
    ticks: u64,
}

fn message(n: u64, is_bulk: bool) -> Bytes {
    // Of many lengths, some of them long.
    let len = if is_bulk { 1_000 + (n * 7_919) % 9_000 } else { (n * 7_919) % 600 };
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.resize(8 + len as usize, (n % 251) as u8);
    bytes.into()
}

impl Flows {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world,
            flows: Vec::new(),
            producers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            runs: BTreeMap::new(),
            answers: BTreeMap::new(),
            total: if cfg!(debug_assertions) { 100 } else { 300 },
            slow: 40,
            ticks: 0,
        }
    }

    fn pace(&mut self) -> u64 {
        if self.world.rng.chance(0.25) { self.slow } else { 1 }
    }

    fn open_ends(&mut self, at: NodeId, stream: StreamKey, shape: Shape, out: [Shape; 2], into: [Shape; 2]) {
        for (is_bulk, (out, into)) in [false, true].into_iter().zip(out.into_iter().zip(into)) {
            let stream = StreamKey { is_bulk, ..stream };
            if shape.has(out) {
                let producer = Producer { next: 0, total: self.total, is_done: false, is_blocked: false };
                self.producers.insert((at, stream), producer);
            }
            if shape.has(into) {
                let pace = self.pace();
                self.consumers.insert((at, stream), Consumer { pace, ..Consumer::default() });
            }
        }
    }

    /// Makes a call with these streams, if there is room.
    pub(crate) fn start(&mut self, from: NodeId, to: Destination, shape: Shape) -> Option<usize> {
        let placed = self.world.call(from, World::placing("flow", Bytes::new(), to, shape))?;
        let stream = placed.stream(false);
        let (up, down) = ([Shape::STREAM_UP, Shape::BULK_UP], [Shape::STREAM_DOWN, Shape::BULK_DOWN]);
        self.open_ends(from, stream, shape, up, down);
        self.answers.insert((from, placed.id), self.flows.len());
        self.flows.push(Flow { from, placed, shape, answer: None, is_cancelled: false });
        Some(self.flows.len() - 1)
    }

    pub(crate) fn cancel(&mut self, flow: usize) {
        let Flow { from, placed, .. } = self.flows[flow];
        self.flows[flow].is_cancelled = true;
        self.forget_ours(from, placed);
        let (node, broker) = (from, self.world.broker);
        self.world.sim.try_command(node, |actor, _, out| match &mut *actor {
            actor if node == broker => actor.broker().cancel(placed, out),
            actor => actor.party().cancel(placed, out),
        });
    }

    fn forget_ours(&mut self, at: NodeId, placed: Placed) {
        for is_bulk in [false, true] {
            self.producers.remove(&(at, placed.stream(is_bulk)));
            self.consumers.remove(&(at, placed.stream(is_bulk)));
        }
    }

    /// A node's program is gone, and all that it knew.
    pub(crate) fn crash(&mut self, node: NodeId) {
        self.world.sim.crash(node);
        self.world.sim.take_events(node);
        self.world.sim.take_answers(node);
        self.producers.retain(|(at, _), _| *at != node);
        self.consumers.retain(|(at, _), _| *at != node);
        self.runs.retain(|(at, _), _| *at != node);
        self.answers.retain(|(at, _), _| *at != node);
        self.flows.iter_mut().filter(|flow| flow.from == node).for_each(|flow| flow.is_cancelled = true);
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let until = self.world.sim.now() + span;
        while self.world.sim.now() < until {
            self.world.sim.run_for(MS);
            if let Some(violation) = self.world.sim.violation() {
                panic!("{violation}\n{}", self.world.sim.reproduction());
            }
            self.tick();
        }
    }

    /// The same, and what was found that must never be.
    pub(crate) fn try_run_for(&mut self, span: Duration) -> Option<String> {
        let until = self.world.sim.now() + span;
        while self.world.sim.now() < until {
            self.world.sim.run_for(MS);
            if let Some(violation) = self.world.sim.violation() {
                return Some(violation.to_string());
            }
            self.tick();
        }
        None
    }

    pub(crate) fn run_until(&mut self, limit: Duration, mut holds: impl FnMut(&mut Self) -> bool) {
        let until = self.world.sim.now() + limit;
        while !holds(self) {
            if self.world.sim.now() >= until {
                let open: Vec<_> = self.flows.iter().filter(|flow| !self.is_over(flow)).collect();
                let open = format!("{open:#?}");
                let (left, reproduction) = (self.left_over(), self.world.sim.reproduction());
                let (runs, ends) = (&self.runs, (&self.producers, &self.consumers));
                panic!("not within {limit:?}: {open}\n{left:?}\n{runs:?}\n{ends:?}\n{reproduction}");
            }
            self.run_for(MS);
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        let all: Vec<_> = std::iter::once(self.world.broker).chain(self.world.parties.clone()).collect();
        for node in all {
            for (_, event) in self.world.sim.take_events(node) {
                self.on_event(node, event);
            }
            for (_, call, answer) in self.world.sim.take_answers(node) {
                let Some(index) = self.answers.get(&(node, call)) else { continue };
                let flow = &mut self.flows[*index];
                assert!(flow.answer.is_none(), "two answers\n{}", self.world.sim.reproduction());
                assert!(!flow.is_cancelled, "an answer after it was cancelled");
                let placed = flow.placed;
                if answer.is_err() {
                    flow.answer = Some(answer);
                    self.forget_ours(node, placed);
                } else {
                    flow.answer = Some(answer);
                    // The reply is the end of the messages; bulk data may follow.
                    if let Some(consumer) = self.consumers.get_mut(&(node, placed.stream(false))) {
                        consumer.end.get_or_insert(None);
                    }
                }
            }
        }
        self.produce();
        self.grant();
        self.complete();
    }

    fn on_event(&mut self, node: NodeId, event: Event) {
        match event {
            Event::Run(run) => {
                let stream =
                    StreamKey { session: run.key.session, call: run.key.seq, is_ours: false, is_bulk: false };
                let (up, down) = ([Shape::STREAM_UP, Shape::BULK_UP], [Shape::STREAM_DOWN, Shape::BULK_DOWN]);
                self.open_ends(node, stream, run.shape, down, up);
                let again = self.runs.insert((node, run.key), (run.shape, run.origin));
                assert!(again.is_none(), "run twice");
            }
            Event::Cancelled(run) => {
                self.runs.remove(&(node, run));
                for is_bulk in [false, true] {
                    let stream = StreamKey { session: run.session, call: run.seq, is_ours: false, is_bulk };
                    self.producers.remove(&(node, stream));
                    self.consumers.remove(&(node, stream));
                }
            }
            Event::Data { stream, count, items } => self.on_data(node, stream, count, items),
            Event::StreamEnded { stream, status } => {
                let Some(consumer) = self.consumers.get_mut(&(node, stream)) else { return };
                consumer.ends += 1;
                assert!(consumer.ends == 1 && consumer.end.is_none(), "{stream:?} ended twice");
                consumer.end = Some(status.map(|status| *status));
            }
            Event::Room(stream) => {
                if let Some(producer) = self.producers.get_mut(&(node, stream)) {
                    producer.is_blocked = false;
                }
            }
            Event::Closed { session, .. } => {
                self.producers.retain(|(at, stream), _| (*at, stream.session) != (node, session));
                self.runs.retain(|(at, run), _| (*at, run.session) != (node, session));
            }
            other => self.world.events.entry(node).or_default().push(other),
        }
    }

    fn on_data(&mut self, node: NodeId, stream: StreamKey, count: u32, mut items: Bytes) {
        let reproduction = || self.world.sim.reproduction();
        let Some(consumer) = self.consumers.get_mut(&(node, stream)) else { return };
        assert!(consumer.end.is_none(), "data after the end of {stream:?}\n{}", reproduction());
        consumer.owed.0 += count;
        consumer.owed.1 += items.len() as u64;
        for _ in 0..count {
            let got = if stream.is_bulk {
                std::mem::take(&mut items)
            } else {
                let len = prost::decode_length_delimiter(&mut items).unwrap();
                items.split_to(len)
            };
            assert_eq!(
                got,
                message(consumer.next, stream.is_bulk),
                "{stream:?} at {node}\n{}",
                reproduction()
            );
            consumer.next += 1;
        }
        assert!(!items.has_remaining(), "more than was counted");
    }

    fn produce(&mut self) {
        let ends: Vec<_> =
            self.producers.iter().filter(|(_, p)| !p.is_done && !p.is_blocked).map(|(k, _)| *k).collect();
        for (node, stream) in ends {
            let broker = self.world.broker;
            let (mut next, total) =
                (self.producers[&(node, stream)].next, self.producers[&(node, stream)].total);
            let sent = self.world.sim.try_command(node, |actor, _, out| {
                for _ in 0..8 {
                    if next == total {
                        match &mut *actor {
                            actor if node == broker => actor.broker().finish(stream, None, out),
                            actor => actor.party().finish(stream, None, out),
                        }
                        return Ok(true);
                    }
                    let message = message(next, stream.is_bulk);
                    match &mut *actor {
                        actor if node == broker => actor.broker().send(stream, message, out)?,
                        actor => actor.party().send(stream, message, out)?,
                    }
                    next += 1;
                }
                Ok(false)
            });
            let Some(producer) = self.producers.get_mut(&(node, stream)) else { continue };
            producer.next = next;
            match sent {
                Some(Ok(is_done)) => producer.is_done = is_done,
                Some(Err(SendError::Full)) => producer.is_blocked = true,
                Some(Err(SendError::Closed)) | None => producer.is_done = true,
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    fn grant(&mut self) {
        let ticks = self.ticks;
        let due: Vec<_> = self
            .consumers
            .iter_mut()
            .filter(|(_, consumer)| consumer.owed.0 > 0 && ticks.is_multiple_of(consumer.pace))
            .map(|(end, consumer)| (*end, std::mem::take(&mut consumer.owed)))
            .collect();
        let broker = self.world.broker;
        for ((node, stream), (messages, bytes)) in due {
            self.world.sim.try_command(node, |actor, _, out| match &mut *actor {
                actor if node == broker => actor.broker().grant(stream, messages, bytes, out),
                actor => actor.party().grant(stream, messages, bytes, out),
            });
        }
    }

    /// A call is done when what comes up has ended, and what goes down has been sent, but for bulk data.
    fn complete(&mut self) {
        let mut done = Vec::new();
        for (at, (shape, origin)) in &self.runs {
            let stream =
                |is_bulk| StreamKey { session: at.1.session, call: at.1.seq, is_ours: false, is_bulk };
            let has_come = [false, true].into_iter().all(|is_bulk| {
                let consumer = self.consumers.get(&(at.0, stream(is_bulk)));
                consumer.is_none_or(|consumer| consumer.end.is_some())
            });
            let is_sent = self.producers.get(&(at.0, stream(false))).is_none_or(|producer| producer.is_done);
            if has_come && is_sent {
                done.push((*at, *shape, *origin));
            }
        }
        let broker = self.world.broker;
        for ((node, run), _, origin) in done {
            self.runs.remove(&(node, run));
            for is_bulk in [false, true] {
                let stream = StreamKey { session: run.session, call: run.seq, is_ours: false, is_bulk };
                if let Some(consumer) = self.consumers.remove(&(node, stream))
                    && consumer.end == Some(None)
                {
                    assert_eq!(consumer.next, self.total, "{}", self.world.sim.reproduction());
                }
            }
            let result = Ok(Bytes::copy_from_slice(&origin.to_be_bytes()));
            self.world.sim.try_command(node, |actor, now, out| match &mut *actor {
                actor if node == broker => actor.broker().complete(now, run, result, Vec::new(), out),
                actor => actor.party().complete(now, run, result, out),
            });
        }
    }

    /// Whether a flow has come to its end at its caller, with all that belongs to it.
    pub(crate) fn is_over(&self, flow: &Flow) -> bool {
        if flow.is_cancelled {
            return true;
        }
        let bulk = self.consumers.get(&(flow.from, flow.placed.stream(true)));
        match &flow.answer {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(_)) => bulk.is_none_or(|bulk| bulk.end.is_some()),
        }
    }

    /// Whether all went well with it, to the last message; or why not.
    pub(crate) fn went_well(&self, flow: &Flow) -> Result<(), Status> {
        if let Some(Err(status)) = &flow.answer {
            return Err(status.clone());
        }
        for is_bulk in [false, true] {
            let Some(consumer) = self.consumers.get(&(flow.from, flow.placed.stream(is_bulk))) else {
                continue;
            };
            if let Some(Some(status)) = &consumer.end {
                return Err(status.clone());
            }
            assert_eq!(consumer.next, self.total, "{flow:?}\n{}", self.world.sim.reproduction());
        }
        Ok(())
    }

    /// Whether anything is left of what was under way, at the broker or at a party that is there.
    pub(crate) fn left_over(&mut self) -> Option<String> {
        let broker = self.world.broker;
        let left = self.world.sim.try_command(broker, |actor, _, _| {
            let is_left =
                |s: &peerage_rpc::SessionInfo| (s.calls, s.calls_to, s.streams, s.kept_items) != (0, 0, 0, 0);
            actor.broker().sessions().find(is_left).map(|session| format!("{session:?}"))
        });
        left.flatten().or_else(|| {
            self.world.parties.clone().into_iter().find_map(|party| {
                let left = self.world.sim.try_command(party, |actor, _, _| actor.party().under_way())?;
                let is_left = (left.calls, left.calls_here, left.streams, left.kept_items) != (0, 0, 0, 0);
                is_left.then(|| format!("{party}: {left:?}"))
            })
        })
    }
}

/// What may become of a flow whose node or broker is lost on the way.
pub(crate) fn is_honest_failure(status: &Status) -> bool {
    matches!(status.code, Code::Unavailable | Code::Cancelled | Code::ResourceExhausted)
}
