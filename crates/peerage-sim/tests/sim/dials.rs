//! How dials end, and that there is one link per pair.

use peerage_machine::{Direction, Input, RefusalReason, Side, Why};
use peerage_sim::{Config, Instance, Sim, address, peer};

use crate::puppet::*;

#[test]
fn a_dial_takes_one_and_a_half_round_trips_and_both_ends_learn_of_the_link() {
    let (mut sim, nodes) = world(even(), 2);
    dial(&mut sim, nodes[0], 7, 1);
    sim.run_for(millis(1000));
    let [dialer, acceptor] = [0, 1].map(|n| heard(&mut sim, nodes[n]));
    let [(30, Input::Up { link, info }), (30, Input::Dialed { dial, link: dialed })] = &dialer[..] else {
        panic!("{dialer:?}");
    };
    assert_eq!((dial.0, dialed), (7, link));
    assert_eq!((info.peer, info.direction, info.rtt), (peer(1), Direction::Outbound, Some(millis(20))));
    assert_eq!(info.addresses, [address(1)]);
    assert_eq!((info.credit, info.max_message), (1 << 20, 16 << 20));
    let [(30, Input::Up { info, .. })] = &acceptor[..] else { panic!("{acceptor:?}") };
    assert_eq!((info.peer, info.direction), (peer(0), Direction::Inbound));
}

#[test]
fn dialling_a_peer_again_ends_at_once_in_the_same_link() {
    let (mut sim, nodes, links) = linked(even());
    dial(&mut sim, nodes[0], 1, 1);
    dial_peer(&mut sim, nodes[1], 2, 0, &[]);
    sim.run_for(millis(0));
    assert_eq!(dials(&heard(&mut sim, nodes[0])), [(1000, 1, Ok(links[0]))]);
    assert_eq!(dials(&heard(&mut sim, nodes[1])), [(1000, 2, Ok(links[1]))]);
}

