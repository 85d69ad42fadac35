//! Two neighbours whose windows differ: each comes to have what the other has, and what that costs beside payloads.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::alone::{Alone, WALL};
use common::{MS, SECOND, World, identity, packets};
use peerage_machine::LinkId;
use peerage_overlay::{MeshConfig, MeshEvent, MessageId};
use peerage_sim::Config;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

/// Where what they hold comes from.
const SOURCE: u64 = 9;
/// The link between the two.
const BETWEEN: u64 = 1;
const ROOM: u64 = 1 << 30;

fn config(told_streams: usize) -> MeshConfig {
    let mut config = MeshConfig::named("news");
    config.told_streams = told_streams;
    // What is under way at a second is none of this test's.
    config.summary_every = SECOND * 1000;
    config
}

/// Has both hold a message of each of these origins, and each of its own what the other lacks.
fn hold(mesh: &mut Alone, origins: impl Iterator<Item = u32>, seq: u64) {
    for origin in origins {
        let signer = identity(1000 + origin);
        let sent = WALL + mesh.now.as_micros() / 1000;
        let mut payload = packets::payload(&signer, "news", 5, seq, sent, vec![Bytes::from_static(b"x")]);
        // Nobody passes on what was asked for.
        payload.pulled = true;
        mesh.say(SOURCE, Kind::Payload(payload));
        mesh.verified(true);
    }
}

struct Pair {
    sides: [Alone; 2],
    taken: [usize; 2],
    /// Bytes that were said, by kind.
    bytes: BTreeMap<&'static str, u64>,
}

impl Pair {
    fn new(told_streams: usize) -> Self {
        let mut sides = [Alone::by(1, config(told_streams)), Alone::by(2, config(told_streams))];
        for side in &mut sides {
            side.neighbour(SOURCE, ROOM);
        }
        Self { sides, taken: [0; 2], bytes: BTreeMap::new() }
    }

    fn connect(&mut self) {
        for (at, side) in self.sides.iter_mut().enumerate() {
            side.up(BETWEEN, identity(2 - at as u32).peer_id(), ROOM);
            side.say(BETWEEN, Kind::Neighbour(proto::Neighbour { urgent: false }));
        }
    }

    /// Carries what they say to each other, 10 ms each way.
    fn run(&mut self, rounds: u32) {
        for _ in 0..rounds {
            for from in [0, 1] {
                let [first, second] = &mut self.sides;
                let (from_side, to_side) = if from == 0 { (first, second) } else { (second, first) };
                let said = from_side.sent.get(&LinkId(BETWEEN)).map(Vec::as_slice).unwrap_or_default();
                let taken = self.taken.get_mut(from).unwrap();
                let new: Vec<_> = said.iter().skip(*taken).cloned().collect();
                *taken = said.len();
                for (_, size, kind) in new {
                    let name = packets::packet(kind.clone()).kind();
                    if !matches!(name, "neighbour_reply" | "shuffle" | "forward_join" | "probe") {
                        *self.bytes.entry(name).or_default() += size;
                        to_side.say(BETWEEN, kind);
                        to_side.verified(true);
                    }
                }
            }
            for side in &mut self.sides {
                side.wait(MS * 10);
            }
        }
    }

    fn delivered(&self) -> [usize; 2] {
        let count =
            |side: &Alone| side.events.iter().filter(|it| matches!(it, MeshEvent::Message(_))).count();
        let [first, second] = &self.sides;
        [count(first), count(second)]
    }

    /// What it cost to find out what differs: not the payloads, nor the requests for them.
    fn cost(&self) -> u64 {
        self.bytes
            .iter()
            .filter(|(kind, _)| !matches!(**kind, "payload" | "want"))
            .map(|(_, bytes)| bytes)
            .sum()
    }
}

/// Two that hold the same of so many origins, but for what each lacks of two others, are connected. Gives the cost.
fn cost(origins: u32, told_streams: usize) -> u64 {
    let mut pair = Pair::new(told_streams);
    for side in &mut pair.sides {
        hold(side, 0..origins, 1);
    }
    // An origin more, and a message more of one that both know.
    let [first, second] = &mut pair.sides;
    hold(first, origins..origins + 1, 1);
    hold(first, 3..4, 2);
    hold(second, origins + 1..origins + 2, 1);
    hold(second, 4..5, 2);
    pair.connect();
    pair.run(200);
    let all = origins as usize + 4;
    assert_eq!(pair.delivered(), [all, all], "{origins} origins, {:?}", pair.bytes);
    let [first, second] = &pair.sides;
    assert!(first.faults.is_empty() && second.faults.is_empty());
    println!("{origins} origins, told up to {told_streams}: {} bytes, {:?}", pair.cost(), pair.bytes);
    pair.cost()
}

#[test]
fn what_differs_between_many_origins_costs_by_the_difference() {
    let all = usize::MAX;
    let [few_told, few_compared] = [cost(10, all), cost(10, 0)];
    let [some_told, some_compared] = [cost(100, all), cost(100, 0)];
    assert!(few_told < few_compared + few_compared / 10, "{few_told} {few_compared}");
    assert!(2 * some_compared < some_told, "{some_told} {some_compared}");
    let many_compared = cost(1000, 0);
    assert!(many_compared < 2 * some_compared, "{some_compared} {many_compared}");
    assert!(20 * many_compared < cost(1000, all));
    // By default whichever is less.
    let default = MeshConfig::named("news").told_streams;
    assert_eq!([cost(10, default), cost(100, default)], [few_told, some_compared]);
}

