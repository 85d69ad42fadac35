//! What happens before the storm, step by step. Each gives what it measured, and what was not as it should be.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::child::Role;
use super::hall::{Hall, Member, all, code, list, number, text};
use super::proxy::Proxy;
use crate::figures::Sample;

/// What dividing, tailing and sending a file may take.
const WORK: Duration = Duration::from_secs(120);

/// Until a node that was killed is known to have gone.
const GONE: Duration = Duration::from_secs(10);

/// How often each client divides one at a time, and then at once, and how many at once.
const ONE_BY_ONE: u64 = 200;
const AT_ONCE: (u64, u64) = (2_000, 64);

/// How often each client divides at each node by a call that is sealed.
const SEALED: u64 = 100;

/// How long a call to a node that is not there may take.
pub(super) const AT_ONCE_MICROS: u64 = 500_000;

/// Members in the making: their processes, and what is wrong with how they were let in.
#[derive(Default)]
pub(super) struct Faults {
    /// Of those who enrolled.
    pub(super) enrol: Vec<String>,
    /// Of used tokens.
    pub(super) used: Vec<String>,
    /// Of those who were not confirmed yet.
    pub(super) early: Vec<String>,
}

/// Starts processes for nodes and clients; each enrols with a token of its own, tries to act too early, is confirmed.
pub(super) async fn enrol(hall: &mut Hall, nodes: usize, clients: usize) -> Result<Faults> {
    let folder = hall.folder.path().to_owned();
    let starts = |role: Role, kind: &'static str, count: usize| {
        let folder = &folder;
        (0..count).map(move |at| Ok((kind, Member::start(role, &format!("{kind} {at}"), folder)?)))
    };
    let started: Result<Vec<_>> =
        starts(Role::Node, "node", nodes).chain(starts(Role::Client, "client", clients)).collect();
    let (broker, address) = (&hall.broker, &hall.address);
    let enrolled =
        all(started?.into_iter().map(|(kind, member)| admit(broker, address, kind, member))).await?;
    let mut faults = Faults::default();
    for (kind, member, one) in enrolled {
        faults.enrol.extend(one.enrol);
        faults.used.extend(one.used);
        faults.early.extend(one.early);
        if kind == "node" { &mut hall.nodes } else { &mut hall.clients }.push(member);
    }
    let members = || hall.nodes.iter().chain(&hall.clients);
    for (at, member) in members().enumerate() {
        if members().take(at).any(|other| other.key == member.key) {
            faults.enrol.push(format!("{} has somebody else's key", member.name));
        }
    }
    Ok(faults)
}

async fn admit(
    broker: &Member,
    address: &str,
    kind: &'static str,
    mut member: Member,
) -> Result<(&'static str, Member, Faults)> {
    let mut faults = Faults::default();
    let name = member.name.clone();
    let invite = broker.ask("invite", json!({ "kind": kind, "label": name })).await?;
    let invite = text(&invite, "invite")?;
    let enrolled = member.ask("enrol", json!({ "home": member.home, "invite": invite })).await?;
    let Ok(key) = text(&enrolled, "key") else {
        faults.enrol.push(format!("{name} was not let in: {enrolled}"));
        return Ok((kind, member, faults));
    };
    member.key = key.to_owned();
    // Another key with the same token, as of somebody who has found it.
    let thief = member.home.with_extension("thief");
    let stolen = member.ask("enrol", json!({ "home": thief, "invite": invite })).await?;
    if stolen.get("refused").and_then(code) != Some("permission denied") {
        faults.used.push(format!("{name}: {stolen}"));
    }
    let early = member.ask("connect", json!({ "home": member.home, "address": address })).await?;
    if early.get("refused").and_then(code) != Some("permission denied") {
        faults.early.push(format!("{name}: {early}"));
    }
    broker.ask("confirm", json!({ "key": member.key })).await?;
    Ok((kind, member, faults))
}

