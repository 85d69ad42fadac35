//! What the demo can be asked.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::figures;
use crate::input::Input;

/// More processes than this are no demonstration.
const MOST_PEERS: usize = 500;

/// Notes, cuts of a connection, and MiB of a file: more take longer than anybody looks on.
const MOST_NOTES: u64 = 10_000_000;
const MOST_CUTS: usize = 10_000;
const MOST_MIB: u64 = 100_000;

/// A line in a hundred seconds; slower is no demonstration either.
const LEAST_RATE: f64 = 0.01;

/// More runs than this are another tool's work.
const MOST_RUNS: usize = 1000;

/// Starts networks of real processes on this machine. `mesh` sends a text to everybody while some are killed and others join,
/// and checks that every line arrived. `rpc` has users and nodes meet at a broker, kills a node and the broker, cuts every
/// connection, and checks that every note is kept once and in order.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask demo", bin_name = "cargo xtask demo", allow_negative_numbers = true)]
pub(crate) struct Options {
    /// Which network; every scenario there is when not given.
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// mesh: peers to start with, each a process of its own.
    #[arg(long, value_name = "N", default_value_t = 12)]
    pub(crate) peers: usize,
    /// mesh: the text to send, line by line; a book that comes with the repository when not given.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// mesh: peers to kill while the text is on its way.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) kill: usize,
    /// mesh: peers that join while the text is on its way; as many as are killed when not given.
    #[arg(long, value_name = "N")]
    join: Option<usize>,
    /// Lines per second; of rpc, notes per second and client.
    #[arg(long, value_name = "LINES", default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// mesh: send blocks of so many bytes instead of lines.
    #[arg(long, value_name = "BYTES")]
    line_bytes: Option<usize>,
    /// mesh: send so many lines, going round the text as often as it takes.
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
    /// rpc: users, each a process of its own.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) clients: usize,
    /// rpc: nodes, each a process of its own; one of them is killed.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) nodes: usize,
    /// rpc: notes that the users write, all together, while what carries them breaks.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) notes: u64,
    /// rpc: how often each user is cut off meanwhile.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) cuts: usize,
    /// rpc: the file that goes to a node and back, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub(crate) file_mib: u64,
    /// Decides who sends, who is killed or cut off, and when; drawn and shown when not given.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Run so often, the seed one higher each time, and end with medians and worst values.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) runs: usize,
    /// Append the figures to this file, a JSON object per line.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// mesh: show what the peers have counted: drops, closed links, duplicates.
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
    Rpc,
}

/// What is of one scenario only, by the name of its flag.
const OF_MESH: [&str; 7] = ["peers", "input", "kill", "join", "line_bytes", "lines", "counters"];
const OF_RPC: [&str; 5] = ["clients", "nodes", "notes", "cuts", "file_mib"];

impl Options {
    /// What was asked on the command line; ends the program where that makes no sense.
    pub(crate) fn from_command_line() -> Self {
        let read = Self::read(std::env::args_os());
        let options = read.unwrap_or_else(|error| error.exit());
        if let Err(error) = options.validate() {
            Self::command().error(ErrorKind::ValueValidation, format!("{error:#}")).exit();
        }
        options
    }

    /// Reads the words, and refuses those that mean nothing to the scenario that was asked for.
    fn read(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(words)?;
        let options = Self::from_arg_matches(&matches)?;
        let (others, name): (&[&str], _) = match options.scenario {
            Some(Scenario::Mesh) => (&OF_RPC, "rpc"),
            Some(Scenario::Rpc) => (&OF_MESH, "mesh"),
            None => return Ok(options),
        };
        let given = |flag: &&&str| matches.value_source(flag) == Some(ValueSource::CommandLine);
        match others.iter().find(given) {
            Some(flag) => {
                let flag = flag.replace('_', "-");
                Err(Self::command()
                    .error(ErrorKind::ArgumentConflict, format!("--{flag} is of the demo {name}")))
            }
            None => Ok(options),
        }
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
        if self.clients == 0 || self.clients > MOST_PEERS {
            bail!("--clients is {}; it takes 1 to {MOST_PEERS}", self.clients);
        }
        if self.nodes < 2 || self.nodes > MOST_PEERS {
            bail!(
                "--nodes is {}; one is killed and one must be left, so it takes 2 to {MOST_PEERS}",
                self.nodes
            );
        }
        if self.notes < self.clients as u64 || self.notes > MOST_NOTES {
            bail!("--notes is {}; it takes one per client, {}, to {MOST_NOTES}", self.notes, self.clients);
        }
        if self.cuts > MOST_CUTS {
            bail!("--cuts is {}; it takes at most {MOST_CUTS}", self.cuts);
        }
        if self.file_mib == 0 || self.file_mib > MOST_MIB {
            bail!("--file-mib is {}; it takes 1 to {MOST_MIB}", self.file_mib);
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
        let options = Options::read(text.split_whitespace())?;
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
            "--clients 0",
            "--nodes 1",
            "--notes 3 --clients 4",
            "--cuts 10001",
            "--file-mib 0",
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
    fn what_means_nothing_to_a_scenario_is_not_taken_for_it() {
        assert!(parse("demo rpc --clients 2 --seed 1 --rate 100").is_ok());
        assert!(parse("demo --clients 2 --peers 5").is_ok());
        let error = parse("demo rpc --line-bytes 7").unwrap_err().to_string();
        assert!(error.contains("--line-bytes is of the demo mesh"), "{error}");
        let error = parse("demo mesh --file-mib 7").unwrap_err().to_string();
        assert!(error.contains("--file-mib is of the demo rpc"), "{error}");
        assert!(
            OF_MESH
                .iter()
                .chain(&OF_RPC)
                .all(|flag| { Options::command().get_arguments().any(|argument| argument.get_id() == flag) })
        );
    }

    #[test]
    fn as_many_join_as_are_killed() {
        assert_eq!(parse("demo --kill 3").unwrap().join(), 3);
        assert_eq!(parse("demo --kill 3 --join 0").unwrap().join(), 0);
    }
}
