//! What the demo can be asked.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};

use crate::figures;
use crate::input::Input;

/// More processes than this are no demonstration.
const MOST_PEERS: usize = 500;

/// A line in a hundred seconds; slower is no demonstration either.
const LEAST_RATE: f64 = 0.01;

/// More runs than this are another tool's work.
const MOST_RUNS: usize = 1000;

/// Starts a network of real processes on this machine, sends a text through it while some are killed and others join,
/// and checks that every line reached everybody.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo", allow_negative_numbers = true)]
pub(crate) struct Options {
    /// Which network; every scenario there is when not given.
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// Peers to start with, each a process of its own.
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(crate) peers: usize,
    /// The text to send, line by line; a book that comes with the repository when not given.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Peers to kill while the text is on its way.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) kill: usize,
    /// Peers that join while the text is on its way; as many as are killed when not given.
    #[arg(long, value_name = "N")]
    join: Option<usize>,
    /// Lines per second.
    #[arg(long, value_name = "LINES", default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// Send blocks of so many bytes instead of lines.
    #[arg(long, value_name = "BYTES")]
    line_bytes: Option<usize>,
    /// Send so many lines, going round the text as often as it takes.
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
    /// Decides who sends, who is killed and when; drawn and shown when not given.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Run so often, the seed one higher each time, and end with medians and worst values.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) runs: usize,
    /// Append the figures to this file, a JSON object per line.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Show what the peers have counted: drops, closed links, duplicates.
    #[arg(long)]
    pub(crate) counters: bool,
    /// No progress, only the result: for scripts.
    #[arg(long)]
    pub(crate) check: bool,
}

/// The networks that can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    // No doc comment: clap would make every option's help three lines long for it.
    Mesh,
}

impl Options {
    /// What was asked on the command line; ends the program where that makes no sense.
    pub(crate) fn from_command_line() -> Self {
        let options = Self::parse();
        if let Err(error) = options.validate() {
            Self::command().error(ErrorKind::ValueValidation, format!("{error:#}")).exit();
        }
        options
    }

    /// The scenarios asked for.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        self.scenario.map_or_else(|| Scenario::value_variants().to_vec(), |one| vec![one])
    }

    /// What is to be sent.
    pub(crate) fn input(&self) -> Input {
        Input { file: self.input.clone(), block: self.line_bytes, lines: self.lines }
    }

    /// How many join mid-stream.
    pub(crate) fn join(&self) -> usize {
        self.join.unwrap_or(self.kill)
    }

    /// The first seed, drawn from the clock when none was given.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| crate::protocol::wall_micros() % 1_000_000)
    }

    /// Refuses what cannot work, before any process is started.
    fn validate(&self) -> Result<()> {
        if self.peers < 2 || self.peers > MOST_PEERS {
            bail!("--peers is {}; it takes 2 to {MOST_PEERS}", self.peers);
        }
        if self.kill > self.peers - 2 {
            bail!("--kill {} of {} peers leaves fewer than two", self.kill, self.peers);
        }
        if self.join() > MOST_PEERS {
            bail!("--join is {}; it takes at most {MOST_PEERS}", self.join());
        }
        if !(self.rate.is_finite() && self.rate >= LEAST_RATE) {
            bail!("--rate is {:?}; it takes a number of lines per second, {LEAST_RATE} or more", self.rate);
        }
        if self.runs == 0 || self.runs > MOST_RUNS {
            bail!("--runs is {}; it takes 1 to {MOST_RUNS}", self.runs);
        }
        for (flag, value) in [("--line-bytes", self.line_bytes), ("--lines", self.lines)] {
            if value == Some(0) {
                bail!("{flag} is 0; it takes at least 1");
            }
        }
        self.input().read()?;
        self.json.as_deref().map_or(Ok(()), |path| figures::append(path, "", &[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        let options = Options::try_parse_from(text.split_whitespace())?;
        options.validate()?;
        Ok(options)
    }

    #[test]
    fn without_a_name_every_scenario_runs() {
        assert_eq!(parse("demo").unwrap().scenarios(), Scenario::value_variants());
    }

    #[test]
    fn an_unknown_scenario_is_answered_with_the_known_ones() {
        let error = parse("demo mash").unwrap_err().to_string();
        assert!(error.contains("mash") && error.contains("mesh"), "{error}");
    }

    #[test]
    fn a_network_must_outlive_its_victims() {
        assert!(parse("demo --peers 4 --kill 2").is_ok());
        let error = parse("demo --peers 4 --kill 3").unwrap_err().to_string();
        assert!(error.contains("fewer than two"), "{error}");
    }

    #[test]
    fn numbers_that_cannot_work_are_refused() {
        for text in [
            "--peers 1",
            "--rate 0",
            "--rate 1e-300",
            "--rate NaN",
            "--lines 0",
            "--line-bytes 0",
            "--runs 0",
        ] {
            assert!(parse(&format!("demo {text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn files_that_cannot_be_read_or_written_are_named_before_anything_starts() {
        for flag in ["--input", "--json"] {
            let error = format!("{:#}", parse(&format!("demo {flag} no/such/file")).unwrap_err());
            assert!(error.contains("no/such/file"), "{error}");
        }
    }

    #[test]
    fn a_negative_number_is_a_bad_value_and_no_flag() {
        let error = parse("demo --seed -5").unwrap_err().to_string();
        assert!(error.contains("invalid value '-5'"), "{error}");
    }

    #[test]
    fn as_many_join_as_are_killed() {
        assert_eq!(parse("demo --kill 3").unwrap().join(), 3);
        assert_eq!(parse("demo --kill 3 --join 0").unwrap().join(), 0);
    }
}
