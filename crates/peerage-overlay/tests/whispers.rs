//! Messages to one peer.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use bytes::Bytes;
use common::{MS, SECOND, World, identity, real};
use peerage_overlay::{Kind, MeshAnswer, MeshConfig, WhisperError};
use peerage_sim::{Config, NodeId};
use peerage_wire::PeerId;

/// Peers in a row: each has one neighbour on either side at most.
fn chain(seed: u64, length: usize) -> World {
    let mut config = MeshConfig::named("news");
    config.active_view = 1;
    config.active_slack = 1;
    config.passive_view = 1;
    config.rotation = 0.0;
    let mut world = World::with(Config { verifier: real(), ..Config::seeded(seed) }, config);
    for node in 0..length {
        world.add();
        if node > 0 {
            world.join(world.nodes[node], world.nodes[node - 1]);
            world.sim.run_for(SECOND);
        }
    }
    world.sim.run_for(SECOND * 10);
    world
}

fn whisper(world: &mut World, from: NodeId, to: PeerId, text: &str) -> Result<(), WhisperError> {
    let parts = vec![Bytes::copy_from_slice(text.as_bytes())];
    let call = world.sim.command(from, |mesh, now, out| mesh.whisper(now, to, parts, out))?;
    let mut answers = Vec::new();
    for _ in 0..3000 {
        answers.extend(world.sim.take_answers(from));
        if let Some((_, _, MeshAnswer::Whispered(result))) = answers.iter().find(|(_, id, _)| *id == call) {
            return result.clone();
        }
        world.sim.run_for(MS * 5);
    }
    panic!("no answer to {call}");
}

fn whispers_to(world: &mut World, node: NodeId) -> Vec<String> {
    world.collect();
    let heard = world.heard.get(&node).into_iter().flatten();
    heard
        .filter(|(_, message)| message.kind == Kind::Whisper)
        .map(|(_, message)| String::from_utf8(message.body().to_vec()).unwrap())
        .collect()
}

#[test]
fn a_neighbour_is_told_directly() {
    let mut world = World::formed(Config { verifier: real(), ..Config::seeded(1) }, 3);
    let (from, to) = (world.nodes[1], world.nodes[2]);
    let peer = world.sim.peer(to);
    assert_eq!(whisper(&mut world, from, peer, "psst"), Ok(()));
    assert_eq!(whispers_to(&mut world, to), ["psst"]);
    let others = world.nodes[0];
    assert!(whispers_to(&mut world, others).is_empty());
}

#[test]
fn a_reply_reaches_a_sender_who_is_five_hops_away_and_cannot_be_dialled() {
    let mut world = chain(4, 6);
    let (first, last) = (world.nodes[0], world.nodes[5]);
    assert!(world.is_connected(), "the chain is one");
    world.say(first, "who is there?").unwrap();
    world.sim.run_for(SECOND);
    world.collect();
    let hops = world.heard[&last][0].1.hops;
    let asker = world.heard[&last][0].1.origin;
    assert!(hops >= 2, "{hops} peers in between are no test");
    let links = world.sim.links(last).len();
    assert_eq!(whisper(&mut world, last, asker, "me"), Ok(()));
    assert_eq!(whispers_to(&mut world, first), ["me"]);
    assert_eq!(world.sim.links(last).len(), links, "no link was made for it");
    // And the answer to the answer goes back along the whisper's way.
    let answerer = world.sim.peer(last);
    assert_eq!(whisper(&mut world, first, answerer, "I see"), Ok(()));
    assert_eq!(whispers_to(&mut world, last), ["I see"]);
}

#[test]
fn a_peer_that_nobody_knows_is_unreachable_at_once() {
    let mut world = World::formed(Config::seeded(3), 5);
    let stranger = identity(999).peer_id();
    let from = world.nodes[0];
    let before = world.sim.machine(from).unwrap().snapshot().whispers;
    let result = whisper(&mut world, from, stranger, "hello?");
    assert_eq!(result, Err(WhisperError::Unreachable { peer: stranger, why: None }));
    assert_eq!(world.snapshot(from).whispers, before);
}

#[test]
fn a_peer_that_is_gone_is_a_typed_error() {
    let mut world = World::formed(Config::seeded(4), 12);
    let (from, gone) = (world.nodes[0], world.nodes[7]);
    let peer = world.sim.peer(gone);
    world.say(gone, "I was here").unwrap();
    world.sim.run_for(SECOND);
    world.sim.crash(gone);
    let error = whisper(&mut world, from, peer, "still there?").unwrap_err();
    assert!(matches!(error, WhisperError::Unreachable { .. } | WhisperError::TimedOut { .. }), "{error}");
    println!("{error}");
}

#[test]
fn a_peer_that_is_no_neighbour_and_never_spoke_is_dialled() {
    let mut world = World::formed(Config::seeded(5), 30);
    let from = world.nodes[0];
    let neighbours = world.neighbours(from);
    let known = world.nodes.iter().copied().find(|node| *node != from && !neighbours.contains(node));
    let mut dialled = 0;
    for to in world.nodes.clone().into_iter().filter(|node| *node != from && !neighbours.contains(node)) {
        let peer = world.sim.peer(to);
        dialled += u32::from(whisper(&mut world, from, peer, "hello").is_ok());
    }
    assert!(known.is_some() && dialled > 10, "{dialled} of them were reached");
}

#[test]
fn mistakes_of_the_caller_are_told_at_once() {
    let mut world = World::formed(Config::seeded(6), 2);
    let (me, other) = (world.sim.peer(world.nodes[0]), world.sim.peer(world.nodes[1]));
    let whisper = |world: &mut World, to, parts: Vec<Bytes>| {
        world.sim.command(world.nodes[0], |mesh, now, out| mesh.whisper(now, to, parts, out))
    };
    let part = Bytes::from_static(b"x");
    assert_eq!(whisper(&mut world, me, vec![part.clone()]), Err(WhisperError::ToSelf));
    assert_eq!(whisper(&mut world, other, vec![]), Err(WhisperError::Parts { found: 0, limit: 64 }));
    assert_eq!(
        whisper(&mut world, other, vec![part.clone(); 65]),
        Err(WhisperError::Parts { found: 65, limit: 64 })
    );
    let large = Bytes::from(vec![0; (16 << 20) + 1]);
    let error = whisper(&mut world, other, vec![large]).unwrap_err();
    assert!(
        matches!(error, WhisperError::TooLarge { size, limit } if size > limit && limit == 16 << 20),
        "{error}"
    );
    world.sim.command(world.nodes[0], |mesh, now, out| mesh.leave(now, out));
    assert_eq!(whisper(&mut world, other, vec![part]), Err(WhisperError::Closed));
}
