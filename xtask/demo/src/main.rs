//! Networks of real processes on this machine, to watch and to check: `cargo xtask demo`.
//!
//! The program starts itself once more per peer, as `peer`, and talks with those processes over their standard input and
//! output, one line of JSON per word. What the peers say to each other goes over encrypted links on loopback.

mod check;
mod cli;
mod draw;
mod figures;
mod input;
mod mesh;
mod network;
mod peer;
mod process;
mod progress;
mod protocol;
mod report;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use cli::{Options, Scenario};

/// How a shell calls "ended by Ctrl-C".
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    // What a peer process says about itself goes to the parent, so this one word is read before everything else.
    if std::env::args().nth(1).as_deref() == Some(peer::SUBCOMMAND) {
        return peer::main();
    }
    match demo(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(options: &Options) -> Result<ExitCode> {
    options.validate()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    runtime.block_on(async {
        let mut code = ExitCode::SUCCESS;
        for scenario in options.scenarios() {
            let ending = match scenario {
                Scenario::Mesh => mesh::run(options).await?,
            };
            match ending {
                Ending::Passed => {}
                Ending::Failed => code = ExitCode::FAILURE,
                Ending::Interrupted => return Ok(ExitCode::from(INTERRUPTED)),
            }
        }
        Ok(code)
    })
}

/// How a scenario ended, when it did not fail to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Every check passed.
    Passed,
    /// A check failed.
    Failed,
    /// Somebody pressed Ctrl-C, or sent the like.
    Interrupted,
}
