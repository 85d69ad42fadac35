//! Slow neighbours, hostile ones, and the bounds on what they cost.
#![expect(clippy::indexing_slicing, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use bytes::Bytes;
use common::alone::{Alone, WALL};
use common::{MS, SECOND, identity, packets};
use peerage_machine::{Class, Input, LinkId, Seed, Why};
use peerage_overlay::{BroadcastError, MeshConfig, MeshEvent, WhisperError};
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

fn say(mesh: &mut Alone, bytes: usize) -> Result<(), BroadcastError> {
    mesh.command(|mesh, now, out| mesh.broadcast(now, vec![Bytes::from(vec![7; bytes])], out)).map(drop)
}

/// Takes what was pushed on the link from its queue.
fn flow(mesh: &mut Alone, link: u64, taken: &mut usize) {
    let sent = mesh.payloads(link);
    for size in &sent[*taken..] {
        mesh.credit(link, *size);
    }
    *taken = sent.len();
}

#[test]
fn a_stuck_neighbour_holds_up_publishing_for_five_seconds_and_then_no_more() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 10_000);
    mesh.neighbour(2, 10_000);
    let (mut taken, mut said) = (0, 0);
    let stuck = loop {
        match say(&mut mesh, 1000) {
            Ok(()) => said += 1,
            Err(error) => break error,
        }
        flow(&mut mesh, 1, &mut taken);
    };
    let peer = identity(102).peer_id();
    assert!(
        matches!(stuck, BroadcastError::Full { neighbour, size, credit } if neighbour == peer && credit < size)
    );
    assert!((7..10).contains(&said), "{said} fit into 10,000 bytes");
    mesh.wait(SECOND * 4);
    assert!(matches!(say(&mut mesh, 1000), Err(BroadcastError::Full { .. })));
    assert!(!mesh.events.contains(&MeshEvent::Room));
    mesh.wait(SECOND);
    assert!(mesh.events.contains(&MeshEvent::Room), "the stalled neighbour is no hindrance any more");
    for _ in 0..100 {
        say(&mut mesh, 1000).unwrap();
        flow(&mut mesh, 1, &mut taken);
    }
    assert_eq!(mesh.payloads(1).len(), said + 100);
    assert_eq!(mesh.payloads(2).len(), said);
    // It was told what there is; when it moves again and asks, it gets everything in order.
    mesh.wait(MS * 100);
    let announced = mesh.sent[&LinkId(2)].iter().rev().find_map(|(class, _, kind)| match kind {
        Kind::Announce(announce) => Some((*class, announce.runs.clone())),
        _ => None,
    });
    let (class, runs) = announced.unwrap();
    assert_eq!((class, runs.len(), runs[0].now), (Class::Control, 1, true));
    mesh.say(2, Kind::Want(proto::Want { runs: vec![proto::Run { now: false, ..runs[0].clone() }] }));
    assert!(mesh.payloads(2).len() <= said + 1, "there is room for one that is not our own at the most");
    let mut taken = 0;
    for _ in 0..200 {
        flow(&mut mesh, 2, &mut taken);
    }
    assert_eq!(mesh.payloads(2).len(), said + 100);
}

#[test]
fn a_message_larger_than_the_queue_goes_when_the_queue_is_empty() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 10_000);
    say(&mut mesh, 50_000).unwrap();
    assert!(matches!(say(&mut mesh, 10), Err(BroadcastError::Full { .. })));
    let size = mesh.payloads(1)[0];
    mesh.credit(1, size);
    say(&mut mesh, 10).unwrap();
}

