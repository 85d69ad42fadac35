//! A broker that looks into the calls that it carries, and one that changes them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod notes;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use notes::{Divide, Fail, Line, Measure, Sum, Tail, within};
use peerage_identity::Identity;
use peerage_machine::{
    CallId, Effect, Input, InstanceName, Instant, Machine, Message as _, Now, OutboxOf, Rng, Seed,
};
use peerage_net::{Endpoint, Hosted, InstanceSpec, MemoryTransport, OnReturn, Sink, Start};
use peerage_rpc::accounts::{Accounts, AccountsConfig, Confirmation, Kind, NewInvite};
use peerage_rpc::{
    Answer, BrokerConfig, BrokerMachine, Client, Code, Event, Node, Packet, Party, PartyBuilder, Status,
    Target,
};
use peerage_wire::proto::rpc::v1 as proto;
use peerage_wire::{Address, PeerId};
use proptest::prelude::*;
use prost::Message as _;
use proto::packet::Body;

/// Changes what the broker says.
type Tamper = Box<dyn FnMut(&mut Body) + Send>;

#[derive(Clone, Default)]
struct Spy(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// All that was said, whole.
    said: Vec<Bytes>,
    tamper: Option<Tamper>,
}

impl Spy {
    fn tamper(&self, tamper: impl FnMut(&mut Body) + Send + 'static) {
        self.0.lock().unwrap().tamper = Some(Box::new(tamper));
    }

    fn saw(&self, what: &[u8]) -> bool {
        let seen = self.0.lock().unwrap();
        seen.said.iter().any(|said| said.windows(what.len()).any(|window| window == what))
    }

    fn pass(&self, effect: Effect<Packet, Event, Answer>) -> Effect<Packet, Event, Answer> {
        let (to, message, class, id) = match effect {
            Effect::Send { to, message, class, id } => (to, message, class, id),
            Effect::SendOne { to, message, class } => (vec![to], message, class, None),
            other => return other,
        };
        let mut seen = self.0.lock().unwrap();
        let bytes = message.to_bytes();
        seen.said.push(bytes.clone());
        let Some(tamper) = &mut seen.tamper else { return Effect::Send { to, message, class, id } };
        let mut packet = proto::Packet::decode(bytes).unwrap();
        match &mut packet.body {
            Some(Body::Several(several)) => {
                for bytes in &mut several.packets {
                    let mut packet = proto::Packet::decode(bytes.clone()).unwrap();
                    packet.body.iter_mut().for_each(&mut *tamper);
                    *bytes = packet.encode_to_vec().into();
                }
            }
            body => body.iter_mut().for_each(tamper),
        }
        let message = Packet::decode(packet.encode_to_vec().into()).unwrap();
        Effect::Send { to, message, class, id }
    }
}

/// A broker whose every word goes by the spy.
struct Watched {
    broker: BrokerMachine,
    spy: Spy,
}

impl Watched {
    /// Has the spy look at what comes of this.
    fn watch(&mut self, out: &mut OutboxOf<Self>, turn: impl FnOnce(&mut Self, &mut OutboxOf<Self>)) {
        let before: Vec<_> = out.drain().collect();
        turn(self, out);
        let effects: Vec<_> = out.drain().collect();
        before.into_iter().for_each(|effect| out.push(effect));
        effects.into_iter().for_each(|effect| out.push(self.spy.pass(effect)));
    }
}

impl Machine for Watched {
    type Message = Packet;
    type Event = Event;
    type Answer = Answer;

    fn on_input(&mut self, now: Now, input: Input<Packet>, out: &mut OutboxOf<Self>) {
        if let Input::Message { message, .. } = &input {
            self.spy.0.lock().unwrap().said.push(message.to_bytes());
        }
        self.watch(out, |watched, out| watched.broker.on_input(now, input, out));
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        self.watch(out, |watched, out| watched.broker.on_timer(now, out));
    }

    fn deadline(&self) -> Option<Instant> {
        self.broker.deadline()
    }
}

struct Deaf;

