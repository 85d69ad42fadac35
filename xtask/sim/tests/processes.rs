//! The program as it is run.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::process::{Command, Output};

fn sim(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peerage-scenarios")).args(arguments.split_whitespace()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The line that says which way the run went.
fn trace(arguments: &str) -> String {
    let output = sim(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo xtask sim {arguments}\n{error}");
    let text = stdout(&output);
    let mut lines = text.lines().filter(|line| line.starts_with("trace "));
    let trace = lines.next().unwrap_or_else(|| panic!("no trace in\n{text}")).to_owned();
    assert_eq!((trace.len(), lines.next()), ("trace ".len() + 64, None));
    trace
}

#[test]
fn the_same_seed_goes_the_same_way_in_two_processes_in_every_scenario() {
    for scenario in [
        "broadcast --peers 40 --settle 5s --warm 1 --broadcasts 3",
        "broadcast --peers 40 --settle 5s --warm 1 --broadcasts 3 --origins 8",
        "crash --peers 40 --settle 5s --fraction 0.5",
        "churn --peers 40 --settle 5s",
        "partition --peers 40 --settle 5s --lasting 10s",
        "sybil --peers 10 --settle 5s --ratio 2",
        "sybil --peers 10 --settle 5s --ratio 2 --attack forger",
    ] {
        let first = trace(&format!("{scenario} --quiet --seed 4"));
        assert_eq!(first, trace(&format!("{scenario} --quiet --seed 4")), "{scenario}");
        assert_ne!(first, trace(&format!("{scenario} --quiet --seed 5")), "{scenario}");
    }
}

#[test]
fn a_run_leaves_figures_for_programs_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (json, plot) = (path("figures.json"), path("curve.svg"));
    let output = sim(&format!(
        "crash --peers 30 --settle 5s --fraction 0.5 --seeds 2 --quiet --json {json} --plot {plot}"
    ));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&json).unwrap();
    let figures: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for metric in
        ["component_after_1", "component_after_5", "delivered", "duplicates", "rmr", "last_hop", "wall"]
    {
        let figure = figures.iter().find(|figure| figure.get("metric").unwrap() == metric);
        let figure = figure.unwrap_or_else(|| panic!("no {metric} in\n{text}"));
        assert_eq!((figure.get("scenario").unwrap(), figure.get("n").unwrap()), (&"crash".into(), &2.into()));
        assert!(figure.get("value").unwrap().is_number(), "{figure}");
    }
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg "));
}

#[test]
fn a_scenario_that_is_none_is_answered_with_those_that_are() {
    let output = sim("brodcast");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    let list = stdout(&sim("--list"));
    for scenario in ["broadcast", "crash", "churn", "partition", "sybil"] {
        assert!(error.contains(scenario) && list.contains(scenario), "{error}\n{list}");
    }
}

#[test]
fn a_goal_that_is_missed_fails_where_that_is_wanted() {
    let run = "sybil --peers 10 --settle 5s --ratio 20 --quiet";
    let output = sim(run);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let missed = String::from_utf8_lossy(&output.stderr).contains("goals missed");
    assert_eq!(sim(&format!("{run} --check")).status.success(), !missed);
}
