//! Makes `crates/peerage-wire/src/generated` from `proto/`. `--check` compares instead of writing.
//!
//! protox parses and prost-build writes, so nobody who builds Peerage needs `protoc`: the output is committed.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the output is, from the workspace's root.
const GENERATED: &str = "crates/peerage-wire/src/generated";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        other => bail!("unknown arguments `{}`; usage: cargo xtask codegen [--check]", other.join(" ")),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().context("the workspace's root")?;
    let committed = root.join(GENERATED);
    // A folder of its own: two of these may run at once.
    let scratch = root.join(format!("target/codegen-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let fresh = generate(&root, &scratch).and_then(|()| read_all(&scratch));
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    let fresh = fresh?;
    let old = read_all(&committed)?;
    if fresh == old {
        println!("generated code is up to date: {} files", fresh.len());
        return Ok(());
    }
    if check {
        let names: BTreeSet<_> = fresh.keys().chain(old.keys()).collect();
        let differing: Vec<_> = names.into_iter().filter(|name| fresh.get(*name) != old.get(*name)).collect();
        bail!(
            "generated code differs from proto/ in {}; run `cargo xtask codegen` and commit the result",
            differing.into_iter().cloned().collect::<Vec<_>>().join(", ")
        );
    }
    fs::create_dir_all(&committed)?;
    for name in old.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(committed.join(name))?;
    }
    for (name, text) in &fresh {
        fs::write(committed.join(name), text)?;
    }
    println!("wrote {} files to {GENERATED}", fresh.len());
    Ok(())
}

fn generate(root: &Path, out: &Path) -> Result<()> {
    let mut files = Vec::new();
    let proto = root.join("proto");
    collect(&proto, &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [&proto]).context("parsing proto/")?;
    let mut config = prost_build::Config::new();
    config
        .out_dir(out)
        .bytes(["."])
        .btree_map(["."])
        .compile_fds(descriptors)
        .context("writing Rust from the descriptors")?;
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        let status = std::process::Command::new("rustfmt")
            .args(["--edition", "2024", "--config-path"])
            .arg(root)
            .arg(&path)
            .status()
            .context("running rustfmt, which comes with the Rust toolchain")?;
        if !status.success() {
            bail!("rustfmt failed on {}", path.display());
        }
    }
    Ok(())
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|ending| ending == "proto") {
            into.push(path);
        }
    }
    Ok(())
}

fn read_all(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).context("a file name that is not UTF-8")?;
        files.insert(name.to_owned(), fs::read_to_string(&path)?);
    }
    Ok(files)
}
