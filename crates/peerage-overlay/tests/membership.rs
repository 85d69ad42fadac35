//! Who finds whom, in virtual time. Each failure names its seed.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::alone::Alone;
use common::{MS, SECOND, World, identity, packets, seeds};
use peerage_machine::{Input, LinkId, Why};
use peerage_overlay::{JoinError, Loss, MeshAnswer, MeshConfig, MeshEvent, MessageId};
use peerage_sim::{Config, NodeId, address};
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use peerage_wire::{Address, PeerId};
use proptest::prelude::*;

#[test]
fn fifty_peers_that_join_at_once_end_up_connected_for_every_seed() {
    for seed in seeds(25, 100) {
        let mut world = World::new(Config::seeded(seed));
        for _ in 0..50 {
            world.add();
        }
        for node in 1..50 {
            world.join(world.nodes[node], world.nodes[0]);
        }
        let formed = world.sim.run_while(SECOND * 3, |sim| {
            !sim.nodes().all(|node| sim.machine(node).is_some_and(|mesh| mesh.is_ready()))
        });
        assert!(formed, "seed {seed}: somebody is alone after 3 s");
        world.sim.run_for(SECOND * 3);
        assert_eq!(world.component(), 50, "seed {seed}");
        assert!(world.is_mutual(), "seed {seed}");
        for node in world.running() {
            let neighbours = world.neighbours(node).len();
            // Two of them at most were in need.
            assert!((3..=9).contains(&neighbours), "seed {seed}: {node} has {neighbours} neighbours");
        }
    }
}

#[test]
fn a_peer_that_loses_everybody_comes_back_by_its_contact() {
    for seed in seeds(4, 20) {
        let mut world = World::formed(Config::seeded(seed), 8);
        let (contact, lone) = (world.nodes[0], world.nodes[5]);
        let rest: Vec<NodeId> = world.nodes.iter().copied().filter(|node| *node != lone).collect();
        // Longer than lost neighbours are tried again.
        world.sim.partition(&[vec![lone], rest]);
        world.sim.run_for(SECOND * 400);
        world.collect();
        assert_eq!(world.events[&lone].iter().filter(|(_, event)| *event == MeshEvent::Isolated).count(), 1);
        world.sim.heal();
        world.sim.run_for(SECOND * 50);
        assert!(world.is_connected(), "seed {seed}");
        world.collect();
        let connected =
            world.events[&lone].iter().filter(|(_, event)| *event == MeshEvent::Connected).count();
        assert_eq!(connected, 2, "seed {seed}: once at first and once again");
        assert!(!world.neighbours(contact).is_empty());
    }
}

#[test]
fn halves_that_were_apart_for_long_become_one_again() {
    for seed in seeds(3, 20) {
        let mut world = World::formed(Config::seeded(seed), 20);
        let (left, right) = (world.nodes[..10].to_vec(), world.nodes[10..].to_vec());
        world.sim.partition(&[left, right]);
        world.sim.run_for(SECOND * 900);
        assert_eq!(world.component(), 10, "seed {seed}");
        world.sim.heal();
        world.sim.run_for(SECOND * 120);
        assert!(world.is_connected(), "seed {seed}: {} of 20", world.component());
    }
}

#[test]
fn a_crash_of_half_the_peers_leaves_the_others_connected() {
    for seed in seeds(2, 20) {
        let mut world = World::formed(Config::seeded(seed), 200);
        for victim in 0..100 {
            world.sim.crash(world.nodes[victim * 2]);
        }
        world.sim.run_for(SECOND * 15);
        assert_eq!(world.component(), 100, "seed {seed}");
        assert!(world.is_mutual(), "seed {seed}");
    }
}

/// A peer with seven neighbours that has been told of a hundred others.
fn acquainted() -> Alone {
    let mut config = MeshConfig::named("news");
    config.outbound = 0;
    let mut mesh = Alone::new(config);
    for link in 1..=7 {
        mesh.neighbour(link, 1 << 20);
        let contact = |number: u64| proto::Contact {
            peer: packets::bytes(&identity(1000 + number as u32).peer_id()),
            addresses: vec![format!("tcp://10.1.0.{number}:1")],
        };
        let told = (link * 15..link * 15 + 15).map(contact).collect();
        let shuffle = proto::Shuffle { nonce: link, ttl: 0, sample: told };
        mesh.say(link, Kind::Shuffle(shuffle));
    }
    assert!(mesh.mesh.snapshot().passive > 90, "{}", mesh.mesh.snapshot().passive);
    mesh
}

