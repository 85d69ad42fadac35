#![expect(clippy::indexing_slicing, reason = "a test stops at the first thing that is not as it should be")]
//! Parties and brokers that go away, come back, are started twice, or are shut out.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::flows::Flows;
use common::{Actor, MS, SECOND, World, number};
use peerage_machine::CallId;
use peerage_rpc::accounts::Kind;
use peerage_rpc::{Answer, BrokerConfig, Code, Destination, Event, Placing, Shape, Status};
use peerage_sim::{Config, NodeId, peer};

fn world(seed: u64, broker: BrokerConfig, users: u32, nodes: u32) -> World {
    let mut config = Config::seeded(seed);
    config.detection = 100 * MS..=500 * MS;
    config.unreachable_after = 100 * MS;
    let mut world = World::new(config, broker, users, nodes);
    world.connect();
    world
}

fn all() -> Destination {
    Destination::Group(Bytes::from_static(b"all"))
}

fn answered(world: &mut World, from: NodeId, call: CallId) -> Answer {
    world.run_until(60 * SECOND, |world| world.answers.contains_key(&(from, call)));
    world.answers[&(from, call)].clone()
}

fn closed(world: &World, node: NodeId) -> Vec<(Status, u64)> {
    let closed = world.seen(node).iter().filter_map(|event| match event {
        Event::Closed { status, last_acknowledged, .. } => Some(((**status).clone(), *last_acknowledged)),
        _ => None,
    });
    closed.collect()
}

#[test]
fn a_node_that_dies_in_a_handler_may_have_run_the_call_and_one_that_is_gone_has_not() {
    let mut world = world(1, BrokerConfig::default(), 1, 1);
    let (client, node) = (world.parties[0], world.parties[1]);
    world.handle(node, "work", |_| (60 * SECOND, Ok(Bytes::new()), Vec::new()));
    let to = Destination::Node(peer(100));
    let call = world.call(client, World::placing("work", number(0), to.clone(), Shape::REQUEST)).unwrap();
    world.run_until(10 * SECOND, |world| !world.handled.is_empty());
    world.crash(node);
    let status = answered(&mut world, client, call.id).unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, true));
    let before = world.sim.now();
    let status = world.ask(client, World::placing("work", number(0), to, Shape::REQUEST)).unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, false));
    assert!(world.sim.now().since(before) < 200 * MS, "a call to a vanished node fails at once");
}

/// What else tells of a node's end than that its link is lost and it does not come back.
#[test]
fn a_call_does_not_wait_for_a_node_that_is_known_to_have_ended() {
    for is_killed in [true, false] {
        let broker = BrokerConfig { node_grace: 50 * SECOND, ..BrokerConfig::default() };
        let mut world = world(1, broker, 1, 1);
        let (client, node) = (world.parties[0], world.parties[1]);
        world.handle(node, "work", |_| (60 * SECOND, Ok(Bytes::new()), Vec::new()));
        let to = Destination::Node(peer(100));
        let call = world.call(client, World::placing("work", number(0), to, Shape::REQUEST)).unwrap();
        world.run_until(10 * SECOND, |world| !world.handled.is_empty());
        let before = world.sim.now();
        if is_killed {
            // Its supervisor starts it again: that is another one, which knows nothing of the call.
            world.crash(node);
            world.sim.restart(node);
            world.connect();
        } else {
            world.sim.stop(node);
        }
        let status = answered(&mut world, client, call.id).unwrap_err();
        assert_eq!((status.code, status.may_have_run), (Code::Unavailable, true), "{status}");
        let waited = world.sim.now().since(before);
        assert!(waited < 2 * SECOND, "killed: {is_killed}, it waited for {waited:?}");
    }
}

