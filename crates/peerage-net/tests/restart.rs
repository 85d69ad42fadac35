//! A peer that comes back under its key takes its own place.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::time::Duration;

use common::valve::Valve;
use common::{Event, Heard, Node, Over, Toy, config, connections, ended, linked, spec, toy};
use peerage_machine::{Effect, LinkId, Side, Target, Why};
use peerage_net::{Config, InstanceSpec, LinkSnapshot, OnReturn, Shards};

fn ambient() -> Config {
    config(|config| config.shards = Shards::Ambient)
}

/// The old link goes, for this reason, before the new one comes.
async fn replaced(node: &mut Node, old: LinkId) -> LinkId {
    let down = node.event("a change", |event| match event {
        Event::Down(link, why) => Some(Ok((*link, why.clone()))),
        Event::Up(link, _) => Some(Err(*link)),
        _ => None,
    });
    match down.await {
        Ok(down) => assert_eq!(down, (old, Why::Superseded)),
        Err(link) => panic!("{link} came up before {old} was gone"),
    }
    node.up().await.0
}

#[tokio::test(start_paused = true)]
async fn a_restarted_peer_replaces_its_half_open_link_at_once() {
    for peer_dialled in [true, false] {
        let over = Over::memory();
        let Over::Memory(transport) = &over else { panic!("memory") };
        let mut a = over.node(1, ambient()).await;
        let mut ghost = over.node(2, ambient()).await;
        let (from, to) = if peer_dialled { (&ghost, &a) } else { (&a, &ghost) };
        let valve = Valve::between(transport, &to.address()).await;
        from.endpoint.connect(&valve.address()).await.unwrap();
        let (old, info) = a.up().await;
        ghost.up().await;
        valve.shut();

        // It fell, without a word, and starts again.
        let mut reborn = over.node(2, ambient()).await;
        assert_ne!(reborn.endpoint.incarnation(), ghost.endpoint.incarnation());
        let began = tokio::time::Instant::now();
        reborn.endpoint.connect(&a.address()).await.unwrap();
        let new = replaced(&mut a, old).await;
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
        let (at_reborn, _) = reborn.up().await;
        toy::send(&a.toy, new, "welcome back");
        assert_eq!(reborn.got().await, (at_reborn, "welcome back".into()));
        toy::send(&a.toy, old, "anybody?");
        ended(&a.endpoint, "superseded", 1).await;
        connections(&a.endpoint, 1).await;
        assert_eq!(info.incarnation, ghost.endpoint.incarnation());
        assert_eq!(a.snapshot().totals.dropped.get("not_up"), Some(&1), "what is sent to a ghost is counted");
    }
}

#[tokio::test]
async fn a_restart_works_over_tcp_and_in_either_direction() {
    let mut a = Over::Tcp.node(1, Config::default()).await;
    let mut first = Over::Tcp.node(2, Config::default()).await;
    let (mut old, _) = linked(&mut first, &mut a).await;
    old = a.endpoint.snapshot().links.first().map_or(old, |link| link.link);
    let mut kept = vec![first];
    for round in 0..6 {
        let mut next = Over::Tcp.node(2, Config::default()).await;
        if round % 2 == 0 {
            next.endpoint.connect(&a.address()).await.unwrap();
        } else {
            // By address: by name it would take the link that it has for alive.
            a.endpoint.connect(&next.address()).await.unwrap();
        }
        old = replaced(&mut a, old).await;
        next.up().await;
        connections(&a.endpoint, 1).await;
        // The one before is told that it has been replaced, and by whom it is not.
        let before = kept.last_mut().unwrap();
        let why = before
            .event("its end", |event| match event {
                Event::Down(_, why) => Some(why.clone()),
                _ => None,
            })
            .await;
        assert_eq!(why, Why::Superseded);
        kept.push(next);
    }
    assert!(!a.pending().iter().any(|heard| matches!(heard, Heard::Event(Event::Down(..)))));
}

#[tokio::test]
async fn over_tcp_a_peer_that_was_killed_is_back_behind_its_half_open_link_within_a_second() {
    for peer_dialled in [true, false] {
        let mut a = Over::Tcp.node(1, Config::default()).await;
        let mut killed = Over::Tcp.node(2, Config::default()).await;
        let (from, to) = if peer_dialled { (&killed, &a) } else { (&a, &killed) };
        let valve = Valve::between_sockets(&to.address()).await;
        from.endpoint.connect(&valve.address()).await.unwrap();
        let (old, _) = a.up().await;
        killed.up().await;
        // Not a byte of it, its sockets' ends included, reaches A.
        valve.shut();
        drop(killed);
        let began = std::time::Instant::now();
        let mut reborn = Over::Tcp.node(2, Config::default()).await;
        reborn.endpoint.connect(&a.address()).await.unwrap();
        let new = replaced(&mut a, old).await;
        let (at_reborn, _) = reborn.up().await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        toy::send(&a.toy, new, "welcome back");
        assert_eq!(reborn.got().await, (at_reborn, "welcome back".into()));
    }
}

fn coexisting() -> InstanceSpec {
    let mut spec = spec("toy");
    spec.on_return = OnReturn::Coexist;
    spec
}

fn link_of(node: &Node, link: LinkId) -> LinkSnapshot {
    node.snapshot().links.into_iter().find(|found| found.link == link).unwrap()
}

