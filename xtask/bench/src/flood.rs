//! `bench flood`: strangers by the ten thousand on one listener, and what is left for a friend.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use peerage_identity::Identity;
use peerage_link::{Door, DoorConfig, Knock};
use peerage_machine::Instant as Mono;
use peerage_net::{Config, Endpoint, Shards};
use peerage_wire::Address;
use peerage_wire::preface::Preface;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::figure::Figures;
use crate::{cost, handshakes, pipe};

/// Connections of the flooder's at the same time.
const AT_ONCE: usize = 512;
/// How long the flooder waits for a connection. One that is not answered within loopback's time never is.
const CONNECT: Duration = Duration::from_millis(2);
/// From one honest dial to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// How a line of one that failed begins.
const FAILED: &str = "failed:";
/// Decisions about strangers in the part without sockets.
const KNOCKS: u32 = 1_000_000;

/// What to measure, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) seconds: u64,
    pub(crate) json: Option<PathBuf>,
}

/// How strangers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Manner {
    /// A preface and a first message, and on to the next connection when there is an answer
    Hello,
    /// Not a word: as many connections as the listener leaves open
    Silent,
}

/// From where strangers come. The friend comes from 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum From {
    /// Four addresses, each of which sends more than one may
    Few,
    /// 250 addresses, none of which does
    Many,
    /// The one that the system chooses
    Any,
}

impl From {
    fn address(self, number: u64) -> Option<std::net::SocketAddr> {
        let last = |count: u64| u8::try_from(1 + number % count).unwrap_or(1);
        match self {
            Self::Few => Some(([127, 0, 1, last(4)], 0).into()),
            Self::Many => Some(([127, 1, 0, last(250)], 0).into()),
            Self::Any => None,
        }
    }
}

/// What a dialer without a cookie says first; whether its key is one takes no part in it.
fn opening() -> Vec<u8> {
    [&Preface::CURRENT.encode()[..], &[0, 32], &[0x5a; 32]].concat()
}

/// Measures, shows, and appends.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    println!("strangers from another process, on loopback, for {} s of each manner and origin", plan.seconds);
    let mut figures = Figures::default();
    knocks(&mut figures)?;
    floor(plan, &mut figures)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(crowd(&mut figures))?;
    for from in [From::Few, From::Many] {
        for manner in [Manner::Hello, Manner::Silent] {
            runtime.block_on(flood(plan, from, manner, &mut figures))?;
        }
    }
    figures.show();
    if let Some(path) = &plan.json {
        figures.write("flood", path)?;
    }
    Ok(())
}

/// The part without sockets: what a stranger costs who has no cookie.
fn knocks(figures: &mut Figures) -> Result<()> {
    let now = Mono::from_micros(1);
    let config = DoorConfig { cookies_above: 0, without_cookie: 0, preface: Preface::CURRENT, per_source: 1 };
    let mut door = Door::new(config, [7; 32], now);
    let opening = opening();
    let began = Instant::now();
    for number in 0..KNOCKS {
        let source = [[4].as_slice(), &number.to_be_bytes()].concat();
        let knock = std::hint::black_box(door.knock(now, &source, &opening));
        if !matches!(knock, Knock::Answer(..)) {
            bail!("a stranger without a cookie was not asked for one: {knock:?}");
        }
    }
    figures.add("knock_cpu", "us", began.elapsed().as_secs_f64() * 1e6 / f64::from(KNOCKS));
    Ok(())
}

/// What a cookie costs an honest crowd, each of whom comes for the first time: links a second without, and with.
async fn crowd(figures: &mut Figures) -> Result<()> {
    for (metric, without_cookie) in [("crowd_without_cookies", u32::MAX), ("crowd_with_cookies", 0)] {
        let mut config = Config::default();
        (config.handshakes_per_second, config.handshakes_per_second_per_address) = (without_cookie, u32::MAX);
        for _ in 0..3 {
            figures.add(metric, "1/s", handshakes::rate(&config).await?);
        }
    }
    Ok(())
}

