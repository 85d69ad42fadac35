//! Runs a scenario, once or with many seeds, and says what came of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cli::{self, Options};
use crate::figures::{self, Figures};
use crate::plot::Curve;
use crate::process;
use crate::progress::Progress;
use crate::regressions::{self, Impossible};
use crate::scenario::Scenario;
use crate::world::World;

/// What came of one seed.
pub(crate) struct Run {
    pub(crate) figures: Figures,
    /// Which way it went, as 64 hexadecimal digits.
    pub(crate) trace: String,
    curve: Curve,
}

/// Whether everything is as it should be: no run failed, and with `--check`, no goal was missed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Some(scenario) = options.scenario.filter(|_| !options.list) else {
        show(&cli::list())?;
        return Ok(true);
    };
    let several = options.seeds > 1;
    let (mut all, mut failed, mut curve) = (Figures::default(), 0, None);
    let end = each(options, scenario, |seed, outcome| {
        match outcome {
            Ok(run) => {
                let head = if several { format!("seed {seed}\n") } else { run.figures.table() };
                show(&format!("{head}trace {}\n", run.trace))?;
                let missed = run.figures.missed();
                if several && !missed.is_empty() {
                    eprintln!("seed {seed} missed {}", missed.join(", "));
                    eprintln!("to see it again: cargo xtask sim {}", again(options, scenario, seed));
                }
                all.merge(&run.figures);
                curve.get_or_insert(run.curve);
            }
            Err(error) => {
                let again = again(options, scenario, seed);
                eprintln!("error: seed {seed}: {error:#}");
                eprintln!("to see it again: cargo xtask sim {again}");
                if !error.is::<Impossible>()
                    && let Err(error) = regressions::keep(&again)
                {
                    eprintln!("error: {error:#}");
                }
                failed += 1;
            }
        }
        Ok(())
    });
    end?;
    if several {
        let passed = options.seeds - failed;
        show(&format!("\n{} seeds, {passed} without failure\n{}", options.seeds, all.table()))?;
    }
    if let Some(path) = &options.json {
        let mut command = format!("cargo xtask sim {}", again(options, scenario, options.seed));
        if several {
            command.push_str(&format!(" --seeds {}", options.seeds));
        }
        figures::append(path, scenario.name(), &command, all.all())?;
    }
    if let (Some(path), Some(curve)) = (&options.plot, curve) {
        curve.write(path)?;
    }
    let missed = all.missed();
    if !missed.is_empty() {
        eprintln!("goals missed: {}", missed.join(", "));
    }
    Ok(failed == 0 && (missed.is_empty() || !options.check))
}

fn again(options: &Options, scenario: Scenario, seed: u64) -> String {
    options.again(scenario.name(), seed, options.peers(scenario.peers()))
}

/// Runs each seed, so many at a time, and tells what came of them, in their order.
fn each(
    options: &Options,
    scenario: Scenario,
    mut tell: impl FnMut(u64, Result<Run>) -> Result<()>,
) -> Result<()> {
    let seeds = options.seeds;
    let seed = |number: u64| options.seed.wrapping_add(number);
    if options.jobs == 1 || seeds == 1 {
        for number in 0..seeds {
            let head = if seeds == 1 { String::new() } else { format!("seed {} of {seeds}, ", number + 1) };
            let progress = Progress::new(options.quiet, head);
            tell(seed(number), once(options, scenario, seed(number), progress))?;
        }
        return Ok(());
    }
    let next = AtomicU64::new(0);
    let (done, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            let (next, done) = (&next, done.clone());
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        break;
                    }
                    let outcome = once(options, scenario, seed(number), Progress::Silent);
                    // Nobody listens any more when the result could not be written.
                    if done.send((number, outcome)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(done);
        let mut progress = Progress::new(options.quiet, String::new());
        let (mut early, mut told) = (BTreeMap::new(), 0);
        for (count, (number, outcome)) in (1..).zip(outcomes) {
            progress.at(count, seeds, || format!("{count} of {seeds} seeds"));
            early.insert(number, outcome);
            while let Some(outcome) = early.remove(&told) {
                progress.aside(|| tell(seed(told), outcome))?;
                told += 1;
            }
        }
        Ok(())
    })
}

/// One run.
pub(crate) fn once(options: &Options, scenario: Scenario, seed: u64, progress: Progress) -> Result<Run> {
    // Threads share their process' memory: what one run takes is known only where it is the only one.
    let alone = options.jobs == 1 || options.seeds == 1;
    process::forget_peak();
    let before = process::memory().map_or(0.0, |(now, _)| now);
    let (watch, cpu) = (Instant::now(), process::cpu());
    let make = |config| {
        let (config, mesh) = (options.weather.over(config), scenario.mesh(options));
        World::new(config, mesh, options.payload, options.fidelity(), progress).under(&options.weather)
    };
    let (outcome, world) = scenario.run(options, seed, make)?;
    let mut figures = outcome.figures;
    if let Some((now, most)) = process::memory().filter(|_| alone) {
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
    let trace = world.sim.trace_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Run { figures, trace, curve: outcome.curve })
}

/// A result, for whoever reads our output.
fn show(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing the result")
}
