//! Where an endpoint listens, and what it tells others of that.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use common::{Event, Node, Over, Toy, config, error_of, eventually, linked, peer, spec};
use peerage_net::{BindError, Config, Endpoint, Observed};
use peerage_wire::Address;

fn socket(address: &Address) -> SocketAddr {
    address.rest().parse().unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

async fn listening(seed: u8, at: &[&str]) -> Endpoint {
    let builder = at.iter().fold(Over::Tcp.builder(seed), |builder, at| builder.listen(address(at)));
    builder.bind().await.unwrap()
}

#[tokio::test]
async fn a_wildcard_is_told_as_an_address_that_others_can_dial() {
    let mut a = Node::new(listening(1, &["tcp://0.0.0.0:0"]).await, "toy", Toy::default());
    let told = a.endpoint.addresses();
    let [only] = &told[..] else { panic!("{told:?}") };
    assert!(!socket(only).ip().is_unspecified() && socket(only).port() != 0, "{only}");
    let mut b = Over::Tcp.node(2, Config::default()).await;
    linked(&mut b, &mut a).await;
    let hello = b.snapshot();
    assert_eq!(hello.links.len(), 1);
    // It takes every address of this machine.
    let c = Over::Tcp.endpoint(3, Config::default()).await;
    let by_loopback = Address::tcp(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), socket(only).port()));
    assert_eq!(c.connect(&by_loopback).await.unwrap(), peer(1));
}

#[tokio::test]
async fn peers_and_machines_hear_of_no_wildcard() {
    let a = listening(1, &["tcp://0.0.0.0:0"]).await;
    let mut at_start = Vec::new();
    let (sink, _heard) = common::ToySink::new();
    let make = |start: peerage_net::Start| {
        at_start = start.addresses;
        Toy::default()
    };
    a.host(spec("toy"), make, sink).unwrap();
    assert_eq!(at_start, a.addresses());
    let mut b = Over::Tcp.node(2, Config::default()).await;
    let port = socket(a.addresses().first().unwrap()).port();
    b.endpoint.connect(&address(&format!("tcp://127.0.0.1:{port}"))).await.unwrap();
    let (_, info) = b.up().await;
    assert_eq!(info.addresses, a.addresses());
    assert!(info.addresses.iter().all(|address| !socket(address).ip().is_unspecified()));
}

#[tokio::test]
async fn both_families_listen_on_one_port() {
    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("no IPv6 here: not tried");
        return;
    }
    // The port that the system gave for one family may be taken in the other.
    let both = async || {
        for _ in 0..20 {
            let first = listening(9, &["tcp://0.0.0.0:0"]).await;
            let port = socket(first.addresses().first().unwrap()).port();
            first.close().await;
            let builder = Over::Tcp.builder(1);
            let builder = builder.listen(address(&format!("tcp://0.0.0.0:{port}")));
            if let Ok(found) = builder.listen(address(&format!("tcp://[::]:{port}"))).bind().await {
                return (found, port);
            }
        }
        panic!("no port was free in both families twenty times")
    };
    let (a, port) = both().await;
    assert_eq!(a.addresses().len(), 2);
    for (seed, loopback) in [(2, "127.0.0.1"), (3, "[::1]")] {
        let dialer = Over::Tcp.endpoint(seed, Config::default()).await;
        assert_eq!(dialer.connect(&address(&format!("tcp://{loopback}:{port}"))).await.unwrap(), peer(1));
    }
    // IPv6 alone takes no IPv4.
    a.close().await;
    let _six = listening(1, &[&format!("tcp://[::]:{port}")]).await;
    let dialer = Over::Tcp.endpoint(4, Config::default()).await;
    dialer.connect(&address(&format!("tcp://127.0.0.1:{port}"))).await.unwrap_err();
}

#[tokio::test]
async fn an_announced_address_is_told_first() {
    let builder = Over::Tcp.builder(1).listen(address("tcp://127.0.0.1:0"));
    let outward = address("tcp://peer.example.org:4000");
    let a = builder.announce(outward.clone()).bind().await.unwrap();
    let told = a.addresses();
    let [first, second] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*first, outward);
    let mut b = Over::Tcp.node(2, Config::default()).await;
    let a = Node::new(a, "toy", Toy::default());
    b.endpoint.connect(second).await.unwrap();
    assert_eq!(b.up().await.1.addresses, told);
    drop(a);

    for wrong in ["tcp://0.0.0.0:4000", "tcp://[::]:4000", "tcp://192.0.2.1:0"] {
        let error = error_of(Over::Tcp.builder(1).announce(address(wrong)).bind().await);
        assert!(
            matches!(&error, BindError::Announce { address: named, .. } if *named == address(wrong)),
            "{error}"
        );
    }
}

/// Loopback has many networks, and each of these voters is in one of its own.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn where_three_networks_see_an_endpoint_is_announced_with_its_port() {
    let voter = async |seed: u8| listening(seed, &[&format!("tcp://127.{seed}.0.1:0")]).await;
    let a = listening(1, &["tcp://0.0.0.0:0"]).await;
    let port = socket(a.addresses().first().unwrap()).port();
    let before = a.addresses();
    if before.iter().any(|address| socket(address).ip().is_loopback()) {
        eprintln!("no way out of this machine: what others see is what it tells already");
        return;
    }
    let (sink, mut heard) = common::ToySink::new();
    let _toy = a.host(spec("toy"), |_| Toy::default(), sink).unwrap();
    let seen: IpAddr = [127, 0, 0, 1].into();
    let mut voters = Vec::new();
    for (votes, seed) in (1..=3).zip(10_u8..) {
        assert_eq!(a.addresses(), before, "{votes} are not enough yet");
        let voter = Node::new(voter(seed).await, "toy", Toy::default());
        a.connect(&voter.address()).await.unwrap();
        eventually("the vote", || match &a.snapshot().observed[..] {
            [Observed { ip, votes: counted, .. }] if (*ip, *counted) == (seen, votes) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        voters.push(voter);
    }
    let elected = Address::tcp(SocketAddr::new(seen, port));
    let mut after = vec![elected.clone()];
    after.extend(before);
    assert_eq!(a.addresses(), after);
    assert_eq!(a.snapshot().addresses, after);
    assert!(a.snapshot().observed.first().unwrap().is_elected);
    // Machines hear of it, and so do those who come later.
    let told = common::within("the addresses", async {
        loop {
            if let Some(common::Heard::Event(Event::OwnAddresses(told))) = heard.recv().await {
                return told;
            }
        }
    });
    assert_eq!(told.await, after);
    let mut later = Over::Tcp.node(99, config(|config| config.observed_votes = usize::MAX)).await;
    later.endpoint.connect(&elected).await.unwrap();
    assert_eq!(later.up().await.1.addresses, after);
}
