//! Machines that break what must never be broken, and the run that ends for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{Effect, Input, Instant, Machine, Now, Outbox, OutboxOf};
use peerage_overlay::{MeshAnswer, MeshConfig, MeshEvent, MeshMachine, MeshStart, Packet};
use peerage_sim::{Config, Instance, NodeId, Role, address};

use crate::progress::Progress;
use crate::world::{World, verifier};

/// What becomes of an event on its way to the application.
type Twist = fn(MeshEvent, &mut Vec<MeshEvent>);

/// A mesh between which and its application stands somebody.
struct Twisted {
    inner: MeshMachine,
    twist: Twist,
    /// Messages that arrive here are lost.
    deaf: bool,
}

impl Twisted {
    fn run(&mut self, out: &mut OutboxOf<Self>, call: impl FnOnce(&mut MeshMachine, &mut OutboxOf<Self>)) {
        let mut inner: OutboxOf<Self> = Outbox::new();
        call(&mut self.inner, &mut inner);
        for effect in inner.drain() {
            match effect {
                Effect::Emit(event) => {
                    let mut events = Vec::new();
                    (self.twist)(event, &mut events);
                    events.into_iter().for_each(|event| out.emit(event));
                }
                other => out.push(other),
            }
        }
    }
}

impl Machine for Twisted {
    type Message = Packet;
    type Event = MeshEvent;
    type Answer = MeshAnswer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        if self.deaf && matches!(&input, Input::Message { message, .. } if message.kind() == "payload") {
            return;
        }
        let starts = matches!(input, Input::OwnAddresses(_));
        self.run(out, |inner, out| {
            inner.on_input(now, input, out);
            if starts {
                inner.join(now, vec![address(0)], out).unwrap();
            }
        });
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        self.run(out, |inner, out| inner.on_timer(now, out));
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }
}

/// Twelve peers, and one more that is twisted, and joins by the first.
fn world(twist: Twist, deaf: bool) -> (World, NodeId) {
    let config = Config { verifier: verifier(), ..Config::seeded(5) };
    let mesh = MeshConfig::named("sim");
    let mut world = World::new(config, mesh.clone(), 64, false, Progress::Silent);
    world.form(12, Duration::from_secs(5)).unwrap();
    let identity = Arc::new(Identity::from_seed([200; 32]));
    let instance = Instance::new("mesh", "sim").with_parameters(mesh.parameters());
    let node = world.sim.add(identity.peer_id(), [address(900)], instance, move |start| {
        let start = MeshStart {
            now: start.now,
            seed: start.seed,
            identity: Arc::clone(&identity),
            incarnation: start.incarnation,
            addresses: start.addresses,
        };
        let inner = MeshMachine::new(mesh.clone(), start);
        Role::Byzantine(Box::new(Twisted { inner, twist, deaf }))
    });
    world.nodes.push(node);
    world.pass(Duration::from_secs(5), "joining").unwrap();
    (world, node)
}

fn speak(world: &mut World) -> anyhow::Result<()> {
    let speaker = world.nodes[3];
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.say(speaker)?);
        world.pass(Duration::from_secs(1), "speaking")?;
    }
    world.pass(Duration::from_secs(20), "waiting")?;
    let nodes = world.nodes.clone();
    world.must_have(&nodes, &ids)
}

fn caught(twist: Twist, deaf: bool) -> String {
    let (mut world, _) = world(twist, deaf);
    format!("{:#}", speak(&mut world).unwrap_err())
}

#[test]
fn a_mesh_as_it_should_be_breaks_nothing() {
    let (mut world, node) = world(|event, out| out.push(event), false);
    speak(&mut world).unwrap();
    assert!(world.ledger.borrow().said.values().all(|said| said.was_heard_by(node)));
}

#[test]
fn a_mesh_that_delivers_twice_is_caught() {
    let error = caught(
        |event, out| {
            out.push(event.clone());
            out.push(event);
        },
        false,
    );
    assert!(error.contains("delivered twice"), "{error}");
}

#[test]
fn a_mesh_that_delivers_what_nobody_said_is_caught() {
    let error = caught(
        |mut event, out| {
            if let MeshEvent::Message(message) = &mut event {
                message.id.seq += 1000;
            }
            out.push(event);
        },
        false,
    );
    assert!(error.contains("that nobody said"), "{error}");
}

#[test]
fn a_mesh_that_alters_what_was_said_is_caught() {
    let error = caught(
        |mut event, out| {
            if let MeshEvent::Message(message) = &mut event {
                message.parts = vec![Bytes::from_static(b"something else")];
            }
            out.push(event);
        },
        false,
    );
    assert!(error.contains("delivered altered"), "{error}");
}

#[test]
fn a_mesh_that_loses_what_it_could_have_is_caught() {
    let error = caught(|event, out| out.push(event), true);
    assert!(error.contains("1 of 13 reachable peers, n12 for one, lost"), "{error}");
}

#[test]
fn a_mesh_on_real_links_says_and_hears_the_same() {
    let hear = |bytes: bool| {
        let config = Config { verifier: verifier(), bandwidth: Some(10_000_000), ..Config::seeded(5) };
        let mut world = World::new(config, MeshConfig::named("sim"), 40_000, bytes, Progress::Silent);
        world.form(12, Duration::from_secs(5)).unwrap();
        speak(&mut world).unwrap();
        world.sim.crash(world.nodes[5]);
        world.pass(Duration::from_secs(20), "after a crash").unwrap();
        let neighbours = world.component();
        (neighbours, world.sim.stats().delivered_of_kind["payload"].messages >= 33, world.sim.trace_hash())
    };
    let (values, bytes, again) = (hear(false), hear(true), hear(true));
    assert_eq!((values.0, values.1), (1.0, true));
    assert_eq!((bytes.0, bytes.1), (1.0, true));
    assert_eq!(bytes.2, again.2, "the same seed gives the same run");
    assert_ne!(bytes.2, values.2, "bytes take other ways than values");
}
