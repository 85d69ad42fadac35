//! How an endpoint begins and ends.

mod common;

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use common::{
    Event, Heard, Node, Over, Toy, ToySink, config, error_of, linked, no_connections, peer, spec, toy,
};
use peerage_identity::Identity;
use peerage_machine::{Class, Side, Target, Why};
use peerage_net::{BindError, Closed, Config, Endpoint, HostError, Shards};
use peerage_wire::Address;

fn shut_down(by: Side) -> Why {
    Why::Shutdown { by, detail: String::new() }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_kind_of_error() {
    for over in Over::both() {
        let first = over.endpoint(1, Config::default()).await;
        let address = first.addresses().first().unwrap().clone();
        let second = over.builder(2).listen(over.address()).listen(address.clone()).bind().await;
        let BindError::Listen { address: named, kind, detail } = error_of(second) else {
            panic!("another error")
        };
        assert_eq!((named, kind), (address, ErrorKind::AddrInUse));
        assert!(!detail.is_empty());
    }
}

#[tokio::test]
async fn a_scheme_without_a_transport_is_named_with_those_that_there_are() {
    let address: Address = "carrier://pigeon".parse().unwrap();
    let error = error_of(Over::memory().builder(1).listen(address.clone()).bind().await);
    assert_eq!(error, BindError::NoTransport(address.clone(), "mem, tcp".to_owned()));

    let endpoint = Over::Tcp.endpoint(1, Config::default()).await;
    let error = endpoint.connect(&address).await.unwrap_err();
    assert_eq!((error.to, error.why), (address.clone(), Why::NoTransport(address)));
}

#[tokio::test]
async fn an_endpoint_without_an_identity_is_none() {
    assert_eq!(error_of(Endpoint::builder().bind().await), BindError::NoIdentity);
}

#[tokio::test]
async fn what_would_not_fit_a_hello_is_refused_at_once() {
    let software = config(|config| config.software = "x".repeat(129));
    let error = error_of(Over::Tcp.builder(1).config(software).bind().await);
    assert!(matches!(error, BindError::Hello(_)), "{error:?}");

    let endpoint = Over::Tcp.endpoint(1, Config::default()).await;
    let mut long = spec("toy");
    long.parameters = Bytes::from(vec![0; 1025]);
    let error = error_of(endpoint.host(long, |_| Toy::default(), ToySink::new().0));
    assert!(matches!(error, HostError::Hello(_)), "{error:?}");
    // And nothing of it stays.
    endpoint.host(spec("toy"), |_| Toy::default(), ToySink::new().0).unwrap();
}

#[tokio::test]
async fn closing_frees_the_address_at_once() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        linked(&mut b, &mut a).await;
        let address = a.address();
        a.endpoint.close().await;
        let again = over.builder(3).listen(address.clone()).bind().await.unwrap();
        assert_eq!(again.addresses(), [address]);
    }
}

#[tokio::test]
async fn closing_says_how_many_links_there_were_and_the_peers_hear_why() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let mut c = over.node(3, Config::default()).await;
        let (_, at_b) = linked(&mut a, &mut b).await;
        let (_, at_c) = linked(&mut a, &mut c).await;
        let report = a.endpoint.close().await;
        assert_eq!((report.links, report.links_cut, report.messages_cut, report.bytes_cut), (2, 0, 0, 0));
        assert!(report.to_string().starts_with("closed 2 links in "), "{report}");
        assert_eq!(b.down(at_b).await, shut_down(Side::Them));
        assert_eq!(c.down(at_c).await, shut_down(Side::Them));
        assert!(a.snapshot().links.is_empty());
        no_connections(&b.endpoint).await;
    }
}

#[tokio::test]
async fn a_second_close_gives_the_report_of_the_first() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    linked(&mut a, &mut b).await;
    let (first, at_the_same_time) = tokio::join!(a.endpoint.close(), a.endpoint.close());
    assert_eq!(first.links, 1);
    assert_eq!(at_the_same_time, first);
    assert_eq!(a.endpoint.clone().close().await, first);
}

