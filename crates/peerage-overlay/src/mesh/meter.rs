//! How much a link may say that costs us more than it costs its peer.

use std::time::Duration;

use peerage_machine::Instant;

/// So many at once, and so many a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    burst: u32,
    per_second: u32,
}

/// Control messages: announcements and requests are gathered for 50 ms, so an honest peer says some twenty a second of each.
pub(crate) const CONTROL: Rate = Rate { burst: 2_000, per_second: 400 };
/// What wanders from peer to peer. Who passes it on does not answer for how much there is of it.
pub(crate) const WALKS: Rate = Rate { burst: 500, per_second: 50 };
/// Joins that are passed on to all neighbours.
pub(crate) const JOINS: Rate = Rate { burst: 4, per_second: 1 };
/// Comparisons, each of which reads the whole window, and summaries that are asked for, which tell it.
pub(crate) const COMPARES: Rate = Rate { burst: 8, per_second: 1 };

/// A token bucket.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    rate: Rate,
    left: u32,
    since: Instant,
}

impl Meter {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: rate.burst, since: now }
    }

    /// One more: whether it is too many.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        let Rate { burst, per_second } = self.rate;
        let each = Duration::from_secs(1) / per_second;
        let earned = now.since(self.since).as_micros() / each.as_micros().max(1);
        match u32::try_from(earned) {
            Ok(earned) if earned < burst => {
                self.since = self.since + each * earned;
                self.left = burst.min(self.left.saturating_add(earned));
            }
            _ => {
                self.since = now;
                self.left = burst;
            }
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                false
            }
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_what_honest_peers_say_is_never_over_it() {
        let mut meter = Meter::new(CONTROL, Instant::START);
        for tick in 0..10_000 {
            assert!(!meter.is_over(Instant::from_micros(tick * 2_500)));
        }
        let now = Instant::from_micros(10_000 * 2_500);
        let over = (0..6_000).filter(|_| meter.is_over(now)).count();
        assert!((4_000..4_010).contains(&over), "{over}");
    }
}
