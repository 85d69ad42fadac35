//! Crashes, restarts, lost links and partitions.

use peerage_machine::{Class, Effect, Input, OpId, Why, Write};
use peerage_sim::{Config, Dropped};

use crate::puppet::*;

fn detecting(millis_after: u64) -> Config {
    Config { detection: millis(millis_after)..=millis(millis_after), ..even() }
}

#[test]
fn a_crash_is_noticed_after_the_detection_delay_and_until_then_the_link_is_a_ghost() {
    let (mut sim, nodes, links) = linked(detecting(500));
    sim.crash(nodes[0]);
    assert!(sim.machine(nodes[0]).is_none());
    let ghost = &sim.links(nodes[1])[0];
    assert!(!ghost.whole);
    send(&mut sim, nodes[1], links[1], 1, 0, Class::Interactive);
    sim.run_for(millis(1000));
    let survivor = heard(&mut sim, nodes[1]);
    assert_eq!(downs(&survivor), [(1500, Why::Lost("the peer does not answer".to_owned()))]);
    assert_eq!(sim.stats().dropped(Dropped::UnderWay), 1, "counted, not silent");
    assert!(sim.links(nodes[1]).is_empty());
}

#[test]
fn of_what_a_crashed_node_had_sent_some_beginning_arrives() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (mut sim, nodes, links) = linked(Config { seed, ..detecting(500) });
        for number in 0..10 {
            send(&mut sim, nodes[0], links[0], number, 0, Class::Interactive);
            sim.run_for(millis(1));
        }
        sim.crash(nodes[0]);
        sim.run_for(millis(1000));
        let arrived = numbers(&heard(&mut sim, nodes[1]));
        assert_eq!(arrived, (0..arrived.len() as u64).collect::<Vec<_>>());
        lengths.insert(arrived.len());
    }
    assert!(lengths.len() > 5, "{lengths:?}");
}

#[test]
fn a_restarted_node_has_a_new_incarnation_a_new_machine_and_its_key() {
    let (mut sim, nodes, _) = linked(even());
    let before = sim.machine(nodes[0]).map(|puppet| puppet.start.clone()).unwrap();
    sim.restart(nodes[0]);
    let after = sim.machine(nodes[0]).map(|puppet| puppet.start.clone()).unwrap();
    assert_eq!((before.me, before.restarts, after.restarts), (after.me, 0, 1));
    assert_ne!(before.incarnation, after.incarnation);
    assert_ne!(before.seed, after.seed);
    assert_eq!(after.now.mono.as_micros(), 0, "the steady clock begins anew");
    assert_eq!(after.now.wall.0 - before.now.wall.0, 1000, "the wall clock does not");
    assert!(sim.machine(nodes[0]).unwrap().links.is_empty());
}

#[test]
fn a_restarted_node_is_not_locked_out_behind_its_ghost() {
    let (mut sim, nodes, _) = linked(detecting(60_000));
    let before = sim.machine(nodes[1]).unwrap().links[0].1.incarnation;
    sim.restart(nodes[0]);
    dial(&mut sim, nodes[0], 1, 1);
    sim.run_for(millis(1000));
    let other = heard(&mut sim, nodes[1]);
    let [(1030, Input::Down { why: Why::Superseded, .. }), (1030, Input::Up { info, .. })] = &other[..]
    else {
        panic!("{other:?}");
    };
    assert_ne!(info.incarnation, before);
    sim.run_for(millis(120_000));
    assert_eq!(sim.links(nodes[1]).len(), 1, "the late detection is not of the new link");
}

#[test]
fn nothing_reaches_a_restarted_node_that_was_meant_for_the_one_before() {
    let (mut sim, nodes, links) = linked(even());
    send(&mut sim, nodes[1], links[1], 1, 0, Class::Interactive);
    dial(&mut sim, nodes[0], 1, 99);
    push(&mut sim, nodes[0], Effect::Store { op: OpId(1), batch: Vec::new() });
    sim.restart(nodes[0]);
    sim.run_for(millis(10_000));
    assert_eq!(heard(&mut sim, nodes[0]).len(), 0);
}

