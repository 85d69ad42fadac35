//! Broker, node and client as a program holds them, on real endpoints: over TCP on loopback, and over memory.

mod notes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use notes::{
    Divide, Echo, Empty, Fail, FetchNotes, Ghost, Hang, Line, Measure, NodesOnly, Notes, Number, Panic, Sum,
    Tail, World, WriteNote, within,
};
use peerage_identity::Identity;
use peerage_rpc::accounts::Kind;
use peerage_rpc::{Client, Code, ConnectError, Node, Standing, Status};
use tokio::sync::mpsc;

#[tokio::test]
async fn a_note_that_was_sent_is_there_when_the_notes_are_fetched_and_each_user_has_its_own() {
    let world = World::start().await;
    let (ada, bob) = (world.client().await, world.client().await);
    ada.send(WriteNote::of("milk")).await.unwrap();
    bob.send(WriteNote::of("nails")).await.unwrap();
    let fetched = within("the notes", ada.call(FetchNotes {})).await.unwrap();
    assert_eq!(fetched.notes, ["milk"]);
    ada.send(WriteNote::of("bread")).await.unwrap();
    assert_eq!(within("the notes", ada.call(FetchNotes {})).await.unwrap().notes, ["milk", "bread"]);
    assert_eq!(within("the notes", bob.call(FetchNotes {})).await.unwrap().notes, ["nails"]);
    // It cannot be given a user other than by its key: the note's own field is its text alone.
    assert_eq!(ada.close().await.cut, 0);
}

#[tokio::test]
async fn a_status_of_a_handler_reaches_the_caller_with_code_message_and_details() {
    let world = World::start().await;
    let client = world.client().await;
    let status =
        within("the failure", client.call(Fail { text: "no such note".to_owned() })).await.unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (Code::InvalidArgument, "no such note"));
    assert_eq!(status.details, [("note".to_owned(), Bytes::from_static(b"7"))]);
}

#[tokio::test]
async fn a_node_that_is_offered_divides_for_a_client_that_knows_only_its_key() {
    let world = World::start().await;
    let client = world.client().await;
    let mut offers = client.offers::<notes::NodeList>();
    let node = world.node().await;
    let offered = loop {
        let offered = within("the offers", offers.next()).await.unwrap().unwrap();
        if let Some(key) = offered.nodes.first() {
            break key.clone();
        }
    };
    assert_eq!(offered, node.endpoint().peer_id().as_bytes().to_vec());
    let target = client.node(node.endpoint().peer_id());
    assert_eq!(within("ten by five", target.call(Divide::of(10.0, 5.0))).await.unwrap().value, 2.0);
    let status = within("ten by zero", target.call(Divide::of(10.0, 0.0))).await.unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (Code::InvalidArgument, "division by zero"));
    assert!(!status.may_have_run);
    assert_eq!(within("a group", client.group("calc").call(Divide::of(9.0, 3.0))).await.unwrap().value, 3.0);
}

