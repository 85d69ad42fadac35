//! `cargo xtask demo`.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;

/// Builds the demo, optimised, and becomes it: all arguments are its own, `--help` among them.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let program = cargo::build("peerage-demo", &["--release"])?;
    cargo::become_program(&program, arguments)
}
