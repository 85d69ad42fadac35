//! What a run amounts to: checks, a table for people, figures for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use peerage::MeshConfig;

use crate::check::{Comparison, Expected, few};
use crate::figures::{Figure, Sample, micros, table};
use crate::network::{Fate, Life, Network, Peer};
use crate::peer::MESH;
use crate::process::Memory;
use crate::protocol::Record;

/// Faults shown per check.
const SHOWN: usize = 4;

/// A claim, and what speaks against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What should be so.
    pub(crate) claim: String,
    /// Why it is not.
    pub(crate) faults: Vec<String>,
}

impl Check {
    /// The claim holds when there are no faults.
    pub(crate) fn new(claim: impl Into<String>, mut faults: Vec<String>) -> Self {
        if faults.len() > SHOWN {
            let more = faults.len() - SHOWN;
            faults.truncate(SHOWN);
            faults.push(format!("and {more} more"));
        }
        Self { claim: claim.into(), faults }
    }
}

/// What the scenario knows besides what the peers reported.
pub(crate) struct Measured {
    /// The seed of the run.
    pub(crate) seed: u64,
    /// Peers at the start.
    pub(crate) peers: usize,
    /// Who broadcast.
    pub(crate) origin: usize,
    /// Until all processes listened.
    pub(crate) up: Duration,
    /// Until the mesh was whole, from the start of the first process.
    pub(crate) formed: Duration,
    /// From the first line to the last.
    pub(crate) sending: Duration,
    /// Bytes that each peer had sent before the first line.
    pub(crate) baseline: Vec<u64>,
    /// Of each living process, at the end.
    pub(crate) memory: Vec<Memory>,
}

/// The result of a run.
pub(crate) struct Outcome {
    /// What was checked.
    pub(crate) checks: Vec<Check>,
    measured: Measured,
    lines: usize,
    killed: usize,
    joined: usize,
    to_one: Sample,
    to_all: Sample,
    /// Nothing where no line has a byte.
    wire: Option<f64>,
    line_bytes: f64,
    overtaken: usize,
    deliveries: usize,
    counters: BTreeMap<String, u64>,
}

impl Outcome {
    /// Compares and measures what the peers reported.
    pub(crate) fn new(network: &Network, expected: &Expected, measured: Measured) -> Self {
        let mut receivers: Vec<_> = network
            .peers()
            .filter(|(number, peer)| *number != measured.origin && peer.life != Life::Killed)
            .map(|(number, peer)| (number, peer, expected.compare(&peer.records)))
            .collect();
        let owed = forgive(network, expected, &mut receivers);
        let with = |fate: Fate| network.peers().filter(|(_, peer)| peer.fate == fate).count();
        let everybody: Vec<_> =
            network.peers().filter(|(number, _)| *number != measured.origin).map(|(_, peer)| peer).collect();
        let payload: usize =
            everybody.iter().flat_map(|peer| &peer.records).map(|record| record.length).sum();
        let before = measured.baseline.iter().copied().chain(std::iter::repeat(0));
        let after = network.peers().map(|(_, peer)| peer.bytes_sent());
        let on_wire: u64 = after.zip(before).map(|(after, before)| after.saturating_sub(before)).sum();
        let steady = receivers.iter().filter(|(_, peer, _)| peer.fate == Fate::Stays);
        let steady: Vec<_> = steady.map(|(_, peer, _)| peer.records.as_slice()).collect();
        let deliveries = everybody.iter().map(|peer| peer.records.len()).sum();
        Self {
            checks: checks(network, &receivers, expected.len(), owed),
            lines: expected.len(),
            killed: with(Fate::Dies),
            joined: with(Fate::Joins),
            to_one: Sample::new(receivers.iter().flat_map(|(_, peer, _)| latencies(peer)).collect()),
            to_all: Sample::new(slowest(&steady, expected.len())),
            wire: (payload > 0).then(|| on_wire as f64 / payload as f64),
            line_bytes: payload as f64 / (deliveries as f64).max(1.0),
            overtaken: receivers.iter().map(|(_, _, comparison)| comparison.overtaken).sum(),
            deliveries,
            counters: sums(network),
            measured,
        }
    }

