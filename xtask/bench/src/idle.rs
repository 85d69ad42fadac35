//! What a link that says nothing takes in memory: a thousand of them, whose other ends are in another process, in a process
//! that has done nothing else, whose memory has no room left from before.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use peerage_identity::Identity;
use peerage_net::{Config, Endpoint, Shards};
use peerage_wire::Address;

use crate::{cost, pipe};

pub(crate) const LINKS: usize = 1_000;
/// After the last handshake, for buffers to be given back.
const SETTLE: Duration = Duration::from_millis(500);
const READY: &str = "ready";

/// Bytes for each idle link, at the end that listens, with the usual configuration; the cipher makes no difference.
pub(crate) fn bytes() -> Result<f64> {
    let listener = Command::new(std::env::current_exe()?)
        .arg("idle-links")
        .stderr(Stdio::inherit())
        .output()
        .context("starting the process that listens")?;
    ensure!(listener.status.success(), "the process that listens failed: {}", listener.status);
    let said = String::from_utf8_lossy(&listener.stdout);
    said.trim().parse().with_context(|| format!("the process that listens said {said:?}"))
}

/// The process that listens: measures, and prints the bytes of one link.
pub(crate) fn listener() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{}", runtime.block_on(measure(&Config::default()))?);
    Ok(())
}

async fn measure(config: &Config) -> Result<f64> {
    let listener = pipe::endpoint(config, true).await?;
    let address = listener.addresses().first().cloned().context("it listens nowhere")?;
    // What the first link makes for all of them is not counted.
    let first = pipe::endpoint(config, false).await?;
    first.connect(&address).await?;
    let before = cost::resident().context("there is no /proc to read the memory from")?;
    let mut idlers = Command::new(std::env::current_exe()?)
        .args(["idlers", &address.to_string(), &LINKS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the process with the other ends")?;
    let mut line = String::new();
    let said = idlers.stdout.take().context("it has no output")?;
    let line = tokio::task::spawn_blocking(move || BufReader::new(said).read_line(&mut line).map(|_| line));
    let line = line.await??;
    tokio::time::sleep(SETTLE).await;
    let after = cost::resident().context("there is no /proc to read the memory from")?;
    let links = listener.snapshot().links.len();
    // Its input ends, and so does it.
    drop(idlers.stdin.take());
    let status = idlers.wait()?;
    first.close().await;
    listener.close().await;
    ensure!(line.trim() == READY && status.success(), "the process with the other ends failed: {status}");
    ensure!(links == LINKS + 1, "{links} links are up instead of {}", LINKS + 1);
    Ok(after.saturating_sub(before) as f64 / LINKS as f64)
}

/// The other process: so many endpoints, a link each, until its input ends.
pub(crate) fn idlers(address: &Address, count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = Config::default();
        config.shards = Shards::Ambient;
        let mut endpoints = Vec::with_capacity(count);
        for _ in 0..count {
            let identity = Identity::generate().context("no entropy for an identity")?;
            let endpoint = Endpoint::builder().identity(identity).config(config.clone()).bind().await?;
            endpoint.connect(address).await?;
            endpoints.push(endpoint);
        }
        println!("{READY}");
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        ended.await??;
        anyhow::Ok(())
    })
}
