//! The mesh, shown: processes find each other from one contact, one of them broadcasts a text, some are killed and others
//! join while it is on its way, and every line must reach everybody.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

use crate::Ending;
use crate::check::Expected;
use crate::cli::Options;
use crate::draw::Draw;
use crate::figures;
use crate::interrupt::interrupted;
use crate::network::{Fate, Network};
use crate::progress::{Progress, say};
use crate::protocol::Command;
use crate::report::{Check, Measured, Outcome};

/// What each step may take before the demo gives up on it. Generous: a loaded machine is no failure, silence is.
const START: Duration = Duration::from_secs(30);
const FORM: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(15);
const MEND: Duration = Duration::from_secs(30);
const CLOSE: Duration = Duration::from_secs(20);

/// The text counts as lost when nobody received anything new for this long.
const STALL: Duration = Duration::from_secs(20);

/// How long to go on listening when everything is there: a line that comes twice may come late.
const LINGER: Duration = Duration::from_millis(500);

/// Runs the scenario, shows its result, and leaves no process behind however it ends.
pub(crate) async fn run(options: &Options, seed: u64) -> Result<Ending> {
    let mut network = Network::new();
    let ran = tokio::select! {
        biased;
        signal = interrupted() => signal.map(Err),
        outcome = show(&mut network, options, seed) => outcome.map(Ok),
    };
    let outcome = match ran {
        Ok(outcome) => outcome,
        Err(error) => {
            network.reap(Duration::ZERO).await;
            for line in network.printed() {
                say(&line);
            }
            return Err(error).context("mesh");
        }
    };
    let ended_badly = network.reap(CLOSE).await;
    let mut outcome = match outcome {
        Ok(outcome) => outcome,
        Err(signal) => {
            say("interrupted; every process has been ended");
            return Ok(Ending::Interrupted(signal));
        }
    };
    outcome.checks.push(Check::new("every process closed in good order and was reaped", ended_badly));
    crate::show(&outcome.to_string())?;
    if options.counters {
        crate::show(&format!("counted by all peers together\n{}", outcome.counters()))?;
    }
    let figures = outcome.figures();
    if let Some(path) = &options.json {
        figures::append(path, "demo_mesh", &figures)?;
    }
    if outcome.has_passed() {
        return Ok(Ending::Passed(figures));
    }
    for check in outcome.failed() {
        let fault = check.faults.first().map_or("", String::as_str);
        say(&format!("error: this failed: {}: {fault}", check.claim));
    }
    Ok(Ending::Failed(figures))
}

/// Something that happens to the network while the text is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// This peer is killed.
    Kill(usize),
    /// One more peer joins, through this one.
    Join(usize),
}

/// What the seed decides.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Who broadcasts.
    origin: usize,
    /// Who is killed.
    victims: Vec<usize>,
    /// What happens after how many lines, in order; all within the middle three fifths of the text.
    turns: VecDeque<(usize, Turn)>,
}

impl Plan {
    fn draw(seed: u64, peers: usize, kill: usize, join: usize, lines: usize) -> Self {
        let mut draw = Draw::new(seed);
        let mut steady: Vec<_> = (0..peers).collect();
        let mut victims: Vec<_> = (0..kill).filter_map(|_| draw.take(&mut steady)).collect();
        steady.sort_unstable();
        let one_of = |draw: &mut Draw| steady.get(draw.below(steady.len())).copied().unwrap_or(0);
        let origin = one_of(&mut draw);
        let mut turns: Vec<_> = victims.iter().map(|victim| Turn::Kill(*victim)).collect();
        turns.extend((0..join).map(|_| Turn::Join(one_of(&mut draw))));
        let mut turns: Vec<_> =
            turns.into_iter().map(|turn| (lines / 5 + draw.below(lines * 3 / 5), turn)).collect();
        turns.sort_by_key(|(line, _)| *line);
        victims.sort_unstable();
        Self { origin, victims, turns: turns.into() }
    }
}

