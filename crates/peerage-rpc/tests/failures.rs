#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]
//! One-way commands that fail: whoever sent them hears so, whoever is cut off or killed meanwhile.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::host::Host;
use common::wire::{self, Body, control};
use common::{MS, SECOND, World, number, seeds};
use peerage_rpc::{BrokerConfig, Code, Destination, Event, JOURNAL_PREFIX, Limits, Shape, Status};
use peerage_sim::{Config, NodeId};
use peerage_wire::proto::rpc::v1 as proto;

/// What is said of one-way commands that failed, each once.
fn failed(world: &World, client: NodeId) -> BTreeMap<u64, Status> {
    let mut failed = BTreeMap::new();
    for event in world.seen(client) {
        if let Event::OneWayFailed { seq, status, .. } = event {
            let before = failed.insert(*seq, (**status).clone());
            assert_eq!(before, None, "command {seq} failed twice\n{}", world.sim.reproduction());
        }
    }
    failed
}

/// Up to which one-way command all are done.
fn done(world: &World, client: NodeId) -> u64 {
    let done = world.seen(client).iter().filter_map(|event| match event {
        Event::OneWaysDone { up_to, .. } => Some(*up_to),
        _ => None,
    });
    done.max().unwrap_or(0)
}

fn all() -> Destination {
    Destination::Group(Bytes::from_static(b"all"))
}

fn config(seed: u64) -> Config {
    let mut config = Config::seeded(seed);
    config.detection = 100 * MS..=500 * MS;
    config.unreachable_after = 100 * MS;
    config.store_delay = 3 * MS;
    config
}

fn broker(journal: bool) -> BrokerConfig {
    BrokerConfig { journal, ..BrokerConfig::default() }
}

/// Every third command fails, at the broker and at a node; links are lost, and the broker is killed if it has a journal.
fn whoever_sent_it_hears_of_each_failure(seed: u64, journal: bool) {
    let mut config = config(seed);
    config.link_loss_per_second = 0.5;
    config.stalls_per_second = 0.5;
    let mut world = World::new(config, broker(journal), 2, 1);
    let (broker, clients, node) = (world.broker, world.parties[..2].to_vec(), world.parties[2]);
    for at in [broker, node] {
        world.handle(at, "note", |run| {
            let n = u64::from_be_bytes(run.payload.as_ref().try_into().unwrap());
            let result = if n % 3 == 0 { Err(Status::not_found("no such note")) } else { Ok(Bytes::new()) };
            (MS * (n % 4) as u32, result, Vec::new())
        });
        world.handle(at, "echo", |run| (MS, Ok(run.payload.clone()), Vec::new()));
    }
    world.connect();
    let mut wanted = vec![BTreeMap::new(); clients.len()];
    let mut sent = vec![Vec::new(); clients.len()];
    for n in 0..300 {
        for (index, client) in clients.iter().enumerate() {
            let is_here = world.rng.chance(0.7);
            let to = if is_here { Destination::Peer } else { all() };
            if world.rng.chance(0.3) {
                // Answers that keep the links busy: failures wait behind them, and acknowledgements do not.
                world.call(*client, World::placing("echo", vec![0; 20_000], to.clone(), Shape::REQUEST));
            }
            let note = World::placing("note", number(n), to, Shape::ONE_WAY);
            let Some(note) = world.call(*client, note) else { continue };
            sent[index].push(note.seq);
            if n % 3 == 0 {
                wanted[index].insert(note.seq, is_here);
            }
        }
        world.run_for(5 * MS);
        if journal && world.rng.chance(0.02) {
            world.crash(broker);
            let away = world.rng.below(300);
            world.run_for(Duration::from_millis(away));
            world.sim.restart(broker);
        }
    }
    world.run_until(120 * SECOND, |world| {
        clients.iter().zip(&sent).all(|(client, sent)| {
            let (failed, done) = (failed(world, *client), done(world, *client));
            sent.iter().all(|seq| *seq <= done || failed.contains_key(seq))
        })
    });
    world.run_for(2 * SECOND);
    let reproduction = world.sim.reproduction();
    for (client, wanted) in clients.iter().zip(&wanted) {
        let failed = failed(&world, *client);
        for (seq, is_here) in wanted {
            let code = failed.get(seq).map(|status| status.code);
            // A node that is not there is another reason, and what it said may be lost with a broker that is killed.
            let is_told = code == Some(Code::NotFound) || (!is_here && code == Some(Code::Unavailable));
            assert!(is_told, "of command {seq}: {code:?}\n{reproduction}");
        }
    }
}

