//! Records: Noise transport messages, sealed and opened in place.

use std::fmt;

use bytes::BytesMut;
use peerage_wire::Suite;
use peerage_wire::limits::{MAX_PLAINTEXT, MAX_RECORD, RECORD_LENGTH_LEN, TAG_LEN};

use crate::cipher::Cipher;

/// Records under one key. Both ends count, so nothing about it is sent.
const REKEY_EVERY: u64 = 1 << 20;

/// Records in one direction of a link: at a million a second, nine years.
const LAST_RECORD: u64 = 1 << 48;

/// Where one direction is: the number of the next record, and its key.
struct Direction {
    cipher: Box<Cipher>,
    counter: u64,
    rekey_at: u64,
    rekey_every: u64,
}

impl Direction {
    fn new(cipher: Box<Cipher>, rekey_every: u64) -> Self {
        Self { cipher, counter: 0, rekey_at: rekey_every, rekey_every }
    }

    /// The record is done: on to the next, and to the next key where it is time. The number goes on, as Noise has it.
    #[inline]
    fn advance(&mut self) -> Result<(), ring::error::Unspecified> {
        self.counter += 1;
        if self.counter < self.rekey_at {
            return Ok(());
        }
        self.rekey_at += self.rekey_every;
        self.cipher.rekey()
    }
}

/// Seals the records of one direction.
pub struct Sealer(Direction);

impl Sealer {
    pub(crate) fn new(cipher: Box<Cipher>) -> Self {
        Self(Direction::new(cipher, REKEY_EVERY))
    }

    /// Seals a record in place. At `start` of the buffer are two bytes for the length, then the plaintext to the end;
    /// after the call the same place holds the record as it is sent: its length, the ciphertext, the tag.
    ///
    /// # Errors
    /// [`SealError`]; the buffer and the sealer are as before.
    pub fn seal(&mut self, buffer: &mut BytesMut, start: usize) -> Result<(), SealError> {
        let Self(direction) = self;
        let have = buffer.len();
        let place = buffer.get_mut(start..).and_then(|record| record.split_at_mut_checked(RECORD_LENGTH_LEN));
        let Some((length, plaintext)) = place else {
            return Err(SealError::Start { start, length: have });
        };
        let size = plaintext.len();
        if size > MAX_PLAINTEXT {
            return Err(SealError::TooLong { size, limit: MAX_PLAINTEXT });
        }
        if direction.counter >= LAST_RECORD {
            return Err(SealError::Exhausted { records: direction.counter });
        }
        // Checked: a record fits into 16 bits.
        length.copy_from_slice(&((size + TAG_LEN) as u16).to_be_bytes());
        let tag = direction.cipher.seal(direction.counter, &[], plaintext).map_err(|_| SealError::Cipher)?;
        buffer.extend_from_slice(&tag);
        direction.advance().map_err(|_| SealError::Cipher)
    }
}

/// Opens the records of one direction.
pub struct Opener(Direction);

impl Opener {
    pub(crate) fn new(cipher: Box<Cipher>) -> Self {
        Self(Direction::new(cipher, REKEY_EVERY))
    }

    /// Opens a record, without the length before it, in place, and gives its plaintext.
    ///
    /// # Errors
    /// [`RecordError`]: the sender's fault, and nothing more can be opened unless this very record comes after all.
    pub fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a mut [u8], RecordError> {
        let Self(direction) = self;
        if record.len() < TAG_LEN {
            return Err(RecordError::TooShort { length: record.len(), least: TAG_LEN });
        }
        if record.len() > MAX_RECORD {
            return Err(RecordError::TooLong { length: record.len(), limit: MAX_RECORD });
        }
        let number = direction.counter;
        if number >= LAST_RECORD {
            return Err(RecordError::Exhausted { records: number });
        }
        let plaintext =
            direction.cipher.open(number, &[], record).map_err(|_| RecordError::Forged { number })?;
        direction.advance().map_err(|_| RecordError::Forged { number })?;
        Ok(plaintext)
    }
}

/// Both ends of one direction of records under a key that is there already: no handshake was made, and nobody has proven
/// anything. For simulators and measurements, where both ends are in one hand.
///
/// # Errors
/// [`SealError::Cipher`] when the cipher does not take the key.
pub fn records_under(suite: Suite, key: &[u8; 32]) -> Result<(Sealer, Opener), SealError> {
    let cipher = || Cipher::new(suite, key).map(Box::new).map_err(|_| SealError::Cipher);
    Ok((Sealer::new(cipher()?), Opener::new(cipher()?)))
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("records", &self.0.counter).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("records", &self.0.counter).finish_non_exhaustive()
    }
}

/// Why a record was not sealed. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// There are no two bytes for the length.
    #[error(
        "the record should start at {start}, with two bytes for its length, and the buffer ends at {length}"
    )]
    Start {
        /// Where it should start.
        start: usize,
        /// The buffer's length.
        length: usize,
    },
    /// The plaintext is too long.
    #[error("the record's plaintext is {size} bytes, the limit is {limit}")]
    TooLong {
        /// Its bytes.
        size: usize,
        /// The bound.
        limit: usize,
    },
    /// The link has had all the records that one may have.
    #[error("the link has sent {records} records, which is the limit: dial anew")]
    Exhausted {
        /// How many.
        records: u64,
    },
    /// The cipher did not do its work.
    #[error("the cipher failed")]
    Cipher,
}

/// Why a record was not opened. The sender's fault, or that of somebody in between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Shorter than a tag.
    #[error("the record is {length} bytes, the least is {least}")]
    TooShort {
        /// Its bytes.
        length: usize,
        /// The bound.
        least: usize,
    },
    /// Longer than a length can say.
    #[error("the record is {length} bytes, the limit is {limit}")]
    TooLong {
        /// Its bytes.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// Not what the peer sealed, or not in its place.
    #[error("record {number} is not as the peer sealed it, or not in its place")]
    Forged {
        /// The number, from 0, of the record that should have come.
        number: u64,
    },
    /// The link has had all the records that one may have.
    #[error("the link has received {records} records, which is the limit")]
    Exhausted {
        /// How many.
        records: u64,
    },
}

#[cfg(test)]
mod tests;
