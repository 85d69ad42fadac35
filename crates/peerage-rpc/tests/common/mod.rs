#![expect(dead_code, reason = "each test file uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]
//! A broker, clients and nodes in the simulator, with handlers that take their time.

pub(crate) mod broken;
pub(crate) mod flows;
pub(crate) mod host;
pub(crate) mod ledger;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{CallId, Input, Instant, Machine, Now, OutboxOf, Rng, Seed, Write};
use peerage_rpc::accounts::{Accounts, AccountsConfig, Confirmation, Kind, NewInvite};
use peerage_rpc::{
    Answer, BrokerConfig, BrokerMachine, Caller, Destination, Event, JOURNAL_PREFIX, Packet, PartyConfig,
    PartyMachine, Placed, Placing, Run, RunKey, SessionKey, Shape, Status,
};
use peerage_sim::{Config, Instance, NodeId, Sim, address, holds, peer, readable};
use peerage_wire::PeerId;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Seeds to try: a few in debug builds, in which all tests together are to take less than half a minute. `RPC_SEEDS=6..9`
/// tries those.
pub(crate) fn seeds(debug: u64, release: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("RPC_SEEDS").ok().and_then(|asked| {
        let (from, to) = asked.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    asked.unwrap_or(0..if cfg!(debug_assertions) { debug } else { release })
}

/// Either kind of machine, for a simulator of one kind.
#[derive(Debug)]
pub(crate) enum Actor {
    Broker(Box<BrokerMachine>),
    Party(Box<PartyMachine>),
    Broken(Box<Self>, broken::Broken),
}

impl Machine for Actor {
    type Message = Packet;
    type Event = Event;
    type Answer = Answer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        match self {
            Self::Broker(machine) => machine.on_input(now, input, out),
            Self::Party(machine) => machine.on_input(now, input, out),
            Self::Broken(machine, broken) => {
                machine.on_input(now, input, out);
                broken.spoil(out);
            }
        }
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        match self {
            Self::Broker(machine) => machine.on_timer(now, out),
            Self::Party(machine) => machine.on_timer(now, out),
            Self::Broken(machine, _) => machine.on_timer(now, out),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Broker(machine) => machine.deadline(),
            Self::Party(machine) => machine.deadline(),
            Self::Broken(machine, _) => machine.deadline(),
        }
    }
}

impl Actor {
    pub(crate) fn party(&mut self) -> &mut PartyMachine {
        match self {
            Self::Party(machine) => machine,
            Self::Broken(machine, _) => machine.party(),
            Self::Broker(_) => panic!("it is the broker"),
        }
    }

    pub(crate) fn broker(&mut self) -> &mut BrokerMachine {
        match self {
            Self::Broker(machine) => machine,
            Self::Broken(machine, _) => machine.broker(),
            Self::Party(_) => panic!("it is a party"),
        }
    }
}

/// A party that does nothing.
pub(crate) fn nobody() -> PartyMachine {
    PartyMachine::new(PartyConfig::new(peer(0), Vec::new()), Instant::START, &Seed::from_u64(0))
}

/// A call that a handler has, or had.
#[derive(Clone, Debug)]
pub(crate) struct Handled {
    pub(crate) at: NodeId,
    pub(crate) command: String,
    pub(crate) payload: Bytes,
    pub(crate) caller: Caller,
}

/// What a handler says at once, or after a while.
pub(crate) type Handler = Box<dyn FnMut(&Run) -> (Duration, Result<Bytes, Status>, Vec<Write>)>;

/// A handler at work: until when, where, at what, and what it will say.
type Running = (Instant, NodeId, RunKey, Result<Bytes, Status>, Vec<Write>);

/// All of it.
pub(crate) struct World {
    pub(crate) sim: Sim<Actor>,
    pub(crate) broker: NodeId,
    pub(crate) parties: Vec<NodeId>,
    /// What was run where, in order.
    pub(crate) handled: Vec<Handled>,
    /// What went well, by the one that made it.
    pub(crate) answers: BTreeMap<(NodeId, CallId), Answer>,
    pub(crate) events: BTreeMap<NodeId, Vec<Event>>,
    handlers: BTreeMap<(NodeId, String), Handler>,
    running: Vec<Running>,
    pub(crate) rng: Rng,
    next: u32,
}

pub(crate) fn accounts(users: &[u32], nodes: &[u32]) -> Accounts {
    let users = users.iter().map(|user| (peer(*user), Kind::User));
    with_accounts(users.chain(nodes.iter().map(|node| (peer(*node), Kind::Node))))
}

/// Users and nodes in turn.
pub(crate) fn accounts_of(peers: &[PeerId]) -> Accounts {
    with_accounts(
        peers.iter().zip([Kind::User, Kind::Node].into_iter().cycle()).map(|(peer, kind)| (*peer, kind)),
    )
}

fn with_accounts(all: impl Iterator<Item = (PeerId, Kind)>) -> Accounts {
    let mut accounts = Accounts::new(AccountsConfig::default());
    let mut rng = Seed::from_u64(9).rng();
    let now = peerage_machine::UnixMillis(0);
    for (peer, kind) in all {
        let new = NewInvite { kind, label: String::new(), ttl: SECOND, confirmation: Confirmation::AtOnce };
        let (token, _) = accounts.invite(now, new, &mut rng).unwrap();
        accounts.enrol(now, peer, token.as_bytes()).unwrap();
    }
    accounts
}

impl World {
    /// A broker at address 0, users 1 to `users`, nodes 100 to 100 + `nodes`.
    pub(crate) fn new(config: Config, broker: BrokerConfig, users: u32, nodes: u32) -> Self {
        let seed = Seed::from_u64(config.seed);
        let mut sim = Sim::new(config);
        let user_numbers: Vec<_> = (1..=users).collect();
        let node_numbers: Vec<_> = (100..100 + nodes).collect();
        let instance = || Instance::new("rpc", "test").coexisting();
        let (u, n) = (user_numbers.clone(), node_numbers.clone());
        let broker = sim.add(peer(0), [address(0)], instance(), move |start| {
            let journal = start.stored.iter().filter(|(key, _)| key.starts_with(JOURNAL_PREFIX));
            let journal: Vec<_> = journal.map(|(key, value)| (key.clone(), value.clone())).collect();
            let accounts = accounts(&u, &n);
            Actor::Broker(Box::new(BrokerMachine::new(
                broker.clone(),
                accounts,
                journal,
                start.now,
                &start.seed,
            )))
        });
        let mut parties = Vec::new();
        for number in user_numbers.into_iter().chain(node_numbers) {
            let is_node = number >= 100;
            parties.push(sim.add(peer(number), [address(number)], instance(), move |start| {
                let mut config = PartyConfig::new(peer(0), vec![address(0)]);
                if is_node {
                    config.groups = vec!["all".to_owned()];
                }
                Actor::Party(Box::new(PartyMachine::new(config, start.now.mono, &start.seed)))
            }));
        }
        sim.watch(readable(|_| true));
        sim.watch(holds(|actor: &Actor| match actor {
            Actor::Broker(machine) => machine.check(),
            Actor::Party(machine) => machine.check(),
            Actor::Broken(..) => Ok(()),
        }));
        Self {
            sim,
            broker,
            parties,
            handled: Vec::new(),
            answers: BTreeMap::new(),
            events: BTreeMap::new(),
            handlers: BTreeMap::new(),
            running: Vec::new(),
            rng: seed.fork("world").rng(),
            next: 0,
        }
    }

    /// One more program of the same key.
    pub(crate) fn add_again(&mut self, of: NodeId) -> NodeId {
        let number = 1_000 + self.parties.len() as u32;
        let is_node = self.sim.peer(of) == peer(100);
        let party = self.sim.add_session(of, [address(number)], move |start| {
            let mut config = PartyConfig::new(peer(0), vec![address(0)]);
            if is_node {
                config.groups = vec!["all".to_owned()];
            }
            Actor::Party(Box::new(PartyMachine::new(config, start.now.mono, &start.seed)))
        });
        self.parties.push(party);
        party
    }

    pub(crate) fn handle(
        &mut self,
        at: NodeId,
        command: &str,
        handler: impl FnMut(&Run) -> (Duration, Result<Bytes, Status>, Vec<Write>) + 'static,
    ) {
        self.handlers.insert((at, command.to_owned()), Box::new(handler));
    }

    /// Lets so much time pass, a millisecond at a time, with handlers at work.
    pub(crate) fn run_for(&mut self, span: Duration) {
        let until = self.sim.now() + span;
        while self.sim.now() < until {
            self.sim.run_for(MS.min(until.since(self.sim.now())));
            if let Some(violation) = self.sim.violation() {
                panic!("{violation}\n{}", self.sim.reproduction());
            }
            self.work();
        }
    }

    /// Lets time pass until that holds, at most so long.
    pub(crate) fn run_until(&mut self, limit: Duration, mut holds: impl FnMut(&mut Self) -> bool) {
        let until = self.sim.now() + limit;
        while !holds(self) {
            if self.sim.now() >= until {
                panic!("it did not come about within {limit:?}\n{}", self.sim.reproduction());
            }
            self.run_for(MS);
        }
    }

    fn work(&mut self) {
        for node in std::iter::once(self.broker).chain(self.parties.clone()) {
            for (_, event) in self.sim.take_events(node) {
                match event {
                    Event::Run(run) => self.start(node, *run),
                    Event::Cancelled(key) => {
                        self.running.retain(|(_, at, run, ..)| (*at, *run) != (node, key))
                    }
                    other => self.events.entry(node).or_default().push(other),
                }
            }
            for (_, call, answer) in self.sim.take_answers(node) {
                let before = self.answers.insert((node, call), answer);
                assert!(before.is_none(), "a call has two answers\n{}", self.sim.reproduction());
            }
        }
        let now = self.sim.now();
        let (due, later) = std::mem::take(&mut self.running).into_iter().partition(|(at, ..)| *at <= now);
        self.running = later;
        let due: Vec<_> = due;
        for (_, node, key, result, writes) in due {
            self.complete(node, key, result, writes);
        }
    }

    fn start(&mut self, node: NodeId, run: Run) {
        let command = String::from_utf8(run.command.to_vec()).unwrap();
        self.handled.push(Handled {
            at: node,
            command: command.clone(),
            payload: run.payload.clone(),
            caller: (*run.caller).clone(),
        });
        let (delay, result, writes) = match self.handlers.get_mut(&(node, command.clone())) {
            Some(handler) => handler(&run),
            None => {
                (Duration::ZERO, Err(Status::unimplemented(format!("no command {command:?}"))), Vec::new())
            }
        };
        if delay.is_zero() {
            self.complete(node, run.key, result, writes);
        } else {
            self.running.push((self.sim.now() + delay, node, run.key, result, writes));
        }
    }

    fn complete(&mut self, node: NodeId, key: RunKey, result: Result<Bytes, Status>, writes: Vec<Write>) {
        let broker = self.broker;
        self.sim.try_command(node, |actor, now, out| match actor {
            actor if node == broker => actor.broker().complete(now, key, result, writes, out),
            actor => actor.party().complete(now, key, result, out),
        });
    }

    /// What runs at a node is gone with it.
    pub(crate) fn crash(&mut self, node: NodeId) {
        self.work();
        self.running.retain(|(_, at, ..)| *at != node);
        self.sim.crash(node);
        // What it had told its application went with both.
        self.sim.take_events(node);
        self.sim.take_answers(node);
    }

    pub(crate) fn placing(
        command: &str,
        payload: impl Into<Bytes>,
        to: Destination,
        shape: Shape,
    ) -> Placing {
        let (command, payload) = (Bytes::copy_from_slice(command.as_bytes()), payload.into());
        Placing { command, payload, to, shape, timeout: None }
    }

    /// Makes a call, if there is room.
    pub(crate) fn call(&mut self, from: NodeId, placing: Placing) -> Option<Placed> {
        self.sim.try_command(from, |actor, now, out| actor.party().call(now, placing, out).ok())?
    }

    /// Calls, and waits for the answer.
    pub(crate) fn ask(&mut self, from: NodeId, placing: Placing) -> Answer {
        let placed = self.call(from, placing).unwrap();
        self.run_until(60 * SECOND, |world| world.answers.contains_key(&(from, placed.id)));
        self.answers[&(from, placed.id)].clone()
    }

    /// Waits until all have their sessions.
    pub(crate) fn connect(&mut self) {
        self.run_until(60 * SECOND, |world| {
            let parties = world.parties.clone();
            parties.into_iter().all(|party| {
                world.sim.try_command(party, |actor, _, _| actor.party().session().is_some()).unwrap_or(false)
            })
        });
    }

    pub(crate) fn session(&mut self, party: NodeId) -> SessionKey {
        self.sim.command(party, |actor, _, _| actor.party().session().unwrap().0)
    }

    /// Payloads of one command at one node by one caller, in the order in which they were run.
    pub(crate) fn runs(&self, at: NodeId, command: &str, by: NodeId) -> Vec<u64> {
        let by = self.sim.peer(by);
        let of =
            self.handled.iter().filter(|run| run.at == at && run.command == command && run.caller.peer == by);
        of.map(|run| u64::from_be_bytes(run.payload.as_ref().try_into().unwrap())).collect()
    }

    pub(crate) fn seen(&self, node: NodeId) -> &[Event] {
        self.events.get(&node).map_or(&[], Vec::as_slice)
    }
}

pub(crate) fn number(n: u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

pub(crate) fn unique(numbers: &[u64]) -> BTreeSet<u64> {
    numbers.iter().copied().collect()
}
