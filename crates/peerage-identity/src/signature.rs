//! Signatures that say what they are for.

use ed25519_dalek::{Signature, VerifyingKey};
use peerage_wire::PeerId;

/// The domain under which an identity signs the X25519 key of its Noise handshakes.
pub const NOISE_STATIC: &str = "peerage noise static v1";

/// Sets what Peerage signs apart from what other programs may sign with the same key.
const PREFIX: &[u8] = b"peerage signature v1\0";

/// What is really signed: the prefix, the domain's length in one byte, the domain, the message. Two pairs of a domain
/// and a message never give the same bytes.
pub(crate) fn input(domain: &str, message: &[u8]) -> Vec<u8> {
    let domain = domain.as_bytes();
    let domain = domain.get(..usize::from(u8::MAX)).unwrap_or(domain);
    let mut input = Vec::with_capacity(PREFIX.len() + 1 + domain.len() + message.len());
    input.extend_from_slice(PREFIX);
    input.push(domain.len() as u8);
    input.extend_from_slice(domain);
    input.extend_from_slice(message);
    input
}

/// Checks that `peer` signed `message` under `domain`, strictly: an encoding that is not canonical and a key or nonce
/// of small order fail, so that all peers agree on what is good.
///
/// Takes about 45 µs, and copies the message once.
///
/// # Errors
/// [`SignatureError::Key`] when `peer` is no public key, [`SignatureError::Forged`] when the signature is not good.
pub fn verify(
    peer: &PeerId,
    domain: &str,
    message: &[u8],
    signature: &[u8; 64],
) -> Result<(), SignatureError> {
    let key = VerifyingKey::from_bytes(peer.as_bytes()).map_err(|_| SignatureError::Key { peer: *peer })?;
    key.verify_strict(&input(domain, message), &Signature::from_bytes(signature))
        .map_err(|_| SignatureError::Forged { peer: *peer })
}

/// Why a signature is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The bytes that name the signer are no public key.
    #[error("{peer} is not an Ed25519 public key")]
    Key {
        /// Who should have signed.
        peer: PeerId,
    },
    /// Somebody else signed, or something else was signed.
    #[error("the signature is not {peer}'s over this message in this domain")]
    Forged {
        /// Who should have signed.
        peer: PeerId,
    },
}
