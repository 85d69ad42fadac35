//! Boxes: what only the peer that it is for can open, whoever carries it. `docs/wire.md` has the format and an example.

use std::fmt;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use ed25519_dalek::VerifyingKey;
use peerage_wire::PeerId;
use peerage_wire::limits::TAG_LEN;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::EntropyError;
use crate::identity::fill;

/// Sets the key of a box apart from anything else that may be derived from an X25519 result.
const KEY_CONTEXT: &str = "peerage 2026 sealed box key v1";

/// Sets a box's ephemeral key apart from anything else that is derived from the same.
const EPHEMERAL_CONTEXT: &str = "peerage 2026 sealed box ephemeral key v1";

/// The ephemeral public key in front.
const KEY_LEN: usize = 32;

/// The longest plaintext of ChaCha20-Poly1305 (RFC 8439, section 2.8), in bytes: 256 GiB less one block.
const MAX_PLAINTEXT: u64 = ((1 << 32) - 1) * 64;

/// How many bytes a box is longer than what is in it: an ephemeral X25519 key and a tag.
pub const BOX_OVERHEAD: usize = KEY_LEN + TAG_LEN;

/// Whom a box is for: an X25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Recipient([u8; 32]);

impl Recipient {
    /// A peer: its Ed25519 key's point on Curve25519 (RFC 7748, section 4.1). [`crate::Identity::open_box`] opens.
    ///
    /// # Errors
    /// [`RecipientError`]: nobody has the secret of such a name, or everybody.
    pub fn peer(peer: &PeerId) -> Result<Self, RecipientError> {
        let key =
            VerifyingKey::from_bytes(peer.as_bytes()).map_err(|_| RecipientError::NotAKey { peer: *peer })?;
        if key.is_weak() {
            return Err(RecipientError::Weak { peer: *peer });
        }
        Ok(Self(key.to_montgomery().to_bytes()))
    }