#[test]
fn every_dial_ends_once_though_they_share_a_connection() {
    let (mut sim, nodes) = world(even(), 2);
    for id in 0..5 {
        dial(&mut sim, nodes[0], id, 1);
    }
    sim.run_for(millis(1000));
    let ends = dials(&heard(&mut sim, nodes[0]));
    assert_eq!(ends.iter().map(|end| end.1).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(ends.iter().all(|end| end.2.is_ok()));
    assert_eq!(sim.stats().links_up, 1);
}

#[test]
fn when_both_dial_the_dial_of_the_smaller_key_stays_and_nobody_sees_two_links() {
    for head_start in [0, 1, 15, 29] {
        for first in [0, 1] {
            let (mut sim, nodes) = world(even(), 2);
            dial(&mut sim, nodes[first], 1, 1 - first as u32);
            sim.run_for(millis(head_start));
            dial(&mut sim, nodes[1 - first], 2, first as u32);
            sim.run_for(millis(1000));
            let sides = [0, 1].map(|n| heard(&mut sim, nodes[n]));
            for (n, direction) in [(0, Direction::Outbound), (1, Direction::Inbound)] {
                let ups: Vec<_> =
                    sides[n].iter().filter(|(_, input)| matches!(input, Input::Up { .. })).collect();
                assert_eq!(ups.len(), 1, "{head_start} {first}: {ups:?}");
                assert_eq!(dials(&sides[n]).len(), 1);
                assert!(dials(&sides[n])[0].2.is_ok());
                assert_eq!(sim.links(nodes[n])[0].direction, direction, "{head_start} ms after {first}");
                assert!(sim.links(nodes[n])[0].held, "both dialled, both hold");
            }
        }
    }
}

#[test]
fn where_nobody_is_cannot_be_reached() {
    let (mut sim, nodes) = world(even(), 2);
    sim.crash(nodes[1]);
    dial(&mut sim, nodes[0], 1, 1);
    dial(&mut sim, nodes[0], 2, 99);
    sim.run_for(millis(2000));
    let ends = dials(&heard(&mut sim, nodes[0]));
    for (end, n) in ends.iter().zip([1, 99]) {
        let why = Why::Unreachable { address: address(n), detail: "nobody answers".to_owned() };
        assert_eq!(end.2, Err(why));
        assert_eq!(end.0, 1000);
    }
    assert_eq!(ends.len(), 2);
}

#[test]
fn a_peer_that_crashes_during_the_dial_cannot_be_reached() {
    let (mut sim, nodes) = world(even(), 2);
    dial(&mut sim, nodes[0], 1, 1);
    sim.run_for(millis(20));
    sim.restart(nodes[1]);
    sim.run_for(millis(1000));
    assert!(matches!(dials(&heard(&mut sim, nodes[0]))[..], [(30, 1, Err(Why::Unreachable { .. }))]));
}

#[test]
fn a_dial_to_a_peer_tries_its_addresses_in_order() {
    let (mut sim, nodes) = world(even(), 3);
    dial_peer(&mut sim, nodes[0], 1, 2, &[99, 1, 0, 2]);
    sim.run_for(millis(2000));
    let ends = dials(&heard(&mut sim, nodes[0]));
    assert!(
        matches!(ends[..], [(1060, 1, Ok(_))]),
        "a second for nobody, 30 ms for the wrong peer: {ends:?}"
    );
    assert_eq!(sim.links(nodes[0])[0].peer, peer(2));
}

#[test]
fn the_wrong_peer_oneself_and_no_address_are_told_apart() {
    let (mut sim, nodes) = world(even(), 3);
    dial_peer(&mut sim, nodes[0], 1, 2, &[1]);
    dial(&mut sim, nodes[0], 2, 0);
    dial_peer(&mut sim, nodes[0], 3, 0, &[1]);
    dial_peer(&mut sim, nodes[0], 4, 2, &[]);
    sim.run_for(millis(2000));
    let ends = dials(&heard(&mut sim, nodes[0]));
    let expected = [
        (0, 2, Err(Why::SelfDial)),
        (0, 3, Err(Why::SelfDial)),
        (0, 4, Err(Why::NoAddress)),
        (30, 1, Err(Why::WrongPeer { expected: peer(2), found: peer(1) })),
    ];
    assert_eq!(ends, expected);
    assert_eq!(sim.stats().links_up, 0);
}

#[test]
fn the_host_knows_no_addresses_but_those_of_the_dial() {
    let (mut sim, nodes, _) = linked(even());
    sim.sever(nodes[0], nodes[1]);
    sim.run_for(millis(10));
    dial_peer(&mut sim, nodes[1], 2, 0, &[]);
    sim.run_for(millis(100));
    assert_eq!(dials(&heard(&mut sim, nodes[1])), [(1010, 2, Err(Why::NoAddress))]);
}

#[test]
fn instances_that_differ_are_refused_and_both_sides_know_why() {
    let name = || Instance::new("puppet", "stage");
    let cases = [
        (Instance::new("puppet", "other"), RefusalReason::UnknownInstance),
        (name().with_version(2), RefusalReason::Version { ours: 1, theirs: "2".to_owned() }),
        (
            name().with_parameters(&b"\x07\xff"[..]),
            RefusalReason::Parameters { ours: String::new(), theirs: "07ff".to_owned() },
        ),
    ];
    for (instance, reason) in cases {
        let mut sim = Sim::new(even());
        let a = sim.add(peer(0), [address(0)], name(), Puppet::new);
        let b = sim.add(peer(1), [address(1)], instance, Puppet::new);
        dial(&mut sim, a, 1, 1);
        sim.run_for(millis(1000));
        let ends = dials(&heard(&mut sim, a));
        let [(30, 1, Err(Why::Refused(refusal)))] = &ends[..] else { panic!("{ends:?}") };
        assert_eq!((refusal.by, &refusal.reason), (Side::Them, &reason));
        let refused = sim.take_refusals(b);
        assert_eq!((refused[0].1, refused[0].2.by, &refused[0].2.reason), (peer(0), Side::Us, &reason));
        assert!(heard(&mut sim, b).is_empty());
        // Both dial: both fail.
        dial(&mut sim, a, 2, 1);
        dial(&mut sim, b, 3, 0);
        sim.run_for(millis(1000));
        for node in [a, b] {
            let ends = dials(&heard(&mut sim, node));
            assert!(matches!(ends[..], [(_, _, Err(Why::Refused(_)))]), "{ends:?}");
        }
    }
}

#[test]
fn each_pair_has_its_own_latency_from_the_range() {
    let (sim, nodes) = world(Config::seeded(3), 30);
    let mut seen = std::collections::BTreeSet::new();
    for a in &nodes {
        for b in &nodes {
            assert_eq!(sim.latency(*a, *b), sim.latency(*b, *a));
            assert!((millis(5)..=millis(50)).contains(&sim.latency(*a, *b)));
            seen.insert(sim.latency(*a, *b));
        }
    }
    assert!(seen.len() > 400, "{}", seen.len());
}
