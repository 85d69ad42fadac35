//! What the simulated world is like.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Verifier;

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
    /// How far a node's wall clock is off, at most, either way; drawn per node. Default 50 ms.
    pub wall_skew: Duration,
    /// Whether messages are encoded and decoded on their way, as on real links. What cannot be decoded closes
    /// the link, with [`peerage_machine::Why::Fault`]. Changes nothing about a run whose messages can be. Default: in debug builds, for
    /// it costs about as much as the rest.
    pub codec: bool,
    /// How many faults of one peer on one link close it. Default 8.
    pub fault_limit: u32,
}

impl Config {
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
            credit: 1 << 20,
            max_message: 16 << 20,
            grace: millis(2000),
            detection: millis(1000)..=millis(3000),
            unreachable_after: millis(1000),
            store_delay: millis(1),
            verify_delay: Duration::from_micros(100),
            verifier: Verifier::AlwaysValid,
            link_loss_per_second: 0.0,
            wall_skew: millis(50),
            codec: cfg!(debug_assertions),
            fault_limit: 8,
        }
    }
}