#[test]
fn whoever_sent_a_one_way_command_hears_of_its_failure_through_any_number_of_cuts() {
    for seed in seeds(4, 100) {
        whoever_sent_it_hears_of_each_failure(seed, false);
    }
}

#[test]
fn with_the_journal_no_failure_of_a_one_way_command_is_lost_with_the_broker() {
    for seed in seeds(4, 100) {
        whoever_sent_it_hears_of_each_failure(seed, true);
    }
}

#[test]
fn whoever_sends_nothing_but_commands_that_fail_as_fast_as_it_may_is_at_no_fault() {
    for (seed, calls) in [(1, 64), (2, 1024)] {
        let mut config = config(seed);
        config.link_loss_per_second = 0.2;
        config.stalls_per_second = 0.5;
        let limits = Limits { calls, ..Limits::default() };
        let mut world = World::new(config, BrokerConfig { limits, ..broker(true) }, 1, 1);
        let (broker, client, node) = (world.broker, world.parties[0], world.parties[1]);
        world.handle(node, "long", |_| (3600 * SECOND, Ok(Bytes::new()), Vec::new()));
        world.connect();
        // Nothing after this one is finished.
        world.call(client, World::placing("long", Bytes::new(), all(), Shape::ONE_WAY)).unwrap();
        let mut sent = 0;
        // Twice as many as may be kept.
        world.run_until(600 * SECOND, |world| {
            let unknown = World::placing("unknown", Bytes::new(), Destination::Peer, Shape::ONE_WAY);
            while world.call(client, unknown.clone()).is_some() {
                sent += 1;
            }
            sent > 2 * (4 * calls + 1024)
        });
        assert_eq!(world.sim.counter(broker, "rpc_faults_total"), 0, "{}", world.sim.reproduction());
    }
}

#[test]
fn one_way_commands_to_a_node_that_ran_one_when_its_broker_was_killed_are_done() {
    let mut world = World::new(config(5), broker(true), 1, 1);
    let (broker, client, node) = (world.broker, world.parties[0], world.parties[1]);
    world.handle(node, "note", |_| (SECOND, Ok(Bytes::new()), Vec::new()));
    world.connect();
    let note = |n| World::placing("note", number(n), all(), Shape::ONE_WAY);
    let first = world.call(client, note(0)).unwrap();
    world.run_until(SECOND, |world| !world.handled.is_empty());
    world.crash(broker);
    world.run_for(100 * MS);
    world.sim.restart(broker);
    world.run_until(10 * SECOND, |world| failed(world, client).contains_key(&first.seq));
    world.run_for(2 * SECOND);
    let second = world.call(client, note(1)).unwrap();
    world.run_until(10 * SECOND, |world| done(world, client) >= second.seq);
    assert_eq!(world.runs(node, "note", client), [0, 1]);
}