/// Connects everybody, clients by roads that can be cut; how long each took, in microseconds.
pub(super) async fn connect(hall: &Hall) -> Result<(Vec<Proxy>, Sample)> {
    let proxies = all(hall.clients.iter().map(|_| Proxy::to(&hall.address))).await?;
    let roads = proxies.iter().map(Proxy::address);
    let direct = std::iter::repeat_n(hall.address.clone(), hall.nodes.len());
    let ways = hall.nodes.iter().zip(direct).chain(hall.clients.iter().zip(roads));
    let connected = all(ways.map(|(member, address)| async move {
        let answer = member.ask("connect", json!({ "home": member.home, "address": address })).await?;
        number(&answer, "micros").with_context(|| member.name.clone())
    }))
    .await?;
    Ok((proxies, Sample::new(connected)))
}

/// Waits until every client is offered so many nodes; which are others than there are.
pub(super) async fn offers(hall: &Hall, nodes: &[&Member]) -> Result<Vec<String>> {
    let offered =
        all(hall.clients.iter().map(|client| client.ask("nodes", json!({ "count": nodes.len() })))).await?;
    let mut faults = Vec::new();
    for (client, offered) in hall.clients.iter().zip(&offered) {
        let keys = list(offered, "keys")?;
        for node in nodes.iter().filter(|node| !keys.iter().any(|key| key.as_str() == Some(&node.key))) {
            faults.push(format!("{} is not offered {}", client.name, node.name));
        }
    }
    Ok(faults)
}

/// What divisions took.
pub(super) struct Divided {
    /// One at a time, in microseconds each.
    pub(super) alone: Sample,
    /// All clients together, many at a time, per second.
    pub(super) rate: f64,
    pub(super) faults: Vec<String>,
    /// Of divisions by zero.
    pub(super) zero: Vec<String>,
    /// Of calls that the broker cannot read.
    pub(super) sealed: Vec<String>,
}

