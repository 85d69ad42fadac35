//! What a run amounted to.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage_machine::Class;

/// Messages and their bytes as encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many messages.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }
}

/// Traffic by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByClass {
    /// Of [`Class::Interactive`].
    pub interactive: Traffic,
    /// Of [`Class::Control`].
    pub control: Traffic,
    /// Of [`Class::Bulk`].
    pub bulk: Traffic,
}

impl ByClass {
    pub(crate) fn of_mut(&mut self, class: Class) -> &mut Traffic {
        match class {
            Class::Interactive => &mut self.interactive,
            Class::Control => &mut self.control,
            Class::Bulk => &mut self.bulk,
        }
    }

    /// Of all classes together.
    pub fn total(&self) -> Traffic {
        let add =
            |a: Traffic, b: Traffic| Traffic { messages: a.messages + b.messages, bytes: a.bytes + b.bytes };
        add(add(self.interactive, self.control), self.bulk)
    }
}

/// Why a message did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dropped {
    /// Its sender named a link that was not up.
    NotUp,
    /// The link's queue had no room.
    Full,
    /// It was longer than the peer takes.
    TooLarge,
    /// It arrived, and could not be decoded.
    Malformed,
    /// The link ended, or its receiver crashed, while it was under way.
    UnderWay,
}

/// Durations that machines observed under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Observed {
    /// The mean.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(
            u64::try_from(self.sum.as_nanos() / u128::from(self.count.max(1))).unwrap_or(u64::MAX),
        )
    }
}

/// One more duration under that name.
pub(crate) fn observe(observed: &mut BTreeMap<&'static str, Observed>, name: &'static str, value: Duration) {
    let first = Observed { count: 0, sum: Duration::ZERO, min: value, max: value };
    let seen = observed.entry(name).or_insert(first);
    seen.count += 1;
    seen.sum = seen.sum.saturating_add(value);
    seen.min = seen.min.min(value);
    seen.max = seen.max.max(value);
}

/// What a run amounted to so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls of a machine: inputs, timers and commands.
    pub events: u64,
    /// Timers among them.
    pub timers: u64,
    /// What machines sent and links took.
    pub sent: ByClass,
    /// What arrived.
    pub delivered: ByClass,
    /// What machines sent and links took, by kind: empty without [`crate::Sim::count_kinds`].
    pub sent_of_kind: BTreeMap<&'static str, Traffic>,
    /// What arrived, by kind, likewise.
    pub delivered_of_kind: BTreeMap<&'static str, Traffic>,
    /// What did not, by reason, with or without an id.
    pub dropped: BTreeMap<Dropped, u64>,
    /// Dials that machines began.
    pub dials: u64,
    /// Dials that ended in a link.
    pub dialed: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Links that came up.
    pub links_up: u64,
    /// Faults that machines counted against peers, by what was done.
    pub faults: BTreeMap<&'static str, u64>,
    /// What machines counted, summed over all nodes.
    pub counters: BTreeMap<&'static str, u64>,
    /// What machines observed, over all nodes.
    pub observed: BTreeMap<&'static str, Observed>,
}

impl Stats {
    /// A counter of the machines', summed over all nodes; 0 when nobody counted.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// How many messages were dropped for this reason.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped.get(&why).copied().unwrap_or(0)
    }
}