/// Fails so many of the dials under way.
fn nobody_answers(mesh: &mut Alone, most: usize) -> Vec<PeerId> {
    let most = most.min(mesh.dials.len());
    let dials: Vec<_> = mesh.dials.drain(..most).collect();
    for (dial, _) in &dials {
        mesh.input(Input::DialFailed { dial: *dial, why: Why::NoAddress });
    }
    dials.into_iter().map(|(_, peer)| peer).collect()
}

#[test]
fn when_most_are_gone_everybody_who_is_known_is_visited_even_after_the_view_is_full() {
    let mut mesh = acquainted();
    let known = mesh.mesh.snapshot().passive;
    mesh.silent.extend((1..=3).map(LinkId));
    mesh.wait(SECOND * 5);
    assert_eq!(mesh.mesh.neighbours().len(), 4);
    let mut tried = BTreeSet::new();
    while tried.len() < 8 {
        tried.extend(nobody_answers(&mut mesh, 8));
    }
    // Others come, and the view is full.
    (8..=10).for_each(|link| mesh.neighbour(link, 1 << 20));
    assert_eq!(mesh.mesh.neighbours().len(), 7);
    for _ in 0..100 {
        assert!(mesh.dials.len() <= 32);
        tried.extend(nobody_answers(&mut mesh, 8));
    }
    let told = (0..120).map(|number| identity(1000 + number).peer_id());
    assert_eq!(told.filter(|peer| tried.contains(peer)).count(), known);
}

#[test]
fn when_few_are_gone_nobody_is_visited() {
    let mut mesh = acquainted();
    mesh.silent.extend((1..=3).map(LinkId));
    mesh.wait(SECOND * 5);
    nobody_answers(&mut mesh, 2);
    (8..=10).for_each(|link| mesh.neighbour(link, 1 << 20));
    let mut tried = BTreeSet::new();
    for _ in 0..100 {
        tried.extend(nobody_answers(&mut mesh, 8));
    }
    assert!(tried.len() <= 5, "{tried:?}");
}

#[test]
fn who_did_not_answer_is_not_recommended() {
    let mut mesh = acquainted();
    mesh.silent.extend((1..=3).map(LinkId));
    mesh.wait(SECOND * 5);
    let mut dead: BTreeSet<Bytes> = BTreeSet::new();
    for _ in 0..100 {
        dead.extend(nobody_answers(&mut mesh, 8).iter().map(packets::bytes));
    }
    assert!(dead.len() > 90);
    mesh.neighbour(20, 1 << 20);
    let said = mesh.sent.get(&LinkId(20)).into_iter().flatten();
    let others = said.filter_map(|(_, _, kind)| match kind {
        Kind::NeighbourReply(reply) => Some(&reply.others),
        _ => None,
    });
    assert!(others.flatten().all(|contact| !dead.contains(&contact.peer)));
}

/// A peer whose places are all taken, and who has lost one of its neighbours on the link with number 1.
fn full_but_for_one_who_was_lost() -> Alone {
    let mut config = MeshConfig::named("news");
    config.outbound = 0;
    let mut mesh = Alone::new(config);
    (1..=7).for_each(|link| mesh.neighbour(link, 1 << 20));
    mesh.silent.push(LinkId(1));
    mesh.wait(SECOND * 5);
    assert_eq!(mesh.mesh.neighbours().len(), 6);
    mesh.neighbour(8, 1 << 20);
    mesh.neighbour(9, 1 << 20);
    assert_eq!(mesh.mesh.neighbours().len(), 7, "there is no place for another stranger");
    mesh.silent.clear();
    mesh.sent.clear();
    mesh
}

#[test]
fn who_was_lost_and_asks_again_has_a_place_where_all_are_taken() {
    let mut mesh = full_but_for_one_who_was_lost();
    mesh.say(1, Kind::Neighbour(proto::Neighbour { urgent: false }));
    assert!(mesh.mesh.neighbours().contains(&identity(101).peer_id()));
    assert_eq!(mesh.mesh.neighbours().len(), 8);
}

