//! The two clocks of a host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use peerage_machine::{Instant, Now, UnixMillis};

/// For so long, in microseconds, the system's clock is taken to go as tokio's does. Far less than anything that machines
/// use it for; and a reading costs as much as all else that a small message costs its link.
const WALL_FOR: u64 = 2_000;

/// Reads tokio's clock, which tests can pause, and the system's.
#[derive(Debug)]
pub(crate) struct Clock {
    started: tokio::time::Instant,
    /// What the system's clock showed last, and at which of ours.
    wall: AtomicU64,
    wall_at: AtomicU64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: tokio::time::Instant::now(),
            wall: AtomicU64::new(Self::wall().0),
            wall_at: AtomicU64::new(0),
        }
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
        let mono = self.mono();
        let micros = u64::try_from(mono.since(Instant::START).as_micros()).unwrap_or(u64::MAX);
        if micros.saturating_sub(self.wall_at.load(Ordering::Relaxed)) >= WALL_FOR {
            // Whoever reads between the two has a wall that is as much older.
            self.wall.store(Self::wall().0, Ordering::Relaxed);
            self.wall_at.store(micros, Ordering::Relaxed);
        }
        Now { mono, wall: UnixMillis(self.wall.load(Ordering::Relaxed)) }
    }

    /// When tokio's clock reads `at`.
    pub(crate) fn at(&self, at: Instant) -> tokio::time::Instant {
        self.started + at.since(Instant::START)
    }
}
