//! Noise XX in the suite that the preface names: three messages.

use std::fmt;

use peerage_wire::limits::{MAX_HANDSHAKE_MESSAGE, TAG_LEN};
use peerage_wire::{PeerId, Suite};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::cipher::Cipher;
use crate::resolver::Resolver;
use crate::signature::{self, NOISE_STATIC, SignatureError};
use crate::{Identity, LaneOpener, LaneSealer, Opener, Sealer};

/// Sets the handshake's random numbers apart from anything else that is derived from the same.
const EPHEMERAL_CONTEXT: &str = "peerage 2026 noise ephemeral randomness v1";

/// What each message has beside its payload: e; e, s, two tags; s, two tags.
const OVERHEAD: [usize; 3] = [32, 32 + 32 + 2 * TAG_LEN, 32 + 2 * TAG_LEN];

/// One end of a handshake. The initiator writes, reads, writes; the responder reads, writes, reads; then both
/// [`Handshake::finish`]. The first error is final.
///
/// The payload of the first message travels in clear and should be empty; that of the second reaches whoever dialled;
/// that of the third, only the responder whose key is known by then (Noise revision 34, section 7.7).
pub struct Handshake {
    state: HandshakeState,
    suite: Suite,
    initiator: bool,
    /// Messages written and read.
    done: usize,
    failed: bool,
}

impl Handshake {
    /// The end that dialled. `prologue` is what both must have seen alike: the preface as sent, which names `suite`.
    /// `entropy` is 32 random bytes for this handshake alone.
    ///
    /// # Errors
    /// [`HandshakeError::Cipher`], which does not happen with these suites.
    pub fn initiator(
        identity: &Identity,
        suite: Suite,
        prologue: &[u8],
        entropy: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        Self::new(identity, suite, prologue, entropy, true)
    }

    /// The end that was dialled.
    ///
    /// # Errors
    /// As [`Handshake::initiator`].
    pub fn responder(
        identity: &Identity,
        suite: Suite,
        prologue: &[u8],
        entropy: [u8; 32],
    ) -> Result<Self, HandshakeError> {
        Self::new(identity, suite, prologue, entropy, false)
    }

    fn new(
        identity: &Identity,
        suite: Suite,
        prologue: &[u8],
        entropy: [u8; 32],
        initiator: bool,
    ) -> Result<Self, HandshakeError> {
        let entropy = Zeroizing::new(entropy);
        // The identity's secret goes in as well: should the entropy be poor, the ephemeral key is still a secret.
        let mut material = Zeroizing::new([0; 65]);
        let role = [u8::from(initiator)];
        let parts = entropy.iter().chain(identity.noise_secret()).chain(&role);
        material.iter_mut().zip(parts).for_each(|(place, byte)| *place = *byte);
        let seed = Zeroizing::new(blake3::derive_key(EPHEMERAL_CONTEXT, material.as_ref()));
        let builder = builder(suite, Resolver::new(seed))?
            .local_private_key(identity.noise_secret())
            .and_then(|builder| builder.prologue(prologue))
            .map_err(HandshakeError::from_snow)?;
        let state = if initiator { builder.build_initiator() } else { builder.build_responder() };
        Ok(Self {
            state: state.map_err(HandshakeError::from_snow)?,
            suite,
            initiator,
            done: 0,
            failed: false,
        })
    }

