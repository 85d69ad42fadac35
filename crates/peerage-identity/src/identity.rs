//! The secret that makes a peer.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use peerage_wire::PeerId;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use crate::sealed_box::{BoxOpenError, BoxSecret};
use crate::signature::{self, NOISE_STATIC};

/// Sets the handshake's key apart from anything else that may be derived from an identity.
const NOISE_KEY_CONTEXT: &str = "peerage 2026 noise static X25519 key v1";

/// An Ed25519 secret, and what follows from it. A clone shares the secret; the last one to go overwrites it.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    signing: SigningKey,
    peer_id: PeerId,
    noise_secret: StaticSecret,
    noise_certificate: [u8; 64],
    box_secret: BoxSecret,
}

impl Identity {
    /// A new identity.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn generate() -> Result<Self, EntropyError> {
        let mut seed = Zeroizing::new([0; 32]);
        fill(seed.as_mut())?;
        Ok(Self::from_seed(*seed))
    }

    /// The identity whose Ed25519 secret (RFC 8032, section 5.1.5) is this.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(&seed);
        let noise_secret = StaticSecret::from(blake3::derive_key(NOISE_KEY_CONTEXT, &seed));
        seed.zeroize();
        let noise_public = PublicKey::from(&noise_secret);
        let peer_id = PeerId::from_bytes(signing.verifying_key().to_bytes());
        let noise_certificate =
            signing.sign(&signature::input(NOISE_STATIC, noise_public.as_bytes())).to_bytes();
        let box_secret = BoxSecret::from_bytes(*Zeroizing::new(signing.to_scalar_bytes()));
        Self { inner: Arc::new(Inner { signing, peer_id, noise_secret, noise_certificate, box_secret }) }
    }

    /// The public key, which is the name.
    pub fn peer_id(&self) -> PeerId {
        self.inner.peer_id
    }

    /// Signs `message` for one purpose: [`crate::verify`] needs the same domain. A domain is a constant of the code that
    /// uses it, "peerage mesh message v1" say; of a longer one, the first 255 bytes count.
    ///
    /// Takes about 20 µs, and copies the message once.
    pub fn sign(&self, domain: &str, message: &[u8]) -> [u8; 64] {
        self.inner.signing.sign(&signature::input(domain, message)).to_bytes()
    }

    /// Opens a box that was sealed to this peer ([`crate::Recipient::peer`]) with the same associated data.
    ///
    /// Takes about 50 µs, and 1 ns for each byte.
    ///
    /// # Errors
    /// [`BoxOpenError`].
    pub fn open_box(&self, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, BoxOpenError> {
        self.inner.box_secret.open(ad, sealed)
    }

    /// The signature under [`NOISE_STATIC`] over the X25519 public key that this identity uses in handshakes.
    pub fn noise_certificate(&self) -> &[u8; 64] {
        &self.inner.noise_certificate
    }

    pub(crate) fn noise_secret(&self) -> &[u8; 32] {
        self.inner.noise_secret.as_bytes()
    }

    pub(crate) fn seed(&self) -> &[u8; 32] {
        self.inner.signing.as_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer_id", &self.inner.peer_id).finish_non_exhaustive()
    }
}

pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(EntropyError)
}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness: {0}")]
pub struct EntropyError(getrandom::Error);

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use super::*;

    /// What is overwritten cannot be seen without unsafe code; that it is promised, the compiler can.
    #[test]
    fn secrets_promise_to_be_overwritten() {
        fn promises<T: ZeroizeOnDrop>(_: &T) {}
        let identity = Identity::from_seed([1; 32]);
        promises(&identity.inner.signing);
        promises(&identity.inner.noise_secret);
        promises(&Zeroizing::new([0; 32]));
    }

    /// Both follow from the seed alone, so a restarted peer has the same; and neither is the other.
    #[test]
    fn the_handshakes_key_is_derived_and_is_not_the_seed() {
        let (once, again) = (Identity::from_seed([1; 32]), Identity::from_seed([1; 32]));
        assert_eq!(once.noise_secret(), again.noise_secret());
        assert_ne!(once.noise_secret(), once.seed());
        let public = PublicKey::from(&once.inner.noise_secret);
        crate::verify(&once.peer_id(), NOISE_STATIC, public.as_bytes(), once.noise_certificate()).unwrap();
    }
}