impl Sink<Watched> for Deaf {
    fn event(&mut self, _: Event) {}
    fn answer(&mut self, _: CallId, _: Answer) {}
    fn closed(&mut self) {}
}

struct World {
    spy: Spy,
    memory: MemoryTransport,
    broker: Endpoint,
    client: Client,
    node: Node,
    /// Another node, which the broker would like to have in the first one's place.
    other: Node,
    _hosted: Hosted<Watched>,
}

impl World {
    async fn start() -> Self {
        let (spy, memory) = (Spy::default(), MemoryTransport::default());
        let (ada, calc, other) = (notes::identity(), notes::identity(), notes::identity());
        let endpoint = Endpoint::builder()
            .identity(notes::identity())
            .memory(&memory)
            .listen("mem://broker".parse().unwrap());
        let broker = endpoint.bind().await.unwrap();
        let accounts = accounts(&[
            (ada.peer_id(), Kind::User),
            (calc.peer_id(), Kind::Node),
            (other.peer_id(), Kind::Node),
        ]);
        let watching = spy.clone();
        let make = |start: Start| Watched {
            broker: BrokerMachine::new(BrokerConfig::default(), accounts, [], start.now, &start.seed),
            spy: watching,
        };
        let spec = InstanceSpec {
            name: InstanceName { protocol: "rpc".to_owned(), name: "notes".to_owned() },
            version: 1,
            parameters: Bytes::new(),
            on_return: OnReturn::Coexist,
        };
        let hosted = broker.host(spec, make, Deaf).unwrap();
        let place = (broker.peer_id(), broker.addresses());
        let client = builder::<Client>(&memory, &place, ada).connect();
        let client = within("the client", client).await.unwrap();
        let node = within("the node", node(&memory, &place, calc).connect()).await.unwrap();
        let other = within("another", self::node(&memory, &place, other).connect()).await.unwrap();
        Self { spy, memory, broker, client, node, other, _hosted: hosted }
    }

    fn target(&self) -> Target {
        self.client.node(self.node.endpoint().peer_id()).sealed()
    }
}

fn accounts(of: &[(PeerId, Kind)]) -> Accounts {
    let mut accounts = Accounts::new(AccountsConfig::default());
    let mut rng: Rng = Seed::from_u64(9).rng();
    let now = peerage_machine::UnixMillis(0);
    for (peer, kind) in of {
        let ttl = std::time::Duration::from_secs(1);
        let new = NewInvite { kind: *kind, label: String::new(), ttl, confirmation: Confirmation::AtOnce };
        let (token, _) = accounts.invite(now, new, &mut rng).unwrap();
        accounts.enrol(now, *peer, token.as_bytes()).unwrap();
    }
    accounts
}

fn builder<P: From<Party> + 'static>(
    memory: &MemoryTransport,
    (broker, addresses): &(PeerId, Vec<Address>),
    identity: Identity,
) -> PartyBuilder<P> {
    let memory = memory.clone();
    PartyBuilder::<P>::new()
        .identity(identity)
        .with_endpoint(move |builder| builder.memory(&memory))
        .broker(*broker, addresses.clone())
        .network("notes")
}

fn node(memory: &MemoryTransport, place: &(PeerId, Vec<Address>), identity: Identity) -> PartyBuilder<Node> {
    builder::<Node>(memory, place, identity)
        .command::<Divide, _, _>(|ctx, divide| async move {
            assert!(ctx.is_sealed());
            Ok(notes::Quotient { value: divide.dividend() / divide.divisor() })
        })
        .server_stream::<Tail, _, _>(|_, tail, sender| async move {
            for number in 0..tail.count {
                sender.send(Line { number }).await?;
            }
            Ok(())
        })
        .service(notes::both())
}