#[test]
fn an_idempotent_call_goes_to_another_node_of_its_group_or_to_the_next_start_of_its_own() {
    let mut world = world(2, BrokerConfig::default(), 1, 2);
    let (client, nodes) = (world.parties[0], world.parties[1..].to_vec());
    for node in &nodes {
        world.handle(*node, "work", |run| (2 * SECOND, Ok(run.payload.clone()), Vec::new()));
    }
    let idempotent = Shape::IDEMPOTENT;
    let call = world.call(client, World::placing("work", number(7), all(), idempotent)).unwrap();
    world.run_until(10 * SECOND, |world| !world.handled.is_empty());
    let first = world.handled[0].at;
    world.crash(first);
    assert_eq!(answered(&mut world, client, call.id), Ok(number(7)));
    assert!(world.handled.len() == 2 && world.handled[1].at != first);
    // To one node, which comes back.
    let second = nodes.iter().copied().find(|node| *node != first).unwrap();
    let key = world.sim.peer(second);
    let call =
        world.call(client, World::placing("work", number(8), Destination::Node(key), idempotent)).unwrap();
    world.run_until(10 * SECOND, |world| world.handled.len() == 3);
    world.crash(second);
    world.run_for(SECOND);
    world.sim.restart(second);
    assert_eq!(answered(&mut world, client, call.id), Ok(number(8)));
    // What is not declared so is not run again.
    let plain = world
        .call(client, World::placing("work", number(9), Destination::Node(key), Shape::REQUEST))
        .unwrap();
    world.run_until(10 * SECOND, |world| world.handled.len() == 5);
    world.crash(second);
    world.run_for(SECOND);
    world.sim.restart(second);
    let status = answered(&mut world, client, plain.id).unwrap_err();
    assert!(status.may_have_run, "{status}");
    assert_eq!(world.handled.len(), 5);
}

#[test]
fn a_call_that_ends_its_nodes_does_not_end_them_for_ever() {
    let mut world = world(3, BrokerConfig::default(), 1, 1);
    let (client, node) = (world.parties[0], world.parties[1]);
    world.handle(node, "work", |_| (60 * SECOND, Ok(Bytes::new()), Vec::new()));
    let call = world.call(client, World::placing("work", number(0), all(), Shape::IDEMPOTENT)).unwrap();
    for round in 1..=3 {
        world.run_until(20 * SECOND, |world| world.handled.len() == round);
        world.crash(node);
        world.run_for(SECOND);
        world.sim.restart(node);
    }
    let status = answered(&mut world, client, call.id).unwrap_err();
    assert!(status.code == Code::Unavailable && status.may_have_run, "{status}");
    assert_eq!(world.handled.len(), 3);
}

#[test]
fn the_second_start_of_a_node_takes_over_and_the_first_hears_why() {
    let mut world = world(4, BrokerConfig::default(), 1, 1);
    let (client, first) = (world.parties[0], world.parties[1]);
    world.handle(first, "where", |_| (60 * SECOND, Ok(Bytes::from_static(b"first")), Vec::new()));
    let to = Destination::Node(peer(100));
    let old = world.call(client, World::placing("where", number(0), to.clone(), Shape::REQUEST)).unwrap();
    world.run_until(10 * SECOND, |world| !world.handled.is_empty());
    let second = world.add_again(first);
    world.handle(second, "where", |_| (MS, Ok(Bytes::from_static(b"second")), Vec::new()));
    world.connect();
    let status = answered(&mut world, client, old.id).unwrap_err();
    assert!(status.code == Code::Unavailable && status.may_have_run, "{status}");
    let now = world.ask(client, World::placing("where", number(0), to, Shape::REQUEST));
    assert_eq!(now, Ok(Bytes::from_static(b"second")));
    world.run_for(30 * SECOND);
    let [(why, _)] = &closed(&world, first)[..] else { panic!("{:?}", closed(&world, first)) };
    assert_eq!(why.code, Code::Aborted);
    assert_eq!(closed(&world, second), [], "the first has not come back");
}

#[test]
fn a_first_start_that_was_away_when_it_was_superseded_does_not_supersede_in_turn() {
    let mut world = world(5, BrokerConfig::default(), 1, 1);
    let first = world.parties[1];
    world.sim.partition(&[[first]]);
    let second = world.add_again(first);
    world.connect();
    world.sim.heal();
    world.run_for(20 * SECOND);
    let [(why, _)] = &closed(&world, first)[..] else { panic!("{:?}", closed(&world, first)) };
    assert_eq!(why.code, Code::Aborted);
    assert_eq!(closed(&world, second), []);
}

