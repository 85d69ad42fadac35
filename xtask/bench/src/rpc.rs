//! `bench rpc`: calls and streams of a client through a broker to a node, three processes with sealed links over TCP on
//! loopback, beside what raw TCP does between threads.

mod crowd;
mod part;
mod relay;
mod roles;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use peerage_wire::Suite;
use ring::aead::{AES_256_GCM, Algorithm, CHACHA20_POLY1305};

use self::part::Part;
pub(crate) use self::part::Role;
use self::relay::Way;
use crate::figure::Figures;

/// Sequential calls that are timed.
const CALLS: usize = 20_000;
/// Calls under way.
const INFLIGHT: usize = 64;
/// The same where each waits for a disk; as many as one session may have.
const INFLIGHT_JOURNAL: usize = 1024;
/// How long each flow is measured.
const SPAN: Duration = Duration::from_millis(1_000);

/// What to measure, and how.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) pinned: Option<usize>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) only: Vec<Metric>,
    pub(crate) suite: Suite,
    pub(crate) sessions: usize,
    pub(crate) sealed: bool,
}

/// A group of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Metric {
    #[value(name = "sequential_64B")]
    Sequential,
    #[value(name = "inflight64_64B")]
    Inflight64B,
    #[value(name = "inflight64_16KiB")]
    Inflight16KiB,
    #[value(name = "stream_64B")]
    Stream64B,
    #[value(name = "stream_1KiB")]
    Stream1KiB,
    #[value(name = "stream_16KiB")]
    Stream16KiB,
    Floors,
    #[value(name = "journal_64B")]
    Journal,
    #[value(name = "sessions")]
    Sessions,
}

impl Plan {
    fn wants(&self, metrics: &[Metric]) -> bool {
        self.only.is_empty() || metrics.iter().any(|metric| self.only.contains(metric))
    }
}

/// What a figure should be: at least, or at most.
enum Goal {
    Least(f64),
    Most(f64),
}

/// The goals that count for this run.
fn goals(plan: &Plan) -> Vec<(&'static str, Goal)> {
    let sessions = [("idle_sessions_rss", Goal::Most(400.0)), ("resume_storm", Goal::Most(10.0))];
    let mut goals = vec![("journal_64B", Goal::Least(20_000.0))];
    if plan.pinned.is_some() {
        let bulk = match (plan.suite, plan.sealed) {
            (_, true) => 12_000.0,
            (Suite::AesGcm, false) => 14_000.0,
            (Suite::ChaChaPoly, false) => 8_500.0,
        };
        goals.extend([
            ("sequential_64B_p50", Goal::Most(24.0)),
            ("sequential_64B_p99", Goal::Most(50.0)),
            ("inflight64_64B", Goal::Least(400_000.0)),
            ("inflight64_16KiB", Goal::Least(bulk)),
            ("stream_64B", Goal::Least(1_500_000.0)),
            ("stream_1KiB", Goal::Least(230_000.0)),
            ("stream_16KiB", Goal::Least(17_000.0)),
        ]);
    } else {
        goals.extend([("inflight64_64B", Goal::Least(250_000.0)), ("inflight64_64B_cpu", Goal::Most(4.0))]);
    }
    if plan.sessions >= crowd::SESSIONS {
        goals.extend(sessions);
    }
    goals
}

/// Measures, shows, compares with the goals, and appends.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let place = plan.pinned.map_or_else(|| "all cores".to_owned(), |core| format!("core {core} alone"));
    let ends = if plan.sealed { ", calls sealed end to end" } else { "" };
    println!(
        "client, broker and node, a process and a thread each, links over TCP on loopback sealed with {}{ends}, on \
         {place}; medians of {}",
        plan.suite, plan.rounds
    );
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let mut figures = Figures::default();
    for round in 1..=plan.rounds {
        let progress = Progress { round, rounds: plan.rounds };
        calls(plan, &progress, &mut figures)?;
        if plan.wants(&[Metric::Floors]) {
            runtime.block_on(floors(plan, &progress, &mut figures))?;
        }
        if plan.wants(&[Metric::Journal]) {
            journal(plan, &progress, &mut figures)?;
        }
    }
    if plan.wants(&[Metric::Sessions]) {
        // Once: it takes as long as the rest together, and memory hardly varies.
        crowd::measure(plan.suite, plan.sessions, &mut figures)?;
    }
    figures.show();
    verdicts(plan, &figures);
    if let Some(path) = &plan.json {
        figures.write("rpc", path)?;
    }
    Ok(())
}

fn verdicts(plan: &Plan, figures: &Figures) {
    for (metric, goal) in goals(plan) {
        let Some(median) = figures.median(metric) else { continue };
        let (met, goal) = match goal {
            Goal::Least(least) => (median >= least, format!("at least {}", crate::figure::short(least))),
            Goal::Most(most) => (median <= most, format!("at most {}", crate::figure::short(most))),
        };
        let verdict = if met { "met" } else { "MISSED" };
        println!("{metric:24} {:>10}, {goal}: {verdict}", crate::figure::short(median));
    }
    for (of, to) in [
        ("sequential_64B_p50", "floor_relay_sealed_64B_p50"),
        ("inflight64_64B_cpu", "floor_relay_sealed_64B_cpu"),
        ("inflight64_16KiB_cpu", "floor_relay_sealed_16KiB_cpu"),
    ] {
        if let (Some(of_it), Some(to_it)) = (figures.median(of), figures.median(to)) {
            println!("{of} to {to}: {:.2}", of_it / to_it);
        }
    }
}

