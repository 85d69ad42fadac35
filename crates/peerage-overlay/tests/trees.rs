//! One peer's part in an origin's tree: whom it takes for its parent, whom it prunes, what it says of its depth.

mod common;

use bytes::Bytes;
use common::alone::{Alone, WALL};
use common::{MS, identity, packets};
use peerage_machine::{Input, LinkId, Why};
use peerage_overlay::MeshConfig;
use peerage_wire::proto::mesh::v1 as proto;
use peerage_wire::proto::mesh::v1::packet::Kind;

/// A peer with so many neighbours.
fn peer(neighbours: u64) -> Alone {
    let mut mesh = Alone::new(MeshConfig::named("news"));
    (1..=neighbours).for_each(|link| mesh.neighbour(link, 1 << 20));
    mesh
}

/// The neighbour pushes a message of one origin.
fn push(mesh: &mut Alone, link: u64, seq: u64, hops: u32) {
    push_unchecked(mesh, link, seq, hops);
    mesh.verified(true);
}

/// The same, and the check of its signature takes a while.
fn push_unchecked(mesh: &mut Alone, link: u64, seq: u64, hops: u32) {
    let line = vec![Bytes::from_static(b"line")];
    let payload = packets::payload(&identity(5), "news", 1, seq, WALL, line);
    mesh.say(link, Kind::Payload(proto::Payload { hops, ..payload }));
}

/// A neighbour that pushes has lost who feeds it.
fn orphaned() -> Kind {
    let origin = packets::bytes(&identity(5).peer_id());
    let run = proto::Run { origin, epoch: 1, ranges: Vec::new(), hops: 0, now: true, name: 0 };
    Kind::Announce(proto::Announce { runs: vec![run] })
}

/// How often that was told the neighbour.
fn losses(mesh: &Alone, link: u64) -> usize {
    said(mesh, link).filter(|kind| **kind == orphaned()).count()
}

fn announce(mesh: &mut Alone, link: u64, seq: u64, hops: u32) {
    let origin = packets::bytes(&identity(5).peer_id());
    let run = proto::Run { origin, epoch: 1, ranges: vec![seq - 1, 0], hops, now: false, name: 0 };
    mesh.say(link, Kind::Announce(proto::Announce { runs: vec![run] }));
}

fn said(mesh: &Alone, link: u64) -> impl Iterator<Item = &Kind> {
    mesh.sent.get(&LinkId(link)).into_iter().flatten().map(|(_, _, kind)| kind)
}

fn prunes(mesh: &Alone, link: u64) -> usize {
    said(mesh, link).filter(|kind| matches!(kind, Kind::Prune(_))).count()
}

fn grafts(mesh: &Alone, link: u64) -> usize {
    said(mesh, link)
        .filter(|kind| matches!(kind, Kind::Want(want) if want.runs.iter().any(|run| run.now)))
        .count()
}

/// The ranges of each request.
fn asked(mesh: &Alone, link: u64) -> Vec<Vec<u64>> {
    let wants =
        said(mesh, link).filter_map(|kind| if let Kind::Want(want) = kind { Some(want) } else { None });
    wants.flat_map(|want| want.runs.iter().map(|run| run.ranges.clone())).collect()
}

#[test]
fn the_only_one_that_pushes_is_not_pruned_for_pushing_twice() {
    let mut mesh = peer(2);
    push(&mut mesh, 1, 1, 0);
    push(&mut mesh, 1, 1, 0);
    assert_eq!(prunes(&mesh, 1), 0);
    push(&mut mesh, 2, 1, 0);
    assert_eq!((prunes(&mesh, 1), prunes(&mesh, 2)), (0, 1));
}

#[test]
fn a_short_cut_does_not_make_a_peer_look_nearer_than_the_tree_has_it() {
    let mut mesh = peer(3);
    push(&mut mesh, 1, 1, 5);
    push(&mut mesh, 2, 1, 5);
    assert_eq!(prunes(&mesh, 2), 1);
    // Under way when it was pruned.
    push(&mut mesh, 2, 2, 0);
    push(&mut mesh, 1, 2, 5);
    let hops: Vec<u32> = said(&mesh, 3)
        .filter_map(|kind| if let Kind::Payload(payload) = kind { Some(payload.hops) } else { None })
        .collect();
    assert_eq!(hops, [6, 6]);
    assert_eq!(prunes(&mesh, 1), 0);
}

