//! What the simulated world is like.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::{Verifier, Wire};

/// A part of the world: [`crate::Sim::place_in`]. Nodes are in the first one unless they are put elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region(pub u8);

/// What the way between two regions is like, or between two nodes of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// One-way latency; each pair of nodes draws its own from here, once.
    pub latency: RangeInclusive<Duration>,
    /// The most that one message is later than its pair's latency.
    pub jitter: Duration,
    /// Bytes per second of each link in each direction, or no limit.
    pub bandwidth: Option<u64>,
}

/// What the simulated world is like. Everything random in it comes from `seed`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The one seed. Default 0.
    pub seed: u64,
    /// One-way latency; each pair of nodes draws its own from here, once. Default 5 to 50 ms.
    pub latency: RangeInclusive<Duration>,
    /// The most that one message is later than its pair's latency; drawn per message. Order within a link, direction
    /// and class is kept. Default 2 ms.
    pub jitter: Duration,
    /// Bytes per second of each link in each direction, or no limit. Default: no limit.
    ///
    /// A message leaves when those of its class and of the more urgent classes before it have left. So bulk waits for
    /// interactive messages and not the other way; what was begun is not taken back.
    pub bandwidth: Option<u64>,
    /// The ways that are unlike the three above, by the two regions that they lead between, the smaller first. Default:
    /// none.
    pub routes: BTreeMap<(Region, Region), Route>,
    /// Credit of each direction of each link for interactive and bulk messages, in bytes. Default 1 MiB.
    pub credit: u64,
    /// The longest message that a node takes, in bytes. Default 16 MiB.
    pub max_message: u64,
    /// How long a link that neither side holds stays. Default 2 s.
    pub grace: Duration,
    /// How long after a crash or a partition the other side of a link notices; drawn per link and side.
    /// Default 1 to 3 s.
    pub detection: RangeInclusive<Duration>,
    /// How long a dial to where nobody answers takes to fail, per address. Default 1 s.
    pub unreachable_after: Duration,
    /// How long a batch takes to reach the store. Default 1 ms.
    pub store_delay: Duration,
    /// How long a signature check takes. Default 100 µs.
    pub verify_delay: Duration,
    /// How signature checks end. Default: every signature is good.
    pub verifier: Verifier,
    /// With what probability each link is lost in each second, 0 to 1. Default 0.
    pub link_loss_per_second: f64,
    /// With what probability each link is half open from each second on, 0 to 1: one of its ends has lost it and knows; the
    /// other one goes on sending until it notices, after [`Config::detection`]. Default 0.
    pub half_open_per_second: f64,
    /// With what probability each direction of each link stalls in each second, 0 to 1: as a stream whose packets are lost,
    /// it carries nothing for a while and then everything, in order. Default 0.
    pub stalls_per_second: f64,
    /// How long a stall lasts; drawn per stall. Default 200 ms to 2 s.
    pub stall: RangeInclusive<Duration>,
    /// How far a node's wall clock is off, at most, either way; drawn per node. Default 50 ms.
    pub wall_skew: Duration,
    /// How much faster or slower than time a node's wall clock runs, at most, in microseconds a second; drawn per node.
    /// Default 0.
    pub wall_drift: u32,
    /// Whether messages are encoded and decoded on their way, as on real links. What cannot be decoded closes
    /// the link, with [`peerage_machine::Why::Fault`]. Changes nothing about a run whose messages can be. Default: in debug builds, for
    /// it costs about as much as the rest.
    pub codec: bool,
    /// Has links be as on real connections, down to the bytes. Codec and credit are then the links' own matter. Default:
    /// messages move as values.
    pub wire: Option<Wire>,
    /// How many faults of one peer on one link close it. Default 8.
    pub fault_limit: u32,
}

impl Config {
    /// The way between nodes of these regions: latency, jitter, bandwidth.
    pub(crate) fn route(&self, a: Region, b: Region) -> (&RangeInclusive<Duration>, Duration, Option<u64>) {
        if self.routes.is_empty() {
            return (&self.latency, self.jitter, self.bandwidth);
        }
        self.routes.get(&(a.min(b), a.max(b))).map_or((&self.latency, self.jitter, self.bandwidth), |route| {
            (&route.latency, route.jitter, route.bandwidth)
        })
    }

    /// Whether links have to be looked at each second.
    pub(crate) fn troubles_links(&self) -> bool {
        [self.link_loss_per_second, self.half_open_per_second, self.stalls_per_second]
            .iter()
            .any(|p| *p > 0.0)
    }

    /// The defaults, with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self {
            seed: 0,
            latency: millis(5)..=millis(50),
            jitter: millis(2),
            bandwidth: None,
            routes: BTreeMap::new(),
            credit: 1 << 20,
            max_message: 16 << 20,
            grace: millis(2000),
            detection: millis(1000)..=millis(3000),
            unreachable_after: millis(1000),
            store_delay: millis(1),
            verify_delay: Duration::from_micros(100),
            verifier: Verifier::AlwaysValid,
            link_loss_per_second: 0.0,
            half_open_per_second: 0.0,
            stalls_per_second: 0.0,
            stall: millis(200)..=millis(2000),
            wall_skew: millis(50),
            wall_drift: 0,
            codec: cfg!(debug_assertions),
            wire: None,
            fault_limit: 8,
        }
    }
}
