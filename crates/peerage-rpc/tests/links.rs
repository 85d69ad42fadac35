#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]
//! Links that take shorter messages than a session could have: what is said is shorter, or refused, and nobody waits for ever.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::host::Host;
use common::wire::{self, Body};
use common::{SECOND, World};
use peerage_identity::Identity;
use peerage_machine::LinkId;
use peerage_rpc::accounts::Kind;
use peerage_rpc::{
    Broker, BrokerConfig, Client, Code, Command, Declaration, Destination, Event, LEAST_MAX_MESSAGE, Node,
    NotPlaced, Shape, StartError,
};
use peerage_sim::{Config, peer};
use peerage_wire::proto::rpc::v1 as proto;

/// What a link of 70,000 bytes leaves for a message.
const TAKES: u64 = 70_000;
const LIMIT: usize = 70_000 - (24 << 10);

#[test]
fn all_that_a_session_may_say_arrives_over_links_that_take_less_than_the_broker_would_grant() {
    let config = Config { max_message: TAKES, ..Config::seeded(1) };
    let mut world = World::new(config, BrokerConfig::default(), 1, 1);
    let (broker, client, node) = (world.broker, world.parties[0], world.parties[1]);
    let to_node = Destination::Node(peer(100));
    for at in [broker, node] {
        world.handle(at, "echo", |run| (Duration::ZERO, Ok(run.payload.clone()), Vec::new()));
        world.handle(at, "take", |_| (20 * SECOND, Ok(Bytes::new()), Vec::new()));
    }
    world.connect();
    let limits = world.sim.command(client, |actor, _, _| actor.party().session().unwrap().2);
    assert_eq!(limits.message_bytes, LIMIT as u64);
    let longest = Bytes::from(vec![7; LIMIT]);
    for to in [Destination::Peer, to_node.clone()] {
        let echo = World::placing("echo", longest.clone(), to.clone(), Shape::REQUEST);
        assert_eq!(world.ask(client, echo), Ok(longest.clone()));
        let beyond = World::placing("echo", vec![7; LIMIT + 1], to.clone(), Shape::REQUEST);
        let refused = world.sim.command(client, |actor, now, out| actor.party().call(now, beyond, out));
        assert_eq!(refused.unwrap_err(), NotPlaced::TooLong { bytes: LIMIT as u64 + 1, limit: LIMIT as u64 });
        // Messages that have gathered, and a long one behind them in the same packet.
        let take = World::placing("take", Bytes::new(), to, Shape::STREAM_UP.and(Shape::BULK_UP));
        let stream = world.call(client, take).unwrap().stream(false);
        world.sim.command(client, |actor, _, out| {
            for bytes in [16_000, 16_000, LIMIT, 100] {
                actor.party().send(stream, vec![1; bytes].into(), out).unwrap();
            }
            let bulk = peerage_rpc::StreamKey { is_bulk: true, ..stream };
            actor.party().send(bulk, vec![1; LIMIT].into(), out).unwrap();
        });
    }
    world.run_for(SECOND);
    for at in [broker, node] {
        let came = world.seen(at).iter().filter_map(|event| match event {
            Event::Data { count, .. } => Some(*count),
            _ => None,
        });
        assert_eq!(came.sum::<u32>(), 5);
    }
}

/// A node whose link takes little, and a user's.
fn unlike() -> (Host, LinkId, LinkId) {
    let mut host = Host::new(BrokerConfig::default());
    host.takes = TAKES;
    let node = host.opened_node(100, &["all"]);
    host.takes = 16 << 20;
    let user = host.opened(1);
    (host, node, user)
}

fn to_node(flags: u32, bytes: usize) -> Body {
    let node = Bytes::copy_from_slice(peer(100).as_bytes());
    Body::Call(proto::Call { node, payload: vec![0; bytes].into(), ..wire::call("work", flags) })
}

fn items(call: u64, to_caller: bool, bytes: usize) -> Body {
    // One message, with its length in front.
    let mut items = vec![0; bytes + 3];
    items[..3].copy_from_slice(&[bytes as u8 | 0x80, (bytes >> 7) as u8 | 0x80, (bytes >> 14) as u8]);
    Body::Items(proto::Items { call, to_caller, count: 1, items: items.into() })
}

