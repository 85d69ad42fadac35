//! Messages: whole, in order, within bounds that answer.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::valve::Valve;
use common::{Event, Node, Over, config, connections, dropped, ended, eventually, linked, toy};
use peerage_machine::{Class, Effect, LinkId, Side, Why};
use peerage_net::{Config, Hosted};

const MIB: u64 = 1 << 20;

fn count(toy: &Hosted<common::Toy>) -> (u64, u64) {
    toy.call(|toy, _, _| (toy.got, toy.wrong)).unwrap()
}

async fn counted(toy: &Hosted<common::Toy>, messages: u64) {
    eventually(&format!("{messages} messages"), || match count(toy) {
        (got, 0) if got == messages => Ok(()),
        (got, wrong) => Err(format!("{got} came, {wrong} of them wrong")),
    })
    .await;
}

fn quiet(node: &Node) {
    node.toy.call(|toy, _, _| toy.quiet = true).unwrap();
}

#[tokio::test]
async fn a_hundred_thousand_small_messages_arrive_whole_and_in_order() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let (link, _) = linked(&mut a, &mut b).await;
        quiet(&a);
        quiet(&b);
        toy::flood(&a.toy, link, 100_000, 40, MIB);
        counted(&b.toy, 100_000).await;
        eventually("the counters", || {
            let (sent, received) = (a.snapshot().totals.messages_sent, b.snapshot().totals.messages_received);
            if (sent, received) == (100_000, 100_000) { Ok(()) } else { Err(format!("{sent} {received}")) }
        })
        .await;
        assert!(a.snapshot().totals.dropped.is_empty() && b.snapshot().totals.dropped.is_empty());
    }
}

#[tokio::test]
async fn messages_of_every_length_up_to_the_limit_come_back_as_they_were() {
    for over in Over::both() {
        let mut a = over.node(1, Config::default()).await;
        let mut b = over.node(2, Config::default()).await;
        let (link, _) = linked(&mut a, &mut b).await;
        b.toy.call(|toy, _, _| (toy.echo, toy.quiet) = (true, true)).unwrap();
        let lengths = [0, 1, 16_383, 16_384, 16_385, 65_535, 65_536, 1_000_000, 16 << 20];
        for (class, length) in lengths
            .into_iter()
            .flat_map(|length| [Class::Interactive, Class::Bulk].map(|class| (class, length)))
        {
            let body: Bytes = (0..length).map(|at: u32| (at % 253) as u8).collect();
            toy::send_as(&a.toy, link, body.clone(), class, None);
            let (_, back) = a.got().await;
            assert!(back == body, "{length} bytes as {class:?} came back as {} bytes", back.len());
        }
    }
}

/// The reason that the send `id` ended with.
async fn undelivered(node: &mut Node, id: u64) -> (LinkId, Why) {
    node.event("the refusal", |event| match event {
        Event::Undelivered(send, link, why) if send.0 == id => Some((*link, why.clone())),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn too_large_says_by_how_much() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, config(|config| config.link.max_message = 100_000)).await;
    let (link, _) = linked(&mut a, &mut b).await;
    assert_eq!(a.snapshot().totals.dropped.get("too_large"), None);

    for (id, class, size, limit) in [
        (1, Class::Interactive, 100_001, 100_000),
        (2, Class::Bulk, 200_000, 100_000),
        (3, Class::Control, 65_537, 65_536),
    ] {
        toy::send_as(&a.toy, link, vec![0; size], class, Some(id));
        let why = Why::TooLarge { size: size as u64, limit };
        assert_eq!(undelivered(&mut a, id).await, (link, why));
    }
    // Without an id it is counted.
    toy::send(&a.toy, link, vec![0; 100_001]);
    dropped(&a.endpoint, "too_large", 1).await;
    // And what just fits is delivered.
    toy::send(&a.toy, link, vec![7; 100_000]);
    assert_eq!(b.got().await.1.len(), 100_000);
    toy::send_as(&a.toy, link, vec![8; 65_536], Class::Control, Some(4));
    assert_eq!(b.got().await.1.len(), 65_536);
}

#[tokio::test]
async fn a_link_that_is_not_up_says_so() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let (link, _) = linked(&mut a, &mut b).await;
    let nowhere = LinkId(99);
    toy::send_as(&a.toy, nowhere, "hello?", Class::Interactive, Some(1));
    assert_eq!(undelivered(&mut a, 1).await, (nowhere, Why::NotUp));
    toy::send(&a.toy, nowhere, "hello?");
    dropped(&a.endpoint, "not_up", 1).await;
    b.endpoint.close().await;
    a.down(link).await;
    toy::send_as(&a.toy, link, "hello?", Class::Control, Some(2));
    assert_eq!(undelivered(&mut a, 2).await, (link, Why::NotUp));
}

