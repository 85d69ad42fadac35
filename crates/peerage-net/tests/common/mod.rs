//! A toy machine that tells everything it hears, and what tests need around it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file is a program of its own and uses some of this, and stops at the first thing amiss"
)]

pub mod stranger;
pub mod target;
pub mod toy;
pub mod valve;

use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peerage_identity::Identity;
use peerage_machine::{LinkId, LinkInfo, Why};
use peerage_net::{Builder, Config, Endpoint, Hosted, InstanceSpec, MemoryTransport, Snapshot};
use peerage_wire::{Address, PeerId};
use tokio::sync::mpsc::UnboundedReceiver;
pub use toy::{Event, Heard, Toy, ToySink, spec};

/// Nothing here takes that long, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(25);

/// What endpoints are connected by.
#[derive(Clone, Debug)]
pub enum Over {
    Tcp,
    Memory(MemoryTransport),
}

impl Over {
    pub fn memory() -> Self {
        Self::Memory(MemoryTransport::new())
    }

    pub fn both() -> [Self; 2] {
        [Self::Tcp, Self::memory()]
    }

    /// A new address to listen on.
    pub fn address(&self) -> Address {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self {
            Self::Tcp => "tcp://127.0.0.1:0".parse().unwrap(),
            Self::Memory(_) => format!("mem://n{}", NEXT.fetch_add(1, Ordering::Relaxed)).parse().unwrap(),
        }
    }

    pub fn builder(&self, seed: u8) -> Builder {
        let builder = Endpoint::builder().identity(identity(seed));
        match self {
            Self::Tcp => builder,
            Self::Memory(transport) => builder.memory(transport),
        }
    }

    pub async fn endpoint(&self, seed: u8, config: Config) -> Endpoint {
        self.builder(seed).listen(self.address()).config(config).bind().await.unwrap()
    }

    /// An endpoint that runs one toy, called "toy".
    pub async fn node(&self, seed: u8, config: Config) -> Node {
        Node::new(self.endpoint(seed, config).await, "toy", Toy::default())
    }
}

pub fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32])
}

pub fn peer(seed: u8) -> PeerId {
    identity(seed).peer_id()
}

/// The default, changed.
pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// A toy on an endpoint, and what it has said.
pub struct Node {
    pub endpoint: Endpoint,
    pub toy: Hosted<Toy>,
    heard: UnboundedReceiver<Heard>,
    log: Vec<String>,
}

impl Node {
    pub fn new(endpoint: Endpoint, name: &str, toy: Toy) -> Self {
        Self::with_spec(endpoint, spec(name), toy)
    }

    pub fn with_spec(endpoint: Endpoint, spec: InstanceSpec, toy: Toy) -> Self {
        let (sink, heard) = ToySink::new();
        let toy = endpoint.host(spec, |_| toy, sink).unwrap();
        Self { endpoint, toy, heard, log: Vec::new() }
    }

    pub fn id(&self) -> PeerId {
        self.endpoint.peer_id()
    }

    pub fn address(&self) -> Address {
        self.endpoint.addresses().first().unwrap().clone()
    }

    pub fn snapshot(&self) -> Snapshot {
        self.endpoint.snapshot()
    }

    /// The next that `pick` takes; what comes before it is passed over.
    pub async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(&Heard) -> Option<T>) -> T {
        let (heard, log) = (&mut self.heard, &mut self.log);
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let next = heard.recv().await?;
                if log.len() < 200 {
                    log.push(format!("{next:?}"));
                }
                if let Some(found) = pick(&next) {
                    return Some(found);
                }
            }
        });
        match found.await {
            Ok(Some(found)) => found,
            other => panic!(
                "waited for {what}: {}; heard so far: {:#?}; {:#?}",
                if other.is_err() { "it did not come" } else { "the instance closed" },
                self.log,
                self.endpoint.snapshot()
            ),
        }
    }

    /// What has been heard and not been taken.
    pub fn pending(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    pub async fn event<T>(&mut self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        self.expect(what, |heard| match heard {
            Heard::Event(event) => pick(event),
            _ => None,
        })
        .await
    }

    pub async fn up(&mut self) -> (LinkId, LinkInfo) {
        self.event("a link", |event| match event {
            Event::Up(link, info) => Some((*link, info.clone())),
            _ => None,
        })
        .await
    }

    pub async fn down(&mut self, link: LinkId) -> Why {
        self.event("the link's end", |event| match event {
            Event::Down(ended, why) if *ended == link => Some(why.clone()),
            _ => None,
        })
        .await
    }

    pub async fn dialed(&mut self, wanted: u64) -> Result<LinkId, Why> {
        self.event("the dial's end", |event| match event {
            Event::Dialed(dial, link) if dial.0 == wanted => Some(Ok(*link)),
            Event::DialFailed(dial, why) if dial.0 == wanted => Some(Err(why.clone())),
            _ => None,
        })
        .await
    }

    pub async fn got(&mut self) -> (LinkId, bytes::Bytes) {
        self.event("a message", |event| match event {
            Event::Got(link, body) => Some((*link, body.clone())),
            _ => None,
        })
        .await
    }
}

/// Two nodes with a link; the first dialled. Gives each one's name for it.
pub async fn linked(a: &mut Node, b: &mut Node) -> (LinkId, LinkId) {
    assert_eq!(a.endpoint.connect(&b.address()).await.unwrap(), b.id());
    let (ours, info) = a.up().await;
    assert_eq!(info.peer, b.id());
    let (theirs, info) = b.up().await;
    assert_eq!(info.peer, a.id());
    (ours, theirs)
}

/// The links of a toy.
pub fn connections_of(toy: &Hosted<Toy>) -> Vec<LinkId> {
    toy.call(|toy, _, _| toy.links.clone()).unwrap()
}

/// Waits until `probe` gives something. For what no event tells; asks again as fast as others let it.
pub async fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let began = std::time::Instant::now();
    loop {
        match probe() {
            Ok(found) => return found,
            Err(_) if began.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(instead) => panic!("waited for {what}: {instead}"),
        }
    }
}

/// Waits until the endpoint has no connection left, handshakes included.
pub async fn no_connections(endpoint: &Endpoint) {
    connections(endpoint, 0).await;
}

pub async fn connections(endpoint: &Endpoint, count: usize) {
    eventually(&format!("{count} connections"), || {
        let snapshot = endpoint.snapshot();
        if snapshot.links.len() == count { Ok(()) } else { Err(format!("{snapshot:#?}")) }
    })
    .await;
}

/// Waits until so many connections have ended for this reason.
pub async fn ended(endpoint: &Endpoint, reason: &str, count: u64) {
    eventually(&format!("{count} × {reason}"), || {
        let ended = endpoint.snapshot().totals.ended;
        if ended.get(reason).copied().unwrap_or_default() == count {
            Ok(())
        } else {
            Err(format!("{ended:?}"))
        }
    })
    .await;
}

/// Waits until so much was dropped for this reason.
pub async fn dropped(endpoint: &Endpoint, reason: &str, count: u64) {
    eventually(&format!("{count} × {reason}"), || {
        let dropped = endpoint.snapshot().totals.dropped;
        if dropped.get(reason).copied().unwrap_or_default() == count {
            Ok(())
        } else {
            Err(format!("{dropped:?}"))
        }
    })
    .await;
}

/// Ends a wait that takes too long.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// The error of a result whose value does not print.
pub fn error_of<T, E: Debug>(result: Result<T, E>) -> E {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error,
    }
}
