//! Messages sealed between two ends that others carry: numbered, in lanes that overtake each other.
//!
//! Records of a link come one after the other, so that their numbers need not be said. Whoever seals messages that somebody else
//! carries cannot count on that: one may never arrive, and a lane of bulk data falls behind another. So each message says its
//! number, and an opener takes them in rising order, lane by lane.

use std::fmt;

use bytes::BytesMut;
use peerage_wire::limits::TAG_LEN;

use crate::cipher::Cipher;

/// Messages of one lane under one key: beyond what a session says, and far below what either cipher allows
/// (2^64 of ChaCha20-Poly1305; of AES-GCM 2^48 messages of 64 KiB, by the bound of RFC 9001, appendix B, at an advantage of 2^-57).
const LAST: u64 = 1 << 36;

/// Which of the two sequences of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What somebody waits for.
    Interactive,
    /// What may take its time.
    Bulk,
}

impl Lane {
    /// Both lanes have one key, so their nonces must differ: even ones and odd ones.
    const fn nonce(self, number: u64) -> u64 {
        match self {
            Self::Interactive => number << 1,
            Self::Bulk => number << 1 | 1,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Next {
    interactive: u64,
    bulk: u64,
}

impl Next {
    const fn of(&mut self, lane: Lane) -> &mut u64 {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

/// Seals what goes one way.
pub struct LaneSealer {
    cipher: Box<Cipher>,
    next: Next,
}

/// Opens what comes the other way.
pub struct LaneOpener {
    cipher: Box<Cipher>,
    next: Next,
}

impl LaneSealer {
    pub(crate) fn new(cipher: Box<Cipher>) -> Self {
        Self { cipher, next: Next::default() }
    }

    /// Seals in place what stands in the buffer from `start`, and appends the tag, 16 bytes; gives the message's number, which
    /// the opener needs. `ad` is what both ends know of it without being told.
    ///
    /// # Errors
    /// [`LaneSealError`]; the buffer is of no use then.
    pub fn seal(
        &mut self,
        lane: Lane,
        ad: &[u8],
        buffer: &mut BytesMut,
        start: usize,
    ) -> Result<u64, LaneSealError> {
        let next = self.next.of(lane);
        let number = *next;
        if number >= LAST {
            return Err(LaneSealError::Exhausted { messages: number });
        }
        let plaintext = buffer.get_mut(start..).unwrap_or_default();
        let tag = self.cipher.seal(lane.nonce(number), ad, plaintext).map_err(|_| LaneSealError::Cipher)?;
        *next += 1;
        buffer.extend_from_slice(&tag);
        Ok(number)
    }
}

impl LaneOpener {
    pub(crate) fn new(cipher: Box<Cipher>) -> Self {
        Self { cipher, next: Next::default() }
    }

    /// Opens in place; gives the plaintext's length, which stands where the message began. Of each lane, a number that is
    /// not above all before it is refused; one may leave others out.
    ///
    /// # Errors
    /// [`LaneOpenError`]: somebody on the way changed it, said it twice, or out of order.
    pub fn open(
        &mut self,
        lane: Lane,
        number: u64,
        ad: &[u8],
        message: &mut [u8],
    ) -> Result<usize, LaneOpenError> {
        let next = *self.next.of(lane);
        if number < next {
            return Err(LaneOpenError::Number { number, next });
        }
        let length = self.open_any(lane, number, ad, message)?;
        *self.next.of(lane) = number + 1;
        Ok(length)
    }

    /// As [`LaneOpener::open`], and numbers may come in any order and more than once: for who tells by `ad` what may come
    /// next, flow by flow.
    ///
    /// # Errors
    /// [`LaneOpenError`]: somebody on the way changed it.
    pub fn open_any(
        &self,
        lane: Lane,
        number: u64,
        ad: &[u8],
        message: &mut [u8],
    ) -> Result<usize, LaneOpenError> {
        if number >= LAST {
            return Err(LaneOpenError::Number { number, next: LAST });
        }
        if message.len() < TAG_LEN {
            return Err(LaneOpenError::TooShort { length: message.len() });
        }
        let opened = self.cipher.open(lane.nonce(number), ad, message);
        Ok(opened.map_err(|_| LaneOpenError::Forged { number })?.len())
    }
}

impl fmt::Debug for LaneSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneSealer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl fmt::Debug for LaneOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneOpener").field("next", &self.next).finish_non_exhaustive()
    }
}

/// Why a message was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaneSealError {
    /// The key has sealed all that one may.
    #[error("{messages} messages are sealed, which is the limit: make a new handshake")]
    Exhausted {
        /// How many, in this lane.
        messages: u64,
    },
    /// The cipher did not do its work.
    #[error("the cipher failed")]
    Cipher,
}

/// Why a message was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaneOpenError {
    /// It was opened before, comes after a later one, or has a number that none has.
    #[error("message {number} comes when {next} is next")]
    Number {
        /// The message's.
        number: u64,
        /// The least that may come.
        next: u64,
    },
    /// Shorter than a tag.
    #[error("the message has {length} bytes, less than a tag")]
    TooShort {
        /// Its bytes.
        length: usize,
    },
    /// It is not what was sealed.
    #[error("message {number} is not what was sealed")]
    Forged {
        /// Which.
        number: u64,
    },
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use peerage_wire::Suite;

    use super::*;
    use crate::{Handshake, Identity};

    fn ends(suite: Suite) -> ((LaneSealer, LaneOpener), (LaneSealer, LaneOpener)) {
        let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let mut dialer = Handshake::initiator(&alice, suite, b"lanes", [3; 32]).unwrap();
        let mut listener = Handshake::responder(&bob, suite, b"lanes", [4; 32]).unwrap();
        let mut message = Vec::new();
        dialer.write(b"", &mut message).unwrap();
        listener.read(&message).unwrap();
        message.clear();
        listener.write(b"", &mut message).unwrap();
        dialer.read(&message).unwrap();
        message.clear();
        dialer.write(b"", &mut message).unwrap();
        listener.read(&message).unwrap();
        (dialer.finish_in_lanes().unwrap(), listener.finish_in_lanes().unwrap())
    }

    fn sealed(sealer: &mut LaneSealer, lane: Lane, ad: &[u8], text: &[u8]) -> (u64, BytesMut) {
        let mut buffer = BytesMut::from(text);
        let number = sealer.seal(lane, ad, &mut buffer, 0).unwrap();
        (number, buffer)
    }

    #[test]
    fn lanes_overtake_each_other_and_each_is_opened_in_order() {
        for suite in [Suite::ChaChaPoly, Suite::AesGcm] {
            let ((mut out, _), (_, mut into)) = ends(suite);
            let (bulk, mut late) = sealed(&mut out, Lane::Bulk, b"", b"a file");
            for text in [b"one", b"two"] {
                let (number, mut message) = sealed(&mut out, Lane::Interactive, b"ad", text);
                let length = into.open(Lane::Interactive, number, b"ad", &mut message).unwrap();
                assert_eq!(&message[..length], text);
            }
            let length = into.open(Lane::Bulk, bulk, b"", &mut late).unwrap();
            assert_eq!(&late[..length], b"a file");
        }
    }

    #[test]
    fn one_that_never_comes_does_not_hold_up_those_after_it_and_does_not_come_later() {
        let ((mut out, _), (_, mut into)) = ends(Suite::AesGcm);
        let (first, mut lost) = sealed(&mut out, Lane::Interactive, b"", b"first");
        let (second, mut message) = sealed(&mut out, Lane::Interactive, b"", b"second");
        let mut again = message.clone();
        assert_eq!(into.open(Lane::Interactive, second, b"", &mut message), Ok(6));
        let error = LaneOpenError::Number { number: second, next: second + 1 };
        assert_eq!(into.open(Lane::Interactive, second, b"", &mut again), Err(error));
        let error = LaneOpenError::Number { number: first, next: second + 1 };
        assert_eq!(into.open(Lane::Interactive, first, b"", &mut lost), Err(error));
    }

    #[test]
    fn what_is_changed_on_the_way_is_refused_and_the_true_one_still_opens() {
        let ((mut out, _), (_, mut into)) = ends(Suite::ChaChaPoly);
        let (number, message) = sealed(&mut out, Lane::Interactive, b"call 7", b"text");
        let forged = Err(LaneOpenError::Forged { number });
        assert_eq!(into.open(Lane::Interactive, number, b"call 8", &mut message.clone()), forged);
        assert_eq!(into.open(Lane::Bulk, number, b"call 7", &mut message.clone()), forged);
        for at in 0..message.len() {
            let mut changed = message.clone();
            changed[at] ^= 1;
            assert_eq!(into.open(Lane::Interactive, number, b"call 7", &mut changed), forged);
        }
        assert_eq!(into.open(Lane::Interactive, number, b"call 7", &mut message.clone()), Ok(4));
        let short = Err(LaneOpenError::TooShort { length: 3 });
        assert_eq!(into.open(Lane::Interactive, number + 1, b"", &mut [0; 3]), short);
    }
}
