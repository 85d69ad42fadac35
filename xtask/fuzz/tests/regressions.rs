//! What fuzzers found once, and the seeds that they start from.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::path::{Path, PathBuf};

use peerage_fuzz::{TARGETS, Target};

fn inputs(kind: &str, name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(kind).join(name);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn run(name: &str) {
    let target: Target = TARGETS.iter().find(|(known, _)| *known == name).unwrap().1;
    let seeds = inputs("seeds", name);
    assert!(!seeds.is_empty(), "`{name}` has no seeds");
    for file in seeds.into_iter().chain(inputs("regressions", name)) {
        println!("{}", file.display());
        let bytes = std::fs::read(file).unwrap();
        target(&bytes);
        // And each beginning of it.
        (0..bytes.len().min(64)).for_each(|end| target(bytes.get(..end).unwrap()));
    }
}

#[test]
fn boxes_hold() {
    run("boxes");
}

#[test]
fn frames_hold() {
    run("frames");
}

#[test]
fn handshakes_hold() {
    run("handshake");
}

#[test]
fn links_hold() {
    run("link_input");
}

#[test]
fn messages_hold() {
    run("messages");
}

#[test]
fn reconciliations_hold() {
    run("reconcile");
}

#[test]
fn records_hold() {
    run("records");
}

#[test]
fn each_target_has_its_fuzzer() {
    let manifest =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "`{name}` is not in fuzz/Cargo.toml");
    }
}