#[tokio::test]
async fn a_missing_field_is_named_and_the_handler_is_not_run_at_broker_and_node() {
    let world = World::start().await;
    let (client, node) = (world.client().await, world.node().await);
    let without = Divide { dividend: Some(1.0), divisor: None };
    let status = within("the node", client.node(node.peer()).call(without)).await.unwrap_err();
    assert_eq!(status, Status::invalid_argument("`divide` needs `divisor`"));
    client.send(WriteNote { text: None }).await.unwrap();
    let status = within("the flush", client.flush()).await.unwrap_err();
    assert_eq!(status, Status::invalid_argument("`write_note` needs `text`"));
    assert_eq!(client.failed_sends().len(), 1);
    assert_eq!(within("the notes", client.call(FetchNotes {})).await.unwrap().notes, [""; 0]);
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_a_typed_status_and_harms_nobody() {
    let world = World::start().await;
    let (client, node) = (world.client().await, world.node().await);
    let status = within("unknown", client.call(Ghost {})).await.unwrap_err();
    assert_eq!(status, Status::unimplemented("there is no command `ghost`"));
    let status = within("unknown at a node", client.node(node.peer()).call(Ghost {})).await.unwrap_err();
    assert_eq!(status, Status::unimplemented("there is no command `ghost`"));
    let status = within("for nodes", client.call(NodesOnly {})).await.unwrap_err();
    assert_eq!(status.code, Code::PermissionDenied);
    within("for nodes", node.call(NodesOnly {})).await.unwrap();
    let malformed = client.call_untyped("fail", Bytes::from_static(b"\x0a\xff"));
    assert_eq!(within("malformed", malformed).await.unwrap_err().code, Code::InvalidArgument);
    let stranger = Identity::generate().unwrap().peer_id();
    let status = within("no such node", client.node(stranger).call(Divide::of(1.0, 1.0))).await.unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, false));
    let status = within("a panic", client.call(Panic {})).await.unwrap_err();
    assert_eq!(status.code, Code::Internal);
    // A command that streams, called as if it did not; one that answers, sent as if it did not.
    let as_request = client.call_untyped("tail", Bytes::new());
    assert_eq!(within("a stream as a request", as_request).await.unwrap_err().code, Code::InvalidArgument);
    client.send_untyped("fetch_notes", Bytes::new()).await.unwrap();
    assert_eq!(within("the flush", client.flush()).await.unwrap_err().code, Code::InvalidArgument);
    let long = client.call(Fail { text: "x".repeat(70_000) });
    assert_eq!(within("a long call", long).await.unwrap_err().code, Code::ResourceExhausted);
    let divided = within("one that goes well", client.node(node.peer()).call(Divide::of(8.0, 2.0))).await;
    assert_eq!(divided.unwrap().value, 4.0);
}

#[tokio::test]
async fn who_has_no_account_is_refused_and_told_why() {
    let world = World::start().await;
    let refused = world.builder::<Client>(Identity::generate().unwrap()).connect();
    let Err(ConnectError::Refused(status)) = within("the refusal", refused).await else { panic!("it is in") };
    assert_eq!(status.code, Code::Unauthenticated);
}

#[tokio::test]
async fn an_invite_is_good_once_and_the_account_acts_when_it_is_confirmed() {
    let world = World::start().await;
    let invite = world.broker.invite(Kind::User, Duration::from_secs(60)).await.unwrap();
    let invite = invite.to_string().parse::<peerage_rpc::accounts::Invite>().unwrap();
    let ada = notes::identity();
    let admitted =
        within("enrolment", world.builder::<Client>(notes::same(&ada)).enrol(&invite)).await.unwrap();
    assert_eq!((admitted.kind, admitted.confirmed), (Kind::User, false));
    let early = within("too early", world.builder::<Client>(notes::same(&ada)).connect()).await;
    assert!(
        matches!(&early, Err(ConnectError::Refused(status)) if status.code == Code::PermissionDenied),
        "{early:?}"
    );
    let other = within("a second use", world.builder::<Client>(notes::identity()).enrol(&invite)).await;
    assert!(
        matches!(&other, Err(ConnectError::Refused(status)) if status.code == Code::PermissionDenied),
        "{other:?}"
    );
    world.broker.confirm(&ada.peer_id()).await.unwrap();
    let client = within("the session", world.builder::<Client>(notes::same(&ada)).connect()).await.unwrap();
    // Suspended, it hears so at once.
    let mut standing = client.standing();
    world.broker.suspend(&ada.peer_id()).await.unwrap();
    within("the end", standing.wait_for(|now| matches!(now, Standing::Lost(_)))).await.unwrap();
    assert_eq!(client.ready().await.unwrap_err().code, Code::PermissionDenied);
    let status = client.call(FetchNotes {}).await.unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::PermissionDenied, false));
}

