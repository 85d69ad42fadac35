//! What goes wrong.

use std::time::Duration;

use peerage_machine::{Machine, Why};

use crate::links::{LinkKey, Side};
use crate::sim::Happening;
use crate::trace::Kind;
use crate::{NodeId, Sim};

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

    /// Ends the partition. Nodes that lost each other have to dial.
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            node.group = 0;
        }
    }

    /// Sets how far the node's wall clock is off, in milliseconds: it jumps.
    pub fn set_wall_skew(&mut self, node: NodeId, millis: i64) {
        if let Some(node) = self.get_mut(node) {
            node.skew = millis;
        }
    }

    /// Whether a connection from one node to the other could be made.
    pub(crate) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        let (from, to) = (self.get(from), self.get(to));
        to.machine.is_some() && from.group == to.group
    }

    pub(crate) fn loss_check(&mut self, key: LinkKey) {
        if !self.links.get(key).is_some_and(|link| link.is_alive()) {
            return;
        }
        if self.rng.chance(self.config.link_loss_per_second) {
            self.lose(key);
        } else {
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
