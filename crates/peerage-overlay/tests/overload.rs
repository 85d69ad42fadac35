//! A speaker that says more than links carry.
#![expect(clippy::panic, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{MS, SECOND, World, seeds};
use peerage_overlay::{BroadcastError, MessageId};
use peerage_sim::{Config, NodeId};

const PEERS: usize = 30;
const MESSAGES: usize = 900;

/// Links that carry 2 MB a second and stall now and then, as connections between busy processes do.
fn busy(seed: u64) -> Config {
    Config {
        latency: Duration::from_micros(100)..=MS,
        bandwidth: Some(2_000_000),
        credit: 128 << 10,
        stalls_per_second: 0.5,
        stall: MS * 50..=MS * 600,
        codec: false,
        ..Config::seeded(seed)
    }
}

/// While links carry less than is said, announcements overtake pushes by a second. A peer that left its parent for that got
/// all that was queued there twice, and half of all deliveries came twice; and peers were shunned for what they had queued.
#[test]
fn trees_hold_though_links_are_full_and_stall() {
    let (mut duplicates, mut deliveries) = (0, 0);
    for seed in seeds(2, 20) {
        let mut world = World::formed(busy(seed), PEERS);
        let speaker = world.nodes[0];
        let mut ids = speak(&mut world, speaker, MESSAGES / 3);
        world.sim.run_for(SECOND * 3);
        let before = world.total(|it| it.stats.duplicates);
        ids.extend(speak(&mut world, speaker, MESSAGES));
        world.sim.run_for(SECOND * 10);
        world.collect();
        for node in world.nodes.iter().filter(|node| **node != speaker) {
            world.assert_heard(*node, &ids);
        }
        duplicates += world.total(|it| it.stats.duplicates) - before;
        deliveries += MESSAGES * (PEERS - 1);
        let shunned: u64 = world.nodes.iter().map(|it| world.sim.counter(*it, "mesh_shunned_total")).sum();
        assert_eq!(shunned, 0, "seed {seed}: honest peers were shunned");
    }
    let share = duplicates as f64 / deliveries as f64;
    assert!(share < 0.35, "{share} of the deliveries came again");
}

/// Has the node say so many messages, as fast as it may.
fn speak(world: &mut World, node: NodeId, messages: usize) -> Vec<MessageId> {
    let mut ids = Vec::with_capacity(messages);
    while ids.len() < messages {
        match world.say_bytes(node, Bytes::from(vec![7; 1024])) {
            Ok(id) => ids.push(id),
            Err(BroadcastError::Full { .. }) => world.sim.run_for(MS * 5),
            Err(error) => panic!("{error}"),
        }
    }
    ids
}
