//! Machines that break what must never be broken, and the run that ends for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{Class, Effect, Input, Instant, LinkId, Machine, Message as _, Now, Outbox, OutboxOf};
use peerage_overlay::{MeshAnswer, MeshConfig, MeshEvent, MeshMachine, MeshStart, Packet};
use peerage_sim::{Config, Instance, NodeId, Role, address};

use crate::cli::Store;
use crate::progress::Progress;
use crate::world::{Fidelity, World, verifier};

/// By then everything said must be everywhere.
const SOON: Duration = Duration::from_secs(20);

/// What is wrong with a mesh.
#[derive(Clone, Copy)]
enum Twist {
    /// What becomes of an event on its way to the application.
    Tells(fn(MeshEvent, &mut Vec<MeshEvent>)),
    /// Messages that arrive are lost.
    Deaf,
    /// While a neighbour has not taken so many bytes, nobody is told anything.
    Waits(u64),
    /// Each push is made so often, whatever room there is.
    Pushes(u32),
}

/// A mesh between which and the world stands somebody.
struct Twisted {
    inner: MeshMachine,
    twist: Twist,
    /// Bytes that are on their way, by link, and what waits for them.
    under_way: BTreeMap<LinkId, u64>,
    kept: Vec<EffectOf<Self>>,
}

type EffectOf<M> = Effect<<M as Machine>::Message, <M as Machine>::Event, <M as Machine>::Answer>;

impl Twisted {
    fn run(&mut self, out: &mut OutboxOf<Self>, call: impl FnOnce(&mut MeshMachine, &mut OutboxOf<Self>)) {
        let mut inner: OutboxOf<Self> = Outbox::new();
        call(&mut self.inner, &mut inner);
        let mut effects = std::mem::take(&mut self.kept);
        effects.extend(inner.drain());
        for effect in effects {
            match (effect, self.twist) {
                (Effect::Emit(event), Twist::Tells(twist)) => {
                    let mut events = Vec::new();
                    twist(event, &mut events);
                    events.into_iter().for_each(|event| out.emit(event));
                }
                (effect @ Effect::Send { .. }, Twist::Waits(most))
                    if self.under_way.values().any(|bytes| *bytes > most) =>
                {
                    self.kept.push(effect);
                }
                (effect @ Effect::Send { class: Class::Interactive, .. }, Twist::Pushes(times)) => {
                    (1..times).for_each(|_| out.push(effect.clone()));
                    out.push(effect);
                }
                (effect, _) => {
                    if let Effect::Send { to, message, class: Class::Interactive, .. } = &effect {
                        for link in to {
                            *self.under_way.entry(*link).or_default() += message.encoded_len() as u64;
                        }
                    }
                    out.push(effect);
                }
            }
        }
    }
}

