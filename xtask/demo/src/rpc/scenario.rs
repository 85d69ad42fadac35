//! The scenario from its beginning to its end.

use std::time::Instant;

use anyhow::{Context, Result};

use super::hall::Hall;
use super::outcome::{Outcome, Size};
use super::{steps, storm};
use crate::Ending;
use crate::cli::Options;
use crate::draw::Draw;
use crate::figures;
use crate::interrupt::interrupted;
use crate::progress::{Progress, say};
use crate::report::Check;

/// How much of a node's log is followed.
const LINES: u64 = 200_000;

/// Runs the scenario, shows its result, and leaves no process behind however it ends.
pub(crate) async fn run(options: &Options, seed: u64) -> Result<Ending> {
    // Dropped processes are killed, whatever they are at.
    let outcome = tokio::select! {
        biased;
        signal = interrupted() => {
            let signal = signal?;
            say("interrupted; every process has been ended");
            return Ok(Ending::Interrupted(signal));
        }
        outcome = show(options, seed) => outcome.context("rpc")?,
    };
    crate::show(&outcome.to_string())?;
    let figures = outcome.figures();
    if let Some(path) = &options.json {
        figures::append(path, "demo_rpc", &figures)?;
    }
    if outcome.failed().next().is_none() {
        return Ok(Ending::Passed(figures));
    }
    for check in outcome.failed() {
        let fault = check.faults.first().map_or("", String::as_str);
        say(&format!("error: this failed: {}: {fault}", check.claim));
    }
    Ok(Ending::Failed(figures))
}

async fn show(options: &Options, seed: u64) -> Result<Outcome> {
    let (clients, nodes, cuts, mib) = (options.clients, options.nodes, options.cuts, options.file_mib);
    // Each client writes as many as every other.
    let each = options.notes / clients as u64;
    let size = Size { seed, clients, nodes, notes: each * clients as u64, lines: LINES, mib };
    let mut draw = Draw::new(seed);
    let mut progress = Progress::new(options.check);
    progress
        .note(&format!("rpc: a broker, {nodes} nodes and {clients} clients, each a process; --seed {seed}"));
    let mut checks = Vec::new();
    let mut check = |claim: String, faults: Vec<String>| checks.push(Check::new(claim, faults));

    let start = Instant::now();
    let mut hall = Hall::begin().await?;
    progress.note(&format!("the broker listens at {}; everybody else is invited", hall.address));
    let faults = steps::enrol(&mut hall, nodes, clients).await?;
    let enrolled = start.elapsed();
    check(
        format!("{} keys, made in their own processes, enrolled with a token each", nodes + clients),
        faults.enrol,
    );
    check("a token that was used is good for nobody else".to_owned(), faults.used);
    check("nobody acts before the administrator confirms the account".to_owned(), faults.early);
    let (proxies, connect) = steps::connect(&hall).await?;
    let there: Vec<_> = hall.nodes.iter().collect();
    check(format!("every user is offered the {nodes} nodes"), steps::offers(&hall, &there).await?);
    progress.note(&format!("all are confirmed and connected after {:.2} s", start.elapsed().as_secs_f64()));

    let mut divided = steps::divide(&hall).await?;
    check("every division came back right, from every node".to_owned(), std::mem::take(&mut divided.faults));
    check(
        "every division by zero came back as an invalid argument".to_owned(),
        std::mem::take(&mut divided.zero),
    );
    check(
        "sealed divisions, which the broker cannot read, came back right".to_owned(),
        std::mem::take(&mut divided.sealed),
    );
    progress.note(&format!("users divide at nodes they know by key: {:.0} per second", divided.rate));
    let tail = steps::tail(&hall, LINES).await?;
    check(format!("all {LINES} lines of a node's log came by a channel, in order"), Vec::new());
    progress.note(&format!("a user has followed a node's log: {tail:.0} lines per second"));
    let mut sent = steps::file(&hall, mib, seed).await?;
    check(format!("a file of {mib} MiB came to a node and back as it was"), std::mem::take(&mut sent.faults));
    progress.note(&format!("a file of {mib} MiB went to a node at {:.0} MiB/s, and back", sent.there));
    let mut killed = steps::kill(&hall).await?;
    check(
        "calls to a node that was killed failed, and said whether they ran".to_owned(),
        std::mem::take(&mut killed.faults),
    );
    check("calls to the other nodes went on".to_owned(), std::mem::take(&mut killed.others));
    let name = hall.nodes.pop().map(|node| node.name).unwrap_or_default();
    progress.note(&format!("{name} was killed; the others go on"));

    let first_memory = hall.broker.memory().await;
    let weather = storm::Weather::draw(&mut draw, clients, each, cuts);
    let pace = options.rate.ceil() as u64;
    progress.note(&format!(
        "each user writes {each} notes, is cut off {cuts} times, and the broker is killed on the way"
    ));
    let mut after = storm::write(&mut hall, &proxies, (each, pace), weather, &mut progress).await?;
    check("no session was lost, and no note refused".to_owned(), std::mem::take(&mut after.faults));
    let kept = storm::compare(&hall, each).await?;
    check(format!("all {} notes are there, each with its user, once and in order", size.notes), kept);
    let there: Vec<_> = hall.nodes.iter().collect();
    check("the nodes are there again, by the second broker".to_owned(), steps::offers(&hall, &there).await?);
    let memory = [first_memory, hall.broker.memory().await];
    check("every process closed in good order and was reaped".to_owned(), hall.close().await);
    progress.finish();
    Ok(Outcome { checks, size, enrolled, connect, divided, tail, sent, killed, storm: after, memory })
}
