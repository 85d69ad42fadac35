//! Pings: is the peer there, and how far away.

use std::sync::Arc;
use std::time::Duration;

use peerage_machine::Instant;

use crate::LinkConfig;

/// The handshake's round trip has four curve operations in it, so that a link is soon measured without.
const FIRST_PING: Duration = Duration::from_millis(20);

/// This part of the wait for it a ping may be early. Of most waits it is more than the 64 ms before a timer for which tokio first looks at
/// it.
const EARLY: u32 = 8;

/// When to ping, when to give up, and the round-trip time.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    config: Arc<LinkConfig>,
    /// From one ping to the next; doubles up to [`LinkConfig::ping_every`].
    wait: Duration,
    last_heard: Instant,
    /// Since when a record has been on its way, and how many bytes of it are here.
    part: Option<(Instant, usize)>,
    next_ping: Instant,
    nonce: u64,
    waiting: Option<(u64, Instant)>,
    probe: Option<Box<Probe>>,
    smoothed: Option<Duration>,
    /// The least of all, which has the least of queues in it, the handshake's among them. A peer can answer late, and
    /// cannot take back that it has been faster.
    least: Option<Duration>,
    /// By a ping, not by the handshake.
    measured: bool,
}

/// A question whether the peer is still there, to be answered sooner than silence would tell.
#[derive(Debug)]
struct Probe {
    nonce: u64,
    /// What was heard since then is no leftover of a peer that is gone.
    counts_from: Instant,
    ends: Instant,
    after: Duration,
}

/// What the timer found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Ping(u64),
    /// Nothing was heard for so long.
    Silent(Duration),
    /// The peer has not answered the probe, and yet it speaks.
    Answered,
    /// A record has been on its way for too long.
    Slow,
    Nothing,
}

impl KeepAlive {
    pub(crate) fn new(config: Arc<LinkConfig>, now: Instant) -> Self {
        let wait = FIRST_PING.min(config.ping_every);
        Self {
            config,
            wait,
            last_heard: now,
            part: None,
            next_ping: now + wait,
            nonce: 0,
            waiting: None,
            probe: None,
            smoothed: None,
            least: None,
            measured: false,
        }
    }

    /// A whole record came.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.part = None;
    }

    /// So many bytes of a record are here. Each shows that the peer lives, as far as the network lets it; but a record
    /// has its time.
    pub(crate) fn heard_part(&mut self, now: Instant, bytes: usize) {
        let (since, before) = self.part.unwrap_or((now, 0));
        if bytes > before {
            self.last_heard = now;
            self.part = Some((since, bytes));
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        let regular = self.next_ping.min(self.last_heard + self.config.silent_after);
        let regular = self.probe.as_ref().map_or(regular, |probe| regular.min(probe.ends));
        self.part.map_or(regular, |(since, _)| regular.min(since + self.config.record_timeout))
    }

    /// Asks the peer for a sign of life, within [`LinkConfig::probe_timeout`] or four round trips if that is longer:
    /// the nonce of the ping to send, or none when the peer has been asked already.
    pub(crate) fn probe(&mut self, now: Instant) -> Option<u64> {
        if self.probe.is_some() {
            return None;
        }
        self.nonce += 1;
        if self.waiting.is_none() {
            self.waiting = Some((self.nonce, now));
        }
        let after = self.config.probe_timeout.max(self.smoothed.unwrap_or_default() * 4);
        // What the socket still holds of a peer that is gone is read soon; half the time is late enough.
        let counts_from = now + after / 2;
        self.probe = Some(Box::new(Probe { nonce: self.nonce, counts_from, ends: now + after, after }));
        Some(self.nonce)
    }

    /// Whether a pong answers the probe, which then is over.
    pub(crate) fn answers_probe(&mut self, nonce: u64) -> bool {
        self.probe.take_if(|probe| nonce >= probe.nonce).is_some()
    }

    pub(crate) fn on_timer(&mut self, now: Instant) -> Due {
        if now >= self.last_heard + self.config.silent_after {
            return Due::Silent(self.config.silent_after);
        }
        if let Some(probe) = self.probe.take_if(|probe| now >= probe.ends) {
            return if self.last_heard > probe.counts_from {
                Due::Answered
            } else {
                Due::Silent(probe.after)
            };
        }
        if self.part.is_some_and(|(since, _)| now >= since + self.config.record_timeout) {
            return Due::Slow;
        }
        if now < self.next_ping {
            return Due::Nothing;
        }
        Due::Ping(self.ping(now))
    }

    /// Something has come, and something may go: the next ping, if it is nearly due. So the timer of a link in use need not
    /// ring for it.
    pub(crate) fn ping_early(&mut self, now: Instant) -> Option<u64> {
        (now + self.wait / EARLY >= self.next_ping).then(|| self.ping(now))
    }

    fn ping(&mut self, now: Instant) -> u64 {
        self.nonce += 1;
        self.wait = (self.wait * 2).min(self.config.ping_every);
        self.next_ping = now + self.wait;
        // An answer still owed keeps its ping: a later one would hide how late the peer is.
        if self.waiting.is_none() {
            self.waiting = Some((self.nonce, now));
        }
        self.nonce
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
        self.least = Some(self.least.map_or(sample, |least| least.min(sample)));
        (self.smoothed, self.measured) = (Some(smoothed), true);
        Some(smoothed)
    }

    /// What the handshake took, until a ping tells better.
    pub(crate) fn estimate(&mut self, rtt: Duration) {
        (self.smoothed, self.least) = (Some(rtt), Some(rtt));
    }

    /// The least round-trip time that was seen: the one without queues.
    pub(crate) fn least(&self) -> Option<Duration> {
        self.least
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.smoothed
    }
}
