//! The end of an endpoint.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use peerage_machine::{Side, Why};

use crate::hub::Shared;
use crate::link_handle::Command;

/// How long tasks that were told to drop everything may take for it: they wait for nothing, but a machine may be busy.
pub(crate) const ABORT: Duration = Duration::from_secs(1);

/// What [`crate::Endpoint::close`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Links that there were.
    pub links: usize,
    /// Links that could not flush within the grace.
    pub links_cut: usize,
    /// Messages that were queued on those and were dropped. A message of which a part had left the queue counts.
    pub messages_cut: u64,
    /// Their bytes, and those that were sealed already (at most 128 KiB for each link) and that no connection had taken.
    pub bytes_cut: u64,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for CloseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { links, links_cut, messages_cut, bytes_cut, took } = self;
        write!(f, "closed {} in {} ms", counted(*links as u64, "link"), took.as_millis())?;
        match links_cut {
            0 => f.write_str(", nothing was cut"),
            _ => {
                let (messages, bytes) = (counted(*messages_cut, "message"), counted(*bytes_cut, "byte"));
                write!(f, "; {links_cut} could not flush in time: {messages} and {bytes} were cut")
            }
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Lets every link flush and say goodbye, within the grace; cuts the rest.
pub(crate) async fn close_links(shared: &Arc<Shared>) -> CloseReport {
    let began = tokio::time::Instant::now();
    let handles = shared.connections();
    // Before they are asked: a link that has nothing queued is gone at once.
    let links = handles.iter().filter(|handle| handle.up.load(Ordering::Acquire)).count();
    let mut report = CloseReport { links, ..CloseReport::default() };
    for handle in &handles {
        handle.ask(Command::Drain(Why::Shutdown { by: Side::Us, detail: String::new() }));
    }
    if tokio::time::timeout(shared.config.close_grace, all_gone(shared)).await.is_err() {
        for handle in shared.connections() {
            let counters = &handle.counters;
            let unsent = counters.unsent_bytes.load(Ordering::Relaxed);
            if handle.up.load(Ordering::Acquire) || unsent > 0 {
                report.links_cut += 1;
                report.messages_cut += counters.queued_messages.load(Ordering::Relaxed);
                report.bytes_cut += counters.queued_bytes.load(Ordering::Relaxed) + unsent;
            }
            handle.ask(Command::Abort);
        }
        if tokio::time::timeout(ABORT, all_gone(shared)).await.is_err() {
            tracing::warn!("a machine is busy: its links end when it lets them");
        }
    }
    report.took = began.elapsed();
    report
}

async fn all_gone(shared: &Shared) {
    loop {
        // Made before the look, so that no end is missed in between.
        let ended = shared.ended.notified();
        if shared.connections().is_empty() {
            return;
        }
        ended.await;
    }
}
