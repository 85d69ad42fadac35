//! Pings: is the peer there, and how far away.

use std::time::Duration;

use peerage_machine::Instant;

use crate::LinkConfig;

/// When to ping, when to give up, and the round-trip time.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    every: Duration,
    silent_after: Duration,
    last_heard: Instant,
    next_ping: Instant,
    nonce: u64,
    waiting: Option<(u64, Instant)>,
    smoothed: Option<Duration>,
}

/// What the timer found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Ping(u64),
    Silent,
    Nothing,
}

impl KeepAlive {
    pub(crate) fn new(config: &LinkConfig, now: Instant) -> Self {
        Self {
            every: config.ping_every,
            silent_after: config.silent_after,
            last_heard: now,
            next_ping: now + config.ping_every,
            nonce: 0,
            waiting: None,
            smoothed: None,
        }
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.next_ping.min(self.last_heard + self.silent_after)
    }

    pub(crate) fn on_timer(&mut self, now: Instant) -> Due {
        if now >= self.last_heard + self.silent_after {
            return Due::Silent;
        }
        if now < self.next_ping {
            return Due::Nothing;
        }
        self.nonce += 1;
        self.next_ping = now + self.every;
        // An answer still owed keeps its ping: a later one would hide how late the peer is.
        if self.waiting.is_none() {
            self.waiting = Some((self.nonce, now));
        }
        Due::Ping(self.nonce)
    }

    /// A pong came; the new round-trip time when it answers the ping that is waited for.
    pub(crate) fn pong(&mut self, now: Instant, nonce: u64) -> Option<Duration> {
        let (expected, sent) = self.waiting?;
        if nonce < expected {
            return None;
        }
        self.waiting = None;
        if nonce != expected {
            return None;
        }
        Some(self.sample(now.since(sent)))
    }

    /// RFC 6298, section 2: the new sample counts an eighth.
    pub(crate) fn sample(&mut self, sample: Duration) -> Duration {
        let smoothed = self.smoothed.map_or(sample, |old| (old * 7 + sample) / 8);
        self.smoothed = Some(smoothed);
        smoothed
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.smoothed
    }
}
