//! Dials: what each of them ends in.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::time::Duration;

use common::stranger::{Stranger, hello};
use common::valve::{Stalled, Valve};
use common::{Event, Heard, Node, Over, Toy, config, connections, ended, linked, peer, toy, within};
use peerage_machine::{LinkId, Side, Target, Why};
use peerage_net::{Config, Shards};
use peerage_wire::proto::link::v1::Pong;
use peerage_wire::proto::link::v1::control::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn ambient() -> Config {
    config(|config| config.shards = Shards::Ambient)
}

#[tokio::test]
async fn connecting_tells_who_is_there() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        assert_eq!(a.endpoint.connect_to(b.id(), &b.address()).await.unwrap(), peer(2));
        assert_eq!(a.up().await.1.peer, peer(2));
        assert_eq!(b.up().await.1.peer, peer(1));
        // The link that there is serves as well, and so does one by an address at which nobody is.
        assert_eq!(a.endpoint.connect(&b.address()).await.unwrap(), peer(2));
        assert_eq!(a.endpoint.connect_to(b.id(), &over.address()).await.unwrap(), peer(2));
        assert_eq!(b.endpoint.connect(&a.address()).await.unwrap(), peer(1));
        connections(&a.endpoint, 1).await;
        connections(&b.endpoint, 1).await;
        assert_eq!(a.snapshot().totals.links_up, 1);
        assert_eq!(b.snapshot().totals.links_up, 1);
    }
}

#[tokio::test]
async fn somebody_else_than_meant_is_named_at_both_ends() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let error = a.endpoint.connect_to(peer(3), &b.address()).await.unwrap_err();
        assert_eq!(error.to, b.address());
        assert_eq!(error.why, Why::WrongPeer { expected: peer(3), found: peer(2) });
        ended(&a.endpoint, "wrong_peer", 1).await;
        ended(&b.endpoint, "wrong_peer", 1).await;
        connections(&b.endpoint, 0).await;
        assert!(a.pending().is_empty() && b.pending().is_empty(), "machines hear nothing of it");
    }
}

#[tokio::test]
async fn a_dial_to_nobody_says_where() {
    for over in Over::both() {
        let a = over.node(1, Config::default()).await;
        let gone = over.endpoint(2, Config::default()).await;
        let address = gone.addresses()[0].clone();
        gone.close().await;
        let error = a.endpoint.connect(&address).await.unwrap_err();
        assert!(matches!(&error.why, Why::Unreachable { address: at, .. } if *at == address), "{error}");
        connections(&a.endpoint, 0).await;
    }
}

#[tokio::test]
async fn an_own_address_is_no_link() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let error = a.endpoint.connect(&a.address()).await.unwrap_err();
        assert_eq!(error.why, Why::SelfDial);
        let error = a.endpoint.connect_to(a.id(), &a.address()).await.unwrap_err();
        assert_eq!(error.why, Why::SelfDial);
        connections(&a.endpoint, 0).await;
        // Both ends of the first; the second never began.
        ended(&a.endpoint, "self_dial", 2).await;
        assert!(a.pending().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_says_nothing_takes_the_handshakes_time_and_no_more() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let a = over.node(1, ambient()).await;
    let stalled = Stalled::listen(transport).await;
    let began = tokio::time::Instant::now();
    let error = a.endpoint.connect(&stalled.address()).await.unwrap_err();
    assert_eq!(error.why, Why::TimedOut { what: "the handshake", after: Duration::from_secs(5) });
    assert!(began.elapsed() < Duration::from_millis(5100), "{:?}", began.elapsed());
    connections(&a.endpoint, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_does_not_accept_takes_the_connections_time_and_no_more() {
    use peerage_net::Transport;
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let address = over.address();
    let _listener = transport.listen(&address).await.unwrap();
    let mut fill = Vec::new();
    // As many as a listener keeps waiting; the next one waits to be kept.
    for _ in 0..128 {
        fill.push(transport.dial(&address).await.unwrap());
    }
    let a = over.node(1, ambient()).await;
    let error = a.endpoint.connect(&address).await.unwrap_err();
    assert_eq!(error.why, Why::TimedOut { what: "connecting", after: Duration::from_secs(5) });
}

#[tokio::test]
async fn a_listener_that_speaks_something_else_is_at_fault() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = peerage_wire::Address::tcp(listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 64];
        let _ = socket.read(&mut request).await;
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
    });
    let a = Over::Tcp.node(1, Config::default()).await;
    let error = within("the dial's end", a.endpoint.connect(&address)).await.unwrap_err();
    assert!(matches!(&error.why, Why::Fault { by: Side::Them, .. }), "{error}");
    ended(&a.endpoint, "fault", 1).await;
    connections(&a.endpoint, 0).await;
    server.await.unwrap();
}

