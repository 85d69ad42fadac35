//! One simulated endpoint: what outlives its machine, and what was heard of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use peerage_machine::{CallId, Incarnation, Instant, Machine, Now, OpId, Refusal, Seed, UnixMillis, Write};
use peerage_wire::{Address, PeerId};

use crate::{Instance, Region, Start};

pub(crate) type Batch = Vec<Write>;
pub(crate) type Factory<M> = Box<dyn Fn(Start) -> M>;

/// The wall clocks' time at the start: 2026-01-01 00:00 UTC, give or take [`Config::wall_skew`].
const EPOCH: u64 = 1_767_225_600_000;

pub(crate) struct Node<M: Machine> {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Address>,
    pub(crate) instance: Instance,
    factory: Factory<M>,
    /// Absent after a crash.
    pub(crate) machine: Option<M>,
    pub(crate) incarnation: Incarnation,
    /// How often it was started or crashed: what was scheduled for another epoch is for nobody.
    pub(crate) epoch: u32,
    pub(crate) restarts: u32,
    pub(crate) started: Instant,
    pub(crate) skew: i64,
    /// Microseconds a second by which its wall clock is fast.
    pub(crate) drift: i64,
    pub(crate) region: Region,
    /// Whether others can dial it.
    pub(crate) reachable: bool,
    /// The one-way walls that it stands before, and those that it stands behind; a bit each.
    pub(crate) before: u64,
    pub(crate) behind: u64,
    /// When the earliest of its timer events comes.
    pub(crate) timer_at: Option<Instant>,
    /// How often in a row its deadline was due again at the same instant.
    pub(crate) stalled: u32,
    pub(crate) group: u32,
    pub(crate) store: BTreeMap<Bytes, Bytes>,
    pub(crate) storing: VecDeque<(OpId, Batch)>,
    pub(crate) events: Vec<(Instant, M::Event)>,
    pub(crate) answers: Vec<(Instant, CallId, M::Answer)>,
    pub(crate) refusals: Vec<(Instant, PeerId, Refusal)>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) faults: BTreeMap<&'static str, u64>,
}

impl<M: Machine> Node<M> {
    pub(crate) fn new(
        peer: PeerId,
        addresses: Vec<Address>,
        instance: Instance,
        factory: Factory<M>,
        (skew, drift): (i64, i64),
    ) -> Self {
        Self {
            peer,
            addresses,
            instance,
            factory,
            machine: None,
            incarnation: Incarnation([0; 16]),
            epoch: 0,
            restarts: 0,
            started: Instant::START,
            skew,
            drift,
            region: Region::default(),
            reachable: true,
            before: 0,
            behind: 0,
            timer_at: None,
            stalled: 0,
            group: 0,
            store: BTreeMap::new(),
            storing: VecDeque::new(),
            events: Vec::new(),
            answers: Vec::new(),
            refusals: Vec::new(),
            counters: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    /// Makes the machine, for the first time or anew.
    pub(crate) fn start(&mut self, now: Instant, seed: &Seed) {
        let mut rng = seed.fork("incarnation").rng();
        let incarnation = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        self.incarnation = Incarnation(incarnation.to_be_bytes());
        self.epoch += 1;
        self.started = now;
        self.timer_at = None;
        self.stalled = 0;
        let start = Start {
            now: self.clocks(now),
            seed: seed.fork("machine"),
            me: self.peer,
            addresses: self.addresses.clone(),
            incarnation: self.incarnation,
            restarts: self.restarts,
            stored: self.store.clone(),
        };
        self.restarts += 1;
        self.machine = Some((self.factory)(start));
    }

    /// All of the batch, in order.
    pub(crate) fn store(&mut self, batch: Batch) {
        for write in batch {
            match write.value {
                Some(value) => self.store.insert(write.key, value),
                None => self.store.remove(&write.key),
            };
        }
    }

    pub(crate) fn clocks(&self, now: Instant) -> Now {
        let micros = now.as_micros();
        let drifted = i128::from(micros) * i128::from(self.drift) / 1_000_000;
        let wall = EPOCH + micros.saturating_add_signed(i64::try_from(drifted).unwrap_or(i64::MAX)) / 1000;
        Now {
            mono: Instant::START + now.since(self.started),
            wall: UnixMillis(wall.saturating_add_signed(self.skew)),
        }
    }
}
