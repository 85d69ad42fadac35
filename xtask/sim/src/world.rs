//! A mesh in virtual time: peers with real identities, and what each of them heard.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use peerage_identity::{Identity, verify};
use peerage_link::{Capacity, LinkConfig, Memory, Setup};
use peerage_machine::{Direction, Instant, Rng, Seed};
use peerage_overlay::{BroadcastError, MeshConfig, MeshMachine, MeshStart, MessageId, Packet};
use peerage_sim::{
    Config, Instance, NodeId, Role, Sim, Verifier, Wire, address, bounded, holds, readable, within_credit,
};
use peerage_wire::{PeerId, Suite};

use crate::attack::{Attack, Gang};
use crate::cli::Store;
use crate::graph::Graph;
use crate::ledger::{Clerk, Ledger};
use crate::progress::Progress;
use crate::relay::{Overseer, Relays};
use crate::weather::Weather;

/// How often progress is shown, in virtual time.
const SLICE: Duration = Duration::from_millis(250);
/// Peers that join ten milliseconds apart; from then on, a quarter of the network joins each second.
const FIRST: usize = 100;
/// What a peer's links share, in bytes, as an endpoint's do by default: windows that grow, and messages in parts.
const WINDOWS: u64 = 64 << 20;
const MESSAGES: u64 = 128 << 20;
/// What each part of a mesh holds is looked at after every call of it; all of it together, to the byte, is added up after
/// every so many, for that takes longer than a call.
const EXAMINED: u32 = 256;
/// How soon an own message that was refused is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Checks signatures for real, each once.
pub(crate) fn verifier() -> Verifier {
    Verifier::remembering(|peer, domain, message, signature| verify(peer, domain, message, signature).is_ok())
}

/// What is going on, and from when until when.
struct Stage {
    doing: String,
    start: Instant,
    end: Instant,
}

pub(crate) struct World {
    pub(crate) sim: Sim<Role<MeshMachine>>,
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    relays: Rc<RefCell<Relays>>,
    /// Within what time everything said from now on must be everywhere, if it must.
    pub(crate) arrives_within: Option<Duration>,
    /// What the scenario draws from.
    pub(crate) rng: Rng,
    mesh: Arc<MeshConfig>,
    /// Own messages that were refused, for want of room or neighbours, and tried again.
    pub(crate) refused: u64,
    pub(crate) progress: Progress,
    stage: Option<Stage>,
    payload: usize,
    said: u64,
    weather: Weather,
    /// Draws who cannot be dialled, and only where somebody cannot: scenarios draw the same with any weather.
    lots: Rng,
    /// Whom others may join by: those that can be dialled, in the order in which they came.
    contacts: Vec<NodeId>,
    /// Of all peers, for their links.
    identities: Identities,
}

/// How true to real links the simulated ones are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fidelity {
    /// Messages move as values.
    Values,
    /// Messages move as bytes through links as on real connections, which shake hands.
    Bytes,
    /// The same, and nobody shakes hands.
    BytesWithoutHandshake,
}

type Identities = Arc<Mutex<BTreeMap<PeerId, (Arc<Identity>, Memory)>>>;

/// Links between the peers that these are the identities of.
fn wire(identities: Identities) -> Wire {
    let config = Arc::new(LinkConfig::default());
    Wire::new(move |end| {
        let identities = identities.lock().unwrap_or_else(PoisonError::into_inner);
        let known = identities.get(&end.peer).cloned();
        // All peers are known here; a stranger would not get through the handshake.
        let unknown = || (Arc::new(Identity::from_seed([0; 32])), Memory::new(WINDOWS, MESSAGES));
        let (identity, memory) = known.unwrap_or_else(unknown);
        Setup {
            direction: end.direction,
            identity,
            incarnation: end.incarnation,
            software: "peerage simulated".to_owned(),
            addresses: end.addresses,
            observed: None,
            instances: vec![end.instance],
            expected: (end.direction == Direction::Outbound).then_some(end.other),
            suites: vec![Suite::ChaChaPoly],
            cookie: None,
            entropy: end.entropy,
            config: Arc::clone(&config),
            memory,
            capacity: Capacity::default(),
        }
    })
}

