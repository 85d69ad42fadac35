//! Ten thousand peers: what the mesh is measured by. `cargo test --release -p peerage-overlay --test scale -- --ignored --nocapture`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use common::{MS, SECOND, World};
use peerage_machine::Rng;
use peerage_machine::Seed;
use peerage_overlay::{MeshConfig, MessageId};
use peerage_sim::{Config, NodeId};

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(or)
}

fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn formed(peers: usize, seed: u64) -> World {
    let start = std::time::Instant::now();
    let mut world =
        World::with(Config { codec: false, ..Config::seeded(seed) }, MeshConfig::named("news"));
    let mut rng = Seed::from_u64(seed).fork("scale").rng();
    for n in 0..peers {
        world.add();
        if n > 0 {
            let contact = world.nodes[rng.index(n)];
            world.join(world.nodes[n], contact);
        }
        world.sim.run_for(Duration::from_micros(60_000_000 / peers as u64));
    }
    world.sim.run_for(SECOND * number("WARM", 120) as u32);
    world.collect();
    println!(
        "{peers} peers formed in {:?}, rss {} MiB, component {}",
        start.elapsed(),
        rss(),
        largest(&world)
    );
    world
}

/// Index-based neighbours of all running.
fn graph(world: &World) -> BTreeMap<NodeId, Vec<NodeId>> {
    let running: BTreeSet<NodeId> = world.running().into_iter().collect();
    running
        .iter()
        .map(|node| {
            (*node, world.neighbours(*node).into_iter().filter(|it| running.contains(it)).collect())
        })
        .collect()
}

fn reach(graph: &BTreeMap<NodeId, Vec<NodeId>>, from: NodeId) -> (usize, u32) {
    let mut seen = BTreeSet::from([from]);
    let mut queue = VecDeque::from([(from, 0)]);
    let mut last = 0;
    while let Some((node, hops)) = queue.pop_front() {
        last = hops;
        for next in &graph[&node] {
            if seen.insert(*next) {
                queue.push_back((*next, hops + 1));
            }
        }
    }
    (seen.len(), last)
}

fn largest(world: &World) -> usize {
    let graph = graph(world);
    let mut left: BTreeSet<NodeId> = graph.keys().copied().collect();
    let mut most = 0;
    while let Some(from) = left.iter().next().copied() {
        let mut queue = VecDeque::from([from]);
        left.remove(&from);
        let mut size = 0;
        while let Some(node) = queue.pop_front() {
            size += 1;
            for next in &graph[&node] {
                if left.remove(next) {
                    queue.push_back(*next);
                }
            }
        }
        most = most.max(size);
    }
    most
}

fn degrees(world: &World) {
    let mut counts = BTreeMap::new();
    for node in world.running() {
        *counts.entry(world.snapshot(node).neighbours.len()).or_insert(0) += 1;
    }
    let passive: usize = world.running().iter().map(|n| world.snapshot(*n).passive).sum();
    println!("degrees {counts:?}, passive {:.1}", passive as f64 / world.running().len() as f64);
}

fn memory(world: &World) {
    let n = world.running().len() as u64;
    println!("machine's own estimate {} B per peer, rss {} MiB", world.total(|it| it.memory) / n, rss());
}

struct Round {
    sent: u64,
    requested: u64,
    control: u64,
    payload: u64,
}

fn read(world: &World) -> Round {
    Round {
        sent: world.total(|it| it.stats.payloads_sent),
        requested: world.total(|it| it.stats.requested),
        control: world.sim.stats().sent.control.bytes,
        payload: world.sim.stats().sent.interactive.bytes,
    }
}

