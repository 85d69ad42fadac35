//! The mesh as a program holds it, on real endpoints: over TCP on loopback, and over memory.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_machine::{RefusalReason, Why};
use peerage_net::{Config, Endpoint, HostError, MemoryTransport};
use peerage_overlay::{
    BroadcastError, Event, Handled, JoinError, Kind, Loss, Mesh, MeshConfig, OpenError, RecvError,
    WhisperError,
};
use peerage_wire::Address;

/// Far more than anything here takes; a test that gets there says what it waited for.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {PATIENCE:?}"),
    }
}

async fn endpoint() -> Endpoint {
    endpoint_with(Config::default()).await
}

async fn endpoint_with(config: Config) -> Endpoint {
    let builder = Endpoint::builder().identity(Identity::generate().unwrap()).config(config);
    builder.listen("tcp://127.0.0.1:0".parse().unwrap()).bind().await.unwrap()
}

async fn joined(contact: &Mesh, config: MeshConfig) -> (Endpoint, Mesh) {
    let endpoint = endpoint().await;
    let mesh = Mesh::open(&endpoint, config).unwrap();
    within("joining", mesh.join(&contact.endpoint().addresses())).await.unwrap();
    (endpoint, mesh)
}

/// So many peers, all joined by the first.
async fn peers(count: usize, config: MeshConfig) -> Vec<(Endpoint, Mesh)> {
    let first = endpoint().await;
    let mut all = vec![(first.clone(), Mesh::open(&first, config.clone()).unwrap())];
    for _ in 1..count {
        let contact = all.first().unwrap().1.clone();
        all.push(joined(&contact, config.clone()).await);
    }
    all
}

#[tokio::test]
async fn what_one_says_all_others_hear_once_with_its_parts_and_its_origin() {
    let all = peers(5, MeshConfig::named("news")).await;
    let (endpoint, mesh) = &all[2];
    let id = mesh.broadcast(["a", "", "three"]).await.unwrap().id;
    for (at, (_, other)) in all.iter().enumerate().filter(|(at, _)| *at != 2) {
        let message = within(&format!("the message at peer {at}"), other.recv()).await.unwrap();
        assert_eq!((message.id, message.origin, message.kind), (id, endpoint.peer_id(), Kind::Broadcast));
        assert_eq!(message.parts, ["a", "", "three"].map(Bytes::from));
    }
    // A second one shows that no copy of the first came in between.
    let second = mesh.broadcast("next").await.unwrap().id;
    for (_, other) in all.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, peer)| peer) {
        assert_eq!(within("the second message", other.recv()).await.unwrap().id, second);
    }
}

#[tokio::test]
async fn a_reply_reaches_a_sender_that_is_no_neighbour() {
    // A chain: at most one neighbour looked for, so ends do not meet.
    let mut config = MeshConfig::named("chain");
    config.active_view = 1;
    config.active_slack = 1;
    config.rotation = 0.0;
    // Nor is anybody given up because a busy machine lets it wait: the chain would close elsewhere.
    config.probe_every = PATIENCE;
    let first = endpoint().await;
    let mut all = vec![(first.clone(), Mesh::open(&first, config.clone()).unwrap())];
    for _ in 1..5 {
        let last = all.last().unwrap().1.clone();
        all.push(joined(&last, config.clone()).await);
    }
    let asker = &all[0];
    let far =
        all.iter().skip(1).find(|(endpoint, _)| !asker.1.neighbours().contains(&endpoint.peer_id())).unwrap();
    asker.1.broadcast("who is there?").await.unwrap();
    let question = within("the question", far.1.recv()).await.unwrap();
    within("the reply", question.reply(["I", "am"])).await.unwrap();
    let answer = within("the answer", asker.1.recv()).await.unwrap();
    assert_eq!((answer.kind, answer.origin), (Kind::Whisper, far.0.peer_id()));
    assert_eq!(answer.parts, ["I", "am"].map(Bytes::from));
}

#[tokio::test]
async fn a_whisper_to_a_stranger_and_to_oneself_are_typed_errors() {
    let all = peers(2, MeshConfig::named("news")).await;
    let stranger = Identity::from_seed([9; 32]).peer_id();
    let found = within("the whisper", all[0].1.whisper(stranger, "psst")).await;
    assert!(matches!(&found, Err(WhisperError::Unreachable { peer, .. }) if *peer == stranger), "{found:?}");
    let found = all[0].1.whisper(all[0].0.peer_id(), "psst").await;
    assert_eq!(found, Err(WhisperError::ToSelf));
}

