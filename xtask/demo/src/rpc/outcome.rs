//! What a run amounts to: checks, a table for people, figures for programs.

use std::fmt;
use std::time::Duration;

use super::steps::{Divided, Killed, Sent};
use super::storm::Aftermath;
use crate::figures::{Figure, Sample, micros, table};
use crate::process::Memory;
use crate::report::{Check, write_checks};

/// How large it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) seed: u64,
    pub(super) clients: usize,
    pub(super) nodes: usize,
    pub(super) notes: u64,
    pub(super) lines: u64,
    pub(super) mib: u64,
}

/// The result of a run.
pub(super) struct Outcome {
    pub(super) checks: Vec<Check>,
    pub(super) size: Size,
    /// Until all processes had enrolled.
    pub(super) enrolled: Duration,
    pub(super) connect: Sample,
    pub(super) divided: Divided,
    pub(super) tail: f64,
    pub(super) sent: Sent,
    pub(super) killed: Killed,
    pub(super) storm: Aftermath,
    /// The first broker's, before it was killed, and the second's, at the end.
    pub(super) memory: [Option<Memory>; 2],
}

impl Outcome {
    /// The claims that do not hold.
    pub(super) fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.faults.is_empty())
    }

    fn notes_per_second(&self) -> f64 {
        self.size.notes as f64 / self.storm.writing.as_secs_f64().max(1e-6)
    }

    fn rows(&self) -> Vec<(String, String)> {
        let Size { clients, nodes, notes, lines, mib, .. } = self.size;
        let spread = |sample: &Sample| {
            let [median, tail] = [50, 99].map(|percent| micros(sample.percentile(percent)));
            format!("p50 {median}, p99 {tail}, max {}", micros(sample.max()))
        };
        let away = u64::try_from(self.storm.away.as_micros()).ok();
        let peak = |memory: Option<Memory>| {
            memory.map_or_else(|| "-".to_owned(), |memory| format!("{:.1} MiB", memory.peak as f64 / 1024.0))
        };
        let [first, second] = self.memory;
        [
            ("enrolled", format!("{clients} users, {nodes} nodes in {:.2} s", self.enrolled.as_secs_f64())),
            ("connecting", spread(&self.connect)),
            ("a division by a node", spread(&self.divided.alone)),
            ("divisions, 64 at once", format!("{:.0} per second, all users together", self.divided.rate)),
            ("a log's tail", format!("{lines} lines, {:.0} per second", self.tail)),
            (
                "a file through the broker",
                format!("{mib} MiB, {:.0} MiB/s there, {:.0} MiB/s back", self.sent.there, self.sent.back),
            ),
            (
                "a node killed",
                format!(
                    "its call failed after {}, a later one in {}",
                    micros(Some(self.killed.under_way)),
                    micros(Some(self.killed.later))
                ),
            ),
            (
                "notes in the storm",
                format!(
                    "{notes} with the journal, {:.0} per second, {} connections cut",
                    self.notes_per_second(),
                    self.storm.cuts
                ),
            ),
            (
                "the broker killed",
                format!("away for {}, found {} notes that it had kept", micros(away), self.storm.found),
            ),
            ("memory of the brokers", format!("most ever {}, {}", peak(first), peak(second))),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The table's numbers for programs.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let Size { seed, clients, nodes, notes, lines, mib } = self.size;
        let mut figures = Vec::new();
        let mut add = |metric, value: f64, unit, count| figures.push(Figure { metric, value, unit, count });
        add("enrol", self.enrolled.as_secs_f64(), "s", clients + nodes);
        for (sample, names) in [
            (&self.connect, ["connect_p50", "connect_p99", "connect_max"]),
            (&self.divided.alone, ["divide_p50", "divide_p99", "divide_max"]),
        ] {
            let values = [sample.percentile(50), sample.percentile(99), sample.max()];
            for (name, value) in names.into_iter().zip(values) {
                add(name, value.unwrap_or(0) as f64 / 1e3, "ms", sample.len());
            }
        }
        add("divide_rate", self.divided.rate, "calls/s", clients);
        add("tail_rate", self.tail, "lines/s", usize::try_from(lines).unwrap_or(usize::MAX));
        add("bulk_there", self.sent.there, "MiB/s", usize::try_from(mib).unwrap_or(usize::MAX));
        add("bulk_back", self.sent.back, "MiB/s", usize::try_from(mib).unwrap_or(usize::MAX));
        add("killed_call", self.killed.under_way as f64 / 1e3, "ms", 1);
        add("killed_later", self.killed.later as f64 / 1e3, "ms", 1);
        add("notes_rate", self.notes_per_second(), "notes/s", usize::try_from(notes).unwrap_or(usize::MAX));
        add("cuts", self.storm.cuts as f64, "cuts", 1);
        add("broker_away", self.storm.away.as_secs_f64(), "s", 1);
        if let Some(peak) = self.memory.iter().flatten().map(|memory| memory.peak).max() {
            add("broker_memory_peak", peak as f64, "KiB", self.memory.len());
        }
        add("seed", seed as f64, "", 1);
        add("checks_failed", self.failed().count() as f64, "checks", self.checks.len());
        figures
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { clients, nodes, seed, .. } = self.size;
        writeln!(f, "rpc by a broker, {nodes} nodes and {clients} clients, each a process, --seed {seed}")?;
        f.write_str(&table(&self.rows()))?;
        write_checks(f, &self.checks)
    }
}
