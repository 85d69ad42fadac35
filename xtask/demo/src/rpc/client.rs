//! A user's process: it does what its parent asks, and says how that went.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use peerage::rpc::credentials::Credentials;
use peerage::rpc::{Client, PartyBuilder, Status, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::child::{Ask, Obey, at};
use super::commands::{Divide, Keep, More, Nodes, Read, Toil, Write, line};
use super::node::GROUP;
use super::party::{Member, micros_since, status_words};

/// How often the writer says how far it is: cuts wait for it.
const TOLD: Duration = Duration::from_millis(10);

/// A call that takes longer than this has failed.
const CALL: Duration = Duration::from_secs(20);

/// How much is asked for at once of a log.
const LINES_AT_ONCE: u64 = 5_000;

const MIB: usize = 1 << 20;

/// The process.
#[derive(Default)]
pub(super) struct ClientRole(Member<Client>);

impl Obey for ClientRole {
    async fn obey(&self, ask: &Ask) -> Result<Value> {
        if let Some(done) = self.0.obey(ask, build).await? {
            return Ok(done);
        }
        let client = self.0.party()?;
        match ask.what() {
            "nodes" => nodes(&client, ask.number("count")?).await,
            "write" => write(&client, ask).await,
            "read" => read(&client).await,
            "divide" => divide(target(&client, ask)?, ask).await,
            "by zero" => {
                let status = target(&client, ask)?.call(numbers(1.0, 0.0)).await;
                Ok(outcome(status.map(|quotient| json!(quotient.value))))
            }
            "tail" => tail(target(&client, ask)?, ask.number("lines")?).await,
            "file" => file(target(&client, ask)?, ask).await,
            "toil" => {
                let start = Instant::now();
                let said = outcome(target(&client, ask)?.call(Toil {}).await.map(|_| json!(null)));
                Ok(json!({ "said": said, "micros": micros_since(start) }))
            }
            _ => ask.unknown(),
        }
    }
}

fn build(credentials: Credentials) -> PartyBuilder<Client> {
    Client::builder().credentials(credentials)
}

/// The node that was named, or any; so that the broker cannot read what is said, where that was asked for.
fn target(client: &Client, ask: &Ask) -> Result<Target> {
    let target = match ask.text("node") {
        Ok(key) => client.node(key.parse()?),
        Err(_) => client.group(GROUP),
    };
    let target = if ask.number("sealed").is_ok() { target.sealed() } else { target };
    Ok(target.with_timeout(CALL))
}

fn outcome(result: Result<Value, Status>) -> Value {
    match result {
        Ok(value) => json!({ "value": value }),
        Err(status) => json!({ "status": status_words(&status) }),
    }
}

const fn numbers(dividend: f64, divisor: f64) -> Divide {
    Divide { dividend: Some(dividend), divisor: Some(divisor) }
}

/// Waits until the broker offers so many nodes; their keys.
async fn nodes(client: &Client, count: u64) -> Result<Value> {
    let mut offers = client.offers::<Nodes>();
    loop {
        let offered = offers.next().await.context("the broker is gone")??;
        if offered.keys.len() as u64 == count {
            return Ok(json!({ "keys": offered.keys }));
        }
    }
}

/// Writes numbered notes at a pace, and waits until all are done.
async fn write(client: &Client, ask: &Ask) -> Result<Value> {
    let (first, count) = (ask.number("first")?, ask.number("count")?);
    let each = Duration::from_secs(1).div_f64(ask.number("rate")?.max(1) as f64);
    let start = tokio::time::Instant::now();
    let (mut due, mut told) = (start, start);
    for number in first..first + count {
        tokio::time::sleep_until(due).await;
        due += each;
        client.send(Write { text: Some(format!("note {number}")) }).await.context("writing a note")?;
        if told.elapsed() >= TOLD {
            told = tokio::time::Instant::now();
            at(number - first + 1);
        }
    }
    at(count);
    client.flush().await.context("waiting until all notes are written")?;
    let micros = u64::try_from(start.elapsed().as_micros())?;
    Ok(json!({ "micros": micros, "failed": client.failed_sends().len() }))
}

async fn read(client: &Client) -> Result<Value> {
    let mut notes = client.server_stream(Read {}).await?;
    let mut texts = Vec::new();
    while let Some(note) = notes.recv().await {
        texts.push(note?.text);
    }
    Ok(json!({ "notes": texts }))
}

/// Divides so often, so many at a time. Calls that fail are told, and do not stop it.
async fn divide(target: Target, ask: &Ask) -> Result<Value> {
    let (times, at_once) = (ask.number("times")?, ask.number("at_once")?);
    let start = Instant::now();
    let mut lanes = JoinSet::new();
    for lane in 0..at_once {
        let target = target.clone();
        lanes.spawn(async move {
            let (mut micros, mut faults) = (Vec::new(), Vec::new());
            for number in (lane..times).step_by(usize::try_from(at_once).unwrap_or(1)) {
                let called = Instant::now();
                match target.call(numbers(number as f64, 8.0)).await {
                    Ok(quotient) if quotient.value == number as f64 / 8.0 => {
                        micros.push(micros_since(called))
                    }
                    Ok(quotient) => faults.push(json!(format!("{number} by 8 is not {}", quotient.value))),
                    Err(status) => faults.push(status_words(&status)),
                }
            }
            (micros, faults)
        });
    }
    let (mut micros, mut faults) = (Vec::new(), Vec::new());
    while let Some(lane) = lanes.join_next().await {
        let (some, wrong) = lane?;
        micros.extend(some);
        faults.extend(wrong);
    }
    Ok(json!({ "total": micros_since(start), "micros": micros, "faults": faults }))
}

/// Follows a log: asks for more whenever it has read what it asked for, by one channel.
async fn tail(target: Target, lines: u64) -> Result<Value> {
    let start = Instant::now();
    let (ask, mut log) = target.channel::<More>().await?;
    let mut number = 0;
    while number < lines {
        let more = LINES_AT_ONCE.min(lines - number);
        ask.send(More { lines: more }).await?;
        for _ in 0..more {
            let text = log.recv().await.with_context(|| format!("the log ends at line {number}"))??.text;
            if text != line(number) {
                bail!("line {number} of the log is {text:?}");
            }
            number += 1;
        }
    }
    ask.finish();
    if let Some(more) = log.recv().await {
        bail!("after the last line: {more:?}");
    }
    Ok(json!({ "micros": micros_since(start) }))
}

/// Sends a file to a node, takes it back, and compares.
async fn file(target: Target, ask: &Ask) -> Result<Value> {
    let (path, mib) = (ask.text("path")?, usize::try_from(ask.number("mib")?)?);
    let mut stream = blake3::Hasher::new().update(&ask.number("seed")?.to_be_bytes()).finalize_xof();
    let mut file = tokio::fs::File::create(path).await.with_context(|| format!("making {path}"))?;
    let (mut hasher, mut piece) = (blake3::Hasher::new(), vec![0; MIB]);
    for _ in 0..mib {
        stream.fill(&mut piece);
        hasher.update(&piece);
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    let sent = hasher.finalize();
    let file = tokio::fs::File::open(path).await?;
    let start = Instant::now();
    // As long as 20 MiB a second take.
    let patience = CALL + Duration::from_millis(50).saturating_mul(u32::try_from(mib).unwrap_or(u32::MAX));
    let (kept, mut back) = target.call(Keep {}).timeout(patience).bulk(file).bulk_reply().await?;
    let there = micros_since(start);
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    loop {
        let read = back.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        bytes += read;
    }
    let micros = micros_since(start);
    let came_back = bytes == mib * MIB && hasher.finalize() == sent;
    let arrived = kept.bytes == (mib * MIB) as u64 && kept.hash == sent.as_bytes();
    Ok(
        json!({ "there": there, "micros": micros, "arrived": arrived, "came_back": came_back, "bytes": bytes }),
    )
}