#[tokio::test]
async fn the_broker_sees_who_calls_whom_and_no_name_nor_parameter_nor_reply_nor_status() {
    let world = World::start().await;
    let target = world.target();
    let secret = "the hiding place is under the oak";
    let status = within("a failure", target.call(Fail { text: secret.to_owned() })).await.unwrap_err();
    assert_eq!(status.message, secret);
    let sent = within("one way", target.send_untyped("hidden_command", secret.as_bytes())).await.unwrap();
    assert!(within("the flush", world.client.flush()).await.unwrap_err().message.contains("hidden_command"));
    let bulk = secret.repeat(5000);
    let call = target.call(Measure { echo: true }).bulk_bytes(bulk.clone()).bulk_reply();
    let (measured, reader) = within("bulk", call).await.unwrap();
    assert_eq!(within("its echo", reader.collect(bulk.len())).await.unwrap(), bulk);
    let numbers = within("a stream", target.client_stream::<Sum>()).await.unwrap();
    within("a number", numbers.send(Sum { number: 0x7ead_beef_7ead_beef })).await.unwrap();
    let sum = within("the sum", numbers.finish()).await.unwrap();
    let (echo, mut back) = within("a channel", target.channel::<notes::Echo>()).await.unwrap();
    echo.fail(Status::aborted(secret));
    assert_eq!(within("the end", back.recv()).await, Some(Err(Status::aborted(secret))));
    for what in [secret.as_bytes(), b"fail", b"hidden_command", b"measure", b"echo", &measured.hash] {
        assert!(!world.spy.saw(what), "{}", String::from_utf8_lossy(what));
    }
    assert!(!world.spy.saw(&sum.encode_to_vec()[1..]), "the sum and its one part");
    assert!(world.spy.saw(world.client.endpoint().peer_id().as_bytes()), "who calls");
    assert!(world.spy.saw(world.node.endpoint().peer_id().as_bytes()), "whom");
    // The same in clear is seen: the spy is none too blind.
    let clear = world.client.node(world.node.endpoint().peer_id());
    within("a failure", clear.call(Fail { text: secret.to_owned() })).await.unwrap_err();
    assert!(world.spy.saw(secret.as_bytes()) && world.spy.saw(b"fail") && sent.number > 0);
    within("the end", world.client.close()).await;
    let _ = (&world.memory, &world.broker);
}

/// Whether a call is a sealed one, but no handshake's.
fn is_body(call: &proto::Call) -> bool {
    call.flags & 64 != 0 && proto::Sealed::decode(call.payload.clone()).is_ok_and(|sealed| sealed.step == 4)
}

#[tokio::test]
async fn a_call_that_the_broker_says_again_is_not_run_again_and_the_caller_can_go_on() {
    let world = World::start().await;
    let target = world.target();
    let mut first = None;
    world.spy.tamper(move |body| {
        if let Body::Call(call) = body
            && is_body(call)
        {
            call.payload = first.get_or_insert_with(|| call.payload.clone()).clone();
        }
    });
    within("the first", target.call(Divide::of(1.0, 1.0))).await.unwrap();
    let status = within("in place of another", target.call(Divide::of(4.0, 2.0))).await.unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::Aborted, true));
    assert_eq!(world.node.sealed_refused(), 1);
    world.spy.tamper(|_| {});
    assert_eq!(within("another", target.call(Divide::of(4.0, 2.0))).await.unwrap().value, 2.0);
}

#[tokio::test]
async fn calls_that_the_broker_turns_round_are_not_run_out_of_order() {
    let world = World::start().await;
    let target = world.target();
    within("a channel", target.call(Divide::of(1.0, 1.0))).await.unwrap();
    let (mut kept, mut count) = (None, 0);
    world.spy.tamper(move |body| {
        if let Body::Call(call) = body
            && is_body(call)
        {
            count += 1;
            match count {
                // No step of anything: this one is refused, and kept for later.
                1 => kept = Some(std::mem::replace(&mut call.payload, Bytes::from_static(b"\x08\x09"))),
                3 => call.payload = kept.take().unwrap(),
                _ => {}
            }
        }
    });
    let status = within("the first", target.call(Divide::of(1.0, 1.0))).await.unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::InvalidArgument, false));
    assert_eq!(within("the second", target.call(Divide::of(2.0, 1.0))).await.unwrap().value, 2.0);
    let status = within("the first, as the third", target.call(Divide::of(3.0, 1.0))).await.unwrap_err();
    assert_eq!(status.code, Code::Aborted);
    assert_eq!(world.node.sealed_refused(), 2);
    assert_eq!(within("the fourth", target.call(Divide::of(4.0, 1.0))).await.unwrap().value, 4.0);
}

