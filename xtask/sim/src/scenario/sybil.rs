//! Attackers outnumber the honest.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use peerage_overlay::MessageId;
use peerage_sim::{Config, NodeId, address};

use super::Outcome;
use super::measure::{arrivals, share, times_of, views};
use crate::attack::Gang;
use crate::cli::Options;
use crate::figures::{Figures, max, percentile};
use crate::plot::Curve;
use crate::world::{World, verifier};

/// Broadcasts before the attack, and as many during it.
const BROADCASTS: usize = 30;
const EVERY: Duration = Duration::from_secs(1);
/// Each so many-th broadcast is by the peer that some attacks are about.
const TARGET_EVERY: usize = 3;
/// Links to honest peers that an attacker tries to have: as many as an honest peer has neighbours.
const LINKS: usize = 6;
/// Broadcasts from the first attacker to the first one whose time is measured.
const BREWING: usize = 60;
/// How long messages may take, to be delivered at all.
const LAST: Duration = Duration::from_secs(30);

pub(super) fn run(
    options: &Options,
    seed: u64,
    world: impl FnOnce(Config) -> World,
) -> Result<(Outcome, World)> {
    let peers = options.peers(super::Scenario::Sybil.peers());
    let mut world = world(Config { verifier: verifier(), ..Config::seeded(seed) });
    world.form(peers, options.settle(Duration::from_secs(60)))?;
    let honest = world.nodes.clone();
    speak(&mut world, &honest, BROADCASTS, "warming up")?;
    let before = speak(&mut world, &honest, BROADCASTS, "without attackers")?;
    let gang = Rc::new(Gang {
        network: world.mesh().name.clone(),
        links: LINKS,
        victims: honest.iter().map(|node| (world.sim.peer(*node), address(node.index() as u32))).collect(),
        members: RefCell::new(Vec::new()),
        bides: EVERY * BREWING as u32,
        acts: Cell::new(0),
    });
    for _ in 0..peers * options.ratio() {
        world.add_attacker(options.attack(), &gang);
    }
    let brewing = speak(&mut world, &honest, BREWING, "attackers gather")?;
    let during = speak(&mut world, &honest, BROADCASTS, "under attack")?;
    world.pass(LAST, "waiting for the last")?;
    let attacked: Vec<MessageId> = brewing.ids.iter().chain(&during.ids).copied().collect();
    let mut figures = Figures::default();
    views(&world, &mut figures);
    figures.add("attackers", "", (peers * options.ratio()) as f64);
    let captured = captured(&world, &honest);
    figures.add("captured_neighbours", "share", captured);
    figures.add_at_least("delivered", "share", share(&world, &attacked, &honest), 1.0);
    figures.add("delivered_before", "share", share(&world, &before.ids, &honest));
    let mut times = times_of(&world, &during.ids);
    let p99 = |times: Vec<f64>| percentile(&mut { times }, 99.0);
    let (calm, late) = (p99(times_of(&world, &before.ids)), p99(times.clone()));
    figures.add("delivered_p50", "ms", percentile(&mut times, 50.0));
    figures.add("delivered_p99", "ms", late);
    figures.add("delivered_max", "ms", max(&times));
    figures.add("p99_before", "ms", calm);
    figures.add_at_most("p99_ratio", "", late / calm, 2.0);
    figures.add("p99_gathering", "ms", p99(times_of(&world, &brewing.ids)));
    figures.add("flood_p99", "ms", p99(during.floods));
    figures.add("flood_p99_before", "ms", p99(before.floods));
    figures.add("least_honest", "", brewing.least_honest.min(during.least_honest) as f64);
    let about = |ids: &[MessageId]| p99(about_target(&world, ids, &honest));
    figures.add("target_p99_ratio", "", about(&during.ids) / about(&before.ids));
    figures.add("acts", "", gang.acts.get() as f64);
    figures.add("shunned", "", world.sim.stats().counter("mesh_shunned_total") as f64);
    figures.add("honest_component", "share", world.component_among(&honest));
    figures.add("attackers_heard", "", world.ledger.borrow().foreign as f64);
    figures.add("refused", "", world.refused as f64);
    let curve = Curve {
        title: format!(
            "{peers} honest peers, {} attackers for each ({}), seed {seed}",
            options.ratio(),
            options.attack().name()
        ),
        x: "time since the broadcast, ms".to_owned(),
        y: "share of honest peers reached".to_owned(),
        points: arrivals(&world, &during.ids, peers - 1),
    };
    Ok((Outcome { figures, curve }, world))
}

/// What was said in a while, and what the neighbourhoods of honest peers were like when it was.
struct Spoken {
    ids: Vec<MessageId>,
    /// How long a flood over the links between honest peers would have taken, to each that it reached, in milliseconds.
    floods: Vec<f64>,
    /// The fewest honest neighbours that any of them had.
    least_honest: usize,
}

/// Random peers say something, and every third time the first one does.
fn speak(world: &mut World, honest: &[NodeId], broadcasts: usize, doing: &str) -> Result<Spoken> {
    let mut spoken = Spoken { ids: Vec::new(), floods: Vec::new(), least_honest: usize::MAX };
    for number in 0..broadcasts {
        let anybody = world.rng.pick(honest).copied();
        let origin = if number % TARGET_EVERY == 0 { honest.first().copied() } else { anybody };
        if let Some(origin) = origin {
            let graph = world.graph_among(honest);
            let degrees = honest.iter().map(|node| graph.neighbours(node.index()).len());
            spoken.least_honest = degrees.fold(spoken.least_honest, usize::min);
            let node = |number: u32| world.nodes.get(number as usize).copied().unwrap_or(origin);
            let flood = graph.flood(origin.index() as u32, |a, b| world.sim.latency(node(a), node(b)));
            spoken.floods.extend(flood.values().map(|after| after.as_secs_f64() * 1000.0));
            spoken.ids.push(world.say(origin)?);
        }
        world.pass(EVERY, &format!("{doing}, broadcast {} of {broadcasts}", number + 1))?;
    }
    Ok(spoken)
}

/// How long messages took to the peer that some attacks are about, and from it to others.
fn about_target(world: &World, ids: &[MessageId], honest: &[NodeId]) -> Vec<f64> {
    let Some(target) = honest.first().copied() else { return Vec::new() };
    let ledger = world.ledger.borrow();
    let said = ids.iter().filter_map(|id| ledger.said.get(id));
    said.flat_map(|said| {
        let of_target = said.origin == target;
        let after = said.after.iter().filter(move |(node, _)| of_target || *node as usize == target.index());
        after.map(|(_, micros)| f64::from(*micros) / 1000.0)
    })
    .collect()
}

/// The share of honest peers' neighbours that are attackers.
fn captured(world: &World, honest: &[NodeId]) -> f64 {
    let (mut attackers, mut all) = (0_usize, 0_usize);
    for mesh in honest.iter().filter_map(|node| world.honest(*node)) {
        let neighbours = mesh.neighbours();
        all += neighbours.len();
        let is_attacker = |peer: &&peerage_wire::PeerId| {
            world.sim.node(peer).is_some_and(|node| node.index() >= honest.len())
        };
        attackers += neighbours.iter().filter(is_attacker).count();
    }
    attackers as f64 / all.max(1) as f64
}
