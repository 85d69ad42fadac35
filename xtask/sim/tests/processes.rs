//! The program as it is run.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first thing that is not as it should be"
)]

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

fn goes_the_same_way_twice(scenario: &str) {
    let run = format!("{scenario} --settle 5s --quiet --seed 4");
    assert_eq!(trace(&run), trace(&run), "{run}");
}

#[test]
fn a_broadcast_goes_the_same_way_in_two_processes_and_another_seed_another() {
    let scenario = "broadcast --peers 40 --warm 1 --broadcasts 3";
    goes_the_same_way_twice(scenario);
    goes_the_same_way_twice(&format!("{scenario} --origins 8"));
    goes_the_same_way_twice("broadcast --peers 20 --warm 1 --broadcasts 3 --bytes");
    assert_ne!(trace(&format!("{scenario} --seed 4")), trace(&format!("{scenario} --seed 5")));
}

#[test]
fn a_crash_goes_the_same_way_in_two_processes() {
    goes_the_same_way_twice("crash --peers 40 --fraction 0.5");
}

#[test]
fn churn_goes_the_same_way_in_two_processes() {
    goes_the_same_way_twice("churn --peers 30");
}

#[test]
fn a_partition_goes_the_same_way_in_two_processes() {
    goes_the_same_way_twice("partition --peers 30 --lasting 10s");
}

#[test]
fn attacks_go_the_same_way_in_two_processes() {
    goes_the_same_way_twice("sybil --peers 6 --ratio 1 --attack sink");
    goes_the_same_way_twice("sybil --peers 6 --ratio 1 --attack forger");
}

#[test]
fn seeds_that_run_at_a_time_go_the_way_that_they_go_one_after_the_other() {
    let seeds = |jobs: &str| {
        let output = sim(&format!("partition --peers 12 --lasting 5s --settle 5s --seeds 5 --quiet {jobs}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = stdout(&output);
        let lines = text.lines().filter(|line| line.starts_with("seed ") || line.starts_with("trace "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let one_by_one = seeds("");
    assert_eq!((one_by_one.len(), seeds("--jobs 3")), (10, one_by_one.clone()));
    assert_eq!(one_by_one[8], "seed 5");
}

#[test]
fn the_world_can_be_bad_in_every_way_and_goes_the_same_way_twice() {
    let world = "--regions 3 --bandwidth 1M --stalls 0.05 --resets 0.002 --half-open 0.002 --nat 0.3 --skew 1s --drift 100";
    goes_the_same_way_twice(&format!("broadcast --peers 40 --warm 1 --broadcasts 3 {world}"));
    goes_the_same_way_twice(&format!(
        "broadcast --peers 20 --warm 1 --broadcasts 3 --bytes --null-handshake {world}"
    ));
    goes_the_same_way_twice("partition --peers 30 --lasting 10s --one-way");
    goes_the_same_way_twice("churn --peers 30 --store kept");
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
        assert_eq!(
            figure.get("command").unwrap(),
            "cargo xtask sim crash --seed 1 --peers 30 --fraction 0.5 --settle 5s --seeds 2"
        );
    }
    for figure in &figures {
        assert_eq!(
            figure.get("reached").is_some(),
            figure.get("at_least").or(figure.get("at_most")).is_some()
        );
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
    let run = "broadcast --peers 20 --settle 5s --warm 0 --broadcasts 2 --quiet";
    let output = sim(run);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // With no tree yet, the first message comes to many more than once.
    assert!(String::from_utf8_lossy(&output.stderr).contains("goals missed: rmr"));
    assert!(!sim(&format!("{run} --check")).status.success());
    let output =
        sim("broadcast --peers 2 --settle 5s --warm 1 --broadcasts 2 --payload 8192 --quiet --check");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_was_asked_for_and_cannot_be_is_said_and_not_kept_as_a_fault_of_the_mesh() {
    let output = sim("churn --peers 20 --session 1s --quiet");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("sessions are too short"), "{error}");
    assert!(!error.contains("kept in"), "{error}");
}
