//! Networks of real processes on this machine, to watch and to check: `cargo xtask demo`.
//!
//! The program starts itself once more per peer, as `peer` or `rpc-process`, and talks with those processes over their
//! standard input and output, one line of JSON per word. What the peers say to each other goes over encrypted links on
//! loopback.

mod check;
mod cli;
mod draw;
mod figures;
mod input;
mod interrupt;
mod mesh;
mod network;
mod peer;
mod process;
mod progress;
mod protocol;
mod report;
mod rpc;
mod runs;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

use cli::{Options, Scenario};
use figures::Figure;
use runs::Runs;

fn main() -> ExitCode {
    // What a peer process says about itself goes to the parent, so this one word is read before everything else.
    match std::env::args().nth(1).as_deref() {
        Some(peer::SUBCOMMAND) => return peer::main(),
        Some(rpc::SUBCOMMAND) => return rpc::main(),
        _ => {}
    }
    match demo(&Options::from_command_line()) {
        Ok(code) => code,
        Err(error) => {
            progress::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn demo(options: &Options) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let mut code = ExitCode::SUCCESS;
    for scenario in options.scenarios() {
        match runtime.block_on(repeat(options, scenario))? {
            Ending::Passed(_) => {}
            Ending::Failed(_) => code = ExitCode::FAILURE,
            Ending::Interrupted(signal) => return Ok(ExitCode::from(128 + signal)),
        }
    }
    Ok(code)
}

/// Runs a scenario as often as was asked. Of several runs, one that fails does not keep the others from running.
async fn repeat(options: &Options, scenario: Scenario) -> Result<Ending> {
    let first = options.seed();
    let run = async |seed| match scenario {
        Scenario::Mesh => mesh::run(options, seed).await,
        Scenario::Rpc => rpc::run(options, seed).await,
    };
    if options.runs == 1 {
        return run(first).await;
    }
    let mut runs = Runs::default();
    for place in 0..options.runs {
        let seed = first.wrapping_add(place as u64);
        match run(seed).await {
            Ok(Ending::Passed(figures)) => runs.add(seed, true, figures),
            Ok(Ending::Failed(figures)) => runs.add(seed, false, figures),
            Ok(Ending::Interrupted(signal)) => return Ok(Ending::Interrupted(signal)),
            Err(error) => {
                progress::say(&format!("error: --seed {seed}: {error:#}"));
                runs.add(seed, false, Vec::new());
            }
        }
        show("\n")?;
    }
    show(&runs.to_string())?;
    if runs.failed().is_empty() {
        return Ok(Ending::Passed(Vec::new()));
    }
    let seeds: Vec<_> = runs.failed().iter().map(u64::to_string).collect();
    progress::say(&format!("error: these runs failed: --seed {}", seeds.join(", ")));
    Ok(Ending::Failed(Vec::new()))
}

/// A result, for whoever reads our output.
fn show(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing the result")
}

/// How a scenario ended, when it did not fail to run.
#[derive(Clone, Debug, PartialEq)]
enum Ending {
    /// Every check passed; what was measured.
    Passed(Vec<Figure>),
    /// A check failed.
    Failed(Vec<Figure>),
    /// Somebody pressed Ctrl-C, closed the terminal, or sent the like: the signal's number.
    Interrupted(u8),
}
