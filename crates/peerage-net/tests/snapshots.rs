//! What there is to see of an endpoint.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::valve::Valve;
use common::{Node, Over, Toy, config, connections, ended, eventually, linked, toy};
use peerage_machine::Direction;
use peerage_net::{Config, Snapshot};

#[tokio::test]
async fn a_new_endpoint_has_nothing_to_show_but_itself() {
    let over = Over::Tcp;
    let node = over.node(1, Config::default()).await;
    let snapshot = node.snapshot();
    assert_eq!(snapshot.peer, node.id());
    assert_eq!(snapshot.addresses, [node.address()]);
    assert_eq!(snapshot.instances, [r#"toy "toy""#]);
    assert!(snapshot.links.is_empty() && snapshot.observed.is_empty());
    let totals = snapshot.totals;
    let numbers = [
        totals.bytes_sent,
        totals.bytes_received,
        totals.messages_sent,
        totals.messages_received,
        totals.links_up,
        totals.dials,
        totals.accepted,
    ];
    assert_eq!(numbers, [0; 7]);
    assert!(totals.dropped.is_empty() && totals.ended.is_empty() && totals.counted.is_empty());
}

/// Until both ends have read what the other has written.
async fn settled(a: &Node, b: &Node) -> (Snapshot, Snapshot) {
    eventually("equal counters", || {
        let (a, b) = (a.snapshot(), b.snapshot());
        let settled = a.totals.bytes_sent == b.totals.bytes_received
            && b.totals.bytes_sent == a.totals.bytes_received
            && a.totals.messages_sent == b.totals.messages_received
            && b.totals.messages_sent == a.totals.messages_received;
        if settled { Ok((a, b)) } else { Err(format!("{a:#?} {b:#?}")) }
    })
    .await
}

#[tokio::test]
async fn both_ends_count_the_same_bytes_and_messages() {
    for over in Over::both() {
        let a = over.endpoint(1, config(|config| config.software = "a test".to_owned())).await;
        let mut a = Node::new(a, "toy", Toy::default());
        let mut b = over.node(2, Config::default()).await;
        let (link, at_b) = linked(&mut a, &mut b).await;
        for _ in 0..50 {
            toy::send(&a.toy, link, vec![1; 1000]);
        }
        toy::send(&b.toy, at_b, vec![2; 100_000]);
        for _ in 0..50 {
            b.got().await;
        }
        a.got().await;
        let (at_a, at_b) = settled(&a, &b).await;
        assert_eq!((at_a.totals.messages_sent, at_a.totals.messages_received), (50, 1));
        assert_eq!((at_a.totals.dials, at_a.totals.accepted, at_a.totals.links_up), (1, 0, 1));
        assert_eq!((at_b.totals.dials, at_b.totals.accepted, at_b.totals.links_up), (0, 1, 1));
        let payload = 50_000;
        assert!((payload..payload + 10_000).contains(&at_a.totals.bytes_sent), "{}", at_a.totals.bytes_sent);
        for (snapshot, peer, direction, software) in [
            (&at_a, b.id(), Direction::Outbound, Config::default().software),
            (&at_b, a.id(), Direction::Inbound, "a test".to_owned()),
        ] {
            let [link] = &snapshot.links[..] else { panic!("one link: {snapshot:#?}") };
            assert_eq!((link.peer, link.direction, &link.software), (Some(peer), direction, &software));
            // The dialer's application holds it.
            assert_eq!((link.is_up, link.is_held), (true, direction == Direction::Outbound));
            assert!(link.since.is_some());
            let rtt = link.rtt.unwrap();
            assert!(rtt > Duration::ZERO && rtt < Duration::from_secs(5), "{rtt:?}");
            assert_eq!((link.queued_messages, link.queued_bytes, link.late_fragments), (0, 0, 0));
            // With one link, its figures are the totals.
            let totals = &snapshot.totals;
            assert_eq!(
                [link.bytes_sent, link.bytes_received, link.messages_sent, link.messages_received],
                [totals.bytes_sent, totals.bytes_received, totals.messages_sent, totals.messages_received],
            );
        }
        if matches!(over, Over::Tcp) {
            assert!(at_b.links[0].remote.as_str().starts_with("tcp://127.0.0.1:"));
        }
    }
}

#[tokio::test]
async fn totals_outlive_links_and_every_end_has_a_reason() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    for round in 1..=3_u64 {
        let mut b = over.node(2, Config::default()).await;
        let (link, _) = linked(&mut a, &mut b).await;
        toy::send(&a.toy, link, "one");
        b.got().await;
        let before = a.snapshot().totals;
        b.endpoint.close().await;
        a.down(link).await;
        connections(&a.endpoint, 0).await;
        let after = a.snapshot().totals;
        assert_eq!((after.messages_sent, after.links_up, after.dials), (round, round, round));
        assert!(after.bytes_sent >= before.bytes_sent);
        assert_eq!(after.ended, BTreeMap::from([("shutdown", round)]));
    }
    let nobody = over.address();
    a.endpoint.connect(&nobody).await.unwrap_err();
    let totals = a.snapshot().totals;
    // A dial that finds nobody is no connection.
    assert_eq!((totals.dials, totals.ended.values().sum::<u64>()), (4, 3));
}

#[tokio::test]
async fn a_fresh_round_trip_time_reaches_machines_and_the_snapshot() {
    let often = config(|config| config.link.ping_every = Duration::from_millis(20));
    let over = Over::Tcp;
    let mut a = over.node(1, often).await;
    let mut b = over.node(2, Config::default()).await;
    let (link, _) = linked(&mut a, &mut b).await;
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(
            a.event("a round-trip time", |event| match event {
                common::Event::Rtt(at, rtt) if *at == link => Some(*rtt),
                _ => None,
            })
            .await,
        );
    }
    assert!(told.iter().all(|rtt| *rtt > Duration::ZERO && *rtt < Duration::from_secs(2)), "{told:?}");
    assert!(a.snapshot().links[0].rtt.unwrap() < Duration::from_secs(2));
}