#[tokio::test]
async fn a_callback_comes_later_and_the_caller_goes_on() {
    let world = World::start().await;
    let client = world.client().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    client.send(WriteNote::of("milk")).await.unwrap();
    let then = tell.clone();
    client.call_then(FetchNotes {}, move |fetched| then.send(fetched.unwrap().notes).unwrap());
    tell.send(vec!["before".to_owned()]).unwrap();
    assert_eq!(told.recv().await.unwrap(), ["before"]);
    assert_eq!(within("the callback", told.recv()).await.unwrap(), ["milk"]);
    // One that panics harms nobody, and one that is cut is called all the same.
    client.call_then(FetchNotes {}, |_| panic!("as it should"));
    let then = tell.clone();
    client.call_then(Hang {}, move |result| then.send(vec![result.unwrap_err().code.to_string()]).unwrap());
    within("another call", client.call(FetchNotes {})).await.unwrap();
    client.close().await;
    assert_eq!(within("the last", told.recv()).await.unwrap(), ["cancelled"]);
}

#[tokio::test]
async fn a_stream_through_the_broker_is_whole_and_in_order() {
    let world = World::start().await;
    let (client, node) = (world.client().await, world.node().await);
    let count = 20_000;
    let mut lines = client.node(node.peer()).server_stream(Tail { count }).await.unwrap();
    for number in 0..count {
        let line = within("a line", lines.recv()).await.unwrap().unwrap();
        assert_eq!(line.number, number);
    }
    assert!(within("the end", lines.recv()).await.is_none());
    // One that fails says so last.
    let mut lines = client.node(node.peer()).server_stream(Tail { count: 1_000_000 }).await.unwrap();
    assert_eq!(within("the first", lines.recv()).await.unwrap().unwrap(), Line { number: 0 });
    drop(lines);
    assert_eq!(
        within("after it", client.node(node.peer()).call(Divide::of(4.0, 2.0))).await.unwrap().value,
        2.0
    );
}

#[tokio::test]
async fn streams_go_up_and_both_ways() {
    let world = World::start().await;
    let (client, node) = (world.client().await, world.node().await);
    for target in [client.node(node.peer()), (**client).clone()] {
        let sum = target.client_stream::<Sum>().await.unwrap();
        for number in 1..=5000 {
            sum.send(Sum { number }).await.unwrap();
        }
        sum.send_all((1..=10).map(|number| Sum { number })).await.unwrap();
        let total = within("the sum", sum.finish()).await.unwrap();
        assert_eq!(total, Number { value: 5000 * 5001 / 2 + 55 });

        let (sender, mut receiver) = target.channel::<Echo>().await.unwrap();
        for number in 0..1000 {
            sender.send(Echo { number }).await.unwrap();
            assert_eq!(within("the echo", receiver.recv()).await.unwrap().unwrap().value, number);
        }
        sender.finish();
        assert!(within("the end", receiver.recv()).await.is_none());
    }
}

#[tokio::test]
async fn bulk_data_arrives_unchanged_both_ways() {
    let world = World::start().await;
    let (client, node) = (world.client().await, world.node().await);
    let bytes: Bytes = (0..3_000_000_u32).map(|at| (at * 7 % 251) as u8).collect::<Vec<_>>().into();
    let hash = blake3::hash(&bytes);
    for target in [client.node(node.peer()), (**client).clone()] {
        let call = target.call(Measure { echo: true }).bulk_bytes(bytes.clone()).bulk_reply();
        let (measured, reader) = within("the measure", call).await.unwrap();
        assert_eq!((measured.bytes, measured.hash.as_slice()), (3_000_000, hash.as_bytes().as_slice()));
        let back = within("the echo", reader.collect(4_000_000)).await.unwrap();
        assert!(back == bytes, "{} bytes came back", back.len());
        // None comes back where none is given.
        let call =
            target.call(Measure { echo: false }).bulk(std::io::Cursor::new(vec![1; 100_000])).bulk_reply();
        let (measured, reader) = within("the measure", call).await.unwrap();
        assert_eq!(measured.bytes, 100_000);
        assert_eq!(within("nothing", reader.collect(1)).await.unwrap(), Bytes::new());
    }
}