#[tokio::test]
async fn handlers_have_messages_in_order_until_one_takes_it_and_recv_has_the_rest() {
    let all = peers(2, MeshConfig::named("news")).await;
    let (sender, receiver) = (&all[0].1, &all[1].1);
    let (seen, mut sees) = tokio::sync::mpsc::unbounded_channel();
    let tell = seen.clone();
    receiver.on(move |message| {
        tell.send(("first", message.body().clone())).unwrap();
        if message.body() == "for the first" { Handled::Taken } else { Handled::Passed }
    });
    receiver.on(move |message| {
        seen.send(("second", message.body().clone())).unwrap();
        if message.body() == "for the second" { Handled::Taken } else { Handled::Passed }
    });
    for body in ["for the first", "for the second", "for nobody"] {
        sender.broadcast(body).await.unwrap();
    }
    assert_eq!(within("what nobody took", receiver.recv()).await.unwrap().body(), "for nobody");
    let mut calls = Vec::new();
    while let Ok((handler, body)) = sees.try_recv() {
        calls.push((handler, body));
    }
    let expected = [
        ("first", "for the first"),
        ("first", "for the second"),
        ("second", "for the second"),
        ("first", "for nobody"),
        ("second", "for nobody"),
    ];
    assert_eq!(calls, expected.map(|(handler, body)| (handler, Bytes::from(body))));
}

#[tokio::test]
async fn a_handler_that_panics_ends_the_reading_and_leaves_nobody_waiting() {
    let all = peers(2, MeshConfig::named("news")).await;
    all[1].1.on(|_| panic!("as the test wants"));
    all[0].1.broadcast("hello").await.unwrap();
    let end = within("the end", all[1].1.recv()).await;
    assert_eq!(end.map(|message| message.id), Err(RecvError::Closed));
}

#[tokio::test]
async fn events_tell_of_neighbours_and_why_they_were_lost() {
    let mut all = peers(2, MeshConfig::named("news")).await;
    let (left, _) = &all[0];
    let left = left.peer_id();
    let staying = all[1].1.clone();
    let mut events = staying.events();
    let (leaving, mesh) = all.remove(0);
    mesh.broadcast("bye").await.unwrap();
    mesh.close();
    leaving.close().await;
    // The goodbye may overtake the message, which waits for the check of its signature.
    let is_bye = |event: &Event| matches!(event, Event::Message(message) if message.body() == "bye");
    let mut heard = Vec::new();
    while !(heard.contains(&Event::Isolated) && heard.iter().any(is_bye)) {
        let next = tokio::time::timeout(PATIENCE, events.next()).await;
        heard.push(next.unwrap_or_else(|_| panic!("no more than {heard:?}")).unwrap());
    }
    let lost = heard.iter().find_map(|event| match event {
        Event::NeighbourLost { peer, why } if *peer == left => Some(why.clone()),
        _ => None,
    });
    assert_eq!(lost, Some(Loss::Left));
}

#[tokio::test]
async fn meshes_of_two_names_share_endpoints_and_never_meet() {
    let (a, b) = (endpoint().await, endpoint().await);
    let mut meshes = Vec::new();
    for name in ["red", "blue"] {
        let (here, there) = (MeshConfig::named(name), MeshConfig::named(name));
        meshes.push((Mesh::open(&a, here).unwrap(), Mesh::open(&b, there).unwrap()));
    }
    for (here, there) in &meshes {
        within("joining", there.join(&a.addresses())).await.unwrap();
        within("the neighbour", here.ready()).await.unwrap();
    }
    assert_eq!(a.snapshot().links.iter().filter(|link| link.is_up).count(), 1, "{:?}", a.snapshot());
    for (here, _) in &meshes {
        here.broadcast(here.name()).await.unwrap();
    }
    for (_, there) in &meshes {
        let message = within("the message", there.recv()).await.unwrap();
        assert_eq!(message.body().as_ref(), there.name().as_bytes());
    }
    assert!(matches!(Mesh::open(&a, MeshConfig::named("red")), Err(OpenError::Host(HostError::Taken(_)))));
}

/// What the one that joins is told, and what the other one counts.
async fn refused(theirs: MeshConfig, ours: MeshConfig) -> (RefusalReason, u64) {
    let (contact, endpoint) = (endpoint().await, endpoint().await);
    let _theirs = Mesh::open(&contact, theirs).unwrap();
    let mesh = Mesh::open(&endpoint, ours).unwrap();
    let error = within("the refusal", mesh.join(&contact.addresses())).await.unwrap_err();
    let JoinError::Unreachable { failures } = error else { panic!("{error:?}") };
    let [(_, Why::Refused(refusal))] = failures.as_slice() else { panic!("{failures:?}") };
    // The other side may hear of it a moment later.
    let counted = async {
        loop {
            match contact.snapshot().totals.ended.get("refused") {
                Some(count) => return *count,
                None => tokio::task::yield_now().await,
            }
        }
    };
    (refusal.reason.clone(), within("the other side's count", counted).await)
}