/// A one-way command to the second node, which is not there, and a later one of that shape, to the broker or the first node. The
/// broker is killed when it has kept that, and the node is there when both come again.
fn what_was_refused_is_not_run_after(shape: Shape, to_node: bool) {
    let mut world = World::new(config(6), broker(true), 1, 2);
    let (client, first, node) = (world.parties[0], world.parties[1], world.parties[2]);
    let broker = world.broker;
    for at in [broker, first, node] {
        world.handle(at, "note", |_| (Duration::ZERO, Ok(Bytes::new()), Vec::new()));
    }
    world.connect();
    world.crash(node);
    world.run_for(SECOND);
    let named = |world: &World, node| Destination::Node(world.sim.peer(node));
    let to_gone = named(&world, node);
    let to = if to_node { named(&world, first) } else { Destination::Peer };
    // While the link has something, what is small waits, so that the next two come together.
    world.call(client, World::placing("other", Bytes::new(), Destination::Peer, Shape::REQUEST)).unwrap();
    let refused = world.call(client, World::placing("note", number(0), to_gone, Shape::ONE_WAY)).unwrap();
    world.call(client, World::placing("note", number(1), to, shape)).unwrap();
    if to_node {
        // Its mark is kept, and its client has heard of neither.
        world.run_until(SECOND, |world| !kept(world).is_empty());
    } else {
        world.run_until(SECOND, |world| !world.runs(broker, "note", client).is_empty());
        world.run_for(4 * MS);
    }
    assert!(failed(&world, client).is_empty());
    world.crash(broker);
    // The node is there before the client is back.
    world.sim.partition(&[[client]]);
    world.sim.restart(broker);
    world.sim.restart(node);
    world.run_for(5 * SECOND);
    world.sim.heal();
    world.run_until(10 * SECOND, |world| failed(world, client).contains_key(&refused.seq));
    let status = &failed(&world, client)[&refused.seq];
    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, false), "{status}");
    world.run_for(SECOND);
    assert_eq!(world.runs(node, "note", client), []);
    assert!(to_node || world.runs(broker, "note", client) == [1]);
}

/// Records of calls that the broker has passed on.
fn kept(world: &World) -> Vec<Bytes> {
    let is_mark = |key: &&Bytes| {
        key.starts_with(JOURNAL_PREFIX)
            && key.len() == JOURNAL_PREFIX.len() + 25
            && key[key.len() - 9] == b'd'
    };
    world.sim.stored(world.broker).keys().filter(is_mark).cloned().collect()
}

#[test]
fn a_one_way_command_that_was_refused_is_not_run_after_one_that_came_later() {
    what_was_refused_is_not_run_after(Shape::ONE_WAY, false);
}

#[test]
fn a_one_way_command_that_was_refused_is_not_run_after_a_request_that_came_later() {
    what_was_refused_is_not_run_after(Shape::REQUEST, false);
}

#[test]
fn a_one_way_command_that_was_refused_is_not_run_after_a_request_that_went_to_a_node() {
    what_was_refused_is_not_run_after(Shape::REQUEST, true);
}

#[test]
fn a_one_way_command_that_could_not_be_kept_has_failed_also_after_a_restart() {
    let mut host = Host::new(broker(true));
    let link = host.opened(1);
    let complete = |host: &mut Host, result| {
        host.item(link, Body::Call(wire::call("note", 1)));
        let run = host.runs()[0].key;
        host.complete(run, result);
    };
    complete(&mut host, Err(Status::not_found("no such note")));
    host.is_broken = true;
    complete(&mut host, Ok(Bytes::new()));
    host.is_broken = false;
    // The party has heard of the first failure, and not of the second.
    host.say(link, control(Body::Ack(proto::Ack { up_to: 1, bulk_up_to: 0, done: 0 })));
    complete(&mut host, Ok(Bytes::new()));

    let id = host.broker.sessions().next().unwrap().id;
    let mut host = Host::started(broker(true), host.stored);
    let link = host.up(1);
    let lanes = Some(proto::Lanes { arrived: 1, sent: 3, ..proto::Lanes::default() });
    let session = Bytes::copy_from_slice(&id.0);
    host.say(link, control(Body::Open(proto::Open { session, lanes, groups: Vec::new() })));
    let heard = host.hears(link);
    let Some(Body::Opened(opened)) = heard.first() else { panic!("{heard:?}") };
    assert_eq!((opened.resumed, opened.acknowledged), (true, 1));
    for seq in [2, 3] {
        host.say(link, wire::item(seq, Body::Call(wire::call("note", 1))));
    }
    assert!(host.runs().is_empty(), "one is run again");
    let replies = host.replies(link);
    let statuses: Vec<_> = replies.iter().map(|reply| (reply.to, reply.status.clone().unwrap())).collect();
    let [(2, status)] = &statuses[..] else { panic!("{statuses:?}") };
    assert_eq!((status.code, status.may_have_run), (Code::Internal.number(), true));
}
