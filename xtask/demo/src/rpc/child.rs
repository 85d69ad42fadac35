//! One process of the scenario: a broker, a node or a client, told what to do by its parent at the other end of a pipe.
//!
//! Each side writes one JSON object per line: the parent `{"id": 7, "ask": "divide", …}`, the process
//! `{"id": 7, "done": …}` or `{"id": 7, "failed": "why"}`, and now and then `{"at": 1000}` while it works at something long.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::broker::BrokerRole;
use super::client::ClientRole;
use super::node::NodeRole;

/// The word that makes a process of this program; what it is follows.
pub(crate) const SUBCOMMAND: &str = "rpc-process";

/// How long a process may take to end when its parent is gone.
const GRACE: Duration = Duration::from_secs(5);

/// The last that it is asked.
pub(super) const CLOSE: &str = "close";

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Broker,
    Node,
    Client,
}

impl Role {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Node => "node",
            Self::Client => "client",
        }
    }
}

/// Something that the parent asks for.
#[derive(Clone, Debug)]
pub(super) struct Ask(Value);

impl Ask {
    /// What is to be done.
    pub(super) fn what(&self) -> &str {
        self.0.get("ask").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn text(&self, field: &str) -> Result<&str> {
        let text = self.0.get(field).and_then(Value::as_str);
        text.with_context(|| format!("`{}` needs a text `{field}`", self.what()))
    }

    pub(super) fn number(&self, field: &str) -> Result<u64> {
        let number = self.0.get(field).and_then(Value::as_u64);
        number.with_context(|| format!("`{}` needs a number `{field}`", self.what()))
    }

    /// A mistake of the parent's.
    pub(super) fn unknown<T>(&self) -> Result<T> {
        bail!("nobody here knows how to `{}`", self.what())
    }
}

/// What a process does for its parent. Several asks may be under way at once.
pub(super) trait Obey: Send + Sync + 'static {
    fn obey(&self, ask: &Ask) -> impl Future<Output = Result<Value>> + Send;
}

/// Runs a process until its parent closes it, or is gone.
pub(crate) fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("starting tokio: {error}");
            return ExitCode::FAILURE;
        }
    };
    let role = std::env::args().nth(2);
    let ran = runtime.block_on(async {
        match role.as_deref() {
            Some("broker") => serve(BrokerRole::default()).await,
            Some("node") => serve(NodeRole::default()).await,
            Some("client") => serve(ClientRole::default()).await,
            _ => bail!("a process is a broker, a node or a client; this one was told {role:?}"),
        }
    });
    // What still blocks a thread is of no use any more.
    runtime.shutdown_background();
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the parent. One that is gone is noticed at the other pipe.
fn say(value: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

/// So much of something long is done.
pub(super) fn at(count: u64) {
    say(&json!({ "at": count }));
}

/// What the parent asks. When it ends, so does the process, whatever it is doing then.
fn asks() -> mpsc::UnboundedReceiver<String> {
    let (sender, asks) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if !line.is_ok_and(|line| sender.send(line).is_ok()) {
                break;
            }
        }
        drop(sender);
        std::thread::sleep(GRACE);
        std::process::exit(1);
    });
    asks
}

async fn serve(role: impl Obey) -> Result<()> {
    let role = Arc::new(role);
    let mut asks = asks();
    while let Some(line) = asks.recv().await {
        let value: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line:?}"))?;
        let id = value.get("id").and_then(Value::as_u64).with_context(|| format!("no id: {line:?}"))?;
        let ask = Ask(value);
        let is_last = ask.what() == CLOSE;
        let role = Arc::clone(&role);
        let answer = async move {
            match role.obey(&ask).await {
                Ok(done) => say(&json!({ "id": id, "done": done })),
                Err(error) => say(&json!({ "id": id, "failed": format!("{error:#}") })),
            }
        };
        if is_last {
            answer.await;
            return Ok(());
        }
        tokio::spawn(answer);
    }
    bail!("the parent is gone")
}
