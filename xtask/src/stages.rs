//! The stages of CI, in order: the cheap ones first, and the README's test command last.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{arrows, cargo, fuzz, metrics, readme, tidy};

/// One thing that must hold.
pub(crate) struct Stage {
    /// What `--stage` calls it.
    pub(crate) name: &'static str,
    /// One line for people.
    pub(crate) about: &'static str,
    /// Does it, with its output where ours goes.
    pub(crate) run: fn() -> Result<()>,
}

/// All stages.
pub(crate) const STAGES: &[Stage] = &[
    Stage { name: "format", about: "rustfmt has nothing to change", run: format },
    Stage {
        name: "arrows",
        about: "crates use only floors below their own; manifests, paths and docs/metrics.md are in order",
        run: arrows,
    },
    Stage { name: "codegen", about: "the committed protobuf code is what proto/ says", run: codegen },
    Stage { name: "clippy", about: "no warnings in any target", run: clippy },
    Stage { name: "docs", about: "rustdoc has no warnings", run: docs },
    Stage { name: "examples", about: "the example that ends by itself runs", run: examples },
    Stage {
        name: "demo",
        about: "two short demos: a mesh, 2 of 12 killed, every line everywhere; a broker killed, every note once",
        run: demo,
    },
    Stage { name: "sim", about: "a thousand simulated peers; debug and release go the same way", run: sim },
    Stage {
        name: "fuzz",
        about: "each fuzzer for a few seconds, where cargo-fuzz is installed",
        run: fuzz::run,
    },
    Stage { name: "test", about: "the README's test command", run: test },
];

fn format() -> Result<()> {
    cargo::must(&mut cargo::cargo(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    cargo::must(&mut cargo::cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn arrows() -> Result<()> {
    let packages = cargo::packages()?;
    let arrows = arrows::check(&packages)?;
    let files = tidy::check(&cargo::root(), &packages)?;
    let names = metrics::check(&cargo::root())?;
    println!("{} crates, {arrows} arrows, {files} files, {names} counters: all in order", packages.len());
    Ok(())
}

fn codegen() -> Result<()> {
    let program = cargo::build("peerage-codegen", &["--quiet"])?;
    let mut command = Command::new(program);
    command.arg("--check");
    cargo::prepare(&mut command);
    cargo::must(&mut command)
}

fn docs() -> Result<()> {
    let mut command = cargo::cargo(["doc", "--workspace", "--no-deps"]);
    cargo::must(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn examples() -> Result<()> {
    cargo::must(&mut cargo::cargo(["run", "--quiet", "--package", "peerage-examples", "--example", "hello"]))
}

fn demo() -> Result<()> {
    const MESH: &[&str] = &["mesh", "--peers", "12", "--kill", "2", "--lines", "1000", "--check"];
    const RPC: &[&str] =
        &["rpc", "--clients", "2", "--notes", "2000", "--cuts", "5", "--file-mib", "8", "--check"];
    let program = cargo::build("peerage-demo", &["--release"])?;
    for words in [MESH, RPC] {
        let mut command = Command::new(&program);
        command.args(words);
        cargo::prepare(&mut command);
        cargo::must(&mut command)?;
    }
    Ok(())
}

/// A thousand peers lose nothing, and a small run is the same whoever compiled it.
fn sim() -> Result<()> {
    let fast = cargo::build("peerage-scenarios", &["--release"])?;
    let mut command = Command::new(&fast);
    command.args(["broadcast", "--peers", "1000", "--quiet"]);
    cargo::prepare(&mut command);
    cargo::must(&mut command)?;
    let slow = cargo::build("peerage-scenarios", &[])?;
    let [fast, slow] = [fast, slow].map(|program| {
        let mut command = Command::new(program);
        command.args(["churn", "--peers", "60", "--settle", "5s", "--quiet"]);
        cargo::prepare(&mut command);
        trace(&mut command)
    });
    let (fast, slow) = (fast?, slow?);
    if fast != slow {
        bail!("the same seed went two ways: {fast} optimised, {slow} not");
    }
    Ok(())
}

/// What a run says of the way it went.
fn trace(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting `{}`", cargo::show(command)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let trace = text.lines().find(|line| line.starts_with("trace "));
    trace.map(str::to_owned).with_context(|| {
        format!("`{}` gave no trace: {}", cargo::show(command), String::from_utf8_lossy(&output.stderr))
    })
}

fn test() -> Result<()> {
    let words = readme::test_command()?;
    let (program, arguments) = words.split_first().context("README.md's test command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments);
    cargo::prepare(&mut command);
    cargo::must(&mut command)
}
