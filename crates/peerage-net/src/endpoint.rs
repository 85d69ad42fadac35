//! The endpoint, and how one is made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peerage_identity::Identity;
use peerage_link::{Door, DoorConfig, LinkConfig, Memory, Shedding};
use peerage_machine::{Incarnation, Machine, Now, Seed, Target};
use peerage_wire::preface::Preface;
use peerage_wire::{Address, PeerId, Suite};
use tokio::sync::{Notify, OnceCell, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::close::{self, CloseReport, DrainReport};
use crate::config::Config;
use crate::counters::Counters;
use crate::error::{BindError, Closed, DialError, HostError};
use crate::hosted::{Cell, Hosted, Instance as _};
use crate::hub::{Hub, Shared};
use crate::link_handle::{Command, InstanceKey};
use crate::listen;
use crate::maintain::{Aim, Maintained};
use crate::own::{Own, socket_of};
use crate::scratch::lock;
use crate::shards::Shards;
use crate::shed;
use crate::snapshot::Snapshot;
use crate::spec::{InstanceSpec, Sink, Start};
use crate::transport::{Listener, MemoryTransport, TcpTransport, Transport};

/// Makes an [`Endpoint`].
#[derive(Default)]
#[must_use]
pub struct Builder {
    identity: Option<Identity>,
    listen: Vec<Address>,
    announced: Vec<Address>,
    transports: BTreeMap<&'static str, Arc<dyn Transport>>,
    config: Config,
}

impl Builder {
    /// Who the endpoint is. Needed.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Listens there, too. An endpoint that listens nowhere still dials. `tcp://0.0.0.0:4000` takes IPv4 on every
    /// interface, `tcp://[::]:4000` IPv6; both may have one port.
    pub fn listen(mut self, address: Address) -> Self {
        self.listen.push(address);
        self
    }

    /// Tells peers to dial there, too, and first: the outward address of a router that passes connections on, or a name.
    /// An endpoint that announces addresses does not tell where others see it.
    pub fn announce(mut self, address: Address) -> Self {
        self.announced.push(address);
        self
    }

    /// One more transport, or another for a scheme that there is. TCP is there from the start.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transports.insert(transport.scheme(), transport);
        self
    }

    /// Connections within the process: `mem://` addresses of this space.
    pub fn memory(self, transport: &MemoryTransport) -> Self {
        self.transport(Arc::new(transport.clone()))
    }

    /// Times and bounds, all of them.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Changes some of the times and bounds: `.configure(|config| config.max_links = 100)`.
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// The cipher suites that links may have, whoever dials; the first is the one to dial with. Other lists for dials and
    /// for listeners are in [`Config`].
    pub fn suites(mut self, suites: impl Into<Vec<Suite>>) -> Self {
        let suites = suites.into();
        self.config.listen_suites.clone_from(&suites);
        self.config.dial_suites = suites;
        self
    }

    /// Starts: takes the addresses, or says which one it cannot have.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(self) -> Result<Endpoint, BindError> {
        let Self { identity, listen, announced, mut transports, mut config } = self;
        announced.iter().try_for_each(check_announced)?;
        let identity = Arc::new(identity.ok_or(BindError::NoIdentity)?);
        for (list, suites) in [("dial_suites", &config.dial_suites), ("listen_suites", &config.listen_suites)]
        {
            if suites.is_empty() {
                return Err(BindError::NoSuite(list));
            }
        }
        transports.entry("tcp").or_insert_with(|| Arc::new(TcpTransport));
        let me = identity.peer_id();

        let mut entropy = [0_u8; 32];
        getrandom::fill(&mut entropy).map_err(|error| BindError::Entropy(error.to_string()))?;
        let seed = Seed::from_bytes(entropy);
        let mut incarnation = [0_u8; 16];
        getrandom::fill(&mut incarnation).map_err(|error| BindError::Entropy(error.to_string()))?;

        let shards = Shards::start(config.shards, &me.short())?;
        let listeners = bind_all(&shards, &transports, listen).await?;
        let clock = Clock::start();
        let bound: Vec<_> = listeners.iter().map(|listener| listener.address()).collect();
        let own = Own::new(bound, announced, config.observed_votes, clock.mono());
        config.link.window = config.link.window.max(LinkConfig::MIN_WINDOW);
        config.message_memory = config.message_memory.max(config.link.max_message);
        let memory = Memory::new(config.window_memory, config.message_memory);
        let link_config = Arc::new(config.link.clone());
        let door = DoorConfig {
            cookies_above: config.cookies_above,
            without_cookie: config.handshakes_per_second,
            preface: config.listen_suites.first().copied().map_or(Preface::CURRENT, Preface::new),
            per_source: config.handshakes_per_second_per_address,
        };
        let door = Door::new(door, seed.fork("cookies").rng().bytes(), clock.mono());
        let now = clock.mono();
        let shared = Arc::new(Shared {
            me,
            identity,
            incarnation: Incarnation(incarnation),
            seed,
            link_config,
            clock,
            memory,
            counters: Counters::new(),
            shards,
            transports,
            own,
            hub: Mutex::new(Hub::default()),
            door: Mutex::new(door),
            shedding: Mutex::new(Shedding::new(shed::config(&config), now)),
            released: Notify::new(),
            cookies: Mutex::default(),
            closing: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            arrived: Notify::new(),
            linked: Notify::new(),
            ended: Notify::new(),
            config,
        });
        shared.hello(Vec::new()).check().map_err(BindError::Hello)?;
        let accepting = listeners
            .into_iter()
            .filter_map(|listener| shared.shards.spawn_first(listen::accept(Arc::clone(&shared), listener)))
            .collect();
        let addresses = shared.shown(format!("{:?}", shared.own.addresses()));
        tracing::debug!(peer = %me.short(), %addresses, "endpoint bound");
        let life = Life { shared, accepting: Mutex::new(accepting), report: OnceCell::new() };
        Ok(Endpoint { life: Arc::new(life) })
    }
}