#[tokio::test]
async fn a_call_that_the_broker_changes_is_not_run_and_made_again_in_another_channel() {
    let world = World::start().await;
    let target = world.target();
    within("a channel", target.call(Divide::of(1.0, 1.0))).await.unwrap();
    let mut is_done = false;
    world.spy.tamper(move |body| {
        if let Body::Call(call) = body
            && is_body(call)
            && !std::mem::replace(&mut is_done, true)
        {
            // What flows with it is sealed, too.
            call.flags |= 16;
        }
    });
    assert_eq!(within("a call", target.call(Divide::of(9.0, 1.0))).await.unwrap().value, 9.0);
    assert_eq!(world.node.sealed_refused(), 1);
}

#[tokio::test]
async fn replies_that_the_broker_swaps_or_makes_up_are_caught() {
    let world = World::start().await;
    let target = world.target();
    within("a channel", target.call(Divide::of(1.0, 1.0))).await.unwrap();
    let mut before = None;
    world.spy.tamper(move |body| {
        if let Body::Reply(reply) = body
            && reply.status.is_none()
        {
            let payload = reply.payload.clone();
            reply.payload = before.replace(payload.clone()).unwrap_or(payload);
        }
    });
    assert_eq!(within("the first", target.call(Divide::of(8.0, 1.0))).await.unwrap().value, 8.0);
    let status = within("the first's reply", target.call(Divide::of(9.0, 1.0))).await.unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::DataLoss, true));
    world.spy.tamper(|body| {
        if let Body::Reply(reply) = body {
            reply.payload = Bytes::from_static(b"42");
        }
    });
    let status = within("a reply made up", target.call(Divide::of(9.0, 1.0))).await.unwrap_err();
    assert_eq!(status.code, Code::DataLoss);
    world.spy.tamper(|_| {});
    assert_eq!(within("a new channel", target.call(Divide::of(9.0, 1.0))).await.unwrap().value, 9.0);
}

#[tokio::test]
async fn another_node_in_the_place_of_the_one_that_is_called_is_caught() {
    let world = World::start().await;
    let stranger = world.other.endpoint().peer_id();
    // Whatever the client says goes to the node that it names; so it is the answer that is another's.
    let other = world.client.node(stranger).sealed();
    let seconds = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&seconds);
    world.spy.tamper(move |body| {
        if let Body::Reply(reply) = body
            && proto::Sealed::decode(reply.payload.clone()).is_ok_and(|sealed| sealed.step == 2)
        {
            kept.lock().unwrap().get_or_insert_with(|| reply.payload.clone());
            reply.payload = kept.lock().unwrap().clone().unwrap();
        }
    });
    assert!(within("the other", other.call(Divide::of(1.0, 1.0))).await.is_ok());
    let status = within("the node", world.target().call(Divide::of(1.0, 1.0))).await.unwrap_err();
    assert_eq!((status.code, status.may_have_run), (Code::DataLoss, false));
    assert!(seconds.lock().unwrap().is_some());
    world.spy.tamper(|_| {});
    assert!(within("the node", world.target().call(Divide::of(1.0, 1.0))).await.is_ok());
}

/// What a broker may do to a stream of messages.
#[derive(Clone, Copy, Debug)]
enum Mischief {
    LeaveOut,
    Twice,
    TurnRound,
    Cut,
    Flip(usize),
}

/// Messages of a stream, taken apart.
fn apart(mut items: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while !items.is_empty() {
        let length = prost::decode_length_delimiter(&mut items).unwrap();
        messages.push(items.split_to(length));
    }
    messages
}

fn together(messages: &[Bytes]) -> Bytes {
    let mut items = Vec::new();
    for message in messages {
        prost::encode_length_delimiter(message.len(), &mut items).unwrap();
        items.extend_from_slice(message);
    }
    items.into()
}

