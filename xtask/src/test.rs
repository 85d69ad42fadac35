//! `cargo xtask test`.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, wants_help};

const HELP: &str = "\
Runs all tests: doctests first, then the rest, so that the run ends in the test runner's summary. The rest goes to
cargo-nextest where it is installed, and to `cargo test` where it is not.

usage: cargo xtask test [-p PACKAGE]… [FILTER]… [OPTIONS OF THE RUNNER]

  -p, --package PACKAGE  only this package; may be given several times
  FILTER                 only tests whose name contains this";

/// What the arguments select.
#[derive(Debug, Default, PartialEq)]
struct Selection {
    packages: Vec<String>,
    filters: Vec<String>,
    options: Vec<String>,
}

impl Selection {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut selection = Self::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            if word == "-p" || word == "--package" {
                let package =
                    words.next().with_context(|| format!("`{word}` needs the name of a package"))?;
                selection.packages.push(package.clone());
            } else if word == "--" {
                selection.options.push(word.clone());
                selection.options.extend(words.by_ref().cloned());
            } else if word.starts_with('-') {
                selection.options.push(word.clone());
            } else {
                selection.filters.push(word.clone());
            }
        }
        Ok(selection)
    }

    fn packages(&self) -> Vec<&str> {
        if self.packages.is_empty() {
            return vec!["--workspace"];
        }
        self.packages.iter().flat_map(|package| ["--package", package]).collect()
    }
}

/// Runs the tests that the arguments select; all of them without any.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if wants_help(arguments) {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let selection = Selection::parse(arguments)?;
    if has_library(&selection)? {
        let mut doctests = cargo::cargo(["test", "--doc"]);
        doctests.args(selection.packages()).args(&selection.filters);
        let status = cargo::status(&mut doctests)?;
        if !status.success() {
            eprintln!("error: `{}` failed: {status}", cargo::show(&doctests));
            return Ok(cargo::pass_on(status));
        }
    }
    let mut rest = if cargo::has_nextest() {
        cargo::cargo(["nextest", "run"])
    } else {
        // Not --all-targets, which would run the benches as well.
        cargo::cargo(["test", "--lib", "--bins", "--tests", "--examples"])
    };
    rest.args(selection.packages()).args(&selection.filters).args(&selection.options);
    Ok(cargo::pass_on(cargo::status(&mut rest)?))
}

/// Whether any selected package has a library: `cargo test --doc` fails where there is none. A package that does not
/// exist is the caller's mistake.
fn has_library(selection: &Selection) -> Result<bool> {
    let packages = cargo::packages()?;
    let name_of =
        |package: &Value| package.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut any = selection.packages.is_empty();
    for wanted in &selection.packages {
        let Some(found) = packages.iter().find(|package| name_of(package) == *wanted) else {
            let names = packages.iter().map(name_of).collect::<Vec<_>>();
            bail!("no package `{wanted}`; the packages are {}", names.join(", "));
        };
        let targets = found.get("targets").and_then(Value::as_array).into_iter().flatten();
        any |= targets.filter_map(|target| target.get("doctest")?.as_bool()).any(|doctest| doctest);
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Selection> {
        Selection::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_arguments_the_whole_workspace_is_tested() {
        assert_eq!(parse("").unwrap().packages(), ["--workspace"]);
    }

    #[test]
    fn packages_filters_and_options_are_told_apart() {
        let selection = parse("-p a handshake --no-fail-fast --package b -- --nocapture x").unwrap();
        assert_eq!(selection.packages(), ["--package", "a", "--package", "b"]);
        assert_eq!(selection.filters, ["handshake"]);
        assert_eq!(selection.options, ["--no-fail-fast", "--", "--nocapture", "x"]);
    }

    #[test]
    fn a_package_flag_without_a_name_is_refused() {
        assert_eq!(parse("-p").unwrap_err().to_string(), "`-p` needs the name of a package");
    }
}
