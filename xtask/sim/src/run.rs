//! Runs a scenario, once or with many seeds, and says what came of it.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cli::{self, Options};
use crate::figures::{self, Figures};
use crate::process;
use crate::progress::Progress;
use crate::regressions;
use crate::scenario::Scenario;
use crate::world::World;

/// Whether everything is as it should be: no run failed, and with `--check`, no goal was missed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Some(scenario) = options.scenario.filter(|_| !options.list) else {
        show(&cli::list())?;
        return Ok(true);
    };
    let mut all = Figures::default();
    let mut failed = Vec::new();
    for seed in (0..options.seeds).map(|more| options.seed.wrapping_add(more)) {
        match once(options, scenario, seed, seed == options.seed) {
            Ok(figures) => all.merge(&figures),
            Err(error) => {
                let again = options.again(scenario.name(), seed, options.peers(scenario.peers()));
                eprintln!("error: seed {seed}: {error:#}");
                eprintln!("to see it again: cargo xtask sim {again}");
                if let Err(error) = regressions::keep(&again) {
                    eprintln!("error: {error:#}");
                }
                failed.push(seed);
            }
        }
    }
    if options.seeds > 1 {
        let passed = options.seeds - failed.len() as u64;
        show(&format!("\n{} seeds, {passed} without failure\n{}", options.seeds, all.table()))?;
    }
    if let Some(path) = &options.json {
        figures::append(path, scenario.name(), all.all())?;
    }
    let missed = all.missed();
    if !missed.is_empty() {
        eprintln!("goals missed: {}", missed.join(", "));
    }
    Ok(failed.is_empty() && (missed.is_empty() || !options.check))
}

/// One run.
pub(crate) fn once(options: &Options, scenario: Scenario, seed: u64, draw: bool) -> Result<Figures> {
    process::forget_peak();
    let before = process::memory().map_or(0.0, |(now, _)| now);
    let (watch, cpu) = (Instant::now(), process::cpu());
    let make = |config| {
        World::new(
            config,
            scenario.mesh(options),
            options.payload,
            options.bytes,
            Progress::new(options.quiet),
        )
    };
    let (outcome, world) = scenario.run(options, seed, make)?;
    let mut figures = outcome.figures;
    if let Some((now, most)) = process::memory() {
        figures.add("rss", "MiB", most);
        figures.add("rss_per_peer", "KiB", (now - before) * 1024.0 / world.nodes.len().max(1) as f64);
    }
    let wall = watch.elapsed().as_secs_f64();
    if let (Some(before), Some(now)) = (cpu, process::cpu()) {
        figures.add("cpu", "s", now - before);
    }
    figures.add("events", "", world.sim.stats().events as f64);
    figures.add("virtual", "s", world.sim.now().as_micros() as f64 / 1e6);
    figures.add("wall", "s", wall);
    let trace: String = world.sim.trace_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    drop(world);
    if options.seeds > 1 {
        show(&format!("seed {seed}\ntrace {trace}\n"))?;
    } else {
        show(&format!("{}trace {trace}\n", figures.table()))?;
    }
    if let Some(path) = options.plot.as_deref().filter(|_| draw) {
        outcome.curve.write(path)?;
    }
    Ok(figures)
}

/// A result, for whoever reads our output.
fn show(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing the result")
}
