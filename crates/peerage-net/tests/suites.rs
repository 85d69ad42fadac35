//! Cipher suites: who chooses, who insists, and what somebody in between can do about it.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use common::{Node, Over, config, connections, ended, linked, peer, toy, within};
use peerage_identity::suites_by_speed;
use peerage_machine::Why;
use peerage_net::{BindError, Config};
use peerage_wire::preface::Preface;
use peerage_wire::{Address, Suite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const BOTH: [[Suite; 2]; 2] = [[Suite::ChaChaPoly, Suite::AesGcm], [Suite::AesGcm, Suite::ChaChaPoly]];

fn dials(suites: &[Suite]) -> Config {
    config(|config| config.dial_suites = suites.to_vec())
}

fn takes(suites: &[Suite]) -> Config {
    config(|config| config.listen_suites = suites.to_vec())
}

/// The suite of the only link.
fn suite(node: &Node) -> Option<Suite> {
    let links = node.snapshot().links;
    assert_eq!(links.len(), 1);
    links[0].suite
}

#[tokio::test]
async fn a_link_uses_what_is_fastest_for_the_dialer_unless_told_otherwise() {
    for over in Over::both() {
        for (dialer, expected) in [
            (Config::default(), suites_by_speed()[0]),
            (dials(&BOTH[0]), BOTH[0][0]),
            (dials(&BOTH[1]), BOTH[1][0]),
        ] {
            let mut a = over.node(1, dialer).await;
            let mut b = over.node(2, Config::default()).await;
            let (link, _) = linked(&mut a, &mut b).await;
            assert_eq!((suite(&a), suite(&b)), (Some(expected), Some(expected)));
            toy::send(&a.toy, link, "sealed");
            assert_eq!(b.got().await.1, "sealed");
            assert_eq!(a.snapshot().totals.ended.len(), 0);
        }
    }
}

#[tokio::test]
async fn a_listener_that_insists_gets_its_suite_in_a_second_connection_of_the_same_dial() {
    for over in Over::both() {
        for [preferred, insisted] in BOTH {
            let mut a = over.node(1, dials(&[preferred, insisted])).await;
            let mut b = over.node(2, takes(&[insisted])).await;
            let (link, _) = linked(&mut a, &mut b).await;
            // The first connection may linger a moment, so that its answer arrives.
            for node in [&a, &b] {
                ended(&node.endpoint, "incompatible", 1).await;
                connections(&node.endpoint, 1).await;
            }
            assert_eq!((suite(&a), suite(&b)), (Some(insisted), Some(insisted)));
            toy::send(&a.toy, link, "sealed");
            assert_eq!(b.got().await.1, "sealed");
            let totals = a.snapshot().totals;
            assert_eq!((totals.dials, totals.links_up), (1, 1));
            assert_eq!(b.snapshot().totals.accepted, 2);
        }
    }
}

/// The two answers in clear that a dial can come back from, one after the other.
#[tokio::test]
async fn a_listener_may_insist_on_a_suite_and_ask_for_a_cookie_as_well() {
    let crowded = config(|config| {
        config.listen_suites = vec![Suite::ChaChaPoly];
        config.cookies_above = 0;
    });
    let mut a = Over::Tcp.node(1, dials(&[Suite::AesGcm, Suite::ChaChaPoly])).await;
    let mut b = Over::Tcp.node(2, crowded).await;
    linked(&mut a, &mut b).await;
    connections(&a.endpoint, 1).await;
    assert_eq!(suite(&a), Some(Suite::ChaChaPoly));
    let totals = a.snapshot().totals;
    assert_eq!((totals.dials, totals.links_up, totals.cookies), (1, 1, 1));
    ended(&b.endpoint, "incompatible", 1).await;
}

#[tokio::test]
async fn without_a_common_suite_both_ends_say_what_they_have() {
    for over in Over::both() {
        let a = over.node(1, dials(&[Suite::AesGcm])).await;
        let b = over.node(2, takes(&[Suite::ChaChaPoly])).await;
        let error = a.endpoint.connect(&b.address()).await.unwrap_err();
        assert_eq!(
            error.why.to_string(),
            "no common link protocol: this endpoint speaks version 1 with suite 2 (AESGCM), the peer version 1 with \
             suite 1 (ChaChaPoly)"
        );
        ended(&a.endpoint, "incompatible", 1).await;
        ended(&b.endpoint, "incompatible", 1).await;
        connections(&b.endpoint, 0).await;
        assert_eq!(b.snapshot().totals.accepted, 1, "there was nothing to try again");
    }
}

/// Answers every dialer in clear, with the same bytes, and tells their prefaces.
async fn liar(answer: [u8; 9]) -> (Address, tokio::sync::mpsc::UnboundedReceiver<Preface>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::tcp(listener.local_addr().unwrap());
    let (heard, prefaces) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            // All that a dialer says at first: what is left unread would make the end of the connection an abrupt one.
            let mut said = [0; 9 + 2 + 32];
            socket.read_exact(&mut said).await.unwrap();
            socket.write_all(&answer).await.unwrap();
            heard.send(Preface::decode(said.first_chunk().unwrap()).unwrap()).unwrap();
        }
    });
    (address, prefaces)
}

#[tokio::test]
async fn whoever_answers_in_clear_gets_a_suite_that_the_dialer_allows_once_and_no_other() {
    let [chacha, aes] = [Suite::ChaChaPoly, Suite::AesGcm];
    let unknown = Preface { version: 1, suite: 3 };
    let tomorrow = Preface { version: 2, suite: 1 };
    for (allowed, answer, expected) in [
        (&[aes, chacha][..], Preface::new(chacha), &[aes, chacha][..]),
        // The same suite again is not another.
        (&[aes, chacha], Preface::new(aes), &[aes]),
        (&[aes], Preface::new(chacha), &[aes]),
        (&[aes, chacha], unknown, &[aes]),
        (&[aes, chacha], tomorrow, &[aes]),
    ] {
        let (address, mut prefaces) = liar(answer.encode()).await;
        let node = Over::Tcp.node(1, dials(allowed)).await;
        let error = within("the dial's end", node.endpoint.connect(&address)).await.unwrap_err();
        assert!(matches!(error.why, Why::Incompatible { .. }), "{error}");
        let asked: Vec<_> = std::iter::from_fn(|| prefaces.try_recv().ok()).collect();
        let expected: Vec<_> = expected.iter().map(|suite| Preface::new(*suite)).collect();
        assert_eq!(asked, expected, "allowed {allowed:?}, answered {answer}");
    }
}

#[tokio::test]
async fn an_endpoint_without_a_suite_does_not_start() {
    for (config, list) in [(dials(&[]), "dial_suites"), (takes(&[]), "listen_suites")] {
        let error = Over::Tcp.builder(1).config(config).bind().await.unwrap_err();
        assert_eq!(error, BindError::NoSuite(list));
        assert_eq!(
            error.to_string(),
            format!("the endpoint allows no cipher suite: Config::{list} is empty")
        );
    }
    // One is enough, even the slower one.
    let endpoint = Over::Tcp.builder(1).config(dials(&[suites_by_speed()[1]])).bind().await.unwrap();
    assert_eq!(endpoint.peer_id(), peer(1));
}
