//! `cargo xtask bench`.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;

/// Builds the benches, optimised as a whole, and becomes them: all arguments are their own, `--help` among them.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let program = cargo::build("peerage-bench", &["--profile", "measured"])?;
    cargo::become_program(&program, arguments)
}
