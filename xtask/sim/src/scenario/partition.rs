//! The network falls apart, and heals.

use std::time::Duration;

use anyhow::Result;
use peerage_overlay::MessageId;
use peerage_sim::{Config, NodeId};

use super::Outcome;
use super::measure::{share, views};
use crate::cli::Options;
use crate::figures::Figures;
use crate::plot::Curve;
use crate::world::{World, verifier};

/// Parts that it falls into.
pub(super) const PARTS: usize = 3;
/// From one round, in which a peer of each part speaks, to the next.
const EVERY: Duration = Duration::from_secs(5);
/// Messages stay in the window for so much longer than the partition lasts.
const LONGER: Duration = Duration::from_secs(300);
/// Periods of reconciliation after which everyone should have everything.
const PERIODS: u32 = 3;
/// So long after healing, nothing may be lacking.
const LAST: Duration = Duration::from_secs(120);
/// Looks in a period.
const LOOKS: u32 = 10;

/// How long messages are retained, so that the window holds what was said in a partition that lasts so long.
pub(super) fn retain_for(lasting: Duration) -> Duration {
    lasting + LONGER
}

pub(super) fn run(
    options: &Options,
    seed: u64,
    world: impl FnOnce(Config) -> World,
) -> Result<(Outcome, World)> {
    let peers = options.peers(super::Scenario::Partition.peers());
    let mut world = world(Config { verifier: verifier(), ..Config::seeded(seed) });
    world.form(peers, options.settle(Duration::from_secs(60)))?;
    let mut figures = Figures::default();
    views(&world, &mut figures);
    let mut shuffled = world.nodes.clone();
    world.rng.shuffle(&mut shuffled);
    let parts: Vec<Vec<NodeId>> = shuffled.chunks(peers.div_ceil(PARTS)).map(<[NodeId]>::to_vec).collect();
    if options.is_one_way() {
        for (from, to) in parts.iter().zip(parts.iter().cycle().skip(1)) {
            world.sim.wall(from, to);
        }
    } else {
        world.sim.partition(&parts);
    }
    let mut ids = Vec::new();
    let ends = world.sim.now() + options.lasting();
    world.stage("in parts", options.lasting());
    while world.sim.now() < ends {
        for part in &parts {
            let origin = world.rng.pick(part).copied();
            if let Some(origin) =
                origin.filter(|node| world.honest(*node).is_some_and(|mesh| mesh.is_ready()))
            {
                ids.push(world.say(origin)?);
            }
        }
        world.pass(EVERY.min(ends.since(world.sim.now())), "in parts")?;
    }
    figures.add("said_in_parts", "", ids.len() as f64);
    figures.add("delivered_in_parts", "share", delivered_in_parts(&world, &ids, &parts));
    world.sim.heal();
    let healed = world.sim.now();
    world.promise(&ids, LAST);
    let nodes = world.nodes.clone();
    let mut points = vec![(0.0, share(&world, &ids, &nodes))];
    let period = world.mesh().summary_every;
    let mut merged = None;
    world.stage("after healing", period * PERIODS);
    for number in 1..=PERIODS {
        for look in 1..=LOOKS {
            let at = healed + period * (number - 1) + period * look / LOOKS;
            world.pass_until(at, "after healing")?;
            points.push((at.since(healed).as_secs_f64(), share(&world, &ids, &nodes)));
            if merged.is_none() && world.component() >= 1.0 {
                merged = Some(at.since(healed).as_secs_f64());
            }
        }
        let delivered = points.last().map_or(0.0, |point| point.1);
        if number < PERIODS {
            figures.add(format!("delivered_after_{number}"), "share", delivered);
        } else {
            figures.add_at_least("delivered", "share", delivered, 1.0);
        }
        figures.add(format!("component_after_{number}"), "share", world.component());
    }
    figures.add("merged_after", "s", merged.unwrap_or(f64::INFINITY));
    let complete = points.iter().find(|(_, share)| *share >= 1.0).map_or(f64::INFINITY, |point| point.0);
    figures.add("complete_after", "s", complete);
    figures.add("missed", "", world.ledger.borrow().missed as f64);
    figures.add("refused", "", world.refused as f64);
    if complete.is_infinite() {
        world.pass_until(healed + LAST, "waiting for the last")?;
    }
    let curve = Curve {
        title: format!("{peers} peers in {PARTS} parts for {:?}, healed, seed {seed}", options.lasting()),
        x: "time since healing, s".to_owned(),
        y: "share of messages at peers".to_owned(),
        points,
    };
    Ok((Outcome { figures, curve }, world))
}

/// Whether those of the origin's own part have what it said.
fn delivered_in_parts(world: &World, ids: &[MessageId], parts: &[Vec<NodeId>]) -> f64 {
    let origin = |id: &MessageId| world.ledger.borrow().said.get(id).map(|said| said.origin);
    let (mut sum, mut count) = (0.0, 0);
    for id in ids {
        let Some(part) = origin(id).and_then(|origin| parts.iter().find(|part| part.contains(&origin)))
        else {
            continue;
        };
        sum += share(world, &[*id], part);
        count += 1;
    }
    sum / f64::from(count.max(1))
}
