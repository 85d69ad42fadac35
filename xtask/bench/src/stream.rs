//! Messages one way, as fast as they go: how many in a second, and what each costs on both ends together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use peerage_net::Config;

use crate::cost;
use crate::floor::{self, Floor};
use crate::pipe::{Pair, Role};

/// Until windows and buffers have found their sizes.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long is measured.
const SPAN: Duration = Duration::from_millis(800);

/// What a stream did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// Messages a second.
    pub(crate) rate: f64,
    /// Processor time for each, both ends, in microseconds.
    pub(crate) cpu: Option<f64>,
}

/// Over a link.
pub(crate) async fn link(config: &Config, size: usize) -> Result<Flow> {
    let pair = Pair::new(config, Role::Source, Role::Drain, 0).await?;
    pair.start(size)?;
    let received = Arc::clone(&pair.meter);
    let flow = measure(|| received.received.load(Ordering::Relaxed)).await;
    pair.close().await;
    flow
}

/// Over TCP alone, or with records that are sealed and nothing else.
pub(crate) async fn bare(floor: Floor, size: usize) -> Result<Flow> {
    let stream = floor::Stream::start(floor, size)?;
    let flow = measure(|| stream.received()).await;
    stream.stop()?;
    flow
}

async fn measure(received: impl Fn() -> u64) -> Result<Flow> {
    tokio::time::sleep(WARM_UP).await;
    let (began, messages, cpu) = (Instant::now(), received(), cost::cpu());
    tokio::time::sleep(SPAN).await;
    let (span, messages) = (began.elapsed(), received() - messages);
    let cpu = cost::cpu().zip(cpu).map(|(after, before)| after.saturating_sub(before));
    (messages > 0).then_some(()).context("nothing arrived while it was measured")?;
    let messages = messages as f64;
    Ok(Flow { rate: messages / span.as_secs_f64(), cpu: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / messages) })
}