    /// Whether every claim holds.
    pub(crate) fn has_passed(&self) -> bool {
        self.failed().next().is_none()
    }

    /// The claims that do not hold.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.faults.is_empty())
    }

    /// Everything that was counted by name, as a table.
    pub(crate) fn counters(&self) -> String {
        table(
            &self.counters.iter().map(|(name, count)| (name.clone(), count.to_string())).collect::<Vec<_>>(),
        )
    }

    fn lines_per_second(&self) -> f64 {
        self.lines as f64 / self.measured.sending.as_secs_f64().max(1e-6)
    }

    fn resident(&self) -> Sample {
        Sample::new(self.measured.memory.iter().map(|memory| memory.resident).collect())
    }

    fn peak(&self) -> Sample {
        Sample::new(self.measured.memory.iter().map(|memory| memory.peak).collect())
    }

    fn rows(&self) -> Vec<(String, String)> {
        let spread = |sample: &Sample| {
            let [median, tail] = [50, 99].map(|percent| micros(sample.percentile(percent)));
            format!("p50 {median}, p99 {tail}, max {}", micros(sample.max()))
        };
        let mebi = |kibi: Option<u64>| {
            kibi.map_or_else(|| "-".to_owned(), |kibi| format!("{:.1} MiB", kibi as f64 / 1024.0))
        };
        let Measured { up, formed, peers, .. } = &self.measured;
        [
            (
                "time to form",
                format!(
                    "{:.2} s, of which {:.2} s to start the processes",
                    formed.as_secs_f64(),
                    up.as_secs_f64()
                ),
            ),
            ("peers", format!("{peers} at the start, {} killed, {} joined", self.killed, self.joined)),
            (
                "lines",
                format!(
                    "{} of {:.0} bytes on average, {:.0} per second",
                    self.lines,
                    self.line_bytes,
                    self.lines_per_second()
                ),
            ),
            ("delivery to a peer", spread(&self.to_one)),
            ("delivery to everyone", spread(&self.to_all)),
            (
                "on the wire",
                self.wire.map_or_else(
                    || "-".to_owned(),
                    |wire| format!("{wire:.2} bytes per payload byte and receiver"),
                ),
            ),
            ("out of order", format!("{} of {} deliveries", self.overtaken, self.deliveries)),
            (
                "memory per process",
                format!(
                    "median {}, most ever {}",
                    mebi(self.resident().percentile(50)),
                    mebi(self.peak().max())
                ),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// The table's numbers for programs.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        let mut add = |metric, value: f64, unit, count| figures.push(Figure { metric, value, unit, count });
        let peers = self.measured.peers;
        add("start", self.measured.up.as_secs_f64(), "s", peers);
        add("form", self.measured.formed.as_secs_f64(), "s", peers);
        add("lines", self.lines as f64, "lines", 1);
        add("line_bytes", self.line_bytes, "B", self.deliveries);
        add("rate", self.lines_per_second(), "lines/s", self.lines);
        for (sample, names) in [
            (&self.to_one, ["delivery_p50", "delivery_p99", "delivery_max"]),
            (&self.to_all, ["delivery_all_p50", "delivery_all_p99", "delivery_all_max"]),
        ] {
            for (name, value) in
                names.into_iter().zip([sample.percentile(50), sample.percentile(99), sample.max()])
            {
                add(name, value.unwrap_or(0) as f64 / 1e3, "ms", sample.len());
            }
        }
        if let Some(wire) = self.wire {
            add("wire_per_payload", wire, "B/B", self.deliveries);
        }
        add("out_of_order", self.overtaken as f64, "lines", self.deliveries);
        if let (Some(resident), Some(peak)) = (self.resident().percentile(50), self.peak().max()) {
            add("memory_median", resident as f64, "KiB", self.measured.memory.len());
            add("memory_peak_max", peak as f64, "KiB", self.measured.memory.len());
        }
        add("killed", self.killed as f64, "peers", 1);
        add("joined", self.joined as f64, "peers", 1);
        add("seed", self.measured.seed as f64, "", 1);
        add("checks_failed", self.failed().count() as f64, "checks", self.checks.len());
        figures
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mesh of {} processes, --seed {}", self.measured.peers, self.measured.seed)?;
        f.write_str(&table(&self.rows()))?;
        write_checks(f, &self.checks)
    }
}

/// All checks, each with what speaks against it.
pub(crate) fn write_checks(f: &mut fmt::Formatter<'_>, checks: &[Check]) -> fmt::Result {
    let passed = checks.iter().filter(|check| check.faults.is_empty()).count();
    writeln!(f, "{passed} of {} checks passed", checks.len())?;
    for check in checks {
        let mark = if check.faults.is_empty() { "ok    " } else { "FAILED" };
        writeln!(f, "  {mark}  {}", check.claim)?;
        for fault in &check.faults {
            writeln!(f, "            {fault}")?;
        }
    }
    Ok(())
}

/// Strikes out, for peers that joined on the way, what the mesh did not retain any more when they came. Returns how many
/// lines are owed to each of them at least.
fn forgive(network: &Network, expected: &Expected, receivers: &mut [(usize, &Peer, Comparison)]) -> usize {
    let retention = Retention::of(&MeshConfig::named(MESH));
    let mut lines: Vec<_> = expected.lengths().map(|length| (None, length)).collect();
    for record in network.peers().flat_map(|(_, peer)| &peer.records) {
        if let Some((sent, _)) = lines.get_mut(record.place()) {
            *sent = Some(record.sent);
        }
    }
    let mut least = lines.len();
    for (_, peer, comparison) in receivers.iter_mut().filter(|(_, peer, _)| peer.fate == Fate::Joins) {
        let first = retention.first_owed(peer.ready.unwrap_or(0), &lines);
        comparison.lacking.retain(|index| *index as usize >= first);
        least = least.min(lines.len() - first);
    }
    least
}

/// The peers' counters, added up; of those that were killed, the last word.
fn sums(network: &Network) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, count) in
        network.peers().filter_map(|(_, peer)| peer.stats.as_ref()).flat_map(|stats| &stats.counters)
    {
        *sums.entry(name.clone()).or_default() += count;
    }
    sums
}

