//! How long to wait before a peer is dialled again.

use std::time::Duration;

use peerage_machine::{Instant, Rng};

/// The numbers of a [`Backoff`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The first wait is up to this, uniform from zero; each later one is at least this. 100 ms: a peer that restarts
    /// is back soon, and the thousand peers of one that fell do not dial it in the same millisecond.
    /// Less than a millisecond is taken for one, here and for the cap.
    pub first: Duration,
    /// No wait is longer. 30 s: a peer that is away costs a connection attempt every 15 s on average, and one that is
    /// back is found after 15 s on average.
    pub cap: Duration,
    /// A link that was up for so long ends the series: the next wait is a first one. 10 s. A link that comes up and goes
    /// sooner does not, so that a peer which takes links and drops them is not dialled ever and again. A guess.
    pub stable_after: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
        }
    }
}

const LEAST: Duration = Duration::from_millis(1);

/// Capped exponential back-off with jitter, as a value: it is told the time and lent randomness.
///
/// Wait number 0 is uniform from zero to [`BackoffConfig::first`]. Wait number n is uniform from `first` to
/// 2ⁿ × `first`, or to the cap if that is less: the "full jitter" of Brooker, "Exponential Backoff And Jitter" (AWS
/// Architecture Blog, 2015), with a floor, because a wait of nothing helps nobody after a failure.
///
/// ```
/// use std::time::Duration;
/// use peerage_machine::Seed;
/// use peerage_net::{Backoff, BackoffConfig};
///
/// let mut rng = Seed::from_u64(1).rng();
/// let mut backoff = Backoff::new(BackoffConfig::default());
/// assert!(backoff.next(&mut rng) <= Duration::from_millis(100));
/// assert!(backoff.next(&mut rng) <= Duration::from_millis(200));
/// assert_eq!(backoff.waits(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    config: BackoffConfig,
    waits: u32,
    up_since: Option<Instant>,
}

impl Backoff {
    /// A series that has not begun.
    pub const fn new(config: BackoffConfig) -> Self {
        Self { config, waits: 0, up_since: None }
    }

    /// How long to wait now.
    pub fn next(&mut self, rng: &mut Rng) -> Duration {
        // Whatever the configuration says, nobody is dialled without a pause.
        let cap = self.config.cap.max(LEAST);
        let first = self.config.first.clamp(LEAST, cap);
        let wait = match self.waits {
            0 => rng.duration_between(Duration::ZERO, first),
            n => {
                // What does not fit is beyond the cap, and so is what is left of it.
                let ceiling = 1_u32.checked_shl(n).and_then(|factor| first.checked_mul(factor));
                rng.duration_between(first, ceiling.unwrap_or(cap).min(cap))
            }
        };
        self.waits = self.waits.saturating_add(1);
        wait
    }

    /// How many waits the series has had.
    pub const fn waits(&self) -> u32 {
        self.waits
    }

    /// What is waited for has come.
    pub fn up(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// It has gone again. Ends the series if it was there for [`BackoffConfig::stable_after`].
    pub fn down(&mut self, now: Instant) {
        let up_since = self.up_since.take();
        if up_since.is_some_and(|since| now.since(since) >= self.config.stable_after) {
            self.waits = 0;
        }
    }
}
