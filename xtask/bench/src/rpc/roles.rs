//! What the processes of broker, node and client do. Each runs on one thread: its program and its links share a
//! current-thread runtime.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use peerage_identity::Identity;
use peerage_net::{Builder, Shards};
use peerage_rpc::accounts::Kind;
use peerage_rpc::{Broker, Client, Command, Declaration, Node, Target};
use peerage_store::RedbStore;
use peerage_wire::{Address, PeerId, Suite};

use super::part::{Orders, word};
use crate::cost;

/// Until windows and buffers have found their sizes.
const WARM_UP: Duration = Duration::from_millis(200);
/// Calls before those that are timed, about a second: links ping more often at first, to learn the round trip.
const WARM_UP_CALLS: usize = 40_000;
/// How many messages of a stream are handed over together.
const BATCH: usize = 64;
/// How many sessions there may be.
pub(super) const SESSIONS: usize = 20_000;

/// Comes back as it is.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Echo {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

impl Command for Echo {
    const NAME: &'static str = "echo";
    type Reply = Self;
}

/// The same at the broker, which writes it down beside.
#[derive(Clone, PartialEq, prost::Message)]
struct Note {
    #[prost(bytes = "bytes", tag = "1")]
    data: Bytes,
}

impl Command for Note {
    const NAME: &'static str = "note";
    type Reply = Self;
}

/// Messages of so many bytes, until nobody takes them.
#[derive(Clone, PartialEq, prost::Message)]
struct Pour {
    #[prost(uint64, tag = "1")]
    size: u64,
}

impl Command for Pour {
    const NAME: &'static str = "pour";
    type Reply = Echo;

    fn declaration() -> Declaration {
        Declaration::server_stream()
    }
}

/// On the runtime of its program, and with that cipher.
pub(super) fn on_one_thread(suite: Suite) -> impl FnOnce(Builder) -> Builder + Send + 'static {
    move |builder| {
        builder.configure(move |config| {
            config.shards = Shards::Ambient;
            config.dial_suites = vec![suite];
            config.listen_suites = vec![suite];
        })
    }
}

/// Takes `user KEY` and `node KEY`, and at `start` listens and says where.
pub(super) async fn broker(suite: Suite, journal: Option<PathBuf>, mut orders: Orders) -> Result<()> {
    let identity = Identity::generate().context("no entropy for an identity")?;
    let mut builder = Broker::builder()
        .identity(identity)
        .with_endpoint(on_one_thread(suite))
        // Thousands come from one address here, on purpose.
        .with_endpoint(|builder| {
            builder.configure(|config| {
                config.max_links = SESSIONS;
                config.max_inbound_per_address = SESSIONS;
                config.max_handshakes = SESSIONS;
                config.cookies_above = SESSIONS;
                config.handshakes_per_second = 100_000;
            })
        })
        .configure(|config| {
            config.max_sessions = SESSIONS;
            config.max_unopened = SESSIONS;
        })
        .listen("tcp://127.0.0.1:0".parse()?);
    if let Some(path) = journal {
        let store = RedbStore::open(path).context("opening the store")?;
        builder = builder.store(Arc::new(store)).journal(true);
    }
    let broker = builder
        .command::<Note, _, _>(|ctx, note| async move {
            let key = [&b"note/"[..], &ctx.call_id().number.to_be_bytes()].concat();
            ctx.batch().put(key, note.data.clone())?;
            Ok(note)
        })
        .start()
        .await?;
    while let Some(words) = orders.next().await {
        let order: String = word(&words, 0)?;
        let kind = match order.as_str() {
            "user" => Kind::User,
            "node" => Kind::Node,
            "start" => {
                let address = broker.endpoint().addresses().first().cloned().context("it listens nowhere")?;
                println!("{} {address}", broker.peer_id());
                continue;
            }
            other => bail!("a broker does not know {other:?}"),
        };
        broker.admit(word(&words, 1)?, kind, "").await?;
    }
    broker.close().await;
    Ok(())
}

/// Says who it is, and takes `BROKER ADDRESS`.
async fn introduced(identity: &Identity, orders: &mut Orders) -> Result<Option<(PeerId, Address)>> {
    println!("{}", identity.peer_id());
    let Some(words) = orders.next().await else { return Ok(None) };
    Ok(Some((word(&words, 0)?, word(&words, 1)?)))
}

pub(super) async fn node(suite: Suite, mut orders: Orders) -> Result<()> {
    let identity = Identity::generate().context("no entropy for an identity")?;
    let Some((broker, address)) = introduced(&identity, &mut orders).await? else { return Ok(()) };
    let node = Node::builder()
        .identity(identity)
        .with_endpoint(on_one_thread(suite))
        .broker(broker, vec![address])
        .command::<Echo, _, _>(|_, echo| async move { Ok(echo) })
        .server_stream::<Pour, _, _>(|_, pour, sender| async move {
            let message = Echo { data: Bytes::from(vec![b'x'; usize::try_from(pour.size).unwrap_or(0)]) };
            loop {
                sender.send_all(std::iter::repeat_n(message.clone(), BATCH)).await?;
            }
        })
        .connect()
        .await?;
    println!("ready");
    while orders.next().await.is_some() {}
    node.close().await;
    Ok(())
}

