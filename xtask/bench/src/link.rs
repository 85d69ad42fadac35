//! `bench link`: what a link costs, beside what it stands on.

use std::path::PathBuf;

use anyhow::{Context, Result};
use peerage_net::Config;
use peerage_wire::Suite;
use ring::aead::{AES_256_GCM, Algorithm, CHACHA20_POLY1305};

use crate::figure::Figures;
use crate::floor::Floor;
use crate::{echo, handshakes, idle, stream};

/// What to measure, and how.
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    pub(crate) pinned: Option<usize>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) only: Vec<Part>,
    pub(crate) suite: Suite,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    #[value(name = "stream_64B")]
    Stream64B,
    #[value(name = "stream_1KiB")]
    Stream1KiB,
    #[value(name = "stream_16KiB")]
    Stream16KiB,
    Echo,
    Handshakes,
    #[value(name = "idle_link")]
    IdleLink,
}

/// Message sizes of the streams.
const SIZES: [(Part, &str, usize); 3] = [
    (Part::Stream64B, "64B", 64),
    (Part::Stream1KiB, "1KiB", 1 << 10),
    (Part::Stream16KiB, "16KiB", 16 << 10),
];

impl Plan {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// Measures, shows, and appends.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let place = plan.pinned.map_or_else(|| "all cores".to_owned(), |core| format!("core {core} alone"));
    println!(
        "a link over TCP on loopback, sealed with {}, both ends in this process, on {place}; medians of {}",
        plan.suite, plan.rounds
    );
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let mut figures = Figures::default();
    let mut config = Config::default();
    config.dial_suites = vec![plan.suite];
    config.listen_suites = vec![plan.suite];
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        runtime.block_on(measure(plan, &config, &mut figures))?;
    }
    figures.show();
    ratios(&figures);
    if let Some(path) = &plan.json {
        figures.write("link", path)?;
    }
    Ok(())
}

async fn measure(plan: &Plan, config: &Config, figures: &mut Figures) -> Result<()> {
    for (part, name, size) in SIZES {
        let (link, raw, sealed) =
            (format!("stream_{name}"), format!("raw_stream_{name}"), format!("floor_sealed_{name}"));
        if plan.wants(part) {
            add(figures, &link, size, stream::link(config, size).await?);
            add(figures, &sealed, size, stream::bare(Floor::Sealed(algorithm(plan.suite)), size).await?);
            add(figures, &raw, size, stream::bare(Floor::Raw, size).await?);
        }
    }
    if plan.wants(Part::Echo) {
        let (link, raw) = (echo::link(config).await?, echo::raw()?);
        figures.add("echo_p50", "us", link.p50);
        figures.add("raw_echo_p50", "us", raw.p50);
        figures.add("echo_p99", "us", link.p99);
        figures.add("raw_echo_p99", "us", raw.p99);
    }
    if plan.wants(Part::Handshakes) {
        figures.add("handshakes", "1/s", handshakes::rate(config).await?);
    }
    if plan.wants(Part::IdleLink) {
        figures.add("idle_link", "B", idle::bytes()?);
    }
    Ok(())
}

fn algorithm(suite: Suite) -> &'static Algorithm {
    match suite {
        Suite::ChaChaPoly => &CHACHA20_POLY1305,
        Suite::AesGcm => &AES_256_GCM,
    }
}

/// Small messages count by the piece, large ones by their bytes.
fn add(figures: &mut Figures, metric: &str, size: usize, flow: stream::Flow) {
    if size < 1 << 10 {
        figures.add(metric, "msg/s", flow.rate);
    } else {
        figures.add(metric, "B/s", flow.rate * size as f64);
    }
    if let Some(cpu) = flow.cpu {
        figures.add(format!("{metric}_cpu"), "us", cpu);
    }
}

/// What the figures are for: one beside the other.
fn ratios(figures: &Figures) {
    for (what, of, to) in [
        ("16 KiB stream to sealed records", "stream_16KiB", "floor_sealed_16KiB"),
        ("echo to raw echo", "echo_p50", "raw_echo_p50"),
    ] {
        if let (Some(of), Some(to)) = (figures.median(of), figures.median(to)) {
            println!("{what}: {:.2}", of / to);
        }
    }
}
