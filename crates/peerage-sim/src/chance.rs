//! Random spans that are the same on every platform.

use std::time::Duration;

use peerage_machine::Rng;

/// A span from the exponential distribution of this mean: of sessions that end at any moment with equal probability, say.
///
/// By von Neumann's comparisons (1951), which take no logarithm, so that no platform's differs.
pub fn exponential(rng: &mut Rng, mean: Duration) -> Duration {
    let mean = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX);
    let mut whole = 0_u64;
    loop {
        let first = rng.next_u64();
        let (mut last, mut descents) = (first, 1_u32);
        loop {
            let next = rng.next_u64();
            if next >= last {
                break;
            }
            last = next;
            descents += 1;
        }
        if descents % 2 == 1 {
            let part = ((u128::from(mean) * u128::from(first)) >> 64) as u64;
            return Duration::from_micros(mean.saturating_mul(whole).saturating_add(part));
        }
        whole += 1;
    }
}

#[cfg(test)]
mod tests {
    use peerage_machine::Seed;

    use super::*;

    #[test]
    fn spans_have_the_mean_and_the_tail_of_an_exponential() {
        let mut rng = Seed::from_u64(3).rng();
        let mean = Duration::from_secs(30);
        let spans: Vec<f64> = (0..40_000).map(|_| exponential(&mut rng, mean).as_secs_f64()).collect();
        let average = spans.iter().sum::<f64>() / spans.len() as f64;
        assert!((29.4..30.6).contains(&average), "{average}");
        for times in [1.0_f64, 2.0, 3.0] {
            let beyond =
                spans.iter().filter(|span| **span > 30.0 * times).count() as f64 / spans.len() as f64;
            assert!((beyond - (-times).exp()).abs() < 0.01, "{times}: {beyond}");
        }
    }
}
