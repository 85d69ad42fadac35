//! The simulation: its nodes, its clock and its loop.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use peerage_machine::{Class, Input, Instant, JobId, Machine, Now, Outbox, Rng, Seed, Why};
use peerage_wire::{Address, PeerId};

use crate::dial::{Dials, TaskId};
use crate::links::{LinkKey, Links, Side};
use crate::node::{Factory, Node};
use crate::queue::Queue;
use crate::stats::Stats;
use crate::trace::{Kind, Trace};
use crate::{Config, Instance, NodeId, Start, Violation, Watch};

/// How often a machine may ask for its timer within one microsecond.
const STALLED: u32 = 1000;

pub(crate) type OutboxOf<M> = Outbox<<M as Machine>::Message, <M as Machine>::Event, <M as Machine>::Answer>;
type Parked<M> = Box<dyn FnOnce(&mut Sim<M>)>;

/// What the queue holds.
pub(crate) enum Happening<M: Machine> {
    Timer {
        node: NodeId,
        epoch: u32,
    },
    Message {
        link: LinkKey,
        from: Side,
        class: Class,
        size: u64,
        message: M::Message,
    },
    /// What is rare enough to be put elsewhere: this stays small, as there are millions of it.
    Input {
        node: NodeId,
        epoch: u32,
        input: Box<Input<M::Message>>,
    },
    Verified {
        node: NodeId,
        epoch: u32,
        job: JobId,
        valid: bool,
    },
    Stored {
        node: NodeId,
        epoch: u32,
    },
    Down {
        link: LinkKey,
        side: Side,
        why: Box<Why>,
    },
    Unheld {
        link: LinkKey,
        occasion: u64,
    },
    LossCheck {
        link: LinkKey,
    },
    Bytes {
        link: LinkKey,
        from: Side,
        bytes: BytesMut,
    },
    Writable {
        link: LinkKey,
        side: Side,
    },
    WireTimer {
        link: LinkKey,
        side: Side,
    },
    Attempted {
        task: TaskId,
        why: Box<Why>,
    },
    Joined {
        task: TaskId,
    },
    Handshake {
        dialer: NodeId,
        acceptor: NodeId,
        stamp: u64,
    },
    Parked(Parked<M>),
}

impl<M: Machine> Happening<M> {
    /// Whether it goes on for ever, so that waiting for it to be over is in vain.
    const fn is_background(&self) -> bool {
        matches!(self, Self::Timer { .. } | Self::LossCheck { .. } | Self::WireTimer { .. })
    }
}

/// Nodes that run machines of one kind, in virtual time, on a network that is as bad as [`Config`] says.
///
/// Everything follows from [`Config::seed`] and the calls made: same seed, same calls, same
/// [`Sim::trace_hash`], in any process and on any platform. When a test panics while a simulation lives, its seed, time
/// and trace are printed.
pub struct Sim<M: Machine> {
    pub(crate) config: Config,
    pub(crate) seed: Seed,
    pub(crate) now: Instant,
    pub(crate) queue: Queue<Happening<M>>,
    /// How much of the queue is not background.
    under_way: usize,
    pub(crate) nodes: Vec<Node<M>>,
    pub(crate) by_address: BTreeMap<Address, NodeId>,
    /// The nodes of each key: one, but for sessions.
    pub(crate) by_peer: BTreeMap<PeerId, Vec<NodeId>>,
    pub(crate) links: Links,
    pub(crate) dials: Dials,
    pub(crate) rng: Rng,
    pub(crate) latency_key: u64,
    pub(crate) stats: Stats,
    pub(crate) trace: Trace,
    outbox: OutboxOf<M>,
    pub(crate) watches: Vec<Box<dyn Watch<M>>>,
    pub(crate) violation: Option<Violation>,
    pub(crate) kind_of: Option<fn(&M::Message) -> &'static str>,
    /// How many one-way walls there are.
    pub(crate) walls: u32,
}

