#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]
//! Calls that the broker carries and cannot read.

mod notes;

use std::sync::Arc;

use bytes::Bytes;
use notes::{
    Divide, Echo, Fail, Ghost, Hang, Line, Measure, NodesOnly, Number, Panic, Proxy, Sum, Tail, World,
    WriteNote, within,
};
use peerage_rpc::accounts::Kind;
use peerage_rpc::{Client, Code, Destination, PartyConfig, PartyMachine, Placing, Shape, Status, Target};

async fn sealed(world: &World) -> (notes::Peer<Client>, notes::Peer<peerage_rpc::Node>, Target) {
    let (client, node) = (world.client().await, world.node().await);
    let target = client.node(node.peer()).sealed();
    (client, node, target)
}

#[tokio::test]
async fn a_sealed_call_is_answered_and_many_first_callers_share_one_handshake() {
    let world = World::over_memory().await;
    let (_client, node, target) = sealed(&world).await;
    let calls: Vec<_> = (0..32)
        .map(|number| {
            let target = target.clone();
            tokio::spawn(async move { target.call(Divide::of(f64::from(number), 2.0)).await })
        })
        .collect();
    for (number, call) in (0..).zip(calls) {
        let quotient = within("a call", call).await.unwrap().unwrap();
        assert_eq!(quotient.value, f64::from(number) / 2.0);
    }
    assert_eq!(node.sealed_refused(), 0);
}

#[tokio::test]
async fn errors_of_a_handler_and_of_the_declaration_come_sealed() {
    let world = World::over_memory().await;
    let (_client, node, target) = sealed(&world).await;
    let status =
        within("a failure", target.call(Fail { text: "no such note".to_owned() })).await.unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (Code::InvalidArgument, "no such note"));
    assert_eq!(status.details, [("note".to_owned(), Bytes::from_static(b"7"))]);
    let status = within("a missing field", target.call(Divide { dividend: Some(1.0), divisor: None })).await;
    assert_eq!(status, Err(Status::invalid_argument("`divide` needs `divisor`")));
    let status = within("an unknown command", target.call(Ghost {})).await.unwrap_err();
    assert_eq!(status, Status::unimplemented("there is no command `ghost`"));
    assert_eq!(within("a panic", target.call(Panic {})).await.unwrap_err().code, Code::Internal);
    let as_request = target.call_untyped("tail", Bytes::new());
    assert_eq!(within("a stream as a request", as_request).await.unwrap_err().code, Code::InvalidArgument);
    let timeout = target.call(Hang {}).timeout(std::time::Duration::from_millis(20));
    assert_eq!(within("a timeout", timeout).await.unwrap_err().code, Code::DeadlineExceeded);
    assert_eq!(node.sealed_refused(), 0, "all of these were opened");
}

#[tokio::test]
async fn one_way_commands_that_fail_are_told_and_only_their_caller_can_read_why() {
    let world = World::over_memory().await;
    let (client, _node, target) = sealed(&world).await;
    let sent = within("a send", target.send_untyped("ghost", Bytes::new())).await.unwrap();
    let status = within("the flush", client.flush()).await.unwrap_err();
    assert_eq!(status, Status::unimplemented("there is no command `ghost`"));
    let failed = client.failed_sends();
    assert_eq!(failed.iter().map(|failed| failed.number).collect::<Vec<_>>(), [sent.number]);
}

