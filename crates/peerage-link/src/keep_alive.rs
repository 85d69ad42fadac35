//! Pings: is the peer there, and how far away.

use std::time::Duration;

use peerage_machine::Instant;

use crate::LinkConfig;

/// The handshake's round trip has four curve operations in it, so that a link is soon measured without.
const FIRST_PING: Duration = Duration::from_millis(20);

/// When to ping, when to give up, and the round-trip time.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    /// From one ping to the next; doubles up to `every`.
    wait: Duration,
    every: Duration,
    silent_after: Duration,
    last_heard: Instant,
    next_ping: Instant,
    nonce: u64,
    waiting: Option<(u64, Instant)>,
    smoothed: Option<Duration>,
    /// By a ping, not by the handshake.
    measured: bool,
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
            wait: FIRST_PING.min(config.ping_every),
            every: config.ping_every,
            silent_after: config.silent_after,
            last_heard: now,
            next_ping: now + FIRST_PING.min(config.ping_every),
            nonce: 0,
            waiting: None,
            smoothed: None,
            measured: false,
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
        self.wait = (self.wait * 2).min(self.every);
        self.next_ping = now + self.wait;
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
        let sample = now.since(sent);
        // RFC 6298, section 2: a new sample counts an eighth.
        let smoothed = match self.smoothed {
            Some(old) if self.measured => (old * 7 + sample) / 8,
            _ => sample,
        };
        (self.smoothed, self.measured) = (Some(smoothed), true);
        Some(smoothed)
    }

    /// What the handshake took, until a ping tells better.
    pub(crate) fn estimate(&mut self, rtt: Duration) {
        self.smoothed = Some(rtt);
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.smoothed
    }
}