async fn show(network: &mut Network, options: &Options, seed: u64) -> Result<Outcome> {
    let input = options.input();
    let lines = input.read()?;
    let plan = Plan::draw(seed, options.peers, options.kill, options.join(), lines.len());
    let mut progress = Progress::new(options.check);
    progress.note(&format!(
        "mesh: {} processes, {} lines of {}; {} killed and {} joining on the way; --seed {seed}",
        options.peers,
        lines.len(),
        input.name(),
        options.kill,
        options.join(),
    ));

    let (up, formed) = form(network, options.peers, &plan, &progress).await?;
    let baseline = stats(network).await?;
    let started = Instant::now();
    network.tell(plan.origin, &Command::Broadcast(input, options.rate)).await;
    progress.note(&format!("{} broadcasts at {} lines/s", network.name(plan.origin), options.rate));
    let stall = STALL + Duration::from_secs_f64((2.0 / options.rate).min(3600.0));
    let sending = stream(network, &plan, lines.len(), stall, &mut progress).await?.duration_since(started);
    linger(network).await?;
    let cracks = mend(network).await?;
    stats(network).await?;
    let memory = network.memory();
    close(network).await?;
    progress.finish();

    let measured =
        Measured { seed, peers: options.peers, origin: plan.origin, up, formed, sending, baseline, memory };
    let mut outcome = Outcome::new(network, &Expected::new(&lines), measured);
    if options.kill > 0 {
        outcome.checks.push(Check::new("the mesh closed over the killed peers", cracks));
    }
    Ok(outcome)
}

/// Starts the processes and waits until each has a neighbour and all are connected. Returns how long the processes took
/// to be up, and how long all of it took.
async fn form(
    network: &mut Network,
    peers: usize,
    plan: &Plan,
    progress: &Progress,
) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    for number in 0..peers {
        let fate = if plan.victims.contains(&number) { Fate::Dies } else { Fate::Stays };
        network.start(fate, None)?;
    }
    let what = "every process to listen";
    network
        .until(what, START, |network| network.lacking("does not listen", |peer| peer.address.is_some()))
        .await?;
    let up = start.elapsed();
    progress.note(&format!("{peers} processes listen after {:.2} s; all join at once", up.as_secs_f64()));

    let contact =
        network.peer(0).and_then(|peer| peer.address.clone()).context("the contact has no address")?;
    for number in 1..peers {
        network.tell(number, &Command::Join(contact.clone())).await;
    }
    let what = "the mesh to form";
    let lacks = |network: &Network| {
        let mut lacks =
            network.lacking("has no neighbour", |peer| peer.ready.is_some() && !peer.neighbours.is_empty());
        lacks.extend(network.cracks());
        lacks
    };
    network.until(what, FORM, lacks).await?;
    let formed = start.elapsed();
    progress.note(&format!("the mesh is whole after {:.2} s", formed.as_secs_f64()));
    Ok((up, formed))
}

/// Asks every living peer what has gone over the wire; returns the bytes sent, by number.
async fn stats(network: &mut Network) -> Result<Vec<u64>> {
    let alive: Vec<_> = network.alive().map(|(number, _)| number).collect();
    for number in alive {
        network.tell(number, &Command::Stats).await;
    }
    let what = "every peer to say what went over the wire";
    network
        .until(what, ANSWER, |network| network.lacking("does not say", |peer| peer.stats.is_some()))
        .await?;
    Ok(network.peers().map(|(_, peer)| peer.bytes_sent()).collect())
}