#[tokio::test]
async fn addresses_are_tried_in_their_order_until_one_is_right() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let mut other = over.node(3, Config::default()).await;
        let gone = over.endpoint(4, Config::default()).await;
        let nobody = gone.addresses()[0].clone();
        gone.close().await;
        let unknown = "pigeon://here".parse().unwrap();
        let addresses = vec![nobody.clone(), other.address(), unknown, b.address(), nobody.clone()];
        toy::dial_peer(&a.toy, 1, b.id(), addresses.clone());
        let link = a.dialed(1).await.unwrap();
        assert_eq!(b.up().await.1.peer, a.id());
        let snapshot = a.snapshot();
        let found = snapshot.links.iter().find(|found| found.link == link).unwrap();
        assert_eq!((found.peer, &found.remote), (Some(b.id()), &b.address()));
        ended(&other.endpoint, "wrong_peer", 1).await;
        assert!(other.pending().is_empty());

        // When all fail, the last reason is told.
        toy::dial_peer(&a.toy, 2, peer(9), vec![other.address(), nobody.clone()]);
        let why = a.dialed(2).await.unwrap_err();
        assert!(matches!(&why, Why::Unreachable { address, .. } if *address == nobody), "{why}");
        toy::dial_peer(&a.toy, 3, peer(9), Vec::new());
        assert_eq!(a.dialed(3).await.unwrap_err(), Why::NoAddress);
    }
}

#[tokio::test]
async fn two_dials_to_one_peer_at_once_share_one_link() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        for dial in 0..6 {
            let target = match dial % 2 {
                0 => Target::Address(b.address()),
                _ => Target::Peer { peer: b.id(), addresses: vec![b.address()] },
            };
            toy::dial(&a.toy, dial, target);
        }
        let address = b.address();
        let (first, second) =
            tokio::join!(a.endpoint.connect(&address), a.endpoint.connect_to(b.id(), &address));
        assert_eq!((first.unwrap(), second.unwrap()), (b.id(), b.id()));
        let (mut dialled, mut ups) = (Vec::new(), 0);
        a.event("six answers", |event| {
            match event {
                Event::Dialed(dial, link) => dialled.push((dial.0, *link)),
                Event::DialFailed(dial, why) => panic!("{dial}: {why}"),
                Event::Up(..) => ups += 1,
                Event::Down(_, why) => panic!("a link came up and went: {why}"),
                _ => {}
            }
            (dialled.len() == 6).then_some(())
        })
        .await;
        assert_eq!(ups, 1);
        assert!(dialled.iter().all(|(_, link)| *link == dialled[0].1), "{dialled:?}");
        let mut numbers: Vec<u64> = dialled.iter().map(|(dial, _)| *dial).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "each dial has one answer");
        b.up().await;
        connections(&a.endpoint, 1).await;
        connections(&b.endpoint, 1).await;
    }
}

/// The links that are up for a machine, by what it heard.
fn links_up(heard: &[Heard]) -> Vec<LinkId> {
    let mut links = Vec::new();
    for heard in heard {
        match heard {
            Heard::Event(Event::Up(link, _)) => links.push(*link),
            Heard::Event(Event::Down(link, _)) => links.retain(|up| up != link),
            _ => {}
        }
        assert!(links.len() <= 1, "two links to one peer at once: {heard:?}");
    }
    links
}

