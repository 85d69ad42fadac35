//! So many a second, and a little more at once: a bucket of tokens that fills evenly.

use std::time::Duration;

use peerage_machine::Instant;

/// A token in the bucket's own unit, so that a microsecond of any rate is a whole number.
const TOKEN: u64 = 1_000_000;

/// A token bucket. It reads no clock: time comes with [`Pace::refill`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Tokens a second, which is also millionths of a token a microsecond. 0: as many as anybody asks for.
    rate: u64,
    room: u64,
    held: u64,
    at: Instant,
}

impl Pace {
    /// A full bucket, which holds what `rate` brings in `burst`, and one token at least.
    pub(crate) fn new(rate: u64, burst: Duration, now: Instant) -> Self {
        let burst = u64::try_from(burst.as_micros()).unwrap_or(u64::MAX);
        let room = rate.saturating_mul(burst).max(TOKEN);
        Self { rate, room, held: room, at: now }
    }

    /// No bound.
    pub(crate) fn free() -> Self {
        Self::new(0, Duration::ZERO, Instant::from_micros(0))
    }

    /// Time went by. A clock that stands still, or was read earlier, is no error.
    pub(crate) fn refill(&mut self, now: Instant) {
        if self.rate == 0 {
            return;
        }
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.held = self.held.saturating_add(micros.saturating_mul(self.rate)).min(self.room);
        self.at = self.at.max(now);
    }

    pub(crate) fn has(&self) -> bool {
        self.rate == 0 || self.held >= TOKEN
    }

    /// One token, if there is one.
    pub(crate) fn take(&mut self) -> bool {
        let has = self.has();
        if has && self.rate != 0 {
            self.held -= TOKEN;
        }
        has
    }

    /// When there is a token again; `None` when there is one.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        if self.has() {
            return None;
        }
        let micros = (TOKEN - self.held).div_ceil(self.rate).max(1);
        Some(self.at + Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn take_all(pace: &mut Pace) -> usize {
        (0..1_000_000).take_while(|_| pace.take()).count()
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_from_then_on() {
        let mut pace = Pace::new(100, Duration::from_secs(1), at(0));
        assert_eq!(take_all(&mut pace), 100);
        assert_eq!(pace.ready_at(), Some(at(10)));
        pace.refill(at(9));
        assert!(!pace.take());
        pace.refill(at(10));
        assert_eq!((take_all(&mut pace), pace.ready_at()), (1, Some(at(20))));
        pace.refill(at(510));
        assert_eq!(take_all(&mut pace), 50);
        pace.refill(at(60_000));
        assert_eq!(take_all(&mut pace), 100);
    }

    #[test]
    fn time_that_goes_back_takes_nothing_and_gives_nothing_twice() {
        let mut pace = Pace::new(10, Duration::from_secs(1), at(1_000));
        assert_eq!(take_all(&mut pace), 10);
        for _ in 0..10 {
            pace.refill(at(500));
            pace.refill(at(1_100));
        }
        assert_eq!(take_all(&mut pace), 1);
    }

    #[test]
    fn the_slowest_and_the_fastest_rates_do_not_overflow() {
        for rate in [1, u64::MAX] {
            let mut pace = Pace::new(rate, Duration::MAX, at(0));
            pace.refill(Instant::from_micros(u64::MAX));
            assert!(pace.take());
        }
        let mut none = Pace::free();
        assert_eq!((take_all(&mut none), none.ready_at()), (1_000_000, None));
    }
}
