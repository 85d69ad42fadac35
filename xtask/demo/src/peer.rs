//! A peer process: an endpoint, a mesh, and a parent at the other end of a pipe.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use peerage::{Event, Mesh, Message, Peer, PeerId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::input::Input;
use crate::protocol::{Command, Record, Report, Stats, wall_micros};

/// The word that makes a peer of this program.
pub(crate) const SUBCOMMAND: &str = "peer";

/// The mesh's name.
pub(crate) const MESH: &str = "demo";

/// How often received lines are reported.
const REPORTED: Duration = Duration::from_millis(50);

/// How often the sender says how far it is: kills and joins wait for it.
const SENT_TOLD: Duration = Duration::from_millis(20);

/// How long a peer may take to end when its parent is gone.
const GRACE: Duration = Duration::from_secs(5);

/// Before each line: its place in the input, and when it was sent, both big-endian.
const STAMP: usize = 4 + 8;

/// Runs a peer until its parent closes it, or is gone.
pub(crate) fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&Report::Failed(format!("starting tokio: {error}")));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(live(commands())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&Report::Failed(format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Tells the parent. A parent that is gone is noticed at the other pipe.
fn say(report: &Report) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", report.encode()).and_then(|()| out.flush());
}

/// The parent's commands. When they end, so does the process, whatever it is doing then.
fn commands() -> mpsc::UnboundedReceiver<Result<Command>> {
    let (sender, commands) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let command = line.context("reading a command").and_then(|line| Command::decode(&line));
            if sender.send(command).is_err() {
                return;
            }
        }
        drop(sender);
        std::thread::sleep(GRACE);
        std::process::exit(1);
    });
    commands
}

async fn live(mut commands: mpsc::UnboundedReceiver<Result<Command>>) -> Result<()> {
    let peer = Peer::builder().listen("tcp://127.0.0.1:0".parse()?).bind().await?;
    let mesh = Arc::new(peer.mesh(MESH)?);
    let address = peer.addresses().first().context("the endpoint listens nowhere")?.to_string();
    say(&Report::Listening { peer: peer.id().short(), address });

    let inbox = Arc::new(Inbox::default());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(tell_ready(Arc::clone(&mesh)));
    tasks.spawn(tell_neighbours(Arc::clone(&mesh)));
    tasks.spawn(receive(Arc::clone(&mesh), Arc::clone(&inbox)));
    let mut due = tokio::time::interval(REPORTED);
    loop {
        tokio::select! {
            command = commands.recv() => match command.transpose()? {
                Some(Command::Join(contact)) => {
                    tasks.spawn(join(Arc::clone(&mesh), contact));
                }
                Some(Command::Broadcast(input, rate)) => {
                    tasks.spawn(broadcast(Arc::clone(&mesh), input, rate));
                }
                Some(Command::Stats) => {
                    inbox.tell();
                    say(&Report::Stats(stats(&peer)));
                }
                Some(Command::Close) | None => break,
            },
            Some(ended) = tasks.join_next() => ended.context("a task of the peer")??,
            _ = due.tick() => inbox.tell(),
        }
    }
    tasks.shutdown().await;
    inbox.tell();
    mesh.close();
    say(&Report::Closed(peer.close().await.to_string()));
    Ok(())
}

fn stats(peer: &Peer) -> Stats {
    let totals = peer.snapshot().totals;
    let mut counters = BTreeMap::new();
    for (kind, counts) in
        [("", &totals.counted), ("dropped: ", &totals.dropped), ("links ended: ", &totals.ended)]
    {
        counters.extend(counts.iter().map(|(name, count)| (format!("{kind}{name}"), *count)));
    }
    Stats { bytes_sent: totals.bytes_sent, counters }
}

/// Lines that arrived and were not told yet.
#[derive(Default)]
struct Inbox(Mutex<Vec<Record>>);

impl Inbox {
    fn put(&self, record: Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    fn tell(&self) {
        let records = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if !records.is_empty() {
            say(&Report::Received(records));
        }
    }
}

async fn join(mesh: Arc<Mesh>, contact: String) -> Result<()> {
    mesh.join(&[contact.parse()?]).await.with_context(|| format!("joining at {contact}"))?;
    Ok(())
}

async fn tell_ready(mesh: Arc<Mesh>) -> Result<()> {
    mesh.ready().await?;
    say(&Report::Ready);
    Ok(())
}

async fn tell_neighbours(mesh: Arc<Mesh>) -> Result<()> {
    let mut events = mesh.events();
    let mut told = Vec::new();
    loop {
        let neighbours: Vec<_> = mesh.neighbours().iter().map(PeerId::short).collect();
        if neighbours != told {
            say(&Report::Neighbours(neighbours.clone()));
            told = neighbours;
        }
        loop {
            match events.next().await {
                Some(Event::Message(_)) => {}
                Some(_) => break,
                None => return Ok(()),
            }
        }
    }
}

async fn receive(mesh: Arc<Mesh>, inbox: Arc<Inbox>) -> Result<()> {
    loop {
        let message = mesh.recv().await.context("receiving")?;
        let received = wall_micros();
        let record = record(&message, received).context("a message that is no line of the demo")?;
        inbox.put(record);
    }
}

/// A line travels as two parts: its stamp, and itself.
fn record(message: &Message, received: u64) -> Option<Record> {
    let [stamp, line] = message.parts.as_slice() else { return None };
    let (index, sent) = stamp.split_first_chunk::<4>()?;
    let sent = u64::from_be_bytes(sent.try_into().ok()?);
    Some(Record::new(u32::from_be_bytes(*index), line, sent, received))
}

fn stamp(index: u32, sent: u64) -> Bytes {
    let mut stamp = Vec::with_capacity(STAMP);
    stamp.extend_from_slice(&index.to_be_bytes());
    stamp.extend_from_slice(&sent.to_be_bytes());
    stamp.into()
}

async fn broadcast(mesh: Arc<Mesh>, input: Input, rate: f64) -> Result<()> {
    let lines = input.read()?;
    let total = lines.len();
    let start = Instant::now();
    let mut told = start;
    for (index, line) in (0_u32..).zip(lines) {
        tokio::time::sleep_until(start + Duration::from_secs_f64(f64::from(index) / rate)).await;
        let parts = vec![stamp(index, wall_micros()), Bytes::from(line)];
        mesh.broadcast(parts).await.with_context(|| format!("broadcasting line {}", index + 1))?;
        if told.elapsed() >= SENT_TOLD {
            told = Instant::now();
            say(&Report::Sent(index as usize + 1));
        }
    }
    say(&Report::Sent(total));
    Ok(())
}