/// What is being done, on one line that goes on.
struct Progress {
    round: usize,
    rounds: usize,
}

impl Progress {
    fn at(&self, what: &str) {
        eprintln!("round {} of {}: {what}", self.round, self.rounds);
    }
}

/// A broker, a node and a client, each ready.
struct Trio {
    client: Part,
    // They end after the client.
    _node: Part,
    _broker: Part,
}

impl Trio {
    fn start(suite: Suite, sealed: bool, broker_options: &[&str]) -> Result<Self> {
        let mut broker = Part::start(Role::Broker, suite, broker_options)?;
        let (mut node, mut client) =
            (Part::start(Role::Node, suite, &[])?, Part::start(Role::Client, suite, &[])?);
        let (node_key, client_key) = (node.hear()?.concat(), client.hear()?.concat());
        broker.tell(&format!("node {node_key}\nuser {client_key}\nstart"))?;
        let place = broker.hear()?.join(" ");
        for part in [&mut node, &mut client] {
            part.tell(&place)?;
            part.hear()?;
        }
        let how = if sealed { "sealed" } else { "" };
        client.tell(&format!("{node_key} {} {} {how}", broker.id(), node.id()))?;
        Ok(Self { client, _node: node, _broker: broker })
    }
}

fn calls(plan: &Plan, progress: &Progress, figures: &mut Figures) -> Result<()> {
    use Metric::{Inflight16KiB, Inflight64B, Sequential, Stream1KiB, Stream16KiB, Stream64B};
    if !plan.wants(&[Sequential, Inflight64B, Inflight16KiB, Stream64B, Stream1KiB, Stream16KiB]) {
        return Ok(());
    }
    let mut trio = Trio::start(plan.suite, plan.sealed, &[])?;
    if plan.wants(&[Sequential]) {
        progress.at("sequential_64B");
        let [p50, p99] = trio.client.ask(&format!("sequential 64 {CALLS}"))?;
        figures.add("sequential_64B_p50", "us", p50);
        figures.add("sequential_64B_p99", "us", p99);
    }
    let span = SPAN.as_millis();
    for (metric, name, size) in [(Inflight64B, "64B", 64), (Inflight16KiB, "16KiB", 16 << 10)] {
        if plan.wants(&[metric]) {
            let name = format!("inflight64_{name}");
            progress.at(&name);
            let [rate, cpu] = trio.client.ask(&format!("inflight {INFLIGHT} {size} {span}"))?;
            figures.add(name.clone(), "req/s", rate);
            figures.add(name + "_cpu", "us", cpu);
        }
    }
    for (metric, name, size) in
        [(Stream64B, "64B", 64), (Stream1KiB, "1KiB", 1 << 10), (Stream16KiB, "16KiB", 16 << 10)]
    {
        if plan.wants(&[metric]) {
            let name = format!("stream_{name}");
            progress.at(&name);
            let [rate, cpu] = trio.client.ask(&format!("stream {size} {span}"))?;
            figures.add(name.clone(), "msg/s", rate);
            figures.add(name + "_cpu", "us", cpu);
        }
    }
    Ok(())
}

/// Requests that the broker runs and writes down.
fn journal(plan: &Plan, progress: &Progress, figures: &mut Figures) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the journal")?;
    let path = roles::journal_in(folder.path());
    let path = path.to_str().context("the folder for the journal has a name that is no text")?;
    let mut trio = Trio::start(plan.suite, false, &["--journal", path])?;
    for (name, callers) in [("journal_64B_inflight64", INFLIGHT), ("journal_64B", INFLIGHT_JOURNAL)] {
        progress.at(name);
        let [rate, cpu] = trio.client.ask(&format!("notes {callers} 64 {}", SPAN.as_millis()))?;
        figures.add(name, "req/s", rate);
        figures.add(format!("{name}_cpu"), "us", cpu);
    }
    Ok(())
}

fn algorithm(suite: Suite) -> &'static Algorithm {
    match suite {
        Suite::ChaChaPoly => &CHACHA20_POLY1305,
        Suite::AesGcm => &AES_256_GCM,
    }
}

async fn floors(plan: &Plan, progress: &Progress, figures: &mut Figures) -> Result<()> {
    progress.at("floors");
    let sealed = Way::Sealed(algorithm(plan.suite));
    for (way, name) in [(Way::Direct, "direct"), (Way::Relay, "relay"), (sealed, "relay_sealed")] {
        let delay = relay::sequential(way, 64, CALLS)?;
        figures.add(format!("floor_{name}_64B_p50"), "us", delay.p50);
        figures.add(format!("floor_{name}_64B_p99"), "us", delay.p99);
        for (size_name, size) in [("64B", 64), ("16KiB", 16 << 10)] {
            let (rate, cpu) = relay::flow(way, size, INFLIGHT, SPAN).await?;
            figures.add(format!("floor_{name}_{size_name}"), "req/s", rate);
            figures.add(format!("floor_{name}_{size_name}_cpu"), "us", cpu);
        }
    }
    Ok(())
}

/// The process of one part.
pub(crate) fn part(role: Role, suite: Suite, journal: Option<PathBuf>, count: usize) -> Result<()> {
    let orders = part::Orders::take();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(async {
        match role {
            Role::Broker => roles::broker(suite, journal, orders).await,
            Role::Node => roles::node(suite, orders).await,
            Role::Client => roles::client(suite, orders).await,
            Role::Crowd => crowd::crowd(suite, count, orders).await,
        }
    })
}
