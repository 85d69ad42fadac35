//! Addresses that send too many strangers: the system leaves them unanswered for a while, and nobody else.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::stranger::Stranger;
use common::{Node, Over, config, dropped, eventually, identity, linked, toy};
use peerage_net::Config;
use peerage_net::transport::{Source, TcpTransport, Transport};
use peerage_wire::Address;
use peerage_wire::preface::{Notice, Preface};
use tokio::net::{TcpSocket, TcpStream};

/// Everybody needs a cookie, and one address may send 20 strangers a second.
fn guarded(shed_for: Duration) -> Config {
    config(|config| {
        config.cookies_above = 0;
        config.strangers_per_second_per_address = 20;
        config.shed_for = shed_for;
    })
}

async fn dial(from: &str, to: &Address) -> TcpStream {
    let to: SocketAddr = to.rest().parse().unwrap();
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

/// Whether the system answers who dials from there, on loopback, where that takes no time.
async fn is_answered(from: &str, to: &Address) -> bool {
    tokio::time::timeout(Duration::from_millis(300), dial(from, to)).await.is_ok()
}

async fn flood(from: &str, node: &Node, count: usize) {
    for _ in 0..count {
        let mut socket = dial(from, &node.address()).await;
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"GET / HTTP/1.1").await.unwrap();
    }
}

async fn shed(node: &Node, addresses: usize) {
    eventually(&format!("{addresses} addresses kept out"), || match node.snapshot().addresses_shed {
        now if now == addresses => Ok(()),
        _ => Err(format!("{:#?}", node.snapshot())),
    })
    .await;
}

#[tokio::test]
async fn an_address_that_floods_is_not_answered_for_a_while_and_others_are() {
    let mut node = Over::Tcp.node(1, guarded(Duration::from_millis(1_500))).await;
    // It came before, and has said half of what it has to say.
    let mut early = Stranger::connect(&node.address()).await;
    early.socket = dial("127.0.0.2", &node.address()).await;
    early.write(&Preface::CURRENT.encode()).await;
    flood("127.0.0.2", &node, 21).await;
    shed(&node, 1).await;
    assert!(!is_answered("127.0.0.2", &node.address()).await);
    assert_eq!(node.snapshot().totals.shed, 1);
    // Its connection is what it was.
    early.write(&[&[0, 32][..], &[7; 32]].concat()).await;
    assert!(matches!(early.notice().await, Notice::Cookie(_)));
    // A friend elsewhere has a link, and it works.
    assert!(is_answered("127.0.0.3", &node.address()).await);
    let mut friend = Over::Tcp.node(2, Config::default()).await;
    let (_, link) = linked(&mut friend, &mut node).await;
    toy::send(&node.toy, link, "well?");
    assert_eq!(friend.got().await.1, "well?");
    // And then it may try again; a tenth is too much at once.
    shed(&node, 0).await;
    flood("127.0.0.2", &node, 3).await;
    shed(&node, 1).await;
    assert_eq!(node.snapshot().totals.shed, 2);
    node.endpoint.close().await;
}

#[tokio::test]
async fn an_address_to_which_there_is_a_link_is_never_kept_out() {
    let mut node = Over::Tcp.node(1, guarded(Duration::from_secs(60))).await;
    let mut friend = Over::Tcp.node(2, Config::default()).await;
    linked(&mut friend, &mut node).await;
    flood("127.0.0.1", &node, 200).await;
    dropped(&node.endpoint, "not_peerage", 200).await;
    assert_eq!((node.snapshot().addresses_shed, node.snapshot().totals.shed), (0, 0));
}

#[tokio::test]
async fn whoever_came_with_a_cookie_keeps_its_address_in() {
    let node = Over::Tcp.node(1, guarded(Duration::from_secs(60))).await;
    let mut stranger = Stranger::connect(&node.address()).await;
    stranger.knock(&identity(66), &[]).await;
    let Notice::Cookie(cookie) = stranger.notice().await else { panic!("no cookie") };
    let mut stranger = Stranger::connect(&node.address()).await;
    stranger.knock(&identity(66), &cookie).await;
    stranger.message().await;
    flood("127.0.0.1", &node, 200).await;
    dropped(&node.endpoint, "not_peerage", 200).await;
    assert_eq!(node.snapshot().totals.shed, 0);
}

#[tokio::test]
async fn a_link_that_comes_up_ends_the_wait_of_its_address() {
    let mut node = Over::Tcp.node(1, guarded(Duration::from_secs(60))).await;
    let mut friend = Over::Tcp.node(2, Config::default()).await;
    flood("127.0.0.1", &node, 21).await;
    shed(&node, 1).await;
    assert!(!is_answered("127.0.0.1", &node.address()).await);
    // The other way round, since the friend's dial is not answered.
    linked(&mut node, &mut friend).await;
    shed(&node, 0).await;
    eventually("an answer", || {
        let to: SocketAddr = node.address().rest().parse().unwrap();
        let short = Duration::from_millis(100);
        std::net::TcpStream::connect_timeout(&to, short).map(drop).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_listener_may_hear_any_number_of_times_that_nobody_is_kept_out() {
    let mut listener = TcpTransport.listen(&Over::Tcp.address()).await.unwrap();
    let flooder = Source::V4([127, 0, 0, 2]);
    // As when an address comes and goes between two looks of a listener.
    for sources in [&[][..], &[], &[flooder], &[flooder], &[], &[], &[flooder], &[], &[]] {
        listener.keep_out(sources).unwrap();
    }
    assert!(is_answered("127.0.0.2", &listener.address()).await);
}

#[tokio::test]
async fn as_many_as_are_ever_kept_out_can_be_replaced_by_as_many_others() {
    let mut listener = TcpTransport.listen(&Over::Tcp.address()).await.unwrap();
    for round in 0..4_u8 {
        let prefixes: Vec<_> = (0..64).map(|at| Source::V6([0xfe, 128, at, round, 0xff, at, 0, 7])).collect();
        listener.keep_out(&prefixes).unwrap();
        listener.keep_out(&prefixes).unwrap();
        let addresses: Vec<_> = (0..64).map(|at| Source::V4([203, 0, round, at])).collect();
        listener.keep_out(&addresses).unwrap();
    }
}

#[tokio::test]
async fn an_ipv6_prefix_is_kept_out_as_one() {
    let endpoint = Over::Tcp.builder(1).config(guarded(Duration::from_secs(60)));
    let Ok(endpoint) = endpoint.listen("tcp://[::1]:0".parse().unwrap()).bind().await else {
        eprintln!("no IPv6 here");
        return;
    };
    let node = Node::new(endpoint, "toy", common::Toy::default());
    flood("::1", &node, 21).await;
    shed(&node, 1).await;
    assert!(!is_answered("::1", &node.address()).await);
}

#[tokio::test]
async fn no_rate_keeps_nobody_out() {
    let mut config = guarded(Duration::from_secs(60));
    config.strangers_per_second_per_address = 0;
    let node = Over::Tcp.node(1, config).await;
    flood("127.0.0.2", &node, 300).await;
    dropped(&node.endpoint, "not_peerage", 300).await;
    assert_eq!(node.snapshot().totals.shed, 0);
}
