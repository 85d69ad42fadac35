//! Attackers outnumber the honest.

use std::cell::RefCell;
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
/// Links to honest peers that an attacker tries to have: as many as an honest peer has neighbours.
const LINKS: usize = 6;
/// From the first attacker to the first broadcast that is measured.
const BREWING: Duration = Duration::from_secs(60);
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
    speak(&mut world, &honest, "warming up")?;
    let before = speak(&mut world, &honest, "without attackers")?;
    let gang = Rc::new(Gang {
        network: world.mesh().name.clone(),
        links: LINKS,
        victims: honest.iter().map(|node| (world.sim.peer(*node), address(node.index() as u32))).collect(),
        members: RefCell::new(Vec::new()),
    });
    for _ in 0..peers * options.ratio() {
        world.add_attacker(options.attack(), &gang);
    }
    world.pass(BREWING, "attackers gather")?;
    let during = speak(&mut world, &honest, "under attack")?;
    world.pass(LAST, "waiting for the last")?;
    let mut figures = Figures::default();
    views(&world, &mut figures);
    figures.add("attackers", "", (peers * options.ratio()) as f64);
    let captured = captured(&world, &honest);
    figures.add("captured_neighbours", "share", captured);
    figures.add_at_least("delivered", "share", share(&world, &during, &honest), 1.0);
    figures.add("delivered_before", "share", share(&world, &before, &honest));
    let (mut calm, mut attacked) = (times_of(&world, &before), times_of(&world, &during));
    let (calm_p99, attacked_p99) = (percentile(&mut calm, 99.0), percentile(&mut attacked, 99.0));
    figures.add("delivered_p50", "ms", percentile(&mut attacked, 50.0));
    figures.add("delivered_p99", "ms", attacked_p99);
    figures.add("delivered_max", "ms", max(&attacked));
    figures.add("p99_before", "ms", calm_p99);
    figures.add_at_most("p99_ratio", "", attacked_p99 / calm_p99, 2.0);
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
        points: arrivals(&world, &during, peers - 1),
    };
    Ok((Outcome { figures, curve }, world))
}

fn speak(world: &mut World, honest: &[NodeId], doing: &str) -> Result<Vec<MessageId>> {
    let mut ids = Vec::new();
    for number in 0..BROADCASTS {
        if let Some(origin) = world.rng.pick(honest).copied() {
            ids.push(world.say(origin)?);
        }
        world.pass(EVERY, &format!("{doing}, broadcast {} of {BROADCASTS}", number + 1))?;
    }
    Ok(ids)
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
