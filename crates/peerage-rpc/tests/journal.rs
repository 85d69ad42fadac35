#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]
//! With the journal: what was acknowledged is there, once and in order, whoever is killed and when.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use common::{MS, SECOND, World, number, seeds};
use peerage_machine::Write;
use peerage_rpc::{BrokerConfig, Code, Destination, Event, Shape};
use peerage_sim::{Config, NodeId};
use peerage_wire::PeerId;

/// What the broker's application keeps: of each caller, how often each command was run, and with what.
#[derive(Default)]
struct Ledger {
    next: BTreeMap<(String, PeerId), u64>,
}

fn key(command: &str, caller: &PeerId, n: u64) -> Bytes {
    [command.as_bytes(), b"/", caller.as_bytes(), &n.to_be_bytes()].concat().into()
}

impl Ledger {
    fn entry(&mut self, command: &str, caller: PeerId, payload: &Bytes) -> Write {
        let next = self.next.entry((command.to_owned(), caller)).or_default();
        let write = Write { key: key(command, &caller, *next), value: Some(payload.clone()) };
        *next += 1;
        write
    }

    /// What a start of the application finds.
    fn load(&mut self, stored: &BTreeMap<Bytes, Bytes>) {
        self.next.clear();
        for key in stored.keys() {
            let Some((command, rest)) = ["note", "ask"]
                .iter()
                .find_map(|command| Some((*command, key.strip_prefix(format!("{command}/").as_bytes())?)))
            else {
                continue;
            };
            let (caller, n) = rest.split_at(32);
            let (caller, n) =
                (PeerId::from_bytes(caller.try_into().unwrap()), u64::from_be_bytes(n.try_into().unwrap()));
            let next = self.next.entry((command.to_owned(), caller)).or_default();
            assert_eq!(*next, n, "the journal of the application has a hole");
            *next = n + 1;
        }
    }
}

fn written(world: &World, command: &str, caller: NodeId) -> Vec<u64> {
    let prefix = [command.as_bytes(), b"/", world.sim.peer(caller).as_bytes()].concat();
    let stored = world.sim.stored(world.broker).iter().filter(|(key, _)| key.starts_with(&prefix));
    stored.map(|(_, value)| u64::from_be_bytes(value.as_ref().try_into().unwrap())).collect()
}

fn world(seed: u64) -> (World, Rc<RefCell<Ledger>>) {
    let mut config = Config::seeded(seed);
    config.link_loss_per_second = 0.2;
    config.detection = 100 * MS..=500 * MS;
    config.unreachable_after = 100 * MS;
    config.store_delay = 3 * MS;
    let broker = BrokerConfig { journal: true, ..BrokerConfig::default() };
    let mut world = World::new(config, broker, 3, 2);
    let ledger = Rc::new(RefCell::new(Ledger::default()));
    for (command, delay) in [("note", 0), ("ask", 7)] {
        let ledger = Rc::clone(&ledger);
        world.handle(world.broker, command, move |run| {
            let write = ledger.borrow_mut().entry(command, run.caller.peer, &run.payload);
            (MS * delay, Ok(run.payload.clone()), vec![write])
        });
    }
    for node in world.parties.clone().into_iter().skip(3) {
        world.handle(node, "work", |run| (5 * MS, Ok(run.payload.clone()), Vec::new()));
        world.handle(node, "mark", |_| (2 * MS, Ok(Bytes::new()), Vec::new()));
    }
    world.connect();
    (world, ledger)
}

#[test]
fn a_broker_that_is_killed_at_any_moment_loses_nothing_and_does_nothing_twice() {
    for seed in seeds(4, 200) {
        let (mut world, ledger) = world(seed);
        let broker = world.broker;
        let (clients, nodes) = (world.parties[..3].to_vec(), world.parties[3..].to_vec());
        let (mut placed, mut next) = (Vec::new(), vec![[0_u64; 4]; clients.len()]);
        let mut kills = 0;
        for _ in 0..500 {
            for (client, next) in clients.iter().zip(&mut next) {
                let choice = world.rng.below(5) as usize;
                let (command, to, shape) = match choice {
                    0 => ("note", Destination::Peer, Shape::ONE_WAY),
                    1 => ("ask", Destination::Peer, Shape::REQUEST),
                    2 => ("work", Destination::Group(Bytes::from_static(b"all")), Shape::REQUEST),
                    // One-way calls to nodes finish when the node says so, before and after those of the broker.
                    3 => ("mark", Destination::Group(Bytes::from_static(b"all")), Shape::ONE_WAY),
                    _ => continue,
                };
                if let Some(call) =
                    world.call(*client, World::placing(command, number(next[choice]), to, shape))
                {
                    if choice == 1 || choice == 2 {
                        placed.push((*client, call.id, choice, next[choice]));
                    }
                    next[choice] += 1;
                }
            }
            world.run_for(5 * MS);
            if world.rng.chance(0.01) {
                kills += 1;
                world.crash(broker);
                let away = world.rng.below(500);
                world.run_for(Duration::from_millis(away));
                world.sim.restart(broker);
                ledger.borrow_mut().load(world.sim.stored(broker));
            } else if world.rng.chance(0.01) {
                let node = nodes[world.rng.index(nodes.len())];
                world.crash(node);
                world.run_for(100 * MS);
                world.sim.restart(node);
            }
        }
        let wanted = next.clone();
        world.run_until(200 * SECOND, |world| {
            placed.iter().all(|(client, id, ..)| world.answers.contains_key(&(*client, *id)))
                && clients
                    .iter()
                    .zip(&wanted)
                    .all(|(client, wanted)| written(world, "note", *client).len() as u64 >= wanted[0])
        });
        let reproduction = world.sim.reproduction();
        assert!(kills > 0 || seed % 7 != 0, "nobody was killed\n{reproduction}");
        for (client, wanted) in clients.iter().zip(&wanted) {
            let lost = world.seen(*client).iter().any(|event| matches!(event, Event::Closed { .. }));
            assert!(!lost, "a session was lost\n{reproduction}");
            assert_eq!(
                written(&world, "note", *client),
                (0..wanted[0]).collect::<Vec<_>>(),
                "{reproduction}"
            );
            let asks = written(&world, "ask", *client);
            let once: BTreeSet<_> = asks.iter().copied().collect();
            assert_eq!(once.len(), asks.len(), "something was done twice\n{reproduction}");
            assert_eq!(once.len() as u64, wanted[1], "{reproduction}");
        }
        for (client, id, choice, n) in &placed {
            match &world.answers[&(*client, *id)] {
                Ok(answer) => assert_eq!(*answer, number(*n), "{reproduction}"),
                Err(status) if *choice == 2 => {
                    assert_eq!(status.code, Code::Unavailable, "{status}\n{reproduction}")
                }
                Err(status) => panic!("{status}\n{reproduction}"),
            }
        }
        for client in &clients {
            for command in ["work", "mark"] {
                let runs: Vec<_> =
                    nodes.iter().flat_map(|node| world.runs(*node, command, *client)).collect();
                let once: BTreeSet<_> = runs.iter().copied().collect();
                assert_eq!(runs.len(), once.len(), "a node ran {command} twice\n{reproduction}");
            }
        }
    }
}