impl World {
    /// Nobody is there yet.
    pub(crate) fn new(
        config: Config,
        mesh: MeshConfig,
        payload: usize,
        fidelity: Fidelity,
        progress: Progress,
    ) -> Self {
        let identities = Identities::default();
        let wire = match fidelity {
            Fidelity::Values => None,
            Fidelity::Bytes => Some(wire(Arc::clone(&identities))),
            Fidelity::BytesWithoutHandshake => Some(wire(Arc::clone(&identities)).without_handshake()),
        };
        let config = Config { wire, ..config };
        let lots = Seed::from_u64(config.seed).fork("weather").rng();
        let rng = Seed::from_u64(config.seed).fork("scenario").rng();
        let mut sim = Sim::new(config);
        sim.count_kinds(Packet::kind);
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        let relays = Rc::new(RefCell::new(Relays::new(Rc::clone(&ledger), &mesh)));
        sim.watch(Overseer(Rc::clone(&relays)));
        sim.watch(Clerk(Rc::clone(&ledger)));
        let honest = Rc::clone(&ledger);
        sim.watch(within_credit(move |node| honest.borrow().is_honest(node)));
        let honest = Rc::clone(&ledger);
        sim.watch(readable(move |node| honest.borrow().is_honest(node)));
        let (limits, most) = (mesh.clone(), mesh.worst_case_bytes());
        sim.watch(holds(move |role: &Role<MeshMachine>| {
            let Some(mesh) = role.honest() else { return Ok(()) };
            mesh.holds_within(&limits).map_err(|overfull| overfull.to_string())
        }));
        sim.watch(bounded(most, EXAMINED, |role: &Role<MeshMachine>| {
            role.honest().map_or(0, |mesh| mesh.snapshot().memory)
        }));
        Self {
            sim,
            nodes: Vec::new(),
            ledger,
            relays,
            arrives_within: None,
            rng,
            mesh: Arc::new(mesh),
            refused: 0,
            progress,
            stage: None,
            payload,
            said: 0,
            weather: Weather::default(),
            lots,
            contacts: Vec::new(),
            identities,
        }
    }

    /// The same where peers are placed, and can be dialled, as this says. What it says of links is in the configuration.
    pub(crate) fn under(self, weather: &Weather) -> Self {
        Self { weather: weather.clone(), ..self }
    }

    /// One more peer, alone.
    pub(crate) fn add(&mut self) -> NodeId {
        let (number, identity, instance) = self.next();
        let (peer, config) = (identity.peer_id(), Arc::clone(&self.mesh));
        let node = self.sim.add(identity.peer_id(), [address(number)], instance, move |start| {
            let start = MeshStart {
                now: start.now,
                seed: start.seed,
                identity: Arc::clone(&identity),
                incarnation: start.incarnation,
                addresses: start.addresses,
            };
            Role::Honest(MeshMachine::new(Arc::clone(&config), start))
        });
        self.trust(peer, node);
        self.sim.place_in(node, self.weather.region(node.index()));
        let nat = self.weather.nat();
        // Somebody must be there to be joined by.
        if nat > 0.0 && !self.contacts.is_empty() && self.lots.chance(nat) {
            self.sim.set_reachable(node, false);
        } else {
            self.contacts.push(node);
        }
        self.nodes.push(node);
        node
    }

    /// The node is to keep to everything that must be.
    pub(crate) fn trust(&mut self, peer: PeerId, node: NodeId) {
        self.ledger.borrow_mut().trust(peer, node, self.sim.now());
    }

    /// One more peer, which does as the attack says.
    pub(crate) fn add_attacker(&mut self, attack: Attack, gang: &Rc<Gang>) -> NodeId {
        let (number, identity, instance) = self.next();
        let place = gang.members.borrow().len();
        gang.members.borrow_mut().push((identity.peer_id(), address(number)));
        let gang = Rc::clone(gang);
        let node = self.sim.add(identity.peer_id(), [address(number)], instance, move |start| {
            Role::Byzantine(attack.machine(place, &gang, &identity, &start))
        });
        self.sim.place_in(node, self.weather.region(node.index()));
        self.nodes.push(node);
        node
    }

