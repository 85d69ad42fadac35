//! Neighbours that misbehave, who may be one, and who is known again after a restart.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::alone::{Alone, WALL};
use common::{MS, SECOND, World, identity, packets};
use peerage_machine::{Input, LinkId, Now, UnixMillis};
use peerage_overlay::{Conduct, Loss, MeshConfig, MeshEvent};
use peerage_sim::Config;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

fn conduct(mesh: &Alone, link: u64) -> Conduct {
    let now = Now { mono: mesh.now, wall: UnixMillis(WALL) };
    mesh.mesh.explain(now, &identity(100 + link as u32).peer_id()).unwrap()
}

fn is_shunned(mesh: &Alone, link: u64) -> bool {
    let peer = identity(100 + link as u32).peer_id();
    mesh.events.contains(&MeshEvent::NeighbourLost { peer, why: Loss::Shunned })
}

/// How the last request of this peer to be a neighbour was answered.
fn accepted(mesh: &Alone, link: u64) -> bool {
    let said = mesh.sent.get(&LinkId(link)).into_iter().flatten();
    let replies = said.filter_map(|(_, _, kind)| match kind {
        Kind::NeighbourReply(reply) => Some(reply.accepted),
        _ => None,
    });
    replies.last().unwrap()
}

/// How often something was asked for on the link.
fn wants(mesh: &Alone, link: u64) -> usize {
    let said = mesh.sent.get(&LinkId(link)).into_iter().flatten();
    said.filter(|(_, _, kind)| matches!(kind, Kind::Want(_))).count()
}

fn announce(mesh: &mut Alone, link: u64, seq: u64) {
    let origin = packets::bytes(&identity(5).peer_id());
    let run = proto::Run { origin, epoch: 1, ranges: vec![seq - 1, 0], hops: 1, now: true, name: 0 };
    mesh.say(link, Kind::Announce(proto::Announce { runs: vec![run] }));
}

#[test]
fn a_forger_is_let_go_after_four_forgeries_and_not_taken_back_for_ten_minutes() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    for seq in 1..=4 {
        assert!(!is_shunned(&mesh, 1));
        let line = vec![Bytes::from_static(b"line")];
        mesh.say(1, Kind::Payload(packets::payload(&identity(5), "news", 1, seq, WALL, line)));
        mesh.verified(false);
    }
    assert!(is_shunned(&mesh, 1));
    let why = conduct(&mesh, 1).to_string();
    assert!(why.starts_with("-100: 0 brought first") && why.contains("4 invalid"), "{why}");
    mesh.say(1, Kind::Neighbour(proto::Neighbour { urgent: true }));
    assert!(!accepted(&mesh, 1));
    mesh.wait(SECOND * 600);
    mesh.say(1, Kind::Neighbour(proto::Neighbour { urgent: true }));
    assert!(accepted(&mesh, 1));
}

#[test]
fn who_announces_and_never_sends_is_let_go() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    for seq in 1..=60 {
        announce(&mut mesh, 1, 2 * seq);
        mesh.wait(MS * 50);
    }
    // So far it may be a link that stalls.
    assert!(!is_shunned(&mesh, 1), "{}", conduct(&mesh, 1));
    for seq in 61..=120 {
        announce(&mut mesh, 1, 2 * seq);
        mesh.wait(MS * 200);
    }
    assert!(is_shunned(&mesh, 1), "{}", conduct(&mesh, 1));
    assert_eq!(conduct(&mesh, 1).invalid, 0);
}

#[test]
fn who_keeps_its_promises_is_not_blamed_for_what_others_do() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    for seq in 1..=60 {
        announce(&mut mesh, 1, seq);
        announce(&mut mesh, 2, seq);
        mesh.wait(MS);
        let line = vec![Bytes::from_static(b"line")];
        let payload = packets::payload(&identity(5), "news", 1, seq, WALL, line);
        mesh.say(2, Kind::Payload(proto::Payload { pulled: true, ..payload }));
        mesh.verified(true);
        mesh.wait(SECOND);
    }
    assert!(!is_shunned(&mesh, 1) && !is_shunned(&mesh, 2));
    assert!(conduct(&mesh, 2).score > 0);
}

#[test]
fn a_flood_of_requests_costs_who_sends_it_its_place() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    let graft =
        proto::Run { origin: packets::bytes(&identity(5).peer_id()), now: true, ..proto::Run::default() };
    for _ in 0..5_000 {
        mesh.say(1, Kind::Want(proto::Want { runs: vec![graft.clone()] }));
    }
    assert!(is_shunned(&mesh, 1) && !is_shunned(&mesh, 2));
}

