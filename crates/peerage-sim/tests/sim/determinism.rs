//! Same seed, same run.

use std::time::Duration;

use peerage_machine::{Class, DialId, Effect, Target};
use peerage_sim::{Config, Dropped, NodeId, Stats, address};

use crate::puppet::*;

/// A ring with chords, everybody talks to everybody once a second, and everything goes wrong that can.
fn turmoil(seed: u64) -> (World, Vec<NodeId>) {
    let config = Config {
        link_loss_per_second: 0.01,
        bandwidth: Some(1_000_000),
        credit: 3_000,
        ..Config::seeded(seed)
    };
    let (mut sim, nodes) = world(config, 40);
    for (n, node) in nodes.iter().enumerate() {
        sim.command(*node, |puppet, now, _| chatter(puppet, now.mono, n as u32));
    }
    for round in 0..30_usize {
        sim.run_for(Duration::from_millis(700));
        let victim = nodes[round * 7 % nodes.len()];
        match round % 6 {
            0 => sim.crash(victim),
            1 => {
                sim.restart(victim);
                let n = victim.index() as u32;
                sim.command(victim, |puppet, now, _| chatter(puppet, now.mono, n));
            }
            2 => sim.partition(&[&nodes[..round]]),
            3 => sim.heal(),
            _ => {
                sim.sever(victim, nodes[(victim.index() + 1) % nodes.len()]);
            }
        }
    }
    (sim, nodes)
}

fn chatter(puppet: &mut Puppet, now: peerage_machine::Instant, n: u32) {
    puppet.deadline = Some(now + millis(u64::from(n)));
    puppet.on_timer = |puppet, now, out| {
        puppet.deadline = Some(now.mono + millis(200));
        let mut rng = puppet.start.seed.fork(&format!("{:?}", now.mono)).rng();
        let dial = DialId(rng.next_u64());
        puppet.dialled.insert(dial);
        out.dial(dial, Target::Address(address(rng.below(41) as u32)));
        let to: Vec<_> = puppet.links.iter().map(|(link, _)| *link).collect();
        let message = Word { number: rng.next_u64(), ballast: rng.below(2_000) };
        let class = [Class::Interactive, Class::Control, Class::Bulk][rng.index(3)];
        out.push(Effect::Send { to: to.clone(), message, class, id: None });
        if let Some(link) = rng.pick(&to) {
            out.push(Effect::Release(*link));
        }
    };
}

fn hex(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let (first, _) = turmoil(1);
    let (again, _) = turmoil(1);
    let (other, _) = turmoil(2);
    assert_eq!(first.stats(), again.stats());
    assert_eq!(hex(first.trace_hash()), hex(again.trace_hash()));
    assert_ne!(hex(first.trace_hash()), hex(other.trace_hash()));
}

/// Made by another process on another day: what changes this changes what every kept seed means.
#[test]
fn the_run_of_a_seed_is_the_same_in_every_process() {
    let (sim, _) = turmoil(8812);
    assert_eq!(hex(sim.trace_hash()), "70cfaaad3b1454dfa9e0a4fe2533e0c4e0a2786da099b682545a18b14e620905");
}

#[test]
fn a_run_says_how_to_see_it_again() {
    let (sim, _) = turmoil(8812);
    let trace = &hex(sim.trace_hash())[..16];
    let events = sim.stats().events;
    let expected = format!(
        "to see this again: Config::seeded(8812), 40 nodes, 21.000000s of virtual time, {events} events, trace {trace}"
    );
    assert_eq!(sim.reproduction(), expected);
}

/// The puppets assert that they never see two links to one peer, a message on a link that is not up, or a `Down`
/// without an `Up`.
#[test]
fn turmoil_keeps_every_promise_and_loses_nothing_unaccounted() {
    for seed in 0..5 {
        let (mut sim, nodes) = turmoil(seed);
        for node in &nodes {
            sim.try_command(*node, |puppet, _, _| puppet.deadline = None);
        }
        sim.heal();
        assert!(sim.run_until_quiet(Duration::from_secs(100)));
        let mut links = 0;
        for node in &nodes {
            if let Some(puppet) = sim.machine(*node) {
                assert_eq!(puppet.dialled, puppet.ended, "every dial ends");
                assert_eq!(puppet.links.len(), sim.links(*node).len());
            }
            for view in sim.links(*node) {
                let other = sim.links(view.node).into_iter().find(|other| other.node == *node);
                assert!(view.whole && other.is_some_and(|other| other.since == view.since), "{view:?}");
                links += 1;
            }
        }
        assert!(links > 20, "{links}");
        for node in &nodes {
            sim.crash(*node);
        }
        assert!(sim.run_until_quiet(Duration::from_secs(100)));
        let stats: Stats = sim.stats();
        let (sent, arrived) = (stats.sent.total().messages, stats.delivered.total().messages);
        assert_eq!(sent, arrived + stats.dropped(Dropped::UnderWay));
        assert!(stats.dropped(Dropped::UnderWay) > 0 && stats.dropped(Dropped::Full) > 0, "{stats:#?}");
        assert!(stats.dials_failed > 0 && stats.dialed + stats.dials_failed <= stats.dials);
    }
}
