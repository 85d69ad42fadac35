//! Many messages under way at once, over links whose latency varies: what a tree costs, how late it is, and how it heals.
//!
//! A peer that is left without a feeder hears announcements only, and asks after 170 ms at the earliest
//! (`announce_after` and half of `graft_after`, as links are slow): a message that is quicker than that came along a tree.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::{MS, SECOND, World, seeds};
use peerage_machine::Instant;
use peerage_overlay::{MeshConfig, MessageId};
use peerage_sim::{Config, NodeId};

/// The longest way of one message over one link: latency and jitter.
const LINK: Duration = Duration::from_millis(25);
/// The longest way along a tree: fewer links than an announcement and a request would take.
const TREE: Duration = Duration::from_millis(150);

fn links(seed: u64) -> Config {
    Config { latency: MS..=MS * 20, jitter: MS * 5, ..Config::seeded(seed) }
}

type Said = Vec<(Instant, MessageId)>;

/// 500 messages a second for so long, by these in turn.
fn speak(world: &mut World, from: &[NodeId], size: usize, span: Duration) -> Said {
    let (start, body) = (world.sim.now(), Bytes::from(vec![b'x'; size]));
    let mut said = Vec::new();
    while world.sim.now().since(start) < span {
        let id = world.say_bytes(from[said.len() % from.len()], body.clone()).unwrap();
        said.push((world.sim.now(), id));
        world.sim.run_for(MS * 2);
    }
    said
}

/// How long the slowest message took to the last of those that run, and which it was.
fn slowest(world: &mut World, said: &Said) -> (Duration, u64, NodeId) {
    world.collect();
    let mut slowest = (Duration::ZERO, 0, world.nodes[0]);
    for node in world.running() {
        let mut heard = BTreeMap::new();
        for (at, message) in world.heard.get(&node).into_iter().flatten() {
            assert!(heard.insert(message.id, *at).is_none(), "{node} heard {} twice", message.id);
        }
        for (since, id) in said.iter().filter(|(_, id)| world.sim.node(&id.origin) != Some(node)) {
            let at = heard.get(id).unwrap_or_else(|| panic!("{node} lacks {id}"));
            slowest = slowest.max((at.since(*since), id.seq, node));
        }
    }
    slowest
}

/// After a second of messages, the next ones come along a tree: none is asked for, few come twice.
fn settles(seed: u64, peers: usize, size: usize, senders: usize) {
    let mut world = World::formed(links(seed), peers);
    let from: Vec<NodeId> = world.nodes[1..=senders].to_vec();
    speak(&mut world, &from, size, SECOND);
    let count = |world: &World| (world.total(|it| it.stats.requested), world.total(|it| it.stats.duplicates));
    let (requested, duplicates) = count(&world);
    let said = speak(&mut world, &from, size, MS * 500);
    let now = count(&world);
    let (requested, duplicates) = (now.0 - requested, now.1 - duplicates);
    world.sim.run_for(SECOND);
    let redundancy = duplicates as f64 / (said.len() * (peers - 1)) as f64;
    let (late, seq, node) = slowest(&mut world, &said);
    let what = format!(
        "seed {seed}, {peers} peers, {size} bytes, {senders} senders: the slowest took {late:?} ({seq} to {node}), \
         redundancy {redundancy:.4}, {requested} requests"
    );
    println!("{what}");
    assert!(late <= TREE && redundancy <= 0.05 && requested == 0, "{what}");
}

#[test]
fn a_fast_sender_among_twelve_settles_on_a_tree() {
    for seed in seeds(20, 40) {
        settles(seed, 12, if seed % 2 == 0 { 40 } else { 1024 }, 1);
    }
}

#[test]
fn a_fast_sender_among_fifty_settles_on_a_tree() {
    for seed in seeds(2, 40) {
        settles(seed, 50, if seed % 2 == 0 { 40 } else { 1024 }, 1);
    }
}

#[test]
fn eight_senders_in_turn_settle_on_their_trees() {
    for seed in seeds(4, 40) {
        settles(seed, 12, 200, 8);
    }
}

#[test]
fn eight_senders_among_fifty_settle_on_their_trees() {
    for seed in seeds(1, 40) {
        settles(seed, 50, 200, 8);
    }
}

/// Two of twelve crash mid-stream. How long the slowest message took to the last survivor; `None` if the two were all that
/// held others to the rest, who have to be found first.
fn crash(config: Config) -> Option<(Duration, u64, NodeId)> {
    let mut world = World::formed(config, 12);
    let from = [world.nodes[1]];
    speak(&mut world, &from, 40, MS * 500);
    let mut said = speak(&mut world, &from, 40, MS * 100);
    world.sim.crash(world.nodes[10]);
    world.sim.crash(world.nodes[11]);
    let connected = world.component() == 10;
    said.extend(speak(&mut world, &from, 40, MS * 500));
    world.sim.run_for(SECOND * 3);
    connected.then(|| slowest(&mut world, &said))
}

#[test]
fn a_crash_that_links_notice_costs_no_wait_for_a_push() {
    let mesh = MeshConfig::named("news");
    let detection = MS * 100;
    // Who lost its parent says so to those below, and all of them ask as soon as anybody announces a message. It may know
    // only those below: it then hears of the message from one that has asked.
    let asked = mesh.announce_after + LINK * 2;
    let bound = detection + LINK * 2 + asked * 2;
    for seed in seeds(10, 40) {
        let Some((late, seq, node)) = crash(Config { detection: MS * 10..=detection, ..links(seed) }) else {
            continue;
        };
        println!("seed {seed}: {late:?}");
        assert!(late <= bound, "seed {seed}: {late:?} ({seq} to {node}) is more than {bound:?}");
    }
}

#[test]
fn a_crash_that_links_do_not_notice_yet_delays_messages_by_the_wait_for_a_push() {
    let mesh = MeshConfig::named("news");
    // Somebody announces it; it is waited for; the request and its answer. A peer all of whose neighbours lack it as well
    // begins when they have it. From there along the tree.
    let bound = (mesh.announce_after + mesh.graft_after / 2 + LINK * 2) * 2 + TREE;
    for seed in seeds(10, 40) {
        let Some((late, seq, node)) = crash(Config { detection: SECOND * 10..=SECOND * 20, ..links(seed) })
        else {
            continue;
        };
        println!("seed {seed}: {late:?}");
        assert!(late <= bound, "seed {seed}: {late:?} ({seq} to {node}) is more than {bound:?}");
    }
}
