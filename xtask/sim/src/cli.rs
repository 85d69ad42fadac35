//! What can be asked.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use clap::{Arg, Args as _, Command, CommandFactory, Parser, ValueEnum};

use crate::attack::Attack;
use crate::figures;
use crate::scenario::Scenario;
use crate::span::{Given, span};
use crate::weather::Weather;
use crate::world::Fidelity;

/// Peers that one process has been seen to hold, and ten times as many.
const MOST_PEERS: usize = 1_000_000;
/// More runs than this are another tool's work.
const MOST_SEEDS: u64 = 1_000_000;

/// More threads than any machine has processors.
const MOST_JOBS: usize = 256;

/// What the arguments of one scenario are called in the help.
const OWN: &str = "Of one scenario";

/// Runs a network of thousands of peers in virtual time, from one seed, and says what came of it.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim", arg_required_else_help = true)]
pub(crate) struct Options {
    /// Which scenario; --list names them.
    #[arg(value_enum, value_name = "NAME", required_unless_present = "list", hide_possible_values = true)]
    pub(crate) scenario: Option<Scenario>,
    /// Name the scenarios, each with its own arguments, and end.
    #[arg(long)]
    pub(crate) list: bool,
    /// Peers of the network.
    #[arg(long, value_name = "N")]
    peers: Option<usize>,
    /// Where all randomness comes from: the same seed gives the same run.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Run so often, the seed one higher each time, and end with medians and worst values.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub(crate) seeds: u64,
    /// Run so many seeds at a time, each in a thread of its own.
    #[arg(long, value_name = "J", default_value_t = 1)]
    pub(crate) jobs: usize,
    /// Append the figures to this file, a JSON object per line.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw the run's main curve into this file; of several runs, that of the first one that did not fail.
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// No progress, only the result.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Fail when a figure misses its goal.
    #[arg(long)]
    pub(crate) check: bool,
    /// Bytes of each broadcast.
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub(crate) payload: usize,
    /// Move bytes through the codec and the links of real connections: for hundreds of peers.
    #[arg(long)]
    bytes: bool,
    /// With --bytes: links know each other without shaking hands, which is most of what they cost.
    #[arg(long, requires = "bytes")]
    null_handshake: bool,
    /// Virtual time from the last join to the first measurement, such as 30s.
    #[arg(long, value_name = "SPAN", value_parser = Given::by(span))]
    settle: Option<Given<Duration>>,
    /// broadcast: peers that speak, in turn [default: 1].
    #[arg(long, value_name = "N", help_heading = OWN)]
    origins: Option<usize>,
    /// broadcast: rounds in which each origin speaks once before anything is measured [default: 10, of many origins 5].
    #[arg(long, value_name = "N", help_heading = OWN)]
    warm: Option<usize>,
    /// broadcast: messages that are measured [default: 20, of many origins 64].
    #[arg(long, value_name = "N", help_heading = OWN)]
    broadcasts: Option<usize>,
    /// crash: the share of all peers that crash at once [default: 0.5].
    #[arg(long, value_name = "SHARE", help_heading = OWN)]
    fraction: Option<f64>,
    /// crash: from one look at the survivors to the next [default: 4s, in which each neighbour is probed once].
    #[arg(long, value_name = "SPAN", value_parser = Given::by(span), help_heading = OWN)]
    cycle: Option<Given<Duration>>,
    /// churn: how long peers stay, on average [default: 30s].
    #[arg(long, value_name = "SPAN", value_parser = Given::by(span), help_heading = OWN)]
    session: Option<Given<Duration>>,
    /// churn: what peers that come back have of their earlier start: nothing, so that they join by somebody who runs, or
    /// the peers that they knew [default: lost].
    #[arg(long, value_enum, value_name = "STORE", help_heading = OWN)]
    store: Option<Store>,
    /// partition: how long it lasts [default: 10m].
    #[arg(long, value_name = "SPAN", value_parser = Given::by(span), help_heading = OWN)]
    lasting: Option<Given<Duration>>,
    /// partition: what each part says does not reach the next one, and comes through the other way; both ends notice.
    #[arg(long, help_heading = OWN)]
    one_way: bool,
    /// sybil: attackers for each honest peer [default: 20].
    #[arg(long, value_name = "N", help_heading = OWN)]
    ratio: Option<usize>,
    /// sybil: what they do, one of those that --list names [default: sink].
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true, help_heading = OWN)]
    attack: Option<Attack>,
    #[command(flatten)]
    pub(crate) weather: Weather,
}