#[test]
fn who_passes_on_what_others_have_wander_is_not_blamed_for_how_much_it_is() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    let joiner = proto::Contact {
        peer: packets::bytes(&identity(7).peer_id()),
        addresses: vec!["tcp://10.0.1.1:1".to_owned()],
    };
    for _ in 0..10_000 {
        mesh.say(1, Kind::ForwardJoin(proto::ForwardJoin { joiner: Some(joiner.clone()), ttl: 3 }));
    }
    assert!(!is_shunned(&mesh, 1));
    // Nor is all of it passed on.
    let passed = mesh.sent.get(&LinkId(2)).unwrap().iter();
    assert!(passed.filter(|(_, _, kind)| matches!(kind, Kind::ForwardJoin(_))).count() <= 600);
}

#[test]
fn one_stranger_cannot_have_the_whole_mesh_walk_for_it() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    mesh.up(3, identity(103).peer_id(), 1 << 20);
    for _ in 0..1_000 {
        mesh.say(3, Kind::Join(proto::Join { urgent: false }));
    }
    let passed = mesh.sent.get(&LinkId(1)).unwrap().iter();
    assert!(passed.filter(|(_, _, kind)| matches!(kind, Kind::ForwardJoin(_))).count() <= 10);
}

#[test]
fn who_answers_many_whispers_is_no_spammer() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    let origin = packets::bytes(&identity(5).peer_id());
    for seq in 1..=10_000 {
        let result = proto::WhisperResult {
            origin: origin.clone(),
            epoch: 1,
            seq,
            outcome: 2,
            signature: Bytes::new(),
        };
        mesh.say(1, Kind::WhisperResult(result));
    }
    assert!(!is_shunned(&mesh, 1));
}

#[test]
fn who_sends_what_is_asked_for_is_not_blamed_when_it_is_of_no_use_to_us() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    // An origin whose clock is an hour behind: our neighbour still takes what it says, and we do not.
    let sent = WALL - 3_600_001;
    let mut answered = 0;
    for seq in 1..=60 {
        announce(&mut mesh, 1, 2 * seq);
        mesh.wait(MS);
        for _ in 0..40 {
            if wants(&mesh, 1) == answered {
                mesh.wait(MS * 50);
                continue;
            }
            answered += 1;
            let line = vec![Bytes::from_static(b"line")];
            let payload = packets::payload(&identity(5), "news", 1, 2 * seq, sent, line);
            mesh.say(1, Kind::Payload(proto::Payload { pulled: true, ..payload }));
            mesh.wait(MS * 50);
        }
    }
    assert!(answered >= 60 && !is_shunned(&mesh, 1));
}

#[test]
fn who_sends_as_asked_for_what_nobody_asked_for_is_let_go() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    for _ in 0..49 {
        let line = vec![Bytes::from_static(b"line")];
        let payload = packets::payload(&identity(5), "news", 1, 1, WALL, line);
        mesh.say(1, Kind::Payload(proto::Payload { pulled: true, ..payload }));
        mesh.verified(true);
    }
    // One was new, and that weighs one for it.
    assert!(!is_shunned(&mesh, 1), "{}", conduct(&mesh, 1));
    for _ in 0..2 {
        let line = vec![Bytes::from_static(b"line")];
        let payload = packets::payload(&identity(5), "news", 1, 1, WALL, line);
        mesh.say(1, Kind::Payload(proto::Payload { pulled: true, ..payload }));
    }
    assert!(is_shunned(&mesh, 1), "{}", conduct(&mesh, 1));
}

#[test]
fn one_who_announces_what_there_is_not_makes_nobody_give_up_its_parent() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=3).for_each(|link| mesh.neighbour(link, 1 << 20));
    let line = |seq| {
        let line = vec![Bytes::from_static(b"line")];
        Kind::Payload(packets::payload(&identity(5), "news", 1, seq, WALL, line))
    };
    mesh.say(1, line(1));
    mesh.verified(true);
    let origin = packets::bytes(&identity(5).peer_id());
    let grafts = |mesh: &Alone, link| {
        let said = mesh.sent.get(&LinkId(link)).into_iter().flatten();
        let wants = said.filter_map(|(_, _, kind)| match kind {
            Kind::Want(want) => Some(want.runs.iter().filter(|run| run.now).count()),
            _ => None,
        });
        wants.sum::<usize>()
    };
    // It is caught once, with what nobody says.
    let run = |seq: u64| proto::Run {
        origin: origin.clone(),
        epoch: 1,
        ranges: vec![seq - 1, 0],
        hops: 1,
        ..proto::Run::default()
    };
    mesh.say(2, Kind::Announce(proto::Announce { runs: vec![run(100)] }));
    mesh.wait(SECOND * 5);
    assert!(conduct(&mesh, 2).broken_promises > 0);
    let before = grafts(&mesh, 2);
    // From then on it is next to the origin in vain, and the parent's pushes are as welcome as ever.
    for seq in 2..=5 {
        mesh.say(1, line(seq));
        mesh.verified(true);
        mesh.say(2, Kind::Announce(proto::Announce { runs: vec![run(seq)] }));
        mesh.wait(SECOND * 2);
    }
    assert_eq!(grafts(&mesh, 2), before);
    let pruned =
        mesh.sent.get(&LinkId(1)).into_iter().flatten().any(|(_, _, kind)| matches!(kind, Kind::Prune(_)));
    assert!(!pruned, "the parent was told not to push");
}

