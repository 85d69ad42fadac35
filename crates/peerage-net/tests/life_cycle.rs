//! Ready, draining, closed: and nothing left behind.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::task::Poll;
use std::time::Duration;

use common::stranger::{self, Stranger};
use common::valve::{Stalled, Valve};
use common::{Over, config, connections, eventually, linked, peer, toy, within};
use peerage_machine::{Side, Why};
use peerage_net::{Closed, Config, LinkState, Shards};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;
use tokio::runtime::Handle;

fn ambient() -> Config {
    config(|config| config.shards = Shards::Ambient)
}

fn shut_down() -> Why {
    Why::Shutdown { by: Side::Us, detail: String::new() }
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Lets every task that can go on do so.
async fn breathe() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_ready_when_it_has_a_link_and_not_before() {
    let over = Over::memory();
    let a = over.endpoint(1, ambient()).await;
    let b = over.endpoint(2, ambient()).await;
    let waits = tokio::spawn({
        let a = a.clone();
        async move { a.ready().await }
    });
    assert!(tokio::time::timeout(Duration::from_secs(60), a.ready()).await.is_err());
    assert!(!waits.is_finished());
    // Whoever dials.
    b.connect(a.addresses().first().unwrap()).await.unwrap();
    assert_eq!(within("being ready", waits).await.unwrap(), Ok(()));
    assert_eq!((a.ready().await, b.ready().await), (Ok(()), Ok(())));
    b.close().await;
    assert_eq!(b.ready().await, Err(Closed));
    connections(&a, 0).await;
    assert!(tokio::time::timeout(Duration::from_secs(60), a.ready()).await.is_err(), "its link is gone");
    let waits = tokio::spawn({
        let a = a.clone();
        async move { a.ready().await }
    });
    breathe().await;
    a.close().await;
    assert_eq!(within("the end", waits).await.unwrap(), Err(Closed));
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_what_was_sent_and_takes_no_new_links() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let mut a = over.node(1, ambient()).await;
    let mut b = over.node(2, ambient()).await;
    let c = over.endpoint(3, ambient()).await;
    let valve = Valve::between(transport, &b.address()).await;
    a.endpoint.connect(&valve.address()).await.unwrap();
    let (link, _) = a.up().await;
    let (at_b, _) = b.up().await;
    valve.shut();
    for _ in 0..100 {
        toy::send(&a.toy, link, vec![1; 10_000]);
    }
    let patience = Duration::from_secs(3);
    let report = a.endpoint.drain(patience).await;
    assert_eq!((report.links, report.links_left, report.took), (1, 1, patience), "{report}");
    assert!(!report.is_done());
    let snapshot = a.snapshot();
    let [left] = &snapshot.links[..] else { panic!("{snapshot:#?}") };
    assert!((1..=100).contains(&report.messages_left), "{report}");
    assert_eq!(report.messages_left, left.queued_messages);
    assert_eq!(report.bytes_left, left.queued_bytes + left.unsent_bytes);
    // Nor is a call that is cancelled the end of it.
    let forever = a.endpoint.drain(Duration::MAX);
    assert!(tokio::time::timeout(patience, forever).await.is_err(), "there is more to write");
    // Though nobody waits any more, it goes on draining.
    assert!(matches!(c.connect(&a.address()).await.unwrap_err().why, Why::Unreachable { .. }));
    let Some(at_c) = c.addresses().first().cloned() else { panic!("an address") };
    assert_eq!(a.endpoint.connect(&at_c).await.unwrap_err().why, shut_down());
    assert_eq!(a.endpoint.connect_to(peer(3), &at_c).await.unwrap_err().why, shut_down());
    assert_eq!(a.endpoint.maintain(&at_c).up().await, Err(shut_down()));
    // The link that there is serves.
    assert_eq!(a.endpoint.connect_to(b.id(), &at_c).await.unwrap(), b.id());
    let again = over.builder(4).listen(a.address()).config(ambient()).bind().await.unwrap();
    assert_eq!(again.addresses(), [a.address()], "its address is free");
    valve.open();
    let report = within("all to be written", a.endpoint.drain(Duration::MAX)).await;
    assert!(report.is_done(), "{report}");
    assert!(report.to_string().ends_with("all was written"), "{report}");
    let snapshot = a.snapshot();
    let [left] = &snapshot.links[..] else { panic!("{snapshot:#?}") };
    assert_eq!((left.queued_messages, left.queued_bytes, left.is_up), (0, 0, true));
    for _ in 0..100 {
        b.got().await;
    }
    // And it still carries messages, both ways.
    toy::send(&b.toy, at_b, "still there?");
    assert_eq!(a.got().await.1, "still there?");
    toy::send(&a.toy, link, "yes");
    assert_eq!(b.got().await.1, "yes");
    let report = a.endpoint.close().await;
    assert_eq!((report.links, report.links_cut), (1, 0), "{report}");
}

#[tokio::test]
async fn draining_an_idle_endpoint_returns_at_once() {
    let a = Over::Tcp.endpoint(1, Config::default()).await;
    let b = Over::Tcp.endpoint(2, Config::default()).await;
    a.connect(b.addresses().first().unwrap()).await.unwrap();
    let report = within("the drain", a.drain(Duration::MAX)).await;
    assert_eq!((report.links, report.is_done()), (1, true), "{report}");
    assert!(a.snapshot().links.iter().any(|link| link.is_up));
    // Without a grace it says how it stands.
    assert!(a.drain(Duration::ZERO).await.links == 1);
    a.close().await;
    // A drain after the close has nothing to do either.
    assert_eq!(a.drain(Duration::ZERO).await.links, 0);
}

#[tokio::test]
async fn whoever_gives_up_draining_at_once_leaves_no_address_taken() {
    let mut builder = Over::Tcp.builder(1).config(ambient());
    for _ in 0..4 {
        builder = builder.listen(Over::Tcp.address());
    }
    let a = builder.bind().await.unwrap();
    let addresses = a.addresses();
    // One look, in which none of the four can have ended: they are tasks of this very thread.
    let mut draining = Box::pin(a.drain(Duration::from_secs(60)));
    assert!(std::future::poll_fn(|cx| Poll::Ready(draining.as_mut().poll(cx).is_pending())).await);
    drop(draining);
    for address in addresses {
        eventually(&format!("{address} to be free"), || {
            std::net::TcpListener::bind(address.rest()).map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
    a.close().await;
}

#[tokio::test]
async fn whoever_was_shaking_hands_when_the_draining_began_is_refused() {
    let a = Over::Tcp.endpoint(1, Config::default()).await;
    let identity = common::identity(77);
    let mut late = Stranger::connect(a.addresses().first().unwrap()).await;
    let noise = late.begin(&identity).await;
    within("the drain", a.drain(Duration::MAX)).await;
    late.finish(noise, &stranger::hello(&identity).encode()).await;
    match late.read_control().await {
        Some(Kind::Refuse(refuse)) => assert_eq!(refuse.code(), proto::goodbye::Code::Shutdown, "{refuse:?}"),
        other => panic!("instead of Refuse: {other:?}"),
    }
    assert!(a.snapshot().links.iter().all(|link| !link.is_up));
    a.close().await;
}

/// Of everything that runs tasks, one.
async fn busy(over: &Over, seed: u8) -> (common::Node, Vec<peerage_net::Maintained>) {
    let Over::Memory(transport) = over else { panic!("memory") };
    let node = over.node(seed, ambient()).await;
    let mut kept = Vec::new();
    let stalled = Stalled::listen(transport).await;
    let endpoint = node.endpoint.clone();
    let at = stalled.address();
    // A dial in its handshake, of which nobody waits for the end.
    let patience = Duration::from_millis(10);
    assert!(tokio::time::timeout(patience, endpoint.connect(&at)).await.is_err());
    // One that waits, and one in its handshake.
    kept.push(endpoint.maintain(&over.address()));
    kept.push(endpoint.maintain(&at));
    kept.push(endpoint.maintain_to(peer(99), &[]));
    // A refused one that still hangs up.
    endpoint.connect(node.endpoint.addresses().first().unwrap()).await.unwrap_err();
    drop(stalled);
    breathe().await;
    (node, kept)
}

#[tokio::test(start_paused = true)]
async fn when_close_returns_no_task_is_left() {
    let over = Over::memory();
    let before = alive();
    let (mut a, kept) = busy(&over, 1).await;
    let (mut b, _kept) = busy(&over, 2).await;
    linked(&mut a, &mut b).await;
    assert!(a.snapshot().tasks > 4, "{}", a.snapshot().tasks);
    assert!(alive() >= before + a.snapshot().tasks + b.snapshot().tasks);
    a.endpoint.close().await;
    assert_eq!(a.snapshot().tasks, 0);
    b.endpoint.close().await;
    assert_eq!(b.snapshot().tasks, 0);
    assert_eq!(alive(), before);
    assert!(kept.iter().all(|link| link.state() == LinkState::GivenUp { why: shut_down() }));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_dropped_leaves_no_task_either() {
    let over = Over::memory();
    let before = alive();
    for _ in 0..3 {
        let (mut a, kept) = busy(&over, 1).await;
        let (mut b, _kept) = busy(&over, 2).await;
        linked(&mut a, &mut b).await;
        drop(a);
        drop(b);
        // No time passes: all that they need is to be told.
        let began = tokio::time::Instant::now();
        breathe().await;
        assert_eq!((alive(), began.elapsed()), (before, Duration::ZERO));
        drop(kept);
    }
}

#[tokio::test]
async fn a_port_is_free_when_its_endpoint_is_dropped_links_and_all() {
    for round in 0..20 {
        let mut a = Over::Tcp.node(1, Config::default()).await;
        let mut b = Over::Tcp.node(2, Config::default()).await;
        linked(&mut b, &mut a).await;
        let address = a.address();
        if round % 2 == 0 {
            drop(a);
        } else {
            a.endpoint.close().await;
        }
        let again = Over::Tcp.builder(3).listen(address.clone()).bind().await.unwrap();
        assert_eq!(again.addresses(), [address]);
        assert_eq!(b.endpoint.connect(again.addresses().first().unwrap()).await.unwrap(), peer(3));
    }
}

#[tokio::test]
async fn on_the_callers_runtime_a_dropped_port_is_free_as_soon_as_that_has_had_its_turn() {
    let mut a = Over::Tcp.node(1, ambient()).await;
    let mut b = Over::Tcp.node(2, ambient()).await;
    linked(&mut b, &mut a).await;
    let address = a.address();
    drop(a);
    breathe().await;
    let again = Over::Tcp.builder(3).listen(address.clone()).bind().await.unwrap();
    assert_eq!(again.addresses(), [address]);
}