impl Machine for Twisted {
    type Message = Packet;
    type Event = MeshEvent;
    type Answer = MeshAnswer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        match &input {
            Input::Message { message, .. }
                if matches!(self.twist, Twist::Deaf) && message.kind() == "payload" =>
            {
                return;
            }
            Input::Credit { link, bytes, .. } => {
                *self.under_way.entry(*link).or_default() -= bytes;
            }
            Input::Down { link, .. } => drop(self.under_way.remove(link)),
            _ => {}
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

/// Twelve peers that say so many bytes each time.
fn twelve(payload: usize) -> World {
    twelve_of(MeshConfig::named("sim"), payload)
}

fn twelve_of(mesh: MeshConfig, payload: usize) -> World {
    let config = Config { verifier: verifier(), ..Config::seeded(5) };
    let mut world = World::new(config, mesh, payload, Fidelity::Values, Progress::Silent);
    world.arrives_within = Some(SOON);
    world.form(12, Duration::from_secs(5)).unwrap();
    world
}

/// One more, which joins by the first.
fn join(world: &mut World, make: impl Fn(MeshStart) -> Role<MeshMachine> + 'static) -> NodeId {
    let identity = Arc::new(Identity::from_seed([200; 32]));
    let instance = Instance::new("mesh", "sim").with_parameters(world.mesh().parameters());
    let peer = identity.peer_id();
    let node = world.sim.add(peer, [address(900)], instance, move |start| {
        make(MeshStart {
            now: start.now,
            seed: start.seed,
            identity: Arc::clone(&identity),
            incarnation: start.incarnation,
            addresses: start.addresses,
        })
    });
    world.trust(peer, node);
    world.nodes.push(node);
    node
}

fn join_twisted(world: &mut World, twist: Twist) -> NodeId {
    let node = join(world, move |start| {
        let inner = MeshMachine::new(MeshConfig::named("sim"), start);
        Role::Byzantine(Box::new(Twisted { inner, twist, under_way: BTreeMap::new(), kept: Vec::new() }))
    });
    world.pass(Duration::from_secs(5), "joining").unwrap();
    node
}

/// Each of the twelve says something, three times.
fn speak(world: &mut World) -> anyhow::Result<()> {
    for number in 0..36 {
        world.say(world.nodes[number % 12])?;
        world.pass(Duration::from_millis(300), "speaking")?;
    }
    world.pass(SOON, "waiting")
}

fn caught_saying(payload: usize, twist: Twist) -> String {
    let mut world = twelve(payload);
    join_twisted(&mut world, twist);
    format!("{:#}", speak(&mut world).unwrap_err())
}

fn caught(twist: Twist) -> String {
    caught_saying(64, twist)
}

#[test]
fn a_mesh_as_it_should_be_breaks_nothing() {
    let mut world = twelve(64);
    let node = join_twisted(&mut world, Twist::Tells(|event, out| out.push(event)));
    speak(&mut world).unwrap();
    assert!(world.ledger.borrow().said.values().all(|said| said.was_heard_by(node)));
}

#[test]
fn a_mesh_that_delivers_twice_is_caught() {
    let error = caught(Twist::Tells(|event, out| {
        out.push(event.clone());
        out.push(event);
    }));
    assert!(error.contains("delivered twice"), "{error}");
}

#[test]
fn a_mesh_that_delivers_what_nobody_said_is_caught() {
    let error = caught(Twist::Tells(|mut event, out| {
        if let MeshEvent::Message(message) = &mut event {
            message.id.seq += 1000;
        }
        out.push(event);
    }));
    assert!(error.contains("that nobody said"), "{error}");
}

#[test]
fn a_mesh_that_alters_what_was_said_is_caught() {
    let error = caught(Twist::Tells(|mut event, out| {
        if let MeshEvent::Message(message) = &mut event {
            message.parts = vec![Bytes::from_static(b"something else")];
        }
        out.push(event);
    }));
    assert!(error.contains("delivered altered"), "{error}");
}

#[test]
fn a_mesh_that_loses_what_it_could_have_is_caught_when_it_is_due() {
    let mut world = twelve(64);
    join_twisted(&mut world, Twist::Deaf);
    let said_at = world.sim.now();
    let error = format!("{:#}", speak(&mut world).unwrap_err());
    assert!(error.contains("1 of 12 reachable peers, n12 for one, lost"), "{error}");
    assert!(world.sim.now() <= said_at + SOON + Duration::from_secs(1), "{error}");
}

/// The thirteenth's links to two of its neighbours take nothing for a minute.
fn stall_two(world: &mut World, node: NodeId) {
    let neighbours: Vec<NodeId> = world.sim.links(node).iter().map(|link| link.node).collect();
    for neighbour in &neighbours[..2] {
        assert!(world.sim.stall(node, *neighbour, Duration::from_secs(60)));
    }
}

#[test]
fn a_mesh_that_waits_for_a_slow_neighbour_before_it_tells_others_is_caught() {
    for (twist, waits) in [(Twist::Waits(1000), true), (Twist::Waits(u64::MAX), false)] {
        let mut world = twelve(64);
        let node = join_twisted(&mut world, twist);
        stall_two(&mut world, node);
        match speak(&mut world) {
            Ok(()) => assert!(!waits, "nobody saw that it waits"),
            Err(error) => {
                let error = format!("{error:#}");
                assert!(
                    waits && error.contains("n12 keeps ") && error.contains("whose link takes it"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn who_starts_anew_is_not_expected_to_be_told_by_those_who_think_it_still_there() {
    let mut world = twelve(64);
    for number in 1..12 {
        // Those whom it feeds have the message from it. It forgets that before they must have told everybody, and they
        // have not noticed yet.
        world.say(world.nodes[0]).unwrap();
        world.pass(Duration::from_millis(60), "speaking").unwrap();
        let node = world.nodes[number];
        world.sim.crash(node);
        world.pass(Duration::from_millis(10), "gone").unwrap();
        world.come_back(node, Store::Lost);
        world.pass(Duration::from_secs(10), "after a restart").unwrap();
    }
}

#[test]
fn a_mesh_that_queues_for_a_slow_neighbour_without_end_is_caught() {
    let error = caught_saying(40_000, Twist::Pushes(40));
    assert!(error.contains("n12 sends more to "), "{error}");
}

#[test]
fn a_mesh_that_keeps_more_than_it_may_is_caught() {
    let mut tight = MeshConfig::named("sim");
    tight.retain_messages = 8;
    let mut world = twelve_of(tight, 64);
    let node = join(&mut world, |start| Role::Honest(MeshMachine::new(MeshConfig::named("sim"), start)));
    world.join(node, world.nodes[0]);
    world.pass(Duration::from_secs(5), "joining").unwrap();
    let error = format!("{:#}", speak(&mut world).unwrap_err());
    assert!(error.contains("at n12: 9 retained messages are held, at most 8 are allowed"), "{error}");
}

#[test]
fn a_mesh_on_real_links_says_and_hears_the_same() {
    let hear = |fidelity| {
        let config = Config { verifier: verifier(), bandwidth: Some(10_000_000), ..Config::seeded(5) };
        let mut world = World::new(config, MeshConfig::named("sim"), 40_000, fidelity, Progress::Silent);
        world.form(12, Duration::from_secs(5)).unwrap();
        speak(&mut world).unwrap();
        world.sim.crash(world.nodes[5]);
        world.pass(Duration::from_secs(20), "after a crash").unwrap();
        let neighbours = world.component();
        (neighbours, world.sim.stats().delivered_of_kind["payload"].messages >= 33, world.sim.trace_hash())
    };
    let [values, bytes, again, null] =
        [Fidelity::Values, Fidelity::Bytes, Fidelity::Bytes, Fidelity::BytesWithoutHandshake].map(hear);
    for (component, heard, _) in [values, bytes, null] {
        assert_eq!((component, heard), (1.0, true));
    }
    assert_eq!(bytes.2, again.2, "the same seed gives the same run");
    assert_ne!(bytes.2, values.2, "bytes take other ways than values");
}
