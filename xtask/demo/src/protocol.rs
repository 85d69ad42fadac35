//! What the parent and the peer processes say to each other: one JSON object per line.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::input::Input;

/// The wall clock in microseconds. All processes are on one machine, so they all read the same one.
pub(crate) fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// From the parent to a peer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// Join the mesh through the peer at this address.
    Join(String),
    /// Broadcast the input at so many lines per second.
    Broadcast(Input, f64),
    /// Say what has gone over the wire.
    Stats,
    /// Close in good order and end.
    Close,
}

/// From a peer to the parent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    /// The endpoint is bound.
    Listening {
        /// The peer's id, in short.
        peer: String,
        /// Where it listens.
        address: String,
    },
    /// The mesh has a neighbour.
    Ready,
    /// The mesh's neighbours, in short; all of them, after a change.
    Neighbours(Vec<String>),
    /// Lines that arrived.
    Received(Vec<Record>),
    /// So many lines have been broadcast.
    Sent(usize),
    /// What has gone over the wire.
    Stats(Stats),
    /// Closed, and how.
    Closed(String),
    /// It cannot go on.
    Failed(String),
}

/// What a peer's endpoint has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Bytes written to sockets, all told.
    pub(crate) bytes_sent: u64,
    /// Everything it counts by name: what was dropped and why, why links ended, what the protocols count.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// One line as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its place in the input.
    pub(crate) index: u32,
    /// Its length in bytes.
    pub(crate) length: usize,
    /// BLAKE3 of its bytes, in hex.
    pub(crate) hash: String,
    /// When it was handed to the sender's mesh, by the wall clock, in microseconds.
    pub(crate) sent: u64,
    /// When the receiver's program had it.
    pub(crate) received: u64,
}

impl Record {
    /// The record of a line that arrived now.
    pub(crate) fn new(index: u32, line: &[u8], sent: u64, received: u64) -> Self {
        Self { index, length: line.len(), hash: hash(line), sent, received }
    }

    /// Its place in the input.
    pub(crate) fn place(&self) -> usize {
        usize::try_from(self.index).unwrap_or(usize::MAX)
    }

    fn to_json(&self) -> Value {
        json!([self.index, self.length, self.hash, self.sent, self.received])
    }

    fn from_json(value: &Value) -> Option<Self> {
        let number = |place: usize| value.get(place).and_then(Value::as_u64);
        Some(Self {
            index: u32::try_from(number(0)?).ok()?,
            length: usize::try_from(number(1)?).ok()?,
            hash: value.get(2)?.as_str()?.to_owned(),
            sent: number(3)?,
            received: number(4)?,
        })
    }
}

/// BLAKE3, in hex.
pub(crate) fn hash(line: &[u8]) -> String {
    blake3::hash(line).to_hex().to_string()
}

impl Command {
    /// One line, without the line feed.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Join(contact) => json!({ "join": contact }),
            Self::Broadcast(input, rate) => json!({ "broadcast": input.to_json(), "rate": rate }),
            Self::Stats => json!({ "stats": null }),
            Self::Close => json!({ "close": null }),
        }
        .to_string()
    }

    /// Reads one line.
    pub(crate) fn decode(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}"))?;
        if let Some(contact) = value.get("join").and_then(Value::as_str) {
            return Ok(Self::Join(contact.to_owned()));
        }
        if let Some(input) = value.get("broadcast") {
            let rate = value.get("rate").and_then(Value::as_f64).context("a broadcast without a rate")?;
            return Ok(Self::Broadcast(Input::from_json(input), rate));
        }
        if value.get("stats").is_some() {
            return Ok(Self::Stats);
        }
        if value.get("close").is_some() {
            return Ok(Self::Close);
        }
        bail!("not a command: {line:?}")
    }
}

impl Report {
    /// One line, without the line feed.
    pub(crate) fn encode(&self) -> String {
        match self {
            Self::Listening { peer, address } => json!({ "listening": address, "peer": peer }),
            Self::Ready => json!({ "ready": null }),
            Self::Neighbours(peers) => json!({ "neighbours": peers }),
            Self::Received(records) => {
                json!({ "received": records.iter().map(Record::to_json).collect::<Vec<_>>() })
            }
            Self::Sent(lines) => json!({ "sent": lines }),
            Self::Stats(Stats { bytes_sent, counters }) => {
                json!({ "bytes_sent": bytes_sent, "counters": counters })
            }
            Self::Closed(how) => json!({ "closed": how }),
            Self::Failed(why) => json!({ "failed": why }),
        }
        .to_string()
    }

    /// Reads one line; `None` when it is no report, but something else that a program has printed.
    pub(crate) fn decode(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let number = |field: &str| value.get(field).and_then(Value::as_u64);
        if let Some(address) = text("listening") {
            return Some(Self::Listening { peer: text("peer")?, address });
        }
        if value.get("ready").is_some() {
            return Some(Self::Ready);
        }
        if let Some(peers) = value.get("neighbours") {
            let peers = peers.as_array()?.iter().map(|peer| peer.as_str().map(str::to_owned));
            return peers.collect::<Option<_>>().map(Self::Neighbours);
        }
        if let Some(records) = value.get("received") {
            return records
                .as_array()?
                .iter()
                .map(Record::from_json)
                .collect::<Option<_>>()
                .map(Self::Received);
        }
        if let Some(lines) = number("sent") {
            return Some(Self::Sent(usize::try_from(lines).ok()?));
        }
        if let Some(bytes_sent) = number("bytes_sent") {
            let counters = value.get("counters")?.as_object()?.iter();
            let counters = counters.map(|(name, count)| Some((name.clone(), count.as_u64()?)));
            return Some(Self::Stats(Stats { bytes_sent, counters: counters.collect::<Option<_>>()? }));
        }
        text("closed").map(Self::Closed).or_else(|| text("failed").map(Self::Failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_pipe() {
        let input = Input { file: Some("x".into()), block: None, lines: Some(3) };
        for command in [
            Command::Join("tcp://127.0.0.1:1".into()),
            Command::Broadcast(input, 12.5),
            Command::Stats,
            Command::Close,
        ] {
            assert_eq!(Command::decode(&command.encode()).unwrap(), command);
        }
    }

    #[test]
    fn reports_survive_the_pipe() {
        for report in [
            Report::Listening { peer: "abc".into(), address: "tcp://127.0.0.1:1".into() },
            Report::Ready,
            Report::Neighbours(vec!["a".into(), "b".into()]),
            Report::Received(vec![Record::new(7, b"line \"x\"\n", 1, 2)]),
            Report::Sent(9),
            Report::Stats(Stats { bytes_sent: 1, counters: [("mesh_duplicates".to_owned(), 3)].into() }),
            Report::Closed("well".into()),
            Report::Failed("port in use".into()),
        ] {
            let line = report.encode();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(Report::decode(&line), Some(report));
        }
    }

    #[test]
    fn what_is_no_report_is_told_apart() {
        assert_eq!(Report::decode("thread 'main' panicked"), None);
        assert_eq!(Report::decode("{\"received\":[[1]]}"), None);
        assert!(Command::decode("{}").is_err());
    }
}
