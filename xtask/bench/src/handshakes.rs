//! New links, one after the other: dial, handshake, up, gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use peerage_identity::Identity;
use peerage_net::{Config, Endpoint, Shards};

use crate::pipe;

/// Dialers at the same time.
const DIALERS: usize = 16;
const SPAN: Duration = Duration::from_millis(1_500);

/// Handshakes a second, both ends in this process: the listener's thread and the dialers'.
pub(crate) async fn rate(config: &Config) -> Result<f64> {
    let listener = pipe::endpoint(config, true).await?;
    let address = listener.addresses().first().cloned().context("it listens nowhere")?;
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut dialer = config.clone();
    dialer.shards = Shards::Ambient;
    let began = Instant::now();
    let (count, stopped) = (Arc::clone(&done), Arc::clone(&stop));
    let thread = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(async move {
            let mut tasks = Vec::new();
            for _ in 0..DIALERS {
                let (address, dialer) = (address.clone(), dialer.clone());
                let (count, stopped) = (Arc::clone(&count), Arc::clone(&stopped));
                tasks.push(tokio::task::spawn_local(async move {
                    while !stopped.load(Ordering::Relaxed) {
                        // A key of its own each time, or the listener would take it for one that comes back.
                        let identity = Identity::generate().context("no entropy for an identity")?;
                        let endpoint =
                            Endpoint::builder().identity(identity).config(dialer.clone()).bind().await?;
                        endpoint.connect(&address).await?;
                        count.fetch_add(1, Ordering::Relaxed);
                        endpoint.close().await;
                    }
                    anyhow::Ok(())
                }));
            }
            for task in tasks {
                task.await??;
            }
            anyhow::Ok(())
        }))
    });
    tokio::time::sleep(SPAN).await;
    let (links, span) = (done.load(Ordering::Relaxed), began.elapsed());
    stop.store(true, Ordering::Relaxed);
    let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
    ended.map_err(|_| anyhow!("the dialers panicked"))??;
    listener.close().await;
    Ok(links as f64 / span.as_secs_f64())
}
