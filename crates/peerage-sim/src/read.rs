//! What a scenario can see.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{CallId, Direction, Instant, LinkId, Machine, Refusal};
use peerage_wire::PeerId;

use crate::links::Phase;
use crate::{NodeId, Sim, Stats};

/// A link as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkView {
    /// The node's name of it.
    pub link: LinkId,
    /// Who is at the other end.
    pub peer: PeerId,
    /// The same, as a node.
    pub node: NodeId,
    /// Who dialled.
    pub direction: Direction,
    /// Whether this node holds it.
    pub held: bool,
    /// Whether both ends can use it. A link to a crashed peer is seen until the crash is noticed.
    pub whole: bool,
    /// When it came up.
    pub since: Instant,
}

impl<M: Machine> Sim<M> {
    /// The present.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// What the run amounted to so far.
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        for node in &self.nodes {
            for (name, by) in &node.counters {
                *stats.counters.entry(name).or_default() += by;
            }
            for (what, count) in &node.faults {
                *stats.faults.entry(what).or_default() += count;
            }
        }
        stats
    }

    /// A fingerprint of everything that happened: equal for runs that went the same way.
    pub fn trace_hash(&self) -> [u8; 32] {
        self.trace.hash()
    }

    /// What to do to see this again, in one line.
    pub fn reproduction(&self) -> String {
        let trace: String = self.trace_hash().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!(
            "to see this again: Config::seeded({}), {} nodes, {:?} of virtual time, {} events, trace {trace}",
            self.config.seed,
            self.nodes.len(),
            self.now,
            self.stats.events
        )
    }

    /// The nodes, in the order in which they were added.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<M> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The node with this key; of several, the one added last.
    pub fn node(&self, peer: &PeerId) -> Option<NodeId> {
        self.by_peer.get(peer)?.last().copied()
    }

    /// The node's key.
    ///
    /// # Panics
    /// When the node is of another simulation.
    pub fn peer(&self, node: NodeId) -> PeerId {
        self.get(node).peer
    }

    /// The node's machine, while it runs.
    pub fn machine(&self, node: NodeId) -> Option<&M> {
        self.get(node).machine.as_ref()
    }

    /// Whether the node runs.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.get(node).machine.is_some()
    }

    /// What the node's store holds.
    pub fn stored(&self, node: NodeId) -> &BTreeMap<Bytes, Bytes> {
        &self.get(node).store
    }

    /// A counter of the node's machines.
    pub fn counter(&self, node: NodeId, name: &str) -> u64 {
        self.get(node).counters.get(name).copied().unwrap_or(0)
    }

    /// The faults that the node's machines counted against peers.
    pub fn faults(&self, node: NodeId) -> &BTreeMap<&'static str, u64> {
        &self.get(node).faults
    }

    /// The node's links, in the order in which they came up.
    pub fn links(&self, node: NodeId) -> Vec<LinkView> {
        let seen = self.links.of(node).into_iter().filter_map(|(link, key, side)| {
            let entry = self.links.get(key)?;
            let (end, other) = (entry.end(side), entry.end(side.other()));
            (end.phase == Phase::Up).then(|| LinkView {
                link,
                peer: self.get(other.node).peer,
                node: other.node,
                direction: end.direction,
                held: end.held,
                whole: entry.is_alive(),
                since: entry.since,
            })
        });
        seen.collect()
    }

    /// What the node's machines told the application since this was last asked, and when.
    pub fn take_events(&mut self, node: NodeId) -> Vec<(Instant, M::Event)> {
        self.get_mut(node).map_or_else(Vec::new, |node| std::mem::take(&mut node.events))
    }

    /// What the application's questions to the node ended with since this was last asked, and when.
    pub fn take_answers(&mut self, node: NodeId) -> Vec<(Instant, CallId, M::Answer)> {
        self.get_mut(node).map_or_else(Vec::new, |node| std::mem::take(&mut node.answers))
    }

    /// Which links came about at neither end since this was last asked, because the instances do not match: when, with
    /// whom, and as the node sees it.
    pub fn take_refusals(&mut self, node: NodeId) -> Vec<(Instant, PeerId, Refusal)> {
        self.get_mut(node).map_or_else(Vec::new, |node| std::mem::take(&mut node.refusals))
    }

    /// The one-way latency between two nodes, the same each time it is asked.
    pub fn latency(&self, a: NodeId, b: NodeId) -> Duration {
        let (range, ..) = self.config.route(self.get(a).region, self.get(b).region);
        let (from, to) = (range.start().as_micros() as u64, range.end().as_micros() as u64);
        let pair = u64::from(a.0.min(b.0)) << 32 | u64::from(a.0.max(b.0));
        // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a draw per pair without a table of pairs.
        let mut mixed = (self.latency_key ^ pair).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let span = u128::from(to.saturating_sub(from).saturating_add(1));
        Duration::from_micros(from + ((u128::from(mixed) * span) >> 64) as u64)
    }
}