#[test]
fn a_neighbour_is_not_blamed_for_what_was_under_way_when_it_was_told_to_stop() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    let line = |seq| {
        let line = vec![Bytes::from_static(b"line")];
        Kind::Payload(packets::payload(&identity(5), "news", 1, seq, WALL, line))
    };
    for seq in 1..=200 {
        mesh.say(1, line(seq));
        mesh.verified(true);
    }
    // The second link is slow: its first push gets it pruned, and the others come for seconds.
    for seq in 1..=200 {
        mesh.say(2, line(seq));
        mesh.wait(MS * 20);
    }
    assert!(!is_shunned(&mesh, 2));
    // What is new by now it should not push.
    mesh.wait(SECOND);
    for seq in 201..=260 {
        mesh.say(1, line(seq));
        mesh.verified(true);
        mesh.say(2, line(seq));
        mesh.wait(MS * 20);
    }
    assert!(is_shunned(&mesh, 2), "{}", conduct(&mesh, 2));
}

#[test]
fn the_window_is_not_read_as_often_as_a_neighbour_likes() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    let line = vec![Bytes::from_static(b"line")];
    mesh.say(1, Kind::Payload(packets::payload(&identity(5), "news", 1, 1, WALL, line)));
    mesh.verified(true);
    for _ in 0..500 {
        mesh.say(2, Kind::Compare(proto::Compare { since: 0, until: u64::MAX, hash: 1 }));
        mesh.say(2, Kind::Summary(proto::Summary { runs: Vec::new(), ask: true }));
    }
    let told = mesh.sent.get(&LinkId(2)).unwrap().iter();
    assert!((1..=10).contains(&told.filter(|(_, _, kind)| matches!(kind, Kind::Summary(_))).count()));
}

#[test]
fn however_many_ask_urgently_nobody_loses_a_place_but_those_who_asked_so() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    for link in 1..=5 {
        mesh.neighbour(link, 1 << 20);
        mesh.wait(SECOND);
    }
    for link in 10..110 {
        mesh.up(link, identity(100 + link as u32).peer_id(), 1 << 20);
    }
    for round in 0..10 {
        for link in 10..110 {
            mesh.say(link, Kind::Neighbour(proto::Neighbour { urgent: true }));
            mesh.wait(MS * 20);
        }
        let neighbours = mesh.mesh.neighbours();
        for link in 1..=5 {
            assert!(neighbours.contains(&identity(100 + link).peer_id()), "round {round}: {link}");
        }
        assert_eq!(neighbours.len(), 7);
    }
    let replaced = |event: &&MeshEvent| matches!(event, MeshEvent::NeighbourLost { why: Loss::Replaced, .. });
    let swaps = mesh.events.iter().filter(replaced).count();
    assert!((5..=21).contains(&swaps), "{swaps} in 20 s");
}

#[test]
fn whoever_was_in_need_and_is_of_use_has_the_next_place_that_is_free() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=5).for_each(|link| mesh.neighbour(link, 1 << 20));
    for link in [6, 7] {
        mesh.up(link, identity(100 + link as u32).peer_id(), 1 << 20);
        mesh.say(link, Kind::Neighbour(proto::Neighbour { urgent: true }));
        assert!(accepted(&mesh, link));
    }
    let line = vec![Bytes::from_static(b"line")];
    mesh.say(7, Kind::Payload(packets::payload(&identity(107), "news", 1, 1, WALL, line)));
    mesh.verified(true);
    mesh.say(1, Kind::Disconnect(proto::Disconnect { leaving: true, others: Vec::new() }));
    // Others who ask urgently have the place of the one that is left in need.
    for link in 10..40 {
        mesh.up(link, identity(100 + link as u32).peer_id(), 1 << 20);
        mesh.say(link, Kind::Neighbour(proto::Neighbour { urgent: true }));
        mesh.wait(SECOND);
        assert!(mesh.mesh.neighbours().contains(&identity(107).peer_id()), "{link}");
    }
    assert!(!mesh.mesh.neighbours().contains(&identity(106).peer_id()));
    assert_eq!(mesh.mesh.neighbours().len(), 7);
}

