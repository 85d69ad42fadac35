//! `bench classes`: what somebody waits for, on a link that is full of what may take its time.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use peerage_net::Config;

use crate::echo::{self, Delay};
use crate::figure::Figures;
use crate::pipe::{Pair, Role};

/// Echoes on the idle link, and beside each kind of bulk.
const COUNT: usize = 5_000;
/// Far longer than they take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lengths of the bulk messages: single fragments, and one that has many.
const BULK: [(&str, usize); 2] = [("16KiB", 16 << 10), ("1MiB", 1 << 20)];
/// How much bulk goes by while echoes are measured, at least.
const AMOUNT: u64 = 1 << 30;

/// Measures, shows, and appends.
pub(crate) fn run(rounds: usize, json: Option<PathBuf>) -> Result<()> {
    println!(
        "echoes of 64 B beside bulk on one link, TCP on loopback, both ends in this process; medians of {rounds}"
    );
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let mut figures = Figures::default();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        runtime.block_on(measure(&mut figures))?;
    }
    figures.show();
    match json {
        Some(path) => figures.write("classes", &path),
        None => Ok(()),
    }
}

async fn measure(figures: &mut Figures) -> Result<()> {
    add(figures, "alone", echo::link(&Config::default()).await?);
    for (name, size) in BULK {
        let (mut times, mut rate) = (Vec::new(), 0.0);
        let mut carried = 0;
        while carried < AMOUNT {
            let pair = Pair::new(&Config::default(), Role::Pinger, Role::Mirror, COUNT).await?;
            let bulk = pair.bulk(size)?;
            // Until windows and buffers have found their sizes.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (began, before) = (Instant::now(), bulk.received.load(Ordering::Relaxed));
            pair.start(echo::SIZE)?;
            times.extend(pair.times.recv_timeout(PATIENCE).context("the echoes did not come back")?);
            let bytes = (bulk.received.load(Ordering::Relaxed) - before) * size as u64;
            rate = bytes as f64 / began.elapsed().as_secs_f64();
            carried += bytes;
            bulk.stop.store(true, Ordering::Relaxed);
            pair.close().await;
        }
        add(figures, &format!("beside_{name}"), echo::delay(times, 0));
        figures.add(format!("bulk_{name}"), "B/s", rate);
    }
    Ok(())
}

fn add(figures: &mut Figures, what: &str, delay: Delay) {
    figures.add(format!("echo_{what}_p50"), "us", delay.p50);
    figures.add(format!("echo_{what}_p99"), "us", delay.p99);
}
