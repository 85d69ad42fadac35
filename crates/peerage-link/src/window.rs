//! The credit of one class of a channel, and how it grows and shrinks.
//!
//! A window that is used up within two round trips is what holds the sender up, so it doubles, as far as the endpoint's
//! budget allows: what is measured is the product of bandwidth and delay, and the window comes to between two and four
//! times that. The round trip is the least that was ever seen, because a peer can make it look longer, and never shorter.
//! A window that is hardly used for sixteen round trips halves, as credit is not renewed. Credit that was given is never
//! taken back: where others want it, the peer is asked to return what it does not use.

use std::time::Duration;

use peerage_machine::Instant;
use peerage_wire::limits::MAX_FRAGMENT;

use crate::budget::Share;

/// Bytes taken between two looks at a window.
const CHECK: u64 = MAX_FRAGMENT as u64;
/// A round trip counts for as much at least: on loopback, what tasks wait for their turns is more than a ping takes.
/// Also bounds what stands in the receiver's socket: a window is at most four rounds of what it takes.
const LEAST_ROUND: Duration = Duration::from_micros(200);
/// And as so much at most: a peer that is late from the first byte of its handshake on looks like one that is far away,
/// and gains as much as one that is. Satellites in a stationary orbit take 0.6 s, and within two rounds a window grows.
const MOST_ROUND: Duration = Duration::from_millis(400);
/// A window that grows in two round trips of use shrinks after so many without.
const IDLE_ROUNDS: u32 = 16;
/// And not sooner than this, so that short pauses do not cost it.
pub(crate) const LEAST_IDLE: Duration = Duration::from_secs(1);

/// What windows are measured by, the same for all of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauge {
    pub(crate) now: Instant,
    round: Duration,
    /// How long the way there and back is at present.
    way: Duration,
    /// The window that a channel starts with, and never falls below.
    pub(crate) least: u64,
    most: u64,
}

impl Gauge {
    pub(crate) fn new(now: Instant, least: u64, most: u64) -> Self {
        Self { now, round: LEAST_ROUND, way: LEAST_ROUND, least, most: most.max(least) }
    }

    /// The least round-trip time that was ever seen, and what it is now.
    pub(crate) fn measured(&mut self, least: Duration, rtt: Duration) {
        self.round = least.clamp(LEAST_ROUND, MOST_ROUND);
        self.way = rtt.clamp(self.round, MOST_ROUND);
    }

    /// For how long a window must have been used little to count as idle.
    fn idle_after(&self) -> Duration {
        (IDLE_ROUNDS * self.round).max(LEAST_IDLE)
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
    /// Since when anything is owed.
    owed_since: Instant,
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
            owed_since: gauge.now,
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

    /// So much of what the peer sent has found its place.
    pub(crate) fn give_back(&mut self, cost: u64, gauge: &Gauge, share: &mut Share) {
        let kept = cost.min(self.size.saturating_sub(self.target));
        if kept > 0 {
            self.size -= kept;
            share.give(kept);
        }
        self.owe(cost - kept, gauge);
        self.used += cost;
        self.unchecked += cost;
        if self.unchecked >= CHECK {
            self.unchecked = 0;
            self.adjust(gauge, share);
        }
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
        } else if age >= gauge.idle_after() {
            self.target = gauge.least.max(self.size / 2);
            if share.held() == 0 {
                share.rest();
            }
            self.measure_anew(gauge);
        }
    }

    /// Whether less than half of it has been used for a while. Of one that was used more, and then perhaps no more, use
    /// is measured anew: nothing else looks at it until more comes.
    pub(crate) fn is_idle(&mut self, gauge: &Gauge) -> bool {
        if gauge.now.since(self.since) < gauge.idle_after() {
            return false;
        }
        let is_idle = self.used * 2 < self.size;
        if !is_idle {
            self.measure_anew(gauge);
        }
        is_idle
    }

