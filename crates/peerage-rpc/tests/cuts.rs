//! What is under way survives links that are cut, and with the journal a broker that is restarted: on real endpoints.

mod notes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notes::{Divide, FetchNotes, Line, Proxy, Tail, World, WriteNote, within};
use peerage_rpc::accounts::Kind;
use peerage_rpc::{Client, Standing};
use peerage_store::{RedbStore, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_are_there_once_and_in_order_though_the_link_is_cut_again_and_again() {
    let world = World::start().await;
    let proxy = Proxy::to(&world.addresses[0]).await;
    let identity = notes::identity();
    world.broker.admit(identity.peer_id(), Kind::User, "").await.unwrap();
    let client =
        world.builder::<Client>(notes::same(&identity)).broker(world.broker.peer_id(), [proxy.address()]);
    let client = within("the client", client.connect()).await.unwrap();
    let session = client.standing().borrow().clone();
    let mut standing = client.standing();
    let writing = {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..5000 {
                client.send(WriteNote::of(&number.to_string())).await.unwrap();
            }
            client.flush().await.unwrap();
        })
    };
    let mut cuts = 0;
    while !writing.is_finished() {
        proxy.cut();
        cuts += 1;
        within("the session", standing.wait_for(|now| matches!(now, Standing::Connected { .. })))
            .await
            .unwrap();
        within("a call", client.call(FetchNotes {})).await.unwrap();
    }
    within("the writing", writing).await.unwrap();
    let notes = world.broker.model().notes_of(identity.peer_id());
    assert!(
        notes.iter().map(|note| note.parse::<u32>().unwrap()).eq(0..5000),
        "{} notes, {cuts} cuts",
        notes.len()
    );
    assert_eq!(*client.standing().borrow(), session, "it is the same session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_where_it_was_when_its_link_comes_back() {
    let world = World::start().await;
    let proxy = Proxy::to(&world.addresses[0]).await;
    let node = world.node().await;
    let identity = notes::identity();
    world.broker.admit(identity.peer_id(), Kind::User, "").await.unwrap();
    let client = world.builder::<Client>(identity).broker(world.broker.peer_id(), [proxy.address()]);
    let client = within("the client", client.connect()).await.unwrap();
    let mut lines = client.node(node.peer()).server_stream(Tail { count: 50_000 }).await.unwrap();
    for number in 0..50_000 {
        if number % 10_000 == 5_000 {
            proxy.cut();
        }
        assert_eq!(within("a line", lines.recv()).await.unwrap().unwrap(), Line { number });
    }
    assert!(within("the end", lines.recv()).await.is_none());
}

#[tokio::test]
async fn a_call_to_a_node_that_dies_says_that_it_may_have_run() {
    let world = World::start().await;
    let client = world.client().await;
    let proxy = Proxy::to(&world.addresses[0]).await;
    let identity = notes::identity();
    world.broker.admit(identity.peer_id(), Kind::Node, "").await.unwrap();
    let node = world.node_by(identity, &[proxy.address()]).await;
    let target = client.node(node.peer());
    let hanging = tokio::spawn(async move { target.call(notes::Hang {}).await });
    within("the handler", world.hangs(1)).await;
    proxy.stop();
    let status = within("the status", hanging).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.may_have_run), (peerage_rpc::Code::Unavailable, true));
}

#[tokio::test]
async fn a_call_to_a_node_whose_endpoint_shuts_down_does_not_wait_for_it_to_come_back() {
    let world = World::patient().await;
    let (client, node) = (world.client().await, world.node().await);
    let target = client.node(node.peer());
    let hanging = tokio::spawn(async move { target.call(notes::Hang {}).await });
    within("the handler", world.hangs(1)).await;
    within("its end", node.endpoint().close()).await;
    let status = within("the status", hanging).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.may_have_run), (peerage_rpc::Code::Unavailable, true));
}