    /// What the next peer is.
    fn next(&self) -> (u32, Arc<Identity>, Instance) {
        let number = self.nodes.len() as u32;
        let mut secret = [7; 32];
        if let Some(head) = secret.first_chunk_mut() {
            *head = number.to_le_bytes();
        }
        let instance = Instance::new("mesh", &self.mesh.name).with_parameters(self.mesh.parameters());
        let identity = Arc::new(Identity::from_seed(secret));
        let mut identities = self.identities.lock().unwrap_or_else(PoisonError::into_inner);
        identities.insert(identity.peer_id(), (Arc::clone(&identity), Memory::new(WINDOWS, MESSAGES)));
        drop(identities);
        (number, identity, instance)
    }

    /// The mesh's configuration.
    pub(crate) fn mesh(&self) -> &MeshConfig {
        &self.mesh
    }

    /// The node says goodbye and ends.
    pub(crate) fn leave(&mut self, node: NodeId) {
        self.sim.try_command(node, |role, now, out| {
            if let Some(mesh) = role.honest_mut() {
                mesh.leave(now, out);
            }
        });
        self.sim.stop(node);
    }

    /// The node starts again: with what it has stored it turns to whom it knew, and otherwise it joins by a random peer
    /// that runs.
    pub(crate) fn come_back(&mut self, node: NodeId, store: Store) {
        if store == Store::Lost {
            self.sim.wipe(node);
        }
        self.sim.restart(node);
        let stored = self.sim.stored(node).clone();
        if !stored.is_empty() {
            self.sim.try_command(node, |role, now, out| {
                if let Some(mesh) = role.honest_mut() {
                    mesh.restore(now, &stored, out);
                }
            });
            return;
        }
        let there = |other: &NodeId| *other != node && self.sim.is_running(*other);
        let running: Vec<NodeId> = self.contacts.iter().copied().filter(there).collect();
        if let Some(contact) = self.rng.pick(&running).copied() {
            self.join(node, contact);
        }
    }

    /// Has the node join by a contact.
    pub(crate) fn join(&mut self, node: NodeId, contact: NodeId) {
        let contacts = vec![address(contact.index() as u32)];
        self.sim.try_command(node, |role, now, out| {
            // The one contact is well-formed, and no join is pending.
            role.honest_mut().map(|mesh| mesh.join(now, contacts, out))
        });
    }

    /// So many peers, each of which joins by a random one that was there before; then time to settle.
    pub(crate) fn form(&mut self, count: usize, settle: Duration) -> Result<()> {
        for number in 0..count {
            let before = self.contacts.len();
            let node = self.add();
            if before > 0 {
                let contact = self.contacts.get(self.rng.index(before)).copied().unwrap_or(node);
                self.join(node, contact);
            }
            let size = number.max(FIRST) as u64;
            self.sim.run_for(Duration::from_micros(4_000_000 / size).min(Duration::from_millis(10)));
            if number % 64 == 0 {
                self.progress.at(number as u64, count as u64, || format!("{number} of {count} peers joined"));
                self.must_be_right()?;
            }
        }
        self.pass(settle, "settling")
    }

    /// What follows is one thing, as far as progress goes, and takes so long.
    pub(crate) fn stage(&mut self, doing: &str, span: Duration) {
        let now = self.sim.now();
        self.stage = Some(Stage { doing: doing.to_owned(), start: now, end: now + span });
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, span: Duration, doing: &str) -> Result<()> {
        let (start, end) = (self.sim.now(), self.sim.now() + span);
        let own = || Stage { doing: doing.to_owned(), start, end };
        let stage = self.stage.take().filter(|stage| start < stage.end).unwrap_or_else(own);
        while self.sim.now() < end {
            self.sim.run_until((self.sim.now() + SLICE).min(end));
            self.must_be_right()?;
            let (done, all) = (self.sim.now().since(stage.start), stage.end.since(stage.start));
            self.progress.at(done.as_millis() as u64, all.as_millis() as u64, || {
                format!("{}: {:.0} of {:.0} s", stage.doing, done.as_secs_f64(), all.as_secs_f64())
            });
        }
        self.stage = Some(stage);
        Ok(())
    }

