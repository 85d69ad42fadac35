//! Dials: each ends in exactly one `Dialed` or `DialFailed`, unless the dialer crashes.

use std::collections::{BTreeMap, VecDeque};

use peerage_machine::{
    DialId, Input, InstanceName, LinkId, Machine, Refusal, RefusalReason, Side as Who, Target, Why,
};
use peerage_wire::{Address, PeerId};

use crate::links::{LinkKey, Side};
use crate::sim::Happening;
use crate::trace::Kind;
use crate::{Instance, NodeId, Sim};

/// Names a dial within the simulation.
pub(crate) type TaskId = u64;

/// A link, as one end knows it.
type Found = (LinkKey, Side, LinkId);

/// One dial of a machine.
struct Task {
    node: NodeId,
    dial: DialId,
    /// Whom it must reach; anybody, if it was given an address.
    expected: Option<PeerId>,
    /// Where it has not tried.
    untried: VecDeque<Address>,
}

/// A connection on its way from one node to another: all dials of the one that mean the other.
struct Handshake {
    stamp: u64,
    address: Address,
    epochs: (u32, u32),
    /// Dials of the dialer.
    tasks: Vec<TaskId>,
    /// Dials of the other node that gave way to this one.
    waiting: Vec<TaskId>,
}

#[derive(Default)]
pub(crate) struct Dials {
    given: u64,
    tasks: BTreeMap<TaskId, Task>,
    handshakes: BTreeMap<(NodeId, NodeId), Handshake>,
}

impl Dials {
    /// The node crashed: nobody is there to be told.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.tasks.retain(|_, task| task.node != node);
        self.handshakes.retain(|(dialer, _), _| *dialer != node);
    }
}

impl<M: Machine> Sim<M> {
    pub(crate) fn dial(&mut self, node: NodeId, dial: DialId, target: Target) {
        self.stats.dials += 1;
        let (expected, untried) = match target {
            Target::Address(address) => (None, VecDeque::from([address])),
            Target::Peer { peer, addresses } => (Some(peer), VecDeque::from(addresses)),
        };
        let task = self.dials.given;
        self.dials.given += 1;
        self.dials.tasks.insert(task, Task { node, dial, expected, untried });
        self.attempt(task);
    }

