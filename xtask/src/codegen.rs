//! `cargo xtask codegen`.

use std::process::ExitCode;

use anyhow::Result;

use crate::{cargo, wants_help};

const HELP: &str = "\
Writes crates/peerage-wire/src/generated anew from proto/. Needs no protoc.

usage: cargo xtask codegen [--check]

  --check  write nothing; fail when what is committed differs";

/// Builds the code generator and becomes it.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if wants_help(arguments) {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let program = cargo::build("peerage-codegen", &["--quiet"])?;
    cargo::become_program(&program, arguments)
}