#[tokio::test]
async fn bulk_data_that_nobody_reads_any_more_makes_room_for_the_next() {
    let world = World::start().await;
    let (client, node) = (world.client().await, world.node().await);
    let bytes = Bytes::from(vec![7; 2_000_000]);
    for target in [client.node(node.peer()), (**client).clone()] {
        // More than may have streams at once.
        for _ in 0..80 {
            let call = target.call(Measure { echo: true }).bulk_bytes(bytes.clone()).bulk_reply();
            let (measured, reader) = within("the measure", call).await.unwrap();
            assert_eq!(measured.bytes, 2_000_000);
            drop(reader);
        }
    }
}

#[tokio::test]
async fn messages_of_a_stream_wait_for_their_call_when_it_waits_for_a_one_way_command() {
    let world = World::start().await;
    let client = world.client().await;
    let identity = notes::identity();
    let peer = identity.peer_id();
    world.broker.admit(peer, Kind::Node, "slow").await.unwrap();
    let go = Arc::new(tokio::sync::Notify::new());
    let gate = Arc::clone(&go);
    let (started, mut starts) = mpsc::unbounded_channel();
    let _node = world
        .builder::<Node>(identity)
        .command::<WriteNote, _, _>(move |_, _| {
            started.send(()).unwrap();
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                Ok(Empty {})
            }
        })
        .client_stream::<Sum, _, _>(|_, mut numbers| async move {
            let mut value = 0;
            while let Some(number) = numbers.recv().await {
                value += number?.number;
            }
            Ok(Number { value })
        })
        .connect()
        .await
        .unwrap();
    within("the node", world.session_of(peer)).await;
    let target = client.node(peer);
    target.send(WriteNote::of("it takes its time")).await.unwrap();
    within("its start", starts.recv()).await.unwrap();
    let sum = target.client_stream::<Sum>().await.unwrap();
    sum.send_all((1..=100).map(|number| Sum { number })).await.unwrap();
    // Whoever answers this has had all that was sent before.
    client.call(FetchNotes {}).await.unwrap();
    within("an answer of the node", target.call(Divide::of(1.0, 1.0)).timeout(Duration::from_millis(50)))
        .await
        .unwrap_err();
    go.notify_one();
    assert_eq!(within("the sum", sum.finish()).await.unwrap().value, 5050);
}

#[tokio::test]
async fn a_call_that_is_dropped_or_out_of_time_stops_its_handler() {
    let world = World::start().await;
    let (client, node) = (world.client().await, world.node().await);
    for target in [client.node(node.peer()), (**client).clone()] {
        let before = world.dropped.load(Ordering::SeqCst);
        {
            let mut hanging = std::pin::pin!(target.call(Hang {}).into_future());
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(hanging.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
            within("the handler", world.hangs(before + 1)).await;
        }
        within("its end", world.drops(before + 1)).await;
        let late = within("the deadline", target.call(Hang {}).timeout(Duration::from_millis(50))).await;
        let status = late.unwrap_err();
        assert_eq!((status.code, status.may_have_run), (Code::DeadlineExceeded, true));
        within("its end", world.drops(before + 2)).await;
    }
}

#[tokio::test]
async fn the_broker_calls_sessions_and_nodes_by_name_and_key() {
    let world = World::start().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let identity = notes::identity();
    let peer = identity.peer_id();
    world.broker.admit(peer, Kind::User, "Ada").await.unwrap();
    let client = world
        .builder::<Client>(identity)
        .command::<WriteNote, _, _>(move |ctx, note| {
            assert_eq!(ctx.kind(), None);
            assert_eq!(note.text(), "from the broker");
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok(Empty {}) }
        })
        .connect()
        .await
        .unwrap();
    let node = world.node().await;
    let session = within("the session", world.session_of(peer)).await;
    session.send(WriteNote::of("from the broker")).await.unwrap();
    within("the flush", session.flush()).await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    within("the node", world.session_of(node.peer())).await;
    let divided = within("the node", world.broker.node(node.peer()).call(Divide::of(6.0, 3.0))).await;
    assert_eq!(divided.unwrap().value, 2.0);
    let divided = within("the group", world.broker.group("calc").call(Divide::of(6.0, 2.0))).await;
    assert_eq!(divided.unwrap().value, 3.0);
    assert!(session.user().is_some() && session.node().is_none());
    session.end(&Status::aborted("enough"));
    let mut standing = client.standing();
    let lost =
        within("the end", standing.wait_for(|now| matches!(now, Standing::Lost(_)))).await.unwrap().clone();
    assert!(matches!(&lost, Standing::Lost(lost) if lost.status == Status::aborted("enough")), "{lost:?}");
    assert_eq!(world.broker.sessions_of(&peer).len(), 0);
}

