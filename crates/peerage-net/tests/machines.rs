//! What a machine may rely on, and which links stay.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Event, Heard, Node, Over, config, connections, linked, toy};
use peerage_machine::{CallId, Class, Effect, JobId, LinkId, OpId, SendId, StoreError, Target, Why};
use peerage_net::{Config, Shards};
use tokio::time::{Instant, sleep};

fn ambient() -> Config {
    config(|config| config.shards = Shards::Ambient)
}

/// Two nodes of which neither's application holds the link that the first one's machine dialled.
async fn dialled() -> (Node, Node, LinkId, LinkId) {
    let over = Over::memory();
    let mut a = over.node(1, ambient()).await;
    let mut b = over.node(2, ambient()).await;
    toy::dial(&a.toy, 1, Target::Address(b.address()));
    let link = a.dialed(1).await.unwrap();
    let (at_b, _) = b.up().await;
    (a, b, link, at_b)
}

#[tokio::test(start_paused = true)]
async fn a_link_stays_while_its_dialer_holds_it_and_goes_when_it_does_not() {
    let (mut a, mut b, link, at_b) = dialled().await;
    sleep(Duration::from_secs(60)).await;
    connections(&a.endpoint, 1).await;
    assert!(a.snapshot().links.iter().all(|link| link.is_held && link.is_up));
    assert!(b.snapshot().links.iter().all(|link| !link.is_held && link.is_up));
    toy::want(&a.toy, Effect::Release(link));
    let released = Instant::now();
    assert_eq!(a.down(link).await, Why::Unheld);
    assert_eq!(b.down(at_b).await, Why::Unheld);
    let after = released.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&after), "{after:?}");
    connections(&a.endpoint, 0).await;
    connections(&b.endpoint, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_stays_while_the_other_side_holds_it() {
    let (mut a, mut b, link, at_b) = dialled().await;
    toy::want(&b.toy, Effect::Hold(at_b));
    toy::want(&a.toy, Effect::Release(link));
    sleep(Duration::from_secs(60)).await;
    connections(&a.endpoint, 1).await;
    toy::want(&b.toy, Effect::Release(at_b));
    assert_eq!(a.down(link).await, Why::Unheld);
    assert_eq!(b.down(at_b).await, Why::Unheld);
}

#[tokio::test(start_paused = true)]
async fn a_hold_within_the_grace_keeps_the_link() {
    let (a, b, link, _) = dialled().await;
    for _ in 0..10 {
        toy::want(&a.toy, Effect::Release(link));
        sleep(Duration::from_millis(1900)).await;
        toy::want(&a.toy, Effect::Hold(link));
        sleep(Duration::from_millis(1900)).await;
    }
    connections(&b.endpoint, 1).await;
    assert_eq!(a.snapshot().totals.links_up, 1);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_connected_holds_the_link() {
    let over = Over::memory();
    let mut a = over.node(1, ambient()).await;
    let mut b = over.node(2, ambient()).await;
    let (link, _) = linked(&mut a, &mut b).await;
    toy::want(&a.toy, Effect::Release(link));
    sleep(Duration::from_secs(60)).await;
    connections(&a.endpoint, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_link_outlives_no_instance_that_was_the_last_to_hold_it() {
    let (a, mut b, _, at_b) = dialled().await;
    let other = Node::new(a.endpoint.clone(), "other", common::Toy::default());
    a.toy.close();
    assert!(matches!(b.down(at_b).await, Why::ChannelClosed { .. }));
    connections(&b.endpoint, 0).await;
    assert_eq!(b.snapshot().totals.ended.get("unheld"), Some(&1));
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_after_the_configured_time() {
    let over = Over::memory();
    let Over::Memory(transport) = &over else { panic!("memory") };
    let mut a = over.node(1, ambient()).await;
    let b = over.node(2, ambient()).await;
    let valve = common::valve::Valve::between(transport, &b.address()).await;
    a.endpoint.connect(&valve.address()).await.unwrap();
    let (link, _) = a.up().await;
    sleep(Duration::from_secs(60)).await;
    connections(&a.endpoint, 1).await;
    valve.shut();
    let began = Instant::now();
    assert_eq!(a.down(link).await, Why::Silent { after: Duration::from_secs(15) });
    assert!((10..=15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    connections(&a.endpoint, 0).await;
}

#[tokio::test(start_paused = true)]
async fn timers_ring_at_their_time_and_can_be_moved() {
    let over = Over::memory();
    let mut node = over.node(1, ambient()).await;
    let set = |span: Duration| {
        node.toy.call(|toy, now, _| {
            toy.alarm = Some(now.mono + span);
            now.mono + span
        })
    };
    set(Duration::from_secs(3600)).unwrap();
    let sooner = set(Duration::from_secs(10)).unwrap();
    let rang = node.event("the alarm", |event| match event {
        Event::Rang(now) => Some(*now),
        _ => None,
    });
    let rang = rang.await;
    assert!(rang.mono.since(sooner) < Duration::from_millis(2) && rang.mono >= sooner);
    // Later, and then not at all.
    let clock = node.toy.clone();
    let set = |alarm: Option<Duration>| {
        clock.call(|toy, now, _| toy.alarm = alarm.map(|span| now.mono + span)).unwrap();
    };
    set(Some(Duration::from_secs(5)));
    set(Some(Duration::from_secs(20)));
    sleep(Duration::from_secs(19)).await;
    assert!(node.pending().is_empty());
    set(None);
    sleep(Duration::from_secs(60)).await;
    assert!(node.pending().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_is_put_off_shortly_before_it_rings_can_be_brought_forward() {
    let over = Over::memory();
    let mut node = over.node(1, ambient()).await;
    let clock = node.toy.clone();
    let began = clock.call(|_, now, _| now.mono).unwrap();
    let set = |at: u64| clock.call(|toy, _, _| toy.alarm = Some(began + Duration::from_millis(at))).unwrap();
    // Each is wanted at the second time from the first on.
    let wishes = [(0, 250), (200, 450), (201, 460), (210, 220), (230, 4_000), (3_950, 4_200), (4_190, 4_201)];
    let mut rang = Vec::new();
    for (at, wanted) in wishes.into_iter().chain([(10_000, 20_000)]) {
        sleep(
            Duration::from_millis(at).saturating_sub(clock.call(|_, now, _| now.mono).unwrap().since(began)),
        )
        .await;
        for heard in node.pending() {
            if let Heard::Event(Event::Rang(now)) = heard {
                rang.push(now.mono.since(began).as_millis());
            }
        }
        set(wanted);
    }
    let [first, second] = rang[..] else { panic!("it rang at {rang:?} ms") };
    assert!((220..=222).contains(&first) && (4_201..=4_203).contains(&second), "it rang at {rang:?} ms");
}

#[tokio::test]
async fn signatures_are_checked_and_effects_keep_their_order() {
    let over = Over::memory();
    let mut node = over.node(1, Config::default()).await;
    let message = Bytes::from_static(b"signed");
    let signature = common::identity(3).sign("toy v1", &message);
    let verify = |job, signer| Effect::Verify {
        job: JobId(job),
        signer,
        domain: "toy v1",
        message: message.clone(),
        signature,
    };
    let (signer, other) = (common::peer(3), common::peer(4));
    node.toy
        .call(|_, _, out| {
            out.answer(CallId(1), 10);
            out.push(verify(1, signer));
            out.push(verify(2, other));
            out.push(Effect::Store { op: OpId(5), batch: Vec::new() });
            out.push(Effect::Send {
                to: vec![LinkId(8), LinkId(9)],
                message: toy::Note(Bytes::new()),
                class: Class::Bulk,
                id: Some(SendId(6)),
            });
            out.answer(CallId(2), 20);
            out.count("toy_things_total", 3);
        })
        .unwrap();
    let mut told = Vec::new();
    while told.len() < 7 {
        told.push(node.expect("seven things", |heard| Some(heard.clone())).await);
    }
    let [
        Heard::Answer(CallId(1), 10),
        Heard::Answer(CallId(2), 20),
        Heard::Event(Event::Stored(OpId(5), Err(StoreError::Absent))),
        Heard::Event(Event::Undelivered(SendId(6), LinkId(8), Why::NotUp)),
        Heard::Event(Event::Undelivered(SendId(6), LinkId(9), Why::NotUp)),
        Heard::Event(Event::Verified(JobId(1), true)),
        Heard::Event(Event::Verified(JobId(2), false)),
    ] = &told[..]
    else {
        panic!("{told:#?}")
    };
    assert_eq!(node.snapshot().totals.counted.get("toy_things_total"), Some(&3));
}

/// Many at once are checked together; of each is told what it is, in order.
#[tokio::test]
async fn of_many_signatures_the_bad_ones_are_told_apart() {
    let over = Over::memory();
    let mut node = over.node(1, Config::default()).await;
    let is_bad = |job: u64| job.is_multiple_of(50) || job == 51;
    node.toy
        .call(|_, _, out| {
            for job in 0..200_u64 {
                let identity = common::identity(3 + (job % 3) as u8);
                let message = Bytes::from(job.to_le_bytes().to_vec());
                let signature =
                    identity.sign("toy v1", if is_bad(job) { b"something else" } else { &message });
                let signer = identity.peer_id();
                out.push(Effect::Verify { job: JobId(job), signer, domain: "toy v1", message, signature });
            }
        })
        .unwrap();
    for job in 0..200_u64 {
        let told = node.expect("a verdict", |heard| Some(heard.clone())).await;
        assert!(
            matches!(told, Heard::Event(Event::Verified(JobId(of), valid)) if of == job && valid != is_bad(job)),
            "{job}: {told:?}"
        );
    }
}

#[tokio::test]
async fn thousands_of_refusals_at_once_are_all_told() {
    let over = Over::memory();
    let mut node = over.node(1, Config::default()).await;
    let to: Vec<LinkId> = (100..5100).map(LinkId).collect();
    let message = toy::Note(Bytes::new());
    toy::want(&node.toy, Effect::Send { to, message, class: Class::Bulk, id: Some(SendId(1)) });
    let mut told = 0;
    node.event("all refusals", |event| {
        told += u64::from(matches!(event, Event::Undelivered(..)));
        (told == 5000).then_some(())
    })
    .await;
    assert!(node.snapshot().totals.dropped.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_wants_its_timer_from_the_start_is_rung_though_nothing_else_happens() {
    let endpoint = Over::memory().endpoint(1, ambient()).await;
    let (sink, mut heard) = common::ToySink::new();
    let begun = Instant::now();
    let after = Duration::from_secs(3);
    let make =
        |start: peerage_net::Start| toy::Toy { alarm: Some(start.now.mono + after), ..toy::Toy::default() };
    let _toy = endpoint.host(common::spec("toy"), make, sink).unwrap();
    let rang = tokio::time::timeout(Duration::from_secs(60), heard.recv()).await.unwrap();
    assert!(matches!(rang, Some(Heard::Event(Event::Rang(_)))), "{rang:?}");
    assert!((after..after * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}