#[test]
fn a_severed_link_is_lost_at_once_on_both_sides_with_what_was_under_way() {
    let (mut sim, nodes, links) = linked(even());
    send(&mut sim, nodes[0], links[0], 1, 0, Class::Interactive);
    sim.run_for(millis(5));
    assert!(sim.sever(nodes[1], nodes[0]));
    sim.run_for(millis(100));
    for node in nodes {
        let heard = heard(&mut sim, node);
        assert_eq!(downs(&heard), [(1005, Why::Lost("the connection was reset".to_owned()))]);
        assert!(numbers(&heard).is_empty());
    }
    assert!(!sim.sever(nodes[0], nodes[1]));
    dial(&mut sim, nodes[1], 1, 0);
    sim.run_for(millis(100));
    assert_eq!(sim.links(nodes[0]).len(), 1);
}

#[test]
fn a_partition_separates_the_groups_until_it_heals() {
    let (mut sim, nodes) = world(detecting(500), 4);
    for (from, to) in [(0, 1), (1, 2), (2, 3)] {
        dial(&mut sim, nodes[from], 1, to);
    }
    sim.run_for(millis(1000));
    sim.partition(&[&nodes[..2], &nodes[2..]]);
    for node in &nodes {
        let links: Vec<_> = sim.links(*node).iter().map(|view| view.link).collect();
        for link in links {
            send(&mut sim, *node, link, 1, 0, Class::Interactive);
        }
    }
    sim.run_for(millis(1000));
    assert_eq!(sim.stats().delivered.interactive.messages, 4);
    for (node, left) in nodes.iter().zip([1, 1, 1, 1]) {
        assert_eq!(sim.links(*node).len(), left);
    }
    dial(&mut sim, nodes[1], 2, 2);
    sim.run_for(millis(2000));
    let ends = dials(&heard(&mut sim, nodes[1]));
    assert!(matches!(ends[..], [.., (_, 2, Err(Why::Unreachable { .. }))]), "{ends:?}");
    sim.heal();
    dial(&mut sim, nodes[1], 3, 2);
    sim.run_for(millis(100));
    assert_eq!(sim.links(nodes[1]).len(), 2);
}

#[test]
fn links_are_lost_at_the_configured_rate() {
    let (mut sim, nodes) = world(Config { link_loss_per_second: 0.1, ..even() }, 101);
    for n in 1..=100 {
        dial(&mut sim, nodes[0], u64::from(n), n);
    }
    sim.run_for(millis(100));
    assert_eq!(sim.links(nodes[0]).len(), 100);
    sim.run_for(millis(10_000));
    let left = sim.links(nodes[0]).len();
    assert!((20..=50).contains(&left), "0.9^10 is 0.35: {left}");
}

#[test]
fn what_is_stored_survives_a_crash_and_of_the_rest_some_first_batches() {
    let mut survivors = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (mut sim, nodes) = world(Config { seed, ..even() }, 1);
        let put = |n: u8| Write { key: vec![n].into(), value: Some(vec![n].into()) };
        push(&mut sim, nodes[0], Effect::Store { op: OpId(0), batch: vec![put(0), put(9)] });
        sim.run_for(millis(1));
        let stored = heard(&mut sim, nodes[0]);
        assert!(matches!(stored[..], [(1, Input::Stored { op: OpId(0), result: Ok(()) })]), "{stored:?}");
        let delete = Write { key: vec![9].into(), value: None };
        for op in 1..4_u8 {
            let batch = vec![put(op), put(op + 100), delete.clone()];
            push(&mut sim, nodes[0], Effect::Store { op: OpId(u64::from(op)), batch });
        }
        sim.restart(nodes[0]);
        let stored = &sim.machine(nodes[0]).unwrap().start.stored;
        assert_eq!(stored, sim.stored(nodes[0]));
        let batches = (1..4).filter(|op| stored.contains_key(&[*op][..])).count();
        let whole = if batches == 0 { 2 } else { 1 + 2 * batches };
        assert_eq!(stored.len(), whole, "a batch is there wholly or not at all: {stored:?}");
        survivors.insert(batches);
    }
    assert_eq!(survivors.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}