#[tokio::test]
async fn what_an_instance_left_behind_is_counted_when_it_comes() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let mut stays = Node::new(a.endpoint.clone(), "stays", Toy::default());
    let _stays = Node::new(b.endpoint.clone(), "stays", Toy::default());
    let valve = Valve::between(transport, &b.address()).await;
    a.endpoint.connect(&valve.address()).await.unwrap();
    let (link, _) = a.up().await;
    b.up().await;
    stays.up().await;
    // B's machine goes while much is on its way to it.
    valve.shut();
    for _ in 0..100 {
        toy::send(&a.toy, link, vec![0; 10_000]);
    }
    eventually("some to be on their way", || match a.snapshot().totals.messages_sent {
        sent if sent > 5 => Ok(()),
        sent => Err(format!("{sent}")),
    })
    .await;
    b.toy.close();
    valve.open();
    a.down(link).await;
    eventually("all of it to be counted", || {
        let (sent, b) = (a.snapshot().totals.messages_sent, b.snapshot());
        let late = b.totals.dropped.get("late_fragments").copied().unwrap_or_default();
        let of_link = b.links.first().map_or(0, |link| link.late_fragments);
        // What a window holds, less what was not asked for any more.
        if late > 5 && late == of_link && late >= sent { Ok(()) } else { Err(format!("{sent} of {b:#?}")) }
    })
    .await;
    ended(&a.endpoint, "shutdown", 0).await;
    assert_eq!(a.snapshot().links.len(), 1);
}

#[tokio::test]
async fn rates_are_what_went_through_between_two_looks() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let (link, _) = linked(&mut a, &mut b).await;
    let (before, _) = settled(&a, &b).await;
    for _ in 0..50 {
        toy::send(&a.toy, link, vec![1; 1000]);
    }
    let after = eventually("fifty messages", || {
        let now = a.snapshot();
        if now.totals.messages_sent == before.totals.messages_sent + 50 && now.taken > before.taken {
            Ok(now)
        } else {
            Err(format!("{now:#?}"))
        }
    })
    .await;
    let rates = after.rates_since(&before);
    assert_eq!(rates.span, after.taken.since(before.taken));
    let sent = rates.total.messages_sent * rates.span.as_secs_f64();
    assert!((sent - 50.0).abs() < 0.001, "{sent}");
    assert_eq!(rates.links.iter().map(|(link, _)| *link).collect::<Vec<_>>(), [link]);
    let bytes = rates.links[0].1.bytes_sent * rates.span.as_secs_f64();
    let written = after.totals.bytes_sent - before.totals.bytes_sent;
    assert!(written > 50_000 && (bytes - written as f64).abs() < 0.001, "{bytes} of {written}");
    // Without time between them there is no rate.
    assert_eq!(after.rates_since(&after).total.messages_sent, 0.0);
    assert_eq!(before.rates_since(&after).total.bytes_sent, 0.0);
}
