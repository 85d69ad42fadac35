//! `bench flood`: strangers by the ten thousand on one listener, and what is left for a friend.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use peerage_identity::Identity;
use peerage_link::{Door, DoorConfig, Knock};
use peerage_machine::Instant as Mono;
use peerage_net::{Config, Endpoint, Shards};
use peerage_wire::Address;
use peerage_wire::preface::Preface;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::figure::Figures;
use crate::{cost, handshakes, pipe};

/// Connections of the flooder's at the same time.
const AT_ONCE: usize = 512;
/// From one honest dial to the next.
const PAUSE: Duration = Duration::from_millis(100);
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

/// What a dialer without a cookie says first; whether its key is one takes no part in it.
fn opening() -> Vec<u8> {
    [&Preface::CURRENT.encode()[..], &[0, 32], &[0x5a; 32]].concat()
}

/// Measures, shows, and appends.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    println!("strangers from another process, on loopback, for {} s of each manner", plan.seconds);
    let mut figures = Figures::default();
    knocks(&mut figures)?;
    floor(plan, &mut figures)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(crowd(&mut figures))?;
    for manner in [Manner::Hello, Manner::Silent] {
        runtime.block_on(flood(plan, manner, &mut figures))?;
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
    let mut flooder = start(&Address::tcp(listener.local_addr()?), Manner::Hello)?;
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
    flooder.kill().context("stopping the flooder")?;
    flooder.wait()?;
    figures.add("raw_accept_strangers", "1/s", f64::from(strangers) / span);
    if let (Some(before), Some(after)) = (before, after) {
        let used = after.saturating_sub(before).as_secs_f64();
        figures.add("raw_accept_cpu", "us", used * 1e6 / f64::from(strangers.max(1)));
    }
    Ok(())
}

async fn flood(plan: &Plan, manner: Manner, figures: &mut Figures) -> Result<()> {
    let listener = pipe::endpoint(&Config::default(), true).await?;
    let address = listener.addresses().first().cloned().context("it listens nowhere")?;
    let mut flooder = start(&address, manner)?;
    // Until the flood has taken all places that it can have.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = (listener.snapshot().totals.accepted, cost::cpu(), cost::resident(), Instant::now());
    let mut dials = Vec::new();
    let mut failed = 0_u32;
    let until = before.3 + Duration::from_secs(plan.seconds);
    while Instant::now() < until {
        let mut config = Config::default();
        config.shards = Shards::Ambient;
        let identity = Identity::generate().context("no entropy for an identity")?;
        let friend = Endpoint::builder().identity(identity).config(config).bind().await?;
        let began = Instant::now();
        match friend.connect(&address).await {
            Ok(_) => dials.push(began.elapsed().as_secs_f64() * 1e3),
            Err(error) => {
                eprintln!("an honest dial failed: {error}");
                failed += 1;
            }
        }
        friend.close().await;
        tokio::time::sleep(PAUSE).await;
    }
    let span = before.3.elapsed().as_secs_f64();
    let strangers = (listener.snapshot().totals.accepted - before.0) as f64;
    let (cpu, resident) = (cost::cpu(), cost::resident());
    flooder.kill().context("stopping the flooder")?;
    flooder.wait()?;
    let snapshot = listener.snapshot();
    eprintln!("{manner:?}: {:?}, ended {:?}", snapshot.totals.dropped, snapshot.totals.ended);
    listener.close().await;

    let name = |what: &str| format!("{}_{what}", format!("{manner:?}").to_lowercase());
    figures.add(name("strangers"), "1/s", strangers / span);
    if let (Some(before), Some(after)) = (before.1, cpu) {
        let used = after.saturating_sub(before).as_secs_f64();
        figures.add(name("cores"), "core", used / span);
        figures.add(name("cpu"), "us", used * 1e6 / strangers.max(1.0));
    }
    if let (Some(before), Some(after)) = (before.2, resident) {
        figures.add(name("memory_grown"), "B", after as f64 - before as f64);
    }
    dials.sort_by(f64::total_cmp);
    figures.add(name("honest_dial_p50"), "ms", dials.get(dials.len() / 2).copied().unwrap_or(f64::NAN));
    figures.add(name("honest_dial_most"), "ms", dials.last().copied().unwrap_or(f64::NAN));
    figures.add(name("honest_dials_failed"), "", f64::from(failed));
    Ok(())
}

fn start(address: &Address, manner: Manner) -> Result<Child> {
    let manner = format!("{manner:?}").to_lowercase();
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["flooder", &address.to_string(), &manner]).stdin(Stdio::piped());
    child.spawn().context("starting the process that floods")
}

/// The other process: until its input ends, which it does when the first one is gone.
pub(crate) fn flooder(address: &Address, manner: Manner) -> Result<()> {
    std::thread::spawn(|| {
        let ended = std::io::stdin().read(&mut [0]);
        std::process::exit(i32::from(ended.is_err()));
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        let at_once = if manner == Manner::Silent { 4 * AT_ONCE } else { AT_ONCE };
        for _ in 0..at_once {
            let address = address.rest().to_owned();
            tasks.spawn(async move {
                loop {
                    // A listener that cannot keep up is what it is about.
                    if once(&address, manner).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        anyhow::Ok(())
    })
}

async fn once(address: &str, manner: Manner) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if manner == Manner::Hello {
        stream.write_all(&opening()).await?;
    }
    let mut answer = [0; 64];
    while stream.read(&mut answer).await? > 0 {}
    Ok(())
}