#[tokio::test]
async fn an_idempotent_call_is_run_by_the_next_start_of_a_node_that_was_closed() {
    let world = World::patient().await;
    let identity = notes::identity();
    world.broker.admit(identity.peer_id(), Kind::Node, "").await.unwrap();
    let (client, node) = (world.client().await, world.node_of(notes::same(&identity)).await);
    let target = client.node(node.peer());
    let hanging = tokio::spawn(async move { target.call(notes::Hang {}).idempotent().await });
    within("the handler", world.hangs(1)).await;
    within("its end", node.close()).await;
    let node = world.node_of(identity).await;
    within("the handler of the next start", world.hangs(2)).await;
    // That one is gone for good.
    world.broker.suspend(&node.peer()).await.unwrap();
    let status = within("the status", hanging).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.may_have_run), (peerage_rpc::Code::Unavailable, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_journal_a_session_outlives_its_broker_and_every_note_is_kept_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker.redb");
    let identity = notes::identity();
    let proxy = Proxy::to_nobody().await;
    let start = |store: Arc<dyn Store>| World::kept(notes::same(&identity), store);
    let world = start(Arc::new(RedbStore::open(&path).unwrap())).await;
    proxy.turn_to(&world.addresses[0]);
    let ada = notes::identity();
    world.broker.admit(ada.peer_id(), Kind::User, "Ada").await.unwrap();
    let client = world.builder::<Client>(notes::same(&ada)).broker(world.broker.peer_id(), [proxy.address()]);
    let client = within("the client", client.connect()).await.unwrap();
    let session = client.standing().borrow().clone();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut count = 0_u32;
            while !stop.load(Ordering::SeqCst) {
                client.send(WriteNote::of(&format!("{count:06}"))).await.unwrap();
                count += 1;
            }
            client.flush().await.unwrap();
            count
        })
    };
    within("some notes", async {
        while world.kept_notes(ada.peer_id()).len() < 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within("the end", world.broker.close()).await;
    let addresses = world.addresses.clone();
    drop(world);
    let world = within("another broker", async {
        loop {
            // The file is free when the last handle of the first broker is gone.
            match RedbStore::open(&path) {
                Ok(store) => break start(Arc::new(store)).await,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert_ne!(world.addresses, addresses);
    proxy.turn_to(&world.addresses[0]);
    let before = world.kept_notes(ada.peer_id()).len();
    within("more notes", async {
        while world.kept_notes(ada.peer_id()).len() < before + 100 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    let count = within("the writing", writing).await.unwrap();
    let kept = world.kept_notes(ada.peer_id());
    assert!(kept.iter().map(|note| note.parse::<u32>().unwrap()).eq(0..count), "{} of {count}", kept.len());
    assert_eq!(*client.standing().borrow(), session, "it is the same session");
    let _ = Divide::of(1.0, 1.0);
}

#[tokio::test]
async fn without_the_journal_a_restarted_broker_says_that_the_session_is_lost() {
    let identity = notes::identity();
    let store: Arc<dyn Store> = Arc::new(peerage_store::MemoryStore::new());
    let proxy = Proxy::to_nobody().await;
    let world = World::unkept(notes::same(&identity), Arc::clone(&store)).await;
    proxy.turn_to(&world.addresses[0]);
    let ada = notes::identity();
    world.broker.admit(ada.peer_id(), Kind::User, "Ada").await.unwrap();
    let client = world.builder::<Client>(ada).broker(world.broker.peer_id(), [proxy.address()]);
    let client = within("the client", client.connect()).await.unwrap();
    client.send(WriteNote::of("milk")).await.unwrap();
    within("the flush", client.flush()).await.unwrap();
    let session = client.standing().borrow().clone();
    let target = (**client).clone();
    let hanging = tokio::spawn(async move { target.call(notes::Hang {}).await });
    within("the handler", world.hangs(1)).await;
    within("the end", world.broker.close()).await;
    let world = World::unkept(identity, store).await;
    proxy.turn_to(&world.addresses[0]);
    let status = within("the status", hanging).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.may_have_run), (peerage_rpc::Code::Unavailable, true));
    assert!(client.lost().is_some_and(|lost| lost.last_acknowledged >= 1), "{:?}", client.lost());
    within("a new session", client.ready()).await.unwrap();
    assert_ne!(*client.standing().borrow(), session);
    within("a call", client.call(FetchNotes {})).await.unwrap();
}