#[test]
fn a_shorter_way_replaces_the_one_that_works_when_it_works_itself() {
    let mut mesh = peer(2);
    push(&mut mesh, 1, 1, 8);
    announce(&mut mesh, 2, 1, 2);
    assert_eq!((grafts(&mesh, 2), prunes(&mesh, 1)), (1, 0));
    push(&mut mesh, 1, 2, 8);
    assert_eq!(prunes(&mesh, 1), 0);
    push(&mut mesh, 2, 2, 2);
    assert_eq!((prunes(&mesh, 1), prunes(&mesh, 2)), (1, 0));
}

/// The neighbour wants to be pushed to from now on.
fn want(mesh: &mut Alone, link: u64) {
    let origin = packets::bytes(&identity(5).peer_id());
    let run = proto::Run { origin, epoch: 1, ranges: Vec::new(), hops: 0, now: true, name: 0 };
    mesh.say(link, Kind::Want(proto::Want { runs: vec![run] }));
}

#[test]
fn whoever_is_taken_for_a_parent_because_it_was_first_hears_it() {
    let mut mesh = peer(2);
    mesh.wait(MS);
    push(&mut mesh, 1, 1, 2);
    assert_eq!((grafts(&mesh, 1), grafts(&mesh, 2)), (0, 0));
    push(&mut mesh, 2, 2, 2);
    assert_eq!((grafts(&mesh, 1), grafts(&mesh, 2)), (0, 1));
}

/// Two peers push to each other, and each has another parent by and by: one of them has taken the other for its own
/// meanwhile.
#[test]
fn a_former_parent_that_is_fed_by_us_is_pushed_to_when_the_origin_has_been_quiet() {
    let mut mesh = peer(3);
    push(&mut mesh, 1, 1, 2);
    push(&mut mesh, 2, 2, 2);
    want(&mut mesh, 1);
    assert_eq!(prunes(&mesh, 1), 1);
    mesh.wait(MS * 900);
    let before = mesh.payloads(1).len();
    push(&mut mesh, 2, 3, 2);
    assert_eq!(mesh.payloads(1).len(), before + 1);
}

#[test]
fn the_loss_of_who_feeds_in_place_of_a_silent_parent_is_noticed_at_once() {
    let mut mesh = peer(3);
    push(&mut mesh, 1, 1, 2);
    announce(&mut mesh, 2, 2, 9);
    mesh.wait(MS * 250);
    assert_eq!(grafts(&mesh, 2), 1);
    push(&mut mesh, 2, 2, 9);
    announce(&mut mesh, 3, 3, 4);
    mesh.wait(MS);
    assert_eq!(grafts(&mesh, 3), 0);
    mesh.input(Input::Down { link: LinkId(2), why: Why::Lost("reset".to_owned()) });
    mesh.wait(MS);
    assert_eq!(grafts(&mesh, 3), 1);
}

#[test]
fn prunes_of_origins_that_nobody_knows_push_no_tree_out() {
    let mut config = MeshConfig::named("news");
    config.trees = 2;
    let mut mesh = Alone::new(config);
    (1..=3).for_each(|link| mesh.neighbour(link, 1 << 20));
    push(&mut mesh, 1, 1, 0);
    mesh.say(2, Kind::Prune(proto::Prune { origin: packets::bytes(&identity(5).peer_id()) }));
    for stranger in 10..20 {
        mesh.say(3, Kind::Prune(proto::Prune { origin: packets::bytes(&identity(stranger).peer_id()) }));
    }
    push(&mut mesh, 1, 2, 0);
    assert_eq!((mesh.payloads(2).len(), mesh.payloads(3).len()), (1, 2));
}