/// Takes `NODE BROKER-PROCESS NODE-PROCESS`, and `sealed` if calls are to be, once it is connected, and then what to measure.
pub(super) async fn client(suite: Suite, mut orders: Orders) -> Result<()> {
    let identity = Identity::generate().context("no entropy for an identity")?;
    let Some((broker, address)) = introduced(&identity, &mut orders).await? else { return Ok(()) };
    let builder = Client::builder().identity(identity).with_endpoint(on_one_thread(suite));
    let client = builder.broker(broker, vec![address]).connect().await?;
    println!("ready");
    let Some(words) = orders.next().await else { return Ok(()) };
    let mut node = client.node(word(&words, 0)?);
    if words.get(3).is_some_and(|word| word == "sealed") {
        node = node.sealed();
    }
    let processes = Processes([word(&words, 1)?, word(&words, 2)?, std::process::id()]);
    while let Some(words) = orders.next().await {
        let order: String = word(&words, 0)?;
        match order.as_str() {
            "sequential" => {
                // A task, as programs have: tokio looks for more events before it goes on with what it blocks on.
                let calls = sequential(node.clone(), word(&words, 1)?, word(&words, 2)?);
                let times = tokio::spawn(calls).await??;
                let delay = crate::echo::delay(times, WARM_UP_CALLS);
                println!("{} {}", delay.p50, delay.p99);
            }
            "inflight" => {
                let (count, size, span) = (word(&words, 1)?, word(&words, 2)?, word(&words, 3)?);
                inflight(&node, Asked::Echo, count, size, span, &processes).await?.say();
            }
            "notes" => {
                let (count, size, span) = (word(&words, 1)?, word(&words, 2)?, word(&words, 3)?);
                inflight(&client, Asked::Note, count, size, span, &processes).await?.say();
            }
            "stream" => stream(&node, word(&words, 1)?, word(&words, 2)?, &processes).await?.say(),
            other => bail!("a client does not know {other:?}"),
        }
    }
    client.close().await;
    Ok(())
}

/// Whose time counts.
struct Processes([u32; 3]);

impl Processes {
    fn cpu(&self) -> Result<Duration> {
        let cpu: Option<Duration> = self.0.iter().map(|process| cost::cpu_of(*process)).sum();
        cpu.context("there is no /proc to read the time from")
    }
}

/// What was counted in how long, at what cost.
struct Flow {
    count: u64,
    span: Duration,
    cpu: Duration,
}

impl Flow {
    /// A second, and microseconds of all processes together for each.
    fn say(&self) {
        let count = self.count as f64;
        println!("{} {}", count / self.span.as_secs_f64(), self.cpu.as_secs_f64() * 1e6 / count.max(1.0));
    }
}

async fn sequential(node: Target, size: usize, count: usize) -> Result<Vec<u64>> {
    let data = Bytes::from(vec![b'x'; size]);
    let mut times = Vec::with_capacity(WARM_UP_CALLS + count);
    for _ in 0..WARM_UP_CALLS + count {
        let began = Instant::now();
        node.call(Echo { data: data.clone() }).await?;
        times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(times)
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Echo,
    Note,
}

/// So many callers, each of whom calls again as soon as it is answered.
async fn inflight(
    target: &Target,
    asked: Asked,
    callers: usize,
    size: usize,
    millis: u64,
    processes: &Processes,
) -> Result<Flow> {
    let answered = Arc::new(AtomicU64::new(0));
    let data = Bytes::from(vec![b'x'; size]);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let (target, data, answered) = (target.clone(), data.clone(), Arc::clone(&answered));
        tasks.spawn(async move {
            loop {
                let answer = match asked {
                    Asked::Echo => target.call(Echo { data: data.clone() }).await.map(drop),
                    Asked::Note => target.call(Note { data: data.clone() }).await.map(drop),
                };
                match answer {
                    Ok(()) => answered.fetch_add(1, Ordering::Relaxed),
                    Err(status) => return status,
                };
            }
        });
    }
    let flow = measure(millis, processes, || answered.load(Ordering::Relaxed));
    tokio::select! {
        flow = flow => flow,
        Some(status) = tasks.join_next() => bail!("a call failed: {}", status?),
    }
}

async fn measure(millis: u64, processes: &Processes, count: impl Fn() -> u64) -> Result<Flow> {
    tokio::time::sleep(WARM_UP).await;
    let (began, before, cpu) = (Instant::now(), count(), processes.cpu()?);
    tokio::time::sleep(Duration::from_millis(millis)).await;
    let (span, count, after) = (began.elapsed(), count() - before, processes.cpu()?);
    Ok(Flow { count, span, cpu: after.saturating_sub(cpu) })
}

/// Messages that the node sends.
async fn stream(node: &Target, size: u64, millis: u64, processes: &Processes) -> Result<Flow> {
    let received = Arc::new(AtomicU64::new(0));
    let mut messages = node.server_stream(Pour { size }).await?;
    let count = Arc::clone(&received);
    let reader = async move {
        loop {
            match messages.recv().await {
                Some(Ok(_)) => count.fetch_add(1, Ordering::Relaxed),
                Some(Err(status)) => break anyhow::Error::from(status),
                None => break anyhow::anyhow!("the stream ended"),
            };
        }
    };
    let reader = tokio::spawn(reader);
    let flow = measure(millis, processes, || received.load(Ordering::Relaxed)).await?;
    if reader.is_finished() {
        bail!("the stream ended: {}", reader.await?);
    }
    reader.abort();
    // The node stops when it hears that nobody reads.
    tokio::time::sleep(WARM_UP).await;
    Ok(flow)
}

/// Where a journal is written.
pub(super) fn journal_in(folder: &Path) -> PathBuf {
    folder.join("broker.redb")
}
