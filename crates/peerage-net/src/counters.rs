//! Totals of an endpoint, for its snapshot and for the `metrics` facade.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;
use peerage_machine::Why;

use crate::dropped::Dropped;
use crate::scratch::lock;

/// A number that only grows. The recorder that there was when the endpoint was bound has it too: looking one up would
/// cost more than counting, so that it is asked once.
pub(crate) struct Count {
    here: AtomicU64,
    there: Counter,
}

impl Count {
    fn new(there: Counter) -> Self {
        Self { here: AtomicU64::new(0), there }
    }

    pub(crate) fn add(&self, by: u64) {
        self.here.fetch_add(by, Ordering::Relaxed);
        self.there.increment(by);
    }

    pub(crate) fn read(&self) -> u64 {
        self.here.load(Ordering::Relaxed)
    }
}

/// Connections that ended for one reason.
struct Ended {
    /// Which were links.
    links: Count,
    /// Which were not up yet.
    handshakes: Count,
}

impl Ended {
    fn new(reason: &'static str) -> Self {
        let at = |stage: &'static str| {
            let there = metrics::counter!(
                "peerage_connections_ended_total", "stage" => stage, "reason" => reason
            );
            Count::new(there)
        };
        Self { links: at("link"), handshakes: at("handshake") }
    }
}

/// Counters that only grow.
pub(crate) struct Counters {
    pub(crate) bytes_sent: Count,
    pub(crate) bytes_received: Count,
    pub(crate) messages_sent: Count,
    pub(crate) messages_received: Count,
    pub(crate) links_up: Count,
    pub(crate) dials: Count,
    pub(crate) accepted: Count,
    pub(crate) cookies: Count,
    pub(crate) shed: Count,
    /// In the order of [`Dropped::ALL`].
    dropped: Box<[Count]>,
    /// In the order of [`Why::LABELS`].
    ended: Box<[Ended]>,
    machines: Mutex<BTreeMap<&'static str, (u64, Counter)>>,
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    /// All at nothing; the recorder knows each of them from now on.
    pub(crate) fn new() -> Self {
        let dropped = |reason: &Dropped| {
            let there = metrics::counter!("peerage_dropped_total", "reason" => reason.label());
            Count::new(there)
        };
        Self {
            bytes_sent: Count::new(metrics::counter!("peerage_sent_bytes_total")),
            bytes_received: Count::new(metrics::counter!("peerage_received_bytes_total")),
            messages_sent: Count::new(metrics::counter!("peerage_sent_messages_total")),
            messages_received: Count::new(metrics::counter!("peerage_received_messages_total")),
            links_up: Count::new(metrics::counter!("peerage_links_up_total")),
            dials: Count::new(metrics::counter!("peerage_dials_total")),
            accepted: Count::new(metrics::counter!("peerage_accepted_total")),
            cookies: Count::new(metrics::counter!("peerage_cookies_total")),
            shed: Count::new(metrics::counter!("peerage_addresses_shed_total")),
            dropped: Dropped::ALL.iter().map(dropped).collect(),
            ended: Why::LABELS.iter().map(|reason| Ended::new(reason)).collect(),
            machines: Mutex::default(),
        }
    }

    /// Something was not carried out, for this reason.
    pub(crate) fn dropped(&self, reason: Dropped, by: u64) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.add(by);
        }
    }

    /// A connection ended, for this reason, at this stage.
    pub(crate) fn ended(&self, was_up: bool, why: &Why) {
        let at = Why::LABELS.iter().position(|label| *label == why.label());
        if let Some(ended) = at.and_then(|at| self.ended.get(at)) {
            let count = if was_up { &ended.links } else { &ended.handshakes };
            count.add(1);
        }
    }

    /// A machine counts.
    pub(crate) fn machine(&self, name: &'static str, by: u64) {
        let mut machines = lock(&self.machines);
        let (here, there) = machines.entry(name).or_insert_with(|| (0, metrics::counter!(name)));
        *here += by;
        there.increment(by);
    }

    pub(crate) fn dropped_by_reason(&self) -> BTreeMap<&'static str, u64> {
        let reasons = Dropped::ALL.iter().map(|reason| reason.label());
        let counts = reasons.zip(self.dropped.iter().map(Count::read));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn ended_by_reason(&self) -> BTreeMap<&'static str, u64> {
        let sum = |ended: &Ended| ended.links.read() + ended.handshakes.read();
        let counts = Why::LABELS.iter().copied().zip(self.ended.iter().map(sum));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    pub(crate) fn counted_by_machines(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.machines).iter().map(|(name, (count, _))| (*name, *count)).collect()
    }
}