#[test]
fn who_was_lost_and_takes_us_again_has_a_place_where_all_are_taken() {
    let mut mesh = full_but_for_one_who_was_lost();
    mesh.wait(SECOND * 2);
    let asked = |mesh: &Alone| {
        let said = mesh.sent.get(&LinkId(1)).into_iter().flatten();
        said.filter(|(_, _, kind)| matches!(kind, Kind::Neighbour(_))).count()
    };
    assert_eq!(asked(&mesh), 1, "the lost one is asked again");
    mesh.say(1, Kind::NeighbourReply(proto::NeighbourReply { accepted: true, others: vec![] }));
    assert!(mesh.mesh.neighbours().contains(&identity(101).peer_id()));
    assert_eq!(mesh.mesh.neighbours().len(), 8);
}

#[test]
fn places_for_the_lost_stay_free_where_nobody_was_lost() {
    for (seed, peers) in [(1, 24), (5, 12)] {
        let mut world = World::formed(Config::seeded(seed), peers);
        world.sim.run_for(SECOND * 3600);
        for node in world.running() {
            let neighbours = world.neighbours(node).len();
            assert!(neighbours <= 7, "seed {seed}: {node} has {neighbours} neighbours");
        }
    }
}

#[test]
fn who_leaves_is_let_go_at_once_and_not_dialled_again() {
    let mut world = World::formed(Config::seeded(2), 12);
    let gone = world.nodes[4];
    let peer = world.sim.peer(gone);
    let neighbours = world.neighbours(gone);
    world.collect();
    world.sim.command(gone, |mesh, now, out| mesh.leave(now, out));
    world.sim.run_for(SECOND);
    world.collect();
    assert!(!neighbours.is_empty());
    for neighbour in neighbours {
        let left = (Loss::Left, peer);
        let told = |event: &MeshEvent| matches!(event, MeshEvent::NeighbourLost { peer, why } if (why, peer) == (&left.0, &left.1));
        assert!(world.events[&neighbour].iter().any(|(_, event)| told(event)));
    }
    world.sim.run_for(SECOND * 60);
    let linked = world.running().iter().filter(|node| world.neighbours(**node).contains(&gone)).count();
    assert_eq!(linked, 0);
}

#[test]
fn meshes_of_different_names_or_limits_refuse_each_other_and_say_why() {
    let mut world = World::new(Config::seeded(1));
    let contact = world.add();
    let other_name = world.add_with(MeshConfig::named("olds"));
    let mut smaller = MeshConfig::named("news");
    smaller.max_message = 1 << 20;
    let other_limit = world.add_with(smaller);
    for node in [other_name, other_limit] {
        world.join(node, contact);
        world.sim.run_for(SECOND);
        let answers = world.sim.take_answers(node);
        let MeshAnswer::Joined(Err(JoinError::Unreachable { failures })) = &answers[0].2 else {
            panic!("{answers:?}")
        };
        assert!(matches!(failures[..], [(_, Why::Refused(_))]), "{failures:?}");
        assert!(world.neighbours(node).is_empty());
    }
    let reasons: Vec<String> =
        world.sim.take_refusals(contact).iter().map(|(_, _, it)| it.reason.to_string()).collect();
    assert!(reasons.len() >= 2 && reasons[0].contains("no instance"), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("parameters")), "{reasons:?}");
}

#[test]
fn a_join_that_cannot_work_says_why() {
    let mut world = World::new(Config::seeded(1));
    let node = world.add();
    let join = |world: &mut World, contacts: Vec<Address>| {
        let call = world.sim.command(node, |mesh, now, out| mesh.join(now, contacts, out))?;
        world.sim.run_for(SECOND * 20);
        let answers = world.sim.take_answers(node);
        let answer = answers.into_iter().find(|(_, id, _)| *id == call).unwrap().2;
        let MeshAnswer::Joined(result) = answer else { panic!("{answer:?}") };
        result
    };
    assert_eq!(join(&mut world, vec![]), Err(JoinError::NoContacts));
    let nobody: Address = "tcp://10.9.9.9:9".parse().unwrap();
    let error = join(&mut world, vec![nobody.clone(), address(0)]).unwrap_err();
    let JoinError::Unreachable { failures } = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 2);
    assert!(failures.iter().any(|(at, why)| *at == address(0) && *why == Why::SelfDial), "{error}");
    assert!(
        failures.iter().any(|(at, why)| *at == nobody && matches!(why, Why::Unreachable { .. })),
        "{error}"
    );
    assert_eq!(join(&mut world, vec![nobody; 65]), Err(JoinError::TooMany { named: 65, limit: 64 }));
}