#[test]
fn who_says_much_itself_takes_no_place_but_of_those_in_need() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=5).for_each(|link| mesh.neighbour(link, 1 << 20));
    for round in 0..3 {
        for link in 10..40 {
            let speaker = identity(100 + link as u32);
            if round == 0 {
                mesh.up(link, speaker.peer_id(), 1 << 20);
            }
            mesh.say(link, Kind::Neighbour(proto::Neighbour { urgent: true }));
            let line = vec![Bytes::from_static(b"line")];
            let seq = round + 1;
            mesh.say(link, Kind::Payload(packets::payload(&speaker, "news", 1, seq, WALL, line)));
            mesh.verified(true);
            mesh.wait(MS * 500);
        }
    }
    let neighbours = mesh.mesh.neighbours();
    assert!((1..=5).all(|link| neighbours.contains(&identity(100 + link).peer_id())));
}

#[test]
fn who_proved_useful_gets_the_place_of_one_who_did_not() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 20);
    let line = vec![Bytes::from_static(b"line")];
    mesh.say(1, Kind::Payload(packets::payload(&identity(5), "news", 1, 1, WALL, line)));
    mesh.verified(true);
    mesh.say(1, Kind::Disconnect(proto::Disconnect { leaving: false, others: Vec::new() }));
    (2..=6).for_each(|link| mesh.neighbour(link, 1 << 20));
    mesh.up(7, identity(107).peer_id(), 1 << 20);
    mesh.say(7, Kind::Neighbour(proto::Neighbour { urgent: false }));
    assert!(!accepted(&mesh, 7));
    mesh.say(1, Kind::Neighbour(proto::Neighbour { urgent: false }));
    assert!(accepted(&mesh, 1));
    assert_eq!(mesh.mesh.neighbours().len(), 5);
}

/// Of 20 peers among 400 that asked for places all the time, one lost all of its own: it spoke, and passed on nothing.
#[test]
fn who_speaks_itself_is_of_use_as_well() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 20);
    let line = vec![Bytes::from_static(b"line")];
    mesh.say(1, Kind::Payload(packets::payload(&identity(101), "news", 1, 1, WALL, line)));
    mesh.verified(true);
    assert_eq!(conduct(&mesh, 1).brought_first, 0);
    mesh.say(1, Kind::Disconnect(proto::Disconnect { leaving: false, others: Vec::new() }));
    (2..=6).for_each(|link| mesh.neighbour(link, 1 << 20));
    mesh.say(1, Kind::Neighbour(proto::Neighbour { urgent: false }));
    assert!(accepted(&mesh, 1));
}

#[test]
fn a_configuration_by_which_nothing_works_is_refused() {
    let of = |change: fn(&mut MeshConfig)| {
        let mut config = MeshConfig::named("news");
        change(&mut config);
        config.check().map_err(|error| error.field)
    };
    assert_eq!(of(|_| {}), Ok(()));
    assert_eq!(of(|config| config.shun_below = 0), Err("shun_below (how far below 0)"));
    assert_eq!(of(|config| config.rotation = f64::NAN), Err("rotation (in thousandths)"));
    assert_eq!(of(|config| config.stale_after = MS / 2), Err("stale_after"));
    assert_eq!(of(|config| config.move_after = MS / 2), Err("move_after"));
    assert_eq!(of(|config| config.inbox_bytes = 0), Err("inbox_bytes"));
}

#[test]
fn those_who_dial_in_cannot_have_all_places() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    for link in 1..=7 {
        mesh.neighbour(link, 1 << 20);
        assert_eq!(accepted(&mesh, link), link <= 5, "link {link}");
    }
}

#[test]
fn a_neighbour_that_answers_no_probe_is_given_up_within_a_cycle() {
    let config = MeshConfig::named("news");
    let cycle = config.probe_cycle();
    let mut mesh = Alone::new(config);
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    mesh.wait(SECOND * 30);
    assert_eq!(mesh.mesh.neighbours().len(), 2);
    mesh.silent.push(LinkId(1));
    let lost = |mesh: &Alone| mesh.mesh.neighbours().len() == 1;
    let since = mesh.now;
    while !lost(&mesh) {
        mesh.wait(MS * 10);
        assert!(mesh.now.since(since) <= cycle + MS * 20, "still there");
    }
    let peer = identity(101).peer_id();
    let silent = |event: &MeshEvent| matches!(event, MeshEvent::NeighbourLost { peer: lost, why: Loss::Silent { .. } } if *lost == peer);
    assert!(mesh.events.iter().any(silent));
}