#[tokio::test]
async fn a_node_that_is_gone_is_known_to_be_gone_at_once_and_a_second_one_takes_over() {
    let world = World::start().await;
    let client = world.client().await;
    let mut offers = client.offers::<notes::NodeList>();
    let node = world.node().await;
    let key = node.peer();
    while within("the offer", offers.next()).await.unwrap().unwrap().nodes.is_empty() {}
    let mut standing = node.standing();
    let second = within("the second", world.node_of(notes::same(&node.identity))).await;
    let lost = within("word of it", standing.wait_for(|now| matches!(now, Standing::Lost(_))))
        .await
        .unwrap()
        .clone();
    assert!(matches!(&lost, Standing::Lost(lost) if lost.status.code == Code::Aborted), "{lost:?}");
    assert_eq!(within("the second", client.node(key).call(Divide::of(2.0, 1.0))).await.unwrap().value, 2.0);
    second.close().await;
    loop {
        let offered = within("the offers", offers.next()).await.unwrap().unwrap();
        if offered.nodes.is_empty() {
            break;
        }
    }
    let status = within("a call to nobody", client.node(key).call(Divide::of(2.0, 1.0))).await.unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, false));
}

#[tokio::test]
async fn more_calls_than_may_be_under_way_wait_for_their_turn() {
    let world = World::start().await;
    let client = world.client().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..3000 {
        let target = (**client).clone();
        calls.spawn(async move { target.call(Fail { text: number.to_string() }).await.unwrap_err().message });
    }
    let mut answers: Vec<usize> = Vec::new();
    while let Some(answer) = within("an answer", calls.join_next()).await {
        answers.push(answer.unwrap().parse().unwrap());
    }
    answers.sort_unstable();
    assert!(answers.iter().copied().eq(0..3000));
    // And one-way commands keep their order through it.
    for number in 0..3000 {
        client.send(WriteNote::of(&number.to_string())).await.unwrap();
    }
    within("the flush", client.flush()).await.unwrap();
    let notes = world.broker.model().notes_of(client.peer());
    assert!(notes.iter().map(|note| note.parse::<usize>().unwrap()).eq(0..3000), "{}", notes.len());
    // Those who do not wait are told.
    let mut refused = None;
    for _ in 0..3000 {
        if let Err(status) = client.try_send(&WriteNote::of("more")) {
            refused = Some(status);
            break;
        }
    }
    assert_eq!(refused.map(|status| status.code), Some(Code::ResourceExhausted));
}

#[tokio::test]
async fn everything_works_over_memory_too() {
    let world = World::over_memory().await;
    let (client, node) = (world.client().await, world.node().await);
    client.send(WriteNote::of("milk")).await.unwrap();
    assert_eq!(within("the notes", client.call(FetchNotes {})).await.unwrap().notes, ["milk"]);
    let divided = within("ten by five", client.node(node.peer()).call(Divide::of(10.0, 5.0))).await;
    assert_eq!(divided.unwrap().value, 2.0);
    client.close().await;
    node.close().await;
    within("the end", world.broker.close()).await;
}

