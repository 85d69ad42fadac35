//! Everyone hears what a few say.

use std::time::Duration;

use anyhow::Result;
use peerage_overlay::MessageId;
use peerage_sim::{Config, NodeId};

use super::Outcome;
use super::measure::{Since, arrivals, deliveries, views};
use crate::cli::Options;
use crate::figures::{Figures, max, mean};
use crate::plot::Curve;
use crate::world::{World, verifier};

/// From one broadcast to the next: time enough for each to reach everyone.
const EVERY: Duration = Duration::from_secs(1);

/// Words that take less, as a share of the payloads' bytes, are not named.
const WORTH_NAMING: f64 = 0.001;

/// Nothing keeps a message from its receivers: by then they have it, or it is lost.
const LAST: Duration = Duration::from_secs(20);

pub(super) fn run(
    options: &Options,
    seed: u64,
    world: impl FnOnce(Config) -> World,
) -> Result<(Outcome, World)> {
    let peers = options.peers(super::Scenario::Broadcast.peers());
    let mut world = world(Config { verifier: verifier(), ..Config::seeded(seed) });
    world.form(peers, options.settle(Duration::from_secs(30)))?;
    let nodes = world.nodes.clone();
    world.arrives_within = Some(LAST);
    let origins = world.rng.sample(nodes, options.origins());
    speak(&mut world, &origins, options.warm() * origins.len(), "warming up")?;
    let mut figures = Figures::default();
    views(&world, &mut figures);
    let since = Since::now(&world);
    let (ids, redundancies, floods) = speak(&mut world, &origins, options.broadcasts(), "measuring")?;
    let receivers = peers - 1;
    let goal = if origins.len() == 1 { 0.01 } else { 0.05 };
    figures.add_at_most("rmr", "", mean(&redundancies), goal);
    figures.add("rmr_max", "", max(&redundancies));
    let hops: Vec<f64> = {
        let ledger = world.ledger.borrow();
        ids.iter().filter_map(|id| ledger.said.get(id)).map(|said| f64::from(said.last_hop)).collect()
    };
    let beyond: Vec<f64> = hops.iter().zip(&floods).map(|(hop, flood)| hop - flood).collect();
    figures.add("last_hop", "hops", max(&hops));
    figures.add("last_hop_mean", "hops", mean(&hops));
    figures.add("flood_last_hop", "hops", max(&floods));
    figures.add_at_most("last_hop_beyond_flood", "hops", max(&beyond), 3.0);
    let nodes: Vec<NodeId> = world.running().collect();
    deliveries(&world, &ids, &nodes, &mut figures, 1.0);
    figures.add("duplicates", "", since.counter(&world, "mesh_duplicate_pushes_total") as f64);
    figures.add("duplicate_pulls", "", since.counter(&world, "mesh_duplicate_pulls_total") as f64);
    let (payload, control) = since.bytes(&world);
    figures.add_at_most("control_ratio", "", control as f64 / payload.max(1) as f64, 0.1);
    for (kind, bytes) in since.control(&world) {
        let share = bytes as f64 / payload.max(1) as f64;
        if share >= WORTH_NAMING {
            figures.add(format!("control_{kind}"), "", share);
        }
    }
    figures.add("refused", "", world.refused as f64);
    world.pass(LAST, "waiting for the last")?;
    let curve = Curve {
        title: format!(
            "{peers} peers, {} origin{}, {} broadcasts of {} bytes, seed {seed}",
            origins.len(),
            if origins.len() == 1 { "" } else { "s" },
            ids.len(),
            options.payload
        ),
        x: "time since the broadcast, ms".to_owned(),
        y: "share of peers reached".to_owned(),
        points: arrivals(&world, &ids, receivers),
    };
    Ok((Outcome { figures, curve }, world))
}

/// The origins speak in turn. Gives the messages, how redundant each was, and how many hops a flood from its origin would
/// have taken.
fn speak(
    world: &mut World,
    origins: &[NodeId],
    count: usize,
    doing: &str,
) -> Result<(Vec<MessageId>, Vec<f64>, Vec<f64>)> {
    let (mut ids, mut redundancies, mut floods) = (Vec::new(), Vec::new(), Vec::new());
    world.stage(doing, EVERY * u32::try_from(count).unwrap_or(u32::MAX));
    for origin in origins.iter().cycle().take(count) {
        let since = Since::now(world);
        floods.push(f64::from(world.graph().eccentricity(origin.index())));
        ids.push(world.say(*origin)?);
        world.pass(EVERY, doing)?;
        let receivers = (world.running().count() - 1).max(1) as f64;
        redundancies.push(since.arrived(world, "payload") as f64 / receivers - 1.0);
    }
    Ok((ids, redundancies, floods))
}
