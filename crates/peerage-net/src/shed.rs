//! Addresses that the system keeps out, because too many strangers come from them.

use peerage_link::SheddingConfig;

use crate::config::Config;
use crate::hub::Shared;
use crate::scratch::lock;
use crate::source::Source;
use crate::transport::Listener;

/// Addresses at a time. The filter compares one after the other, some 10 ns each by an estimate.
pub(crate) const MOST: usize = 64;
/// How long a good cookie speaks for an address: as long as it is good at least.
const VOUCHED: std::time::Duration = std::time::Duration::from_secs(120);

/// As the config has it.
pub(crate) fn config(config: &Config) -> SheddingConfig {
    let per_second = config.strangers_per_second_per_address;
    SheddingConfig { per_second, most: MOST, span: config.shed_for, vouched: VOUCHED }
}

impl Shared {
    /// A stranger without a good cookie was there.
    pub(crate) fn met_stranger(&self, source: Source) {
        let now = self.clock.mono();
        if !lock(&self.shedding).count(now, source) {
            return;
        }
        // Asked with the table free, and seldom: who has a link is vouched for.
        if self.has_link_to(source) {
            lock(&self.shedding).vouch(now, source);
            return;
        }
        let mut shedding = lock(&self.shedding);
        let again = shedding.is_tried(now, source);
        if !shedding.shed(now, source) {
            return;
        }
        drop(shedding);
        self.counters.shed.add(1);
        let (address, seconds) = (self.shown(source), self.config.shed_for.as_secs_f64());
        if again {
            tracing::debug!(%address, seconds, "an address that sent too many strangers still does; it is not answered");
        } else {
            tracing::warn!(%address, seconds, "an address sends too many strangers; it is not answered for a while");
        }
    }

    /// Somebody at this address has shown a good cookie, or has a link.
    pub(crate) fn vouch(&self, source: Source) {
        let mut shedding = lock(&self.shedding);
        let before = shedding.changes();
        shedding.vouch(self.clock.mono(), source);
        let released = before != shedding.changes();
        drop(shedding);
        if released {
            self.released.notify_waiters();
        }
    }
}

/// What one listener has had the system do.
pub(crate) struct KeptOut {
    /// Whether it can.
    works: bool,
    changes: u64,
}

impl KeptOut {
    pub(crate) fn new(shared: &Shared, listener: &mut dyn Listener) -> Self {
        let works = listener.keep_out(&[]);
        if let Err(error) = &works {
            let address = shared.shown(listener.address());
            tracing::debug!(%address, %error, "addresses that send too many strangers cannot be kept out here");
        }
        Self { works: works.is_ok(), changes: 0 }
    }

    /// Whether strangers of this listener are to be counted.
    pub(crate) fn works(&self) -> bool {
        self.works
    }

    /// Whether there is something new for the system.
    pub(crate) fn is_stale(&self, shared: &Shared) -> bool {
        self.works && self.changes != lock(&shared.shedding).changes()
    }

    /// Brings the system up to date; until when.
    pub(crate) fn update(
        &mut self,
        shared: &Shared,
        listener: &mut dyn Listener,
    ) -> Option<tokio::time::Instant> {
        let mut shedding = lock(&shared.shedding);
        // Also where it does not work any more, so that nobody is said to be kept out who is not.
        shedding.release(shared.clock.mono());
        if !self.works {
            return None;
        }
        let deadline = shedding.deadline().map(|deadline| shared.clock.at(deadline));
        if self.changes == shedding.changes() {
            return deadline;
        }
        self.changes = shedding.changes();
        let sources: Vec<_> = shedding.sources().collect();
        drop(shedding);
        if let Err(error) = listener.keep_out(&sources) {
            self.works = false;
            let address = shared.shown(listener.address());
            tracing::warn!(%address, %error, "the system does not let addresses be kept out; going on without");
            return None;
        }
        deadline
    }
}