#[tokio::test]
async fn streams_go_all_ways_in_order_and_end_as_they_were_ended() {
    let world = World::over_memory().await;
    let (_client, _node, target) = sealed(&world).await;
    let mut lines = within("a stream", target.server_stream(Tail { count: 10_000 })).await.unwrap();
    for number in 0..10_000 {
        assert_eq!(within("a line", lines.recv()).await.unwrap(), Ok(Line { number }));
    }
    assert_eq!(within("the end", lines.recv()).await, None);
    let sum = within("a sum", target.client_stream::<Sum>()).await.unwrap();
    within("numbers", sum.send_all((0..5000).map(|number| Sum { number }))).await.unwrap();
    within("one more", sum.send(Sum { number: 1 })).await.unwrap();
    assert_eq!(within("the sum", sum.finish()).await.unwrap().value, 12_497_501);
    let (echo, mut back) = within("a channel", target.channel::<Echo>()).await.unwrap();
    for number in 0..100 {
        within("a number", echo.send(Echo { number })).await.unwrap();
        assert_eq!(within("its echo", back.recv()).await.unwrap(), Ok(Number { value: number }));
    }
    echo.fail(Status::aborted("enough"));
    assert_eq!(within("the end", back.recv()).await, Some(Err(Status::aborted("enough"))));
    let mut unknown = within("a stream", target.server_stream(Ghost {})).await.unwrap();
    let status = within("the end", unknown.recv()).await.unwrap().unwrap_err();
    assert_eq!(status, Status::unimplemented("there is no command `ghost`"));
}

#[tokio::test]
async fn bulk_data_goes_both_ways() {
    let world = World::over_memory().await;
    let (_client, _node, target) = sealed(&world).await;
    let bytes: Bytes = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    let call = target.call(Measure { echo: true }).bulk_bytes(bytes.clone()).bulk_reply();
    let (measured, reader) = within("bulk data", call).await.unwrap();
    assert_eq!(measured.hash, blake3::hash(&bytes).as_bytes());
    assert!(within("the echo", reader.collect(10_000_000)).await.unwrap() == bytes);
    let call = target.call(Measure { echo: false }).bulk_bytes(bytes).bulk_reply();
    let (_, reader) = within("bulk data", call).await.unwrap();
    assert_eq!(within("none", reader.collect(10)).await.unwrap(), Bytes::new());
    let status =
        within("a failure", target.call(Fail { text: "no".to_owned() }).bulk_reply()).await.unwrap_err();
    assert_eq!(status.message, "no");
}

#[tokio::test]
async fn only_a_node_by_its_key_can_be_called_so() {
    let world = World::over_memory().await;
    let (client, node, target) = sealed(&world).await;
    for target in [client.group("calc").sealed(), (**client).clone().sealed()] {
        let status = within("a refusal", target.call(Divide::of(1.0, 1.0))).await.unwrap_err();
        assert_eq!((status.code, status.may_have_run), (Code::FailedPrecondition, false), "{status}");
    }
    let status = target.try_send(&WriteNote::of("x")).unwrap_err();
    assert_eq!(status.code, Code::FailedPrecondition);
    let session = world.session_of(node.peer()).await;
    let from_broker = (*session).clone().sealed();
    let status = within("a refusal", from_broker.call(Divide::of(1.0, 1.0))).await.unwrap_err();
    assert_eq!(status.code, Code::FailedPrecondition);
    let nobody = client.node(notes::identity().peer_id()).sealed();
    let status = within("nobody", nobody.call(Divide::of(1.0, 1.0))).await.unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Unavailable, false));
    // Nodes call nodes.
    let other = world.node().await;
    let from_node = node.node(other.peer()).sealed();
    assert_eq!(within("a node", from_node.call(Divide::of(6.0, 2.0))).await.unwrap().value, 3.0);
    let _ = NodesOnly {};
}

