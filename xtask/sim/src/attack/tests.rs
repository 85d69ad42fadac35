//! That each attack does what it says, and what honest peers make of it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use peerage_overlay::{MeshConfig, MessageId};
use peerage_sim::{Config, address};

use super::{Attack, Gang};
use crate::progress::Progress;
use crate::world::{Fidelity, World, verifier};

const HONEST: usize = 8;
const BROADCASTS: usize = 16;
/// By then everything said must be everywhere.
const SOON: Duration = Duration::from_secs(20);

/// What came of an attack on a few peers.
struct Attacked {
    world: World,
    gang: Rc<Gang>,
    said: Vec<MessageId>,
    /// Payloads that arrived anywhere while there were attackers.
    payloads: u64,
}

impl Attacked {
    fn by(attack: Attack) -> Self {
        Self::by_many(attack, 24)
    }

    fn by_many(attack: Attack, attackers: usize) -> Self {
        Self::by_many_of(attack, attackers, 64)
    }

    /// The same where messages have so many bytes.
    fn by_many_of(attack: Attack, attackers: usize, payload: usize) -> Self {
        let config = Config { verifier: verifier(), fault_limit: u32::MAX, ..Config::seeded(7) };
        let mut world =
            World::new(config, MeshConfig::named("sim"), payload, Fidelity::Values, Progress::Silent);
        world.arrives_within = Some(SOON);
        world.form(HONEST, Duration::from_secs(5)).unwrap();
        let honest = world.nodes.clone();
        let gang = Rc::new(Gang {
            network: "sim".to_owned(),
            links: 4,
            victims: honest
                .iter()
                .map(|node| (world.sim.peer(*node), address(node.index() as u32)))
                .collect(),
            members: RefCell::new(Vec::new()),
            bides: Duration::from_secs(4),
            acts: Cell::new(0),
        });
        for _ in 0..attackers {
            world.add_attacker(attack, &gang);
        }
        let before = payloads(&world);
        let mut said = Vec::new();
        for number in 0..BROADCASTS {
            let speaker = honest.get(if number % 2 == 0 { 0 } else { number / 2 % HONEST }).copied().unwrap();
            said.push(world.say(speaker).unwrap());
            world.pass(Duration::from_millis(500), "under attack").unwrap();
        }
        world.pass(SOON, "waiting").unwrap();
        let payloads = payloads(&world) - before;
        Self { world, gang, said, payloads }
    }

    fn acts(&self) -> u64 {
        self.gang.acts.get()
    }

    fn counted(&self, name: &str) -> u64 {
        self.world.sim.stats().counter(name)
    }

    fn faults(&self) -> u64 {
        self.world.sim.stats().faults.values().sum()
    }

    /// Attackers among the neighbours of honest peers.
    fn captured(&self) -> usize {
        let honest = self.world.nodes.iter().filter_map(|node| self.world.honest(*node));
        let members = self.gang.members.borrow();
        let of = |peer: &_| members.iter().any(|(member, _)| member == peer);
        honest.map(|mesh| mesh.neighbours().iter().filter(|peer| of(peer)).count()).sum()
    }
}

fn payloads(world: &World) -> u64 {
    world.sim.stats().delivered_of_kind.get("payload").map_or(0, |it| it.messages)
}

/// Payloads that arrive when each honest peer gets each broadcast once.
const ONCE: u64 = (BROADCASTS * (HONEST - 1)) as u64;

#[test]
fn sinks_are_neighbours_and_swallow_what_they_are_sent() {
    let attacked = Attacked::by(Attack::Sink);
    assert!(attacked.captured() >= HONEST && attacked.acts() >= BROADCASTS as u64);
}

#[test]
fn forgers_are_found_out_and_shunned() {
    let attacked = Attacked::by(Attack::Forger);
    assert!(attacked.acts() > 100 && attacked.faults() > 100);
    assert!(attacked.counted("mesh_shunned_total") > 0);
}

#[test]
fn what_is_said_again_is_delivered_once() {
    let attacked = Attacked::by(Attack::Replay);
    assert!(attacked.payloads > 4 * ONCE, "{}", attacked.payloads);
}

#[test]
fn what_is_altered_is_not_believed() {
    let attacked = Attacked::by(Attack::Alter);
    assert!(attacked.acts() > BROADCASTS as u64 && attacked.faults() > 10);
}

#[test]
fn a_flood_is_heard_and_its_words_of_control_end_it() {
    let attacked = Attacked::by_many(Attack::Flood, 6);
    assert!(attacked.world.ledger.borrow().foreign > ONCE);
    assert!(attacked.counted("mesh_spam_total") > 1_000 && attacked.counted("mesh_shunned_total") > 0);
}

#[test]
fn who_announces_what_there_is_not_is_asked_for_it_and_shunned() {
    let attacked = Attacked::by(Attack::Ihave);
    assert!(attacked.acts() > 100 && attacked.counted("mesh_shunned_total") > 0);
}

#[test]
fn who_wants_everything_again_and_again_does_not_get_it() {
    // What is small anybody may have often: 3 MiB, however little is kept.
    let attacked = Attacked::by_many_of(Attack::Graft, 24, 32 << 10);
    assert!(attacked.acts() > 1_000, "{}", attacked.acts());
    assert!(attacked.counted("mesh_requests_refused_total") > 100);
}

#[test]
fn who_announces_and_does_not_send_is_asked_and_withholds() {
    let attacked = Attacked::by(Attack::Promise);
    let wanted = attacked.world.sim.stats().delivered_of_kind.get("want").map_or(0, |it| it.messages);
    assert!(attacked.acts() > BROADCASTS as u64 && wanted > 0, "{} {wanted}", attacked.acts());
}

#[test]
fn an_eclipse_is_of_one_peer() {
    let attacked = Attacked::by(Attack::Eclipse);
    let members = attacked.gang.members.borrow();
    let captured: Vec<usize> = attacked.world.nodes[..HONEST]
        .iter()
        .filter_map(|node| attacked.world.honest(*node))
        .map(|mesh| mesh.neighbours().iter().filter(|peer| members.iter().any(|(it, _)| it == *peer)).count())
        .collect();
    assert!(captured[1..].iter().all(|others| *others < captured[0]), "{captured:?}");
}

#[test]
fn censors_are_useful_and_pass_nothing_of_one_origin_on() {
    let attacked = Attacked::by(Attack::Censor);
    assert!(attacked.captured() > 0 && attacked.acts() > 0);
}

#[test]
fn turncoats_are_useful_until_they_turn() {
    let attacked = Attacked::by(Attack::Turncoat);
    assert!(attacked.captured() > 0 && attacked.acts() > 0);
}

#[test]
fn a_mixture_has_some_of_each() {
    let attacked = Attacked::by(Attack::All);
    assert!(attacked.faults() > 0 && attacked.counted("mesh_spam_total") > 0);
    assert_eq!(attacked.said.len(), BROADCASTS);
}
