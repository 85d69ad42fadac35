//! Wherever links run, they run.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use common::{Event, Node, Over, config, connections, eventually, linked, toy};
use peerage_machine::{Effect, LinkId};
use peerage_net::{Config, Shards};

fn on(shards: Shards) -> Config {
    config(|config| config.shards = shards)
}

#[tokio::test]
async fn every_choice_of_threads_carries_messages_and_closes() {
    for over in Over::both() {
        for shards in [Shards::Threads(0), Shards::Threads(1), Shards::Threads(2), Shards::Ambient] {
            let mut a = over.node(1, on(shards)).await;
            let mut b = over.node(2, on(shards)).await;
            let (link, at_b) = linked(&mut a, &mut b).await;
            toy::send(&a.toy, link, "there");
            assert_eq!(b.got().await, (at_b, "there".into()), "{shards:?}");
            toy::send(&b.toy, at_b, "and back");
            assert_eq!(a.got().await, (link, "and back".into()), "{shards:?}");
            assert_eq!(a.endpoint.close().await.links_cut, 0);
            connections(&b.endpoint, 0).await;
            b.endpoint.close().await;
        }
    }
}

#[test]
fn an_endpoint_of_its_own_threads_outlives_the_runtime_that_bound_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut a = runtime().block_on(Over::Tcp.node(1, Config::default()));
    let mut b = runtime().block_on(Over::Tcp.node(2, Config::default()));
    runtime().block_on(async { linked(&mut a, &mut b).await });
    let report = runtime().block_on(a.endpoint.close());
    assert_eq!((report.links, report.links_cut), (1, 0));
    runtime().block_on(connections(&b.endpoint, 0));
}

#[tokio::test]
async fn ambient_shards_need_a_runtime_and_threads_that_stop_take_nothing_along() {
    // Handles that are used after the end answer, and drop in any order.
    for shards in [Shards::Threads(2), Shards::Ambient] {
        let over = Over::memory();
        let mut a = over.node(1, on(shards)).await;
        let mut b = over.node(2, on(shards)).await;
        linked(&mut a, &mut b).await;
        let (endpoint, toy) = (a.endpoint.clone(), a.toy.clone());
        drop(a);
        drop(endpoint);
        connections(&b.endpoint, 1).await;
        drop(toy);
        connections(&b.endpoint, 0).await;
    }
}

/// A relay in the middle of peers that all flood it, on two threads, while an application calls it from others.
#[tokio::test]
async fn one_machine_serves_links_on_two_threads_and_callers_on_more_without_a_deadlock() {
    const PEERS: u8 = 4;
    const MESSAGES: u64 = 2000;
    let over = Over::memory();
    let mut hub = over.node(1, on(Shards::Threads(2))).await;
    hub.toy.call(|toy, _, _| toy.relay = true).unwrap();
    let mut peers: Vec<(Node, LinkId)> = Vec::new();
    for seed in 2..2 + PEERS {
        let mut peer = over.node(seed, on(Shards::Threads(1))).await;
        let (link, _) = linked(&mut peer, &mut hub).await;
        peers.push((peer, link));
    }
    // What is relayed may find a queue full; then it is counted, and nothing else may get lost.
    for node in peers.iter().map(|(node, _)| node).chain([&hub]) {
        node.toy.call(|toy, _, _| toy.quiet = true).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (toy, stop) = (hub.toy.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut calls = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    toy.call(|toy, _, out| {
                        calls += 1;
                        let (Some(first), Some(last)) = (toy.links.first(), toy.links.last()) else { return };
                        out.push(Effect::Hold(*first));
                        out.push(Effect::Release(*last));
                    })
                    .unwrap();
                    std::thread::yield_now();
                }
                calls
            })
        })
        .collect();
    for (peer, link) in &peers {
        toy::flood(&peer.toy, *link, MESSAGES, 200, 1 << 20);
    }
    eventually("all messages at the hub", || {
        let got = hub.toy.call(|toy, _, _| toy.got).unwrap();
        if got == MESSAGES * u64::from(PEERS) { Ok(()) } else { Err(format!("{got}")) }
    })
    .await;
    eventually("all relayed messages", || {
        let relayed = MESSAGES * u64::from(PEERS) * u64::from(PEERS - 1);
        let got: u64 = peers.iter().map(|(peer, _)| peer.toy.call(|toy, _, _| toy.got).unwrap()).sum();
        let full = hub.endpoint.snapshot().totals.dropped.get("full").copied().unwrap_or_default();
        if got + full == relayed {
            Ok(())
        } else {
            Err(format!("{got} came and {full} were dropped of {relayed}"))
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let calls: u64 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    assert!(calls > 0);
    let back = hub.toy.call(|toy, _, _| toy.back).unwrap();
    assert_eq!(back, 0, "a machine's time never goes back");
}

/// Two machines whose links cross, both flooding both: each link's task takes both locks in turn, never at once.
#[tokio::test]
async fn machines_that_flood_each_other_over_two_threads_do_not_wait_for_each_other() {
    let over = Over::Tcp;
    let mut a = over.node(1, on(Shards::Threads(2))).await;
    let mut b = over.node(2, on(Shards::Threads(2))).await;
    let (link, at_b) = linked(&mut a, &mut b).await;
    for node in [&a, &b] {
        node.toy.call(|toy, _, _| toy.quiet = true).unwrap();
    }
    let start = Arc::new(Barrier::new(2));
    let pour = |toy: peerage_net::Hosted<common::Toy>, link| {
        let start = Arc::clone(&start);
        std::thread::spawn(move || {
            start.wait();
            toy::flood(&toy, link, 20_000, 100, 1 << 19);
        })
    };
    let pours = [pour(a.toy.clone(), link), pour(b.toy.clone(), at_b)];
    for done in pours {
        done.join().unwrap();
    }
    for node in [&a, &b] {
        eventually("all messages", || {
            let (got, wrong) = node.toy.call(|toy, _, _| (toy.got, toy.wrong)).unwrap();
            if (got, wrong) == (20_000, 0) { Ok(()) } else { Err(format!("{got}, {wrong} wrong")) }
        })
        .await;
    }
}

#[tokio::test]
async fn links_that_come_and_go_on_two_threads_are_told_once_each() {
    let over = Over::memory();
    let mut hub = over.node(1, on(Shards::Threads(2))).await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 2..10_u8 {
        let (over, address) = (over.clone(), hub.address());
        tasks.spawn(async move {
            for _ in 0..5 {
                let node = over.node(seed, on(Shards::Threads(1))).await;
                node.endpoint.connect(&address).await.unwrap();
                node.endpoint.close().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    connections(&hub.endpoint, 0).await;
    let mut up = std::collections::BTreeSet::new();
    let (mut ups, mut downs) = (0, 0);
    while downs < ups || ups == 0 {
        hub.event("links", |event| {
            match event {
                Event::Up(link, _) => {
                    assert!(up.insert(*link), "{link} came up twice");
                    ups += 1;
                }
                Event::Down(link, _) => {
                    assert!(up.remove(link), "{link} went down before it came up");
                    downs += 1;
                }
                _ => {}
            }
            Some(())
        })
        .await;
    }
    assert!(hub.toy.call(|toy, _, _| toy.links.is_empty()).unwrap());
    let totals = hub.snapshot().totals;
    assert_eq!(totals.links_up, 40);
    assert_eq!(totals.ended.values().sum::<u64>(), 40, "{:?}", totals.ended);
}