/// Two nodes with a valve between them, shut.
async fn apart() -> (Node, Node, LinkId, Valve) {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let valve = Valve::between(transport, &b.address()).await;
    a.endpoint.connect(&valve.address()).await.unwrap();
    let (link, _) = a.up().await;
    b.up().await;
    valve.shut();
    (a, b, link, valve)
}

#[tokio::test]
async fn a_full_queue_refuses_by_number_and_credit_gives_back_all_of_it() {
    let (mut a, mut b, link, valve) = apart().await;
    let credit = a.toy.call(|_, _, _| MIB).unwrap();
    // Interactive and bulk share an allowance; what leaves the queue meanwhile is given back.
    let (mut sent, mut refused, mut given) = (BTreeMap::new(), 0, BTreeMap::new());
    for number in 0..600_u64 {
        let class = if number % 2 == 0 { Class::Interactive } else { Class::Bulk };
        toy::send_as(&a.toy, link, toy::numbered(number, 4000), class, Some(number));
        sent.insert(number, class);
    }
    // The last answer is to a mark that can only be refused.
    toy::send_as(&a.toy, LinkId(99), "mark", Class::Interactive, Some(1000));
    a.event("the mark", |event| {
        match event {
            Event::Undelivered(send, _, _) if send.0 == 1000 => return Some(()),
            Event::Undelivered(send, at, why) => {
                let Why::Full { queued, limit } = why else { panic!("{why}") };
                assert_eq!((*at, *limit), (link, credit));
                assert!(queued + 4000 > *limit && *queued <= *limit, "{why}");
                assert!(sent.remove(&send.0).is_some());
                refused += 1;
            }
            Event::Credit(at, class, bytes) => {
                assert_eq!(*at, link);
                *given.entry(*class).or_insert(0) += bytes;
            }
            other => panic!("{other:?}"),
        }
        None
    })
    .await;
    // 600 × 4,000 bytes do not fit into 1 MiB, what was sealed ahead, and what the connection holds.
    assert!((200..=340).contains(&refused), "{refused} of 600 were refused");

    // Control has an allowance of its own, and keeps to it.
    let mut control = 0;
    for number in 0..20_u64 {
        toy::send_as(&a.toy, link, toy::numbered(number, 60_000), Class::Control, Some(2000 + number));
        control += 1;
    }
    toy::send_as(&a.toy, LinkId(99), "mark", Class::Interactive, Some(3000));
    a.event("the mark", |event| {
        match event {
            Event::Undelivered(send, _, _) if send.0 == 3000 => return Some(()),
            Event::Undelivered(_, _, Why::Full { queued, limit }) => {
                assert!(*limit == 256 << 10 && queued + 60_000 > *limit, "{queued} of {limit}");
                control -= 1;
            }
            Event::Credit(_, class, bytes) => *given.entry(*class).or_insert(0) += bytes,
            other => panic!("{other:?}"),
        }
        None
    })
    .await;
    assert!((4..=8).contains(&control), "{control} control messages were taken");

    valve.open();
    // Everything that was taken arrives, in the order of its class.
    let total = sent.len() + control;
    let mut last = BTreeMap::new();
    for _ in 0..total {
        let (_, body) = b.got().await;
        let number = u64::from_be_bytes(body[..8].try_into().unwrap());
        let class = if body.len() == 60_000 { Class::Control } else { sent[&number] };
        assert_eq!(body, toy::numbered(number, body.len()));
        let before = last.insert(class, number);
        assert!(before.is_none_or(|before| before < number), "{class:?}: {before:?} before {number}");
    }
    let taken = |class: Class| 4000 * sent.values().filter(|sent| **sent == class).count() as u64;
    let wanted = [Class::Interactive, Class::Bulk].map(|class| (class, taken(class)));
    while wanted.iter().any(|(class, bytes)| given.get(class) != Some(bytes)) {
        a.event("the rest of the credit", |event| match event {
            Event::Credit(_, class, bytes) => {
                *given.entry(*class).or_insert(0) += bytes;
                Some(())
            }
            _ => None,
        })
        .await;
    }
    assert_eq!(given.get(&Class::Control), None, "control is not told");
    // And the whole allowance is there again.
    for _ in 0..16 {
        toy::send_as(&a.toy, link, vec![1; 65_536], Class::Interactive, Some(9));
    }
    for _ in 0..16 {
        assert_eq!(b.got().await.1.len(), 65_536);
    }
    assert!(a.snapshot().totals.dropped.is_empty(), "{:?}", a.snapshot().totals.dropped);
}

#[tokio::test]
async fn what_is_refused_without_an_id_is_counted() {
    let (a, _b, link, _valve) = apart().await;
    for _ in 0..40 {
        toy::send(&a.toy, link, vec![0; 100_000]);
    }
    // 4 MB, of which the queue takes 1 MiB, and the peer's window 64 KiB.
    let refused = a.snapshot().totals.dropped.get("full").copied().unwrap_or_default();
    assert!((26..=32).contains(&refused), "{refused}");
}

