//! The credit of one class of a channel, and how it grows and shrinks.
//!
//! A window that is used up within two round trips is what holds the sender up, so it doubles, as far as the endpoint's
//! budget allows: what is measured is the product of bandwidth and delay, and the window comes to between two and four
//! times that. One that is hardly used for sixteen round trips halves. Credit that was given is never taken back;
//! a window shrinks as credit is not renewed.

use std::time::Duration;

use peerage_machine::Instant;
use peerage_wire::limits::MAX_FRAGMENT;

use crate::budget::Share;

/// Bytes taken between two looks at a window.
const CHECK: u64 = MAX_FRAGMENT as u64;
/// A round trip counts for as much at least: on loopback, what tasks wait for their turns is more than a ping takes.
/// Also bounds what stands in the receiver's socket: a window is at most four rounds of what it takes.
const LEAST_ROUND: Duration = Duration::from_micros(200);
/// A window that grows in two round trips of use shrinks after so many without.
const IDLE_ROUNDS: u32 = 16;
/// And not sooner than this, so that short pauses do not cost it.
const LEAST_IDLE: Duration = Duration::from_secs(1);

/// What windows are measured by, the same for all of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauge {
    pub(crate) now: Instant,
    round: Duration,
    /// The window that a channel starts with, and never falls below.
    pub(crate) least: u64,
    most: u64,
}

impl Gauge {
    pub(crate) fn new(now: Instant, least: u64, most: u64) -> Self {
        Self { now, round: LEAST_ROUND, least, most: most.max(least) }
    }

    /// The round-trip time, without what it queues.
    pub(crate) fn measured(&mut self, rtt: Duration) {
        self.round = rtt.max(LEAST_ROUND);
    }
}

/// One class of a channel.
#[derive(Debug)]
pub(crate) struct Window {
    /// All of it: what the peer may still send, what it is owed, and what is withheld.
    size: u64,
    /// What it shrinks to, when that is less.
    target: u64,
    /// What the peer may still send.
    available: u64,
    /// What it will be allowed with the next `Credit`.
    owed: u64,
    /// Since when use is measured, and how much it was.
    since: Instant,
    used: u64,
    unchecked: u64,
}

impl Window {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        Self {
            size: gauge.least,
            target: gauge.least,
            available: gauge.least,
            owed: 0,
            since: gauge.now,
            used: 0,
            unchecked: 0,
        }
    }

    /// What the peer may still send.
    pub(crate) fn available(&self) -> u64 {
        self.available
    }

    /// What the peer has sent and not been given back.
    pub(crate) fn spent(&self) -> u64 {
        self.size - self.available
    }

    /// What it has of the endpoint's budget.
    pub(crate) fn grown(&self, gauge: &Gauge) -> u64 {
        self.size - gauge.least
    }

    /// The peer sent so much; false when it may not.
    pub(crate) fn spend(&mut self, cost: u64) -> bool {
        match self.available.checked_sub(cost) {
            Some(left) => {
                self.available = left;
                true
            }
            None => false,
        }
    }

    /// So much of what the peer sent has found its place. Whether it is due a `Credit`: once a quarter of the window is
    /// owed, so that credit costs one frame in a few.
    pub(crate) fn give_back(&mut self, cost: u64, gauge: &Gauge, share: &mut Share) -> bool {
        let kept = cost.min(self.size.saturating_sub(self.target));
        if kept > 0 {
            self.size -= kept;
            share.give(kept);
        }
        self.owed += cost - kept;
        self.used += cost;
        self.unchecked += cost;
        if self.unchecked >= CHECK {
            self.unchecked = 0;
            self.adjust(gauge, share);
        }
        self.owed >= (self.size / 4).max(1)
    }

    fn adjust(&mut self, gauge: &Gauge, share: &mut Share) {
        if self.size > gauge.least && share.is_over() {
            // Others want some: half of what comes is not renewed, as long as that is so.
            self.target = gauge.least.max(self.size - CHECK / 2);
            return self.measure_anew(gauge);
        }
        let age = gauge.now.since(self.since);
        if self.used * 2 >= self.size {
            // Used up within two round trips, or as much of it in as much of them.
            if age.as_micros() * u128::from(self.size) <= 2 * gauge.round.as_micros() * u128::from(self.used)
            {
                let granted = share.grow(self.size.min(gauge.most - self.size));
                self.size += granted;
                self.owed += granted;
                self.target = self.size;
            }
            self.measure_anew(gauge);
        } else if age >= (IDLE_ROUNDS * gauge.round).max(LEAST_IDLE) {
            self.target = gauge.least.max(self.size / 2);
            share.rest();
            self.measure_anew(gauge);
        }
    }

    fn measure_anew(&mut self, gauge: &Gauge) {
        (self.since, self.used) = (gauge.now, 0);
    }

    /// The peer is told of what it is owed.
    pub(crate) fn take_owed(&mut self) -> u64 {
        let owed = std::mem::take(&mut self.owed);
        self.available += owed;
        owed
    }
}