#[tokio::test]
async fn the_machine_hears_its_links_end_and_then_the_sink_that_it_is_closed() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let (link, _) = linked(&mut a, &mut b).await;
    a.endpoint.close().await;
    assert_eq!(a.down(link).await, shut_down(Side::Us));
    a.expect("the end", |heard| matches!(heard, Heard::Closed).then_some(())).await;
    assert!(a.pending().is_empty(), "nothing follows the end");
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_links_of_peers() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let (_, link) = linked(&mut a, &mut b).await;
        let address = a.address();
        let Node { endpoint, toy, .. } = a;
        drop(endpoint);
        // The instance's handle keeps it alive.
        toy::send(&toy, common::connections_of(&toy)[0], "still here");
        assert_eq!(b.got().await.1, "still here");
        drop(toy);
        let why = b.down(link).await;
        assert!(matches!(why, Why::Lost(_) | Why::Shutdown { by: Side::Them, .. }), "{why}");
        no_connections(&b.endpoint).await;
        over.builder(3).listen(address).bind().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn closing_lets_a_slow_reader_have_what_is_queued() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let ambient = config(|config| config.shards = Shards::Ambient);
    let mut a = over.node(1, ambient.clone()).await;
    let mut b = over.node(2, ambient).await;
    let valve = common::valve::Valve::between(transport, &b.address()).await;
    a.endpoint.connect(&valve.address()).await.unwrap();
    let (link, _) = a.up().await;
    b.up().await;
    valve.shut();
    // More than what connections hold, within the queue.
    for number in 0..100_u8 {
        toy::send(&a.toy, link, vec![number; 10_000]);
    }
    // Nothing passes for most of the grace, which is 2 s.
    let close = async {
        let report = a.endpoint.close().await;
        assert_eq!((report.links, report.links_cut, report.messages_cut), (1, 0, 0), "{report}");
        assert!(report.took >= Duration::from_millis(1800), "{report}");
    };
    let open = async {
        tokio::time::sleep(Duration::from_millis(1800)).await;
        valve.open();
    };
    tokio::join!(close, open);
    for number in 0..100_u8 {
        let (_, body) = b.got().await;
        assert_eq!((body.len(), body[0]), (10_000, number));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_cuts_off_who_does_not_read_after_the_grace_and_says_what_that_was() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let ambient = config(|config| {
        config.shards = Shards::Ambient;
        config.close_grace = Duration::from_secs(3);
    });
    let mut a = over.node(1, ambient.clone()).await;
    // Between the two, somebody who stops carrying bytes.
    let mut b = over.node(2, ambient).await;
    let valve = common::valve::Valve::between(transport, &b.address()).await;
    a.endpoint.connect(&valve.address()).await.unwrap();
    let (link, _) = a.up().await;
    b.up().await;
    valve.shut();
    for _ in 0..100 {
        toy::send(&a.toy, link, vec![1; 10_000]);
    }
    let before = tokio::time::Instant::now();
    let report = a.endpoint.close().await;
    assert_eq!((report.links, report.links_cut), (1, 1), "{report}");
    assert!(report.took >= Duration::from_secs(3) && before.elapsed() < Duration::from_secs(4), "{report}");
    // All but what was sealed ahead (128 KiB), what the pipe holds (64 KiB) and what was in the valve's hands.
    let sent = report.bytes_cut;
    assert!((700_000..1_010_000).contains(&sent), "{report}");
    assert!((70..=100).contains(&report.messages_cut), "{report}");
    assert!(a.snapshot().links.is_empty());
    assert_eq!(a.down(link).await, shut_down(Side::Us));
}

