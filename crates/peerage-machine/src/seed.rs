//! Randomness that can be had again.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Where all randomness of a machine comes from: 256 bits, from the operating system's entropy on a real host, from a
/// number in a simulation.
///
/// A seed is forked by label, so that one more draw in one place does not shift what another place draws.
///
/// ```
/// use peerage_machine::Seed;
///
/// let seed = Seed::from_u64(7);
/// let mut shuffles = seed.fork("shuffles").rng();
/// let mut again = Seed::from_u64(7).fork("shuffles").rng();
/// assert_eq!(shuffles.next_u64(), again.next_u64());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// These 256 bits, as they are. They should be uniform.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A seed for tests and simulations. Whoever knows the number knows all that comes from it.
    pub fn from_u64(number: u64) -> Self {
        Self(blake3::derive_key("peerage 2026 seed from a number v1", &number.to_le_bytes()))
    }

    /// The seed of a part: keyed BLAKE3 over the label. Different labels give independent seeds, and no fork says
    /// anything about the seed that it came from.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        Self(*blake3::keyed_hash(&self.0, label.as_bytes()).as_bytes())
    }

    /// The stream of this seed, from its beginning: ChaCha with 8 rounds.
    pub fn rng(&self) -> Rng {
        Rng(ChaCha8Rng::from_seed(self.0))
    }
}

/// Does not show the bits: keys may come from them.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

/// A stream of random numbers, the same on every platform.
///
/// What takes a fraction uses only operations of IEEE 754 that are exact or correctly rounded, never a library's
/// logarithm, so that streams agree between platforms.
#[derive(Clone)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `0..n`, without bias; 0 when `n` is 0.
    ///
    /// Lemire, "Fast random integer generation in an interval", ACM TOMACS 2019, section 4.
    pub fn below(&mut self, n: u64) -> u64 {
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// [`Rng::below`] for the index of something that has `n` elements.
    pub fn index(&mut self, n: usize) -> usize {
        // The result is below n, so it fits.
        self.below(n as u64) as usize
    }

    /// True with probability `p`: never when `p <= 0` or NaN, always when `p >= 1`.
    pub fn chance(&mut self, p: f64) -> bool {
        // Always one draw, so that a probability of 0 or 1 does not shift the stream.
        let draw = self.next_u64() >> 11;
        // Times a power of two: exact. The cast saturates and takes NaN for 0.
        draw < (p * (1_u64 << 53) as f64) as u64
    }

    /// Puts the elements in a uniform order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, elements: &mut [T]) {
        for end in (1..elements.len()).rev() {
            elements.swap(end, self.index(end + 1));
        }
    }

    /// A uniform element; `None` of nothing.
    pub fn pick<'a, T>(&mut self, elements: &'a [T]) -> Option<&'a T> {
        elements.get(self.index(elements.len()))
    }

    /// `k` elements, or all when there are fewer, each set as likely as any other, in uniform order. One pass, `k`
    /// elements of memory (Vitter's algorithm R).
    pub fn sample<T>(&mut self, elements: impl IntoIterator<Item = T>, k: usize) -> Vec<T> {
        let mut kept = Vec::new();
        for (seen, element) in elements.into_iter().enumerate() {
            if kept.len() < k {
                kept.push(element);
            } else if let Some(slot) = kept.get_mut(self.index(seen + 1)) {
                *slot = element;
            }
        }
        self.shuffle(&mut kept);
        kept
    }

    /// Uniform from the shorter to the longer, both possible, in whole microseconds.
    pub fn duration_between(&mut self, a: Duration, b: Duration) -> Duration {
        let (a, b) = (micros(a), micros(b));
        let (low, high) = (a.min(b), a.max(b));
        Duration::from_micros(low + self.below((high - low).saturating_add(1)))
    }

    /// Uniform within `fraction` of `base` on either side: `jitter(10 s, 0.2)` is 8 to 12 seconds. The fraction is cut
    /// to `0.0..=1.0`.
    pub fn jitter(&mut self, base: Duration, fraction: f64) -> Duration {
        let base = micros(base);
        let reach = (base as f64 * fraction.clamp(0.0, 1.0)) as u64;
        let low = base.saturating_sub(reach);
        self.duration_between(Duration::from_micros(low), Duration::from_micros(base.saturating_add(reach)))
    }

    /// 256 uniform bits.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

/// Does not show the state: what comes next follows from it.
impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng(…)")
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
