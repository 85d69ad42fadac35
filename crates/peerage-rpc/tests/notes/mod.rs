#![expect(dead_code, reason = "each test file uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]
//! A broker that keeps notes, nodes that divide, and clients.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peerage_identity::Identity;
use peerage_net::MemoryTransport;
use peerage_rpc::accounts::Kind;
use peerage_rpc::{
    Broker, BrokerRef, Client, Command, Commands, Context, Declaration, Model, Node, Party, PartyBuilder,
    Place, Receiver, Sender, Session, Status,
};
use peerage_store::Store;
use peerage_wire::{Address, PeerId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

/// Far more than anything here takes; a test that gets there says what it waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a broker waits for a node that has lost its link, where a test waits for the end of that.
const SOON: Duration = Duration::from_millis(300);

pub(crate) async fn within<T>(what: &str, future: impl IntoFuture<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future.into_future()).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {PATIENCE:?}"),
    }
}

macro_rules! messages {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(Clone, PartialEq, prost::Message)]
        pub(crate) struct $name {
            $($(#[$meta])* pub(crate) $field: $type,)*
        }
    )*};
}

messages! {
    Empty {}
    WriteNote { #[prost(string, optional, tag = "1")] text: Option<String>, }
    FetchNotes {}
    NoteList { #[prost(string, repeated, tag = "1")] notes: Vec<String>, }
    Fail { #[prost(string, tag = "1")] text: String, }
    Divide {
        #[prost(double, optional, tag = "1")] dividend: Option<f64>,
        #[prost(double, optional, tag = "2")] divisor: Option<f64>,
    }
    Quotient { #[prost(double, tag = "1")] value: f64, }
    Ghost {}
    NodesOnly {}
    Panic {}
    Hang {}
    Tail { #[prost(uint64, tag = "1")] count: u64, }
    Line { #[prost(uint64, tag = "1")] number: u64, }
    Sum { #[prost(uint64, tag = "1")] number: u64, }
    Echo { #[prost(uint64, tag = "1")] number: u64, }
    Number { #[prost(uint64, tag = "1")] value: u64, }
    Measure { #[prost(bool, tag = "1")] echo: bool, }
    Measured {
        #[prost(uint64, tag = "1")] bytes: u64,
        #[prost(bytes = "vec", tag = "2")] hash: Vec<u8>,
    }
    NodeList { #[prost(bytes = "vec", repeated, tag = "1")] nodes: Vec<Vec<u8>>, }
}

macro_rules! commands {
    ($($type:ident $name:literal -> $reply:ident $declaration:expr;)*) => {$(
        impl Command for $type {
            const NAME: &'static str = $name;
            type Reply = $reply;
            fn declaration() -> Declaration {
                $declaration
            }
        }
    )*};
}

commands! {
    WriteNote "write_note" -> Empty Declaration::one_way().required(&[(1, "text")]);
    FetchNotes "fetch_notes" -> NoteList Declaration::request();
    Fail "fail" -> Empty Declaration::request();
    Divide "divide" -> Quotient Declaration::request().required(&[(1, "dividend"), (2, "divisor")]);
    Ghost "ghost" -> Empty Declaration::request();
    NodesOnly "nodes_only" -> Empty Declaration::request().nodes_only();
    Panic "panic" -> Empty Declaration::request();
    Hang "hang" -> Empty Declaration::request();
    Tail "tail" -> Line Declaration::server_stream();
    Sum "sum" -> Number Declaration::client_stream();
    Echo "echo" -> Number Declaration::channel();
    Measure "measure" -> Measured Declaration::request();
}

impl WriteNote {
    pub(crate) fn of(text: &str) -> Self {
        Self { text: Some(text.to_owned()) }
    }
}

impl Divide {
    pub(crate) fn of(dividend: f64, divisor: f64) -> Self {
        Self { dividend: Some(dividend), divisor: Some(divisor) }
    }
}

/// Counts itself when it is dropped.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What hangs, and what was dropped while it did.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) hanging: Arc<AtomicUsize>,
    pub(crate) dropped: Arc<AtomicUsize>,
}

/// What runs at broker and nodes alike.
fn common<M: Place>(into: &mut Commands<M>, counts: &Counts) {
    into.command::<Fail, _, _>(|_, fail| async move {
        Err(Status::invalid_argument(fail.text).with_detail("note", "7"))
    });
    into.command::<Panic, _, _>(|_, _| async { panic!("as it should") });
    let counts = counts.clone();
    into.command::<Hang, _, _>(move |_, _| {
        let held = Held(Arc::clone(&counts.dropped));
        counts.hanging.fetch_add(1, Ordering::SeqCst);
        async move {
            let _held = held;
            std::future::pending().await
        }
    });
    into.client_stream(
        peerage_rpc::Method::<Sum, Number>::of(),
        |_, mut numbers: Receiver<Sum>| async move {
            let mut value = 0;
            while let Some(number) = numbers.recv().await {
                value += number?.number;
            }
            Ok(Number { value })
        },
    );
    into.channel(
        peerage_rpc::Method::<Echo, Number>::of(),
        |_, mut numbers: Receiver<Echo>, sender: Sender<Number>| async move {
            while let Some(number) = numbers.recv().await {
                sender.send(Number { value: number?.number }).await?;
            }
            Ok(())
        },
    );
    into.command::<Measure, _, _>(|ctx, measure| async move {
        let bytes = ctx.bulk().unwrap().collect(10_000_000).await?;
        if measure.echo {
            ctx.reply_bulk(std::io::Cursor::new(bytes.clone()))?;
        }
        Ok(Measured { bytes: bytes.len() as u64, hash: blake3::hash(&bytes).as_bytes().to_vec() })
    });
}

/// Each user's notes, and what the hooks heard.
#[derive(Default)]
pub(crate) struct Notes {
    notes: Mutex<BTreeMap<PeerId, Vec<String>>>,
    heard: watch::Sender<Vec<&'static str>>,
}

impl Notes {
    pub(crate) fn notes_of(&self, peer: PeerId) -> Vec<String> {
        self.notes.lock().unwrap().get(&peer).cloned().unwrap_or_default()
    }

    fn hear(&self, what: &'static str) {
        self.heard.send_modify(|heard| heard.push(what));
    }

    pub(crate) async fn heard(&self, what: &[&'static str]) {
        let mut heard = self.heard.subscribe();
        heard.wait_for(|heard| what.iter().all(|what| heard.contains(what))).await.unwrap();
    }
}

impl Model for Notes {
    type Session = Mutex<Vec<String>>;
    type Node = ();
    type Offers = NodeList;

    fn resources(&self, broker: &BrokerRef<Self>, _: PeerId) -> Option<NodeList> {
        Some(NodeList { nodes: broker.nodes().iter().map(|node| node.as_bytes().to_vec()).collect() })
    }

    fn session_came(&self, _: &Session<Self>) {
        self.hear("session came");
    }

    fn session_gone(&self, _: &Session<Self>, _: &Status) {
        self.hear("session gone");
    }

    fn node_came(&self, _: &Session<Self>) {
        self.hear("node came");
    }

    fn node_gone(&self, _: &Session<Self>, _: &Status) {
        self.hear("node gone");
    }
}

pub(crate) fn identity() -> Identity {
    Identity::generate().unwrap()
}

/// The same key once more.
pub(crate) fn same(identity: &Identity) -> Identity {
    identity.clone()
}

/// A party with its identity.
pub(crate) struct Peer<P> {
    party: P,
    pub(crate) identity: Identity,
}

impl<P: Deref<Target = Party>> Deref for Peer<P> {
    type Target = Party;

    fn deref(&self) -> &Party {
        &self.party
    }
}

impl<P> Peer<P> {
    pub(crate) fn peer(&self) -> PeerId {
        self.identity.peer_id()
    }
}

pub(crate) struct World {
    pub(crate) broker: Broker<Notes>,
    pub(crate) addresses: Vec<Address>,
    memory: Option<MemoryTransport>,
    counts: Counts,
    pub(crate) dropped: Arc<AtomicUsize>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with("tcp://127.0.0.1:0", None, identity(), None, SOON).await
    }

    /// That waits long for nodes that have lost their links.
    pub(crate) async fn patient() -> Self {
        Self::with("tcp://127.0.0.1:0", None, identity(), None, 6 * PATIENCE).await
    }

    pub(crate) async fn over_memory() -> Self {
        Self::with("mem://broker", Some(MemoryTransport::default()), identity(), None, SOON).await
    }

    /// With the journal on.
    pub(crate) async fn kept(identity: Identity, store: Arc<dyn Store>) -> Self {
        Self::with("tcp://127.0.0.1:0", None, identity, Some((store, true)), PATIENCE).await
    }

    /// With accounts that are kept, and no journal.
    pub(crate) async fn unkept(identity: Identity, store: Arc<dyn Store>) -> Self {
        Self::with("tcp://127.0.0.1:0", None, identity, Some((store, false)), SOON).await
    }

    async fn with(
        address: &str,
        memory: Option<MemoryTransport>,
        identity: Identity,
        kept: Option<(Arc<dyn Store>, bool)>,
        node_grace: Duration,
    ) -> Self {
        let counts = Counts::default();
        let transport = memory.clone();
        let service = Both(counts.clone());
        let mut builder = Broker::builder();
        if let Some((store, journal)) = kept {
            builder = builder.store(store).journal(journal);
        }
        let broker = builder
            .model(Notes::default())
            .identity(identity)
            .configure(move |config| config.node_grace = node_grace)
            .listen(address.parse().unwrap())
            .with_endpoint(move |builder| match &transport {
                Some(memory) => builder.memory(memory),
                None => builder,
            })
            .network("notes")
            .command::<WriteNote, _, _>(|ctx: Context<Notes>, note| async move {
                let id = ctx.call_id();
                let mut notes = ctx.model().notes.lock().unwrap();
                notes.entry(ctx.peer()).or_default().push(note.text().to_owned());
                ctx.batch().put(
                    format!("note/{}/{}/{:020}", ctx.peer(), id.session, id.number),
                    note.text().to_owned(),
                )?;
                Ok(Empty {})
            })
            .command::<FetchNotes, _, _>(|ctx: Context<Notes>, _| async move {
                Ok(NoteList { notes: ctx.model().notes_of(ctx.peer()) })
            })
            .command::<NodesOnly, _, _>(|_, _| async { Ok(Empty {}) })
            .server_stream::<Tail, _, _>(|_, tail, sender| tail_of(tail, sender))
            .service(service)
            .start();
        let broker = within("the broker", broker).await.unwrap();
        let addresses = broker.endpoint().addresses();
        Self { broker, addresses, memory, dropped: Arc::clone(&counts.dropped), counts }
    }

    pub(crate) fn builder<P: From<Party> + 'static>(&self, identity: Identity) -> PartyBuilder<P> {
        let memory = self.memory.clone();
        PartyBuilder::<P>::new()
            .identity(identity)
            .with_endpoint(move |builder| match &memory {
                Some(memory) => builder.memory(memory),
                None => builder,
            })
            .broker(self.broker.peer_id(), self.addresses.clone())
            .network("notes")
    }

    pub(crate) async fn client(&self) -> Peer<Client> {
        let identity = identity();
        self.broker.admit(identity.peer_id(), Kind::User, "").await.unwrap();
        let party = self.builder::<Client>(same(&identity)).connect();
        Peer { party: within("a client", party).await.unwrap(), identity }
    }

    pub(crate) async fn node(&self) -> Peer<Node> {
        let identity = identity();
        self.broker.admit(identity.peer_id(), Kind::Node, "").await.unwrap();
        self.node_of(identity).await
    }

    pub(crate) async fn node_of(&self, identity: Identity) -> Peer<Node> {
        self.node_by(identity, &self.addresses).await
    }

    pub(crate) async fn node_by(&self, identity: Identity, addresses: &[Address]) -> Peer<Node> {
        let node = self
            .builder::<Node>(same(&identity))
            .broker(self.broker.peer_id(), addresses)
            .group("calc")
            .command::<Divide, _, _>(|_, divide| async move {
                if divide.divisor() == 0.0 {
                    return Err(Status::invalid_argument("division by zero"));
                }
                Ok(Quotient { value: divide.dividend() / divide.divisor() })
            })
            .server_stream::<Tail, _, _>(|_, tail, sender| tail_of(tail, sender))
            .service(Both(self.counts.clone()));
        Peer { party: within("a node", node.connect()).await.unwrap(), identity }
    }

    /// The notes of a user that are in the store, as they were written.
    pub(crate) fn kept_notes(&self, peer: PeerId) -> Vec<String> {
        let kept = self.broker.store().scan(format!("note/{peer}/").as_bytes()).unwrap();
        kept.into_iter().map(|(_, text)| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    /// The session of that peer, as soon as the hooks have it.
    pub(crate) async fn session_of(&self, peer: PeerId) -> Session<Notes> {
        let mut heard = self.broker.model().heard.subscribe();
        loop {
            if let Some(session) = self.broker.sessions_of(&peer).pop() {
                return session;
            }
            heard.changed().await.unwrap();
        }
    }

    pub(crate) async fn hangs(&self, count: usize) {
        while self.counts.hanging.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn drops(&self, count: usize) {
        while self.counts.dropped.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
}

async fn tail_of(tail: Tail, sender: Sender<Line>) -> Result<(), Status> {
    for number in 0..tail.count {
        sender.send(Line { number }).await?;
    }
    Ok(())
}

/// The commands that broker and nodes both have.
struct Both(Counts);

/// Those, with counts of their own.
pub(crate) fn both<M: Place>() -> impl peerage_rpc::Service<M> {
    Both(Counts::default())
}

impl<M: Place> peerage_rpc::Service<M> for Both {
    fn register(self, into: &mut Commands<M>) {
        common(into, &self.0);
    }
}

/// Stands between parties and a broker, and cuts what goes through it.
pub(crate) struct Proxy {
    address: Address,
    accepting: JoinHandle<()>,
    target: Arc<Mutex<Option<String>>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Proxy {
    pub(crate) async fn to(broker: &Address) -> Self {
        let proxy = Self::to_nobody().await;
        proxy.turn_to(broker);
        proxy
    }

    pub(crate) async fn to_nobody() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
        let target = Arc::<Mutex<Option<String>>>::default();
        let connections = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let (to, through) = (Arc::clone(&target), Arc::clone(&connections));
        let accepting = tokio::spawn(async move {
            loop {
                let (mut party, _) = listener.accept().await.unwrap();
                let to = to.lock().unwrap().clone();
                let connection = tokio::spawn(async move {
                    let Some(to) = to else { return };
                    let Ok(mut broker) = TcpStream::connect(to).await else { return };
                    // Cut or ended, it is over.
                    let _ = tokio::io::copy_bidirectional(&mut party, &mut broker).await;
                });
                through.lock().unwrap().push(connection.abort_handle());
            }
        });
        Self { address, accepting, target, connections }
    }

    pub(crate) fn turn_to(&self, broker: &Address) {
        let address = broker.to_string();
        *self.target.lock().unwrap() = Some(address.trim_start_matches("tcp://").to_owned());
    }

    pub(crate) fn address(&self) -> Address {
        self.address.clone()
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    /// Ends all connections, and takes no more.
    pub(crate) fn stop(&self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}
