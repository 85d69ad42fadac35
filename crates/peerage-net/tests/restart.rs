//! A peer that comes back under its key takes its own place.

#![expect(clippy::panic, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::time::Duration;

use common::valve::Valve;
use common::{Event, Heard, Node, Over, config, connections, ended, linked, toy};
use peerage_machine::Why;
use peerage_net::{Config, Shards};

fn ambient() -> Config {
    config(|config| config.shards = Shards::Ambient)
}

/// The old link goes, for this reason, before the new one comes.
async fn replaced(node: &mut Node, old: peerage_machine::LinkId) -> peerage_machine::LinkId {
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
