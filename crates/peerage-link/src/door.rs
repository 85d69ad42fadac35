//! Who is let in while many want in: cookies before any key is touched.
//!
//! After WireGuard (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", section 5.3): under load, a responder
//! spends one hash on a stranger, keeps nothing of it, and answers with a hash of the stranger's address that only it can
//! make. Who comes back with it can be reached there, and counts as one with all who share that address.

use std::time::Duration;

use peerage_machine::Instant;
use peerage_wire::handshake::{HandshakeMessageError, Opening, peek_opening};
use peerage_wire::preface::{Busy, Cookie, Notice, Preface, PrefaceError};

use crate::pace::Pace;

/// How long a secret serves for making cookies; as long again for checking them. WireGuard's two minutes.
const PERIOD: Duration = Duration::from_secs(120);

/// Places for the rates of addresses. Which one an address shares with others changes with the secret; none is ever added.
const PLACES: usize = 1024;

/// When strangers need a cookie, and how much those who have one may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorConfig {
    /// Half-open handshakes from which on a cookie is asked for.
    pub cookies_above: usize,
    /// Handshakes begun a second without one; a second's worth at once.
    pub without_cookie: u32,
    /// What one is told who speaks another version: a version and suite that will do.
    pub preface: Preface,
    /// Handshakes begun a second by those whose cookies come from one address.
    pub per_source: u32,
}

/// What becomes of a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knock {
    /// It has not said enough.
    Wait,
    /// It has shown its cookie; its bytes are for a [`Link`](crate::Link).
    Enter,
    /// It is told this and hung up on, for that reason.
    Answer(Vec<u8>, Turned),
    /// It does not speak Peerage: it is hung up on without a word.
    Silence,
}

/// Why a stranger at the door was told something and hung up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It speaks another version.
    Incompatible,
    /// It has to come back with a cookie.
    Cookie,
    /// Too many with a cookie of its address came within a second.
    AddressRate,
}

/// Decides about strangers, and keeps nothing of any of them. Reads no clock and draws no bytes.
pub struct Door {
    config: DoorConfig,
    root: [u8; 32],
    /// The secret of a period; that of the one before is made when a cookie needs it.
    period: u64,
    secret: [u8; 32],
    without_cookie: Pace,
    /// Rates by hashed address; empty until the first cookie comes.
    sources: Vec<Pace>,
}

impl Door {
    /// A door. `root` is 32 secret random bytes, used for nothing else.
    pub fn new(config: DoorConfig, root: [u8; 32], now: Instant) -> Self {
        let without_cookie = Pace::new(u64::from(config.without_cookie), Duration::from_secs(1), now);
        let mut door = Self {
            config,
            root,
            period: period_of(now),
            secret: [0; 32],
            without_cookie,
            sources: Vec::new(),
        };
        door.secret = door.secret_of(door.period);
        door
    }

    /// Whether one more stranger comes in without a cookie, when so many handshakes are half-open. It counts as come in.
    pub fn is_open(&mut self, now: Instant, half_open: usize) -> bool {
        self.without_cookie.refill(now);
        half_open < self.config.cookies_above && self.without_cookie.take()
    }

    /// What becomes of a stranger at `source` who has said `heard` so far and needs a cookie. Costs a hash, or three when
    /// there is a cookie.
    pub fn knock(&mut self, now: Instant, source: &[u8], heard: &[u8]) -> Knock {
        let cookie = match peek_opening(heard) {
            Ok(Opening::Partial) => return Knock::Wait,
            Ok(Opening::Whole(cookie)) => cookie,
            Err(HandshakeMessageError::Preface(PrefaceError::Version { .. })) => {
                return Knock::Answer(self.config.preface.encode().to_vec(), Turned::Incompatible);
            }
            Err(_) => return Knock::Silence,
        };
        self.turn(now);
        let (ours, place) = mac(&self.secret, source);
        let valid = cookie.is_some_and(|theirs| {
            is_equal(&theirs, &ours) || {
                let before = self.period.checked_sub(1).map(|period| self.secret_of(period));
                before.is_some_and(|secret| is_equal(&theirs, &mac(&secret, source).0))
            }
        });
        if !valid {
            return Knock::Answer(Notice::Cookie(ours).encode(), Turned::Cookie);
        }
        if self.sources.is_empty() {
            let full = Pace::new(u64::from(self.config.per_source), Duration::from_secs(1), now);
            self.sources = vec![full; PLACES];
        }
        let Some(pace) = self.sources.get_mut(place % PLACES) else { return Knock::Enter };
        pace.refill(now);
        if pace.take() {
            Knock::Enter
        } else {
            Knock::Answer(Notice::Busy(Busy::Address).encode(), Turned::AddressRate)
        }
    }

    fn turn(&mut self, now: Instant) {
        let period = period_of(now);
        if period != self.period {
            (self.period, self.secret) = (period, self.secret_of(period));
        }
    }

    fn secret_of(&self, period: u64) -> [u8; 32] {
        *blake3::keyed_hash(&self.root, &period.to_le_bytes()).as_bytes()
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("config", &self.config).finish_non_exhaustive()
    }
}

fn period_of(now: Instant) -> u64 {
    now.since(Instant::START).as_secs() / PERIOD.as_secs()
}

/// The cookie of a source, and its place among the rates.
fn mac(secret: &[u8; 32], source: &[u8]) -> (Cookie, usize) {
    let hash = blake3::keyed_hash(secret, source);
    let mut cookie = Cookie::default();
    let (front, back) = hash.as_bytes().split_at(cookie.len());
    cookie.copy_from_slice(front);
    let place = back.first_chunk::<2>().map_or(0, |place| usize::from(u16::from_le_bytes(*place)));
    (cookie, place)
}

/// In the same time wherever they differ.
fn is_equal(a: &Cookie, b: &Cookie) -> bool {
    a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