#[test]
fn a_user_has_several_sessions_and_each_its_own_answers() {
    let mut world = world(6, BrokerConfig { max_sessions_per_user: 2, ..BrokerConfig::default() }, 1, 0);
    let (broker, first) = (world.broker, world.parties[0]);
    world.handle(broker, "echo", |run| (3 * MS, Ok(run.payload.clone()), Vec::new()));
    let second = world.add_again(first);
    world.connect();
    for n in 0..20 {
        for at in [first, second] {
            let echo = World::placing("echo", number(n), Destination::Peer, Shape::REQUEST);
            assert_eq!(world.ask(at, echo), Ok(number(n)));
        }
    }
    let third = world.add_again(first);
    world.run_for(5 * SECOND);
    let refused = world
        .seen(third)
        .iter()
        .any(|event| matches!(event, Event::Refused(status) if status.code == Code::ResourceExhausted));
    assert!(refused, "{:?}", world.seen(third));
    assert!(closed(&world, first).is_empty() && closed(&world, second).is_empty());
}

#[test]
fn an_account_that_is_suspended_or_removed_is_shut_out_at_once() {
    for is_removed in [false, true] {
        let mut world = world(7, BrokerConfig::default(), 2, 1);
        let (broker, client, other) = (world.broker, world.parties[0], world.parties[1]);
        world.handle(world.parties[2], "work", |run| (5 * SECOND, Ok(run.payload.clone()), Vec::new()));
        let call = world.call(client, World::placing("work", number(0), all(), Shape::REQUEST)).unwrap();
        world.run_until(10 * SECOND, |world| !world.handled.is_empty());
        world.sim.command(broker, |actor, now, out| {
            if is_removed {
                actor.broker().remove(&peer(1), out).unwrap();
            } else {
                actor.broker().suspend(now, &peer(1), out).unwrap();
            }
        });
        let status = answered(&mut world, client, call.id).unwrap_err();
        assert!(status.may_have_run, "{status}");
        world.run_for(10 * SECOND);
        let [(why, _)] = &closed(&world, client)[..] else { panic!("{:?}", closed(&world, client)) };
        assert_eq!(why.code, Code::PermissionDenied);
        let ask = World::placing("work", number(1), all(), Shape::REQUEST);
        assert!(world.call(client, ask.clone()).is_none());
        assert_eq!(world.ask(other, ask), Ok(number(1)));
    }
}

#[test]
fn a_session_whose_party_does_not_come_back_within_its_grace_is_over_on_both_sides() {
    let config = BrokerConfig { grace: 3 * SECOND, node_grace: SECOND, ..BrokerConfig::default() };
    let mut world = world(8, config, 1, 1);
    let (broker, client, node) = (world.broker, world.parties[0], world.parties[1]);
    world.handle(broker, "slow", |_| (60 * SECOND, Ok(Bytes::new()), Vec::new()));
    let call =
        world.call(client, World::placing("slow", number(0), Destination::Peer, Shape::REQUEST)).unwrap();
    let note =
        world.call(client, World::placing("slow", number(1), Destination::Peer, Shape::ONE_WAY)).unwrap();
    world.run_until(10 * SECOND, |world| !world.handled.is_empty());
    world.sim.partition(&[[client, node]]);
    world.run_for(6 * SECOND);
    let status = world.answers[&(client, call.id)].clone().unwrap_err();
    assert!(status.code == Code::Unavailable && status.may_have_run, "{status}");
    assert_eq!(
        (closed(&world, client).len(), closed(&world, node).len(), closed(&world, broker).len()),
        (1, 1, 2)
    );
    let failed = world.seen(client).iter().any(|event| {
        matches!(event, Event::OneWayFailed { seq, status, .. } if *seq == note.seq && status.may_have_run)
    });
    assert!(
        failed && !world.answers.contains_key(&(client, note.id)),
        "a one-way call has no answer, but a failure"
    );
    world.sim.heal();
    world.connect();
    let sessions = world.sim.command(broker, |actor, _, _| actor.broker().sessions().count());
    assert_eq!(sessions, 2);
}