fn rounds(world: &mut World, origins: &[NodeId], messages: usize, every: u32, what: &str) {
    let body = Bytes::from(vec![b'x'; 1024]);
    let n = world.running().len() as u64;
    let start = std::time::Instant::now();
    let before = read(world);
    let mut ids: Vec<MessageId> = Vec::new();
    let mut times: BTreeMap<MessageId, (NodeId, peerage_machine::Instant)> = BTreeMap::new();
    for at in 0..messages {
        let from = origins[at % origins.len()];
        let said = world.sim.now();
        if let Ok(id) = world.say_bytes(from, body.clone()) {
            ids.push(id);
            times.insert(id, (from, said));
        }
        world.sim.run_for(MS * every);
    }
    world.sim.run_for(SECOND * 2);
    let after = read(world);
    world.collect();
    let graph = graph(world);
    let mut hops: BTreeMap<MessageId, (u32, u64, Duration)> = BTreeMap::new();
    for (_, heard) in &world.heard {
        for (at, message) in heard {
            let it = hops.entry(message.id).or_default();
            it.0 = it.0.max(message.hops + 1);
            it.1 += 1;
            if let Some((_, said)) = times.get(&message.id) {
                it.2 = it.2.max(at.since(*said));
            }
        }
    }
    world.heard.clear();
    let mut excess = Vec::new();
    let mut lasts = Vec::new();
    let (mut missing, mut slowest) = (0, Duration::ZERO);
    for id in &ids {
        let (from, _) = times[id];
        let (_, flood) = reach(&graph, from);
        let (last, count, took) = hops.get(id).copied().unwrap_or_default();
        missing += n - 1 - count;
        excess.push(last as i64 - flood as i64);
        lasts.push(last);
        slowest = slowest.max(took);
    }
    excess.sort_unstable();
    lasts.sort_unstable();
    let sent = after.sent - before.sent;
    let m = ids.len() as u64;
    println!(
        "{what}: rmr {:.4}, last hop {}..{}, over flood {}..{}, missing {missing} of {}, asked {:.2}, control/payload {:.4}, slowest {slowest:?}, wall {:?}, rss {}",
        sent as f64 / (m * (n - 1)) as f64 - 1.0,
        lasts[0],
        lasts[lasts.len() - 1],
        excess[0],
        excess[excess.len() - 1],
        m * (n - 1),
        (after.requested - before.requested) as f64 / m as f64,
        (after.control - before.control) as f64 / (m * (n - 1) * 1024) as f64,
        start.elapsed(),
        rss(),
    );
    let _ = after.payload - before.payload;
}

#[test]
#[ignore = "minutes, in release"]
fn broadcasts() {
    let peers = number("PEERS", 10_000) as usize;
    let seed = number("SEED", 1);
    let mut world = formed(peers, seed);
    degrees(&world);
    memory(&world);
    let mut rng = Seed::from_u64(seed).fork("origins").rng();
    let nodes = world.nodes.clone();
    let one = vec![*rng.pick(&nodes).unwrap()];
    for round in 0..3 {
        rounds(&mut world, &one, 20, 200, &format!("one origin, round {round}"));
    }
    let many = Rng::sample(&mut rng, nodes, 64);
    for round in 0..6 {
        rounds(&mut world, &many, 64, 200, &format!("64 origins, round {round}"));
    }
    memory(&world);
}

#[test]
#[ignore = "minutes, in release"]
fn crashes() {
    let peers = number("PEERS", 10_000) as usize;
    let seed = number("SEED", 1);
    let percent = number("PERCENT", 80) as usize;
    let mut world = formed(peers, seed);
    degrees(&world);
    let mut rng = Seed::from_u64(seed).fork("victims").rng();
    let nodes = world.nodes.clone();
    let first = nodes[0];
    rounds(&mut world, &[first], 10, 200, "before");
    let victims = rng.sample(nodes, peers * percent / 100);
    for victim in victims {
        world.sim.crash(victim);
    }
    let survivors = world.running().len();
    for second in 0..number("SECONDS", 20) {
        println!("{second} s: {:.4}", largest(&world) as f64 / survivors as f64);
        world.sim.run_for(SECOND);
    }
    degrees(&world);
    let from = world.running()[0];
    rounds(&mut world, &[from], 10, 500, "after");
}
