//! Large messages on links that take their time, and what everybody's messages cost each other.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{SECOND, World};
use peerage_overlay::MeshConfig;
use peerage_sim::Config;

const SIZE: usize = 256 << 10;

/// Payloads for each delivery beyond one, of the first message that each of so many says, and of the second; and how long the
/// slowest took.
fn redundancy(seed: u64, large: u64, origins: usize) -> [(f64, Duration); 2] {
    let mut mesh = MeshConfig::named("news");
    mesh.large_message = large;
    let bandwidth = Some(1_250_000);
    let mut world = World::formed_with(Config { bandwidth, ..Config::seeded(seed) }, mesh, 40);
    let mut spared = 0;
    let rounds = [(); 2].map(|()| {
        let before = world.total(|it| it.stats.payloads_received);
        let mut slowest = Duration::ZERO;
        for origin in 0..origins {
            let node = *world.nodes.get(origin).unwrap();
            let start = world.sim.now();
            let id = world.say_bytes(node, Bytes::from(vec![7; SIZE])).unwrap();
            world.sim.run_for(SECOND * 8);
            world.collect();
            for node in world.running() {
                let heard = world.heard.get(&node).into_iter().flatten().find(|(_, it)| it.id == id);
                if let Some((at, _)) = heard {
                    slowest = slowest.max(at.since(start));
                } else {
                    assert_eq!(world.sim.node(&id.origin), Some(node), "{node} has not got {id}");
                }
            }
        }
        let received = world.total(|it| it.stats.payloads_received) - before;
        (received as f64 / (39 * origins) as f64 - 1.0, slowest)
    });
    for node in world.running() {
        spared += world.sim.counter(node, "mesh_pushes_spared_total");
    }
    println!("seed {seed}, from {large} on, {origins} origins: {rounds:?}, {spared} spared");
    rounds
}

#[test]
fn large_messages_are_not_pushed_to_those_who_say_that_they_have_them() {
    let (mut with, mut without) = (0.0, 0.0);
    for seed in common::seeds(2, 10) {
        for origins in [1, 8] {
            let [(first, _), (second, _)] = redundancy(seed, 16 << 10, origins);
            with += first + second;
            let [(first, _), (second, _)] = redundancy(seed, u64::MAX >> 24, origins);
            without += first + second;
        }
    }
    println!("{with} {without}");
    assert!(with < without);
}