#[test]
fn a_broker_that_restarts_without_a_journal_says_that_the_session_is_lost_and_how_far_it_was() {
    let mut world = world(9, BrokerConfig::default(), 1, 1);
    let (broker, client, node) = (world.broker, world.parties[0], world.parties[1]);
    world.handle(broker, "note", |_| (MS, Ok(Bytes::new()), Vec::new()));
    world.handle(node, "work", |_| (60 * SECOND, Ok(Bytes::new()), Vec::new()));
    let notes: Vec<_> = (0..5)
        .map(|n| {
            world.call(client, World::placing("note", number(n), Destination::Peer, Shape::ONE_WAY)).unwrap()
        })
        .collect();
    world.run_for(SECOND);
    let call = world.call(client, World::placing("work", number(0), all(), Shape::REQUEST)).unwrap();
    world.run_until(10 * SECOND, |world| world.handled.len() == 6);
    world.crash(broker);
    world.run_for(2 * SECOND);
    // Not sent before the broker was gone.
    let unsent = world.call(client, World::placing("work", number(1), all(), Shape::REQUEST)).unwrap();
    world.sim.restart(broker);
    let status = answered(&mut world, client, call.id).unwrap_err();
    assert!(status.code == Code::Unavailable && status.may_have_run, "{status}");
    let status = answered(&mut world, client, unsent.id).unwrap_err();
    assert!(status.code == Code::Unavailable && !status.may_have_run, "{status}");
    let [(_, last)] = closed(&world, client)[..] else { panic!("{:?}", closed(&world, client)) };
    assert_eq!(last, notes[4].seq, "all notes were done, and that was said");
    world.connect();
}

#[test]
fn an_impostor_that_knows_a_nodes_key_but_not_its_secret_is_only_itself() {
    // Who is at the other end of a link is proven below; here, an account of its own does not make it a node.
    let mut world = world(10, BrokerConfig::default(), 2, 1);
    let (client, impostor) = (world.parties[0], world.parties[1]);
    world.handle(world.parties[2], "work", |run| (MS, Ok(run.payload.clone()), Vec::new()));
    world.handle(impostor, "work", |_| (MS, Ok(Bytes::from_static(b"stolen")), Vec::new()));
    for n in 0..20 {
        let to = if n % 2 == 0 { all() } else { Destination::Node(peer(100)) };
        assert_eq!(world.ask(client, World::placing("work", number(n), to, Shape::REQUEST)), Ok(number(n)));
    }
    let to = Destination::Node(peer(2));
    let status = world.ask(client, World::placing("work", number(0), to, Shape::REQUEST)).unwrap_err();
    assert_eq!(status.code, Code::Unavailable, "a user is no node, whatever groups it claims");
    let kinds: Vec<_> =
        world.sim.command(world.broker, |actor, _, _| actor.broker().nodes().map(|(peer, _)| peer).collect());
    assert_eq!(kinds, [peer(100)]);
    assert_eq!(world.handled.iter().filter(|run| run.caller.kind != Some(Kind::User)).count(), 0);
}

#[test]
fn two_large_requests_in_flight_both_arrive() {
    let mut broker = BrokerConfig::default();
    broker.limits.message_bytes = 1 << 20;
    let mut world = world(11, broker, 1, 1);
    let (client, node) = (world.parties[0], world.parties[1]);
    world.handle(node, "echo", |run| (MS, Ok(run.payload.clone()), Vec::new()));
    let calls: Vec<_> = [1_u8, 2]
        .into_iter()
        .map(|n| {
            let payload = vec![n; 1 << 20];
            world.call(client, World::placing("echo", payload, all(), Shape::REQUEST)).unwrap()
        })
        .collect();
    for (call, n) in calls.into_iter().zip([1_u8, 2]) {
        assert_eq!(answered(&mut world, client, call.id), Ok(vec![n; 1 << 20].into()));
    }
}

#[test]
fn the_first_streamed_reply_and_thousands_more_from_a_handler_arrive() {
    let mut flows = Flows::new(world(12, BrokerConfig::default(), 1, 1));
    flows.total = 5_000;
    let client = flows.world.parties[0];
    flows.start(client, Destination::Peer, Shape::STREAM_DOWN).unwrap();
    flows.start(client, all(), Shape::STREAM_DOWN).unwrap();
    flows.run_until(60 * SECOND, |flows| flows.flows.iter().all(|flow| flows.is_over(flow)));
    for flow in &flows.flows {
        assert_eq!(flows.went_well(flow), Ok(()));
    }
}