    /// Appends the next message, without the length before it.
    ///
    /// # Errors
    /// [`HandshakeError::TooLong`] and [`HandshakeError::Turn`] change nothing; all others are final.
    pub fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let overhead = self.turn(true)?;
        let length = overhead + payload.len();
        if length > MAX_HANDSHAKE_MESSAGE {
            return Err(HandshakeError::TooLong { length, limit: MAX_HANDSHAKE_MESSAGE });
        }
        let start = out.len();
        // snow wants room for a tag even where there is none.
        out.resize(start + length + TAG_LEN, 0);
        let place = out.get_mut(start..).unwrap_or_default();
        let written = self.state.write_message(payload, place);
        out.truncate(start + written.as_ref().map_or(0, |written| *written));
        self.settle(written)?;
        Ok(())
    }

    /// Reads the other end's next message, without the length before it, and gives its payload.
    ///
    /// # Errors
    /// [`HandshakeError::Turn`] changes nothing; all others are final.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let overhead = self.turn(false)?;
        if message.len() > MAX_HANDSHAKE_MESSAGE {
            self.failed = true;
            return Err(HandshakeError::TooLong { length: message.len(), limit: MAX_HANDSHAKE_MESSAGE });
        }
        if message.len() < overhead {
            self.failed = true;
            return Err(HandshakeError::TooShort { length: message.len(), least: overhead });
        }
        let mut payload = vec![0; message.len() - overhead];
        let read = self.state.read_message(message, &mut payload);
        let read = self.settle(read)?;
        payload.truncate(read);
        Ok(payload)
    }

    /// The other end's X25519 key, once its message with it was read.
    pub fn remote_static(&self) -> Option<[u8; 32]> {
        if self.failed {
            return None;
        }
        self.state.get_remote_static().and_then(|key| key.try_into().ok())
    }

    /// Checks that `peer` vouches for the key that the other end of this handshake has proven to hold. Without this, the
    /// other end is anybody.
    ///
    /// # Errors
    /// [`HandshakeError::Certificate`]; [`HandshakeError::Turn`] while the key has not come;
    /// [`HandshakeError::Failed`] after an error.
    pub fn check_certificate(&self, peer: &PeerId, signature: &[u8; 64]) -> Result<(), HandshakeError> {
        if self.failed {
            return Err(HandshakeError::Failed);
        }
        let key = self.remote_static().ok_or(HandshakeError::Turn { done: self.done })?;
        signature::verify(peer, NOISE_STATIC, &key, signature).map_err(HandshakeError::Certificate)
    }

    /// Whether all three messages are through.
    pub fn is_finished(&self) -> bool {
        self.done == OVERHEAD.len() && !self.failed
    }

    /// The ciphers of the link, each to be used for one direction.
    ///
    /// # Errors
    /// [`HandshakeError::Turn`] before the third message is through, and [`HandshakeError::Failed`] after an error.
    pub fn finish(self) -> Result<(Sealer, Opener), HandshakeError> {
        self.ciphers().map(|(ours, theirs)| (Sealer::new(ours), Opener::new(theirs)))
    }

    /// As [`Handshake::finish`], for messages that others carry, instead of records.
    ///
    /// # Errors
    /// As [`Handshake::finish`].
    pub fn finish_in_lanes(self) -> Result<(LaneSealer, LaneOpener), HandshakeError> {
        self.ciphers().map(|(ours, theirs)| (LaneSealer::new(ours), LaneOpener::new(theirs)))
    }

    /// This end's cipher, and the other's.
    fn ciphers(mut self) -> Result<(Box<Cipher>, Box<Cipher>), HandshakeError> {
        if self.failed {
            return Err(HandshakeError::Failed);
        }
        if !self.is_finished() {
            return Err(HandshakeError::Turn { done: self.done });
        }
        let (from_initiator, from_responder) = self.state.dangerously_get_raw_split();
        let (from_initiator, from_responder) =
            (Zeroizing::new(from_initiator), Zeroizing::new(from_responder));
        let cipher =
            |key: &[u8; 32]| Cipher::new(self.suite, key).map(Box::new).map_err(|_| HandshakeError::Cipher);
        let (first, second) = (cipher(&from_initiator)?, cipher(&from_responder)?);
        Ok(if self.initiator { (first, second) } else { (second, first) })
    }

    /// Whether it is time to write, or to read; and what the message has beside its payload.
    fn turn(&self, write: bool) -> Result<usize, HandshakeError> {
        if self.failed {
            return Err(HandshakeError::Failed);
        }
        let our_turn = self.done.is_multiple_of(2) == self.initiator;
        match OVERHEAD.get(self.done) {
            Some(overhead) if our_turn == write => Ok(*overhead),
            _ => Err(HandshakeError::Turn { done: self.done }),
        }
    }

    fn settle(&mut self, result: Result<usize, snow::Error>) -> Result<usize, HandshakeError> {
        match result {
            Ok(length) => {
                self.done += 1;
                Ok(length)
            }
            Err(error) => {
                self.failed = true;
                Err(HandshakeError::from_snow(error))
            }
        }
    }
}

fn builder<'a>(suite: Suite, resolver: Resolver) -> Result<Builder<'a>, HandshakeError> {
    let pattern = suite.noise_name().parse().map_err(HandshakeError::from_snow)?;
    Ok(Builder::with_resolver(pattern, Box::new(resolver)))
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("suite", &self.suite)
            .field("initiator", &self.initiator)
            .field("messages", &self.done)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// Why a handshake does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A message is too long.
    #[error("the handshake message is {length} bytes, the limit is {limit}")]
    TooLong {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// A message has no room for its keys.
    #[error("the handshake message is {length} bytes, the least is {least}")]
    TooShort {
        /// Its bytes.
        length: usize,
        /// The bound.
        least: usize,
    },
    /// Not as the other end sealed it; or it saw another prologue; or something in between changed a message.
    #[error("the handshake message cannot be decrypted: somebody changed it, or the prologues differ")]
    Decrypt,
    /// The other end's key leads to zeros, which everybody knows.
    #[error("the peer's key is of small order")]
    WeakKey,
    /// The identity does not vouch for the key of the handshake.
    #[error("the peer's certificate is not good: {0}")]
    Certificate(#[source] SignatureError),
    /// The caller wrote where it should read, or asked before the answer could be there.
    #[error("this is not the time: {done} of 3 messages are through")]
    Turn {
        /// Messages written and read.
        done: usize,
    },
    /// An error came before.
    #[error("the handshake has failed before")]
    Failed,
    /// The cipher did not do its work.
    #[error("the cipher failed")]
    Cipher,
}

impl HandshakeError {
    fn from_snow(error: snow::Error) -> Self {
        match error {
            snow::Error::Decrypt | snow::Error::Input => Self::Decrypt,
            snow::Error::Dh => Self::WeakKey,
            _ => Self::Cipher,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
