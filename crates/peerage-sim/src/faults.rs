//! What goes wrong.

use std::time::Duration;

use peerage_machine::{Machine, Side as Who, Why};

use crate::links::{LinkKey, Side};
use crate::node::Node;
use crate::sim::Happening;
use crate::trace::Kind;
use crate::{NodeId, Region, Sim};

impl<M: Machine> Sim<M> {
    /// The node stops in the midst of everything. Its machine is gone; of what it had sent, anything from some point on
    /// is lost; of the batches that were on their way to the store, some first ones are there, whole. The other ends of
    /// its links go on sending into the void until they notice ([`crate::Config::detection`]).
    pub fn crash(&mut self, id: NodeId) {
        let now = self.now;
        let kept = {
            let Some(node) = self.get_mut(id).filter(|node| node.machine.is_some()) else { return };
            node.machine = None;
            node.epoch += 1;
            node.storing.len() as u64
        };
        self.trace.line(now, Kind::Crash, id.0, 0, kept);
        self.show_stop(id);
        let kept = self.rng.below(kept + 1);
        if let Some(node) = self.nodes.get_mut(id.index()) {
            for (_, batch) in std::mem::take(&mut node.storing).into_iter().take(kept as usize) {
                node.store(batch);
            }
        }
        self.dials.forget(id);
        for (_, key, side) in self.links.of(id) {
            let Some(flushed) = self.links.get(key).map(|link| link.end(side).flushed().max(now)) else {
                continue;
            };
            let lost_from = now + self.rng.duration_between(Duration::ZERO, flushed.since(now));
            if let Some(link) = self.links.get_mut(key) {
                link.cut(side, lost_from);
            }
            self.links.end(key, side);
            let noticed = self.detected();
            let why = Why::Lost("the peer does not answer".to_owned());
            self.down_at(noticed, key, side.other(), why);
        }
    }

    /// Starts the node anew, with a new incarnation, the same key and what its store holds; crashes it first if it
    /// runs.
    pub fn restart(&mut self, id: NodeId) {
        self.crash(id);
        self.start(id);
    }

    /// The node's program ends in good order: its machine is gone, and the other ends of its links are told, after
    /// everything that was sent on them.
    pub fn stop(&mut self, id: NodeId) {
        let now = self.now;
        {
            let Some(node) = self.get_mut(id).filter(|node| node.machine.is_some()) else { return };
            node.machine = None;
            node.epoch += 1;
            for (_, batch) in std::mem::take(&mut node.storing) {
                node.store(batch);
            }
        }
        self.trace.line(now, Kind::Crash, id.0, 1, 0);
        self.show_stop(id);
        self.dials.forget(id);
        for (_, key, side) in self.links.of(id) {
            let Some(link) = self.links.get(key) else { continue };
            let told = (now + link.latency).max(link.end(side).flushed());
            self.links.doom(key);
            self.links.end(key, side);
            self.down_at(told, key, side.other(), Why::Shutdown { by: Who::Them, detail: String::new() });
        }
    }

    /// Forgets what the node's store holds, as when a disk is replaced. A machine that runs is not told.
    pub fn wipe(&mut self, id: NodeId) {
        if let Some(node) = self.get_mut(id) {
            node.store.clear();
        }
    }

    /// The link between two nodes is gone at the second one, which notices at once. The first one goes on sending into the
    /// void until it notices ([`crate::Config::detection`]). Whether there was one.
    pub fn half_open(&mut self, ghost: NodeId, gone: NodeId) -> bool {
        let Some((key, side, _)) = self.links.up(gone, ghost) else { return false };
        self.forget_at(key, side);
        true
    }

    /// The link is gone at this end; the other one has a ghost of it.
    fn forget_at(&mut self, key: LinkKey, side: Side) {
        self.break_off(key);
        self.down_at(self.now, key, side, Why::Lost("the connection was reset".to_owned()));
        let noticed = self.detected();
        self.down_at(noticed, key, side.other(), Why::Lost("the peer does not answer".to_owned()));
    }

    /// What the first node sends to the second on the link that they have leaves after so long at the earliest, in order.
    /// Whether there is one.
    pub fn stall(&mut self, from: NodeId, to: NodeId, span: Duration) -> bool {
        let until = self.now + span;
        let Some((key, side, _)) = self.links.up(from, to) else { return false };
        self.links.get_mut(key).map(|link| link.stall(side, until)).is_some()
    }

    /// Puts the node into a region: [`crate::Config::routes`]. Links that are up keep their latency.
    pub fn place_in(&mut self, node: NodeId, region: Region) {
        if let Some(node) = self.get_mut(node) {
            node.region = region;
        }
    }

    /// Whether others can dial the node from now on, as one behind a NAT cannot be; it can dial. Links that are up stay.
    pub fn set_reachable(&mut self, node: NodeId, reachable: bool) {
        if let Some(node) = self.get_mut(node) {
            node.reachable = reachable;
        }
    }

    /// The link between two nodes breaks, both notice at once, and what was under way is lost. Whether there was one.
    pub fn sever(&mut self, a: NodeId, b: NodeId) -> bool {
        let Some((key, ..)) = self.links.up(a, b).or_else(|| self.links.up(b, a)) else { return false };
        self.lose(key);
        true
    }

