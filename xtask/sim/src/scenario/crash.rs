//! A share of all peers crashes at once.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, bail};
use peerage_sim::{Config, NodeId};

use super::Outcome;
use super::measure::{Since, arrivals, deliveries, views};
use crate::cli::Options;
use crate::figures::Figures;
use crate::plot::Curve;
use crate::world::{World, verifier};

/// When links notice by themselves that nobody is there: pings are 5 s apart, and three must be lost. What happens before is
/// what probes found.
const NOTICED: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(15);
/// Cycles that are looked at.
const CYCLES: u32 = 5;
/// Looks at the components in a cycle.
const LOOKS: u32 = 8;
/// Broadcasts before the crash, so that there is a tree that it breaks.
const WARM: u32 = 5;
const WARM_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(
    options: &Options,
    seed: u64,
    world: impl FnOnce(Config) -> World,
) -> Result<(Outcome, World)> {
    let peers = options.peers(super::Scenario::Crash.peers());
    let config = Config { verifier: verifier(), detection: NOTICED, ..Config::seeded(seed) };
    let mut world = world(config);
    let cycle = options.cycle(world.mesh().probe_cycle());
    world.form(peers, options.settle(Duration::from_secs(300)))?;
    let mut figures = Figures::default();
    views(&world, &mut figures);
    let mut survivors = world.nodes.clone();
    world.rng.shuffle(&mut survivors);
    let killed = survivors.split_off(peers - (peers as f64 * options.fraction()) as usize);
    let Some(origin) = survivors.first().copied() else { bail!("nobody survives") };
    world.stage("warming up", WARM_EVERY * WARM);
    for _ in 0..WARM {
        world.say(origin)?;
        world.pass(WARM_EVERY, "warming up")?;
    }
    for node in killed {
        world.sim.crash(node);
    }
    let crash = world.sim.now();
    let mut points = vec![(0.0, world.component())];
    figures.add("component_after_0", "share", world.component());
    let reached_by = if options.fraction() > 0.9 {
        3
    } else if options.fraction() > 0.5 {
        2
    } else {
        1
    };
    let mut first = None;
    let since = Since::now(&world);
    world.stage("after the crash", cycle * CYCLES);
    for number in 1..=CYCLES {
        for look in 1..=LOOKS {
            let at = crash + cycle * (number - 1) + cycle * look / LOOKS;
            world.pass_until(at, "after the crash")?;
            points.push((at.since(crash).as_secs_f64(), world.component()));
        }
        let component = points.last().map_or(0.0, |point| point.1);
        let name = format!("component_after_{number}");
        if number >= reached_by {
            figures.add_at_least(name, "share", component, 0.999);
        } else {
            figures.add(name, "share", component);
        }
        if number == 1 {
            first = Some(say_first(&mut world, origin, &survivors)?);
        }
    }
    let alone = survivors.iter().filter(|node| world.honest(**node).is_some_and(|mesh| !mesh.is_ready()));
    figures.add("alone", "", alone.count() as f64);
    world.pass(Duration::from_secs(10), "waiting for the last")?;
    let nodes: Vec<NodeId> = world.running().collect();
    let ids: Vec<_> = first.into_iter().collect();
    deliveries(&world, &ids, &nodes, &mut figures, 0.999);
    let receivers = nodes.len().saturating_sub(1);
    let payloads = since.arrived(&world, "payload") as f64;
    figures.add("rmr", "", payloads / receivers.max(1) as f64 - 1.0);
    let last_hop = ids.first().and_then(|id| world.ledger.borrow().said.get(id).map(|said| said.last_hop));
    figures.add("last_hop", "hops", f64::from(last_hop.unwrap_or(0)));
    figures.add("duplicates", "", since.counter(&world, "mesh_duplicate_pushes_total") as f64);
    figures.add("refused", "", world.refused as f64);
    let reached = arrivals(&world, &ids, receivers);
    if let Some((at, _)) = reached.iter().find(|(_, share)| *share >= 0.999) {
        figures.add("first_to_999_permille", "ms", *at);
    }
    let curve = Curve {
        title: format!("{peers} peers, {:.0} % crash at once, seed {seed}", options.fraction() * 100.0),
        x: "time since the crash, s".to_owned(),
        y: "largest component, share of survivors".to_owned(),
        points,
    };
    Ok((Outcome { figures, curve }, world))
}

/// The first broadcast after the crash: by the origin of the tree, or else by the first survivor that can.
fn say_first(world: &mut World, origin: NodeId, survivors: &[NodeId]) -> Result<peerage_overlay::MessageId> {
    let connected = |node: &NodeId| world.honest(*node).is_some_and(|mesh| mesh.is_ready());
    let speaker =
        if connected(&origin) { origin } else { survivors.iter().copied().find(connected).unwrap_or(origin) };
    world.say(speaker)
}
