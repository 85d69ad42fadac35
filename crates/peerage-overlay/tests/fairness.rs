//! Own messages and those of others, on links that are full; and neighbours that ask again and again.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::alone::{Alone, WALL};
use common::{MS, SECOND, World, identity, packets};
use peerage_machine::LinkId;
use peerage_overlay::{BroadcastError, MeshConfig, MeshEvent};
use peerage_sim::Config;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;
use prost::Message as _;

const QUEUE: u64 = 100_000;

fn publish(mesh: &mut Alone) -> Result<(), BroadcastError> {
    mesh.command(|mesh, now, out| mesh.broadcast(now, vec![Bytes::from(vec![7; 1000])], out)).map(drop)
}

/// A message of somebody else's, which the neighbour on link 1 passes on.
fn relayed(mesh: &mut Alone, seq: u64) {
    let payload = packets::payload(&identity(5), "news", 1, seq, WALL, vec![Bytes::from(vec![b'x'; 1000])]);
    mesh.say(1, Kind::Payload(payload));
    mesh.verified(true);
}

/// Whose the payloads on link 2 are, in their order: ours or others'.
fn whose(mesh: &Alone) -> Vec<bool> {
    let me = packets::bytes(&identity(0).peer_id());
    let sent = mesh.sent.get(&LinkId(2)).into_iter().flatten();
    let bodies = sent.filter_map(|(_, _, kind)| match kind {
        Kind::Payload(it) => Some(proto::Body::decode(it.body.clone()).unwrap()),
        _ => None,
    });
    bodies.map(|body| body.origin == me).collect()
}

#[test]
fn a_speaker_at_full_speed_passes_on_what_others_say_at_once() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 30);
    mesh.neighbour(2, QUEUE);
    while publish(&mut mesh).is_ok() {}
    let said = whose(&mesh).len();
    for seq in 1..=5 {
        relayed(&mut mesh, seq);
    }
    assert_eq!(whose(&mesh)[said..], [false; 5], "there is room that is not for what we say ourselves");
}

/// Others say more than the link carries. Of each two messages that it takes, one is ours.
#[test]
fn a_relay_at_full_speed_says_what_it_has_to_say() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 30);
    mesh.neighbour(2, QUEUE);
    let mut seq = 0;
    let mut more = |mesh: &mut Alone, count: u64| {
        for _ in 0..count {
            seq += 1;
            relayed(mesh, seq);
        }
    };
    more(&mut mesh, 200);
    assert!(matches!(publish(&mut mesh), Err(BroadcastError::Full { .. })));
    let (mut said, mut refused) = (0, 0);
    for _ in 0..400 {
        // One leaves, and two come.
        mesh.credit(2, 1200);
        more(&mut mesh, 2);
        mesh.wait(MS);
        let is_told = mesh.events.drain(..).any(|event| event == MeshEvent::Room);
        if is_told {
            more(&mut mesh, 5);
            match publish(&mut mesh) {
                Ok(()) => said += 1,
                Err(_) => refused += 1,
            }
            let _ = publish(&mut mesh);
        }
    }
    assert_eq!(refused, 0, "what was offered is kept free");
    assert!((50..=250).contains(&said), "{said} of about 400");
    let whose = whose(&mesh);
    let longest = whose.split(|own| *own).map(<[bool]>::len).skip(1).max().unwrap();
    assert!(longest <= 20, "{longest} of others between two of ours");
}

#[test]
fn what_is_on_its_way_is_not_sent_again_when_it_is_asked_for() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 30);
    mesh.neighbour(2, QUEUE);
    while publish(&mut mesh).is_ok() {}
    // There is no room for these, so they are announced, asked for, and owed.
    for seq in 1..=40 {
        relayed(&mut mesh, seq);
    }
    mesh.wait(MS * 30);
    let origin = packets::bytes(&identity(5).peer_id());
    let run = proto::Run { origin, epoch: 1, ranges: vec![0, 39], hops: 0, now: false, name: 0 };
    for _ in 0..3 {
        mesh.say(2, Kind::Want(proto::Want { runs: vec![run.clone()] }));
    }
    for _ in 0..40 {
        mesh.credit(2, 10_000);
        mesh.wait(MS * 5);
    }
    let mut others: Vec<u64> = mesh.sent[&LinkId(2)]
        .iter()
        .filter_map(|(_, _, kind)| match kind {
            Kind::Payload(it) => Some(proto::Body::decode(it.body.clone()).unwrap()),
            _ => None,
        })
        .filter(|body| body.origin == packets::bytes(&identity(5).peer_id()))
        .map(|body| body.seq)
        .collect();
    let all = others.len();
    others.sort_unstable();
    others.dedup();
    assert_eq!(others, (1..=40).collect::<Vec<_>>());
    // Those that there was room for from the start were under way when they were asked for the first time: a small
    // message is not looked for in the queue.
    assert!(all <= 52, "{all} sent of 40");
}