    /// Splits the network: nodes of different groups cannot reach each other, and nodes in no group form one more.
    /// Links between groups carry nothing from now on, even if the network heals; their ends notice after
    /// [`crate::Config::detection`]. Replaces an earlier partition.
    pub fn partition<G: AsRef<[NodeId]>>(&mut self, groups: &[G]) {
        for node in &mut self.nodes {
            node.group = 0;
        }
        for (number, group) in groups.iter().enumerate() {
            for id in group.as_ref() {
                if let Some(node) = self.get_mut(*id) {
                    node.group = number as u32 + 1;
                }
            }
        }
        for key in self.links.all() {
            let Some(link) = self.links.get(key) else { continue };
            let ends = Side::BOTH.map(|side| link.end(side).node);
            let [a, b] = ends.map(|node| self.get(node).group);
            if a != b && self.break_off(key) {
                for side in Side::BOTH {
                    let noticed = self.detected();
                    let why = Why::Lost("the network is partitioned".to_owned());
                    self.down_at(noticed, key, side, why);
                }
            }
        }
    }

    /// Nothing that a node of the first group sends reaches one of the second, and the other way everything does. No
    /// connection between them can be made. Of a link that they have, the second one notices after
    /// [`crate::Config::detection`] that nothing comes, and the first one then hears so. Earlier walls stay.
    ///
    /// # Panics
    /// When there are 64 walls already.
    pub fn wall(&mut self, from: &[NodeId], to: &[NodeId]) {
        assert!(self.walls < u64::BITS, "there are {} one-way walls, which is all there can be", self.walls);
        let bit = 1 << self.walls;
        self.walls += 1;
        for id in from {
            if let Some(node) = self.get_mut(*id) {
                node.before |= bit;
            }
        }
        for id in to {
            if let Some(node) = self.get_mut(*id) {
                node.behind |= bit;
            }
        }
        let now = self.now;
        for key in self.links.all() {
            for side in Side::BOTH {
                let Some(link) = self.links.get_mut(key) else { continue };
                let (sender, receiver) = (link.end(side).node, link.end(side.other()).node);
                let latency = link.latency;
                let hits = |node: NodeId, of: fn(&Node<M>) -> u64| {
                    self.nodes.get(node.index()).is_some_and(|node| of(node) & bit != 0)
                };
                if !(hits(sender, |node| node.before) && hits(receiver, |node| node.behind)) {
                    continue;
                }
                link.cut(side, now);
                self.links.doom(key);
                let noticed = self.detected();
                let why = || Why::Lost("nothing comes through any more".to_owned());
                self.down_at(noticed, key, side.other(), why());
                self.down_at(noticed + latency, key, side, why());
            }
        }
    }

    /// Ends all partitions and takes down all walls. Nodes that lost each other have to dial.
    pub fn heal(&mut self) {
        self.walls = 0;
        for node in &mut self.nodes {
            (node.group, node.before, node.behind) = (0, 0, 0);
        }
    }

    /// Sets how far the node's wall clock is off, in milliseconds: it jumps.
    pub fn set_wall_skew(&mut self, node: NodeId, millis: i64) {
        if let Some(node) = self.get_mut(node) {
            node.skew = millis;
        }
    }

    /// Sets how many microseconds a second the node's wall clock gains from the simulation's start on: it jumps.
    pub fn set_wall_drift(&mut self, node: NodeId, micros: i32) {
        if let Some(node) = self.get_mut(node) {
            node.drift = i64::from(micros);
        }
    }

    /// Whether a connection from one node to the other could be made.
    pub(crate) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        let (from, to) = (self.get(from), self.get(to));
        let walled = from.before & to.behind != 0 || to.before & from.behind != 0;
        to.machine.is_some() && to.reachable && from.group == to.group && !walled
    }

    pub(crate) fn loss_check(&mut self, key: LinkKey) {
        if !self.links.get(key).is_some_and(|link| link.is_alive()) {
            return;
        }
        // Nothing is drawn for what is not asked for: kept seeds go on to mean the same.
        if self.rng.chance(self.config.link_loss_per_second) {
            self.lose(key);
        } else if self.config.half_open_per_second > 0.0 && self.rng.chance(self.config.half_open_per_second)
        {
            let side = if self.rng.chance(0.5) { Side::Dialer } else { Side::Acceptor };
            self.forget_at(key, side);
        } else {
            for side in Side::BOTH {
                if self.config.stalls_per_second > 0.0 && self.rng.chance(self.config.stalls_per_second) {
                    let (least, most) = (*self.config.stall.start(), *self.config.stall.end());
                    let until = self.now + self.rng.duration_between(least, most);
                    if let Some(link) = self.links.get_mut(key) {
                        link.stall(side, until);
                    }
                }
            }
            self.schedule(self.now + Duration::from_secs(1), Happening::LossCheck { link: key });
        }
    }

    fn lose(&mut self, key: LinkKey) {
        self.break_off(key);
        for side in Side::BOTH {
            let why = Why::Lost("the connection was reset".to_owned());
            self.down_at(self.now, key, side, why);
        }
    }

    /// The link carries nothing more. Whether it was alive.
    fn break_off(&mut self, key: LinkKey) -> bool {
        let now = self.now;
        let Some(link) = self.links.get_mut(key) else { return false };
        let was_alive = link.is_alive();
        for side in Side::BOTH {
            link.cut(side, now);
        }
        self.links.doom(key);
        was_alive
    }

    fn detected(&mut self) -> peerage_machine::Instant {
        let (from, to) = (*self.config.detection.start(), *self.config.detection.end());
        self.now + self.rng.duration_between(from, to)
    }
}
