//! Which addresses the system is to keep out for a while, because too many strangers come from them.
//!
//! Who sends the most is found as Misra and Gries do ("Finding repeated elements", 1982): with so many counters, however
//! many addresses there are, none of them says more than has come, and whatever is more than a part in 257 of all is
//! among them. So nobody is kept out for what others did.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage_machine::Instant;

/// Addresses whose strangers are counted at a time.
const COUNTED: usize = 256;
/// Strangers are counted over so long.
const WINDOW: Duration = Duration::from_secs(1);
/// Who was kept out and comes back may send one in so many of what another may.
const TRIAL: u32 = 10;
/// Addresses that somebody vouched for; the oldest goes first.
const VOUCHED: usize = 1_024;

/// When an address is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheddingConfig {
    /// Strangers without a good cookie in a second from one address; with the next one it is kept out. 0: none ever is.
    pub per_second: u32,
    /// The most addresses that are kept out at a time.
    pub most: usize,
    /// For how long; and for as long after that, a tenth of [`SheddingConfig::per_second`] is enough.
    pub span: Duration,
    /// For how long an address is not, after somebody there has shown a good cookie or had a link.
    pub vouched: Duration,
}

/// Counts strangers by address, and says who is kept out. Reads no clock; bounded by [`SheddingConfig::most`] and numbers
/// of its own.
#[derive(Debug)]
pub struct Shedding<S> {
    config: SheddingConfig,
    window: Instant,
    counted: BTreeMap<S, u32>,
    shed: BTreeMap<S, Instant>,
    /// Those who were, until when they are tried.
    tried: BTreeMap<S, Instant>,
    vouched: BTreeMap<S, Instant>,
    changes: u64,
}

impl<S: Copy + Ord> Shedding<S> {
    /// Nobody is kept out.
    pub fn new(config: SheddingConfig, now: Instant) -> Self {
        Self {
            config,
            window: now,
            counted: BTreeMap::new(),
            shed: BTreeMap::new(),
            tried: BTreeMap::new(),
            vouched: BTreeMap::new(),
            changes: 0,
        }
    }

    /// A stranger without a good cookie came from there. True when that is one too many: then call
    /// [`Shedding::shed`], or [`Shedding::vouch`] if there is a link to it.
    pub fn count(&mut self, now: Instant, source: S) -> bool {
        if self.config.per_second == 0 {
            return false;
        }
        if now.since(self.window) >= WINDOW || now < self.window {
            self.window = now;
            self.counted.clear();
        }
        if !self.counted.contains_key(&source) && self.counted.len() >= COUNTED {
            self.counted.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
            return false;
        }
        let most = match self.is_tried(now, source) {
            true => (self.config.per_second / TRIAL).max(1),
            false => self.config.per_second,
        };
        let count = self.counted.entry(source).or_default();
        *count = count.saturating_add(1);
        *count > most && self.has_room(&source) && !self.is_shed(&source) && !self.is_vouched(now, &source)
    }

    /// Keeps it out from now on. False when there is no room for one more, or somebody vouched for it.
    pub fn shed(&mut self, now: Instant, source: S) -> bool {
        if self.is_vouched(now, &source) || !self.has_room(&source) {
            return false;
        }
        self.shed.insert(source, now + self.config.span);
        self.changes += 1;
        true
    }

    /// Somebody there has shown a good cookie, or has a link: it is not kept out, now and for a while.
    pub fn vouch(&mut self, now: Instant, source: S) {
        if self.config.per_second == 0 {
            return;
        }
        if self.vouched.len() >= VOUCHED && !self.vouched.contains_key(&source) {
            self.vouched.retain(|_, until| now < *until);
        }
        if self.vouched.len() >= VOUCHED && !self.vouched.contains_key(&source) {
            let oldest = self.vouched.iter().min_by_key(|(_, until)| **until).map(|(source, _)| *source);
            oldest.map(|oldest| self.vouched.remove(&oldest));
        }
        self.vouched.insert(source, now + self.config.vouched);
        self.tried.remove(&source);
        self.changes += u64::from(self.shed.remove(&source).is_some());
    }

    /// Lets those come again whose time is over; they are tried for as long.
    pub fn release(&mut self, now: Instant) {
        let most = self.config.most;
        let Self { shed, tried, changes, config, .. } = self;
        tried.retain(|_, until| now < *until);
        shed.retain(|source, until| {
            let stays = now < *until;
            if !stays {
                *changes += 1;
                // Twice as many as are kept out have ever been within two spans.
                if tried.len() < 2 * most {
                    tried.insert(*source, now + config.span);
                }
            }
            stays
        });
    }

    /// When somebody's time is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.shed.values().min().copied()
    }

    /// Who is kept out, in order.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = S> {
        self.shed.keys().copied()
    }

    /// Another number whenever [`Shedding::sources`] are others.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether it was kept out not long ago.
    pub fn is_tried(&self, now: Instant, source: S) -> bool {
        self.tried.get(&source).is_some_and(|until| now < *until)
    }

    fn has_room(&self, source: &S) -> bool {
        self.shed.len() < self.config.most || self.is_shed(source)
    }

    fn is_shed(&self, source: &S) -> bool {
        self.shed.contains_key(source)
    }

    fn is_vouched(&self, now: Instant, source: &S) -> bool {
        self.vouched.get(source).is_some_and(|until| now < *until)
    }
}
