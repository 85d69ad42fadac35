//! `bench mesh`: a whole mesh in one process, over TCP on loopback, signatures checked by everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use peerage_identity::Identity;
use peerage_net::{Config, Endpoint, Shards};
use peerage_overlay::{Mesh, MeshConfig, RecvError};
use peerage_wire::PeerId;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::cost;
use crate::figure::Figures;

/// What each message holds, in bytes.
const SIZE: usize = 1024;
/// Messages from everybody in turn, at a steady pace.
const PACED: usize = 300;
/// Between two of these.
const PACE: Duration = Duration::from_millis(10);
/// Messages from everybody in turn, each said when all have the one before: how the meshes that the goals come from were
/// timed.
const SINGLE: usize = 200;
/// Messages that one peer says as fast as it can, twice: trees settle for it in the first.
const BURST: usize = 2_000;
/// From the last link to the first message, and from one part to the next.
const SETTLE: Duration = Duration::from_secs(2);
/// Far longer than any part takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is seen whether the mesh is one.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) peers: usize,
    pub(crate) rounds: usize,
    pub(crate) json: Option<PathBuf>,
}

/// What the process of a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Part {
    /// Bind each of tokio's threads to a core of its own
    #[arg(long)]
    bound: bool,
    /// End when all have spoken in turn at a steady pace, before messages come one at a time or as fast as can be
    #[arg(long)]
    paced: bool,
}

/// Measures, shows, and appends.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    ensure!(plan.peers >= 2, "a mesh has two peers at least, not {}", plan.peers);
    let taskset = std::process::Command::new("taskset").arg("--version").output();
    taskset.context("threads are bound by `taskset`, of util-linux, which does not run")?;
    println!(
        "{} peers in one process, TCP on loopback, messages of {SIZE} B, signed and checked; medians of {}\n\
         paced: {} a second, from everybody in turn; delivered, single: one at a time, from everybody in turn; rate, burst: \
         one speaker, as fast as all hear it",
        plan.peers,
        plan.rounds,
        1000 / PACE.as_millis(),
    );
    let mut figures = Figures::default();
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        measure(plan.peers, &mut figures)?;
    }
    figures.show();
    match &plan.json {
        Some(path) => figures.write("mesh", path),
        None => Ok(()),
    }
}

/// One round: the mesh as it is; the same with each thread on a core of its own, since a system may leave both to one core
/// while the other one sleeps; and half of the peers, for what each further one takes without the process's own share.
fn measure(peers: usize, figures: &mut Figures) -> Result<()> {
    let whole = in_process(peers, Part { bound: false, paced: false })?;
    for said in &whole {
        figures.add(said.metric.as_str(), said.unit, said.value);
    }
    let bound = in_process(peers, Part { bound: true, paced: true })?;
    for (metric, name) in [("paced_p50", "paced_bound_p50"), ("paced_p99", "paced_bound_p99")] {
        let said = find(&bound, metric)?;
        figures.add(name, said.unit, said.value);
    }
    // Of two there is no half that is a mesh.
    let fewer = (peers / 2).max(2);
    if fewer < peers {
        let half = in_process(fewer, Part { bound: false, paced: true })?;
        let more = find(&whole, RESIDENT)?.value - find(&half, RESIDENT)?.value;
        figures.add("rss_per_further_peer", "KiB", more / (peers - fewer) as f64);
    }
    Ok(())
}

/// A figure that the process of a round said.
#[derive(Debug)]
struct Said {
    metric: String,
    value: f64,
    unit: &'static str,
}

fn find<'a>(all: &'a [Said], metric: &str) -> Result<&'a Said> {
    let found = all.iter().find(|said| said.metric == metric);
    found.with_context(|| format!("the process of the mesh did not say {metric}"))
}

/// In a process of its own: memory that an earlier one left would hide what this one takes.
fn in_process(peers: usize, part: Part) -> Result<Vec<Said>> {
    let options = [(part.bound, "--bound"), (part.paced, "--paced")];
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["mesh-round", &peers.to_string()])
        .args(options.iter().filter(|(chosen, _)| *chosen).map(|(_, option)| option))
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("starting the process of the mesh")?;
    ensure!(output.status.success(), "the process of the mesh failed: {}", output.status);
    let read = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [metric, value, unit] = words[..] else { bail!("the process of the mesh said {line:?}") };
        let unit = UNITS.iter().find(|known| **known == unit).with_context(|| format!("no unit {unit:?}"))?;
        let value = value.parse().with_context(|| format!("in {line:?}"))?;
        Ok(Said { metric: metric.to_owned(), value, unit })
    };
    String::from_utf8_lossy(&output.stdout).lines().map(read).collect()
}

