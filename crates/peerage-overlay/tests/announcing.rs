//! When a peer tells a neighbour of messages that it does not push to it.

mod common;

use bytes::Bytes;
use common::alone::{Alone, WALL};
use common::{MS, identity, packets};
use peerage_machine::LinkId;
use peerage_overlay::MeshConfig;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

/// Its messages are only announced on link 2.
const ANNOUNCED: u32 = 5;
/// Its messages are pushed there.
const PUSHED: u32 = 6;

/// A peer that link 1 feeds, and that feeds link 2 with all origins but one.
fn peer() -> Alone {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=2).for_each(|link| mesh.neighbour(link, 1 << 20));
    push(&mut mesh, PUSHED, 1);
    push(&mut mesh, ANNOUNCED, 1);
    let origin = packets::bytes(&identity(ANNOUNCED).peer_id());
    mesh.say(2, Kind::Prune(proto::Prune { origin }));
    mesh.wait(1000 * MS);
    mesh.sent.clear();
    mesh
}

fn push(mesh: &mut Alone, origin: u32, seq: u64) {
    let sent = WALL + mesh.now.as_micros() / 1000;
    let line = vec![Bytes::from_static(b"line")];
    let payload = packets::payload(&identity(origin), "news", 1, seq, sent, line);
    mesh.say(1, Kind::Payload(payload));
    mesh.verified(true);
}

/// What link 2 was told of, each time it was: first numbers and lengths less one, as on the wire.
fn told(mesh: &Alone) -> Vec<Vec<u64>> {
    let sent = mesh.sent.get(&LinkId(2)).into_iter().flatten();
    sent.filter_map(|(_, _, kind)| if let Kind::Announce(it) = kind { Some(it) } else { None })
        .map(|it| it.runs.iter().flat_map(|run| run.ranges.clone()).collect())
        .collect()
}

#[test]
fn what_comes_now_and_then_is_announced_after_50_ms() {
    let mut mesh = peer();
    for seq in 2..=3 {
        push(&mut mesh, ANNOUNCED, seq);
        mesh.wait(20 * MS);
    }
    assert!(told(&mesh).is_empty());
    mesh.wait(10 * MS);
    assert_eq!(told(&mesh), [[1, 1]], "2 and 3");
}

#[test]
fn in_quick_succession_announcements_wait_for_a_push_and_go_with_it() {
    let mut mesh = peer();
    for seq in 2..=8 {
        push(&mut mesh, ANNOUNCED, seq);
        mesh.wait(10 * MS);
    }
    assert!(told(&mesh).is_empty(), "they have let one flush pass");
    push(&mut mesh, PUSHED, 2);
    assert_eq!((told(&mesh), mesh.payloads(2).len()), (vec![vec![1, 6]], 1), "2 to 8, with the push");
    mesh.wait(10 * MS);
    push(&mut mesh, ANNOUNCED, 9);
    push(&mut mesh, PUSHED, 3);
    assert_eq!(told(&mesh).len(), 1, "what has not waited for a flush goes with no push");
}

#[test]
fn in_quick_succession_announcements_wait_for_200_ms_at_most() {
    let mut mesh = peer();
    for seq in 2..=21 {
        assert!(told(&mesh).is_empty(), "{seq}");
        push(&mut mesh, ANNOUNCED, seq);
        mesh.wait(10 * MS);
    }
    assert_eq!(told(&mesh), [[1, 19]], "2 to 21");
}

#[test]
fn when_it_becomes_quiet_announcements_wait_no_longer() {
    let mut mesh = peer();
    for seq in 2..=6 {
        push(&mut mesh, ANNOUNCED, seq);
        mesh.wait(10 * MS);
    }
    assert!(told(&mesh).is_empty());
    mesh.wait(50 * MS);
    assert_eq!(told(&mesh), [[1, 4]], "2 to 6");
}

#[test]
fn what_found_no_room_is_announced_after_50_ms_whatever_else_comes() {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    mesh.neighbour(1, 1 << 20);
    mesh.neighbour(2, 150);
    push(&mut mesh, PUSHED, 1);
    mesh.wait(1000 * MS);
    mesh.sent.clear();
    for seq in 2..=6 {
        push(&mut mesh, PUSHED, seq);
        mesh.wait(10 * MS);
    }
    assert_eq!(told(&mesh).len(), 1);
}
