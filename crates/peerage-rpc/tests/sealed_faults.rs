#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]
//! Sealed calls where the node's link is cut, and where the broker keeps a journal and is restarted.

mod notes;

use std::sync::{Arc, Mutex};

use notes::{Divide, Hang, Line, Proxy, Tail, World, WriteNote, within};
use peerage_rpc::accounts::Kind;
use peerage_rpc::{Client, Code, Node, Target};
use peerage_store::{MemoryStore, Store};
use tokio::sync::Notify;

/// A node that also keeps notes, by way of a proxy; and a client by way of another.
struct Pair {
    proxies: [Proxy; 2],
    client: Client,
    node: Node,
    target: Target,
    written: Arc<Mutex<Vec<String>>>,
    /// Told when a handler hangs, and to let it go on.
    hangs: Arc<Notify>,
    release: Arc<Notify>,
}

impl Pair {
    async fn of(world: &World) -> Self {
        let proxies = [Proxy::to(&world.addresses[0]).await, Proxy::to(&world.addresses[0]).await];
        let (ada, calc) = (notes::identity(), notes::identity());
        world.broker.admit(ada.peer_id(), Kind::User, "").await.unwrap();
        world.broker.admit(calc.peer_id(), Kind::Node, "").await.unwrap();
        let written = Arc::<Mutex<Vec<String>>>::default();
        let notes = Arc::clone(&written);
        let (hangs, release) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let (hanging, freed) = (Arc::clone(&hangs), Arc::clone(&release));
        let at = calc.peer_id();
        let node = world
            .builder::<Node>(calc)
            .broker(world.broker.peer_id(), [proxies[1].address()])
            .command::<Divide, _, _>(|_, divide| async move {
                Ok(notes::Quotient { value: divide.dividend() / divide.divisor() })
            })
            .command::<WriteNote, _, _>(move |ctx, note| {
                assert!(ctx.is_sealed());
                notes.lock().unwrap().push(note.text().to_owned());
                async { Ok(notes::Empty {}) }
            })
            .command::<Hang, _, _>(move |_, _| {
                hanging.notify_one();
                let freed = Arc::clone(&freed);
                async move {
                    freed.notified().await;
                    Ok(notes::Empty {})
                }
            })
            .server_stream::<Tail, _, _>(|_, tail, sender| async move {
                for number in 0..tail.count {
                    sender.send(Line { number }).await?;
                }
                Ok(())
            });
        let node = within("the node", node.connect()).await.unwrap();
        let client = world.builder::<Client>(ada).broker(world.broker.peer_id(), [proxies[0].address()]);
        let client = within("the client", client.connect()).await.unwrap();
        let target = client.node(at).sealed();
        Self { proxies, client, node, target, written, hangs, release }
    }

    /// Divides, and again while the node is known not to have been reached.
    async fn divide(&self, number: u32) -> (f64, u32) {
        let mut tries = 0;
        loop {
            tries += 1;
            match within("a call", self.target.call(Divide::of(f64::from(number), 2.0))).await {
                Ok(quotient) => return (quotient.value, tries),
                Err(status) => {
                    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, false), "{status}");
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_at_a_node_goes_on_in_its_channel_when_the_node_s_link_is_back() {
    let world = World::patient().await;
    let pair = Pair::of(&world).await;
    let mut lines = within("a stream", pair.target.server_stream(Tail { count: 50_000 })).await.unwrap();
    let streaming = async {
        for number in 0..50_000 {
            if number % 10_000 == 5_000 {
                pair.proxies[1].cut();
            }
            assert_eq!(within("a line", lines.recv()).await.unwrap(), Ok(Line { number }));
        }
        assert_eq!(within("the end", lines.recv()).await, None);
    };
    let calling = async {
        for number in 0..200 {
            assert_eq!(pair.divide(number).await.0, f64::from(number) / 2.0);
        }
    };
    tokio::join!(streaming, calling);
    // One that was at the node when the link was cut is answered all the same.
    let waiting = tokio::spawn(pair.target.call(Hang {}).into_future());
    within("the handler", pair.hangs.notified()).await;
    pair.proxies[1].cut();
    pair.divide(2).await;
    assert!(!waiting.is_finished(), "its node has it");
    pair.release.notify_one();
    assert_eq!(within("the answer", waiting).await.unwrap(), Ok(notes::Empty {}));
    assert_eq!(pair.node.sealed_refused(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_journal_sealed_calls_are_run_once_and_a_restarted_broker_carries_new_ones() {
    let (identity, store) = (notes::identity(), Arc::new(MemoryStore::new()) as Arc<dyn Store>);
    let world = World::kept(notes::same(&identity), Arc::clone(&store)).await;
    let pair = Pair::of(&world).await;
    for number in 0..20 {
        within("a note", pair.target.send(WriteNote::of(&number.to_string()))).await.unwrap();
        assert_eq!(pair.divide(number).await, (f64::from(number) / 2.0, 1));
    }
    within("the notes", pair.client.flush()).await.unwrap();
    let expected = |count: u32| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(*pair.written.lock().unwrap(), expected(20));
    // What a node has when the broker ends may have run, and is not run again.
    let hanging = tokio::spawn(pair.target.call(Hang {}).into_future());
    within("the handler", pair.hangs.notified()).await;
    assert_eq!(pair.node.sealed_refused(), 0);
    within("the end", world.broker.close()).await;
    let world = World::kept(identity, store).await;
    pair.proxies.iter().for_each(|proxy| proxy.turn_to(&world.addresses[0]));
    let status = within("the status", hanging).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, true), "{status}");
    assert_eq!(pair.divide(3).await.0, 1.5);
    for number in 20..40 {
        within("a note", pair.target.send(WriteNote::of(&number.to_string()))).await.unwrap();
    }
    within("the notes", pair.client.flush()).await.unwrap();
    assert_eq!(*pair.written.lock().unwrap(), expected(40));
}
