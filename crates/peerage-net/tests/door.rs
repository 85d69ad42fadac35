//! Cookies, and what is left for honest dialers while strangers take all places.

#![expect(clippy::panic, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::time::Duration;

use common::stranger::{Stranger, hello};
use common::{Node, Over, config, connections, dropped, ended, identity, linked, peer, toy, within};
use peerage_machine::{Side, Why};
use peerage_net::Config;
use peerage_wire::preface::{Busy, Cookie, Notice, Preface};
use tokio::io::AsyncReadExt;

/// Everybody needs a cookie.
fn guarded(change: impl FnOnce(&mut Config)) -> Config {
    config(|config| {
        config.cookies_above = 0;
        change(config);
    })
}

async fn cookie(of: &Node) -> Cookie {
    let mut stranger = Stranger::connect(&of.address()).await;
    stranger.knock(&identity(66), &[]).await;
    match stranger.notice().await {
        Notice::Cookie(cookie) => cookie,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dialer_comes_back_with_its_cookie_by_itself_and_shows_it_at_once_the_next_time() {
    for over in Over::both() {
        let node = over.node(1, guarded(|_| {})).await;
        let friend = over.node(2, Config::default()).await;
        for _ in 0..3 {
            let error = friend.endpoint.connect_to(peer(3), &node.address()).await.unwrap_err();
            assert!(matches!(error.why, Why::WrongPeer { .. }), "{error}");
        }
        assert_eq!(friend.endpoint.connect(&node.address()).await.unwrap(), node.id());
        assert_eq!(friend.snapshot().totals.cookies, 1, "{over:?}");
        dropped(&node.endpoint, "cookie", 1).await;
        assert_eq!(node.snapshot().totals.accepted, 5);
    }
}

#[tokio::test]
async fn strangers_without_a_cookie_take_no_place_from_those_who_have_one() {
    let mut node = Over::Tcp
        .node(
            1,
            config(|config| {
                config.cookies_above = 2;
                config.max_handshakes = 4;
                config.max_handshakes_per_address = 4;
            }),
        )
        .await;
    // They say nothing, and have the first places for as long as a handshake may take.
    let silent = [Stranger::connect(&node.address()).await, Stranger::connect(&node.address()).await];
    connections(&node.endpoint, 2).await;
    let cookie = cookie(&node).await;
    // The door keeps nothing of those who ask, and touches no key for them.
    for _ in 0..50 {
        let mut stranger = Stranger::connect(&node.address()).await;
        stranger.knock(&identity(66), &[0xbb; 16]).await;
        assert_eq!(stranger.notice().await, Notice::Cookie(cookie));
    }
    dropped(&node.endpoint, "cookie", 51).await;
    assert_eq!(node.snapshot().links.len(), 2);
    let mut friend = Over::Tcp.node(2, Config::default()).await;
    linked(&mut friend, &mut node).await;
    assert_eq!(friend.snapshot().totals.cookies, 1);
    drop(silent);
    ended(&node.endpoint, "lost", 2).await;
    // There is room again for anybody.
    let other = Over::Tcp.node(3, Config::default()).await;
    other.endpoint.connect(&node.address()).await.unwrap();
    assert_eq!(other.snapshot().totals.cookies, 0);
}

#[tokio::test]
async fn handshakes_begun_in_a_second_without_a_cookie_are_bounded() {
    let node = Over::Tcp.node(1, config(|config| config.handshakes_per_second = 3)).await;
    let mut first = Vec::new();
    for _ in 0..3 {
        first.push(Stranger::connect(&node.address()).await);
    }
    connections(&node.endpoint, 3).await;
    cookie(&node).await;
    dropped(&node.endpoint, "cookie", 1).await;
}

#[tokio::test]
async fn one_address_has_no_more_than_its_share_of_places_and_is_told_so() {
    let mut node = Over::Tcp.node(1, guarded(|config| config.max_handshakes_per_address = 1)).await;
    let cookie = cookie(&node).await;
    let mut one = Stranger::connect(&node.address()).await;
    one.knock(&identity(66), &cookie).await;
    // Its handshake goes on: this is the second message.
    one.message().await;
    let mut another = Stranger::connect(&node.address()).await;
    another.knock(&identity(66), &cookie).await;
    assert_eq!(another.notice().await, Notice::Busy(Busy::Address));
    dropped(&node.endpoint, "address_handshakes", 1).await;
    let mut friend = Over::Tcp.node(2, Config::default()).await;
    let error = friend.endpoint.connect(&node.address()).await.unwrap_err();
    assert_eq!(error.why, Why::Limit { by: Side::Them, what: "links from one address".to_owned() });
    drop(one);
    ended(&node.endpoint, "lost", 1).await;
    linked(&mut friend, &mut node).await;
}

#[tokio::test]
async fn a_dialer_learns_which_limit_it_met() {
    let of = |change: fn(&mut Config)| config(change);
    for (config, what) in [
        (of(|config| config.max_links = 0), "links"),
        (of(|config| config.max_handshakes = 0), "handshakes"),
        (of(|config| config.max_inbound_per_address = 0), "links from one address"),
    ] {
        let node = Over::Tcp.node(1, config).await;
        let friend = Over::Tcp.node(2, Config::default()).await;
        let error = friend.endpoint.connect(&node.address()).await.unwrap_err();
        assert_eq!(error.why, Why::Limit { by: Side::Them, what: what.to_owned() });
        ended(&friend.endpoint, "limit", 1).await;
    }
}

#[tokio::test]
async fn a_listener_that_asks_for_cookies_without_end_is_given_up_on() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = peerage_wire::Address::tcp(listener.local_addr().unwrap());
    let asks = tokio::spawn(async move {
        for asked in 1_u8.. {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut opening = [0; 9 + 2 + 32];
            socket.read_exact(&mut opening).await.unwrap();
            let word = Notice::Cookie([asked; 16]).encode();
            tokio::io::AsyncWriteExt::write_all(&mut socket, &word).await.unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    let friend = Over::Tcp.node(2, Config::default()).await;
    let error = within("an end", friend.endpoint.connect(&address)).await.unwrap_err();
    assert!(matches!(&error.why, Why::Limit { by: Side::Them, what } if what.contains("cookie")), "{error}");
    assert_eq!(friend.snapshot().totals.cookies, 2);
    asks.abort();
}

#[tokio::test]
async fn who_waits_longest_at_the_door_makes_room_for_who_comes() {
    let mut node = Over::Tcp.node(1, guarded(|config| config.max_at_door = 2)).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(Stranger::connect(&node.address()).await);
    }
    silent.remove(0).until_hung_up().await;
    dropped(&node.endpoint, "door", 1).await;
    // An honest dialer speaks at once.
    let mut friend = Over::Tcp.node(2, Config::default()).await;
    let (_, link) = linked(&mut friend, &mut node).await;
    toy::send(&node.toy, link, "well?");
    assert_eq!(friend.got().await.1, "well?");
    assert_eq!(node.snapshot().links.len(), 1);
}

#[tokio::test]
async fn strangers_at_the_door_have_the_handshakes_time_and_no_answer_but_a_clear_one() {
    let short = guarded(|config| {
        config.link.handshake_timeout = Duration::from_millis(200);
        config.listen_suites = vec![peerage_wire::Suite::ChaChaPoly];
    });
    let node = Over::Tcp.node(1, short).await;
    let mut silent = Stranger::connect(&node.address()).await;
    let mut drips = Stranger::connect(&node.address()).await;
    drips.write(b"PEERAGE\x01\x01\x00\x30").await;
    silent.until_hung_up().await;
    drips.until_hung_up().await;
    dropped(&node.endpoint, "door_timed_out", 2).await;
    for (count, garbage) in
        (1..).zip([&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"PEERAGE\x01\x01\xff\xff"])
    {
        let mut stranger = Stranger::connect(&node.address()).await;
        stranger.write(garbage).await;
        let mut answer = Vec::new();
        within("the end", stranger.socket.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty());
        dropped(&node.endpoint, "not_peerage", count).await;
    }
    let mut stranger = Stranger::connect(&node.address()).await;
    stranger.write(&Preface { version: 9, suite: 1 }.encode()).await;
    let mut answer = Vec::new();
    within("the answer", stranger.socket.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, Preface::CURRENT.encode());
    drop(Stranger::connect(&node.address()).await);
    dropped(&node.endpoint, "door_lost", 1).await;
    assert_eq!(node.snapshot().links.len(), 0);
}

#[tokio::test]
async fn an_endpoint_that_closes_hangs_up_on_those_at_its_door() {
    let node = Over::Tcp.node(1, guarded(|_| {})).await;
    let mut silent = Stranger::connect(&node.address()).await;
    cookie(&node).await;
    let report = node.endpoint.close().await;
    silent.until_hung_up().await;
    assert_eq!(node.snapshot().links.len(), 0, "{report}");
}

#[tokio::test]
async fn a_whole_handshake_goes_through_with_a_cookie() {
    let node = Over::Tcp.node(1, guarded(|_| {})).await;
    let cookie = cookie(&node).await;
    let identity = identity(66);
    let mut stranger = Stranger::connect(&node.address()).await;
    let mut noise = stranger.knock(&identity, &cookie).await;
    noise.read(&stranger.message().await).unwrap();
    stranger.finish(noise, &hello(&identity).encode()).await;
    assert!(stranger.read_control().await.is_some());
    connections(&node.endpoint, 1).await;
}