    /// Whoever has the secret of this X25519 public key, in the encoding that [`BoxSecret::recipient`] gives.
    /// [`BoxSecret::open`] opens.
    pub const fn from_x25519(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The X25519 public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals `plaintext`; what comes is [`BOX_OVERHEAD`] bytes longer. The recipient needs the same `ad`, associated
    /// data, which is not in the box: what the box is for, say, and who it is from. Nothing in a box proves who sealed
    /// it. `entropy` is 32 secret random bytes for this box alone; should it come twice after all, boxes with
    /// different contents still have different keys.
    ///
    /// Takes about 65 µs, and 2 ns for each byte.
    ///
    /// # Errors
    /// [`BoxSealError::WeakKey`], [`BoxSealError::TooLong`].
    pub fn seal_with(&self, ad: &[u8], plaintext: &[u8], entropy: [u8; 32]) -> Result<Vec<u8>, BoxSealError> {
        let entropy = Zeroizing::new(entropy);
        let mut content = blake3::Hasher::new();
        content.update(&(ad.len() as u64).to_le_bytes()).update(ad).update(plaintext);
        let content = content.finalize();
        let mut material = Zeroizing::new([0; 96]);
        join(&mut material, [&*entropy, &self.0, content.as_bytes()]);
        let secret = Zeroizing::new(blake3::derive_key(EPHEMERAL_CONTEXT, material.as_ref()));
        self.seal_by(&StaticSecret::from(*secret), ad, plaintext)
    }

    /// As [`Recipient::seal_with`], with entropy from the operating system.
    ///
    /// # Errors
    /// [`BoxSealError`].
    pub fn seal(&self, ad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, BoxSealError> {
        let mut entropy = Zeroizing::new([0; 32]);
        fill(entropy.as_mut())?;
        self.seal_with(ad, plaintext, *entropy)
    }

    fn seal_by(
        &self,
        ephemeral: &StaticSecret,
        ad: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, BoxSealError> {
        let length = plaintext.len() as u64;
        let too_long = BoxSealError::TooLong { length, limit: MAX_PLAINTEXT };
        if length > MAX_PLAINTEXT {
            return Err(too_long);
        }
        let public = PublicKey::from(ephemeral);
        let cipher = agree(ephemeral, &self.0, public.as_bytes(), &self.0).ok_or(BoxSealError::WeakKey)?;
        let mut sealed = Vec::with_capacity(plaintext.len() + BOX_OVERHEAD);
        sealed.extend_from_slice(public.as_bytes());
        sealed.extend_from_slice(plaintext);
        let body = sealed.get_mut(KEY_LEN..).unwrap_or_default();
        let tag = cipher.encrypt_inout_detached(&nonce(), ad, body.into()).map_err(|_| too_long)?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }
}

/// An X25519 secret, of no identity, that opens boxes. Overwritten when dropped.
pub struct BoxSecret {
    secret: StaticSecret,
    public: [u8; 32],
}

impl BoxSecret {
    /// The secret that these 32 bytes are (RFC 7748, section 5).
    pub fn from_bytes(secret: [u8; 32]) -> Self {
        let secret = Zeroizing::new(secret);
        let secret = StaticSecret::from(*secret);
        Self { public: PublicKey::from(&secret).to_bytes(), secret }
    }

    /// Whom others seal to.
    pub const fn recipient(&self) -> Recipient {
        Recipient(self.public)
    }

    /// Opens a box that was sealed to [`BoxSecret::recipient`] with the same associated data.
    ///
    /// Takes about 50 µs, and 1 ns for each byte.
    ///
    /// # Errors
    /// [`BoxOpenError`].
    pub fn open(&self, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, BoxOpenError> {
        let too_short = BoxOpenError::TooShort { length: sealed.len(), least: BOX_OVERHEAD };
        let Some((public, rest)) = sealed.split_first_chunk::<KEY_LEN>() else { return Err(too_short) };
        let Some((body, tag)) = rest.split_last_chunk::<TAG_LEN>() else { return Err(too_short) };
        let cipher = agree(&self.secret, public, public, &self.public).ok_or(BoxOpenError::WeakKey)?;
        let mut plaintext = body.to_vec();
        cipher
            .decrypt_inout_detached(&nonce(), ad, plaintext.as_mut_slice().into(), &(*tag).into())
            .map_err(|_| BoxOpenError::Forged)?;
        Ok(plaintext)
    }
}

impl fmt::Debug for BoxSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxSecret").field("recipient", &self.recipient()).finish_non_exhaustive()
    }
}

/// The cipher of one box; `None` when the X25519 result is zeros, which everybody knows.
fn agree(
    secret: &StaticSecret,
    their: &[u8; 32],
    ephemeral: &[u8; 32],
    recipient: &[u8; 32],
) -> Option<ChaCha20Poly1305> {
    let shared = secret.diffie_hellman(&PublicKey::from(*their));
    if !shared.was_contributory() {
        return None;
    }
    let mut material = Zeroizing::new([0; 96]);
    join(&mut material, [shared.as_bytes(), ephemeral, recipient]);
    let key = Zeroizing::new(blake3::derive_key(KEY_CONTEXT, material.as_ref()));
    Some(ChaCha20Poly1305::new((&*key).into()))
}

fn join(into: &mut [u8; 96], parts: [&[u8; 32]; 3]) {
    into.iter_mut().zip(parts.into_iter().flatten()).for_each(|(place, byte)| *place = *byte);
}

/// Zeros: no key seals twice.
fn nonce() -> Nonce {
    Nonce::default()
}

/// Why nothing can be sealed to a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientError {
    /// The bytes that name it are no public key.
    #[error("{peer} is not an Ed25519 public key")]
    NotAKey {
        /// Who was meant.
        peer: PeerId,
    },
    /// The key is of small order: everybody could open the box.
    #[error("{peer} is a key of small order, which hides nothing")]
    Weak {
        /// Who was meant.
        peer: PeerId,
    },
}

/// Why a box was not sealed. The caller's fault, or the system's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoxSealError {
    /// The recipient's key is of small order: everybody could open the box.
    #[error("the recipient's key is of small order, which hides nothing")]
    WeakKey,
    /// The plaintext is longer than the cipher goes.
    #[error("the plaintext is {length} bytes, the limit is {limit}")]
    TooLong {
        /// Its bytes.
        length: u64,
        /// The bound.
        limit: u64,
    },
    /// The system gave no entropy; only [`Recipient::seal`] asks for it.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Why a box was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoxOpenError {
    /// Shorter than an empty box.
    #[error("the box is {length} bytes, the least is {least}")]
    TooShort {
        /// Its bytes.
        length: usize,
        /// The bound.
        least: usize,
    },
    /// Its ephemeral key is of small order: whoever made it hid nothing.
    #[error("the box's key is of small order")]
    WeakKey,
    /// It is for somebody else, or for something else, or somebody changed it.
    #[error("the box is not for this key with this associated data, or was changed")]
    Forged,
}

#[cfg(test)]
mod tests;