#[tokio::test]
async fn messages_that_a_link_took_and_never_sent_are_counted() {
    let (mut a, b, link, valve) = apart().await;
    for _ in 0..10 {
        toy::send(&a.toy, link, vec![0; 100_000]);
    }
    // All were taken, and as much written as there is credit for.
    let sent = eventually("a standstill", || {
        let snapshot = a.snapshot();
        let link = snapshot.links.first().unwrap();
        let standstill = link.bytes_sent > 48 << 10 && link.queued_messages == 10;
        if standstill { Ok(link.messages_sent) } else { Err(format!("{link:#?}")) }
    })
    .await;
    drop(b);
    valve.open();
    a.down(link).await;
    let totals = a.snapshot().totals;
    let lost = totals.dropped.get("link_ended").copied().unwrap_or_default();
    assert!(lost > 0 && totals.messages_sent >= sent, "{totals:?}");
    assert_eq!(totals.messages_sent + lost, 10);
}

#[tokio::test]
async fn one_peer_that_does_not_read_slows_no_other() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let mut a = over.node(1, Config::default()).await;
    let mut stalled = over.node(2, Config::default()).await;
    let mut lively = over.node(3, Config::default()).await;
    let valve = Valve::between(transport, &stalled.address()).await;
    a.endpoint.connect(&valve.address()).await.unwrap();
    let (to_stalled, _) = a.up().await;
    stalled.up().await;
    let (to_lively, _) = linked(&mut a, &mut lively).await;
    for node in [&a, &stalled, &lively] {
        quiet(node);
    }
    valve.shut();
    let mut taken = 0;
    for number in 0..100 {
        // To both at once: one refuses sooner or later, the other does not hear of it.
        let message = toy::Note(toy::numbered(number, 20_000));
        let to = vec![to_stalled, to_lively];
        toy::want(&a.toy, Effect::Send { to, message, class: Class::Interactive, id: None });
        taken = number + 1;
        counted(&lively.toy, taken).await;
    }
    let refused = a.snapshot().totals.dropped["full"];
    a.toy.call(|toy, _, _| toy.got = 0).unwrap();
    assert!((20..60).contains(&refused), "{refused}");
    lively.toy.call(|toy, _, _| toy.got = 0).unwrap();
    toy::flood(&a.toy, to_lively, 20_000, 100, MIB / 2);
    counted(&lively.toy, 20_000).await;
    valve.open();
    eventually("what the stalled peer was promised", || match count(&stalled.toy).0 {
        got if got == taken - refused => Ok(()),
        got => Err(format!("{got} of {}", taken - refused)),
    })
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_link_and_are_counted() {
    let over = Over::memory();
    let mut a = over.node(1, Config::default()).await;
    let mut b = over.node(2, Config::default()).await;
    let mut c = over.node(3, Config::default()).await;
    let (link, at_b) = linked(&mut a, &mut b).await;
    let (to_c, _) = linked(&mut a, &mut c).await;
    toy::send(&a.toy, link, "good");
    toy::send(&a.toy, link, vec![255, 1, 2]);
    assert_eq!(b.got().await.1, "good");
    let why = b.down(at_b).await;
    assert!(matches!(&why, Why::Fault { by: Side::Them, what } if what.contains("255")), "{why}");
    let why = a.down(link).await;
    assert!(matches!(&why, Why::Fault { by: Side::Us, what } if what.contains("255")), "{why}");
    ended(&b.endpoint, "fault", 1).await;
    ended(&a.endpoint, "accused", 1).await;
    toy::send(&a.toy, to_c, "unharmed");
    assert_eq!(c.got().await.1, "unharmed");
}

#[tokio::test]
async fn a_link_with_too_many_faults_ends() {
    let over = Over::memory();
    let mut a = over.node(1, config(|config| config.link.fault_limit = 3)).await;
    let mut b = over.node(2, Config::default()).await;
    let (link, at_b) = linked(&mut a, &mut b).await;
    for _ in 0..2 {
        toy::want(&a.toy, Effect::Fault { link, what: "lied" });
    }
    toy::send(&a.toy, link, "a second chance");
    b.got().await;
    toy::want(&a.toy, Effect::Fault { link, what: "lied again" });
    assert_eq!(a.down(link).await, Why::Fault { by: Side::Them, what: "lied again".to_owned() });
    assert_eq!(b.down(at_b).await, Why::Fault { by: Side::Us, what: "lied again".to_owned() });
    connections(&a.endpoint, 0).await;
    assert_eq!(a.snapshot().totals.dropped.get("fault"), Some(&3));
}
