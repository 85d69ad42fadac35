//! The fuzzers, for a few seconds each, where cargo-fuzz is installed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::cargo;

/// For each fuzzer. A night's work is somebody else's; this is for what any run would find.
const SECONDS: u32 = 5;

/// Runs all fuzzers, or says that none ran.
pub(crate) fn run() -> Result<()> {
    if !is_installed() {
        println!("cargo-fuzz and a nightly toolchain are not both installed: nothing is fuzzed here");
        println!("what fuzzers found before runs with the tests: cargo xtask test -p peerage-fuzz");
        return Ok(());
    }
    let root = cargo::root();
    for name in names(&root.join("fuzz/targets"))? {
        let corpus = root.join("fuzz/corpus").join(&name);
        fs::create_dir_all(&corpus).with_context(|| format!("making {}", corpus.display()))?;
        let mut command = fuzz();
        command.args(["run", "--fuzz-dir", "fuzz", &name]).arg(&corpus);
        command.arg(root.join("fuzz/seeds").join(&name));
        command.args(["--", "-max_len=4096", &format!("-max_total_time={SECONDS}"), "-verbosity=0"]);
        println!("{name}");
        cargo::must(&mut command)?;
    }
    Ok(())
}

fn fuzz() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "fuzz"]);
    cargo::prepare(&mut command);
    // Both are set to what runs us.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
    command
}

fn is_installed() -> bool {
    let mut version = fuzz();
    version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok_and(|status| status.success())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