#[tokio::test]
async fn a_node_that_was_restarted_is_called_in_a_new_channel() {
    let world = World::over_memory().await;
    let (_client, node, target) = sealed(&world).await;
    within("a call", target.call(Divide::of(1.0, 1.0))).await.unwrap();
    let identity = notes::same(&node.identity);
    within("its end", node.close()).await;
    let node = world.node_of(identity).await;
    let calls = (0..10).map(|_| tokio::spawn(target.call(Divide::of(8.0, 2.0)).into_future()));
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(within("a call again", call).await.unwrap().unwrap().value, 4.0);
    }
    assert!((1..=10).contains(&node.sealed_refused()), "{}", node.sealed_refused());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_streams_go_on_though_links_are_cut() {
    let world = World::start().await;
    let proxies = [Proxy::to(&world.addresses[0]).await, Proxy::to(&world.addresses[0]).await];
    let (ada, calc) = (notes::identity(), notes::identity());
    world.broker.admit(ada.peer_id(), Kind::User, "").await.unwrap();
    world.broker.admit(calc.peer_id(), Kind::Node, "").await.unwrap();
    let node = world.node_by(calc, &[proxies[1].address()]).await;
    let client = world.builder::<Client>(ada).broker(world.broker.peer_id(), [proxies[0].address()]);
    let client = Arc::new(within("the client", client.connect()).await.unwrap());
    let target = client.node(node.peer()).sealed();
    let mut lines = within("a stream", target.server_stream(Tail { count: 5_000 })).await.unwrap();
    let cutting = async {
        for number in 0..5_000 {
            if number % 1_000 == 500 {
                proxies[0].cut();
            }
            assert_eq!(within("a line", lines.recv()).await.unwrap(), Ok(Line { number }));
        }
        assert_eq!(within("the end", lines.recv()).await, None);
    };
    let calling = async {
        for number in 0..100 {
            let (one, two) = tokio::join!(
                target.call(Divide::of(f64::from(number), 1.0)).into_future(),
                target.call(Divide::of(f64::from(number), 2.0)).into_future(),
            );
            assert_eq!(
                (one.unwrap().value, two.unwrap().value),
                (f64::from(number), f64::from(number) / 2.0)
            );
        }
    };
    tokio::join!(cutting, calling);
    assert_eq!(node.sealed_refused(), 0);
}

struct Answers(tokio::sync::mpsc::UnboundedSender<peerage_rpc::Answer>, tokio::sync::watch::Sender<bool>);

impl peerage_net::Sink<PartyMachine> for Answers {
    fn event(&mut self, event: peerage_rpc::Event) {
        if matches!(event, peerage_rpc::Event::Opened { .. }) {
            self.1.send_replace(true);
        }
    }

    fn answer(&mut self, _: peerage_machine::CallId, answer: peerage_rpc::Answer) {
        self.0.send(answer).unwrap();
    }

    fn closed(&mut self) {}
}

/// By a party that does not mind what [`Target::sealed`] says.
#[tokio::test]
async fn a_broker_runs_no_sealed_call_itself() {
    let world = World::start().await;
    let identity = notes::identity();
    world.broker.admit(identity.peer_id(), Kind::User, "").await.unwrap();
    let endpoint =
        within("a bind", peerage_net::Endpoint::builder().identity(identity).bind()).await.unwrap();
    let spec = peerage_net::InstanceSpec {
        name: peerage_machine::InstanceName { protocol: "rpc".to_owned(), name: "notes".to_owned() },
        version: 1,
        parameters: Bytes::new(),
        on_return: peerage_net::OnReturn::Coexist,
    };
    let config = PartyConfig::new(world.broker.peer_id(), world.addresses.clone());
    let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
    let (open, mut opened) = tokio::sync::watch::channel(false);
    let make = |start: peerage_net::Start| PartyMachine::new(config, start.now.mono, &start.seed);
    let party = endpoint.host(spec, make, Answers(answers, open)).unwrap();
    within("the session", opened.wait_for(|is_open| *is_open)).await.unwrap();
    let placing = Placing {
        command: Bytes::new(),
        payload: Bytes::from_static(b"\x08\x04"),
        to: Destination::Peer,
        shape: Shape::SEALED,
        timeout: None,
    };
    party.call(|machine, now, out| machine.call(now, placing, out)).unwrap().unwrap();
    let status = within("the answer", answered.recv()).await.unwrap().unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Unimplemented, false));
}