    /// Lets time pass until then.
    pub(crate) fn pass_until(&mut self, at: Instant, doing: &str) -> Result<()> {
        self.pass(at.since(self.sim.now()), doing)
    }

    /// From so long ahead on, all of these must be with whoever runs now and still does then.
    pub(crate) fn promise(&mut self, ids: &[MessageId], within: Duration) {
        let now = self.sim.now();
        self.ledger.borrow_mut().promise(ids.iter().copied(), now, now + within);
    }

    fn must_be_right(&self) -> Result<()> {
        if let Some(violation) = self.sim.violation() {
            bail!("what must never be, {violation}");
        }
        // Where nothing happens any more, nothing is looked at either.
        let kept = self.ledger.borrow_mut().keep_promises(self.sim.now());
        kept.map_err(|wrong| anyhow!("what must never be, at {:?}: {wrong}", self.sim.now()))
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().copied().filter(|node| self.sim.is_running(*node))
    }

    /// The machine, if it runs and is an honest one.
    pub(crate) fn honest(&self, node: NodeId) -> Option<&MeshMachine> {
        self.sim.machine(node).and_then(Role::honest)
    }

    /// Has the node say something, as soon as it can.
    pub(crate) fn say(&mut self, node: NodeId) -> Result<MessageId> {
        let mut body = vec![b'x'; self.payload];
        let number = self.said.to_le_bytes();
        body.iter_mut().zip(number).for_each(|(byte, digit)| *byte = digit);
        self.said += 1;
        let body = Bytes::from(body);
        let give_up = self.sim.now() + Duration::from_secs(60);
        loop {
            let parts = vec![body.clone()];
            let at = self.sim.now();
            let said = self.sim.try_command(node, |role, now, out| {
                role.honest_mut().map(|mesh| mesh.broadcast(now, parts, out))
            });
            match said.flatten() {
                Some(Ok(receipt)) => {
                    let id = receipt.id;
                    self.ledger.borrow_mut().say(id, node, at, body);
                    self.relays.borrow_mut().taken(at, node, id);
                    if let Some(within) = self.arrives_within {
                        self.promise(&[id], within);
                    }
                    return Ok(id);
                }
                Some(Err(BroadcastError::Full { .. } | BroadcastError::NoNeighbours)) if at < give_up => {
                    self.refused += 1;
                    self.sim.run_for(TRY_AGAIN);
                    self.must_be_right()?;
                }
                Some(Err(error)) => bail!("{node} cannot say anything for a minute: {error}"),
                None => bail!("{node} is to say something, and does not run"),
            }
        }
    }

    /// The neighbourhoods of running peers, as each of them has it.
    pub(crate) fn graph(&self) -> Graph {
        Graph::new(self.nodes.len(), |number, to| {
            let Some(mesh) = self.nodes.get(number).and_then(|node| self.honest(*node)) else { return };
            let running = |node: &NodeId| self.sim.is_running(*node);
            let neighbours = mesh.neighbours();
            let nodes = neighbours.iter().filter_map(|peer| self.sim.node(peer)).filter(running);
            to.extend(nodes.map(|node| node.index() as u32));
        })
    }

    /// The neighbourhoods of these peers with each other, as both have them.
    pub(crate) fn graph_among(&self, nodes: &[NodeId]) -> Graph {
        let mut among = vec![false; self.nodes.len()];
        for node in nodes {
            if let Some(among) = among.get_mut(node.index()) {
                *among = true;
            }
        }
        let is_among = |node: &u32| among.get(*node as usize) == Some(&true);
        let all = self.graph();
        let among = Graph::new(self.nodes.len(), |node, to| {
            if is_among(&(node as u32)) {
                to.extend(all.neighbours(node).iter().filter(|other| is_among(other)));
            }
        });
        among.mutual()
    }

    /// The share of these peers that the largest component has which needs no other.
    pub(crate) fn component_among(&self, nodes: &[NodeId]) -> f64 {
        self.graph_among(nodes).largest_component() as f64 / nodes.len().max(1) as f64
    }

    /// The share of running peers that the largest component has.
    pub(crate) fn component(&self) -> f64 {
        let running = self.running().count().max(1);
        self.graph().mutual().largest_component() as f64 / running as f64
    }
}