/// What a peer that starts again has of its earlier start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// Nothing.
    Lost,
    /// What it stored: whom it knew.
    Kept,
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

    pub(crate) fn peers(&self, otherwise: usize) -> usize {
        self.peers.unwrap_or(otherwise)
    }

    pub(crate) fn settle(&self, otherwise: Duration) -> Duration {
        self.settle.as_ref().map_or(otherwise, |settle| settle.value)
    }

    pub(crate) fn origins(&self) -> usize {
        self.origins.unwrap_or(1)
    }

    pub(crate) fn warm(&self) -> usize {
        self.warm.unwrap_or(if self.origins() == 1 { 10 } else { 5 })
    }

    pub(crate) fn broadcasts(&self) -> usize {
        self.broadcasts.unwrap_or(if self.origins() == 1 { 20 } else { 64 })
    }

    pub(crate) fn fraction(&self) -> f64 {
        self.fraction.unwrap_or(0.5)
    }

    pub(crate) fn cycle(&self, otherwise: Duration) -> Duration {
        self.cycle.as_ref().map_or(otherwise, |cycle| cycle.value)
    }

    pub(crate) fn session(&self) -> Duration {
        self.session.as_ref().map_or(Duration::from_secs(30), |session| session.value)
    }

    pub(crate) fn lasting(&self) -> Duration {
        self.lasting.as_ref().map_or(Duration::from_secs(600), |lasting| lasting.value)
    }

    pub(crate) fn store(&self) -> Store {
        self.store.unwrap_or(Store::Lost)
    }

    pub(crate) fn is_one_way(&self) -> bool {
        self.one_way
    }

    pub(crate) fn fidelity(&self) -> Fidelity {
        match (self.bytes, self.null_handshake) {
            (false, _) => Fidelity::Values,
            (true, false) => Fidelity::Bytes,
            (true, true) => Fidelity::BytesWithoutHandshake,
        }
    }

    pub(crate) fn ratio(&self) -> usize {
        self.ratio.unwrap_or(20)
    }

    pub(crate) fn attack(&self) -> Attack {
        self.attack.unwrap_or(Attack::Sink)
    }

    /// The arguments that do this again with one seed.
    pub(crate) fn again(&self, name: &str, seed: u64, peers: usize) -> String {
        let mut command = format!("{name} --seed {seed} --peers {peers}");
        for (flag, value) in self.given() {
            command.push_str(&format!(" {flag} {value}"));
            command.truncate(command.trim_end().len());
        }
        if self.payload != 1024 {
            command.push_str(&format!(" --payload {}", self.payload));
        }
        for (flag, given) in [("--bytes", self.bytes), ("--null-handshake", self.null_handshake)] {
            if given {
                command.push_str(&format!(" {flag}"));
            }
        }
        if let Some(settle) = &self.settle {
            command.push_str(&format!(" --settle {settle}"));
        }
        for (flag, words) in self.weather.given() {
            command.push_str(&format!(" {flag} {words}"));
        }
        command
    }

    /// Arguments that belong to a scenario, as they were given.
    fn given(&self) -> Vec<(&'static str, String)> {
        let number = |flag, value: Option<usize>| value.map(|value| (flag, value.to_string()));
        [
            number("--origins", self.origins),
            number("--warm", self.warm),
            number("--broadcasts", self.broadcasts),
            self.fraction.map(|value| ("--fraction", value.to_string())),
            self.cycle.as_ref().map(|value| ("--cycle", value.to_string())),
            self.session.as_ref().map(|value| ("--session", value.to_string())),
            self.lasting.as_ref().map(|value| ("--lasting", value.to_string())),
            self.store.map(|store| {
                ("--store", store.to_possible_value().map_or_else(String::new, |it| it.get_name().to_owned()))
            }),
            self.one_way.then(|| ("--one-way", String::new())),
            number("--ratio", self.ratio),
            self.attack.map(|value| ("--attack", value.name().to_owned())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Refuses what cannot work, before anything is started.
    pub(crate) fn validate(&self) -> Result<()> {
        let Some(scenario) = self.scenario else { return Ok(()) };
        let own = scenario.arguments();
        if let Some((flag, _)) = self.given().into_iter().find(|(flag, _)| !own.contains(flag)) {
            bail!(
                "{flag} is no argument of `{}`; its own are {}",
                scenario.name(),
                if own.is_empty() { "none".to_owned() } else { own.join(", ") }
            );
        }
        let peers = self.peers(scenario.peers());
        let least = scenario.least_peers();
        if !(least..=MOST_PEERS).contains(&peers) {
            bail!("--peers is {peers}; `{}` takes {least} to {MOST_PEERS}", scenario.name());
        }
        if !(1..=MOST_SEEDS).contains(&self.seeds) {
            bail!("--seeds is {}; it takes 1 to {MOST_SEEDS}", self.seeds);
        }
        if !(1..=MOST_JOBS).contains(&self.jobs) {
            bail!("--jobs is {}; it takes 1 to {MOST_JOBS}", self.jobs);
        }
        if self.origins() == 0 || self.origins() > peers {
            bail!("--origins is {}; it takes 1 to {peers}, the number of peers", self.origins());
        }
        if self.broadcasts() == 0 {
            bail!("--broadcasts is 0; it takes at least 1");
        }
        if self.payload > 1 << 20 {
            bail!("--payload is {}; it takes at most {}", self.payload, 1 << 20);
        }
        let left = peers as f64 * (1.0 - self.fraction());
        if !(0.0..1.0).contains(&self.fraction()) || (scenario == Scenario::Crash && left < 2.0) {
            bail!(
                "--fraction is {}; it takes 0 to less than 1, and must leave two of {peers} peers",
                self.fraction()
            );
        }
        if let Some(cycle) = self.cycle.as_ref().filter(|cycle| cycle.value < Duration::from_millis(1)) {
            bail!("--cycle is {cycle}; it takes at least 1ms");
        }
        if self.lasting() < Duration::from_millis(1) {
            bail!(
                "--lasting is {:?}; it takes at least 1ms, in which each part says something",
                self.lasting()
            );
        }
        if self.session() < Duration::from_secs(1) {
            bail!("--session is {:?}; it takes at least 1s", self.session());
        }
        if self.ratio() > 1000 {
            bail!("--ratio is {}; it takes at most 1000", self.ratio());
        }
        // A run may take minutes: what comes of it must have a place.
        self.json.as_deref().map_or(Ok(()), figures::check)?;
        self.plot.as_deref().map_or(Ok(()), figures::check)
    }
}

/// What --list says.
pub(crate) fn list() -> String {
    let command = Options::command();
    let explain = |text: &mut String, argument: &Arg| {
        let name = argument.get_long().unwrap_or_default();
        let value = argument.get_value_names().filter(|_| argument.get_action().takes_values());
        let value = value.and_then(|names| names.first()).map_or_else(String::new, |name| format!(" {name}"));
        let help = argument.get_help().map_or_else(String::new, ToString::to_string);
        // Those of one scenario begin with its name.
        let help =
            help.split_once(": ").filter(|(head, _)| !head.contains(' ')).map_or(help.as_str(), |it| it.1);
        text.push_str(&entry(&format!("  --{name}{value}"), help));
    };
    let mut text = String::new();
    for scenario in Scenario::value_variants() {
        text.push_str(&entry(scenario.name(), scenario.about()));
        text.push_str(&entry(
            "  --peers N",
            &format!("peers of the network [default: {}]", scenario.peers()),
        ));
        for flag in scenario.arguments() {
            let argument = command.get_arguments().find(|it| it.get_long() == flag.strip_prefix("--"));
            argument.into_iter().for_each(|argument| explain(&mut text, argument));
        }
        text.push('\n');
    }
    text.push_str("what attackers do, --attack of sybil:\n");
    for attack in Attack::value_variants() {
        text.push_str(&entry(&format!("  {}", attack.name()), attack.about()));
    }
    text.push_str("\nof any of them, what the world is like:\n");
    let world = Weather::augment_args(Command::new("world"));
    world.get_arguments().for_each(|argument| explain(&mut text, argument));
    text.push_str("\n--help has what is the same for all: seeds, figures, pictures.\n");
    text
}

/// A name, and beside it what there is to say of it, in lines of 100.
fn entry(name: &str, about: &str) -> String {
    const COLUMN: usize = 28;
    let mut text = format!("{name:COLUMN$}");
    let mut width = text.len();
    for word in about.split_whitespace() {
        if width + word.len() >= 100 {
            text.truncate(text.trim_end().len());
            text.push_str(&format!("\n{:COLUMN$}", ""));
            width = COLUMN;
        } else if !text.ends_with(' ') {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += word.len();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        let options = Options::try_parse_from(std::iter::once("sim").chain(text.split_whitespace()))?;
        options.validate()?;
        Ok(options)
    }

    #[test]
    fn an_unknown_scenario_is_answered_with_the_known_ones() {
        let error = parse("brodcast").unwrap_err().to_string();
        for scenario in Scenario::value_variants() {
            assert!(error.contains(scenario.name()), "{error}");
        }
    }

    #[test]
    fn the_list_explains_every_scenario_and_each_of_its_arguments() {
        let list = list();
        let explained = |name: &str| {
            list.lines().any(|line| {
                line.trim_start()
                    .split_once(' ')
                    .is_some_and(|(first, rest)| first == name && rest.trim().len() > 10)
            })
        };
        for scenario in Scenario::value_variants() {
            assert!(explained(scenario.name()), "{}\n{list}", scenario.name());
            for flag in scenario.arguments() {
                assert!(explained(flag), "{flag}\n{list}");
            }
        }
        for flag in
            ["--regions", "--bandwidth", "--stalls", "--resets", "--half-open", "--nat", "--skew", "--drift"]
        {
            assert!(explained(flag), "{flag}\n{list}");
        }
        assert!(list.lines().all(|line| line.len() <= 100), "{list}");
    }

    #[test]
    fn an_argument_of_another_scenario_is_refused_by_name() {
        let error = parse("broadcast --fraction 0.5").unwrap_err().to_string();
        assert!(error.contains("--fraction") && error.contains("--origins"), "{error}");
    }

    #[test]
    fn numbers_that_cannot_work_are_refused() {
        for text in [
            "broadcast --peers 1",
            "partition --peers 5",
            "broadcast --peers 10 --origins 11",
            "broadcast --seeds 0",
            "broadcast --settle 5",
            "crash --fraction 1",
            "crash --fraction 0.95 --peers 30",
            "crash --cycle 0s",
            "partition --lasting 0s",
            "broadcast --jobs 0",
            "broadcast --null-handshake",
            "broadcast --nat 1.5",
            "broadcast --regions 0-1",
            "broadcast --drift 1000000",
            "churn --store half",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_that_repeats_a_run_is_one_that_can_be_given() {
        let options = parse("crash --seed 3 --peers 50 --fraction 0.8 --cycle 2500ms --settle 1m").unwrap();
        let again = options.again("crash", 9, 50);
        assert_eq!(again, "crash --seed 9 --peers 50 --fraction 0.8 --cycle 2500ms --settle 1m");
        let options = parse(&again).unwrap();
        assert_eq!((options.seed, options.cycle(Duration::ZERO)), (9, Duration::from_millis(2500)));
        let again = parse("churn --settle 0.5ms").unwrap().again("churn", 1, 10);
        assert!(parse(&again).is_ok(), "{again}");
        let world =
            "--bytes --null-handshake --regions 0-1=80ms..0.12s+5ms@1M --stalls 0.01 --nat 0.3 --drift 50";
        let again = parse(&format!("partition --one-way {world}")).unwrap().again("partition", 2, 60);
        assert_eq!(again, format!("partition --seed 2 --peers 60 --one-way {world}"));
        parse(&again).unwrap();
    }

    #[test]
    fn files_that_cannot_be_written_are_named_before_anything_starts() {
        for flag in ["--json", "--plot"] {
            let error = format!("{:#}", parse(&format!("broadcast {flag} no/such/file")).unwrap_err());
            assert!(error.contains("no/such/file"), "{error}");
        }
    }
}
