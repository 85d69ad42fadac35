//! Who hears what, in virtual time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use bytes::Bytes;
use common::{MS, SECOND, World, real, seeds};
use peerage_overlay::{BroadcastError, MeshConfig, MeshEvent, MessageId};
use peerage_sim::{Config, NodeId};

/// Says so many lines, one every `every` milliseconds.
fn stream(world: &mut World, from: NodeId, lines: u32, every: u32) -> Vec<MessageId> {
    (0..lines)
        .map(|line| {
            let id = world.say(from, &format!("line {line}")).unwrap();
            world.sim.run_for(MS * every);
            id
        })
        .collect()
}

#[test]
fn two_hundred_peers_hear_each_message_once() {
    let mut world = World::formed(Config { verifier: real(), ..Config::seeded(3) }, 200);
    let ids: Vec<MessageId> = (0..5).map(|n| world.say(world.nodes[n * 30], "hello").unwrap()).collect();
    world.sim.run_for(SECOND * 5);
    world.collect();
    for node in world.running() {
        let others: Vec<MessageId> =
            ids.iter().copied().filter(|id| world.sim.node(&id.origin) != Some(node)).collect();
        world.assert_heard(node, &others);
    }
}

#[test]
fn a_repeated_sender_costs_one_payload_per_receiver() {
    for seed in seeds(2, 20) {
        let mut world = World::formed(Config::seeded(seed), 60);
        let from = world.nodes[17];
        stream(&mut world, from, 30, 100);
        world.sim.run_for(SECOND);
        let before = world.total(|it| it.stats.payloads_sent);
        stream(&mut world, from, 100, 50);
        world.sim.run_for(SECOND);
        let sent = world.total(|it| it.stats.payloads_sent) - before;
        let redundancy = sent as f64 / (100.0 * 59.0) - 1.0;
        println!("seed {seed}: redundancy {redundancy:.4}");
        assert!((0.0..=0.05).contains(&redundancy), "seed {seed}: {redundancy}");
    }
}

#[test]
fn many_senders_share_one_tree_to_begin_with() {
    let mut world = World::formed(Config::seeded(5), 60);
    let first = world.nodes[0];
    stream(&mut world, first, 10, 100);
    world.sim.run_for(SECOND);
    let before = world.total(|it| it.stats.payloads_sent);
    for node in 1..50 {
        world.say(world.nodes[node], "once").unwrap();
        world.sim.run_for(MS * 50);
    }
    world.sim.run_for(SECOND);
    let sent = world.total(|it| it.stats.payloads_sent) - before;
    let redundancy = sent as f64 / (49.0 * 59.0) - 1.0;
    println!("redundancy {redundancy:.4}");
    assert!((0.0..=0.2).contains(&redundancy), "{redundancy}");
}

#[test]
fn the_wire_carries_little_more_than_the_lines() {
    let mut world = World::formed(Config::seeded(8), 12);
    let from = world.nodes[0];
    let line = Bytes::from(vec![b'x'; 1024]);
    for _ in 0..20 {
        world.say_bytes(from, line.clone()).unwrap();
        world.sim.run_for(MS * 5);
    }
    world.sim.run_for(SECOND);
    let mut ratio = 0.0;
    for round in 0..4 {
        let (before, stats) = (world.sim.stats().sent.total().bytes, world.sim.stats());
        let requested = world.total(|it| it.stats.requested);
        for _ in 0..1000 {
            world.say_bytes(from, line.clone()).unwrap();
            world.sim.run_for(MS);
        }
        world.sim.run_for(SECOND);
        let now = world.sim.stats();
        ratio = (now.sent.total().bytes - before) as f64 / (1000.0 * 1024.0 * 11.0);
        println!(
            "round {round}: {ratio:.3} bytes per payload byte and receiver, {} control messages, {} requests",
            now.sent.control.messages - stats.sent.control.messages,
            world.total(|it| it.stats.requested) - requested
        );
    }
    assert!(ratio < 1.25, "{ratio}");
}

#[test]
fn idle_peers_say_little() {
    let mut world = World::formed(Config::seeded(9), 12);
    world.sim.run_for(SECOND * 60);
    let before = world.sim.stats().sent.total().bytes;
    world.sim.run_for(SECOND * 60);
    let rate = (world.sim.stats().sent.total().bytes - before) as f64 / 60.0 / 12.0;
    println!("{rate:.0} bytes per second and peer");
    assert!(rate < 300.0, "{rate}");
}

/// `kill` of `count` peers stop mid-stream and `fresh` ones join; everyone who lives through it hears all.
fn crash(seed: u64, count: usize, kill: usize, fresh: usize) {
    let mut world = World::formed(Config::seeded(seed), count);
    let from = world.nodes[1];
    let mut ids = Vec::new();
    for line in 0..200_usize {
        ids.push(loop {
            match world.say(from, &format!("line {line}")) {
                Ok(id) => break id,
                Err(BroadcastError::NoNeighbours | BroadcastError::Full { .. }) => world.sim.run_for(MS * 10),
                Err(other) => panic!("seed {seed}: {other}"),
            }
        });
        if line == 50 {
            for victim in 0..kill {
                let victim = world.nodes[count - 1 - victim];
                world.sim.crash(victim);
            }
        }
        if line == 60 {
            for _ in 0..fresh {
                let node = world.add();
                world.join(node, world.nodes[0]);
            }
        }
        world.sim.run_for(MS * 10);
    }
    world.sim.run_for(SECOND * 20);
    world.collect();
    println!("seed {seed}");
    for node in world.running() {
        if node != from {
            world.assert_heard(node, &ids);
        }
    }
    assert!(world.is_connected(), "seed {seed}");
}