/// What the process of a round takes in memory, all of it.
const RESIDENT: &str = "rss";
const UNITS: [&str; 5] = ["ms", "us", "ratio", "KiB", "msg/s"];
/// What is counted for each delivery: messages that were pushed though they were here, and that were asked for though
/// they came by themselves.
const WASTE: [(&str, &str); 2] =
    [("pushed_twice", "mesh_duplicate_pushes_total"), ("asked_twice", "mesh_duplicate_pulls_total")];

/// The process of one round: prints a figure on each line.
pub(crate) fn round(peers: usize, part: Part) -> Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let unbound = Arc::new(Mutex::new(None));
    if part.bound {
        let cores = cost::cores().context("there is no /proc to read the cores from")?;
        let (next, failed) = (AtomicUsize::new(0), Arc::clone(&unbound));
        builder.worker_threads(cores.len()).on_thread_start(move || {
            let core = cores.get(next.fetch_add(1, Ordering::Relaxed) % cores.len());
            if let Err(error) = core.context("no core").and_then(|core| bind(*core)) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        });
    }
    let runtime = builder.enable_all().build().context("starting tokio")?;
    runtime.block_on(async {
        let crowd = Crowd::form(peers).await?;
        let measured = crowd.measure(part).await;
        crowd.close().await;
        measured
    })?;
    let unbound = unbound.lock().unwrap_or_else(PoisonError::into_inner).take();
    unbound.map_or(Ok(()), |error| Err(error.context("binding a thread to a core")))
}

/// Has this thread run on that core alone.
fn bind(core: usize) -> Result<()> {
    let thread = std::fs::read_link("/proc/thread-self")?;
    let thread = thread.file_name().context("no thread")?.to_owned();
    let status = std::process::Command::new("taskset")
        .args(["-cp", &core.to_string()])
        .arg(thread)
        .stdout(std::process::Stdio::null())
        .status()
        .context("it takes `taskset`, of util-linux")?;
    ensure!(status.success(), "`taskset` failed: {status}");
    Ok(())
}

fn say(metric: &str, value: f64, unit: &str) {
    println!("{metric} {value} {unit}");
}

/// Who has got what, of the part that runs.
#[derive(Debug)]
struct Tally {
    began: Instant,
    /// How many have each message, and how long the last of them had to wait, in nanoseconds.
    messages: Mutex<BTreeMap<u64, Delivery>>,
    deliveries: AtomicUsize,
    /// How many somebody waits for: who is told of each takes time from the mesh.
    awaited: AtomicUsize,
    lagged: AtomicU64,
    news: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Delivery {
    receivers: usize,
    last: Duration,
}

impl Tally {
    fn got(&self, body: &[u8]) {
        let now = self.began.elapsed();
        let Some((number, rest)) = body.split_first_chunk::<8>() else { return };
        let Some(sent) = rest.first_chunk::<8>() else { return };
        let waited = now.saturating_sub(Duration::from_nanos(u64::from_be_bytes(*sent)));
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let delivery = messages.entry(u64::from_be_bytes(*number)).or_default();
        delivery.receivers += 1;
        delivery.last = delivery.last.max(waited);
        drop(messages);
        if self.deliveries.fetch_add(1, Ordering::SeqCst) + 1 >= self.awaited.load(Ordering::SeqCst) {
            self.news.notify_one();
        }
    }

    fn body(&self, number: u64) -> Bytes {
        let mut body = BytesMut::with_capacity(SIZE);
        body.put_u64(number);
        let sent = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        body.put_u64(sent);
        body.resize(SIZE, b'x');
        body.freeze()
    }

