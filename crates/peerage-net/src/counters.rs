//! Totals of an endpoint, for its snapshot and for the `metrics` facade.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::scratch::lock;

/// Counters that only grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) links_up: AtomicU64,
    pub(crate) dials: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) cookies: AtomicU64,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    ended: Mutex<BTreeMap<&'static str, u64>>,
    machines: Mutex<BTreeMap<&'static str, u64>>,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn bump(map: &Mutex<BTreeMap<&'static str, u64>>, key: &'static str, by: u64) {
    *lock(map).entry(key).or_default() += by;
}

impl Counters {
    /// Something was not carried out, for this reason.
    pub(crate) fn dropped(&self, reason: &'static str, by: u64) {
        bump(&self.dropped, reason, by);
        metrics::counter!("peerage_dropped_total", "reason" => reason).increment(by);
    }

    /// A connection ended, for this reason, at this stage.
    pub(crate) fn ended(&self, was_up: bool, reason: &'static str) {
        bump(&self.ended, reason, 1);
        let stage = if was_up { "link" } else { "handshake" };
        metrics::counter!("peerage_connections_ended_total", "stage" => stage, "reason" => reason)
            .increment(1);
    }

    /// A machine counts.
    pub(crate) fn machine(&self, name: &'static str, by: u64) {
        bump(&self.machines, name, by);
        metrics::counter!(name).increment(by);
    }

    pub(crate) fn dropped_by_reason(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.dropped).clone()
    }

    pub(crate) fn ended_by_reason(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.ended).clone()
    }

    pub(crate) fn counted_by_machines(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.machines).clone()
    }
}
