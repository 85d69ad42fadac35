//! The AEADs of the suites, as Noise uses them: sealing with a counter for a nonce.

use std::hint::black_box;

use peerage_wire::Suite;
use peerage_wire::limits::TAG_LEN;
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use zeroize::Zeroizing;

/// One key of one direction, in ring's hands: `docs/adr/0003-ciphers.md` has why. Boxed by its users, so that moves
/// leave no copies of the key behind.
pub(crate) struct Cipher {
    suite: Suite,
    key: LessSafeKey,
}

impl Cipher {
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Result<Self, Unspecified> {
        Ok(Self { suite, key: expand(suite, key)? })
    }

    /// Encrypts in place.
    #[inline]
    pub(crate) fn seal(
        &self,
        counter: u64,
        ad: &[u8],
        in_out: &mut [u8],
    ) -> Result<[u8; TAG_LEN], Unspecified> {
        let nonce = nonce(self.suite, counter);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(ad), in_out)?;
        tag.as_ref().try_into().map_err(|_| Unspecified)
    }

    /// Decrypts in place what ends in its tag; gives the plaintext.
    #[inline]
    pub(crate) fn open<'a>(
        &self,
        counter: u64,
        ad: &[u8],
        in_out: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unspecified> {
        self.key.open_in_place(nonce(self.suite, counter), Aad::from(ad), in_out)
    }

    /// Noise's `REKEY` (revision 34, section 4.2): the key is what 32 zeros encrypt to under the last nonce.
    pub(crate) fn rekey(&mut self) -> Result<(), Unspecified> {
        let mut key = Zeroizing::new([0; 32]);
        self.seal(u64::MAX, &[], key.as_mut())?;
        self.key = expand(self.suite, &key)?;
        Ok(())
    }
}

fn expand(suite: Suite, key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    let algorithm: &Algorithm = match suite {
        Suite::ChaChaPoly => &CHACHA20_POLY1305,
        Suite::AesGcm => &AES_256_GCM,
    };
    UnboundKey::new(algorithm, key).map(LessSafeKey::new)
}

/// 4 zero bytes, then the counter: for ChaChaPoly the least significant byte first, for AESGCM the most significant
/// (Noise revision 34, sections 12.3 and 12.4).
#[inline]
fn nonce(suite: Suite, counter: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = match suite {
        Suite::ChaChaPoly => counter.to_le_bytes(),
        Suite::AesGcm => counter.to_be_bytes(),
    };
    Nonce::assume_unique_for_key([0, 0, 0, 0, a, b, c, d, e, f, g, h])
}

impl Drop for Cipher {
    fn drop(&mut self) {
        // ring does not overwrite keys; black_box keeps the compiler from leaving this out.
        if let Ok(zeros) = expand(self.suite, &[0; 32]) {
            self.key = zeros;
            black_box(&self.key);
        }
    }
}

/// All suites, the fastest on this processor first: AESGCM where it has instructions for AES and for the
/// multiplications of Galois/Counter Mode, ChaChaPoly elsewhere.
pub fn suites_by_speed() -> [Suite; 2] {
    if has_aes() { [Suite::AesGcm, Suite::ChaChaPoly] } else { [Suite::ChaChaPoly, Suite::AesGcm] }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    // On this architecture "aes" stands for both (FEAT_AES and FEAT_PMULL).
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the processor: nobody loses a suite by what it is not good at.
    #[test]
    fn every_suite_has_a_place_by_speed() {
        let order = suites_by_speed();
        assert!(Suite::ALL.iter().all(|suite| order.contains(suite)));
        assert_eq!(order[0] == Suite::AesGcm, has_aes());
    }
}