#[tokio::test]
async fn another_name_or_parameter_is_refused_and_both_sides_know_why() {
    let (reason, counted) = refused(MeshConfig::named("red"), MeshConfig::named("blue")).await;
    assert_eq!((reason, counted), (RefusalReason::UnknownInstance, 1));

    let mut other = MeshConfig::named("red");
    other.max_message = 1 << 20;
    let (reason, counted) = refused(MeshConfig::named("red"), other).await;
    assert!(matches!(reason, RefusalReason::Parameters { .. }), "{reason:?}");
    assert_eq!(counted, 1);
}

#[tokio::test]
async fn contacts_that_cannot_be_reached_are_named_with_their_reasons() {
    let endpoint = endpoint().await;
    let mesh = Mesh::open(&endpoint, MeshConfig::named("news")).unwrap();
    assert_eq!(mesh.join(&[]).await, Err(JoinError::NoContacts));
    let nobody: Address = "tcp://127.0.0.1:1".parse().unwrap();
    let odd: Address = "carrier-pigeon://roof".replace('-', "").parse().unwrap();
    let error = within("the failure", mesh.join(&[nobody.clone(), odd.clone()])).await.unwrap_err();
    let JoinError::Unreachable { failures } = error else { panic!("{error:?}") };
    let reasons: BTreeSet<_> = failures.iter().map(|(address, why)| (address.clone(), why.label())).collect();
    assert_eq!(reasons, BTreeSet::from([(nobody, "unreachable"), (odd, "no_transport")]));
}

#[tokio::test]
async fn a_mesh_alone_refuses_to_broadcast_and_a_closed_one_to_do_anything() {
    let endpoint = endpoint().await;
    let mesh = Mesh::open(&endpoint, MeshConfig::named("news")).unwrap();
    assert_eq!(mesh.broadcast("hello?").await, Err(BroadcastError::NoNeighbours));
    mesh.close();
    assert_eq!(mesh.broadcast("hello?").await, Err(BroadcastError::Closed));
    assert_eq!(mesh.join(&endpoint.addresses()).await, Err(JoinError::Closed));
    assert_eq!(mesh.recv().await.map(|message| message.id), Err(RecvError::Closed));
    assert!(mesh.ready().await.is_err());
    // The name is free again.
    Mesh::open(&endpoint, MeshConfig::named("news")).unwrap();
}

#[tokio::test]
async fn a_burst_arrives_whole_at_every_peer() {
    // Unoptimised, the whole burst would take most of a minute.
    const BURST: u64 = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
    let all = peers(3, MeshConfig::named("burst")).await;
    let sender = all[1].1.clone();
    let says = tokio::spawn(async move {
        for number in 0..BURST {
            sender.broadcast(number.to_be_bytes().to_vec()).await.unwrap();
        }
    });
    let mut readers = tokio::task::JoinSet::new();
    for (at, (_, mesh)) in all.iter().enumerate().filter(|(at, _)| *at != 1) {
        let mesh = mesh.clone();
        readers.spawn(async move {
            let mut missing: BTreeSet<u64> = (0..BURST).collect();
            while !missing.is_empty() {
                let what = format!("peer {at}, {} still missing", missing.len());
                let message = within(&what, mesh.recv()).await.unwrap();
                let number = u64::from_be_bytes(message.body().as_ref().try_into().unwrap());
                assert!(missing.remove(&number), "{number} came twice to peer {at}");
            }
        });
    }
    readers.join_all().await;
    says.await.unwrap();
}