/// What the lines themselves say; `owed` of them to peers that joined.
fn checks(
    network: &Network,
    receivers: &[(usize, &Peer, Comparison)],
    lines: usize,
    owed: usize,
) -> Vec<Check> {
    let faults = |fates: &[Fate], verb: &str, pick: fn(&Comparison) -> &[u32]| -> Vec<String> {
        receivers
            .iter()
            .filter(|(_, peer, comparison)| fates.contains(&peer.fate) && !pick(comparison).is_empty())
            .map(|(number, _, comparison)| {
                let indices = pick(comparison);
                format!(
                    "{} {verb} {} of {lines} lines: {}",
                    network.name(*number),
                    indices.len(),
                    few(indices)
                )
            })
            .collect()
    };
    let count = |fate: Fate| receivers.iter().filter(|(_, peer, _)| peer.fate == fate).count();
    let (steady, joined) = (count(Fate::Stays), count(Fate::Joins));
    let lacking = |fate: Fate| faults(&[fate], "lacks", |comparison| &comparison.lacking);
    let mut checks = vec![Check::new(
        format!("{} reached {} that stayed throughout", all(lines, "line"), all(steady, "peer")),
        lacking(Fate::Stays),
    )];
    if joined > 0 {
        let which = if owed == lines {
            all(lines, "line")
        } else {
            format!("the last {owed} lines, which were retained,")
        };
        checks.push(Check::new(
            format!("{which} reached {} that joined on the way", all(joined, "peer")),
            lacking(Fate::Joins),
        ));
    }
    let both = [Fate::Stays, Fate::Joins];
    checks.push(Check::new(
        "every line arrived in full",
        faults(&both, "has a changed", |comparison| &comparison.changed),
    ));
    checks.push(Check::new(
        "no line arrived twice",
        faults(&both, "has more than once", |comparison| &comparison.twice),
    ));
    checks.push(Check::new(
        "nobody heard what nobody said",
        faults(&both, "made up", |comparison| &comparison.unknown),
    ));
    checks
}