#[test]
fn what_is_owed_to_one_neighbour_has_a_limit_of_its_own() {
    let mut tight = MeshConfig::named("news");
    (tight.owed_ranges, tight.publish_alone) = (16, true);
    for (limit, found) in
        [(16, None), (512, Some("49 ranges owed to one neighbour are held, at most 17 are allowed"))]
    {
        let mut config = tight.clone();
        config.owed_ranges = limit;
        let mut mesh = Alone::new(config);
        (0..100).for_each(|_| say(&mut mesh, 1000).unwrap());
        mesh.neighbour(1, 1000);
        mesh.wait(MS * 100);
        let told = mesh.sent[&LinkId(1)].iter().find_map(|(.., kind)| match kind {
            Kind::Summary(summary) => summary.runs.first().cloned(),
            _ => None,
        });
        // Every other one of a hundred: fifty ranges. It has room for the first.
        let ranges = std::iter::repeat_n([1, 0], 50).flatten();
        let run = proto::Run { ranges: ranges.collect(), now: false, ..told.unwrap() };
        mesh.say(1, Kind::Want(proto::Want { runs: vec![run] }));
        let overfull = mesh.mesh.holds_within(&tight).err().map(|overfull| overfull.to_string());
        assert_eq!(overfull.as_deref(), found);
    }
}

#[test]
fn a_push_that_the_link_refuses_is_announced_instead() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 10_000);
    say(&mut mesh, 100).unwrap();
    let (send, why) = (mesh.last_send.unwrap(), Why::Full { queued: 1, limit: 1 });
    mesh.input(Input::Undelivered { send, link: LinkId(1), why });
    mesh.wait(MS * 50);
    let announced = mesh.sent[&LinkId(1)].iter().any(|(_, _, kind)| matches!(kind, Kind::Announce(_)));
    assert!(announced);
}

#[test]
fn mistakes_of_the_publisher_are_told_at_once() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    assert_eq!(say(&mut mesh, 1), Err(BroadcastError::NoNeighbours));
    mesh.neighbour(1, 1 << 30);
    let none = mesh.command(|mesh, now, out| mesh.broadcast(now, vec![], out));
    assert_eq!(none, Err(BroadcastError::Parts { found: 0, limit: 64 }));
    let error = say(&mut mesh, 64 << 20).unwrap_err();
    assert!(
        matches!(error, BroadcastError::TooLarge { size, limit } if size > 64 << 20 && limit < 16 << 20),
        "{error}"
    );
    assert!(mesh.payloads(1).is_empty());
    mesh.command(|mesh, now, out| mesh.leave(now, out));
    assert_eq!(say(&mut mesh, 1), Err(BroadcastError::Closed));
}

#[test]
fn forgeries_are_neither_delivered_nor_relayed_and_cost_their_sender() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 20);
    mesh.neighbour(2, 1 << 20);
    let good = packets::payload(&identity(5), "news", 1, 1, WALL, vec![Bytes::from_static(b"true")]);
    let forged = proto::Payload { signature: vec![1; 64].into(), ..good.clone() };
    let foreign = packets::payload(&identity(5), "olds", 1, 2, WALL, vec![Bytes::from_static(b"other")]);
    let stale =
        packets::payload(&identity(5), "news", 1, 3, WALL - 3_600_001, vec![Bytes::from_static(b"old")]);
    mesh.say(1, Kind::Payload(forged));
    // The genuine one is not taken for a duplicate of the forgery while that is being checked.
    mesh.say(2, Kind::Payload(good.clone()));
    assert_eq!(mesh.verify.len(), 2);
    let [first, second] = [mesh.verify[0], mesh.verify[1]];
    mesh.input(Input::Verified { job: first, valid: false });
    assert_eq!(mesh.faults, [(LinkId(1), "a message with a wrong signature")]);
    assert!(mesh.payloads(2).is_empty());
    mesh.input(Input::Verified { job: second, valid: true });
    assert_eq!(mesh.payloads(1).len(), 1);
    mesh.verify.clear();
    mesh.say(1, Kind::Payload(foreign));
    assert_eq!(mesh.faults.len(), 2);
    mesh.say(1, Kind::Payload(stale));
    assert!(mesh.verify.is_empty());
    // Once is enough, in whatever way it comes again.
    mesh.say(1, Kind::Payload(good.clone()));
    mesh.say(2, Kind::Payload(proto::Payload { pulled: true, ..good }));
    mesh.verified(true);
    let heard = mesh.events.iter().filter(|event| matches!(event, MeshEvent::Message(_))).count();
    assert_eq!(heard, 1);
}