/// Whether somebody could dial there.
fn check_announced(address: &Address) -> Result<(), BindError> {
    let why = match socket_of(address) {
        Some(socket) if socket.ip().is_unspecified() => "it is nobody's",
        Some(socket) if socket.port() == 0 => "it has no port",
        _ => return Ok(()),
    };
    Err(BindError::Announce { address: address.clone(), why })
}

/// Listens on a shard, whose reactor then wakes the listener, and not on the caller's runtime, which may end sooner.
async fn bind_all(
    shards: &Shards,
    transports: &BTreeMap<&'static str, Arc<dyn Transport>>,
    listen: Vec<Address>,
) -> Result<Vec<Box<dyn Listener>>, BindError> {
    let mut listeners = Vec::new();
    for address in listen {
        let Some(transport) = transports.get(address.scheme()).cloned() else {
            let known: Vec<_> = transports.keys().copied().collect();
            return Err(BindError::NoTransport(address, known.join(", ")));
        };
        let (answer, bound) = oneshot::channel();
        let at = address.clone();
        shards.spawn_first(async move {
            // The caller may have given up.
            let _ = answer.send(transport.listen(&at).await);
        });
        match bound.await {
            Ok(Ok(listener)) => listeners.push(listener),
            Ok(Err(error)) => {
                return Err(BindError::Listen { address, kind: error.kind(), detail: error.to_string() });
            }
            Err(_) => return Err(BindError::Shard("the shard ended while it bound an address".to_owned())),
        }
    }
    Ok(listeners)
}

/// One identity, its links, and the instances that share them. Clones are the same endpoint; when the last is gone,
/// handles of hosted instances included, it ends without goodbyes. [`Endpoint::close`] ends it in good order.
#[derive(Clone)]
pub struct Endpoint {
    life: Arc<Life>,
}

struct Life {
    shared: Arc<Shared>,
    accepting: Mutex<Vec<JoinHandle<()>>>,
    report: OnceCell<CloseReport>,
}