#[test]
fn who_leaves_has_its_one_way_calls_done_first() {
    let mut world = world(13, BrokerConfig::default(), 1, 1);
    let (broker, client, node) = (world.broker, world.parties[0], world.parties[1]);
    world.handle(broker, "note", |_| (5 * MS, Ok(Bytes::new()), Vec::new()));
    world.handle(node, "note", |_| (5 * MS, Ok(Bytes::new()), Vec::new()));
    for n in 0..50 {
        for to in [Destination::Peer, all()] {
            world.call(client, World::placing("note", number(n), to, Shape::ONE_WAY)).unwrap();
        }
    }
    world.sim.command(client, |actor, _, out| actor.party().leave(out));
    world.run_until(20 * SECOND, |world| !closed(world, client).is_empty());
    let all: Vec<_> = (0..50).collect();
    assert_eq!((world.runs(broker, "note", client), world.runs(node, "note", client)), (all.clone(), all));
}

#[test]
fn one_way_calls_of_a_caller_that_is_gone_do_not_hold_up_their_node() {
    let mut world = world(14, BrokerConfig::default(), 2, 1);
    let (client, other, node) = (world.parties[0], world.parties[1], world.parties[2]);
    world.handle(node, "note", |_| (SECOND, Ok(Bytes::new()), Vec::new()));
    world.handle(node, "echo", |run| (MS, Ok(run.payload.clone()), Vec::new()));
    for n in 0..20 {
        world.call(client, World::placing("note", number(n), all(), Shape::ONE_WAY)).unwrap();
    }
    world.run_for(500 * MS);
    let broker = world.broker;
    world
        .sim
        .command(broker, |actor, now, out| actor.broker().suspend(now, &peer(1), out).map(drop))
        .unwrap();
    world.run_for(5 * SECOND);
    assert!(world.runs(node, "note", client).len() < 20);
    let echo = World::placing("echo", number(1), all(), Shape::REQUEST);
    assert_eq!(world.ask(other, echo), Ok(number(1)));
    world.run_for(SECOND);
    let held = world.sim.command(broker, |actor: &mut Actor, _, _| {
        actor.broker().sessions().map(|session| session.kept_items + session.calls_to as usize).sum::<usize>()
    });
    assert_eq!(held, 0, "something is kept for the node for ever");
    assert_eq!(world.sim.command(node, |actor, _, _| actor.party().under_way().calls_here), 0);
}

#[test]
fn offers_made_while_a_party_was_away_from_a_broker_that_restarted_reach_it() {
    let mut world = world(15, BrokerConfig { journal: true, ..BrokerConfig::default() }, 1, 0);
    let (broker, client) = (world.broker, world.parties[0]);
    world.run_for(SECOND);
    world.crash(broker);
    world.run_for(Duration::from_secs(1));
    world.sim.restart(broker);
    world.sim.command(broker, |actor, _, out| actor.broker().offer(peer(1), Bytes::from_static(b"new"), out));
    world.run_until(20 * SECOND, |world| {
        world.seen(client).iter().any(|event| matches!(event, Event::Offers(offers) if offers == "new"))
    });
    assert_eq!(closed(&world, client), []);
}

#[test]
fn an_idempotent_call_waits_for_the_next_start_of_a_node_that_leaves_as_for_that_of_one_that_is_killed() {
    for journal in [false, true] {
        for leaves in [true, false] {
            let mut world = world(16, BrokerConfig { journal, ..BrokerConfig::default() }, 1, 1);
            let (client, node) = (world.parties[0], world.parties[1]);
            world.handle(node, "work", |run| (SECOND, Ok(run.payload.clone()), Vec::new()));
            let to = |n| [all(), Destination::Node(peer(100))][n as usize % 2].clone();
            let place = |n, shape| World::placing("work", number(n), to(n), shape);
            let calls: Vec<_> =
                (0..4).map(|n| world.call(client, place(n, Shape::IDEMPOTENT)).unwrap()).collect();
            let plain = world.call(client, place(4, Shape::REQUEST)).unwrap();
            world.run_until(10 * SECOND, |world| world.handled.len() == 5);
            goes(&mut world, node, leaves);
            // What may not be run again does not wait, and nor does what nobody was given yet.
            let status = answered(&mut world, client, plain.id).unwrap_err();
            assert_eq!((status.code, status.may_have_run), (Code::Unavailable, true), "{status}");
            let before = world.sim.now();
            let status = world.ask(client, place(5, Shape::IDEMPOTENT)).unwrap_err();
            assert_eq!((status.code, status.may_have_run), (Code::Unavailable, false), "{status}");
            assert!(world.sim.now().since(before) < 200 * MS);
            world.run_for(2 * SECOND);
            world.sim.restart(node);
            for (n, call) in (0..).zip(calls) {
                assert_eq!(answered(&mut world, client, call.id), Ok(number(n)));
            }
            assert_eq!(world.handled.len(), 9);
        }
    }
}