#[test]
fn parameters_that_a_nodes_link_does_not_take_are_refused_and_go_to_another_of_its_group() {
    let (mut host, node, user) = unlike();
    host.item(user, to_node(0, LIMIT + 1));
    assert_eq!(host.code(user), Code::InvalidArgument.number());
    assert!(host.hears(node).iter().all(|body| matches!(body, Body::Caller(_))));
    let other = host.opened_node(101, &["all"]);
    let call =
        proto::Call { group: "all".into(), payload: vec![0; LIMIT + 1].into(), ..wire::call("work", 0) };
    for _ in 0..4 {
        host.item(user, Body::Call(call.clone()));
    }
    let calls = host.hears(other).into_iter().filter(|body| matches!(body, Body::Call(_)));
    assert_eq!((calls.count(), host.replies(user)), (4, Vec::new()));
    host.item(user, to_node(0, LIMIT));
    assert_eq!(host.hears(node).iter().filter(|body| matches!(body, Body::Call(_))).count(), 1);
}

#[test]
fn a_reply_that_its_callers_link_does_not_take_is_a_status() {
    let mut host = Host::new(BrokerConfig::default());
    let node = host.opened_node(100, &[]);
    host.takes = TAKES;
    let user = host.opened(1);
    let call = host.item(user, to_node(0, 0));
    let [.., Body::Call(_)] = &host.hears(node)[..] else { panic!("the node has no call") };
    let to = 2;
    host.item(node, Body::Reply(proto::Reply { to, payload: vec![0; 64 << 10].into(), status: None }));
    let [proto::Reply { to, status: Some(status), .. }] = &host.replies(user)[..] else {
        panic!("no status")
    };
    assert_eq!((*to, status.code, status.may_have_run), (call, Code::ResourceExhausted.number(), true));
}

#[test]
fn a_message_of_a_stream_that_its_receivers_link_does_not_take_ends_its_call_and_no_other() {
    const STREAM_UP: u32 = 2;
    const STREAM_DOWN: u32 = 4;
    const BULK_UP: u32 = 8;
    let (mut host, node, user) = unlike();
    let call = host.item(user, to_node(STREAM_UP | BULK_UP, 0));
    host.hears(node);
    host.say(user, wire::packet(1, true, items(call, false, 32 << 10)));
    host.item(user, items(call, false, LIMIT));
    let came = host.hears(node).iter().filter(|body| matches!(body, Body::Items(_))).count();
    assert_eq!((came, host.replies(user)), (2, Vec::new()), "they go through");
    host.item(user, items(call, false, 64_000));
    assert_eq!(host.code(user), Code::ResourceExhausted.number());
    assert!(matches!(host.hears(node)[..], [Body::Cancel(_)]));
    // The other way, it is the caller's link that takes little.
    let mut host = Host::new(BrokerConfig::default());
    let node = host.opened_node(100, &[]);
    host.takes = TAKES;
    let user = host.opened(1);
    host.item(user, to_node(STREAM_DOWN, 0));
    host.hears(node);
    host.item(node, items(2, true, 64_000));
    assert_eq!(host.code(user), Code::ResourceExhausted.number());
    assert!(matches!(host.hears(node)[..], [Body::Cancel(_)]));
    host.serves(user);
}

#[test]
fn offers_that_a_link_does_not_take_are_not_sent_and_those_after_them_are() {
    let mut host = Host::new(BrokerConfig::default());
    host.takes = TAKES;
    let user = host.opened(1);
    host.ask(|broker, _, out| broker.offer(peer(1), vec![0; 80_000].into(), out));
    assert_eq!((host.hears(user), host.counted["rpc_long_offers_total"]), (Vec::new(), 1));
    host.ask(|broker, _, out| broker.offer(peer(1), vec![0; 60_000].into(), out));
    assert!(matches!(host.hears(user)[..], [Body::Offers(_)]));
    host.serves(user);
}

#[test]
fn a_link_that_takes_too_little_for_any_session_is_refused_and_told_why() {
    let mut host = Host::new(BrokerConfig::default());
    let other = host.opened(2);
    host.takes = LEAST_MAX_MESSAGE - 1;
    let link = host.up(1);
    host.say(link, wire::open());
    let [Body::Refused(refused)] = &host.hears(link)[..] else { panic!("it is not refused") };
    let status = refused.status.as_ref().unwrap();
    assert_eq!(status.code, Code::FailedPrecondition.number());
    assert!(status.message.contains("max_message"), "{}", status.message);
    host.serves(other);
}

