//! `cargo xtask ci`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::stages::{STAGES, Stage};
use crate::wants_help;

const HELP: &str = "\
Runs everything that must hold before a change goes in, stops at the first failure and names it. The table of stages is
printed before the last one, so that a good run ends in the test runner's summary.

usage: cargo xtask ci [--stage NAME]… [--keep-going] [--list]

  --stage NAME   only this stage; may be given several times
  --keep-going   go on after a failure, and fail at the end
  --list         say which stages there are";

#[derive(Debug, Default, PartialEq)]
struct Options {
    stages: Vec<String>,
    keep_going: bool,
    list: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--stage" => {
                    let name = words.next().context("`--stage` needs the name of a stage")?;
                    if !STAGES.iter().any(|stage| stage.name == name) {
                        bail!("unknown stage `{name}`; the stages are {}", names());
                    }
                    options.stages.push(name.clone());
                }
                "--keep-going" => options.keep_going = true,
                "--list" => options.list = true,
                unknown => bail!(
                    "unknown argument `{unknown}`; there are --stage NAME, --keep-going, --list, --help"
                ),
            }
        }
        Ok(options)
    }

    fn selected(&self) -> impl Iterator<Item = &'static Stage> {
        STAGES
            .iter()
            .filter(|stage| self.stages.is_empty() || self.stages.iter().any(|name| name == stage.name))
    }
}

fn names() -> String {
    STAGES.iter().map(|stage| stage.name).collect::<Vec<_>>().join(", ")
}

/// How a stage went.
struct Outcome {
    stage: &'static Stage,
    took: Duration,
    failure: Option<String>,
}

/// Runs the stages.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if wants_help(arguments) {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(arguments)?;
    if options.list {
        for stage in STAGES {
            println!("{:<9}{}", stage.name, stage.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stages: Vec<_> = options.selected().collect();
    let mut outcomes = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        if index + 1 == stages.len() && !outcomes.is_empty() {
            println!("\n{}", table(&outcomes));
        }
        println!("\n== {} ({} of {}): {}", stage.name, index + 1, stages.len(), stage.about);
        let start = Instant::now();
        let failure = (stage.run)().err().map(|error| format!("{error:#}"));
        if let Some(failure) = &failure {
            eprintln!("error: {failure}");
        }
        let failed = failure.is_some();
        outcomes.push(Outcome { stage, took: start.elapsed(), failure });
        if failed && !options.keep_going {
            break;
        }
    }
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\n{}", table(&outcomes));
    let names: Vec<_> = failed.iter().map(|outcome| format!("`{}`", outcome.stage.name)).collect();
    eprintln!("error: failed: {}", names.join(", "));
    for outcome in failed {
        eprintln!("to repeat: cargo xtask ci --stage {}", outcome.stage.name);
    }
    Ok(ExitCode::FAILURE)
}

fn table(outcomes: &[Outcome]) -> String {
    let mut lines = vec![format!("{:<10}{:<8}{:>9}", "stage", "result", "time")];
    for Outcome { stage, took, failure } in outcomes {
        let result = if failure.is_some() { "FAILED" } else { "ok" };
        lines.push(format!("{:<10}{result:<8}{:>7.1} s", stage.name, took.as_secs_f64()));
    }
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    lines.push(format!("{:<18}{:>7.1} s", "so far", total.as_secs_f64()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_arguments_every_stage_runs_and_the_tests_come_last() {
        let stages: Vec<_> = parse("").unwrap().selected().map(|stage| stage.name).collect();
        assert_eq!(stages.len(), STAGES.len());
        assert_eq!(stages.last(), Some(&"test"));
    }

    #[test]
    fn chosen_stages_run_in_their_own_order() {
        let stages: Vec<_> =
            parse("--stage test --stage format").unwrap().selected().map(|stage| stage.name).collect();
        assert_eq!(stages, ["format", "test"]);
    }

    #[test]
    fn an_unknown_stage_is_named_with_the_valid_ones() {
        let error = parse("--stage lint").unwrap_err().to_string();
        assert!(error.contains("`lint`") && error.contains("clippy"), "{error}");
    }

    #[test]
    fn the_table_shows_each_stage_its_result_and_its_time() {
        let stage = STAGES.first().unwrap();
        let outcomes = [Outcome { stage, took: Duration::from_millis(1500), failure: Some("x".into()) }];
        let table = table(&outcomes);
        assert!(table.contains("format    FAILED      1.5 s"), "{table}");
    }
}
