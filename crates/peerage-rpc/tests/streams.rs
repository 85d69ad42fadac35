//! Streams and bulk data, between clients, broker and nodes, through cut links, slow consumers, cancelled calls and dying
//! nodes.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::flows::{Flows, is_honest_failure};
use common::{MS, SECOND, World, seeds};
use peerage_rpc::{BrokerConfig, Destination, Limits, Shape};
use peerage_sim::{Config, peer};

const SHAPES: [Shape; 7] = [
    Shape::STREAM_UP,
    Shape::STREAM_DOWN,
    Shape::STREAM_UP.and(Shape::STREAM_DOWN),
    Shape::BULK_UP,
    Shape::BULK_DOWN,
    Shape::BULK_UP.and(Shape::BULK_DOWN),
    Shape::STREAM_UP.and(Shape::STREAM_DOWN).and(Shape::BULK_UP).and(Shape::BULK_DOWN),
];

fn broker() -> BrokerConfig {
    let limits = Limits { stream_messages: 50, stream_bytes: 16 << 10, streams: 20, ..Limits::default() };
    BrokerConfig { limits, node_grace: 6 * SECOND, grace: 20 * SECOND, ..BrokerConfig::default() }
}

fn troubled(seed: u64) -> Config {
    let mut config = Config::seeded(seed);
    config.link_loss_per_second = 0.4;
    config.half_open_per_second = 0.2;
    config.stalls_per_second = 0.2;
    config.detection = 100 * MS..=500 * MS;
    config.unreachable_after = 100 * MS;
    if seed.is_multiple_of(3) {
        // Bulk data overtakes, and calls wait.
        config.bandwidth = Some(2_000_000);
        config.credit = 64 << 10;
    }
    config
}

fn destination(world: &mut World, nodes: u32) -> Destination {
    match world.rng.below(4) {
        0 => Destination::Peer,
        1 => Destination::Group(Bytes::from_static(b"all")),
        _ => Destination::Node(peer(100 + world.rng.below(u64::from(nodes)) as u32)),
    }
}

#[test]
fn a_stream_of_every_shape_arrives_whole_at_the_broker_and_at_a_node() {
    for to in [Destination::Peer, Destination::Node(peer(100))] {
        let mut flows = Flows::new(World::new(Config::seeded(5), broker(), 1, 1));
        flows.world.connect();
        let client = flows.world.parties[0];
        for shape in SHAPES {
            flows.start(client, to.clone(), shape).unwrap_or_else(|| panic!("no room for {shape:?}"));
        }
        flows.run_until(60 * SECOND, |flows| flows.flows.iter().all(|flow| flows.is_over(flow)));
        for flow in &flows.flows {
            assert_eq!(flows.went_well(flow), Ok(()), "{flow:?}");
        }
        flows.run_for(SECOND);
        assert_eq!(flows.left_over(), None);
    }
}

#[test]
fn through_cuts_stalls_and_slow_consumers_every_message_arrives_once_and_in_order() {
    for seed in seeds(2, 40) {
        let mut flows = Flows::new(World::new(troubled(seed), broker(), 2, 2));
        flows.world.connect();
        let clients = flows.world.parties[..2].to_vec();
        for _ in 0..25 {
            let client = clients[flows.world.rng.index(2)];
            let (to, shape) = (destination(&mut flows.world, 2), SHAPES[flows.world.rng.index(SHAPES.len())]);
            flows.start(client, to, shape);
            flows.run_for(100 * MS);
        }
        flows.run_until(300 * SECOND, |flows| flows.flows.iter().all(|flow| flows.is_over(flow)));
        let mut failed = Vec::new();
        for flow in &flows.flows {
            if let Err(status) = flows.went_well(flow) {
                assert!(is_honest_failure(&status), "{status}: {flow:?}\n{}", flows.world.sim.reproduction());
                failed.push(status.to_string());
            }
        }
        // Calls that found no node, or one that did not come back within its grace.
        let (all, reproduction) = (flows.flows.len(), flows.world.sim.reproduction());
        assert!(failed.len() * 3 < all * 2, "of {all} failed {failed:#?}\n{reproduction}");
        assert!(flows.flows.len() > 10, "{}", flows.flows.len());
        let mut quiet = 0;
        flows.run_until(60 * SECOND, |flows| {
            quiet = if flows.left_over().is_none() { quiet + 1 } else { 0 };
            quiet > 3
        });
    }
}

#[test]
fn cancelled_calls_vanished_callers_and_dead_nodes_leave_nothing_behind() {
    for seed in seeds(3, 40) {
        let mut flows = Flows::new(World::new(troubled(seed), broker(), 3, 2));
        flows.world.connect();
        let (clients, nodes) = (flows.world.parties[..3].to_vec(), flows.world.parties[3..].to_vec());
        let mut away = Vec::new();
        for _ in 0..60 {
            let client = clients[flows.world.rng.index(3)];
            let (to, shape) = (destination(&mut flows.world, 2), SHAPES[flows.world.rng.index(SHAPES.len())]);
            if flows.world.sim.is_running(client) {
                flows.start(client, to, shape);
            }
            let pause = flows.world.rng.below(150);
            flows.run_for(Duration::from_millis(pause + 1));
            if flows.world.rng.chance(0.3) && !flows.flows.is_empty() {
                let at = flows.world.rng.index(flows.flows.len());
                if !flows.is_over(&flows.flows[at]) && flows.world.sim.is_running(flows.flows[at].from) {
                    flows.cancel(at);
                }
            }
            if flows.world.rng.chance(0.05) {
                let victim =
                    if flows.world.rng.chance(0.5) { clients[0] } else { nodes[flows.world.rng.index(2)] };
                if flows.world.sim.is_running(victim) {
                    flows.crash(victim);
                    away.push((victim, flows.world.sim.now() + 300 * MS));
                }
            }
            let now = flows.world.sim.now();
            for (node, _) in away.iter().filter(|(_, until)| *until <= now) {
                flows.world.sim.restart(*node);
            }
            away.retain(|(_, until)| *until > now);
        }
        flows.run_until(300 * SECOND, |flows| flows.flows.iter().all(|flow| flows.is_over(flow)));
        for flow in flows.flows.iter().filter(|flow| !flow.is_cancelled) {
            if let Err(status) = flows.went_well(flow) {
                assert!(is_honest_failure(&status), "{status}: {flow:?}\n{}", flows.world.sim.reproduction());
            }
        }
        let mut quiet = 0;
        flows.run_until(120 * SECOND, |flows| {
            quiet = if flows.left_over().is_none() { quiet + 1 } else { 0 };
            quiet > 3
        });
    }
}
