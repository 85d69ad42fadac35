//! Who may call what at a node: by the rule of the broker's application, and by what the node's commands declare.

mod common;
mod notes;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::host::Host;
use common::wire::{self, Body};
use notes::{Divide, Empty, Fail, Ghost, NodesOnly, World, within};
use peerage_rpc::accounts::Kind;
use peerage_rpc::{
    Broker, BrokerConfig, Client, Code, Command, Declaration, Destination, Model, Node, PartyBuilder, Policy,
    Status,
};
use peerage_sim::peer;
use peerage_wire::PeerId;
use peerage_wire::proto::rpc::v1 as proto;

fn denied() -> Status {
    Status::permission_denied("not for users")
}

fn to_node(command: &str, flags: u32) -> Body {
    let node = Bytes::copy_from_slice(peer(100).as_bytes());
    Body::Call(proto::Call { node, ..wire::call(command, flags) })
}

type Asked = Vec<(PeerId, Destination, Option<String>)>;

#[test]
fn the_rule_is_asked_about_each_call_to_a_node_in_order_and_what_it_refuses_is_not_passed_on() {
    let asked = Arc::<Mutex<Asked>>::default();
    let asks = Arc::clone(&asked);
    let policy = Policy::new(move |caller, to, command| {
        asks.lock().unwrap().push((caller.peer, to.clone(), command.map(str::to_owned)));
        assert_ne!(command, Some("panic"));
        if command == Some("no") && caller.kind == Some(Kind::User) { Err(denied()) } else { Ok(()) }
    });
    let mut host = Host::new(BrokerConfig { calls_to_nodes: Some(policy), ..BrokerConfig::default() });
    let (node, other, link) = (host.opened_node(100, &["all"]), host.opened_node(101, &[]), host.opened(1));
    let group = Bytes::from_static(b"all");
    host.item(link, to_node("yes", 0));
    host.item(link, to_node("no", 0));
    assert_eq!(host.code(link), Code::PermissionDenied.number());
    // One-way, sealed, to a group, to nobody; and one that is run at the broker.
    host.item(link, to_node("no", 1));
    assert_eq!(host.code(link), Code::PermissionDenied.number());
    host.item(link, to_node("", 64));
    host.item(link, Body::Call(proto::Call { group: group.clone(), ..wire::call("no", 0) }));
    assert_eq!(host.code(link), Code::PermissionDenied.number());
    host.item(link, Body::Call(proto::Call { group: Bytes::from_static(b"none"), ..wire::call("no", 0) }));
    assert_eq!(host.code(link), Code::PermissionDenied.number(), "it does not learn that nobody is there");
    host.item(link, Body::Call(wire::call("no", 0)));
    assert_eq!(host.runs().len(), 1);
    host.item(other, to_node("no", 0));
    // A rule that panics lets nobody through, and nobody else hears of it.
    host.item(link, to_node("panic", 0));
    assert_eq!(host.code(link), Code::Internal.number());
    let came = host.hears(node).into_iter().filter_map(|body| match body {
        Body::Call(call) => Some(call.command),
        _ => None,
    });
    assert_eq!(came.collect::<Vec<_>>(), ["yes", "", "no"]);
    assert_eq!(host.counted["rpc_not_passed_on_total"], 5);
    let (user, at) = (peer(1), Destination::Node(peer(100)));
    let name = |name: &str| Some(name.to_owned());
    let expected = [
        (user, at.clone(), name("yes")),
        (user, at.clone(), name("no")),
        (user, at.clone(), name("no")),
        (user, at.clone(), None),
        (user, Destination::Group(group), name("no")),
        (user, Destination::Group(Bytes::from_static(b"none")), name("no")),
        (peer(101), at.clone(), name("no")),
        (user, at, name("panic")),
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
    host.serves(link);
}

/// Users may call nothing but `divide` at nodes.
#[derive(Default)]
struct Ruler;

impl Model for Ruler {
    type Session = ();
    type Node = ();
    type Offers = Empty;

    fn calls_to_nodes(&self) -> Option<Policy> {
        Some(Policy::new(|caller, _, command| {
            let may = caller.kind == Some(Kind::Node) || command == Some("divide");
            if may { Ok(()) } else { Err(denied()) }
        }))
    }
}

#[tokio::test]
async fn the_model_says_which_calls_go_to_nodes() {
    let memory = peerage_net::MemoryTransport::default();
    let (transport, broker) = (memory.clone(), notes::identity());
    let broker = Broker::builder()
        .model(Ruler)
        .identity(broker)
        .listen("mem://ruler".parse().unwrap())
        .with_endpoint(move |builder| builder.memory(&transport))
        .network("ruled");
    let broker = within("the broker", broker.start()).await.unwrap();
    let (ada, calc, other) = (notes::identity(), notes::identity(), notes::identity());
    broker.admit(ada.peer_id(), Kind::User, "").await.unwrap();
    broker.admit(calc.peer_id(), Kind::Node, "").await.unwrap();
    broker.admit(other.peer_id(), Kind::Node, "").await.unwrap();
    let at = calc.peer_id();
    let (to, addresses) = (broker.peer_id(), broker.endpoint().addresses());
    let place =
        |memory: peerage_net::MemoryTransport| move |builder: peerage_net::Builder| builder.memory(&memory);
    let node = PartyBuilder::<Node>::new().identity(calc).with_endpoint(place(memory.clone()));
    let node = node.broker(to, addresses.clone()).network("ruled").group("calc");
    let node = node
        .service(notes::both())
        .command::<Divide, _, _>(|_, _| async { Ok(notes::Quotient { value: 2.0 }) });
    let _node = within("the node", node.connect()).await.unwrap();
    let client = PartyBuilder::<Client>::new().identity(ada).with_endpoint(place(memory.clone()));
    let client =
        within("the client", client.broker(to, addresses.clone()).network("ruled").connect()).await.unwrap();
    let second = PartyBuilder::<Node>::new().identity(other).with_endpoint(place(memory));
    let second = within("the other", second.broker(to, addresses).network("ruled").connect()).await.unwrap();
    let fail = || Fail { text: "it was run".to_owned() };
    for target in [client.node(at), client.group("calc")] {
        assert_eq!(within("a call", target.call(Divide::of(4.0, 2.0))).await.unwrap().value, 2.0);
        assert_eq!(within("a refusal", target.call(fail())).await, Err(denied()));
    }
    assert_eq!(within("a refusal", client.node(at).sealed().call(Divide::of(4.0, 2.0))).await, Err(denied()));
    let status = within("a node's", second.node(at).call(fail())).await.unwrap_err();
    assert_eq!(status.message, "it was run");
    // What the application calls itself is its own affair.
    let status = within("the broker's", broker.node(at).call(fail())).await.unwrap_err();
    assert_eq!(status.message, "it was run");
}

/// For callers whose keys are even.
#[derive(Clone, PartialEq, prost::Message)]
struct ForSome {}

impl Command for ForSome {
    const NAME: &'static str = "for_some";
    type Reply = Empty;
    fn declaration() -> Declaration {
        Declaration::request().accounts(|caller| caller.peer.as_bytes()[0] % 2 == 0)
    }
}

#[tokio::test]
async fn a_node_enforces_what_its_commands_declare_of_their_callers_also_when_sealed() {
    let world = World::over_memory().await;
    let identity = notes::identity();
    world.broker.admit(identity.peer_id(), Kind::Node, "").await.unwrap();
    let node = world
        .builder::<Node>(notes::same(&identity))
        .command::<NodesOnly, _, _>(|_, _| async { Ok(Empty {}) })
        .command::<ForSome, _, _>(|_, _| async { Ok(Empty {}) })
        .command::<Ghost, _, _>(|_, _| async { Ok(Empty {}) });
    let _node = within("the node", node.connect()).await.unwrap();
    let at = identity.peer_id();
    let mut clients = Vec::new();
    // One whose key is even, and one whose key is odd.
    for parity in [0, 1] {
        clients.push(loop {
            let client = world.client().await;
            if client.peer().as_bytes()[0] % 2 == parity {
                break client;
            }
        });
    }
    let denied = |status: Result<Empty, Status>| status.unwrap_err().code;
    for is_sealed in [false, true] {
        let to = |target: peerage_rpc::Target| if is_sealed { target.sealed() } else { target };
        let [even, odd] = [0, 1].map(|at_client: usize| to(clients[at_client].node(at)));
        assert_eq!(denied(within("for nodes", even.call(NodesOnly {})).await), Code::PermissionDenied);
        assert_eq!(within("for some", even.call(ForSome {})).await, Ok(Empty {}));
        assert_eq!(denied(within("for others", odd.call(ForSome {})).await), Code::PermissionDenied);
        assert_eq!(within("for all", odd.call(Ghost {})).await, Ok(Empty {}));
        let other = world.node().await;
        assert_eq!(within("a node", to(other.node(at)).call(NodesOnly {})).await, Ok(Empty {}));
    }
}
