//! One message there and back, and then the next.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use peerage_net::Config;

use crate::floor;
use crate::pipe::{Pair, Role};

/// Bytes of each.
pub(crate) const SIZE: usize = 64;
const WARM_UP: usize = 2_000;
const COUNT: usize = 20_000;
/// Far longer than one takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Median and 99th percentile, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delay {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Over a link, from machine to machine.
pub(crate) async fn link(config: &Config) -> Result<Delay> {
    let pair = Pair::new(config, Role::Pinger, Role::Mirror, WARM_UP + COUNT).await?;
    pair.start(SIZE)?;
    let times = pair.times.recv_timeout(PATIENCE).context("the echoes did not come back")?;
    pair.meter.stop.store(true, Ordering::Relaxed);
    pair.close().await;
    Ok(delay(times, WARM_UP))
}

/// Over TCP alone.
pub(crate) fn raw() -> Result<Delay> {
    Ok(delay(floor::echoes(SIZE, WARM_UP + COUNT)?, WARM_UP))
}

/// Of all but the first ones.
pub(crate) fn delay(mut times: Vec<u64>, warm_up: usize) -> Delay {
    let mut times = times.split_off(warm_up.min(times.len()));
    times.sort_unstable();
    // Nearest rank.
    let rank = |share: usize| times.get((times.len() * share).div_ceil(100).max(1) - 1).copied().unwrap_or(0);
    Delay { p50: rank(50) as f64 / 1e3, p99: rank(99) as f64 / 1e3 }
}