fn change(items: &mut proto::Items, at: usize, mischief: Mischief) {
    let mut messages = apart(items.items.clone());
    let at = at % messages.len();
    match mischief {
        Mischief::LeaveOut | Mischief::Cut => drop(messages.remove(at)),
        Mischief::Twice => messages.insert(at, messages[at].clone()),
        Mischief::TurnRound => messages.reverse(),
        Mischief::Flip(bit) => {
            let mut bytes = messages[at].to_vec();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            messages[at] = bytes.into();
        }
    }
    items.count = u32::try_from(messages.len().max(1)).unwrap();
    if messages.is_empty() {
        messages.push(Bytes::new());
    }
    items.items = together(&messages);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is done to one packet of a stream, what was received is its beginning, in order, and its end is an error.
    #[test]
    fn of_a_stream_that_the_broker_changes_only_a_true_beginning_is_received(
        packet in 0_usize..12,
        at in 0_usize..64,
        mischief in prop_oneof![
            Just(Mischief::LeaveOut), Just(Mischief::Twice), Just(Mischief::TurnRound), Just(Mischief::Cut),
            (0_usize..4096).prop_map(Mischief::Flip),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::start().await;
            let target = world.target();
            within("a channel", target.call(Divide::of(1.0, 1.0))).await.unwrap();
            let changed = Arc::new(Mutex::new(false));
            let (did, mut count) = (Arc::clone(&changed), 0);
            world.spy.tamper(move |body| match body {
                Body::Items(items) if items.to_caller => {
                    if count == packet && !(items.count == 1 && matches!(mischief, Mischief::TurnRound)) {
                        change(items, at, mischief);
                        *did.lock().unwrap() = true;
                    }
                    count += 1;
                }
                Body::End(end) if end.to_caller && matches!(mischief, Mischief::Cut) => end.status = None,
                _ => {}
            });
            let mut lines = within("a stream", target.server_stream(Tail { count: 4000 })).await.unwrap();
            let mut received = 0;
            let end = loop {
                match within("a line", lines.recv()).await {
                    Some(Ok(line)) => {
                        assert_eq!(line.number, received);
                        received += 1;
                    }
                    end => break end,
                }
            };
            let was_changed = *changed.lock().unwrap() || matches!(mischief, Mischief::Cut);
            match end {
                None => assert!(!was_changed && received == 4000, "it ends well after {received}"),
                Some(end) => {
                    assert!(was_changed, "nothing was done to it");
                    assert_eq!(end.unwrap_err().code, Code::DataLoss);
                }
            }
            world.spy.tamper(|_| {});
            assert!(within("a call", target.call(Divide::of(1.0, 1.0))).await.is_ok(), "nobody else is harmed");
        });
    }

    /// Calls and one-way commands made by several at once leave in the order of their numbers.
    #[test]
    fn sealed_calls_leave_in_the_order_of_their_numbers(callers in 1_usize..6, calls in 1_usize..40) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::start().await;
            let target = world.target();
            within("a channel", target.call(Divide::of(1.0, 1.0))).await.unwrap();
            let numbers = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&numbers);
            world.spy.tamper(move |body| if let Body::Call(call) = body && is_body(call) {
                seen.lock().unwrap().push(proto::Sealed::decode(call.payload.clone()).unwrap().number);
            });
            let tasks: Vec<_> = (0..callers).map(|_| {
                let target = target.clone();
                tokio::spawn(async move {
                    for _ in 0..calls {
                        target.call(Divide::of(1.0, 1.0)).await.unwrap();
                        let mut lines = target.server_stream(Tail { count: 3 }).await.unwrap();
                        while let Some(line) = lines.recv().await {
                            line.unwrap();
                        }
                    }
                })
            }).collect();
            for task in tasks {
                within("a caller", task).await.unwrap();
            }
            let numbers = numbers.lock().unwrap();
            assert!(numbers.is_sorted() && numbers.len() == 2 * callers * calls, "{numbers:?}");
            assert_eq!(world.node.sealed_refused(), 0);
        });
    }
}
