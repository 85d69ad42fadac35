//! What several scenarios measure.

use peerage_overlay::MessageId;
use peerage_sim::{NodeId, Stats};

use crate::figures::{Figures, max, mean, percentile};
use crate::world::World;

/// Traffic since a moment.
#[derive(Clone, Debug)]
pub(crate) struct Since(Stats);

impl Since {
    pub(crate) fn now(world: &World) -> Self {
        Self(world.sim.stats())
    }

    /// Messages of this kind that arrived since then.
    pub(crate) fn arrived(&self, world: &World, kind: &str) -> u64 {
        let of = |stats: &Stats| stats.delivered_of_kind.get(kind).map_or(0, |it| it.messages);
        of(&world.sim.stats()) - of(&self.0)
    }

    /// Bytes of payloads that were sent since then, and of everything else.
    pub(crate) fn bytes(&self, world: &World) -> (u64, u64) {
        let of = |stats: &Stats| {
            let payload = stats.sent_of_kind.get("payload").map_or(0, |it| it.bytes);
            (payload, stats.sent.total().bytes - payload)
        };
        let ((payload, other), (payload_before, other_before)) = (of(&world.sim.stats()), of(&self.0));
        (payload - payload_before, other - other_before)
    }

    /// Bytes of everything but payloads that were sent since then, by kind.
    pub(crate) fn control(&self, world: &World) -> Vec<(&'static str, u64)> {
        let before = |kind| self.0.sent_of_kind.get(kind).map_or(0, |it| it.bytes);
        let now = world.sim.stats().sent_of_kind;
        let since = now.into_iter().map(|(kind, it)| (kind, it.bytes - before(kind)));
        since.filter(|(kind, _)| *kind != "payload").collect()
    }

    pub(crate) fn counter(&self, world: &World, name: &str) -> u64 {
        world.sim.stats().counter(name) - self.0.counter(name)
    }
}

/// Who should have these messages, and who has: adds `delivered` and the percentiles.
pub(crate) fn deliveries(world: &World, ids: &[MessageId], due: &[NodeId], figures: &mut Figures, goal: f64) {
    figures.add_at_least("delivered", "share", share(world, ids, due), goal);
    times(world, ids, figures);
}

/// The share of those that should have these messages, all of `due` but the origins, that have them.
pub(crate) fn share(world: &World, ids: &[MessageId], due: &[NodeId]) -> f64 {
    let ledger = world.ledger.borrow();
    let (mut heard, mut should) = (0_u64, 0_u64);
    for said in ids.iter().filter_map(|id| ledger.said.get(id)) {
        for node in due.iter().filter(|node| **node != said.origin) {
            should += 1;
            heard += u64::from(said.was_heard_by(*node));
        }
    }
    heard as f64 / should.max(1) as f64
}

/// How long the message took to each of these nodes, in milliseconds, and how many of them lack it. Its origin is none of
/// them.
pub(crate) fn times_among(world: &World, id: MessageId, nodes: &[NodeId]) -> (Vec<f64>, usize) {
    let ledger = world.ledger.borrow();
    let Some(said) = ledger.said.get(&id) else { return (Vec::new(), 0) };
    let mut due = vec![false; world.nodes.len()];
    for node in nodes.iter().filter(|node| **node != said.origin) {
        if let Some(due) = due.get_mut(node.index()) {
            *due = true;
        }
    }
    let is_due = |node: &u32| due.get(*node as usize) == Some(&true);
    let heard = said.after.iter().filter(|(node, _)| is_due(node));
    let times: Vec<f64> = heard.map(|(_, micros)| f64::from(*micros) / 1000.0).collect();
    let lack = due.iter().filter(|due| **due).count() - times.len();
    (times, lack)
}

/// How long these messages took, to each that heard them, in milliseconds.
pub(crate) fn times_of(world: &World, ids: &[MessageId]) -> Vec<f64> {
    let ledger = world.ledger.borrow();
    let said = ids.iter().filter_map(|id| ledger.said.get(id));
    said.flat_map(|said| said.after.iter().map(|(_, micros)| f64::from(*micros) / 1000.0)).collect()
}

/// Adds percentiles of the delivery times, and of the times until the last had the message.
pub(crate) fn times(world: &World, ids: &[MessageId], figures: &mut Figures) {
    delays(times_of(world, ids), figures);
    let mut to_all: Vec<f64> = ids.iter().map(|id| max(&times_of(world, &[*id]))).collect();
    figures.add("to_all_p50", "ms", percentile(&mut to_all, 50.0));
}

/// Adds percentiles of delivery times, in milliseconds.
pub(crate) fn delays(mut millis: Vec<f64>, figures: &mut Figures) {
    figures.add("delivered_p50", "ms", percentile(&mut millis, 50.0));
    figures.add("delivered_p99", "ms", percentile(&mut millis, 99.0));
    figures.add("delivered_max", "ms", max(&millis));
}

/// The curve of how many of those who should hear these messages had heard them after so many milliseconds.
pub(crate) fn arrivals(world: &World, ids: &[MessageId], receivers: usize) -> Vec<(f64, f64)> {
    curve(times_of(world, ids), ids.len() * receivers)
}

/// The share of `all` that is there after so many milliseconds.
pub(crate) fn curve(mut millis: Vec<f64>, all: usize) -> Vec<(f64, f64)> {
    millis.sort_by(f64::total_cmp);
    let step = millis.len().div_ceil(400).max(1);
    let mut points = vec![(0.0, 0.0)];
    for (index, millis) in (1..).zip(&millis) {
        if index % step == 0 || index == all {
            points.push((*millis, index as f64 / all.max(1) as f64));
        }
    }
    points
}

/// How the views look: adds degree and passive figures.
pub(crate) fn views(world: &World, figures: &mut Figures) {
    let snapshots = || world.running().filter_map(|node| world.honest(node)).map(|mesh| mesh.snapshot());
    let degrees: Vec<f64> = snapshots().map(|it| it.neighbours.len() as f64).collect();
    let passive: Vec<f64> = snapshots().map(|it| it.passive as f64).collect();
    figures.add("degree_mean", "", mean(&degrees));
    figures.add("degree_min", "", degrees.iter().copied().fold(f64::INFINITY, f64::min));
    figures.add("degree_max", "", max(&degrees));
    figures.add("passive_mean", "", mean(&passive));
    let memory: Vec<f64> = snapshots().map(|it| it.memory as f64 / 1024.0).collect();
    figures.add("machine_memory", "KiB", mean(&memory));
}
