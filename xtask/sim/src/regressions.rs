//! Runs in which something was wrong, kept and run again by the tests.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("regressions.txt")
}

/// The arguments of each kept run.
fn kept() -> Result<Vec<String>> {
    let path = path();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// A run that ended because it cannot be made as it was asked for: nothing went wrong that could be mended, and run again it
/// would end the same way.
#[derive(Debug)]
pub(crate) struct Impossible(pub(crate) String);

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Impossible {}

/// Keeps a run that failed, once.
pub(crate) fn keep(arguments: &str) -> Result<()> {
    if kept()?.iter().any(|line| line == arguments) {
        return Ok(());
    }
    let path = path();
    let mut file = OpenOptions::new()
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {} to keep the run that failed", path.display()))?;
    writeln!(file, "{arguments}").with_context(|| format!("writing to {}", path.display()))?;
    eprintln!("kept in {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Options;
    use crate::progress::Progress;
    use crate::run;

    /// What unoptimised code runs in seconds.
    const QUICK: usize = 300;

    #[test]
    fn what_once_went_wrong_does_not_again() {
        for line in kept().unwrap() {
            let words = ["sim"].into_iter().chain(line.split_whitespace()).chain(["--quiet"]);
            let options = Options::try_parse_from(words).unwrap();
            options.validate().unwrap();
            let scenario = options.scenario.unwrap();
            if options.peers(scenario.peers()) <= QUICK || !cfg!(debug_assertions) {
                let outcome = run::once(&options, scenario, options.seed, Progress::Silent);
                outcome.map_err(|error| format!("cargo xtask sim {line}\n{error:#}")).unwrap();
            }
        }
    }
}