#[tokio::test(start_paused = true)]
async fn sessions_of_one_key_coexist_where_an_instance_asks_for_it() {
    for over in Over::both() {
        let mut a = Node::with_spec(over.endpoint(1, ambient()).await, coexisting(), Toy::default());
        let mut sessions = Vec::new();
        for _ in 0..3 {
            let mut session = over.node(2, ambient()).await;
            toy::dial(&session.toy, 1, Target::Address(a.address()));
            let (at_a, info) = a.up().await;
            assert_eq!(info.incarnation, session.endpoint.incarnation());
            let at_session = session.dialed(1).await.unwrap();
            sessions.push((session, at_session, at_a));
        }
        for (place, (session, at_session, at_a)) in sessions.iter_mut().enumerate() {
            toy::send(&a.toy, *at_a, format!("you are {place}"));
            assert_eq!(session.got().await, (*at_session, format!("you are {place}").into()));
            toy::send(&session.toy, *at_session, format!("I am {place}"));
            assert_eq!(a.got().await, (*at_a, format!("I am {place}").into()));
            assert_eq!(link_of(&a, *at_a).is_superseded, place < 2);
        }
        // One that goes takes no other with it; a dial finds the newest that there is.
        let (last, _, at_a) = sessions.pop().unwrap();
        last.endpoint.close().await;
        a.down(at_a).await;
        toy::dial_peer(&a.toy, 1, last.id(), Vec::new());
        assert_eq!(a.dialed(1).await.unwrap(), sessions.last().unwrap().2);
        connections(&a.endpoint, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_one_link_some_coexist_and_others_move_to_the_newer_one() {
    let over = Over::memory();
    let mut coexists = Node::with_spec(over.endpoint(1, ambient()).await, coexisting(), Toy::default());
    let mut replaces = Node::new(coexists.endpoint.clone(), "moves", Toy::default());
    let mut peers = Vec::new();
    let mut links = Vec::new();
    for _ in 0..2 {
        let toy = over.node(2, ambient()).await;
        let mut moves = Node::new(toy.endpoint.clone(), "moves", Toy::default());
        toy::dial(&toy.toy, 1, Target::Address(coexists.address()));
        if let Some(old) = links.last() {
            let why = replaces.event("a change", |event| match event {
                Event::Down(link, why) => Some(Ok((*link, why.clone()))),
                Event::Up(link, _) => Some(Err(*link)),
                _ => None,
            });
            assert_eq!(why.await, Ok((*old, Why::Superseded)), "the old one goes before the new one comes");
        }
        let (link, _) = coexists.up().await;
        assert_eq!(replaces.up().await.0, link);
        moves.up().await;
        links.push(link);
        peers.push((toy, moves));
    }
    let [old, new] = links[..] else { panic!("two links") };
    // The old session's instance that moved hears that it is closed there, and why; the other goes on.
    let (ghost, moved) = &mut peers[0];
    let why = moved
        .event("its end", |event| match event {
            Event::Down(_, why) => Some(why.clone()),
            _ => None,
        })
        .await;
    assert!(
        matches!(&why, Why::ChannelClosed { by: Side::Them, detail } if detail.contains("newer")),
        "{why}"
    );
    toy::send(&coexists.toy, old, "still here");
    assert_eq!(ghost.got().await.1, "still here");
    assert_eq!(toy_links(&coexists), [old, new]);
    assert_eq!(toy_links(&replaces), [new]);

    // What is hosted later has one link to the peer as well.
    let mut later = Node::new(coexists.endpoint.clone(), "later", Toy::default());
    let at_peers: Vec<_> =
        peers.iter().map(|(toy, _)| Node::new(toy.endpoint.clone(), "later", Toy::default())).collect();
    assert_eq!(later.up().await.0, new);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(toy_links(&later), [new]);
    drop(at_peers);

    // When the instance for which it stayed lets go of it, the old link ends as any other.
    toy::want(&coexists.toy, Effect::Hold(old));
    let ghost = &peers[0].0;
    let at_ghost = toy_links(ghost)[0];
    toy::want(&ghost.toy, Effect::Release(at_ghost));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(toy_links(&coexists), [old, new]);
    toy::want(&coexists.toy, Effect::Release(old));
    assert_eq!(coexists.down(old).await, Why::Unheld);
    assert!(replaces.pending().iter().all(|heard| !matches!(heard, Heard::Event(Event::Down(..)))));
}

fn toy_links(node: &Node) -> Vec<LinkId> {
    common::connections_of(&node.toy)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_comes_back_replaces_its_own_link_and_no_other() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let mut a = Node::with_spec(over.endpoint(1, ambient()).await, coexisting(), Toy::default());
    let quick_to_notice = config(|config| {
        config.shards = Shards::Ambient;
        config.link.silent_after = Duration::from_secs(3);
    });
    let mut first = over.node(2, quick_to_notice).await;
    let valve = Valve::between(transport, &a.address()).await;
    toy::dial(&first.toy, 1, Target::Address(valve.address()));
    let (old, _) = a.up().await;
    let at_first = first.dialed(1).await.unwrap();
    let second = over.node(2, ambient()).await;
    toy::dial(&second.toy, 1, Target::Address(a.address()));
    let (other, _) = a.up().await;
    valve.shut();
    first.down(at_first).await;
    toy::dial(&first.toy, 2, Target::Address(a.address()));
    assert_eq!(a.down(old).await, Why::Duplicate);
    let (again, info) = a.up().await;
    assert_eq!(info.incarnation, first.endpoint.incarnation());
    first.dialed(2).await.unwrap();
    assert_eq!(toy_links(&a), [other, again]);
}