#[tokio::test]
async fn a_message_of_64_mib_arrives_or_is_refused_at_the_sender_by_the_limit() {
    let large = Bytes::from(vec![7; 64 << 20]);
    let all = peers(2, MeshConfig::named("news")).await;
    let refused = all[0].1.broadcast(large.clone()).await;
    let limit = 16 << 20;
    assert!(
        matches!(refused, Err(BroadcastError::TooLarge { size, limit: told }) if size > 64 << 20 && told <= limit),
        "{refused:?}"
    );

    let mut config = Config::default();
    config.link.max_message = 80 << 20;
    config.link.reassembly = 80 << 20;
    let mut wide = MeshConfig::named("large");
    wide.max_message = 72 << 20;
    wide.retain_bytes = 80 << 20;
    wide.verifying.1 = 80 << 20;
    wide.inbox_bytes = 80 << 20;
    let (a, b) = (endpoint_with(config.clone()).await, endpoint_with(config).await);
    let (here, there) = (Mesh::open(&a, wide.clone()).unwrap(), Mesh::open(&b, wide).unwrap());
    within("joining", there.join(&a.addresses())).await.unwrap();
    within("the neighbour", here.ready()).await.unwrap();
    here.broadcast(large.clone()).await.unwrap();
    let message = within("64 MiB", there.recv()).await.unwrap();
    assert!(message.body() == &large);
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_told_how_much_it_missed() {
    let transport = MemoryTransport::new();
    let mut made = Vec::new();
    for name in ["mem://a", "mem://b"] {
        let builder = Endpoint::builder().identity(Identity::generate().unwrap()).memory(&transport);
        let endpoint = builder.listen(name.parse().unwrap()).bind().await.unwrap();
        let mut config = MeshConfig::named("news");
        config.inbox_messages = 10;
        made.push((endpoint.clone(), Mesh::open(&endpoint, config).unwrap()));
    }
    let (here, there) = (&made[0].1, &made[1].1);
    within("joining", there.join(&made[0].0.addresses())).await.unwrap();
    within("the neighbour", here.ready()).await.unwrap();
    let mut events = there.events();
    for number in 0..15_u8 {
        here.broadcast(vec![number]).await.unwrap();
    }
    let mut came = 0;
    while came < 15 {
        came += usize::from(matches!(within("an event", events.next()).await.unwrap(), Event::Message(_)));
    }
    assert_eq!(there.recv().await.map(|message| message.id), Err(RecvError::Lagged { missed: 5 }));
    assert_eq!(there.recv().await.unwrap().body().as_ref(), &[5]);
}

#[tokio::test]
async fn a_peer_that_restarts_with_its_identity_is_back_at_once() {
    let contact = endpoint().await;
    let news = Mesh::open(&contact, MeshConfig::named("news")).unwrap();
    for start in 0..3_u8 {
        let builder = Endpoint::builder().identity(Identity::from_seed([4; 32]));
        let endpoint = builder.listen("tcp://127.0.0.1:0".parse().unwrap()).bind().await.unwrap();
        let mesh = Mesh::open(&endpoint, MeshConfig::named("news")).unwrap();
        within("joining", mesh.join(&contact.addresses())).await.unwrap();
        mesh.broadcast(vec![start]).await.unwrap();
        assert_eq!(within("its message", news.recv()).await.unwrap().body().as_ref(), &[start]);
        // Dropped, not closed: as a crash leaves it.
    }
}

#[tokio::test]
async fn a_peer_that_restarts_without_a_contact_finds_those_in_its_address_book() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = MeshConfig::named("news");
    config.book = Some(directory.path().join("news.book"));
    let others = peers(4, MeshConfig::named("news")).await;
    let start = async |config: &MeshConfig| {
        let builder = Endpoint::builder().identity(Identity::from_seed([4; 32]));
        let endpoint = builder.listen("tcp://127.0.0.1:0".parse().unwrap()).bind().await.unwrap();
        let mesh = Mesh::open(&endpoint, config.clone()).unwrap();
        (endpoint, mesh)
    };
    let (contact, _) = others.first().unwrap();
    let (first, mesh) = start(&config).await;
    within("joining", mesh.join(&contact.addresses())).await.unwrap();
    mesh.close();
    first.close().await;
    // The contact is gone for good.
    contact.close().await;
    let (second, mesh) = start(&config).await;
    within("a neighbour", mesh.ready()).await.unwrap();
    mesh.broadcast("back").await.unwrap();
    for (_, other) in others.iter().skip(1) {
        assert_eq!(within("its message", other.recv()).await.unwrap().body().as_ref(), b"back");
    }
    second.close().await;
    // Without its book it knows nobody.
    let (_third, mesh) = start(&MeshConfig::named("news")).await;
    assert_eq!(mesh.snapshot().unwrap().passive, 0);
}

#[tokio::test]
async fn a_book_that_cannot_be_read_is_named_and_one_that_makes_no_sense_is_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = endpoint().await;
    let mut config = MeshConfig::named("news");
    config.book = Some(directory.path().to_owned());
    let error = Mesh::open(&endpoint, config.clone()).unwrap_err();
    let OpenError::Book { path, .. } = &error else { panic!("{error}") };
    assert_eq!(path, directory.path());
    let file = directory.path().join("news.book");
    std::fs::write(&file, b"\xff\xff").unwrap();
    config.book = Some(file.clone());
    let mesh = Mesh::open(&endpoint, config.clone()).unwrap();
    assert_eq!(mesh.snapshot().unwrap().passive, 0);
    // It is replaced by one that makes sense as soon as there is somebody to write down.
    let (_other, other) = joined(&mesh, MeshConfig::named("news")).await;
    within("a neighbour", mesh.ready()).await.unwrap();
    mesh.close();
    let known = std::fs::read(&file).unwrap();
    let key = other.endpoint().peer_id();
    assert!(known.windows(32).any(|bytes| bytes == key.as_bytes()));
}