    async fn reached(&self, deliveries: usize) -> Result<()> {
        self.awaited.store(deliveries, Ordering::SeqCst);
        let reached = async {
            while self.deliveries.load(Ordering::SeqCst) < deliveries {
                self.news.notified().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        let (found, lagged) = (self.deliveries.load(Ordering::Relaxed), self.lagged.load(Ordering::Relaxed));
        ensure!(
            in_time,
            "{found} of {deliveries} deliveries after {PATIENCE:?}; readers were too slow for {lagged}"
        );
        Ok(())
    }
}

/// All peers of the mesh.
struct Crowd {
    meshes: Vec<Mesh>,
    tally: Arc<Tally>,
    readers: Vec<JoinHandle<()>>,
    memory: u64,
}

impl Crowd {
    /// Everybody at once, by way of the first; all on this runtime.
    async fn form(peers: usize) -> Result<Self> {
        let memory = cost::resident().context("there is no /proc to read the memory from")?;
        let began = Instant::now();
        let mut config = Config::default();
        config.shards = Shards::Ambient;
        let mut meshes = Vec::with_capacity(peers);
        for _ in 0..peers {
            let identity = Identity::generate().context("no entropy for an identity")?;
            let builder = Endpoint::builder().identity(identity).config(config.clone());
            let endpoint = builder.listen("tcp://127.0.0.1:0".parse()?).bind().await?;
            meshes.push(Mesh::open(&endpoint, MeshConfig::named("bench"))?);
        }
        let contact = meshes.first().context("nobody")?.endpoint().addresses();
        let joins: Vec<_> = meshes
            .iter()
            .skip(1)
            .cloned()
            .map(|mesh| (mesh, contact.clone()))
            .map(|(mesh, contact)| tokio::spawn(async move { mesh.join(&contact).await }))
            .collect();
        for join in joins {
            join.await??;
        }
        while !is_one(&meshes) {
            ensure!(began.elapsed() < PATIENCE, "the mesh is not one after {PATIENCE:?}");
            tokio::time::sleep(LOOK).await;
        }
        say("formed", began.elapsed().as_secs_f64() * 1e3, "ms");
        let tally = Arc::new(Tally {
            began: Instant::now(),
            messages: Mutex::default(),
            deliveries: AtomicUsize::new(0),
            awaited: AtomicUsize::new(usize::MAX),
            lagged: AtomicU64::new(0),
            news: Notify::new(),
        });
        let readers = meshes.iter().map(|mesh| read(mesh.clone(), Arc::clone(&tally))).collect();
        Ok(Self { meshes, tally, readers, memory })
    }

    async fn measure(&self, part: Part) -> Result<()> {
        tokio::time::sleep(SETTLE).await;
        say("rss_idle_per_peer", self.grown()? / 1024.0, "KiB");
        // Everybody is heard once before it counts.
        self.speak_in_turn(self.meshes.len().max(50)).await?;
        self.forget();

        let (cpu, sent) = (cost::cpu().context("there is no /proc")?, self.sent());
        let mut counted = BTreeMap::new();
        self.waste("warm", &mut counted, self.meshes.len().max(50) * self.receivers());
        self.speak_in_turn(PACED).await?;
        let (cpu, sent) = (cost::cpu().context("there is no /proc")?.saturating_sub(cpu), self.sent() - sent);
        let deliveries = (PACED * self.receivers()) as f64;
        self.say_waits("paced", PACED)?;
        say("cpu_per_delivery", cpu.as_secs_f64() * 1e6 / deliveries, "us");
        say("wire_ratio", sent as f64 / (deliveries * SIZE as f64), "ratio");
        self.waste("paced", &mut counted, PACED * self.receivers());
        say("rss_per_peer", self.grown()? / 1024.0, "KiB");
        say(RESIDENT, cost::resident().context("there is no /proc")? as f64 / 1024.0, "KiB");
        if part.paced {
            return Ok(());
        }

        self.forget();
        self.speak_one_at_a_time().await?;
        self.say_waits("delivered", SINGLE)?;
        self.waste("single", &mut counted, SINGLE * self.receivers());
        for counts in [false, true] {
            tokio::time::sleep(SETTLE).await;
            self.forget();
            let began = Instant::now();
            self.burst().await?;
            let rate = BURST as f64 / began.elapsed().as_secs_f64();
            self.waste(if counts { "burst" } else { "first_burst" }, &mut counted, BURST * self.receivers());
            if counts {
                say("rate_1KiB", rate, "msg/s");
            }
        }
        self.waits(BURST)?;
        Ok(())
    }

    /// How much memory the process has taken since it began, for each peer.
    fn grown(&self) -> Result<f64> {
        let resident = cost::resident().context("there is no /proc")?;
        Ok(resident.saturating_sub(self.memory) as f64 / self.meshes.len() as f64)
    }

    /// How long the last receiver of a message waited, for half of them and for the slowest but one in a hundred.
    fn say_waits(&self, part: &str, messages: usize) -> Result<()> {
        let mut waits = self.waits(messages)?;
        waits.sort_unstable();
        for percent in [50, 99] {
            let wait = waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
            say(&format!("{part}_p{percent}"), wait.as_secs_f64() * 1e6, "us");
        }
        Ok(())
    }

    /// What came again and what was asked for, for each delivery since the last time.
    fn waste(&self, part: &str, before: &mut BTreeMap<&'static str, u64>, deliveries: usize) {
        let mut counted = BTreeMap::new();
        for mesh in &self.meshes {
            for (name, count) in mesh.endpoint().snapshot().totals.counted {
                *counted.entry(name).or_default() += count;
            }
        }
        for (metric, name) in WASTE {
            let of = |counted: &BTreeMap<&str, u64>| counted.get(name).copied().unwrap_or_default();
            let count = of(&counted) - of(before);
            say(&format!("{metric}_{part}"), count as f64 / deliveries as f64, "ratio");
        }
        *before = counted;
    }

    async fn speak_in_turn(&self, messages: usize) -> Result<()> {
        let mut ticks = tokio::time::interval(PACE);
        for (number, mesh) in (0..messages).zip(self.meshes.iter().cycle()) {
            ticks.tick().await;
            mesh.broadcast(self.tally.body(number as u64)).await?;
        }
        self.tally.reached(messages * self.receivers()).await
    }

    async fn speak_one_at_a_time(&self) -> Result<()> {
        for (number, mesh) in (0..SINGLE).zip(self.meshes.iter().cycle()) {
            mesh.broadcast(self.tally.body(number as u64)).await?;
            self.tally.reached((number + 1) * self.receivers()).await?;
        }
        Ok(())
    }

    async fn burst(&self) -> Result<()> {
        let speaker = self.meshes.first().context("nobody")?;
        for number in 0..BURST {
            speaker.broadcast(self.tally.body(number as u64)).await?;
        }
        self.tally.reached(BURST * self.receivers()).await
    }

    fn receivers(&self) -> usize {
        self.meshes.len() - 1
    }

    fn forget(&self) {
        self.tally.messages.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tally.awaited.store(usize::MAX, Ordering::SeqCst);
        self.tally.deliveries.store(0, Ordering::SeqCst);
    }

    /// How long the last receiver waited for each message.
    fn waits(&self, messages: usize) -> Result<Vec<Duration>> {
        let deliveries = self.tally.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let receivers = self.receivers();
        ensure!(deliveries.len() == messages, "{} of {messages} messages were seen", deliveries.len());
        match deliveries.iter().find(|(_, delivery)| delivery.receivers != receivers) {
            Some((number, delivery)) => {
                bail!("message {number} was delivered {} times to {receivers}", delivery.receivers)
            }
            None => Ok(deliveries.values().map(|delivery| delivery.last).collect()),
        }
    }

    fn sent(&self) -> u64 {
        self.meshes.iter().map(|mesh| mesh.endpoint().snapshot().totals.bytes_sent).sum()
    }

    async fn close(self) {
        for mesh in &self.meshes {
            mesh.endpoint().close().await;
        }
        for reader in self.readers {
            // It ends with its mesh.
            let _ = reader.await;
        }
    }
}

/// Whether everybody can be reached from the first, over links that both ends count as neighbours.
fn is_one(meshes: &[Mesh]) -> bool {
    let views: BTreeMap<PeerId, BTreeSet<PeerId>> = meshes
        .iter()
        .map(|mesh| (mesh.endpoint().peer_id(), mesh.neighbours().into_iter().collect()))
        .collect();
    let Some(first) = views.keys().next() else { return true };
    let (mut reached, mut next) = (BTreeSet::from([*first]), vec![*first]);
    while let Some(peer) = next.pop() {
        for neighbour in views.get(&peer).into_iter().flatten() {
            let mutual = views.get(neighbour).is_some_and(|view| view.contains(&peer));
            if mutual && reached.insert(*neighbour) {
                next.push(*neighbour);
            }
        }
    }
    reached.len() == meshes.len()
}

fn read(mesh: Mesh, tally: Arc<Tally>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            match mesh.recv().await {
                Ok(message) => tally.got(message.body()),
                Err(RecvError::Lagged { missed }) => {
                    tally.lagged.fetch_add(missed, Ordering::Relaxed);
                }
                Err(_) => return,
            }
        }
    })
}