/// A node leaves its broker, or its endpoint shuts down; then its program ends.
fn goes(world: &mut World, node: NodeId, leaves: bool) {
    if leaves {
        world.sim.command(node, |actor, _, out| actor.party().leave(out));
        let broker = world.broker;
        world.run_until(SECOND, |world| !closed(world, broker).is_empty());
        world.crash(node);
    } else {
        world.sim.stop(node);
    }
}

#[test]
fn an_idempotent_call_waits_no_longer_than_the_grace_its_own_time_and_its_caller() {
    let mut world = world(17, BrokerConfig::default(), 2, 1);
    let (broker, client, other, node) = (world.broker, world.parties[0], world.parties[1], world.parties[2]);
    world.handle(node, "work", |_| (60 * SECOND, Ok(Bytes::new()), Vec::new()));
    let work = World::placing("work", number(0), all(), Shape::IDEMPOTENT);
    let short = Placing { timeout: Some(2 * SECOND), ..work.clone() };
    let [waits, ends, unwanted] =
        [work.clone(), short, work.clone()].map(|placing| world.call(client, placing).unwrap());
    world.call(other, work.clone()).unwrap();
    world.run_until(10 * SECOND, |world| world.handled.len() == 4);
    let before = world.sim.now();
    goes(&mut world, node, true);
    world.run_for(500 * MS);
    world.sim.command(client, |actor, _, out| actor.party().cancel(unwanted, out));
    world
        .sim
        .command(broker, |actor, now, out| actor.broker().suspend(now, &peer(2), out).map(drop))
        .unwrap();
    let under_way = |world: &mut World| {
        world.sim.command(broker, |actor, _, _| actor.broker().sessions().map(|session| session.calls).sum())
    };
    world.run_for(100 * MS);
    assert_eq!(
        under_way(&mut world),
        2_u32,
        "what was cancelled, and whose caller is gone, waits for nobody"
    );
    assert_eq!(answered(&mut world, client, ends.id).unwrap_err().code, Code::DeadlineExceeded);
    let status = answered(&mut world, client, waits.id).unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, true), "{status}");
    let waited = world.sim.now().since(before);
    assert!((4 * SECOND..6 * SECOND).contains(&waited), "{waited:?}");
    world.sim.restart(node);
    world.run_for(5 * SECOND);
    assert_eq!((world.handled.len(), under_way(&mut world)), (4, 0));
}

#[test]
fn an_idempotent_call_does_not_wait_for_a_node_that_is_shut_out() {
    // At once, or when it has left and is waited for.
    for (to, leaves) in [(Destination::Node(peer(100)), false), (all(), false), (all(), true)] {
        let mut world = world(18, BrokerConfig::default(), 1, 1);
        let (client, node) = (world.parties[0], world.parties[1]);
        world.handle(node, "work", |_| (60 * SECOND, Ok(Bytes::new()), Vec::new()));
        let call = world.call(client, World::placing("work", number(0), to, Shape::IDEMPOTENT)).unwrap();
        world.run_until(10 * SECOND, |world| !world.handled.is_empty());
        if leaves {
            goes(&mut world, node, true);
        }
        let (broker, before) = (world.broker, world.sim.now());
        let suspend =
            |actor: &mut Actor, now, out: &mut _| actor.broker().suspend(now, &peer(100), out).map(drop);
        world.sim.command(broker, suspend).unwrap();
        let status = answered(&mut world, client, call.id).unwrap_err();
        assert_eq!((status.code, status.may_have_run), (Code::Unavailable, true), "{status}");
        assert!(world.sim.now().since(before) < SECOND);
    }
}
