//! The two clocks of a host.

use std::time::{SystemTime, UNIX_EPOCH};

use peerage_machine::{Instant, Now, UnixMillis};

/// Reads tokio's clock, which tests can pause, and the system's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: tokio::time::Instant::now() }
    }

    pub(crate) fn mono(&self) -> Instant {
        let micros = self.started.elapsed().as_micros();
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    pub(crate) fn wall() -> UnixMillis {
        // A clock before 1970 reads as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.mono(), wall: Self::wall() }
    }

    /// When tokio's clock reads `at`.
    pub(crate) fn at(&self, at: Instant) -> tokio::time::Instant {
        self.started + at.since(Instant::START)
    }
}