impl<M: Machine> Sim<M> {
    /// An empty world.
    pub fn new(config: Config) -> Self {
        let seed = Seed::from_u64(config.seed);
        Self {
            now: Instant::START,
            queue: Queue::new(),
            under_way: 0,
            nodes: Vec::new(),
            by_address: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            links: Links::default(),
            dials: Dials::default(),
            rng: seed.fork("network").rng(),
            latency_key: seed.fork("latency").rng().next_u64(),
            stats: Stats::default(),
            trace: Trace::new(),
            outbox: Outbox::new(),
            watches: Vec::new(),
            violation: None,
            kind_of: None,
            walls: 0,
            seed,
            config,
        }
    }

    /// Starts a node that listens at the addresses. Its factory makes a machine now and after every
    /// [`Sim::restart`]; the machine is told its addresses at once.
    ///
    /// # Panics
    /// When another node has the key or one of the addresses.
    pub fn add(
        &mut self,
        peer: PeerId,
        addresses: impl Into<Vec<Address>>,
        instance: Instance,
        factory: impl Fn(Start) -> M + 'static,
    ) -> NodeId {
        let before = self.by_peer.get(&peer);
        assert!(before.is_none(), "{peer} is added twice, first as {before:?}");
        self.place(peer, addresses.into(), instance, Box::new(factory))
    }

    /// Starts one more node with the key and the instance of that one: a second program of the same user, say. It
    /// listens at addresses of its own. Peers have a link to each of both when their instance is
    /// [`Instance::coexisting`], and otherwise to the one whose link came up last.
    ///
    /// # Panics
    /// When another node has one of the addresses.
    pub fn add_session(
        &mut self,
        of: NodeId,
        addresses: impl Into<Vec<Address>>,
        factory: impl Fn(Start) -> M + 'static,
    ) -> NodeId {
        let (peer, instance) = (self.get(of).peer, self.get(of).instance.clone());
        self.place(peer, addresses.into(), instance, Box::new(factory))
    }