async fn dial_each_other(over: &Over, config: Config, round: u64) {
    let mut a = over.node(1, config.clone()).await;
    let mut b = over.node(2, config).await;
    let both = [(&a, b.id(), b.address()), (&b, a.id(), a.address())];
    for (node, peer, address) in both {
        // Whoever dials first has a head start of what a dial costs: let it be either.
        let target = match round % 3 {
            0 => Target::Address(address),
            _ => Target::Peer { peer, addresses: vec![address] },
        };
        toy::dial(&node.toy, 1, target);
    }
    let (at_a, at_b) = (a.address(), b.address());
    let (by_a, by_b) = tokio::join!(
        within("a's application", a.endpoint.connect(&at_b)),
        within("b's application", b.endpoint.connect(&at_a)),
    );
    assert_eq!((by_a.unwrap(), by_b.unwrap()), (peer(2), peer(1)), "round {round}");

    let mut answers = Vec::new();
    let mut all = Vec::new();
    for node in [&mut a, &mut b] {
        let mut heard = Vec::new();
        let answer = node
            .expect("the dial's end", |next| {
                heard.push(next.clone());
                match next {
                    Heard::Event(Event::Dialed(_, link)) => Some(Ok(*link)),
                    Heard::Event(Event::DialFailed(_, why)) => Some(Err(why.clone())),
                    _ => None,
                }
            })
            .await;
        answers.push(answer.unwrap_or_else(|why| panic!("round {round}: {why}")));
        all.push(heard);
    }
    connections(&a.endpoint, 1).await;
    connections(&b.endpoint, 1).await;
    let mut survivors = Vec::new();
    for (node, heard) in [&mut a, &mut b].into_iter().zip(&mut all) {
        heard.extend(node.pending());
        let links = links_up(heard);
        assert_eq!(links.len(), 1, "round {round}: {heard:#?}");
        let snapshot = node.snapshot();
        assert_eq!((snapshot.links[0].link, snapshot.links[0].is_up), (links[0], true));
        survivors.push((links[0], snapshot.links[0].direction));
        let answers = heard
            .iter()
            .filter(|heard| matches!(heard, Heard::Event(Event::Dialed(..) | Event::DialFailed(..))));
        assert_eq!(answers.count(), 1, "round {round}: each dial ends once");
    }
    assert_ne!(survivors[0].1, survivors[1].1, "both ends keep the same connection");
    // And it carries messages.
    toy::send(&a.toy, survivors[0].0, "ping");
    assert_eq!(b.got().await, (survivors[1].0, "ping".into()));
    toy::send(&b.toy, survivors[1].0, "pong");
    assert_eq!(a.got().await, (survivors[0].0, "pong".into()));
}

#[tokio::test]
async fn when_both_dial_at_once_one_link_stays_and_both_agree_which() {
    for over in Over::both() {
        for round in 0..40 {
            let shards = if round % 2 == 0 { Shards::Threads(2) } else { Shards::Threads(1) };
            dial_each_other(&over, config(|config| config.shards = shards), round).await;
        }
    }
    for round in 0..10 {
        dial_each_other(&Over::memory(), ambient(), round).await;
    }
}