/// What the system alone takes for as much: a thread that accepts, reads, writes a notice's bytes, and closes.
fn floor(plan: &Plan, figures: &mut Figures) -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut flooder = start(&Address::tcp(listener.local_addr()?), From::Any, Manner::Hello)?;
    let (began, before) = (Instant::now(), cost::cpu());
    let mut strangers = 0_u32;
    let mut said = [0; 64];
    while began.elapsed() < Duration::from_secs(plan.seconds) {
        let (mut stream, _) = listener.accept()?;
        if stream.read(&mut said).is_ok_and(|read| read > 0) && stream.write_all(&[0; 25]).is_ok() {
            strangers += 1;
        }
    }
    let (span, after) = (began.elapsed().as_secs_f64(), cost::cpu());
    stop(&mut flooder)?;
    figures.add("raw_accept_strangers", "1/s", f64::from(strangers) / span);
    if let (Some(before), Some(after)) = (before, after) {
        let used = after.saturating_sub(before).as_secs_f64();
        figures.add("raw_accept_cpu", "us", used * 1e6 / f64::from(strangers.max(1)));
    }
    Ok(())
}

async fn flood(plan: &Plan, from: From, manner: Manner, figures: &mut Figures) -> Result<()> {
    let listener = pipe::endpoint(&Config::default(), true).await?;
    let address = listener.addresses().first().cloned().context("it listens nowhere")?;
    let mut resident = vec![cost::resident()];
    // One process cannot make enough of those that are not answered.
    let flooders = if from == From::Few { 2 } else { 1 };
    let mut flooders = (0..flooders).map(|_| start(&address, from, manner)).collect::<Result<Vec<_>>>()?;
    // Until the flood has taken all places that it can have.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let look = |flooders: &[Child]| Look::now(&listener, flooders);
    let (before, began) = (look(&flooders), Instant::now());
    let mut friend = child("friend", &[&address.to_string()])?;
    for _ in 0..plan.seconds {
        resident.push(cost::resident());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    resident.push(cost::resident());
    let (after, span) = (look(&flooders), began.elapsed().as_secs_f64());
    let mut attempted = 0.0;
    for flooder in &mut flooders {
        attempted += stop(flooder)?;
    }
    // On another thread: the listener has to answer its last dial.
    let dials = tokio::task::spawn_blocking(move || said(&mut friend)).await??;
    let failed = dials.lines().filter(|line| line.starts_with(FAILED)).count();
    dials.lines().filter(|line| line.starts_with(FAILED)).for_each(|line| eprintln!("an honest dial {line}"));
    let mut dials: Vec<f64> = dials.lines().filter_map(|line| line.parse().ok()).collect();
    let snapshot = listener.snapshot();
    let (dropped, ended) = (&snapshot.totals.dropped, &snapshot.totals.ended);
    eprintln!("{from:?}, {manner:?}: {dropped:?}, ended {ended:?}, kept out {} times", snapshot.totals.shed);
    listener.close().await;

    let name = |what: &str| format!("{}_{what}", format!("{from:?}_{manner:?}").to_lowercase());
    figures.add(name("attempted"), "1/s", attempted);
    let accepted = (after.accepted - before.accepted) as f64;
    figures.add(name("accepted"), "1/s", accepted / span);
    figures.add(name("kept_out"), "address", after.kept_out as f64);
    let used =
        |of: fn(&Look) -> Option<Duration>| Some(of(&after)?.saturating_sub(of(&before)?).as_secs_f64());
    if let Some(used) = used(|look| look.cpu) {
        figures.add(name("cores"), "core", used / span);
        figures.add(name("cpu"), "us", used * 1e6 / accepted.max(1.0));
    }
    for (what, used) in [("softirq", used(|look| look.softirq)), ("flooder", used(|look| look.flooder))] {
        if let Some(used) = used {
            figures.add(name(&format!("{what}_cores")), "core", used / span);
        }
    }
    let resident: Vec<_> = resident.into_iter().flatten().map(|bytes| bytes as f64).collect();
    for second in (0..resident.len()).step_by(5) {
        if let Some(bytes) = resident.get(second) {
            figures.add(name(&format!("memory_{second}s")), "B", *bytes);
        }
    }
    if let (Some(middle), Some(end)) = (resident.get(resident.len() / 2), resident.last()) {
        figures.add(name("memory_grown_last_half"), "B", end - middle);
    }
    dials.sort_by(f64::total_cmp);
    figures.add(name("honest_dial_p50"), "ms", dials.get(dials.len() / 2).copied().unwrap_or(f64::NAN));
    figures.add(name("honest_dial_most"), "ms", dials.last().copied().unwrap_or(f64::NAN));
    figures.add(name("honest_dials"), "", dials.len() as f64);
    figures.add(name("honest_dials_failed"), "", failed as f64);
    Ok(())
}

/// Totals at one moment.
struct Look {
    accepted: u64,
    kept_out: usize,
    /// The listener's thread: friends run on the main one.
    cpu: Option<Duration>,
    softirq: Option<Duration>,
    flooder: Option<Duration>,
}

impl Look {
    fn now(listener: &Endpoint, flooders: &[Child]) -> Self {
        let snapshot = listener.snapshot();
        Self {
            accepted: snapshot.totals.accepted,
            kept_out: snapshot.addresses_shed,
            cpu: cost::cpu_beside_main(),
            softirq: cost::softirq(),
            flooder: flooders.iter().map(|flooder| cost::cpu_of(flooder.id())).sum(),
        }
    }
}

fn start(address: &Address, from: From, manner: Manner) -> Result<Child> {
    let [from, manner] = [format!("{from:?}"), format!("{manner:?}")].map(|word| word.to_lowercase());
    child("flooder", &[&address.to_string(), &from, &manner])
}

/// This program, as another process that ends when its input does: what listens has a process of its own, so that
/// memory and time are the listener's.
fn child(role: &str, arguments: &[&str]) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?);
    child.arg(role).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    child.spawn().with_context(|| format!("starting the process of the {role}"))
}