#[tokio::test]
async fn an_instance_is_hosted_once() {
    let endpoint = Over::Tcp.endpoint(1, Config::default()).await;
    let first = endpoint.host(spec("toy"), |_| Toy::default(), ToySink::new().0).unwrap();
    let mut other_version = spec("toy");
    other_version.version = 2;
    let error = error_of(endpoint.host(other_version, |_| Toy::default(), ToySink::new().0));
    assert_eq!(error, HostError::Taken(spec("toy").name));
    endpoint.host(spec("another"), |_| Toy::default(), ToySink::new().0).unwrap();
    assert_eq!(endpoint.snapshot().instances, [r#"toy "toy""#, r#"toy "another""#]);
    // Its name is free when it has ended.
    first.close();
    endpoint.host(spec("toy"), |_| Toy::default(), ToySink::new().0).unwrap();
}

#[tokio::test]
async fn a_closed_endpoint_hosts_nothing_calls_nothing_and_dials_nobody() {
    let over = Over::memory();
    let node = over.node(1, Config::default()).await;
    node.endpoint.close().await;
    let error = error_of(node.endpoint.host(spec("late"), |_| Toy::default(), ToySink::new().0));
    assert_eq!(error, HostError::Closed);
    assert_eq!(node.toy.call(|_, _, _| ()), Err(Closed));
    let address = over.address();
    let error = node.endpoint.connect(&address).await.unwrap_err();
    assert_eq!((error.to, error.why), (address, shut_down(Side::Us)));
}

#[tokio::test(start_paused = true)]
async fn dials_on_their_way_end_when_the_endpoint_closes() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let node = over.node(1, config(|config| config.shards = Shards::Ambient)).await;
    // A listener that takes connections and says nothing.
    let stalled = common::valve::Stalled::listen(transport).await;
    let endpoint = node.endpoint.clone();
    let address = stalled.address();
    let dial = tokio::spawn(async move { endpoint.connect(&address).await });
    common::connections(&node.endpoint, 1).await;
    let report = node.endpoint.close().await;
    assert_eq!(report.links, 0, "it was no link yet");
    assert_eq!(dial.await.unwrap().unwrap_err().why, shut_down(Side::Us));
    assert!(node.snapshot().links.is_empty());
}

#[tokio::test]
async fn an_endpoint_that_listens_nowhere_still_dials() {
    for over in Over::both() {
        let listener = over.node(1, Config::default()).await;
        let dialer = over.builder(2).bind().await.unwrap();
        assert!(dialer.addresses().is_empty());
        assert_eq!(dialer.connect(&listener.address()).await.unwrap(), peer(1));
    }
}

#[tokio::test]
async fn closing_an_instance_ends_it_for_the_peer_and_later_ones_of_the_name_come_up() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let (_, at_b) = linked(&mut a, &mut b).await;
    a.toy.close();
    assert_eq!(a.toy.call(|_, _, _| ()), Err(Closed));
    let why = b.down(at_b).await;
    assert!(matches!(&why, Why::ChannelClosed { by: Side::Them, .. }), "{why}");
    let mut again = Node::new(a.endpoint.clone(), "toy", Toy::default());
    let (link, info) = again.up().await;
    assert_eq!(info.peer, b.id());
    b.up().await;
    toy::send_as(&again.toy, link, "hello again", Class::Bulk, None);
    assert_eq!(b.got().await.1, "hello again");
    assert_eq!(a.endpoint.snapshot().links.len(), 1, "the link is the same");
}

#[tokio::test]
async fn a_dial_for_an_instance_that_the_peer_has_closed_says_so() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let (link, _) = linked(&mut a, &mut b).await;
    b.toy.close();
    a.down(link).await;
    toy::dial(&a.toy, 1, Target::Peer { peer: b.id(), addresses: Vec::new() });
    let why = a.dialed(1).await.unwrap_err();
    assert!(matches!(why, Why::ChannelClosed { by: Side::Them, .. }), "{why}");
}

#[tokio::test]
async fn a_machine_that_closed_its_channel_can_have_it_again() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let (link, at_b) = linked(&mut a, &mut b).await;
    let why = Why::ChannelClosed { by: Side::Us, detail: "enough".to_owned() };
    toy::want(&a.toy, peerage_machine::Effect::CloseChannel { link, why: why.clone() });
    toy::dial(&a.toy, 1, Target::Peer { peer: b.id(), addresses: Vec::new() });
    assert_eq!(a.down(link).await, why);
    assert!(
        matches!(b.down(at_b).await, Why::ChannelClosed { by: Side::Them, detail } if detail.contains("enough"))
    );
    assert_eq!(
        a.event("the dial's end", |event| match event {
            Event::Dialed(_, link) => Some(*link),
            _ => None,
        })
        .await,
        link
    );
    b.up().await;
}

#[tokio::test]
async fn identities_are_generated_apart() {
    let (a, b) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let a = Endpoint::builder().identity(a).bind().await.unwrap();
    let b = Endpoint::builder().identity(b).bind().await.unwrap();
    assert_ne!(a.peer_id(), b.peer_id());
    assert_ne!(a.incarnation(), b.incarnation());
}
