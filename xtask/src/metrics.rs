//! `docs/metrics.md` names every counter, and no other. Its tables of reasons are for a test of `peerage-net`, which has them
//! as its recorder does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Where the page is.
const PAGE: &str = "docs/metrics.md";
/// How the names of all counters begin.
const FAMILIES: &[&str] = &["peerage_", "mesh_", "rpc_"];
/// What begins so, and is the name of a field.
const OTHERS: &[&str] = &["rpc_path"];

/// Compares the page with the sources of the crates; returns how many names there are.
pub(crate) fn check(root: &Path) -> Result<usize> {
    let mut names = BTreeSet::new();
    sources(&root.join("crates"), &mut |text| names.extend(named(text)))?;
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("reading {PAGE}"))?;
    let told = quoted(&page);
    let missing: Vec<_> = names.difference(&told).map(|name| format!("`{name}` is not in {PAGE}")).collect();
    let gone = told.difference(&names).filter(|name| is_counter(name));
    let wrong: Vec<_> =
        gone.map(|name| format!("`{name}` of {PAGE} is nowhere counted")).chain(missing).collect();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n       "));
    }
    Ok(names.len())
}

/// The names that a source counts by.
fn named(source: &str) -> BTreeSet<String> {
    // Tests count under names of their own.
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    source.split('"').skip(1).step_by(2).filter(|literal| is_counter(literal)).map(str::to_owned).collect()
}

fn is_counter(literal: &str) -> bool {
    let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_of_family = FAMILIES.iter().any(|family| literal.starts_with(family));
    is_of_family && literal.chars().all(name) && !OTHERS.contains(&literal)
}

/// What the page has between backticks.
fn quoted(page: &str) -> BTreeSet<String> {
    page.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

fn sources(folder: &Path, read: &mut impl FnMut(&str)) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "tests" | "generated" | "target" | "examples") {
                sources(&path, read)?;
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            read(&fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_are_counted() {
        let source = r#"
            out.count("mesh_stale_total", 1);
            count(if pulled { "mesh_pulls_total" } else { "mesh_pushes_total" });
            metrics::counter!("peerage_links_up_total").increment(1);
            if is_long { out.count("rpc_long_offers_total", 1) }
            let other = ("mesh of 12", "rpc_path");
            #[cfg(test)] mod tests { count("mesh_in_a_test"); }"#;
        let names = named(source);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "mesh_pulls_total",
                "mesh_pushes_total",
                "mesh_stale_total",
                "peerage_links_up_total",
                "rpc_long_offers_total"
            ]
        );
    }

    #[test]
    fn the_page_is_read_between_backticks() {
        assert_eq!(quoted("| `a` and `b_c` |\n`d"), ["a", "b_c", "d"].map(str::to_owned).into());
    }
}