#[test]
fn what_is_missing_for_good_is_told() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 20);
    for seq in [1, 2, 7] {
        let payload = packets::payload(&identity(5), "news", 1, seq, WALL, vec![Bytes::from_static(b"line")]);
        mesh.say(1, Kind::Payload(payload));
        mesh.verified(true);
    }
    mesh.wait(SECOND * 59);
    let missed =
        |mesh: &Alone| mesh.events.iter().filter(|event| matches!(event, MeshEvent::Missed { .. })).count();
    assert_eq!(missed(&mesh), 0);
    mesh.wait(SECOND * 3);
    assert!(mesh.events.contains(&MeshEvent::Missed { origin: identity(5).peer_id(), missed: 4 }));
    mesh.wait(SECOND * 300);
    assert_eq!(missed(&mesh), 1);
}

#[test]
fn the_bound_of_the_defaults_is_what_the_documents_say() {
    assert_eq!(MeshConfig::named("news").worst_case_bytes() >> 20, 201);
}

#[test]
fn a_filled_machine_stays_within_the_computed_bound_and_near_it() {
    let mut config = MeshConfig::named("news");
    config.max_message = 64 << 10;
    config.retain_bytes = 8 << 20;
    config.verifying = (2048, 6 << 20);
    config.whispers = (256, 6 << 20);
    config.passive_view = 30;
    config.origins = 256;
    config.trees = 64;
    config.ranges_per_origin = 32;
    config.owed_ranges = 64;
    config.relays = 256;
    config.routes = 256;
    config.max_links = 16;
    config.missing_ranges = 512;
    let (worst, most) = (config.worst_case_bytes(), config.clone());
    let mut mesh = Alone::new(config);
    for link in 1..=7 {
        mesh.neighbour(link, 1 << 30);
    }
    // Those in need have places of their own.
    for link in 8..=9 {
        mesh.up(link, identity(100 + link as u32).peer_id(), 1 << 30);
        mesh.say(link, Kind::Neighbour(proto::Neighbour { urgent: true }));
    }
    for link in 10..40 {
        mesh.up(link, identity(link as u32).peer_id(), 1 << 30);
    }
    let big = |size: usize| vec![Bytes::from(vec![1; size])];
    let check = |mesh: &Alone| {
        let now = mesh.mesh.snapshot();
        assert!(now.memory <= worst, "{} bytes of at most {worst}", now.memory);
        assert!(now.retained_messages <= most.retain_messages && now.retained_bytes <= most.retain_bytes);
        assert!(now.missing_ranges <= most.missing_ranges && now.origins <= most.origins);
        assert!(now.passive <= most.passive_view && now.links <= most.max_links);
        now.memory
    };
    for _ in 0..150 {
        say(&mut mesh, 60_000).unwrap();
    }
    check(&mesh);
    // Origins with gaps, ranges that nobody has, views full of strangers.
    let mut rng = Seed::from_u64(3).rng();
    for round in 0..8000 {
        let link = LinkId(1 + round % 9);
        mesh.input(Input::Message { link, message: packets::random(&mut rng, WALL) });
        if round % 3 == 0 {
            mesh.verified(true);
        }
        mesh.wait(MS / 10);
        if round % 50 == 0 {
            check(&mesh);
        }
    }
    // Messages whose check does not end, and whispers whose result does not come.
    for seq in 1..200 {
        mesh.say(1, Kind::Payload(packets::payload(&identity(5), "news", 77, seq, WALL, big(60_000))));
        let body = packets::whisper(&identity(5), &identity(0).peer_id(), seq, WALL);
        mesh.say(2, Kind::Whisper(body));
    }
    let peer = identity(101).peer_id();
    let mut whispers = 0;
    let full = loop {
        match mesh.command(|mesh, now, out| mesh.whisper(now, peer, big(60_000), out)) {
            Ok(_) => whispers += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, WhisperError::Busy { .. } | WhisperError::Full { .. }), "{full}");
    assert!(whispers > 90);
    let filled = check(&mesh);
    println!("{filled} of {worst}");
    assert!(filled * 2 > worst, "{filled} bytes show little about a bound of {worst}");
}