#[test]
fn who_loses_its_feeder_tells_those_below_and_they_do_not_wait() {
    // Link 1 feeds us, we feed link 2, and link 3 knows of more.
    let mut mesh = peer(3);
    push(&mut mesh, 1, 1, 0);
    mesh.say(3, Kind::Prune(proto::Prune { origin: packets::bytes(&identity(5).peer_id()) }));
    announce(&mut mesh, 3, 2, 1);
    mesh.wait(MS);
    // Somebody who does not feed us has nothing to say about it.
    mesh.say(2, orphaned());
    mesh.wait(MS);
    assert_eq!((grafts(&mesh, 3), losses(&mesh, 2)), (0, 0));
    mesh.say(1, orphaned());
    mesh.wait(MS);
    assert_eq!((grafts(&mesh, 3), losses(&mesh, 2), losses(&mesh, 3)), (1, 1, 0));
    // Once is enough.
    mesh.say(1, orphaned());
    assert_eq!(losses(&mesh, 2), 1);
}

#[test]
fn what_comes_from_a_neighbour_that_has_just_left_makes_nobody_wait_for_more() {
    let mut mesh = peer(2);
    // Its goodbye has overtaken its last push.
    mesh.neighbour(9, 1 << 20);
    mesh.say(9, Kind::Disconnect(proto::Disconnect { leaving: false, others: Vec::new() }));
    push(&mut mesh, 9, 1, 0);
    assert_eq!((mesh.payloads(1).len(), mesh.payloads(2).len()), (1, 1));
    for link in [1, 2] {
        assert_eq!(losses(&mesh, link), 1, "link {link}");
    }
    // With somebody who feeds us there is nothing to say.
    let mut mesh = peer(2);
    push(&mut mesh, 1, 1, 0);
    assert!(said(&mesh, 2).all(|kind| !matches!(kind, Kind::Announce(_))));
}

#[test]
fn a_message_that_is_checked_while_its_pusher_runs_dry_shows_no_feeder() {
    let mut mesh = peer(3);
    push_unchecked(&mut mesh, 1, 1, 1);
    mesh.say(1, orphaned());
    // A second one pushes it as well: it is the only one that can feed us.
    push_unchecked(&mut mesh, 2, 1, 0);
    mesh.verified(true);
    assert_eq!((prunes(&mesh, 1), prunes(&mesh, 2)), (0, 0));
    assert_eq!((losses(&mesh, 2), losses(&mesh, 3)), (1, 1));
    // The next is asked for as soon as somebody has it.
    announce(&mut mesh, 3, 2, 4);
    mesh.wait(MS);
    assert_eq!(grafts(&mesh, 3), 1);
    // Who pushes again feeds again.
    push(&mut mesh, 1, 3, 1);
    push(&mut mesh, 2, 3, 1);
    assert_eq!((prunes(&mesh, 1), prunes(&mesh, 2)), (0, 1));
}

#[test]
fn a_parent_that_pushed_nothing_during_a_wait_is_waited_for_once() {
    let mut mesh = peer(3);
    push(&mut mesh, 1, 1, 1);
    mesh.say(2, Kind::Prune(proto::Prune { origin: packets::bytes(&identity(5).peer_id()) }));
    announce(&mut mesh, 2, 2, 1);
    mesh.wait(MS * 50);
    announce(&mut mesh, 2, 3, 1);
    mesh.wait(MS * 50);
    announce(&mut mesh, 2, 4, 1);
    assert_eq!(grafts(&mesh, 2), 0);
    while grafts(&mesh, 2) == 0 {
        mesh.wait(MS);
    }
    // All that it has was asked for at once, and those below know.
    assert_eq!(asked(&mesh, 2), [vec![1, 2]]);
    assert_eq!((losses(&mesh, 2), losses(&mesh, 3)), (0, 1));
}

#[test]
fn a_parent_that_pushes_late_loses_one_message_to_another_and_not_the_rest() {
    let mut mesh = peer(2);
    push(&mut mesh, 1, 1, 1);
    announce(&mut mesh, 2, 3, 1);
    mesh.wait(MS * 50);
    announce(&mut mesh, 2, 4, 1);
    push(&mut mesh, 1, 2, 1);
    while grafts(&mesh, 2) == 0 {
        mesh.wait(MS);
    }
    assert_eq!(asked(&mesh, 2), [vec![2, 0]]);
}
