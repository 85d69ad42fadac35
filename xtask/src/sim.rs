//! `cargo xtask sim`.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;

/// Builds the scenarios, optimised, and becomes them: all arguments are their own, `--help` among them.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let program = cargo::build("peerage-scenarios", &["--release"])?;
    cargo::become_program(&program, arguments)
}