#[tokio::test]
async fn hooks_hear_of_sessions_and_nodes_as_they_come_and_go() {
    let world = World::start().await;
    let client = world.client().await;
    let node = world.node().await;
    within("the node", world.session_of(node.peer())).await;
    client.close().await;
    node.close().await;
    let model: &Notes = world.broker.model();
    let expected = ["session came", "node came", "session gone", "node gone"];
    within("the hooks", model.heard(&expected)).await;
    let _ = Node::builder();
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_up_nobody_else() {
    let world = World::start().await;
    let (client, node) = (world.client().await, world.node().await);
    let target = client.node(node.peer());
    let mut unread = target.server_stream(Tail { count: 100_000 }).await.unwrap();
    assert_eq!(within("the first", unread.recv()).await.unwrap().unwrap(), Line { number: 0 });
    let mut read = target.server_stream(Tail { count: 20_000 }).await.unwrap();
    for number in 0..20_000 {
        assert_eq!(within("a line", read.recv()).await.unwrap().unwrap(), Line { number });
    }
    assert_eq!(within("a call", target.call(Divide::of(4.0, 2.0))).await.unwrap().value, 2.0);
    for number in 1..100_000 {
        assert_eq!(within("a late line", unread.recv()).await.unwrap().unwrap(), Line { number });
    }
    assert!(within("the end", unread.recv()).await.is_none());
}

#[tokio::test]
async fn a_user_with_several_sessions_has_each_of_them() {
    let world = World::start().await;
    let first = world.client().await;
    let second = world.builder::<Client>(notes::same(&first.identity)).connect();
    let second = within("the second session", second).await.unwrap();
    first.send(WriteNote::of("from the first")).await.unwrap();
    first.flush().await.unwrap();
    second.send(WriteNote::of("from the second")).await.unwrap();
    let fetched = within("the notes", second.call(FetchNotes {})).await.unwrap().notes;
    assert_eq!(fetched, ["from the first", "from the second"]);
    assert_eq!(world.broker.sessions().len(), 2);
    second.close().await;
    within("the first still", first.call(FetchNotes {})).await.unwrap();
}

#[tokio::test]
async fn a_command_that_is_there_twice_is_told_before_anything_starts() {
    let world = World::start().await;
    let twice = world
        .builder::<Client>(notes::identity())
        .command::<Ghost, _, _>(|_, _| async { Ok(Empty {}) })
        .command::<Ghost, _, _>(|_, _| async { Ok(Empty {}) })
        .start()
        .await;
    let expected = peerage_rpc::StartError::Commands(peerage_rpc::CommandsError::Twice("ghost".to_owned()));
    assert_eq!(twice.unwrap_err(), expected);
}

#[tokio::test]
async fn a_handler_at_a_node_knows_who_calls_which_call_it_is_and_how_long_it_may_take() {
    let world = World::start().await;
    let client = world.client().await;
    let identity = notes::identity();
    world.broker.admit(identity.peer_id(), Kind::Node, "").await.unwrap();
    let (tell, mut told) = mpsc::unbounded_channel();
    let node = world
        .builder::<Node>(notes::same(&identity))
        .command::<Ghost, _, _>(move |ctx, _| {
            tell.send((ctx.peer(), ctx.kind(), ctx.call_id(), ctx.time_left())).unwrap();
            async { Ok(Empty {}) }
        })
        .command::<Fail, _, _>(|_, _| async { Err(Status::internal("x".repeat(1000))) })
        .untyped("long", peerage_rpc::Declaration::request(), |_, _| async {
            Ok(Bytes::from(vec![0; 70_000]))
        })
        .connect();
    let _node = within("the node", node).await.unwrap();
    let target = client.node(identity.peer_id());
    within("a call", target.call(Ghost {}).timeout(Duration::from_secs(100))).await.unwrap();
    let Standing::Connected { session, .. } = client.standing().borrow().clone() else {
        panic!("not connected")
    };
    let (peer, kind, first, left) = told.recv().await.unwrap();
    assert_eq!((peer, kind, first.session), (client.peer(), Some(Kind::User), session));
    assert!(
        left.is_some_and(|left| left <= Duration::from_secs(100) && left > Duration::from_secs(1)),
        "{left:?}"
    );
    within("a call", target.call(Ghost {})).await.unwrap();
    let (.., second, left) = told.recv().await.unwrap();
    assert!(second > first && left.is_none());
    // A reply that is too long is the node's fault, and told.
    let status = within("a long reply", target.call_untyped("long", Bytes::new())).await.unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
}