/// Follows the text until it is everywhere, or nothing new comes for too long; what is missing then is for the checks to
/// say. Returns when the last line was sent.
async fn stream(
    network: &mut Network,
    plan: &Plan,
    lines: usize,
    stall: Duration,
    progress: &mut Progress,
) -> Result<Instant> {
    let mut turns = plan.turns.clone();
    let mut doomed = Vec::new();
    let mut newest = (0, Instant::now());
    let mut all_sent = None;
    progress.steps(lines);
    loop {
        if network.next(newest.1 + stall).await?.is_none() {
            return Ok(all_sent.unwrap_or_else(Instant::now));
        }
        let sent = network.peer(plan.origin).map_or(0, |peer| peer.sent);
        if sent == lines && all_sent.is_none() {
            all_sent = Some(Instant::now());
        }
        while turns.front().is_some_and(|(line, _)| *line <= sent)
            && let Some((_, turn)) = turns.pop_front()
        {
            match turn {
                Turn::Kill(victim) => {
                    // Its last words are what it put on the wire; then it dies.
                    network.tell(victim, &Command::Stats).await;
                    doomed.push(victim);
                }
                Turn::Join(through) => {
                    let contact = network.peer(through).and_then(|peer| peer.address.clone());
                    let number = network.start(Fate::Joins, contact)?;
                    progress
                        .note(&format!("line {sent}: peer {number} joins through {}", network.name(through)));
                }
            }
        }
        let has_spoken = |victim: &mut usize| network.peer(*victim).is_some_and(|peer| peer.stats.is_some());
        for victim in doomed.extract_if(.., has_spoken).collect::<Vec<_>>() {
            network.kill(victim)?;
            progress.note(&format!("line {sent}: killed {}", network.name(victim)));
        }
        let receivers = || {
            network.alive().filter(|(number, _)| *number != plan.origin).map(|(_, peer)| peer.distinct.len())
        };
        let received = receivers().sum::<usize>() + sent;
        if received != newest.0 {
            newest = (received, Instant::now());
        }
        let slowest = receivers().min().unwrap_or(0);
        // The bar is of those that stay: one that joins begins with nothing, and a bar that jumps back looks like a loss.
        let staying =
            network.alive().filter(|(number, peer)| *number != plan.origin && peer.fate == Fate::Stays);
        let staying = staying.map(|(_, peer)| peer.distinct.len()).min().unwrap_or(0);
        progress.at(staying, || format!("{sent} lines sent, {slowest} everywhere"));
        if let Some(all_sent) = all_sent
            && turns.is_empty()
            && doomed.is_empty()
            && slowest >= lines
        {
            return Ok(all_sent);
        }
    }
}

/// Goes on listening for a moment.
async fn linger(network: &mut Network) -> Result<()> {
    let deadline = Instant::now() + LINGER;
    while network.next(deadline).await?.is_some() {}
    Ok(())
}

/// Waits until the mesh is whole again; returns what still keeps it from being so when that takes too long.
async fn mend(network: &mut Network) -> Result<Vec<String>> {
    let deadline = Instant::now() + MEND;
    while !network.cracks().is_empty() && network.next(deadline).await?.is_some() {}
    Ok(network.cracks())
}

async fn close(network: &mut Network) -> Result<()> {
    let alive: Vec<_> = network.alive().map(|(number, _)| number).collect();
    for number in &alive {
        network.tell(*number, &Command::Close).await;
    }
    let lacks = |network: &Network| {
        let open = |number: &&usize| network.peer(**number).is_some_and(|peer| peer.closed.is_none());
        alive.iter().filter(open).map(|number| format!("{}: does not close", network.name(*number))).collect()
    };
    network.until("every peer to close", CLOSE, lacks).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_and_the_contacts_are_never_victims() {
        for seed in 0..200 {
            let plan = Plan::draw(seed, 5, 3, 3, 1000);
            assert_eq!(plan.victims.len(), 3, "seed {seed}");
            assert!(!plan.victims.contains(&plan.origin), "seed {seed}");
            let joins = plan.turns.iter().filter_map(|(_, turn)| match turn {
                Turn::Join(through) => Some(*through),
                Turn::Kill(_) => None,
            });
            assert!(joins.into_iter().all(|through| !plan.victims.contains(&through)), "seed {seed}");
        }
    }

    #[test]
    fn everything_happens_in_order_while_the_text_is_on_its_way() {
        for seed in 0..200 {
            let turns = Plan::draw(seed, 12, 2, 2, 1000).turns;
            assert_eq!(turns.len(), 4, "seed {seed}");
            assert!(turns.iter().is_sorted_by_key(|(line, _)| *line), "seed {seed}");
            assert!(turns.iter().all(|(line, _)| (200..800).contains(line)), "seed {seed}");
        }
    }

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(Plan::draw(3, 12, 2, 2, 1000), Plan::draw(3, 12, 2, 2, 1000));
        assert_ne!(Plan::draw(3, 12, 2, 2, 1000), Plan::draw(4, 12, 2, 2, 1000));
    }
}
