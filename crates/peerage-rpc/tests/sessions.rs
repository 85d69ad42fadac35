#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]
//! Sessions through cut links, restarts and crashes, in the simulator.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{MS, SECOND, World, number, seeds};
use peerage_rpc::{BrokerConfig, Code, Destination, Event, Shape};
use peerage_sim::{Config, peer};

#[test]
fn a_request_is_answered_by_the_broker_and_by_a_node() {
    let mut world = World::new(Config::seeded(1), BrokerConfig::default(), 1, 1);
    let (broker, client, node) = (world.broker, world.parties[0], world.parties[1]);
    world.handle(broker, "echo", |run| (Duration::ZERO, Ok(run.payload.clone()), Vec::new()));
    world.handle(node, "twice", |run| {
        (3 * MS, Ok([run.payload.clone(), run.payload.clone()].concat().into()), Vec::new())
    });
    world.connect();
    let answer = world.ask(client, World::placing("echo", &b"hello"[..], Destination::Peer, Shape::REQUEST));
    assert_eq!(answer, Ok(Bytes::from_static(b"hello")));
    let to = Destination::Node(peer(100));
    let answer = world.ask(client, World::placing("twice", &b"ab"[..], to, Shape::REQUEST));
    assert_eq!(answer, Ok(Bytes::from_static(b"abab")));
    let to = Destination::Group(Bytes::from_static(b"all"));
    let answer = world.ask(client, World::placing("twice", &b"c"[..], to, Shape::REQUEST));
    assert_eq!(answer, Ok(Bytes::from_static(b"cc")));
    let caller = &world.handled.last().unwrap().caller;
    assert_eq!((caller.peer, caller.kind), (peer(1), Some(peerage_rpc::accounts::Kind::User)));
    let to = Destination::Node(peer(101));
    let gone = world.ask(client, World::placing("twice", &b"c"[..], to, Shape::REQUEST)).unwrap_err();
    assert_eq!((gone.code, gone.may_have_run), (Code::Unavailable, false));
}

#[test]
fn through_any_number_of_cuts_everything_runs_once_and_in_order() {
    for seed in seeds(4, 200) {
        cut_at_random(seed, 0.5);
    }
}

/// `RPC_CUTS=100000 cargo test --release -p peerage-rpc --test sessions -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes in a release build"]
fn through_a_hundred_thousand_cuts_everything_runs_once_and_in_order() {
    let wanted: usize = std::env::var("RPC_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(100_000);
    let (mut cuts, mut tried) = (0, 0);
    for seed in seeds(u64::MAX, u64::MAX) {
        if cuts >= wanted {
            break;
        }
        cuts += cut_at_random(seed, 0.95);
        tried += 1;
    }
    println!("{cuts} cuts, {tried} seeds");
}

/// Gives how often a session went on with another link.
fn cut_at_random(seed: u64, loss: f64) -> usize {
    let mut config = Config::seeded(seed);
    config.link_loss_per_second = loss;
    config.half_open_per_second = 0.2;
    config.stalls_per_second = 0.2;
    config.detection = 100 * MS..=500 * MS;
    let mut world = World::new(config, BrokerConfig::default(), 3, 2);
    let broker = world.broker;
    let (clients, nodes) = (world.parties[..3].to_vec(), world.parties[3..].to_vec());
    let mut rng = peerage_machine::Seed::from_u64(seed).fork("delays").rng();
    world.handle(broker, "note", move |_| (MS * rng.below(4) as u32, Ok(Bytes::new()), Vec::new()));
    world.handle(broker, "ask", |run| (2 * MS, Ok(run.payload.clone()), Vec::new()));
    for node in &nodes {
        world.handle(*node, "work", |run| (5 * MS, Ok(run.payload.clone()), Vec::new()));
    }
    world.connect();
    let mut placed = Vec::new();
    let mut next = vec![[0_u64; 3]; clients.len()];
    for _ in 0..600 {
        for (client, next) in clients.iter().zip(&mut next) {
            let choice = world.rng.below(4) as usize;
            let (command, to, shape) = match choice {
                0 => ("note", Destination::Peer, Shape::ONE_WAY),
                1 => ("ask", Destination::Peer, Shape::REQUEST),
                2 => ("work", Destination::Group(Bytes::from_static(b"all")), Shape::REQUEST),
                _ => continue,
            };
            if let Some(call) = world.call(*client, World::placing(command, number(next[choice]), to, shape))
            {
                if choice > 0 {
                    placed.push((*client, call.id, choice, next[choice]));
                }
                next[choice] += 1;
            }
        }
        world.run_for(5 * MS);
    }
    let wanted = next.clone();
    world.run_until(120 * SECOND, |world| {
        placed.iter().all(|(client, id, ..)| world.answers.contains_key(&(*client, *id)))
            && clients
                .iter()
                .zip(&wanted)
                .all(|(client, wanted)| world.runs(broker, "note", *client).len() as u64 >= wanted[0])
    });
    let reproduction = world.sim.reproduction();
    let resumed = |event: &Event| matches!(event, Event::Opened { resumed: true, .. });
    let cuts = world.seen(broker).iter().filter(|event| resumed(event)).count();
    assert!(cuts >= 3, "{cuts} cuts\n{reproduction}");
    for (client, wanted) in clients.iter().zip(&wanted) {
        let notes = world.runs(broker, "note", *client);
        assert_eq!(notes, (0..wanted[0]).collect::<Vec<_>>(), "{reproduction}");
        let asks = world.runs(broker, "ask", *client);
        assert_eq!(
            asks,
            (0..wanted[1]).collect::<Vec<_>>(),
            "requests start in order and once\n{reproduction}"
        );
    }
    let mut lost = 0;
    for (client, id, choice, n) in &placed {
        match &world.answers[&(*client, *id)] {
            Ok(answer) => assert_eq!(*answer, number(*n), "{reproduction}"),
            // A node whose link is being replaced is not there.
            Err(status) if *choice == 2 => {
                assert_eq!(
                    (status.code, status.may_have_run),
                    (Code::Unavailable, false),
                    "{status}\n{reproduction}"
                );
                lost += 1;
            }
            Err(status) => panic!("{status}\n{reproduction}"),
        }
    }
    assert!(lost * 4 < placed.len(), "{lost} of {} calls found no node\n{reproduction}", placed.len());
    for client in &clients {
        let mut works: Vec<_> = nodes.iter().flat_map(|node| world.runs(*node, "work", *client)).collect();
        let all = works.len();
        works.sort_unstable();
        works.dedup();
        assert_eq!(works.len(), all, "a node ran something twice\n{reproduction}");
    }
    cuts
}