/// One that has nothing yet is told all, and not what it has.
#[test]
fn a_newcomer_is_not_asked_what_it_has() {
    let mut pair = Pair::new(24);
    hold(pair.sides.first_mut().unwrap(), 0..200, 1);
    pair.connect();
    pair.run(200);
    assert_eq!(pair.delivered(), [200, 200]);
    let spent = pair.bytes["reconcile"];
    assert!(spent < 700, "{spent} bytes to find out that there is nothing: {:?}", pair.bytes);
}

/// Sessions that cross, at every link that comes up between two who know many.
#[test]
fn of_two_sessions_that_cross_one_is_enough() {
    let mut pair = Pair::new(24);
    for side in &mut pair.sides {
        hold(side, 0..300, 1);
    }
    let [first, second] = &mut pair.sides;
    hold(first, 300..330, 1);
    hold(second, 400..430, 1);
    pair.connect();
    pair.run(200);
    assert_eq!(pair.delivered(), [360, 360]);
    let [first, second] = &pair.sides;
    let opened = |side: &Alone| {
        let said = side.sent.get(&LinkId(BETWEEN)).map(Vec::as_slice).unwrap_or_default();
        said.iter().filter(|(_, _, kind)| matches!(kind, Kind::Summary(_))).count()
    };
    assert_eq!((opened(first), opened(second)), (1, 1), "each sums up once: {:?}", pair.bytes);
}

/// What a neighbour makes up costs it a session, and us next to nothing.
#[test]
fn a_session_of_lies_ends_and_is_followed_by_one_that_works() {
    let mut pair = Pair::new(24);
    for side in &mut pair.sides {
        hold(side, 0..100, 1);
    }
    let liar = pair.sides.first_mut().unwrap();
    liar.up(BETWEEN, identity(2).peer_id(), ROOM);
    liar.say(BETWEEN, Kind::Neighbour(proto::Neighbour { urgent: false }));
    // Answers to a session that is none, or to the one that it began with what cannot be.
    let name = liar.sent[&LinkId(BETWEEN)]
        .iter()
        .find_map(|(_, _, kind)| match kind {
            Kind::Reconcile(it) => Some(it.session),
            _ => None,
        })
        .unwrap();
    use peerage_wire::proto::reconcile::v1 as words;
    for (session, step) in [
        (name ^ 1, words::reconcile::Kind::More(words::More { until: 2000 })),
        (name, words::reconcile::Kind::List(words::List { ids: vec![1, 2, 3], through: 7 })),
        (name, words::reconcile::Kind::More(words::More { until: 2000 })),
    ] {
        let step = Some(words::Reconcile { kind: Some(step) });
        liar.say(BETWEEN, Kind::Reconcile(proto::Reconcile { session, since: 0, until: u64::MAX, step }));
    }
    assert!(liar.faults.is_empty());
    liar.input(peerage_machine::Input::Down {
        link: LinkId(BETWEEN),
        why: peerage_machine::Why::Lost("it is gone".to_owned()),
    });
    pair.taken = [pair.sides[0].sent[&LinkId(BETWEEN)].len(), 0];
    hold(pair.sides.last_mut().unwrap(), 200..201, 1);
    pair.connect();
    pair.run(200);
    assert_eq!(pair.delivered(), [101, 101]);
}

/// More origins than are told outright, each of which is heard by its own half only while the mesh is split.
#[test]
fn after_a_partition_heals_everyone_has_what_all_the_others_said() {
    for seed in common::seeds(2, 20) {
        let mut world = World::formed(Config::seeded(seed), 40);
        let all = world.nodes.clone();
        let say = |world: &mut World| -> Vec<MessageId> {
            all.iter().map(|node| world.say(*node, "hello").unwrap()).collect()
        };
        let mut ids = say(&mut world);
        world.sim.run_for(SECOND * 2);
        let (even, odd): (Vec<_>, Vec<_>) = all.iter().partition(|node| node.index() % 2 == 0);
        world.sim.partition(&[even, odd]);
        world.sim.run_for(SECOND * 10);
        for _ in 0..2 {
            ids.extend(say(&mut world));
            world.sim.run_for(SECOND * 3);
        }
        world.sim.heal();
        world.sim.run_for(SECOND * 30);
        world.collect();
        for node in world.running() {
            let others: Vec<MessageId> =
                ids.iter().copied().filter(|id| world.sim.node(&id.origin) != Some(node)).collect();
            world.assert_heard(node, &others);
        }
        let sessions: u64 = all.iter().map(|node| world.sim.counter(*node, "mesh_sessions_total")).sum();
        let failed: u64 = all.iter().map(|node| world.sim.counter(*node, "mesh_sessions_failed_total")).sum();
        println!("seed {seed}: {sessions} sessions, {failed} without a result");
        assert!(sessions > 10 && failed == 0, "seed {seed}: {sessions} sessions, {failed} without a result");
    }
}