    /// Tries the next address of a dial.
    fn attempt(&mut self, id: TaskId) {
        let now = self.now;
        let Some(task) = self.dials.tasks.get(&id) else { return };
        let (dialer, expected) = (task.node, task.expected);
        if let Some(peer) = expected {
            if self.get(dialer).peer == peer {
                if let Some(task) = self.dials.tasks.get_mut(&id) {
                    task.untried.clear();
                }
                return self.schedule(now, Happening::Attempted { task: id, why: Box::new(Why::SelfDial) });
            }
            if self.newest(dialer, peer).is_some() {
                return self.schedule(now, Happening::Joined { task: id });
            }
        }
        let Some(address) = self.dials.tasks.get_mut(&id).and_then(|task| task.untried.pop_front()) else {
            return self.schedule(now, Happening::Attempted { task: id, why: Box::new(Why::NoAddress) });
        };
        let acceptor =
            self.by_address.get(&address).copied().filter(|acceptor| self.reaches(dialer, *acceptor));
        let Some(acceptor) = acceptor else {
            let at = now + self.config.unreachable_after;
            return self.schedule(at, Happening::Attempted { task: id, why: Box::new(unreachable(address)) });
        };
        let found = self.get(acceptor).peer;
        if found == self.get(dialer).peer {
            return self.schedule(now, Happening::Attempted { task: id, why: Box::new(Why::SelfDial) });
        }
        let at = now + self.latency(dialer, acceptor) * 3;
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return self.schedule(
                at,
                Happening::Attempted { task: id, why: Box::new(Why::WrongPeer { expected, found }) },
            );
        }
        if self.links.up(dialer, acceptor).is_some() {
            // Should the link be gone by then, the address is tried after all.
            if let Some(task) = self.dials.tasks.get_mut(&id) {
                task.untried.push_front(address);
            }
            return self.schedule(now, Happening::Joined { task: id });
        }
        if let Some(handshake) = self.dials.handshakes.get_mut(&(dialer, acceptor)) {
            return handshake.tasks.push(id);
        }
        let (stamp, epochs) = (id, (self.get(dialer).epoch, self.get(acceptor).epoch));
        let handshake = Handshake { stamp, address, epochs, tasks: vec![id], waiting: Vec::new() };
        self.dials.handshakes.insert((dialer, acceptor), handshake);
        self.schedule(at, Happening::Handshake { dialer, acceptor, stamp });
    }

    /// An address of a dial did not do.
    pub(crate) fn attempt_failed(&mut self, id: TaskId, why: Why) {
        let Some(task) = self.dials.tasks.get_mut(&id) else { return };
        if !task.untried.is_empty() {
            return self.attempt(id);
        }
        let (node, dial) = (task.node, task.dial);
        self.dials.tasks.remove(&id);
        self.stats.dials_failed += 1;
        self.input(node, Input::DialFailed { dial, why });
    }

    /// There was a link already.
    pub(crate) fn joined(&mut self, id: TaskId) {
        let Some(task) = self.dials.tasks.get(&id) else { return };
        let by_address = || self.by_address.get(task.untried.front()?).copied();
        let link = match task.expected {
            Some(peer) => self.newest(task.node, peer),
            None => by_address().and_then(|acceptor| self.links.up(task.node, acceptor)),
        };
        match link {
            Some(link) => self.dialed(id, Some(link)),
            None => self.attempt(id),
        }
    }

    /// The newest link to the key that the node may use.
    fn newest(&self, node: NodeId, peer: PeerId) -> Option<Found> {
        let nodes = self.by_peer.get(&peer)?;
        nodes.iter().filter_map(|peer| self.links.up(node, *peer)).max_by_key(|(.., link)| *link)
    }

    /// The dial ends well.
    fn dialed(&mut self, id: TaskId, link: Option<Found>) {
        let Some(task) = self.dials.tasks.remove(&id) else { return };
        let Some((key, side, link)) = link else {
            // Closed between the link's Up and here, by the machine itself.
            self.stats.dials_failed += 1;
            return self.input(task.node, Input::DialFailed { dial: task.dial, why: Why::NotUp });
        };
        self.set_held(key, side, true);
        self.stats.dialed += 1;
        self.input(task.node, Input::Dialed { dial: task.dial, link });
    }

    /// A connection has gone through its one and a half round trips.
    pub(crate) fn handshake(&mut self, dialer: NodeId, acceptor: NodeId, stamp: u64) {
        let there =
            self.dials.handshakes.get(&(dialer, acceptor)).filter(|handshake| handshake.stamp == stamp);
        if there.is_none() {
            return;
        }
        let Some(handshake) = self.dials.handshakes.remove(&(dialer, acceptor)) else { return };
        let epochs = (self.get(dialer).epoch, self.get(acceptor).epoch);
        if handshake.epochs != epochs || !self.reaches(dialer, acceptor) {
            for task in handshake.tasks {
                self.attempt_failed(task, unreachable(handshake.address.clone()));
            }
            return self.try_again(handshake.waiting, dialer);
        }
        if let Some(reason) = mismatch(&self.get(dialer).instance, &self.get(acceptor).instance) {
            self.refuse(dialer, acceptor, handshake.tasks, reason);
            return self.try_again(handshake.waiting, dialer);
        }
        // Both dialled: the dial of the smaller key stays, and the other one waits for it.
        if self.get(acceptor).peer < self.get(dialer).peer
            && let Some(stays) = self.dials.handshakes.get_mut(&(acceptor, dialer))
        {
            return stays.waiting.extend(handshake.tasks);
        }
        let crossing = self.dials.handshakes.remove(&(acceptor, dialer));
        self.bring_up(dialer, acceptor);
        for task in handshake.tasks {
            self.dialed(task, self.links.up(dialer, acceptor));
        }
        for task in
            handshake.waiting.into_iter().chain(crossing.into_iter().flat_map(|crossing| crossing.tasks))
        {
            self.dialed(task, self.links.up(acceptor, dialer));
        }
    }

    /// Dials that gave way to one that failed are on their own again.
    fn try_again(&mut self, tasks: Vec<TaskId>, acceptor: NodeId) {
        let addresses = self.get(acceptor).addresses.clone();
        for id in tasks {
            if let Some(task) = self.dials.tasks.get_mut(&id)
                && let Some(address) = addresses.first()
            {
                task.untried.push_front(address.clone());
            }
            self.attempt(id);
        }
    }

    fn refuse(&mut self, dialer: NodeId, acceptor: NodeId, tasks: Vec<TaskId>, reason: RefusalReason) {
        let now = self.now;
        let (offering, refusing) = (self.get(dialer).peer, self.get(acceptor).peer);
        let instance: InstanceName = self.get(dialer).instance.name.clone();
        self.trace.line(now, Kind::Refused, acceptor.0, u64::from(dialer.0), 0);
        let refused = Refusal { by: Who::Them, instance: instance.clone(), reason: reason.clone() };
        if let Some(node) = self.get_mut(acceptor) {
            node.refusals.push((now, offering, Refusal { by: Who::Us, instance, reason }));
        }
        if let Some(node) = self.get_mut(dialer) {
            node.refusals.push((now, refusing, refused.clone()));
        }
        for task in tasks {
            self.attempt_failed(task, Why::Refused(refused.clone()));
        }
    }
}

fn unreachable(address: Address) -> Why {
    Why::Unreachable { address, detail: "nobody answers".to_owned() }
}

/// What the acceptor has against the dialer's instance.
fn mismatch(offered: &Instance, own: &Instance) -> Option<RefusalReason> {
    if offered.name != own.name {
        Some(RefusalReason::UnknownInstance)
    } else if offered.version != own.version {
        Some(RefusalReason::Version { ours: offered.version, theirs: own.version.to_string() })
    } else if offered.parameters != own.parameters {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(RefusalReason::Parameters { ours: hex(&offered.parameters), theirs: hex(&own.parameters) })
    } else {
        None
    }
}
