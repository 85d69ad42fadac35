//! What networks are like: far and near, stalled, one-sided, behind walls, and clocks that run as they like.

use peerage_machine::{Class, Effect, Input, Now, OpId, Side, Why, Write};
use peerage_sim::{Config, Region, Route};

use crate::puppet::*;

fn detecting(millis_after: u64) -> Config {
    Config { detection: millis(millis_after)..=millis(millis_after), ..even() }
}

#[test]
fn latency_jitter_and_bandwidth_are_those_of_the_two_regions() {
    let route = Route { latency: millis(80)..=millis(80), jitter: millis(0), bandwidth: Some(1000) };
    let routes = [((Region(0), Region(3)), route)].into();
    let (mut sim, nodes) = world(Config { routes, ..even() }, 3);
    sim.place_in(nodes[1], Region(3));
    assert_eq!(sim.latency(nodes[0], nodes[2]), millis(10));
    assert_eq!(sim.latency(nodes[0], nodes[1]), millis(80));
    assert_eq!(sim.latency(nodes[1], nodes[0]), millis(80));
    dial(&mut sim, nodes[0], 0, 1);
    sim.run_for(millis(1000));
    heard(&mut sim, nodes[1]);
    let link = sim.links(nodes[0])[0].link;
    // 100 bytes at 1000 bytes a second, and 80 ms.
    send(&mut sim, nodes[0], link, 1, 92, Class::Interactive);
    sim.run_for(millis(1000));
    let arrived: Vec<u64> = heard(&mut sim, nodes[1]).iter().map(|(at, _)| *at).collect();
    assert_eq!(arrived, [1180]);
}

#[test]
fn what_a_stalled_link_takes_comes_late_and_in_order_and_the_other_way_is_free() {
    let (mut sim, nodes, links) = linked(even());
    assert!(sim.stall(nodes[0], nodes[1], millis(500)));
    send(&mut sim, nodes[0], links[0], 1, 0, Class::Interactive);
    send(&mut sim, nodes[0], links[0], 2, 0, Class::Interactive);
    send(&mut sim, nodes[1], links[1], 3, 0, Class::Interactive);
    sim.run_for(millis(100));
    assert_eq!(numbers(&heard(&mut sim, nodes[0])), [3]);
    assert!(heard(&mut sim, nodes[1]).is_empty());
    sim.run_for(millis(900));
    let late = heard(&mut sim, nodes[1]);
    assert_eq!(numbers(&late), [1, 2]);
    assert!(late.iter().all(|(at, _)| *at == 1510), "{late:?}");
}

#[test]
fn links_stall_by_themselves_where_they_do() {
    let config = Config { stalls_per_second: 0.5, stall: millis(300)..=millis(300), ..even() };
    let (mut sim, nodes, links) = linked(config);
    let mut slowest = 0;
    for number in 0..100 {
        let sent = sim.now().as_micros() / 1000;
        send(&mut sim, nodes[0], links[0], number, 0, Class::Interactive);
        sim.run_for(millis(100));
        slowest =
            heard(&mut sim, nodes[1]).iter().map(|(at, _)| at.saturating_sub(sent)).fold(slowest, u64::max);
    }
    assert!(slowest > 10, "no message was ever late");
    sim.run_for(millis(1000));
    assert_eq!(sim.stats().delivered.total().messages, 100, "a stall loses nothing");
}

#[test]
fn links_are_half_open_by_themselves_where_they_are() {
    let (mut sim, nodes, _) = linked(Config { half_open_per_second: 0.5, ..detecting(500) });
    let downs = |sim: &mut World, node| {
        let mut heard = sim.take_events(node).into_iter();
        heard.find_map(|(at, input)| matches!(input, Input::Down { .. }).then_some(at))
    };
    sim.run_for(millis(30_000));
    let [first, second] = [nodes[0], nodes[1]].map(|node| downs(&mut sim, node).expect("the link went down"));
    assert_eq!(first.max(second).since(first.min(second)), millis(500), "one end notices late");
    assert!(first.min(second) > at(1_000), "not before it was looked at");
}

