//! Links that are dialled again when they end, or not, and why.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::time::Duration;

use common::stranger::{Stranger, hello};
use common::valve::Valve;
use common::{Node, Over, Toy, config, connections, identity, peer, spec, toy, within};
use peerage_machine::{Effect, Side, Why};
use peerage_net::{BackoffConfig, Config, Endpoint, LinkState, Maintained, OnReturn, Shards};
use peerage_wire::Address;
use peerage_wire::proto::link::v1::Goodbye;
use peerage_wire::proto::link::v1::control::Kind;
use peerage_wire::proto::link::v1::goodbye::Code;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

fn ambient() -> Config {
    config(|config| config.shards = Shards::Ambient)
}

/// What it waits for, when it does next.
async fn waiting(link: &mut Maintained) -> (Why, u32, Duration) {
    within("a wait", async {
        loop {
            match link.changed().await {
                LinkState::Waiting { why, waits, next_in } => return (why, waits, next_in),
                LinkState::GivenUp { why } => panic!("given up: {why}"),
                _ => {}
            }
        }
    })
    .await
}

async fn given_up(link: &mut Maintained) -> Why {
    within("the end of it", async {
        loop {
            if let LinkState::GivenUp { why } = link.changed().await {
                return why;
            }
        }
    })
    .await
}

async fn up(link: &mut Maintained) -> peerage_wire::PeerId {
    within("a link", link.up()).await.unwrap()
}

