//! `cargo xtask sim`: networks of thousands of peers in virtual time, in one process, from one seed; the protocols' own
//! machines, with what goes wrong in the world, and figures at the end.

mod attack;
mod cli;
mod figures;
mod graph;
mod ledger;
mod plot;
mod process;
mod progress;
mod regressions;
mod relay;
mod run;
mod scenario;
mod span;
#[cfg(test)]
mod tests;
mod weather;
mod world;

use std::process::ExitCode;

use crate::cli::Options;

fn main() -> ExitCode {
    let options = Options::from_command_line();
    match run::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