#[derive(Clone, Debug)]
enum Op {
    Say(usize),
    Crash(usize),
    Restart(usize),
    Sever(usize, usize),
    Leave(usize),
    Split(usize),
    Heal,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_usize..10).prop_map(Op::Say),
        1 => (1_usize..10).prop_map(Op::Crash),
        1 => (1_usize..10).prop_map(Op::Restart),
        2 => (0_usize..10, 0_usize..10).prop_map(|(a, b)| Op::Sever(a, b)),
        1 => (1_usize..10).prop_map(Op::Leave),
        1 => (1_usize..9).prop_map(Op::Split),
        2 => Just(Op::Heal),
        4 => (0_u64..4000).prop_map(Op::Wait),
    ]
}

/// Lets it happen and then lets 90 s pass: all that still run are one mesh, views are mutual, nobody heard anything twice,
/// and a last word reaches everyone.
fn is_whole_after(seed: u64, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut world = World::formed(Config::seeded(seed), 10);
    let mut left = BTreeSet::new();
    for op in ops {
        match *op {
            Op::Say(node) => {
                world.sim.try_command(world.nodes[node], |mesh, now, out| {
                    let _ = mesh.broadcast(now, vec![Bytes::from_static(b"x")], out);
                });
            }
            Op::Crash(node) => world.sim.crash(world.nodes[node]),
            Op::Restart(node) => {
                // What it heard before counts for its former self.
                world.collect();
                world.heard.remove(&world.nodes[node]);
                world.sim.restart(world.nodes[node]);
                left.remove(&node);
                world.join(world.nodes[node], world.nodes[0]);
            }
            Op::Sever(a, b) if a != b => {
                world.sim.sever(world.nodes[a], world.nodes[b]);
            }
            Op::Sever(..) => {}
            Op::Leave(node) => {
                if world.sim.try_command(world.nodes[node], |mesh, now, out| mesh.leave(now, out)).is_some() {
                    left.insert(node);
                }
            }
            Op::Split(at) => {
                let (one, two) = world.nodes.split_at(at);
                world.sim.partition(&[one.to_vec(), two.to_vec()]);
            }
            Op::Heal => world.sim.heal(),
            Op::Wait(millis) => world.sim.run_for(MS * millis as u32),
        }
    }
    world.sim.heal();
    world.sim.run_for(SECOND * 90);
    for node in &left {
        world.sim.crash(world.nodes[*node]);
    }
    let running = world.running();
    prop_assert_eq!(world.component(), running.len());
    prop_assert!(world.is_mutual());
    if running.len() > 1 {
        let id = world.say(world.nodes[0], "the last word").unwrap();
        world.sim.run_for(SECOND * 15);
        world.collect();
        for node in running.into_iter().skip(1) {
            let heard: Vec<MessageId> = world.heard[&node].iter().map(|(_, message)| message.id).collect();
            prop_assert!(heard.contains(&id), "{} did not hear the last word", node);
            let once = heard.iter().collect::<BTreeSet<_>>().len();
            prop_assert_eq!(once, heard.len(), "{} heard something twice", node);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_the_mesh_is_whole(seed in 0_u64..1000, ops in prop::collection::vec(op(), 1..25)) {
        is_whole_after(seed, &ops)?;
    }
}

/// Of ten, eight had all each other for neighbours, and no place for the other two.
#[test]
fn histories_after_which_the_mesh_was_not_whole() {
    let told: [(u64, &[Op]); 2] = [
        (880, &[Op::Split(2), Op::Wait(1642), Op::Restart(5), Op::Wait(3294)]),
        (714, &[Op::Say(0), Op::Say(0), Op::Say(0), Op::Split(3), Op::Say(0), Op::Split(8), Op::Wait(3148)]),
    ];
    for (seed, ops) in told {
        is_whole_after(seed, ops).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