impl Life {
    /// No more strangers, and their addresses are free.
    async fn stop_listening(&self) {
        let accepting = std::mem::take(&mut *lock(&self.accepting));
        // All of them before the first wait: whoever gives up waiting leaves none that listens.
        accepting.iter().for_each(JoinHandle::abort);
        for task in accepting {
            // Aborted, which is what was asked for; awaited, because only then is the socket closed.
            let _ = task.await;
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if self.report.get().is_some() {
            return;
        }
        self.shared.closing.send_replace(true);
        for task in &*lock(&self.accepting) {
            task.abort();
        }
        for instance in self.shared.take_instances() {
            instance.shut();
        }
        for handle in self.shared.connections() {
            handle.ask(Command::Abort);
        }
        self.shared.shards.stop();
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shared = &self.life.shared;
        f.debug_struct("Endpoint")
            .field("peer", &shared.me)
            .field("addresses", &shared.own.addresses())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Makes one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.life.shared
    }

    /// Who it is.
    pub fn peer_id(&self) -> PeerId {
        self.life.shared.me
    }

    /// Its keys.
    pub fn identity(&self) -> &Arc<Identity> {
        &self.life.shared.identity
    }

    /// What it was bound with.
    pub fn config(&self) -> &Config {
        &self.life.shared.config
    }

    /// This start of it.
    pub fn incarnation(&self) -> Incarnation {
        self.life.shared.incarnation
    }

    /// Where it can be reached, which its hellos say too: announced addresses; else where others see it, once enough of
    /// them agree ([`Config::observed_votes`]); and where it listens, with the ports that the system chose. In place of a
    /// wildcard (`0.0.0.0`, `[::]`) stands this machine's address towards the rest of the world, or the loopback's where there
    /// was no way out at the start; a dial looks again when 10 s have passed, and instances hear of a change.
    pub fn addresses(&self) -> Vec<Address> {
        self.life.shared.own.addresses()
    }

    /// Its clocks.
    pub fn now(&self) -> Now {
        self.life.shared.clock.now()
    }

    /// Has a link to whoever listens at `address`, and holds it for the application until the endpoint closes. Gives
    /// who that is. A link that ends is not dialled again: [`Endpoint::maintain`] does that. A call that is cancelled
    /// holds nothing.
    ///
    /// # Errors
    /// [`DialError`], with the reason that the other end has too, where there is one.
    pub async fn connect(&self, address: &Address) -> Result<PeerId, DialError> {
        self.dial(address, Target::Address(address.clone())).await
    }

    /// As [`Endpoint::connect`], and nobody else will do.
    ///
    /// # Errors
    /// [`DialError`]; [`peerage_machine::Why::WrongPeer`] when somebody else answers.
    pub async fn connect_to(&self, peer: PeerId, address: &Address) -> Result<PeerId, DialError> {
        self.dial(address, Target::Peer { peer, addresses: vec![address.clone()] }).await
    }

    /// Wants a link to whoever listens at `address`, now and whenever it ends for a reason that may pass, until what
    /// this gives is dropped. Waits between dials grow as [`Config::redial`] says. Dialled are the address where the last
    /// link was found, then `address`, then those that the peer gave in its hello; the peer of the last link is looked
    /// for first, and should somebody else answer at `address`, that will do. A peer that comes by itself ends the wait.
    ///
    /// | reason | dialled again? |
    /// |---|---|
    /// | lost, silent, timed out, unreachable | yes |
    /// | the peer shut down | yes: it may start again |
    /// | a limit, of either side | yes: others may leave |
    /// | a fault | yes: a bit that flips on the way is one too, and the waits bound what a broken peer costs |
    /// | unheld | yes: the word that this side holds the link crossed the goodbye |
    /// | duplicate | no need: the link that stays is held; if that has gone too, yes |
    /// | superseded | the same; if there is no other link, somebody else runs with this endpoint's key: given up |
    /// | refused | no: the two run nothing in common |
    /// | incompatible | yes: that word comes in clear, so anybody on the way can say it; and programs are replaced |
    /// | the wrong peer, this endpoint itself, no transport | no, unless another address serves |
    /// | this endpoint shut down | no |
    pub fn maintain(&self, address: &Address) -> Maintained {
        Maintained::start(&self.life.shared, Aim::Address(address.clone()))
    }

    /// As [`Endpoint::maintain`], to this peer and no other. Without addresses it waits for the peer to come.
    pub fn maintain_to(&self, peer: PeerId, addresses: &[Address]) -> Maintained {
        Maintained::start(&self.life.shared, Aim::Peer(peer, addresses.to_vec()))
    }

    async fn dial(&self, address: &Address, target: Target) -> Result<PeerId, DialError> {
        let grant = self.life.shared.dial_for_application(target).await;
        let grant = grant.map_err(|why| DialError { to: address.clone(), why })?;
        // Before the grant's own hold ends.
        grant.link.hold(InstanceKey::APPLICATION);
        Ok(grant.peer)
    }

    /// Runs a machine as the instance `spec`, on every link whose peer runs the same.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn host<M: Machine + Send + 'static>(
        &self,
        spec: InstanceSpec,
        make: impl FnOnce(Start) -> M,
        sink: impl Sink<M>,
    ) -> Result<Hosted<M>, HostError> {
        let shared = &self.life.shared;
        let start = Start {
            now: shared.clock.now(),
            seed: shared.seed.fork(&format!("instance {}", spec.name)),
            identity: Arc::clone(&shared.identity),
            incarnation: shared.incarnation,
            addresses: shared.own.addresses(),
        };
        let told = start.addresses.clone();
        let machine = make(start);
        let cell = shared.add_instance(&spec, |key| Cell::new(key, spec.clone(), shared, machine, sink))?;
        if shared.own.addresses() != told {
            // They changed when the machine was made, and nobody knew of it.
            cell.own_addresses();
        }
        shared.shards.spawn_first(Arc::clone(&cell).keep_time());
        Ok(Hosted::new(cell, self.clone()))
    }

