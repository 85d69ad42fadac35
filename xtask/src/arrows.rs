//! The house's arrows: a crate uses only floors below its own. The table is the one of docs/architecture.md.

use anyhow::{Result, bail};
use serde_json::Value;

/// On which floor each crate lives. Neighbours on a floor never use each other.
const FLOORS: &[(&str, u8)] = &[
    ("peerage-wire", 0),
    ("peerage-machine", 1),
    ("peerage-identity", 1),
    ("peerage-reconcile", 1),
    ("peerage-store", 1),
    ("peerage-link", 2),
    ("peerage-net", 3),
    ("peerage-sim", 3),
    ("peerage-overlay", 4),
    ("peerage-dht", 4),
    ("peerage-rpc", 4),
    ("peerage-rpc-build", 4),
    ("peerage-community", 5),
    ("peerage", 6),
    ("peerage-cli", 7),
    ("peerage-codegen", 7),
    ("peerage-demo", 7),
    ("peerage-bench", 7),
    ("peerage-fuzz", 7),
    ("peerage-scenarios", 7),
    ("peerage-examples", 7),
    ("xtask", 7),
];

/// All that the simulator may know: it hosts any machine, and no protocol.
const SIM_USES: &[&str] = &["peerage-wire", "peerage-machine", "peerage-link"];

/// The floor of the programs.
const APPS: u8 = 7;

/// One line under a `[dependencies]`, from one of our crates to another.
#[derive(Clone, Debug, PartialEq)]
struct Arrow {
    from: String,
    to: String,
    dev: bool,
}

/// Checks every package of `cargo metadata`; returns how many arrows there are.
pub(crate) fn check(packages: &[Value]) -> Result<usize> {
    let names: Vec<_> = packages.iter().filter_map(|package| package.get("name")?.as_str()).collect();
    let arrows = arrows(packages, &names);
    let mut wrong: Vec<String> =
        names.iter().filter(|name| floor(name).is_none()).map(|name| homeless(name)).collect();
    wrong.extend(arrows.iter().filter_map(forbidden));
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n       "));
    }
    Ok(arrows.len())
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

fn homeless(name: &str) -> String {
    format!("`{name}` lives on no floor: give it one in xtask/src/arrows.rs")
}

fn arrows(packages: &[Value], names: &[&str]) -> Vec<Arrow> {
    let mut arrows = Vec::new();
    for package in packages {
        let Some(from) = package.get("name").and_then(Value::as_str) else { continue };
        for dependency in package.get("dependencies").and_then(Value::as_array).into_iter().flatten() {
            let Some(to) = dependency.get("name").and_then(Value::as_str) else { continue };
            if names.contains(&to) {
                let dev = dependency.get("kind").and_then(Value::as_str) == Some("dev");
                arrows.push(Arrow { from: from.to_owned(), to: to.to_owned(), dev });
            }
        }
    }
    arrows
}

/// Why the arrow may not be, if so. Unknown crates are reported elsewhere.
fn forbidden(Arrow { from, to, dev }: &Arrow) -> Option<String> {
    let (above, below) = (floor(from)?, floor(to)?);
    let section = if *dev { "dev-dependencies" } else { "dependencies" };
    if above <= below {
        return Some(format!(
            "{from} (floor {above}) has {to} (floor {below}) under [{section}]: a crate uses only floors below its own"
        ));
    }
    if from == "peerage-sim" && !SIM_USES.contains(&to.as_str()) {
        return Some(format!(
            "peerage-sim has {to} under [{section}]: it may use only {}",
            SIM_USES.join(", ")
        ));
    }
    if to == "peerage-sim" && !dev && above < APPS {
        return Some(format!(
            "{from} has peerage-sim under [dependencies]: it belongs under [dev-dependencies]"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let list: Vec<_> = dependencies
            .iter()
            .map(|(name, kind)| json!({ "name": name, "kind": kind, "path": "x" }))
            .collect();
        json!({ "name": name, "dependencies": list })
    }

    fn house(from: &str, to: &str, kind: Option<&str>) -> Result<usize> {
        check(&[package(from, &[(to, kind), ("bytes", None)]), package(to, &[])])
    }

    #[test]
    fn an_arrow_down_is_allowed() {
        assert_eq!(house("peerage-overlay", "peerage-net", None).unwrap(), 1);
        assert_eq!(house("peerage-overlay", "peerage-sim", Some("dev")).unwrap(), 1);
        assert_eq!(house("peerage-sim", "peerage-link", None).unwrap(), 1);
    }

    #[test]
    fn an_arrow_up_is_caught_in_every_section() {
        for kind in [None, Some("dev"), Some("build")] {
            let error = house("peerage-link", "peerage-net", kind).unwrap_err().to_string();
            assert!(error.contains("peerage-link (floor 2) has peerage-net (floor 3)"), "{error}");
        }
    }

    #[test]
    fn neighbours_on_a_floor_may_not_use_each_other() {
        assert!(house("peerage-dht", "peerage-overlay", None).is_err());
        assert!(house("peerage-net", "peerage-sim", Some("dev")).is_err());
    }

    #[test]
    fn the_simulator_knows_no_more_than_machines_and_links() {
        let error = house("peerage-sim", "peerage-identity", None).unwrap_err().to_string();
        assert!(error.contains("it may use only"), "{error}");
    }

    #[test]
    fn the_simulator_is_for_tests() {
        assert!(house("peerage-overlay", "peerage-sim", None).is_err());
        assert!(house("peerage-bench", "peerage-sim", None).is_ok());
    }

    #[test]
    fn a_crate_on_no_floor_is_caught() {
        let error = check(&[package("peerage-gossip", &[])]).unwrap_err().to_string();
        assert!(error.contains("`peerage-gossip` lives on no floor"), "{error}");
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let error = check(&[package("a", &[]), package("b", &[])]).unwrap_err().to_string();
        assert!(error.contains("`a`") && error.contains("`b`"), "{error}");
    }
}