/// Every client divides at every node by its key, then all at once at any node, and then by zero.
pub(super) async fn divide(hall: &Hall) -> Result<Divided> {
    let (mut alone, mut faults, mut zero, mut sealed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for client in &hall.clients {
        for node in &hall.nodes {
            let ask =
                json!({ "node": node.key, "times": ONE_BY_ONE / hall.nodes.len() as u64, "at_once": 1 });
            let divided = client.ask_within(WORK, "divide", ask).await?;
            alone.extend(list(&divided, "micros")?.iter().filter_map(Value::as_u64));
            faults.extend(list(&divided, "faults")?.iter().map(Value::to_string));
            let ask = json!({ "node": node.key, "times": SEALED, "at_once": 8, "sealed": 1 });
            let divided = client.ask_within(WORK, "divide", ask).await?;
            sealed.extend(list(&divided, "faults")?.iter().map(Value::to_string));
            let by_zero = client.ask("by zero", json!({ "node": node.key })).await?;
            let status = by_zero.get("status").unwrap_or(&Value::Null);
            if code(status) != Some("invalid argument") || text(status, "message")? != "division by zero" {
                zero.push(format!("{} at {}: {by_zero}", client.name, node.name));
            }
        }
    }
    let (times, at_once) = AT_ONCE;
    let start = Instant::now();
    let divided = all(hall
        .clients
        .iter()
        .map(|client| client.ask_within(WORK, "divide", json!({ "times": times, "at_once": at_once }))))
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    for divided in &divided {
        faults.extend(list(divided, "faults")?.iter().map(Value::to_string));
    }
    let rate = (times * hall.clients.len() as u64) as f64 / seconds.max(1e-6);
    Ok(Divided { alone: Sample::new(alone), rate, faults, zero, sealed })
}

/// A client follows a node's log; lines per second.
pub(super) async fn tail(hall: &Hall, lines: u64) -> Result<f64> {
    let (client, node) = first(hall)?;
    let ask = json!({ "node": node.key, "lines": lines });
    let tailed = client.ask_within(WORK, "tail", ask).await?;
    Ok(lines as f64 / (number(&tailed, "micros")? as f64 / 1e6).max(1e-6))
}

/// What became of the file.
pub(super) struct Sent {
    /// To the node, and to both, in MiB/s.
    pub(super) there: f64,
    pub(super) back: f64,
    /// Each way that it is not the same.
    pub(super) faults: Vec<String>,
}

/// A client sends a file to a node and takes it back.
pub(super) async fn file(hall: &Hall, mib: u64, seed: u64) -> Result<Sent> {
    let (client, node) = first(hall)?;
    let path = client.home.with_extension("file");
    let ask = json!({ "node": node.key, "path": path, "mib": mib, "seed": seed });
    let sent = client.ask_within(WORK + Duration::from_secs(mib), "file", ask).await?;
    let seconds = |micros: u64| (micros as f64 / 1e6).max(1e-6);
    let (there, all) = (number(&sent, "there")?, number(&sent, "micros")?);
    let is = |field: &str| sent.get(field).and_then(Value::as_bool) == Some(true);
    let mut faults = Vec::new();
    if !is("arrived") {
        faults.push(format!("{} has another file than {} sent", node.name, client.name));
    }
    if !is("came_back") {
        faults.push(format!("{} took another file back, of {} bytes", client.name, number(&sent, "bytes")?));
    }
    let mib = mib as f64;
    Ok(Sent { there: mib / seconds(there), back: mib / seconds(all.saturating_sub(there)), faults })
}

fn first(hall: &Hall) -> Result<(&Member, &Member)> {
    let client = hall.clients.first().context("there are no clients")?;
    Ok((client, hall.nodes.first().context("there are no nodes")?))
}

/// What became of calls when a node was killed.
pub(super) struct Killed {
    /// How long the call that it was at took to fail, and one that came later, in microseconds.
    pub(super) under_way: u64,
    pub(super) later: u64,
    /// Of these two.
    pub(super) faults: Vec<String>,
    /// Of calls to others meanwhile.
    pub(super) others: Vec<String>,
}

/// Kills the last node while a client waits for it and another goes on with the others.
pub(super) async fn kill(hall: &Hall) -> Result<Killed> {
    let (doomed, others) = hall.nodes.split_last().context("there are no nodes")?;
    let client = hall.clients.first().context("there are no clients")?;
    let other = hall.clients.last().context("there are no clients")?;
    let waits = client.ask("toil", json!({ "node": doomed.key }));
    let dies = async {
        // The call is there when one that was made after it has come back.
        client.ask("divide", json!({ "node": doomed.key, "times": 1, "at_once": 1 })).await?;
        let died = Instant::now();
        doomed.kill().await?;
        let others: Vec<_> = others.iter().collect();
        let offers = tokio::time::timeout(GONE, offers(hall, &others));
        let offers = offers.await.context("the broker still offers a node that was killed")??;
        let start = Instant::now();
        let later = client.ask("toil", json!({ "node": doomed.key })).await?;
        Ok::<_, anyhow::Error>((died, offers, start.elapsed(), later))
    };
    let goes_on = other.ask_within(WORK, "divide", json!({ "times": 500, "at_once": 4 }));
    let staying = others.first().context("no other node")?;
    let by_key = other.ask_within(WORK, "divide", json!({ "node": staying.key, "times": 500, "at_once": 4 }));
    let ends = async {
        let waited = waits.await?;
        Ok::<_, anyhow::Error>((waited, Instant::now()))
    };
    let ((waited, failed), (died, mut faults, _, later), goes_on, by_key) =
        tokio::try_join!(ends, dies, goes_on, by_key)?;
    for (what, answer, may_have_run) in
        [("the call under way", &waited, true), ("a later call", &later, false)]
    {
        let status = answer.get("said").and_then(|said| said.get("status")).unwrap_or(&Value::Null);
        if code(status) != Some("unavailable") || status.get("may_have_run") != Some(&json!(may_have_run)) {
            faults.push(format!("{what}: {answer}"));
        }
    }
    let later = number(&later, "micros")?;
    if later > AT_ONCE_MICROS {
        faults.push(format!("a later call took {later} µs to fail"));
    }
    let mut others: Vec<_> = list(&by_key, "faults")?.iter().map(Value::to_string).collect();
    // Of calls to any node, those that the killed one had taken may fail, and say that they may have run.
    let may_have_run = |fault: &&Value| fault.get("may_have_run") != Some(&json!(true));
    others.extend(list(&goes_on, "faults")?.iter().filter(may_have_run).map(Value::to_string));
    let under_way = u64::try_from(failed.duration_since(died).as_micros()).unwrap_or(u64::MAX);
    Ok(Killed { under_way, later, faults, others })
}
