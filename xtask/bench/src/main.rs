//! `cargo xtask bench`: what things cost, beside what the machine itself allows, in one run.

mod classes;
mod cost;
mod echo;
mod figure;
mod flood;
mod floor;
mod handshakes;
mod idle;
mod link;
mod mesh;
mod pipe;
mod reconcile;
mod rpc;
mod stream;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use peerage_identity::suites_by_speed;
use peerage_wire::Suite;

/// Measures speed and cost on this machine, beside what the machine itself allows.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench", arg_required_else_help = true)]
struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// A link, beside raw TCP and TCP with bare sealed records: streams, echoes, handshakes, idle links
    Link(LinkOptions),
    /// Strangers by the ten thousand on one listener: what they cost, and what is left for a friend
    Flood(FloodOptions),
    /// Dials a listener for the parent process, honestly
    #[command(hide = true)]
    Friend { address: peerage_wire::Address },
    /// Floods a listener for the parent process
    #[command(hide = true)]
    Flooder { address: peerage_wire::Address, from: flood::From, manner: flood::Manner },
    /// Echoes beside bulk on one link: how long somebody waits
    Classes(ClassesOptions),
    /// A whole mesh in one process: how long it forms, how fast it delivers to everyone, what that costs; takes `taskset`, of util-linux
    Mesh(MeshOptions),
    /// One round of a mesh for the parent process
    #[command(hide = true)]
    MeshRound {
        peers: usize,
        #[command(flatten)]
        part: mesh::Part,
    },
    /// Two sets of 100,000 keys: symbols, bytes and time for each key that only one of them has
    Reconcile(ReconcileOptions),
    /// Calls and streams through a broker, beside raw TCP through a relay; idle sessions, a storm of them, the journal
    Rpc(RpcOptions),
    /// A process of `rpc`, for the parent process
    #[command(hide = true)]
    RpcPart(RpcPartOptions),
    /// Measures idle links for the parent process
    #[command(hide = true)]
    IdleLinks,
    /// Holds links for the parent process
    #[command(hide = true)]
    Idlers { address: peerage_wire::Address, count: usize },
}

/// How figures are taken.
#[derive(Args)]
struct FigureOptions {
    /// Append a JSON object per figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each figure is measured; the median is shown
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
}

impl FigureOptions {
    fn rounds(&self) -> usize {
        self.rounds.max(1)
    }
}

/// How figures of links are taken.
#[derive(Args)]
struct LinksOptions {
    /// Run on this core alone, with all processes; without, on all cores
    #[arg(long, value_name = "CORE")]
    pin: Option<usize>,
    /// The cipher suite of the links, and of the bare sealed records; without, the fastest on this processor
    #[arg(long, value_name = "SUITE", value_enum)]
    suite: Option<Cipher>,
    #[command(flatten)]
    figures: FigureOptions,
}

impl LinksOptions {
    fn suite(&self) -> Suite {
        self.suite.map_or(suites_by_speed()[0], Suite::from)
    }

    /// Has everything run where it should.
    fn place(&self) -> Result<()> {
        self.pin.map_or(Ok(()), pin)
    }
}

#[derive(Args)]
struct LinkOptions {
    #[command(flatten)]
    links: LinksOptions,
    /// Measure this only; may be given several times
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<link::Part>,
}

/// A suite, as one names it on a command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Cipher {
    Chacha,
    Aes,
}

impl From<Cipher> for Suite {
    fn from(cipher: Cipher) -> Self {
        match cipher {
            Cipher::Chacha => Self::ChaChaPoly,
            Cipher::Aes => Self::AesGcm,
        }
    }
}

#[derive(Args)]
struct FloodOptions {
    /// How long to flood, for each manner and origin of strangers
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Append a JSON object per figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct ClassesOptions {
    #[command(flatten)]
    figures: FigureOptions,
}

#[derive(Args)]
struct MeshOptions {
    /// How many peers
    #[arg(long, value_name = "N", default_value_t = 50)]
    peers: usize,
    #[command(flatten)]
    figures: FigureOptions,
}

#[derive(Args)]
struct ReconcileOptions {
    /// Append a JSON object per figure to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each figure is measured; the median is shown
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: usize,
}

#[derive(Args)]
struct RpcOptions {
    #[command(flatten)]
    links: LinksOptions,
    /// Measure this only; may be given several times
    #[arg(long, value_name = "METRIC", value_enum)]
    only: Vec<rpc::Metric>,
    /// Seal calls and streams end to end, too: the broker reads none of them
    #[arg(long)]
    sealed: bool,
    /// How many sessions idle; the goals are for 10,000
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=16_000))]
    sessions: u16,
}

#[derive(Args)]
struct RpcPartOptions {
    role: rpc::Role,
    #[arg(long)]
    suite: Cipher,
    #[arg(long)]
    journal: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    count: usize,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    match options.bench {
        Bench::Link(options) => {
            let LinkOptions { links, only } = options;
            links.place()?;
            link::run(&link::Plan {
                rounds: links.figures.rounds(),
                pinned: links.pin,
                suite: links.suite(),
                json: links.figures.json,
                only,
            })
        }
        Bench::Flood(FloodOptions { seconds, json }) => flood::run(&flood::Plan { seconds, json }),
        Bench::Friend { address } => flood::friend(&address),
        Bench::Flooder { address, from, manner } => flood::flooder(&address, from, manner),
        Bench::Classes(ClassesOptions { figures }) => classes::run(figures.rounds(), figures.json),
        Bench::Mesh(MeshOptions { peers, figures }) => {
            mesh::run(&mesh::Plan { peers, rounds: figures.rounds(), json: figures.json })
        }
        Bench::MeshRound { peers, part } => mesh::round(peers, part),
        Bench::Reconcile(options) => reconcile::run(options.rounds.max(1), options.json),
        Bench::Rpc(options) => {
            let RpcOptions { links, only, sealed, sessions } = options;
            links.place()?;
            rpc::run(&rpc::Plan {
                rounds: links.figures.rounds(),
                pinned: links.pin,
                suite: links.suite(),
                json: links.figures.json,
                only,
                sessions: sessions.into(),
                sealed,
            })
        }
        Bench::RpcPart(options) => {
            rpc::part(options.role, options.suite.into(), options.journal, options.count)
        }
        Bench::IdleLinks => idle::listener(),
        Bench::Idlers { address, count } => idle::idlers(&address, count),
    }
}

/// Has everything run on one core: starts itself anew under `taskset`, once.
fn pin(core: usize) -> Result<()> {
    const PINNED: &str = "PEERAGE_BENCH_PINNED";
    if std::env::var_os(PINNED).is_some() {
        return Ok(());
    }
    let program = std::env::current_exe().context("finding this program")?;
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let status = Command::new("taskset")
        .arg("-c")
        .arg(core.to_string())
        .arg(program)
        .args(arguments)
        .env(PINNED, "1")
        .status()
        .context("--pin needs `taskset`, of util-linux")?;
    if !status.success() {
        bail!("the pinned run failed: {status}");
    }
    std::process::exit(0);
}