#[test]
fn survivors_of_a_crash_of_two_of_twelve_hear_all() {
    for seed in seeds(12, 100) {
        crash(seed, 12, 2, 2);
    }
}

#[test]
fn survivors_of_a_crash_of_thirty_of_a_hundred_hear_all() {
    for seed in seeds(1, 10) {
        crash(seed, 100, 30, 10);
    }
}

#[test]
fn links_that_break_mid_stream_lose_nothing() {
    for seed in seeds(4, 40) {
        let mut world = World::formed(Config { link_loss_per_second: 0.02, ..Config::seeded(seed) }, 20);
        let from = world.nodes[3];
        let mut ids = Vec::new();
        for line in 0..300 {
            if let Ok(id) = world.say(from, &format!("line {line}")) {
                ids.push(id);
            }
            world.sim.run_for(MS * 20);
        }
        world.sim.run_for(SECOND * 30);
        world.collect();
        println!("seed {seed}");
        assert!(ids.len() > 250, "seed {seed}: {}", ids.len());
        for node in world.running().into_iter().filter(|node| *node != from) {
            world.assert_heard(node, &ids);
        }
    }
}

#[test]
fn a_partition_that_heals_in_time_loses_nothing() {
    for seed in seeds(4, 40) {
        let mut world = World::formed(Config::seeded(seed), 12);
        let (left, right) = (world.nodes[..6].to_vec(), world.nodes[6..].to_vec());
        world.sim.partition(&[left, right]);
        let mut ids = Vec::new();
        for line in 0..100 {
            for from in [world.nodes[1], world.nodes[8]] {
                if let Ok(id) = world.say(from, &format!("line {line}")) {
                    ids.push(id);
                }
            }
            world.sim.run_for(MS * 100);
        }
        world.sim.heal();
        world.sim.run_for(SECOND * 30);
        world.collect();
        println!("seed {seed}: {} lines", ids.len());
        assert!(world.is_connected(), "seed {seed}");
        for node in world.running() {
            let others: Vec<MessageId> =
                ids.iter().copied().filter(|id| world.sim.node(&id.origin) != Some(node)).collect();
            world.assert_heard(node, &others);
        }
    }
}

#[test]
fn a_burst_of_a_hundred_thousand_arrives_whole() {
    // Unoptimised, twelve would take a minute.
    let peers = if cfg!(debug_assertions) { 5 } else { 12 };
    let mut world = World::formed(Config { bandwidth: Some(20_000_000), ..Config::seeded(4) }, peers);
    let from = world.nodes[2];
    let mut ids = stream(&mut world, from, 20, 10);
    world.sim.run_for(SECOND);
    let mut full = 0;
    while ids.len() < 100_000 {
        match world.say(from, "a small message of about forty bytes ...") {
            Ok(id) => ids.push(id),
            Err(BroadcastError::Full { .. }) => {
                full += 1;
                assert!(full < 100_000, "no room comes back");
                world.sim.run_for(MS * 5);
            }
            Err(other) => panic!("{other}"),
        }
    }
    world.sim.run_for(SECOND * 20);
    world.collect();
    println!(
        "{full} times full, {:?} in all, {:?}",
        world.sim.stats().sent,
        world.snapshot(world.nodes[4]).stats
    );
    assert!(full > 0, "the burst was no burst");
    for node in world.running().into_iter().filter(|node| *node != from) {
        world.assert_heard(node, &ids);
    }
}

#[test]
fn room_is_announced_after_full() {
    let mut world = World::formed(Config { credit: 10_000, ..Config::seeded(4) }, 3);
    let from = world.nodes[0];
    while world.say_bytes(from, Bytes::from(vec![0; 3000])).is_ok() {}
    world.sim.run_for(SECOND);
    world.collect();
    assert!(world.events[&from].iter().any(|(_, event)| *event == MeshEvent::Room));
    assert!(world.say(from, "again").is_ok());
}

#[test]
fn what_was_said_before_is_caught_up_unless_one_does_not_want_it() {
    let mut world = World::formed(Config { wall_skew: std::time::Duration::ZERO, ..Config::seeded(4) }, 5);
    let first = world.nodes[0];
    let ids = stream(&mut world, first, 50, 10);
    let eager = world.add();
    let late = world.add_with({
        let mut config = MeshConfig::named("news");
        config.catch_up = false;
        config
    });
    world.join(eager, world.nodes[1]);
    world.join(late, world.nodes[1]);
    world.sim.run_for(SECOND * 5);
    let after = world.say(world.nodes[0], "after").unwrap();
    world.sim.run_for(SECOND * 5);
    world.collect();
    world.assert_heard(eager, &[ids.as_slice(), &[after]].concat());
    world.assert_heard(late, &[after]);
}