#[test]
fn who_asks_for_the_same_over_and_over_is_sent_it_a_few_times() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 30);
    mesh.neighbour(2, 1 << 30);
    for seq in 1..=1000 {
        let parts = vec![Bytes::from(vec![b'x'; 2000])];
        mesh.say(1, Kind::Payload(packets::payload(&identity(5), "news", 1, seq, WALL, parts)));
        mesh.verified(true);
    }
    let pushed = mesh.payloads(2).len();
    let origin = packets::bytes(&identity(5).peer_id());
    let run = proto::Run { origin, epoch: 1, ranges: vec![0, 999], hops: 0, now: false, name: 0 };
    let again = |mesh: &mut Alone, times: usize| {
        let before = mesh.payloads(2).len();
        for _ in 0..times {
            mesh.say(2, Kind::Want(proto::Want { runs: vec![run.clone()] }));
        }
        mesh.payloads(2).len() - before
    };
    assert_eq!(pushed, 1000);
    assert_eq!(again(&mut mesh, 3), 3000, "three times is no reason");
    let more = again(&mut mesh, 20);
    assert!(more <= 1000, "{more} more");
    assert_eq!(again(&mut mesh, 20), 0);
}

/// One speaks as fast as its links take it, and passes on what another one says now and then.
#[test]
fn what_others_say_is_not_late_because_of_a_fast_speaker() {
    let bandwidth = Some(1_250_000);
    let config = Config { bandwidth, credit: 128 << 10, ..Config::seeded(4) };
    let mut world = World::formed(config, 12);
    let (fast, other) = (world.nodes[0], world.nodes[7]);
    let line = Bytes::from(vec![b'x'; 1024]);
    // Trees form.
    for _ in 0..20 {
        world.say_bytes(fast, line.clone()).unwrap();
        world.say(other, "hello").unwrap();
        world.sim.run_for(MS * 50);
    }
    world.collect();
    world.heard.clear();
    let (mut said, mut at) = (0, Vec::new());
    for tick in 0..5000 {
        while world.say_bytes(fast, line.clone()).is_ok() {
            said += 1;
        }
        if tick % 100 == 0 {
            at.push((world.say(other, "now and then").unwrap(), world.sim.now()));
        }
        world.sim.run_for(MS);
    }
    world.sim.run_for(SECOND * 3);
    world.collect();
    assert!(said > 3000, "{said} said in five seconds, at 10 Mbit/s");
    let mut late = Vec::new();
    for node in world.running() {
        for (id, since) in &at {
            let heard = world.heard.get(&node).into_iter().flatten().find(|(_, it)| it.id == *id);
            if node != other {
                late.push(heard.unwrap().0.since(*since));
            }
        }
    }
    late.sort_unstable();
    let (median, last) = (late[late.len() / 2], late[late.len() - 1]);
    println!("{said} said by the fast one; the other's took {median:?}, at most {last:?}");
    // A queue is 128 KiB, which leave within 105 ms; a message waits for one on each of a few links.
    assert!(last < Duration::from_millis(700), "{median:?}, at most {last:?}");
}

