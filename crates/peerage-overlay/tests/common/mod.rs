#![expect(dead_code, reason = "each test file uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]
//! A mesh in the simulator: nodes with real identities, and what each of them heard.

pub(crate) mod alone;
pub(crate) mod packets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::{Identity, verify};
use peerage_machine::Instant;
use peerage_overlay::{
    BroadcastError, Kind, MeshConfig, MeshEvent, MeshMachine, MeshSnapshot, MeshStart, Message, MessageId,
};
use peerage_sim::{Config, Instance, NodeId, Sim, Verifier, address};
use peerage_wire::Address;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Seeds to try: a few in debug builds, in which all tests together are to take less than a minute.
pub(crate) fn seeds(debug: u64, release: u64) -> std::ops::Range<u64> {
    0..if cfg!(debug_assertions) { debug } else { release }
}

pub(crate) fn identity(number: u32) -> Arc<Identity> {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Arc::new(Identity::from_seed(seed))
}

/// Checks signatures for real.
pub(crate) fn real() -> Verifier {
    Verifier::by(|peer, domain, message, signature| verify(peer, domain, message, signature).is_ok())
}

pub(crate) struct World {
    pub(crate) sim: Sim<MeshMachine>,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) heard: BTreeMap<NodeId, Vec<(Instant, Message)>>,
    pub(crate) events: BTreeMap<NodeId, Vec<(Instant, MeshEvent)>>,
    config: MeshConfig,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        Self::with(config, MeshConfig::named("news"))
    }

    pub(crate) fn with(config: Config, mesh: MeshConfig) -> Self {
        // Encoding changes nothing and is half of the time: every fifth seed is enough.
        let codec = config.codec && config.seed.is_multiple_of(5);
        Self {
            sim: Sim::new(Config { codec, ..config }),
            nodes: Vec::new(),
            heard: BTreeMap::new(),
            events: BTreeMap::new(),
            config: mesh,
        }
    }

    /// One more peer, alone.
    pub(crate) fn add(&mut self) -> NodeId {
        self.add_with(self.config.clone())
    }

    pub(crate) fn add_with(&mut self, config: MeshConfig) -> NodeId {
        let number = self.nodes.len() as u32;
        let identity = identity(number);
        let instance = Instance::new("mesh", &config.name).with_parameters(config.parameters());
        let node = self.sim.add(identity.peer_id(), [address(number)], instance, move |start| {
            MeshMachine::new(
                config.clone(),
                MeshStart {
                    now: start.now,
                    seed: start.seed,
                    identity: Arc::clone(&identity),
                    incarnation: start.incarnation,
                    addresses: start.addresses,
                },
            )
        });
        self.nodes.push(node);
        node
    }

    pub(crate) fn join(&mut self, node: NodeId, contact: NodeId) {
        let contacts: Vec<Address> = vec![address(contact.index() as u32)];
        self.sim.command(node, |mesh, now, out| mesh.join(now, contacts, out)).unwrap();
    }

    /// `count` peers that join by the first one, so far apart, and settle.
    pub(crate) fn formed(config: Config, count: usize) -> Self {
        Self::formed_with(config, MeshConfig::named("news"), count)
    }

    pub(crate) fn formed_with(config: Config, mesh: MeshConfig, count: usize) -> Self {
        let mut world = Self::with(config, mesh);
        for _ in 0..count {
            world.add();
        }
        for node in 1..count {
            world.join(world.nodes[node], world.nodes[0]);
            world.sim.run_for(MS * 20);
        }
        world.sim.run_for(SECOND * 10);
        world
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.nodes.iter().copied().filter(|node| self.sim.is_running(*node)).collect()
    }

    pub(crate) fn snapshot(&self, node: NodeId) -> MeshSnapshot {
        self.sim.machine(node).unwrap().snapshot()
    }

    pub(crate) fn neighbours(&self, node: NodeId) -> Vec<NodeId> {
        let peers = self.sim.machine(node).map(MeshMachine::neighbours).unwrap_or_default();
        peers.iter().filter_map(|peer| self.sim.node(peer)).collect()
    }

    /// Running peers that the first running one reaches over neighbourhoods.
    pub(crate) fn component(&self) -> usize {
        let running = self.running();
        let mut reached: BTreeSet<NodeId> = running.first().copied().into_iter().collect();
        let mut queue: VecDeque<NodeId> = reached.iter().copied().collect();
        while let Some(node) = queue.pop_front() {
            for neighbour in self.neighbours(node) {
                if self.sim.is_running(neighbour) && reached.insert(neighbour) {
                    queue.push_back(neighbour);
                }
            }
        }
        reached.len()
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.component() == self.running().len()
    }

    /// Whether views are mutual, now or as soon as what is under way has arrived.
    pub(crate) fn is_mutual(&mut self) -> bool {
        (0..40).any(|_| {
            self.sim.run_for(MS * 25);
            self.asymmetries() == 0
        })
    }

    /// Pairs of which one has the other for a neighbour and not the other way.
    fn asymmetries(&self) -> usize {
        let one_sided = |node: &NodeId| {
            let theirs = |other: &NodeId| self.neighbours(*other).contains(node);
            self.neighbours(*node).iter().filter(|other| !theirs(other)).count()
        };
        self.running().iter().map(one_sided).sum()
    }

    pub(crate) fn say(&mut self, node: NodeId, text: &str) -> Result<MessageId, BroadcastError> {
        self.say_bytes(node, Bytes::copy_from_slice(text.as_bytes()))
    }

    pub(crate) fn say_bytes(&mut self, node: NodeId, body: Bytes) -> Result<MessageId, BroadcastError> {
        self.sim
            .command(node, |mesh, now, out| mesh.broadcast(now, vec![body], out))
            .map(|receipt| receipt.id)
    }

    /// Gathers what was heard since the last time.
    pub(crate) fn collect(&mut self) {
        for node in self.nodes.clone() {
            for (at, event) in self.sim.take_events(node) {
                match event {
                    MeshEvent::Message(message) => self.heard.entry(node).or_default().push((at, message)),
                    other => self.events.entry(node).or_default().push((at, other)),
                }
            }
        }
    }

    /// Fails unless the node heard each of these broadcasts once, in whatever order, and nothing else.
    pub(crate) fn assert_heard(&self, node: NodeId, ids: &[MessageId]) {
        let mut counts: BTreeMap<MessageId, usize> = BTreeMap::new();
        for (_, message) in self.heard.get(&node).into_iter().flatten() {
            assert_eq!(message.kind, Kind::Broadcast);
            *counts.entry(message.id).or_default() += 1;
        }
        let missing: Vec<_> = ids.iter().filter(|id| !counts.contains_key(id)).map(|id| id.seq).collect();
        assert!(missing.is_empty(), "{node} lacks {} of {}: {missing:?}", missing.len(), ids.len());
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{node} heard these more than once: {twice:?}");
        assert_eq!(counts.len(), ids.len(), "{node} heard more than was said");
    }

    /// Sums a counter of all running machines.
    pub(crate) fn total(&self, of: impl Fn(&MeshSnapshot) -> u64) -> u64 {
        self.running().iter().map(|node| of(&self.snapshot(*node))).sum()
    }
}
