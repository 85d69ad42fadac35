//! The lengths around Noise handshake messages: two bytes, the most significant first, then the message.

use bytes::{Buf, BufMut, BytesMut};

use crate::limits::MAX_HANDSHAKE_MESSAGE;
use crate::preface::{Cookie, Notice, Preface, PrefaceError, VERSION};

/// The length before a message.
const LENGTH_LEN: usize = 2;

// What tells a clear answer from a handshake message.
const _: () = {
    let [first, second, ..] = Preface::MAGIC;
    assert!(u16::from_be_bytes([first, second]) as usize > MAX_HANDSHAKE_MESSAGE);
};

/// Appends a Noise message and the length before it.
///
/// # Errors
/// [`HandshakeMessageError::TooLong`], and nothing is appended.
pub fn put_message(into: &mut BytesMut, message: &[u8]) -> Result<(), HandshakeMessageError> {
    check_length(message.len())?;
    into.reserve(LENGTH_LEN + message.len());
    // Checked: it fits into 14 bits and a little.
    into.put_u16(message.len() as u16);
    into.extend_from_slice(message);
    Ok(())
}

/// Takes one Noise message off the front, or `None` when it is not all there yet.
///
/// # Errors
/// [`HandshakeMessageError::TooLong`], as soon as the length is there.
pub fn take_message(buffer: &mut BytesMut) -> Result<Option<BytesMut>, HandshakeMessageError> {
    let Some(&length) = buffer.first_chunk::<LENGTH_LEN>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(length));
    check_length(length)?;
    if buffer.len() < LENGTH_LEN + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_LEN);
    Ok(Some(buffer.split_to(length)))
}

/// What a dialer hears first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The second message of the handshake.
    Message(BytesMut),
    /// The responder does not take the dialer's preface; it would take this one. It closes now.
    Clear(Preface),
    /// The responder has understood, and does not go on now. It closes.
    Notice(Notice),
}

/// Takes what a responder says first off the front, or `None` when it is not all there yet.
///
/// # Errors
/// It is neither a message nor a preface.
pub fn take_answer(buffer: &mut BytesMut) -> Result<Option<Answer>, HandshakeMessageError> {
    let [first, second, ..] = Preface::MAGIC;
    if !buffer.starts_with(&[first, second]) {
        return Ok(take_message(buffer)?.map(Answer::Message));
    }
    let Some(preface) = buffer.first_chunk::<{ Preface::LEN }>() else {
        return Ok(None);
    };
    let preface = Preface::decode(preface)?;
    match Notice::decode(preface, buffer.get(Preface::LEN..).unwrap_or_default()) {
        None => Ok(None),
        Some(None) => {
            buffer.advance(Preface::LEN);
            Ok(Some(Answer::Clear(preface)))
        }
        Some(Some((notice, length))) => {
            buffer.advance(Preface::LEN + length);
            Ok(Some(Answer::Notice(notice)))
        }
    }
}

/// An X25519 key: what the first message of the handshake begins with.
const KEY_LEN: usize = 32;

/// What a responder can tell of a dialer before it touches a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// More bytes are needed.
    Partial,
    /// It speaks this version, and has this cookie if any.
    Whole(Option<Cookie>),
}

/// Looks at the first bytes of a dialer: preface and first message, of which a cookie is the payload. Nothing is copied
/// or taken off. A message without room for a cookie is known by its length.
///
/// # Errors
/// It speaks something else or another version, or announces a message that is too long.
pub fn peek_opening(bytes: &[u8]) -> Result<Opening, HandshakeMessageError> {
    let Some((preface, rest)) = bytes.split_first_chunk::<{ Preface::LEN }>() else {
        // Told from its first byte on.
        let so_far = Preface::MAGIC.iter().zip(bytes).all(|(expected, found)| expected == found);
        let mut found = [0; Preface::MAGIC.len()];
        found.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        return if so_far { Ok(Opening::Partial) } else { Err(PrefaceError::Magic { found }.into()) };
    };
    let preface = Preface::decode(preface)?;
    if preface.version != VERSION {
        return Err(PrefaceError::Version { found: preface.version, ours: VERSION }.into());
    }
    let Some((length, message)) = rest.split_first_chunk::<LENGTH_LEN>() else {
        return Ok(Opening::Partial);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    check_length(length)?;
    if length < KEY_LEN + size_of::<Cookie>() {
        return Ok(Opening::Whole(None));
    }
    let cookie = message.get(KEY_LEN..).and_then(|rest| rest.first_chunk());
    Ok(cookie.map_or(Opening::Partial, |cookie| Opening::Whole(Some(*cookie))))
}

fn check_length(length: usize) -> Result<(), HandshakeMessageError> {
    if length > MAX_HANDSHAKE_MESSAGE {
        return Err(HandshakeMessageError::TooLong { length, limit: MAX_HANDSHAKE_MESSAGE });
    }
    Ok(())
}

/// Why bytes are no message of the handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeMessageError {
    /// Too long.
    #[error("the handshake message is {length} bytes, the limit is {limit}")]
    TooLong {
        /// Bytes announced.
        length: usize,
        /// The bound.
        limit: usize,
    },
    /// It begins like a clear answer and is none.
    #[error(transparent)]
    Preface(#[from] PrefaceError),
}
