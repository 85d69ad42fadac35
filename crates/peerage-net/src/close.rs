//! The end of an endpoint.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use peerage_machine::{Side, Why};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::hub::Shared;
use crate::link_handle::{Command, LinkHandle};

/// How long tasks that were told to drop everything may take for it: they wait for nothing, but a machine may be busy.
pub(crate) const ABORT: Duration = Duration::from_secs(1);

/// What those are told whose links and dials end with this endpoint.
pub(crate) fn shut_down() -> Why {
    Why::Shutdown { by: Side::Us, detail: String::new() }
}

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

/// What [`crate::Endpoint::drain`] came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Links that there were.
    pub links: usize,
    /// Links that had more to write when the grace was over. They go on writing.
    pub links_left: usize,
    /// Messages that were queued on those then. A message of which a part had left the queue counts.
    pub messages_left: u64,
    /// Their bytes, and those that were sealed already (at most 128 KiB for each link) and that no connection had taken.
    pub bytes_left: u64,
    /// How long it took.
    pub took: Duration,
}

impl DrainReport {
    /// Whether all was written within the grace.
    pub const fn is_done(&self) -> bool {
        self.links_left == 0
    }
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { links, links_left, messages_left, bytes_left, took } = self;
        write!(f, "drained {} in {} ms", counted(*links as u64, "link"), took.as_millis())?;
        match links_left {
            0 => f.write_str(", all was written"),
            _ => {
                let (messages, bytes) = (counted(*messages_left, "message"), counted(*bytes_left, "byte"));
                write!(f, "; {links_left} could not write all in time: {messages} and {bytes} are left")
            }
        }
    }
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Messages and bytes that have not left a link: those that are queued, and what is sealed already.
fn unwritten(handle: &LinkHandle) -> (u64, u64) {
    let counters = &handle.counters;
    let bytes = counters.queued_bytes.load(Ordering::Relaxed) + counters.unsent_bytes.load(Ordering::Relaxed);
    (counters.queued_messages.load(Ordering::Relaxed), bytes)
}

/// Waits until every link has written what it has to write now, within the grace.
pub(crate) async fn flush_links(shared: &Shared, grace: Duration) -> DrainReport {
    let began = tokio::time::Instant::now();
    let mut report = DrainReport::default();
    let mut flushing = Vec::new();
    for handle in shared.connections() {
        report.links += usize::from(handle.up.load(Ordering::Acquire));
        let (flushed, wait) = oneshot::channel();
        if handle.ask(Command::Flush(flushed)) {
            flushing.push((handle, wait));
        }
    }
    let all = async {
        for (_, flushed) in &mut flushing {
            // An error is a link that has ended, and has nothing more to write.
            let _ = flushed.await;
        }
    };
    if tokio::time::timeout(grace, all).await.is_err() {
        for (handle, flushed) in &mut flushing {
            if flushed.try_recv() == Err(TryRecvError::Empty) {
                let (messages, bytes) = unwritten(handle);
                report.links_left += 1;
                report.messages_left += messages;
                report.bytes_left += bytes;
            }
        }
    }
    report.took = began.elapsed();
    report
}

/// Lets every link flush and say goodbye, within the grace; cuts the rest.
pub(crate) async fn close_links(shared: &Arc<Shared>) -> CloseReport {
    let began = tokio::time::Instant::now();
    let handles = shared.connections();
    // Before they are asked: a link that has nothing queued is gone at once.
    let links = handles.iter().filter(|handle| handle.up.load(Ordering::Acquire)).count();
    let mut report = CloseReport { links, ..CloseReport::default() };
    for handle in &handles {
        handle.ask(Command::Drain(Box::new(shut_down())));
    }
    if tokio::time::timeout(shared.config.close_grace, all_gone(shared)).await.is_err() {
        for handle in shared.connections() {
            let unsent = handle.counters.unsent_bytes.load(Ordering::Relaxed);
            if handle.up.load(Ordering::Acquire) || unsent > 0 {
                let (messages, bytes) = unwritten(&handle);
                report.links_cut += 1;
                report.messages_cut += messages;
                report.bytes_cut += bytes;
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