#[test]
fn a_wall_stops_one_way_only_until_both_ends_have_noticed() {
    let (mut sim, nodes, links) = linked(detecting(500));
    sim.wall(&[nodes[0]], &[nodes[1]]);
    send(&mut sim, nodes[0], links[0], 1, 0, Class::Interactive);
    send(&mut sim, nodes[1], links[1], 2, 0, Class::Interactive);
    sim.run_for(millis(200));
    assert_eq!(numbers(&heard(&mut sim, nodes[0])), [2], "the other way is open");
    assert!(heard(&mut sim, nodes[1]).is_empty());
    sim.run_for(millis(800));
    let why = Why::Lost("nothing comes through any more".to_owned());
    assert_eq!(downs(&heard(&mut sim, nodes[1])), [(1500, why.clone())]);
    assert_eq!(downs(&heard(&mut sim, nodes[0])), [(1510, why)], "it hears so from the other");
    // A connection needs both ways.
    for (from, to) in [(0, 1), (1, 0)] {
        dial(&mut sim, nodes[from], 7, to as u32);
        sim.run_for(millis(2000));
        let heard = heard(&mut sim, nodes[from]);
        assert!(matches!(heard[..], [(_, Input::DialFailed { .. })]), "{heard:?}");
    }
    sim.heal();
    dial(&mut sim, nodes[0], 8, 1);
    sim.run_for(millis(1000));
    assert_eq!(sim.links(nodes[0]).len(), 1);
}

#[test]
fn of_a_half_open_link_one_end_knows_and_the_other_talks_to_nobody() {
    let (mut sim, nodes, links) = linked(detecting(700));
    assert!(sim.half_open(nodes[0], nodes[1]));
    send(&mut sim, nodes[0], links[0], 1, 0, Class::Interactive);
    sim.run_for(millis(1000));
    assert_eq!(downs(&heard(&mut sim, nodes[1])), [(1000, Why::Lost("the connection was reset".to_owned()))]);
    let ghost = heard(&mut sim, nodes[0]);
    assert_eq!(downs(&ghost), [(1700, Why::Lost("the peer does not answer".to_owned()))]);
    assert!(!sim.half_open(nodes[0], nodes[1]), "there is no link any more");
}

#[test]
fn a_node_behind_a_nat_dials_and_cannot_be_dialled() {
    let (mut sim, nodes) = world(even(), 2);
    sim.set_reachable(nodes[1], false);
    dial(&mut sim, nodes[0], 0, 1);
    sim.run_for(millis(2000));
    assert!(matches!(heard(&mut sim, nodes[0])[..], [(_, Input::DialFailed { .. })]));
    dial(&mut sim, nodes[1], 0, 0);
    sim.run_for(millis(1000));
    assert_eq!((sim.links(nodes[0]).len(), sim.links(nodes[1]).len()), (1, 1));
}

#[test]
fn a_node_that_stops_in_good_order_loses_nothing_that_it_said() {
    let (mut sim, nodes, links) = linked(even());
    for number in 0..5 {
        send(&mut sim, nodes[0], links[0], number, 0, Class::Bulk);
    }
    sim.stop(nodes[0]);
    assert!(!sim.is_running(nodes[0]));
    sim.run_for(millis(1000));
    let other = heard(&mut sim, nodes[1]);
    assert_eq!(numbers(&other), [0, 1, 2, 3, 4]);
    assert_eq!(downs(&other), [(1010, Why::Shutdown { by: Side::Them, detail: String::new() })]);
}

#[test]
fn a_node_restarts_with_its_store_or_without() {
    let (mut sim, nodes) = world(even(), 1);
    let batch = vec![Write { key: "k".into(), value: Some("v".into()) }];
    push(&mut sim, nodes[0], Effect::Store { op: OpId(0), batch });
    sim.run_for(millis(100));
    sim.restart(nodes[0]);
    assert_eq!(sim.machine(nodes[0]).unwrap().start.stored.len(), 1);
    sim.stop(nodes[0]);
    sim.wipe(nodes[0]);
    sim.restart(nodes[0]);
    assert!(sim.machine(nodes[0]).unwrap().start.stored.is_empty());
}

#[test]
fn wall_clocks_drift_within_the_bound_and_as_they_are_told() {
    let (mut sim, nodes) = world(Config { wall_drift: 500, ..even() }, 30);
    sim.run_for(millis(1_000_000));
    let mut wall = |node| sim.command(node, |_, now: Now, _| now.wall.0);
    let readings: Vec<_> = nodes.iter().map(|node| wall(*node)).collect();
    let (least, most) = (readings.iter().min().unwrap(), readings.iter().max().unwrap());
    assert!(most - least > 400 && most - least <= 1000, "{least} {most}");
    sim.set_wall_drift(nodes[0], 10_000);
    sim.set_wall_drift(nodes[1], -10_000);
    let [fast, slow] = [0, 1].map(|node| sim.command(nodes[node], |_, now: Now, _| now.wall.0));
    assert_eq!(fast - slow, 20_000, "one per cent each way, of a thousand seconds");
    let steady = sim.command(nodes[0], |_, now: Now, _| now.mono);
    assert_eq!(steady, at(1_000_000), "the steady clock does not");
}
