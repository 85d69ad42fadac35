//! The AEAD of the suite, as Noise uses it: sealing with a counter for a nonce.

use std::hint::black_box;

use peerage_wire::limits::TAG_LEN;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use zeroize::Zeroizing;

/// One key of one direction.
pub(crate) trait Cipher: Send + Sync {
    /// Encrypts in place.
    fn seal(&self, counter: u64, ad: &[u8], in_out: &mut [u8]) -> Result<[u8; TAG_LEN], Unspecified>;

    /// Decrypts in place what ends in its tag; gives the plaintext.
    fn open<'a>(&self, counter: u64, ad: &[u8], in_out: &'a mut [u8]) -> Result<&'a mut [u8], Unspecified>;

    /// Noise's `REKEY` (revision 34, section 4.2): the key is what 32 zeros encrypt to under the last nonce.
    fn rekey(&mut self) -> Result<(), Unspecified>;
}

/// ChaCha20-Poly1305 (RFC 8439) by ring. Boxed by its users, so that moves leave no copies of the key behind.
pub(crate) struct ChaChaPoly {
    key: LessSafeKey,
}

impl ChaChaPoly {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, Unspecified> {
        Ok(Self { key: expand(key)? })
    }
}

fn expand(key: &[u8; 32]) -> Result<LessSafeKey, Unspecified> {
    UnboundKey::new(&CHACHA20_POLY1305, key).map(LessSafeKey::new)
}

/// 4 zero bytes, then the counter, the least significant byte first (Noise revision 34, section 12.3).
#[inline]
fn nonce(counter: u64) -> Nonce {
    let [a, b, c, d, e, f, g, h] = counter.to_le_bytes();
    Nonce::assume_unique_for_key([0, 0, 0, 0, a, b, c, d, e, f, g, h])
}

impl Cipher for ChaChaPoly {
    #[inline]
    fn seal(&self, counter: u64, ad: &[u8], in_out: &mut [u8]) -> Result<[u8; TAG_LEN], Unspecified> {
        let tag = self.key.seal_in_place_separate_tag(nonce(counter), Aad::from(ad), in_out)?;
        tag.as_ref().try_into().map_err(|_| Unspecified)
    }

    #[inline]
    fn open<'a>(&self, counter: u64, ad: &[u8], in_out: &'a mut [u8]) -> Result<&'a mut [u8], Unspecified> {
        self.key.open_in_place(nonce(counter), Aad::from(ad), in_out)
    }

    fn rekey(&mut self) -> Result<(), Unspecified> {
        let mut key = Zeroizing::new([0; 32]);
        self.seal(u64::MAX, &[], key.as_mut())?;
        self.key = expand(&key)?;
        Ok(())
    }
}

impl Drop for ChaChaPoly {
    fn drop(&mut self) {
        // ring does not overwrite keys; black_box keeps the compiler from leaving this out.
        if let Ok(zeros) = expand(&[0; 32]) {
            self.key = zeros;
            black_box(&self.key);
        }
    }
}
