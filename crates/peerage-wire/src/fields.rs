//! Walks the fields of a protobuf message without decoding it, to the letter as prost does: the same bytes are
//! accepted, and the same are not.

use crate::frame::FrameError;

/// What follows a field's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Length(&'a [u8]),
    /// Fixed-width numbers and groups: nothing of ours has them, so they are only ever skipped.
    Other,
}

/// Groups within groups, as many as prost allows.
const MAX_DEPTH: u32 = 100;

/// The next field of a message, or `None` at its end.
#[inline]
pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Value<'a>)>, FrameError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (tag, wire_type) = key(rest)?;
    let value = match wire_type {
        0 => Value::Varint(varint(rest)?),
        2 => {
            let length = varint(rest)?;
            Value::Length(take(rest, length)?)
        }
        other => {
            skip(rest, tag, other, 0)?;
            Value::Other
        }
    };
    Ok(Some((tag, value)))
}

/// How many fields of a message have this tag and a length.
pub(crate) fn count(mut message: &[u8], tag: u32) -> Result<usize, FrameError> {
    let mut found = 0;
    while let Some((this, value)) = next(&mut message)? {
        if this == tag && matches!(value, Value::Length(_)) {
            found += 1;
        }
    }
    Ok(found)
}

/// Seven bits a byte, the lowest first, at most ten bytes and 64 bits.
#[inline]
pub(crate) fn varint(rest: &mut &[u8]) -> Result<u64, FrameError> {
    if let Some((&first, after)) = rest.split_first()
        && first < 0x80
    {
        *rest = after;
        return Ok(u64::from(first));
    }
    long_varint(rest)
}

fn long_varint(rest: &mut &[u8]) -> Result<u64, FrameError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, after)) = rest.split_first() else {
            return Err(FrameError::Truncated { needed: 1, left: 0 });
        };
        *rest = after;
        if shift == 63 && byte > 1 {
            return Err(FrameError::Varint);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(FrameError::Varint)
}

#[inline]
fn key(rest: &mut &[u8]) -> Result<(u32, u8), FrameError> {
    let key = varint(rest)?;
    let (Ok(key32), wire_type) = (u32::try_from(key), (key & 7) as u8) else {
        return Err(FrameError::Key { key });
    };
    if wire_type > 5 || key32 < 8 {
        return Err(FrameError::Key { key });
    }
    Ok((key32 >> 3, wire_type))
}

#[inline]
pub(crate) fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], FrameError> {
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let Some((taken, after)) = split else {
        return Err(FrameError::Truncated { needed: length, left: rest.len() });
    };
    *rest = after;
    Ok(taken)
}

fn skip(rest: &mut &[u8], tag: u32, wire_type: u8, depth: u32) -> Result<(), FrameError> {
    if depth >= MAX_DEPTH {
        return Err(FrameError::Depth { limit: MAX_DEPTH });
    }
    match wire_type {
        0 => varint(rest).map(drop),
        1 => take(rest, 8).map(drop),
        2 => {
            let length = varint(rest)?;
            take(rest, length).map(drop)
        }
        3 => loop {
            let (inner, wire_type) = key(rest)?;
            if wire_type != 4 {
                skip(rest, inner, wire_type, depth + 1)?;
            } else if inner == tag {
                return Ok(());
            } else {
                return Err(FrameError::Group { tag });
            }
        },
        5 => take(rest, 4).map(drop),
        _ => Err(FrameError::Group { tag }),
    }
}