    /// What there is to see.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.life.shared)
    }

    /// Waits until a link is up; returns at once when one is. What a protocol needs to be ready its own handle says.
    ///
    /// # Errors
    /// The endpoint is closed, or closes meanwhile.
    pub async fn ready(&self) -> Result<(), Closed> {
        let shared = &self.life.shared;
        loop {
            // Made before the look, so that no link is missed in between.
            let linked = shared.linked.notified();
            if shared.is_closing() {
                return Err(Closed);
            }
            if shared.has_link() {
                return Ok(());
            }
            tokio::select! {
                () = linked => {}
                () = shared.until_closing() => return Err(Closed),
            }
        }
    }

    /// Takes no new links from now on, dialled or accepted, and gives the addresses that it listens on free; then waits
    /// until every link has written what machines had sent on it when this was called, at most for `grace`, and says what
    /// was left. Links stay, and carry what is still said on them, until they end by themselves or by
    /// [`Endpoint::close`], which cuts what its own grace does not do for. Dials find the links that there are, and fail
    /// otherwise as [`peerage_machine::Why::Shutdown`].
    ///
    /// A peer that gives no credit holds this up. When the grace is over, or a call is cancelled, the endpoint goes on
    /// draining; another call waits anew.
    pub async fn drain(&self, grace: Duration) -> DrainReport {
        let shared = &self.life.shared;
        shared.draining.store(true, Ordering::SeqCst);
        self.life.stop_listening().await;
        close::flush_links(shared, grace).await
    }

    /// Ends the endpoint: stops listening, lets each link flush and say goodbye within
    /// [`Config::close_grace`], cuts the rest, and says what that was. Cannot fail; a second call gives the same report. When it returns, the
    /// addresses are free and no task of the endpoint's runs any more, unless a machine is busy.
    pub async fn close(&self) -> CloseReport {
        let life = &self.life;
        life.report
            .get_or_init(|| async {
                life.shared.closing.send_replace(true);
                life.stop_listening().await;
                let report = close::close_links(&life.shared).await;
                for instance in life.shared.take_instances() {
                    instance.shut();
                }
                if tokio::time::timeout(close::ABORT, life.shared.shards.idle()).await.is_err() {
                    tracing::warn!(tasks = life.shared.shards.tasks(), "tasks that do not end");
                }
                life.shared.shards.stop();
                report
            })
            .await
            .clone()
    }
}