/// Every other message is owed already when all of them are asked for: what is left is many short ranges.
#[test]
fn what_is_owed_stays_within_its_limit_however_a_request_falls_apart() {
    let mut config = MeshConfig::named("news");
    config.owed_ranges = 16;
    let limits = config.clone();
    let mut mesh = Alone::new(config);
    mesh.neighbour(1, 1 << 30);
    mesh.neighbour(2, QUEUE);
    while publish(&mut mesh).is_ok() {}
    for seq in 1..=100 {
        relayed(&mut mesh, seq);
    }
    let origin = packets::bytes(&identity(5).peer_id());
    let want = |mesh: &mut Alone, ranges: Vec<u64>| {
        let run = proto::Run { origin: origin.clone(), epoch: 1, ranges, hops: 0, now: false, name: 0 };
        mesh.say(2, Kind::Want(proto::Want { runs: vec![run] }));
        mesh.mesh.holds_within(&limits)
    };
    let every_other = [1, 0].repeat(15);
    assert_eq!(want(&mut mesh, every_other), Ok(()));
    assert_eq!(want(&mut mesh, vec![0, 99]), Ok(()));
}

#[test]
fn room_that_is_kept_for_who_does_not_come_is_used_after_a_while() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 30);
    mesh.neighbour(2, QUEUE);
    let large = |mesh: &mut Alone| {
        mesh.command(|mesh, now, out| mesh.broadcast(now, vec![Bytes::from(vec![7; 50_000])], out)).is_ok()
    };
    let mut seq = 0;
    let mut fill = |mesh: &mut Alone| {
        let before = whose(mesh).len();
        for _ in 0..100 {
            seq += 1;
            relayed(mesh, seq);
        }
        whose(mesh).len() - before
    };
    fill(&mut mesh);
    assert!(!large(&mut mesh));
    mesh.events.clear();
    while !mesh.events.contains(&MeshEvent::Room) {
        mesh.credit(2, 10_000);
    }
    // The application has been told, and says nothing.
    let passed = fill(&mut mesh);
    mesh.wait(SECOND * 10);
    for _ in 0..20 {
        mesh.credit(2, 10_000);
        mesh.wait(MS * 100);
    }
    let later = fill(&mut mesh);
    assert!(passed < 10 && later > 70, "{passed} at first, {later} later");
}

/// Half as long as the queue: the last eighth of it is never enough.
#[test]
fn a_relay_at_full_speed_says_what_is_long_as_well() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 30);
    mesh.neighbour(2, 1 << 20);
    let mut seq = 0;
    let mut more = |mesh: &mut Alone, count: u64| {
        for _ in 0..count {
            seq += 1;
            relayed(mesh, seq);
        }
    };
    let long = |mesh: &mut Alone| {
        mesh.command(|mesh, now, out| mesh.broadcast(now, vec![Bytes::from(vec![7; 500_000])], out)).is_ok()
    };
    more(&mut mesh, 1000);
    assert!(!long(&mut mesh));
    let mut said = 0;
    for _ in 0..3000 {
        // One leaves, and two come.
        mesh.credit(2, 1200);
        more(&mut mesh, 2);
        mesh.wait(MS);
        if mesh.events.drain(..).any(|event| event == MeshEvent::Room) && long(&mut mesh) {
            said += 1;
        }
    }
    assert!(said >= 1, "{said}");
}

#[test]
fn an_offer_without_an_answer_is_an_announcement_when_too_much_is_owed() {
    let mut config = MeshConfig::named("news");
    config.owed_ranges = 16;
    let mut mesh = Alone::new(config);
    mesh.neighbour(1, 1 << 30);
    mesh.neighbour(2, QUEUE);
    mesh.wait(MS);
    for seq in 1..=200 {
        relayed(&mut mesh, seq);
    }
    let origin = packets::bytes(&identity(5).peer_id());
    let ranges = [1, 0].repeat(60);
    let run = proto::Run { origin, epoch: 1, ranges, hops: 0, now: false, name: 0 };
    mesh.say(2, Kind::Want(proto::Want { runs: vec![run] }));
    let large = vec![Bytes::from(vec![b'x'; 100_000])];
    mesh.say(1, Kind::Payload(packets::payload(&identity(5), "news", 1, 201, WALL, large)));
    mesh.verified(true);
    let offers = mesh.sent[&LinkId(2)].iter().filter(|(.., kind)| matches!(kind, Kind::Spare(_))).count();
    assert_eq!(offers, 1);
    mesh.wait(MS * 200);
    let announced = mesh.sent[&LinkId(2)].iter().any(|(.., kind)| match kind {
        Kind::Announce(it) => it.runs.iter().any(|run| run.now && run.ranges == [200, 0]),
        _ => false,
    });
    assert!(announced, "the offer may not have arrived");
}