/// Ends the process, and gives what it has said.
fn said(child: &mut Child) -> Result<String> {
    drop(child.stdin.take());
    let mut said = String::new();
    child.stdout.take().context("it has no output")?.read_to_string(&mut said)?;
    child.wait()?;
    Ok(said)
}

/// Ends it, and gives the connections that it attempted in a second.
fn stop(flooder: &mut Child) -> Result<f64> {
    let said = said(flooder)?;
    said.trim().parse().with_context(|| format!("the flooder said {said:?}"))
}

/// The process of whoever is honest: dials once in a while until its input ends, each time as somebody new, and prints how
/// long each dial took, in milliseconds.
pub(crate) fn friend(address: &Address) -> Result<()> {
    static ENOUGH: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        // An input that breaks has ended, too.
        let _ = std::io::stdin().read(&mut [0]);
        ENOUGH.store(true, Ordering::Relaxed);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = Config::default();
        config.shards = Shards::Ambient;
        while !ENOUGH.load(Ordering::Relaxed) {
            let identity = Identity::generate().context("no entropy for an identity")?;
            let friend = Endpoint::builder().identity(identity).config(config.clone()).bind().await?;
            let began = Instant::now();
            match friend.connect(address).await {
                Ok(_) => println!("{}", began.elapsed().as_secs_f64() * 1e3),
                Err(error) => println!("{FAILED} {error}"),
            }
            friend.close().await;
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok(())
    })
}

/// The other process: until its input ends, which it does when the first one wants so or is gone.
pub(crate) fn flooder(address: &Address, from: From, manner: Manner) -> Result<()> {
    static ATTEMPTED: AtomicU64 = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::spawn(move || {
        let ended = std::io::stdin().read(&mut [0]);
        let attempted = ATTEMPTED.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        println!("{attempted}");
        std::process::exit(i32::from(ended.is_err()));
    });
    let to: std::net::SocketAddr = address.rest().parse().context("the address to flood has no number")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        let at_once = if manner == Manner::Silent { 4 * AT_ONCE } else { AT_ONCE };
        for _ in 0..at_once {
            tasks.spawn(async move {
                loop {
                    let number = ATTEMPTED.fetch_add(1, Ordering::Relaxed);
                    match tokio::time::timeout(CONNECT, connect(from.address(number), to)).await {
                        // Whether it is hung up on with a word or a reset, it comes again.
                        Ok(Ok(stream)) => drop(once(stream, manner).await),
                        // A listener that cannot keep up is what it is about.
                        Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
                        // No answer.
                        Err(_) => {}
                    }
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        anyhow::Ok(())
    })
}

async fn connect(from: Option<std::net::SocketAddr>, to: std::net::SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind(from)?;
    }
    socket.connect(to).await
}

async fn once(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if manner == Manner::Hello {
        stream.write_all(&opening()).await?;
    }
    let mut answer = [0; 64];
    while stream.read(&mut answer).await? > 0 {}
    Ok(())
}
