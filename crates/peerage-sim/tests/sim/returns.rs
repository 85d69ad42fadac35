//! Keys that come back: restarts, and second programs with one key.

use peerage_machine::{Class, Effect, Input, LinkId, Side, Why};
use peerage_sim::{Config, Dropped, NodeId, Sim, address, peer};

use crate::puppet::*;

/// A first node, coexisting or not, at which the sessions of one other key have a link each, dialled in their order.
fn visited(config: Config, coexists: bool, sessions: u32) -> (World, NodeId, Vec<NodeId>) {
    let mut sim = Sim::new(config);
    let instance = if coexists { stage().coexisting() } else { stage() };
    let host = sim.add(peer(0), [address(0)], instance, move |start| {
        let mut puppet = Puppet::new(start);
        puppet.coexists = coexists;
        puppet
    });
    let mut nodes = Vec::new();
    for n in 1..=sessions {
        let node = match nodes.first() {
            None => sim.add(peer(1), [address(n)], stage(), Puppet::new),
            Some(first) => sim.add_session(*first, [address(n)], Puppet::new),
        };
        dial(&mut sim, node, 0, 0);
        sim.run_for(millis(100));
        nodes.push(node);
    }
    (sim, host, nodes)
}

fn names(sim: &World, node: NodeId) -> Vec<LinkId> {
    sim.links(node).iter().map(|view| view.link).collect()
}

#[test]
fn an_instance_that_coexists_keeps_the_ghost_beside_the_new_start_until_it_notices() {
    let config = Config { detection: millis(500)..=millis(500), ..even() };
    let (mut sim, host, visitors) = visited(config, true, 1);
    heard(&mut sim, host);
    sim.restart(visitors[0]);
    dial(&mut sim, visitors[0], 1, 0);
    sim.run_for(millis(100));
    let up = heard(&mut sim, host);
    assert!(matches!(&up[..], [(130, Input::Up { link: LinkId(1), .. })]), "{up:?}");
    assert_eq!(sim.links(host).iter().map(|view| view.whole).collect::<Vec<_>>(), [false, true]);
    for link in [0, 1] {
        send(&mut sim, host, LinkId(link), link, 0, Class::Interactive);
    }
    sim.run_for(millis(100));
    assert_eq!(numbers(&heard(&mut sim, visitors[0])), [1]);
    assert_eq!(sim.stats().dropped(Dropped::UnderWay), 1, "what is sent to the ghost is counted");
    sim.run_for(millis(1000));
    let lost = Why::Lost("the peer does not answer".to_owned());
    assert_eq!(downs(&heard(&mut sim, host)), [(600, lost)]);
    assert_eq!(names(&sim, host), [LinkId(1)]);
}

#[test]
fn sessions_of_one_key_have_a_link_each_where_the_instance_coexists() {
    let (mut sim, host, visitors) = visited(even(), true, 3);
    assert_eq!(names(&sim, host), [LinkId(0), LinkId(1), LinkId(2)]);
    for (n, visitor) in visitors.iter().enumerate() {
        send(&mut sim, host, LinkId(n as u64), n as u64, 0, Class::Interactive);
        send(&mut sim, *visitor, LinkId(0), 10 + n as u64, 0, Class::Interactive);
        sim.run_for(millis(100));
        assert_eq!(numbers(&heard(&mut sim, *visitor)), [n as u64]);
    }
    assert_eq!(numbers(&heard(&mut sim, host)), [10, 11, 12]);
    // One that goes takes no other with it, and a dial finds the newest that there is.
    for left in [2, 1, 0] {
        dial_peer(&mut sim, host, left, 1, &[]);
        sim.run_for(millis(1));
        assert!(matches!(dials(&heard(&mut sim, host))[..], [(.., Ok(LinkId(newest)))] if newest == left));
        push(&mut sim, visitors[left as usize], Effect::CloseChannel { link: LinkId(0), why: Why::Unheld });
        sim.run_for(millis(100));
        assert!(matches!(
            downs(&heard(&mut sim, host))[..],
            [(_, Why::ChannelClosed { by: Side::Them, .. })]
        ));
        assert_eq!(names(&sim, host), (0..left).map(LinkId).collect::<Vec<_>>());
    }
}

#[test]
fn elsewhere_the_newest_session_takes_over_and_the_one_before_is_told() {
    let (mut sim, host, visitors) = visited(even(), false, 3);
    assert_eq!(names(&sim, host), [LinkId(2)]);
    assert_eq!(downs(&heard(&mut sim, host)), [(130, Why::Superseded), (230, Why::Superseded)]);
    let told = visitors.iter().map(|visitor| downs(&heard(&mut sim, *visitor)));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [vec![(140, Why::Superseded)], vec![(240, Why::Superseded)], Vec::new()]
    );
}

#[test]
fn a_session_that_comes_back_replaces_its_own_link_and_no_other() {
    // The goodbye waits behind 500 ms of bulk; the new link is there after 30 ms.
    let (mut sim, host, visitors) = visited(Config { bandwidth: Some(1_000_000), ..even() }, true, 2);
    heard(&mut sim, host);
    send(&mut sim, visitors[0], LinkId(0), 1, 500_000, Class::Bulk);
    push(&mut sim, visitors[0], Effect::CloseChannel { link: LinkId(0), why: Why::Unheld });
    sim.run_for(millis(1));
    dial(&mut sim, visitors[0], 5, 0);
    sim.run_for(millis(1000));
    let changes = heard(&mut sim, host);
    let [(231, Input::Down { link: LinkId(0), .. }), (231, Input::Up { link: LinkId(2), .. })] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!(names(&sim, host), [LinkId(1), LinkId(2)]);
}

#[test]
fn a_dial_to_another_session_of_the_own_key_leads_back() {
    let (mut sim, _, visitors) = visited(even(), true, 2);
    heard(&mut sim, visitors[0]);
    dial(&mut sim, visitors[0], 7, 2);
    sim.run_for(millis(100));
    assert!(matches!(dials(&heard(&mut sim, visitors[0]))[..], [(_, 7, Err(Why::SelfDial))]));
}