    fn place(
        &mut self,
        peer: PeerId,
        addresses: Vec<Address>,
        instance: Instance,
        factory: Factory<M>,
    ) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.by_peer.entry(peer).or_default().push(id);
        for address in &addresses {
            let before = self.by_address.insert(address.clone(), id);
            assert!(before.is_none(), "{address} is given twice, to {before:?} and {id}");
        }
        let reach = self.config.wall_skew.as_millis() as u64;
        let mut rng = self.seed.fork(&format!("skew {id}")).rng();
        let skew = rng.below(reach.saturating_mul(2).saturating_add(1)) as i64 - reach as i64;
        self.links.add_node();
        let most = i64::from(self.config.wall_drift);
        let drift = rng.below(2 * u64::from(self.config.wall_drift) + 1) as i64 - most;
        self.nodes.push(Node::new(peer, addresses, instance, factory, (skew, drift)));
        self.start(id);
        id
    }

    /// Makes the node's machine.
    pub(crate) fn start(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        node.start(now, &self.seed.fork(&format!("{id} start {}", node.restarts)));
        let (epoch, addresses) = (node.epoch, node.addresses.clone());
        self.trace.line(now, Kind::Start, id.0, u64::from(epoch), 0);
        self.show_start(id);
        let input = Box::new(Input::OwnAddresses(addresses));
        self.schedule(now, Happening::Input { node: id, epoch, input });
        self.arm(id);
    }

    /// The application of the node asks something of its machine; effects are carried out afterwards.
    ///
    /// # Panics
    /// When the node does not run; [`Sim::try_command`] does not.
    #[expect(clippy::panic, reason = "a scenario that commands a crashed node is wrong, and says so")]
    pub fn command<R>(
        &mut self,
        node: NodeId,
        command: impl FnOnce(&mut M, Now, &mut OutboxOf<M>) -> R,
    ) -> R {
        match self.try_command(node, command) {
            Some(result) => result,
            None => panic!("{node} does not run and was given a command"),
        }
    }

    /// The same, and nothing when the node does not run.
    pub fn try_command<R>(
        &mut self,
        node: NodeId,
        command: impl FnOnce(&mut M, Now, &mut OutboxOf<M>) -> R,
    ) -> Option<R> {
        if !self.is_running(node) {
            return None;
        }
        self.trace.line(self.now, Kind::Command, node.0, 0, 0);
        self.call(node, command)
    }

    /// Has messages counted by kind as well: [`Stats::sent_of_kind`] and [`Stats::delivered_of_kind`].
    pub fn count_kinds(&mut self, kind_of: fn(&M::Message) -> &'static str) {
        self.kind_of = Some(kind_of);
    }

    /// Has something done to the simulation at that time, or now if that is past: a scenario's script.
    pub fn at_time(&mut self, at: Instant, action: impl FnOnce(&mut Self) + 'static) {
        self.schedule(at, Happening::Parked(Box::new(action)));
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span);
    }

    /// Lets time pass until then.
    pub fn run_until(&mut self, until: Instant) {
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Lets time pass while this holds, at most so long; whether it ceased to. It is asked after every event.
    #[must_use]
    pub fn run_while(&mut self, limit: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now + limit;
        while holds(self) {
            if !self.step(until) {
                self.now = self.now.max(until);
                return !holds(self);
            }
        }
        true
    }

    /// Lets time pass until nothing is under way but machines' timers: no message, dial, close, batch or check. At
    /// most so long; whether it came to that. Machines that talk when a timer fires are quiet between two timers.
    #[must_use]
    pub fn run_until_quiet(&mut self, limit: Duration) -> bool {
        self.run_while(limit, |sim| sim.under_way > 0)
    }

    /// Does the next thing, if it happens until then and nothing has happened that must never be
    /// ([`Sim::violation`]).
    pub fn step(&mut self, until: Instant) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some((at, happening)) = self.queue.pop(until) else { return false };
        self.now = at;
        if !happening.is_background() {
            self.under_way -= 1;
        }
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening<M>) {
        match happening {
            Happening::Timer { node, epoch } => self.timer(node, epoch),
            Happening::Message { link, from, class, size, message } => {
                self.deliver(link, from, class, size, message)
            }
            Happening::Input { node, epoch, input } => {
                if self.get(node).epoch == epoch {
                    self.input(node, *input);
                }
            }
            Happening::Verified { node, epoch, job, valid } => {
                if self.get(node).epoch == epoch {
                    self.input(node, Input::Verified { job, valid });
                }
            }
            Happening::Stored { node, epoch } => self.stored_batch(node, epoch),
            Happening::Down { link, side, why } => self.down(link, side, *why),
            Happening::Unheld { link, occasion } => self.unheld(link, occasion),
            Happening::LossCheck { link } => self.loss_check(link),
            Happening::Bytes { link, from, bytes } => self.bytes_arrive(link, from, bytes),
            Happening::Writable { link, side } => self.writable(link, side),
            Happening::WireTimer { link, side } => self.wire_timer(link, side),
            Happening::Attempted { task, why } => self.attempt_failed(task, *why),
            Happening::Joined { task } => self.joined(task),
            Happening::Handshake { dialer, acceptor, stamp } => self.handshake(dialer, acceptor, stamp),
            Happening::Parked(action) => action(self),
        }
    }

    pub(crate) fn schedule(&mut self, at: Instant, happening: Happening<M>) {
        if !happening.is_background() {
            self.under_way += 1;
        }
        self.queue.push(at.max(self.now), happening);
    }

    /// One call of a machine: then its effects, then its deadline.
    pub(crate) fn call<R>(
        &mut self,
        id: NodeId,
        call: impl FnOnce(&mut M, Now, &mut OutboxOf<M>) -> R,
    ) -> Option<R> {
        let now = self.now;
        let node = self.nodes.get_mut(id.index())?;
        let clocks = node.clocks(now);
        let machine = node.machine.as_mut()?;
        let mut outbox = std::mem::take(&mut self.outbox);
        let result = call(machine, clocks, &mut outbox);
        self.stats.events += 1;
        if !outbox.is_empty() {
            self.carry_out(id, &mut outbox);
        }
        self.outbox = outbox;
        self.arm(id);
        self.check(id);
        Some(result)
    }

    /// Tells a machine something.
    pub(crate) fn input(&mut self, id: NodeId, input: Input<M::Message>) {
        let (kind, name, amount) = match &input {
            Input::Up { link, .. } => (Kind::Up, link.0, 0),
            Input::Down { link, .. } => (Kind::Down, link.0, 0),
            Input::Message { link, .. } => (Kind::Message, link.0, 0),
            Input::Dialed { dial, link } => (Kind::Dialed, dial.0, link.0),
            Input::DialFailed { dial, .. } => (Kind::DialFailed, dial.0, 0),
            Input::Credit { link, bytes, .. } => (Kind::Credit, link.0, *bytes),
            Input::Undelivered { send, link, .. } => (Kind::Undelivered, send.0, link.0),
            Input::Stored { op, result } => (Kind::Stored, op.0, u64::from(result.is_ok())),
            Input::Verified { job, valid } => (Kind::Verified, job.0, u64::from(*valid)),
            Input::Rtt { link, .. } => (Kind::Credit, link.0, 0),
            Input::OwnAddresses(addresses) => (Kind::OwnAddresses, 0, addresses.len() as u64),
        };
        self.trace.line(self.now, kind, id.0, name, amount);
        self.call(id, |machine, now, out| machine.on_input(now, input, out));
    }

    /// Sees to it that the node's deadline is met. Timer events are not taken back: one that comes too early only
    /// schedules the next.
    fn arm(&mut self, id: NodeId) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        let Some(deadline) = node.machine.as_ref().and_then(Machine::deadline) else { return };
        let at = (node.started + deadline.since(Instant::START)).max(now);
        if node.timer_at.is_none_or(|earlier| at < earlier) {
            node.timer_at = Some(at);
            let epoch = node.epoch;
            self.schedule(at, Happening::Timer { node: id, epoch });
        }
    }

    fn timer(&mut self, id: NodeId, epoch: u32) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        if node.epoch != epoch || node.timer_at != Some(now) {
            return;
        }
        node.timer_at = None;
        let mono = node.clocks(now).mono;
        let Some(before) = node.machine.as_ref().and_then(Machine::deadline) else { return };
        if before > mono {
            self.arm(id);
            return;
        }
        self.stats.timers += 1;
        self.trace.line(now, Kind::Timer, id.0, 0, 0);
        self.call(id, |machine, now, out| machine.on_timer(now, out));
        self.check_progress(id, before, mono);
    }

    /// Rule 2 of the contract: the deadline moves. Once it may stay in the past, for what carrying out effects changed.
    #[expect(clippy::panic, reason = "a machine that breaks the contract would stop the clock for everybody")]
    fn check_progress(&mut self, id: NodeId, before: Instant, now: Instant) {
        let seed = self.config.seed;
        let Some(node) = self.nodes.get_mut(id.index()) else { return };
        let Some(after) = node.machine.as_ref().and_then(Machine::deadline).filter(|after| *after <= now)
        else {
            node.stalled = 0;
            return;
        };
        node.stalled += if after > before { 1 } else { STALLED / 2 };
        if node.stalled >= STALLED {
            panic!(
                "{id} breaks rule 2 of the machine contract: on_timer at {now:?} leaves the deadline at {after:?} \
                 (before: {before:?}); seed {seed}"
            );
        }
    }

    /// # Panics
    /// When the node is of another simulation.
    #[expect(clippy::panic, reason = "a node of another simulation is a mistake of the scenario")]
    pub(crate) fn get(&self, id: NodeId) -> &Node<M> {
        match self.nodes.get(id.index()) {
            Some(node) => node,
            None => panic!("{id} is not one of the {} nodes here", self.nodes.len()),
        }
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node<M>> {
        self.nodes.get_mut(id.index())
    }
}

/// When a test fails while a simulation lives, says how to see it again.
impl<M: Machine> Drop for Sim<M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.reproduction());
        }
    }
}