#[test]
fn a_peer_that_was_held_up_itself_does_not_blame_its_neighbours() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    mesh.wait(SECOND * 10);
    mesh.silent.extend([LinkId(1), LinkId(2)]);
    mesh.wait(SECOND * 2 + MS * 100);
    // A minute in which nothing ran. Their answers are behind the timer.
    mesh.now = mesh.now + SECOND * 60;
    mesh.input(Input::OwnAddresses(Vec::new()));
    mesh.wait(MS);
    assert_eq!(mesh.mesh.neighbours().len(), 2);
    for link in [1, 2] {
        mesh.say(link, Kind::Probe(proto::Probe { answer: true }));
    }
    mesh.silent.clear();
    mesh.wait(SECOND * 10);
    assert_eq!(mesh.mesh.neighbours().len(), 2);
}

#[test]
fn a_peer_that_restarts_finds_the_mesh_by_its_address_book() {
    let mut world = World::formed(Config::seeded(3), 12);
    world.sim.run_for(SECOND * 90);
    let lone = world.nodes.get(5).copied().unwrap();
    let stored: BTreeMap<Bytes, Bytes> = world.sim.stored(lone).clone();
    assert!(!stored.is_empty());
    world.sim.crash(lone);
    world.sim.run_for(SECOND * 10);
    world.sim.restart(lone);
    // It knows no contact, only its book.
    world.sim.command(lone, |mesh, now, out| mesh.restore(now, &stored, out));
    world.sim.run_for(SECOND * 5);
    assert!(world.neighbours(lone).len() >= 3);
    assert!(world.is_connected());
}

#[test]
fn a_damaged_address_book_is_passed_over() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    let stored = BTreeMap::from([(Bytes::from_static(b"mesh/book"), Bytes::from_static(b"\xff\xff"))]);
    mesh.command(|mesh, now, out| mesh.restore(now, &stored, out));
    assert_eq!(mesh.mesh.snapshot().passive, 0);
}

#[test]
fn who_is_told_that_a_large_message_is_here_and_keeps_it_has_broken_no_promise() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=3).for_each(|link| mesh.neighbour(link, 1 << 20));
    announce(&mut mesh, 1, 1);
    mesh.wait(MS);
    assert_eq!(wants(&mesh, 1), 1);
    // It comes by another one before the first has sent any of it.
    let body = vec![Bytes::from(vec![7; 100 << 10])];
    mesh.say(2, Kind::Payload(packets::payload(&identity(5), "news", 1, 1, WALL, body)));
    mesh.verified(true);
    let said = mesh.sent.get(&LinkId(1)).unwrap();
    assert!(said.iter().any(|(_, _, kind)| matches!(kind, Kind::Spare(_))), "it is told not to");
    mesh.wait(SECOND * 20);
    let now = Now { mono: mesh.now, wall: UnixMillis(WALL) };
    let conduct = mesh.mesh.explain(now, &identity(101).peer_id());
    assert_eq!(conduct.map_or(0, |it| it.broken_promises), 0);
}

/// Its link has seconds of others' messages queued, and what it is asked for comes after them.
#[test]
fn who_sends_what_it_was_asked_for_seconds_late_is_not_let_go() {
    for late in [3, 8] {
        let mut mesh = Alone::new(MeshConfig::named("news"));
        (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
        let say = |mesh: &mut Alone, origin: u32, seq: u64, pulled: bool| {
            let line = vec![Bytes::from_static(b"line")];
            let payload = packets::payload(&identity(origin), "news", 1, seq, WALL, line);
            mesh.say(1, Kind::Payload(proto::Payload { pulled, ..payload }));
            mesh.verified(true);
        };
        let steps_late = late * 50;
        for step in 1..=30 * 50 {
            match step > steps_late {
                true => say(&mut mesh, 5, step - steps_late, true),
                false => say(&mut mesh, 6, step, false),
            }
            announce(&mut mesh, 1, step);
            mesh.wait(MS * 20);
        }
        assert!(!is_shunned(&mesh, 1), "{late} s: {}", conduct(&mesh, 1));
        assert_eq!(conduct(&mesh, 1).unwanted, 0);
    }
}