fn all(count: usize, noun: &str) -> String {
    if count == 1 { format!("the only {noun}") } else { format!("all {count} {noun}s") }
}

/// From the sender's program to this peer's, for each line that was sent while it was there, in microseconds.
fn latencies(peer: &Peer) -> Vec<u64> {
    let there = if peer.fate == Fate::Joins { peer.ready.unwrap_or(u64::MAX) } else { 0 };
    let live = peer.records.iter().filter(|record| record.sent >= there);
    live.map(|record| record.received.saturating_sub(record.sent)).collect()
}

/// For each line that all these peers have: how long the last of them waited, in microseconds.
fn slowest(peers: &[&[Record]], lines: usize) -> Vec<u64> {
    let mut worst = vec![(0_usize, 0_u64); lines];
    for record in peers.iter().copied().flatten() {
        if let Some((count, longest)) = worst.get_mut(record.place()) {
            *count += 1;
            *longest = (*longest).max(record.received.saturating_sub(record.sent));
        }
    }
    worst.into_iter().filter(|(count, _)| *count >= peers.len()).map(|(_, longest)| longest).collect()
}

/// What a mesh keeps for those who come late.
struct Retention {
    micros: u64,
    lines: usize,
    bytes: u64,
}

impl Retention {
    /// Half of what the mesh's configuration says, so that nothing is owed that is just about to be forgotten.
    fn of(config: &MeshConfig) -> Self {
        let micros = u64::try_from(config.retain_for.as_micros()).unwrap_or(u64::MAX) / 2;
        Self { micros, lines: config.retain_messages / 2, bytes: config.retain_bytes / 2 }
    }

    /// The first line that is owed to a peer that was ready at `ready`: every line sent since, and as many before as
    /// are retained. The lines are given by when they were sent, if anybody knows, and by their length.
    fn first_owed(&self, ready: u64, lines: &[(Option<u64>, usize)]) -> usize {
        /// What a retained line costs besides its bytes, at most.
        const AROUND: usize = 512;
        let (mut count, mut bytes) = (0, 0);
        for (place, (sent, length)) in lines.iter().enumerate().rev() {
            let Some(age) = sent.and_then(|sent| ready.checked_sub(sent)) else { continue };
            count += 1;
            bytes += (length + AROUND) as u64;
            if age > self.micros || count > self.lines || bytes > self.bytes {
                return place + 1;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u32, sent: u64, received: u64) -> Record {
        Record::new(index, b"x", sent, received)
    }

    #[test]
    fn a_line_has_reached_everyone_when_the_last_has_it() {
        let (fast, slow) = ([record(0, 100, 110), record(1, 200, 210)], [record(0, 100, 150)]);
        assert_eq!(slowest(&[&fast, &slow], 2), [50]);
    }

    #[test]
    fn a_peer_that_comes_late_is_owed_what_is_retained() {
        let lines: Vec<_> = (0..100).map(|place| (Some(place * 10), 1)).collect();
        let ample = Retention { micros: 10_000, lines: 1000, bytes: 1 << 20 };
        assert_eq!(ample.first_owed(500, &lines), 0);
        assert_eq!(Retention { micros: 100, ..ample }.first_owed(500, &lines), 40);
        assert_eq!(Retention { lines: 5, ..ample }.first_owed(500, &lines), 46);
        assert_eq!(Retention { bytes: 513 * 3, ..ample }.first_owed(500, &lines), 48);
    }

    #[test]
    fn one_of_a_kind_is_not_called_all() {
        assert_eq!([all(1, "peer"), all(9, "peer")], ["the only peer", "all 9 peers"]);
    }

    #[test]
    fn a_claim_with_many_faults_shows_a_few() {
        let check = Check::new("x", (0..9).map(|number| number.to_string()).collect());
        assert_eq!(check.faults, ["0", "1", "2", "3", "and 5 more"]);
    }
}
