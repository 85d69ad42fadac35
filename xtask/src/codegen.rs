//! `cargo xtask codegen`.

use std::process::ExitCode;

use anyhow::Result;

use crate::cargo;

/// Builds the code generator and becomes it.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let program = cargo::build("peerage-codegen", &["--quiet"])?;
    cargo::become_program(&program, arguments)
}