    /// It is idle, and others want what it has: it shrinks to what was used of late. How much the peer should return for
    /// that; what it was not told of yet is simply kept.
    pub(crate) fn shrink(&mut self, gauge: &Gauge, share: &mut Share) -> u64 {
        // Of sixteen rounds of use, two would do.
        self.target = self.target.min(gauge.least.max(self.used));
        let kept = self.owed.min(self.size.saturating_sub(self.target));
        self.owed -= kept;
        self.size -= kept;
        share.give(kept);
        self.measure_anew(gauge);
        self.unreturned()
    }

    /// What the peer could still return of what it should.
    fn unreturned(&self) -> u64 {
        self.size.saturating_sub(self.target).min(self.available)
    }

    /// The peer will not use so much of its credit; false when it has not got as much. What is not to shrink is owed to it
    /// again.
    pub(crate) fn returned(&mut self, bytes: u64, gauge: &Gauge, share: &mut Share) -> bool {
        if !self.spend(bytes) {
            return false;
        }
        let kept = bytes.min(self.size.saturating_sub(self.target));
        self.size -= kept;
        share.give(kept);
        self.owe(bytes - kept, gauge);
        true
    }

    fn owe(&mut self, bytes: u64, gauge: &Gauge) {
        if self.owed == 0 {
            self.owed_since = gauge.now;
        }
        self.owed += bytes;
    }

    /// Once a quarter of the window is owed, so that credit costs one frame in a few.
    pub(crate) fn is_due(&self) -> bool {
        self.owed >= (self.size / 4).max(1)
    }

    /// Whether the peer may soon have to wait for what it is owed: it sent that within a round trip, or has no more left. Until
    /// then a `Credit` can wait for something to go with: by itself it costs a packet, and wakes the peer for nothing else. The
    /// round trip is that of now: a peer that makes it look longer gets its credit sooner, and no more of it.
    pub(crate) fn is_urgent(&self, gauge: &Gauge) -> bool {
        self.is_due() && (self.owed >= self.available || gauge.now.since(self.owed_since) < gauge.way)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::budget::Budget;

    #[test]
    fn what_is_owed_waits_no_longer_than_the_way_is_now_however_short_it_was() {
        let ms = Duration::from_millis;
        let mut gauge = Gauge::new(Instant::START, 64 << 10, 16 << 20);
        let mut share = Share::new(Arc::new(Budget::new(1 << 20)));
        let urgent = |gauge: &mut Gauge, share: &mut Share| {
            let mut window = Window::new(gauge);
            for _ in 0..4 {
                assert!(window.spend(4 << 10));
                window.give_back(4 << 10, gauge, share);
                gauge.now = gauge.now + ms(5);
            }
            assert!(window.is_due());
            window.is_urgent(gauge)
        };
        gauge.measured(ms(10), ms(10));
        assert!(!urgent(&mut gauge, &mut share));
        gauge.measured(ms(10), ms(60));
        assert!(urgent(&mut gauge, &mut share));
    }

    #[test]
    fn whoever_stops_just_behind_the_half_is_idle_as_well() {
        let mut gauge = Gauge::new(Instant::START, 64 << 10, 16 << 20);
        let mut share = Share::new(Arc::new(Budget::new(1 << 20)));
        let mut window = Window::new(&gauge);
        let mut take = |window: &mut Window, cost| {
            assert!(window.spend(cost));
            window.give_back(cost, &gauge, &mut share);
            window.take_owed();
        };
        take(&mut window, CHECK);
        take(&mut window, CHECK);
        assert_eq!(window.grown(&gauge), 64 << 10);
        // Two looks below the half, and then past it with none to come.
        for _ in 0..5 {
            take(&mut window, CHECK - 4);
        }
        assert!(window.used * 2 > window.size);
        let looks = (0..4).map(|_| {
            gauge.now = gauge.now + LEAST_IDLE;
            window.is_idle(&gauge)
        });
        assert_eq!(looks.collect::<Vec<_>>(), [false, true, true, true]);
    }
}