/// A link that the smaller key dialled, so that it would stay if the other dialled too; the other gives it up early.
async fn half_open(over: &Over) -> (Node, LinkId, Node, Valve) {
    let Over::Memory(transport) = over else { panic!("memory") };
    let (small, large) = if peer(1) < peer(2) { (1, 2) } else { (2, 1) };
    let mut a = over.node(small, ambient()).await;
    let quick_to_notice = config(|config| {
        config.shards = Shards::Ambient;
        config.link.silent_after = Duration::from_secs(6);
    });
    let mut b = over.node(large, quick_to_notice).await;
    let valve = Valve::between(transport, &b.address()).await;
    a.endpoint.connect(&valve.address()).await.unwrap();
    let (at_a, _) = a.up().await;
    let (at_b, _) = b.up().await;
    valve.shut();
    // B gives the link up first; A would notice only after 15 s.
    assert!(matches!(b.down(at_b).await, Why::Silent { .. }));
    assert!(a.pending().iter().all(|heard| !matches!(heard, Heard::Event(Event::Down(..)))));
    (a, at_a, b, valve)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_lost_the_link_takes_the_place_of_its_ghost_within_a_second() {
    let over = Over::memory();
    let (mut a, ghost, mut b, _valve) = half_open(&over).await;
    let began = tokio::time::Instant::now();
    assert_eq!(b.endpoint.connect(&a.address()).await.unwrap(), a.id());
    assert!(began.elapsed() < Duration::from_millis(1100), "{:?}", began.elapsed());
    assert_eq!(a.down(ghost).await, Why::Silent { after: Duration::from_secs(1) });
    let (at_a, info) = a.up().await;
    assert_eq!(info.peer, b.id());
    let (at_b, _) = b.up().await;
    toy::send(&a.toy, at_a, "there you are");
    assert_eq!(b.got().await, (at_b, "there you are".into()));
    connections(&a.endpoint, 1).await;
    connections(&b.endpoint, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_dial_at_an_address_finds_a_ghost_out_too() {
    let over = Over::memory();
    let (mut a, ghost, mut b, _valve) = half_open(&over).await;
    // A believes that it has a link. Whoever is at the address it does not know until it has asked.
    assert_eq!(a.endpoint.connect(&b.address()).await.unwrap(), b.id());
    assert_eq!(a.down(ghost).await, Why::Silent { after: Duration::from_secs(1) });
    a.up().await;
    b.up().await;
    connections(&a.endpoint, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_whose_peer_answers_is_not_given_up_for_another() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let (small, large) = if peer(1) < peer(2) { (1, 2) } else { (2, 1) };
    let mut a = over.node(small, ambient()).await;
    let mut b = over.node(large, ambient()).await;
    let (at_a, _) = linked(&mut a, &mut b).await;
    // Somebody passes B's dial on too late: A sees it when there is a link.
    let valve = Valve::between(transport, &a.address()).await;
    for _ in 0..5 {
        assert_eq!(b.endpoint.connect(&valve.address()).await.unwrap(), a.id());
        connections(&a.endpoint, 1).await;
    }
    assert_eq!(a.snapshot().links[0].link, at_a);
    assert!(!a.pending().iter().any(|heard| matches!(heard, Heard::Event(Event::Down(..)))));
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_is_cancelled_holds_nothing() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let a = over.node(1, ambient()).await;
    let b = over.node(2, ambient()).await;
    let valve = Valve::between(transport, &b.address()).await;
    // Nothing passes while somebody waits for it, and then everything.
    valve.shut();
    let patience = Duration::from_millis(100);
    assert!(tokio::time::timeout(patience, a.endpoint.connect(&valve.address())).await.is_err());
    valve.open();
    common::eventually("the link", || match a.snapshot().totals.links_up {
        1 => Ok(()),
        links => Err(format!("{links}")),
    })
    .await;
    ended(&a.endpoint, "unheld", 1).await;
    connections(&a.endpoint, 0).await;

    // Another's hold is its own.
    let address = b.address();
    a.endpoint.connect(&address).await.unwrap();
    drop(a.endpoint.connect(&address));
    let mut again = Box::pin(a.endpoint.connect(&address));
    assert!(futures_poll(&mut again).await.is_none(), "it has begun");
    drop(again);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(a.snapshot().links.iter().any(|link| link.is_up && link.is_held));
}

/// Polls once.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_nobody_waits_for_tries_no_more_addresses() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let a = over.node(1, ambient()).await;
    let address = over.address();
    let _listener = peerage_net::Transport::listen(transport, &address).await.unwrap();
    let mut fill = Vec::new();
    for _ in 0..128 {
        fill.push(peerage_net::Transport::dial(transport, &address).await.unwrap());
    }
    let patience = Duration::from_millis(100);
    assert!(tokio::time::timeout(patience, a.endpoint.connect(&address)).await.is_err());
    drop(fill);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(a.snapshot().totals.ended.is_empty(), "it never became a connection");
}

#[tokio::test]
async fn a_peer_that_lives_and_never_answers_an_offer_ends_the_dial_in_the_handshakes_time() {
    let short = config(|config| config.link.handshake_timeout = Duration::from_millis(300));
    let a = Over::Tcp.endpoint(1, short).await;
    let key = common::identity(66);
    let mut stranger = Stranger::up(&a.addresses()[0], &key, &hello(&key)).await;
    // Hosted after the link came up: it takes an `Open`, of which the stranger says nothing, though it pongs.
    let mut a = Node::new(a, "toy", Toy::default());
    let pongs = tokio::spawn(async move {
        let mut opened = 0;
        while let Some(kind) = stranger.read_control().await {
            match kind {
                Kind::Ping(ping) => stranger.control(Kind::Pong(Pong { nonce: ping.nonce })).await,
                Kind::Open(_) => opened += 1,
                _ => {}
            }
        }
        opened
    });
    toy::dial_peer(&a.toy, 1, key.peer_id(), Vec::new());
    let why = a.dialed(1).await.unwrap_err();
    let what = "the peer's word on an offered instance";
    assert_eq!(why, Why::TimedOut { what, after: Duration::from_millis(300) });
    assert!(a.snapshot().links.iter().any(|link| link.is_up), "the link is none the worse");
    a.endpoint.close().await;
    assert_eq!(pongs.await.unwrap(), 1);
}

#[tokio::test]
async fn a_dial_for_a_link_that_ends_meanwhile_falls_back_on_its_addresses() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    for round in 0..20 {
        let (link, _) = linked(&mut a, &mut b).await;
        // The peer closes, and is dialled while it does.
        b.endpoint.close().await;
        toy::dial_peer(&a.toy, round, b.id(), vec![b.address()]);
        a.down(link).await;
        // Answered, with whatever is true.
        let mut answer = None;
        for heard in a.pending() {
            match heard {
                Heard::Event(Event::DialFailed(dial, why)) if dial.0 == round => answer = Some(why),
                Heard::Event(Event::Dialed(..)) => panic!("there is no link"),
                _ => {}
            }
        }
        let why = match answer {
            Some(why) => why,
            None => a.dialed(round).await.unwrap_err(),
        };
        assert!(matches!(why, Why::Unreachable { .. } | Why::Lost(_) | Why::Shutdown { .. }), "{why}");
        let again = over.builder(2).listen(b.address()).bind().await.unwrap();
        b = Node::new(again, "toy", Toy::default());
    }
}
