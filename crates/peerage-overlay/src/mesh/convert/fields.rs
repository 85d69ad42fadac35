//! A walk over the fields of an encoded message that decodes none of them.

use bytes::Buf as _;
use peerage_machine::Malformed;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) tag: u32,
    pub(super) wire_type: WireType,
    /// With its head.
    pub(super) size: usize,
    /// Where its bytes are; without a head only when it is of bytes or a number of variable length.
    at: usize,
    len: usize,
}

impl Field {
    pub(super) fn place(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.len
    }
}

/// Walks over the fields of a message until `allow` says no to one.
pub(super) fn fields(
    what: &'static str,
    bytes: &[u8],
    mut allow: impl FnMut(Field) -> bool,
) -> Result<(), Malformed> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let begin = bytes.len() - rest.len();
        let field = match plain(begin, rest) {
            Some(field) => field,
            None => general(begin, rest).map_err(|error| Malformed::new(what, error))?,
        };
        rest = rest.get(field.size..).unwrap_or_default();
        if !allow(field) {
            return Err(Malformed::new(what, format!("there is too much of field {}", field.tag)));
        }
    }
    Ok(())
}

/// The field at the front, if it is a plain one, as almost all are: of bytes or a number of variable length, with a tag of
/// one byte and a length of at most two. Messages are walked over several times on their way.
fn plain(begin: usize, rest: &[u8]) -> Option<Field> {
    let (key, body) = rest.split_first()?;
    let tag = u32::from(key >> 3);
    if *key >= 0x80 || tag == 0 {
        return None;
    }
    let (wire_type, head, len) = match key & 7 {
        0 => (WireType::Varint, 1, body.iter().take(9).position(|byte| *byte < 0x80)? + 1),
        2 => match body {
            [len, ..] if *len < 0x80 => (WireType::LengthDelimited, 2, usize::from(*len)),
            [low, high, ..] if *high < 0x80 => {
                (WireType::LengthDelimited, 3, usize::from(low & 0x7f) | usize::from(*high) << 7)
            }
            _ => return None,
        },
        _ => return None,
    };
    let size = head + len;
    (size <= rest.len()).then_some(Field { tag, wire_type, size, at: begin + head, len })
}

/// The field at the front, whatever it is.
fn general(begin: usize, bytes: &[u8]) -> Result<Field, prost::DecodeError> {
    let mut rest = bytes;
    let (tag, wire_type) = decode_key(&mut rest)?;
    let mut body = rest;
    if wire_type == WireType::LengthDelimited {
        decode_varint(&mut body)?;
    }
    let head = bytes.len() - body.remaining();
    skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
    let size = bytes.len() - rest.len();
    Ok(Field { tag, wire_type, size, at: begin + head, len: size.saturating_sub(head) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_fields_are_what_any_way_of_reading_finds(
            key in 0_u8..0x90, head in prop::collection::vec(any_byte(), 0..12), body in 0_usize..300,
        ) {
            let mut bytes = vec![key];
            bytes.extend(head);
            bytes.resize(bytes.len() + body, 1);
            if let Some(field) = plain(7, &bytes) {
                prop_assert_eq!(Some(field), general(7, &bytes).ok());
            }
        }
    }

    /// Those at which lengths and numbers end, or go on, are frequent.
    fn any_byte() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), Just(0x80), Just(0xff), 0_u8..4]
    }

    #[test]
    fn almost_all_fields_are_plain_ones() {
        for bytes in
            [&[0x08, 0][..], &[0x08, 0xff, 0xff, 1], &[0x12, 0], &[0x12, 3, 1, 2, 3], &[0x7a, 0x80, 0]]
        {
            assert!(plain(0, bytes).is_some_and(|field| field.size == bytes.len()), "{bytes:?}");
        }
        for bytes in
            [&[][..], &[0x00, 0], &[0x08], &[0x08, 0xff], &[0x12, 2, 1], &[0x12, 0x80], &[0x0d, 1, 2, 3, 4]]
        {
            assert_eq!(plain(0, bytes), None, "{bytes:?}");
        }
    }
}