async fn again(over: &Over, seed: u8, at: &Address, config: Config) -> Endpoint {
    over.builder(seed).listen(at.clone()).config(config).bind().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_back_is_found_again_whatever_it_said_when_it_went() {
    let over = Over::memory();
    let a = over.node(1, ambient()).await;
    let mut b = over.endpoint(2, ambient()).await;
    let at = b.addresses()[0].clone();
    let mut link = a.endpoint.maintain(&at);
    assert_eq!(up(&mut link).await, peer(2));
    for round in 0..6 {
        sleep(Duration::from_secs(20)).await;
        if round % 2 == 0 {
            b.close().await;
        }
        drop(b);
        let (why, waits, next_in) = waiting(&mut link).await;
        let expected = match round % 2 {
            0 => matches!(why, Why::Shutdown { by: Side::Them, .. }),
            _ => matches!(why, Why::Lost(_)),
        };
        assert!(expected, "{why}");
        assert_eq!(waits, 1, "the link was up long enough to begin anew");
        assert!(next_in <= Duration::from_millis(100), "{next_in:?}");
        sleep(Duration::from_millis(300)).await;
        b = again(&over, 2, &at, ambient()).await;
        let back = Instant::now();
        assert_eq!(up(&mut link).await, peer(2));
        assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stays_away_is_dialled_ever_more_seldom_up_to_the_cap() {
    let over = Over::memory();
    let a = over.node(1, ambient()).await;
    let nobody = over.address();
    let mut link = a.endpoint.maintain(&nobody);
    let config = BackoffConfig::default();
    for n in 1..=20_u32 {
        let (why, waits, next_in) = waiting(&mut link).await;
        assert!(matches!(&why, Why::Unreachable { address, .. } if *address == nobody), "{why}");
        assert_eq!(waits, n);
        assert!(next_in <= config.cap.min(config.first * 2_u32.pow(n - 1)), "{n}: {next_in:?}");
        assert_eq!(a.snapshot().totals.dials, u64::from(n), "one dial a wait");
        let began = Instant::now();
        within("the next dial", async {
            while !matches!(link.state(), LinkState::Dialling { waits } if waits == n) {
                link.changed().await;
                if matches!(link.state(), LinkState::Waiting { waits, .. } if waits > n) {
                    break;
                }
            }
        })
        .await;
        let waited = began.elapsed();
        assert!(
            waited >= next_in && waited < next_in + Duration::from_millis(5),
            "{waited:?} for {next_in:?}"
        );
        if matches!(link.state(), LinkState::Waiting { .. }) {
            break;
        }
    }
    // It appears at last, and whoever knows that need not wait.
    let _b = again(&over, 2, &nobody, ambient()).await;
    waiting_or_up(&mut link).await;
    let before = Instant::now();
    link.hurry();
    assert_eq!(up(&mut link).await, peer(2));
    assert!(before.elapsed() < Duration::from_millis(100), "{:?}", before.elapsed());
}

async fn waiting_or_up(link: &mut Maintained) {
    within("a wait", async {
        while matches!(link.state(), LinkState::Dialling { .. }) {
            link.changed().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_link_is_dialled_again_at_the_address_that_worked() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let a = over.node(1, ambient()).await;
    let b = over.node(2, ambient()).await;
    let valve = Valve::between(transport, &b.address()).await;
    let mut link = a.endpoint.maintain_to(b.id(), &[over.address(), valve.address()]);
    up(&mut link).await;
    valve.shut();
    // The address that worked is still tried first, and takes the time of a handshake; then B's own serves.
    let (why, ..) = waiting(&mut link).await;
    assert_eq!(why, Why::Silent { after: Duration::from_secs(15) });
    assert_eq!(up(&mut link).await, b.id());
    let snapshot = a.snapshot();
    let found: Vec<_> = snapshot.links.iter().filter(|link| link.is_up).map(|link| &link.remote).collect();
    assert_eq!(found, [&b.address()]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_by_itself_ends_the_wait() {
    let over = Over::memory();
    let slow = config(|config| {
        config.shards = Shards::Ambient;
        config.redial.first = Duration::from_secs(1000);
        config.redial.cap = Duration::from_secs(1000);
    });
    let a = over.node(1, slow).await;
    // Nobody knows where it listens.
    let mut link = a.endpoint.maintain_to(peer(2), &[]);
    let (why, ..) = waiting(&mut link).await;
    assert_eq!(why, Why::NoAddress);
    let began = Instant::now();
    let mut b = over.node(2, ambient()).await;
    toy::dial_peer(&b.toy, 1, a.id(), vec![a.address()]);
    assert_eq!(up(&mut link).await, peer(2));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // And A holds it, though B does not.
    let at_b = b.dialed(1).await.unwrap();
    toy::want(&b.toy, Effect::Release(at_b));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(link.state(), LinkState::Up { peer: peer(2) });
}

#[tokio::test(start_paused = true)]
async fn dropping_it_lets_the_link_go_and_ends_the_dials() {
    let over = Over::memory();
    let a = over.node(1, ambient()).await;
    let b = over.node(2, ambient()).await;
    let mut link = a.endpoint.maintain(&b.address());
    up(&mut link).await;
    drop(link);
    connections(&a.endpoint, 0).await;
    assert_eq!(a.snapshot().totals.ended.get("unheld"), Some(&1));

    let mut link = a.endpoint.maintain(&over.address());
    waiting(&mut link).await;
    drop(link);
    let dials = a.snapshot().totals.dials;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(a.snapshot().totals.dials, dials);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_closes_gives_its_links_up() {
    let over = Over::memory();
    let shut_down = Why::Shutdown { by: Side::Us, detail: String::new() };
    let a = over.endpoint(1, ambient()).await;
    let b = over.node(2, ambient()).await;
    let (mut held, mut waits) = (a.maintain(&b.address()), a.maintain(&over.address()));
    up(&mut held).await;
    waiting(&mut waits).await;
    a.close().await;
    assert_eq!(given_up(&mut held).await, shut_down);
    assert_eq!(given_up(&mut waits).await, shut_down);
    assert_eq!(a.maintain(&b.address()).state(), LinkState::GivenUp { why: shut_down.clone() });
}

#[tokio::test]
async fn an_endpoint_that_is_dropped_gives_its_links_up() {
    let shut_down = Why::Shutdown { by: Side::Us, detail: String::new() };
    let c = Over::Tcp.endpoint(3, Config::default()).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut waits = c.maintain(&Address::tcp(nobody));
    waiting(&mut waits).await;
    drop(c);
    assert_eq!(within("the end", waits.up()).await.unwrap_err(), shut_down);
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_given_up_at_once_with_the_reason() {
    let over = Over::memory();
    let a = over.node(1, ambient()).await;
    let other = Node::new(over.endpoint(2, ambient()).await, "something else", Toy::default());
    let dials = [
        (a.endpoint.maintain(&other.address()), "refused"),
        (a.endpoint.maintain(&a.address()), "self_dial"),
        (a.endpoint.maintain_to(peer(9), &[other.address()]), "wrong_peer"),
        (a.endpoint.maintain(&"pigeon://here".parse().unwrap()), "no_transport"),
    ];
    for (mut link, expected) in dials {
        let why = within("the end", link.up()).await.unwrap_err();
        assert_eq!(why.label(), expected, "{why}");
        assert_eq!(given_up(&mut link).await, why, "and it stays so");
    }
    let dialled = a.snapshot().totals.dials;
    sleep(Duration::from_secs(100)).await;
    assert_eq!(a.snapshot().totals.dials, dialled);
}

#[tokio::test(start_paused = true)]
async fn one_address_that_may_pass_is_enough_to_go_on() {
    let over = Over::memory();
    let a = over.node(1, ambient()).await;
    let wrong = over.node(2, ambient()).await;
    let later = over.address();
    let mut link = a.endpoint.maintain_to(peer(3), &[wrong.address(), later.clone()]);
    let (why, ..) = waiting(&mut link).await;
    assert!(matches!(&why, Why::Unreachable { address, .. } if *address == later), "{why}");
    let _right = again(&over, 3, &later, ambient()).await;
    assert_eq!(up(&mut link).await, peer(3));
}

#[tokio::test(start_paused = true)]
async fn an_address_is_kept_to_whoever_is_there_and_a_peer_to_wherever_it_is() {
    let over = Over::memory();
    let a = over.node(1, ambient()).await;
    let b = over.endpoint(2, ambient()).await;
    let at = b.addresses()[0].clone();
    let (mut by_address, mut by_peer) =
        (a.endpoint.maintain(&at), a.endpoint.maintain_to(peer(2), std::slice::from_ref(&at)));
    up(&mut by_address).await;
    up(&mut by_peer).await;
    assert_eq!(a.snapshot().totals.links_up, 1, "both hold one link");
    // Somebody else moves in. The peer that was there is nowhere.
    b.close().await;
    let _c = again(&over, 3, &at, ambient()).await;
    assert_eq!(up(&mut by_address).await, peer(3));
    let why = within("the end", async {
        loop {
            if let LinkState::GivenUp { why } | LinkState::Waiting { why, .. } = by_peer.state()
                && matches!(why, Why::WrongPeer { .. })
            {
                return why;
            }
            by_peer.changed().await;
        }
    })
    .await;
    assert_eq!(why, Why::WrongPeer { expected: peer(2), found: peer(3) });
}

#[tokio::test(start_paused = true)]
async fn a_link_that_flaps_is_dialled_more_and_more_seldom() {
    let over = Over::memory();
    let a = over.node(1, ambient()).await;
    let at = over.address();
    let mut b = again(&over, 2, &at, ambient()).await;
    let mut link = a.endpoint.maintain(&at);
    let mut counts = Vec::new();
    for _ in 0..5 {
        up(&mut link).await;
        // Too short to be called stable.
        sleep(Duration::from_secs(1)).await;
        drop(b);
        counts.push(waiting(&mut link).await.1);
        b = again(&over, 2, &at, ambient()).await;
    }
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn the_application_moves_with_a_peer_that_restarts_and_gives_way_to_another_of_its_own_key() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let a = over.node(1, ambient()).await;
    let b = over.endpoint(2, ambient()).await;
    let valve = Valve::between(transport, &b.addresses()[0]).await;
    let mut link = a.endpoint.maintain_to(peer(2), &[valve.address()]);
    up(&mut link).await;
    let mut at_b = b.maintain_to(a.id(), &[a.address()]);
    up(&mut at_b).await;
    // B falls without a word and comes back by itself: A's application has the new link, without a wait.
    valve.shut();
    let reborn = over.endpoint(2, ambient()).await;
    reborn.connect(&a.address()).await.unwrap();
    assert!(matches!(link.changed().await, LinkState::Dialling { waits: 0 } | LinkState::Up { .. }));
    assert_eq!(up(&mut link).await, peer(2));
    let snapshot = a.snapshot();
    let held: Vec<_> = snapshot.links.iter().filter(|link| link.is_up && link.is_held).collect();
    assert_eq!(held.len(), 1, "{snapshot:#?}");
    // What was B before learns that another start of it has its place, and does not fight for it.
    valve.open();
    assert_eq!(given_up(&mut at_b).await, Why::Superseded);
}

#[tokio::test]
async fn a_peer_at_its_limit_is_dialled_again() {
    let over = Over::Tcp;
    let a = over.endpoint(1, Config::default()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::tcp(listener.local_addr().unwrap());
    // A peer by hand, which takes the link and says goodbye for want of room.
    let b = over.endpoint(2, Config::default()).await;
    let key = identity(7);
    let mut link = b.maintain_to(key.peer_id(), &[address]);
    let mut crowded = Stranger::up(&b.addresses()[0], &key, &hello(&key)).await;
    up(&mut link).await;
    let code = Code::Limit.into();
    crowded.control(Kind::Goodbye(Goodbye { code, detail: "4096 links".to_owned() })).await;
    let (why, waits, _) = waiting(&mut link).await;
    assert_eq!((why, waits), (Why::Limit { by: Side::Them, what: "4096 links".to_owned() }, 1));
    drop(listener);
    a.close().await;
}

#[tokio::test]
async fn over_tcp_a_peer_that_is_killed_is_back_within_a_second_of_its_return() {
    let over = Over::Tcp;
    let mut a = over.node(1, Config::default()).await;
    let b = over.endpoint(2, Config::default()).await;
    let at = b.addresses()[0].clone();
    let mut b = Node::new(b, "toy", Toy::default());
    let mut link = a.endpoint.maintain(&at);
    up(&mut link).await;
    a.up().await;
    b.up().await;
    drop(b);
    waiting(&mut link).await;
    let back = std::time::Instant::now();
    let mut b = Node::new(again(&over, 2, &at, Config::default()).await, "toy", Toy::default());
    assert_eq!(up(&mut link).await, peer(2));
    let took = back.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (at_a, _) = a.up().await;
    b.up().await;
    toy::send(&a.toy, at_a, "welcome back");
    assert_eq!(b.got().await.1, "welcome back");
}

#[tokio::test(start_paused = true)]
async fn a_maintained_link_moves_also_where_an_instance_keeps_the_old_one() {
    let over = Over::memory();
    let mut coexist = spec("toy");
    coexist.on_return = OnReturn::Coexist;
    let mut a = Node::with_spec(over.endpoint(1, ambient()).await, coexist, Toy::default());
    let first = over.node(2, ambient()).await;
    let mut link = a.endpoint.maintain(&first.address());
    up(&mut link).await;
    let (old, _) = a.up().await;
    let mut second = over.node(2, ambient()).await;
    toy::dial_peer(&second.toy, 1, a.id(), vec![a.address()]);
    let (new, _) = a.up().await;
    assert_ne!(old, new);
    second.dialed(1).await.unwrap();
    up(&mut link).await;
    let held = |at| a.endpoint.snapshot().links.iter().any(|link| link.link == at && link.is_held);
    common::eventually(
        "the hold to move",
        || if held(new) && !held(old) { Ok(()) } else { Err(String::new()) },
    )
    .await;
}