#[test]
fn a_party_whose_broker_takes_too_little_hears_so() {
    let config = Config { max_message: LEAST_MAX_MESSAGE - 1, ..Config::seeded(1) };
    let mut world = World::new(config, BrokerConfig::default(), 1, 0);
    world.run_for(2 * SECOND);
    let refused = world
        .seen(world.parties[0])
        .iter()
        .filter(|event| matches!(event, Event::Refused(status) if status.code == Code::FailedPrecondition));
    assert!((2..20).contains(&refused.count()), "it asks again, and not without a pause");
}

#[test]
fn a_session_does_not_go_on_by_a_link_that_takes_less_than_it_may_hold() {
    let (mut host, _, user) = unlike();
    let session = host.broker.sessions().find(|session| session.peer == peer(1)).unwrap().id;
    host.item(user, Body::Call(wire::call("ping", 0)));
    host.takes = TAKES;
    let link = host.up(1);
    let open = proto::Open { session: Bytes::copy_from_slice(&session.0), ..proto::Open::default() };
    host.say(link, wire::packet(0, false, Body::Open(open)));
    host.faulted(link, "shorter messages");
}

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(bytes = "bytes", tag = "1")]
    text: Bytes,
}

impl Command for Text {
    const NAME: &'static str = "text";
    type Reply = Self;
    fn declaration() -> Declaration {
        Declaration::request()
    }
}

fn text(bytes: usize) -> Text {
    Text { text: vec![b'x'; bytes].into() }
}

async fn broker(max_message: u64) -> Result<Broker<()>, StartError> {
    Broker::builder()
        .identity(Identity::generate().unwrap())
        .listen("tcp://127.0.0.1:0".parse().unwrap())
        .with_endpoint(move |builder| builder.configure(|config| config.link.max_message = max_message))
        .command::<Text, _, _>(|_, text| async { Ok(text) })
        .start()
        .await
}

#[tokio::test]
async fn whoever_is_made_with_links_that_take_too_little_is_told_at_once() {
    let small = LEAST_MAX_MESSAGE - 1;
    assert_eq!(broker(small).await.unwrap_err(), StartError::MaxMessage(small));
    let builder = Client::builder()
        .identity(Identity::generate().unwrap())
        .with_endpoint(move |builder| builder.configure(|config| config.link.max_message = small))
        .broker(peer(1), ["tcp://127.0.0.1:1".parse().unwrap()]);
    assert_eq!(builder.start().await.unwrap_err(), StartError::MaxMessage(small));
}

#[tokio::test]
async fn ends_with_different_maxima_call_each_other_and_hear_what_is_too_long() {
    // The broker takes less than its node, and more than its client.
    let broker = broker(80_000).await.unwrap();
    let (user, key) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    broker.admit(user.peer_id(), Kind::User, "").await.unwrap();
    broker.admit(key.peer_id(), Kind::Node, "").await.unwrap();
    let addresses = broker.endpoint().addresses();
    let node = Node::builder()
        .identity(key)
        .broker(broker.peer_id(), addresses.clone())
        .command::<Text, _, _>(|_, asked| async move {
            Ok(if asked.text.is_empty() { text(54_000) } else { asked })
        })
        .connect()
        .await
        .unwrap();
    let client = Client::builder()
        .identity(user)
        .with_endpoint(|builder| builder.configure(|config| config.link.max_message = 70_000))
        .broker(broker.peer_id(), addresses)
        .connect()
        .await
        .unwrap();
    let to = client.node(node.endpoint().peer_id());
    for bytes in [100, 40_000] {
        assert_eq!(client.call(text(bytes)).await, Ok(text(bytes)));
        assert_eq!(to.call(text(bytes)).await, Ok(text(bytes)));
    }
    // At the client, before it leaves; at the broker, of the node's reply; and at the node, which has the broker's limit.
    for status in [client.call(text(50_000)).await, to.call(text(0)).await] {
        assert_eq!(status.unwrap_err().code, Code::ResourceExhausted);
    }
    assert_eq!(node.call(text(54_000)).await, Ok(text(54_000)));
    assert_eq!(node.call(text(56_000)).await.unwrap_err().code, Code::ResourceExhausted);
    assert_eq!(client.call(text(7)).await, Ok(text(7)));
    client.close().await;
    node.close().await;
    broker.close().await;
}
