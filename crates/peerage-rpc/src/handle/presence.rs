//! Which fields are there, in a message that nobody has decoded.

/// The first of these fields that is not in the message; those of its own level only. Of a message that is malformed
/// only the part before that counts, and decoding it fails anyhow.
pub(crate) fn missing(required: &[(u32, &'static str)], message: &[u8]) -> Option<&'static str> {
    if required.is_empty() {
        return None;
    }
    let mut seen: u64 = 0;
    let mut late = Vec::new();
    let mut rest = message;
    while let Some((number, after)) = field(rest) {
        match required.iter().position(|(wanted, _)| *wanted == number) {
            Some(at) if at < 64 => seen |= 1 << at,
            Some(at) => late.push(at),
            None => {}
        }
        rest = after;
    }
    let is_seen = |at: usize| if at < 64 { seen & (1 << at) != 0 } else { late.contains(&at) };
    required.iter().enumerate().find(|(at, _)| !is_seen(*at)).map(|(_, (_, name))| *name)
}

/// The number of the next field, and what follows the field.
fn field(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (key, rest) = varint(bytes)?;
    let number = u32::try_from(key >> 3).ok()?;
    let rest = match key & 7 {
        0 => varint(rest)?.1,
        1 => rest.get(8..)?,
        2 => {
            let (len, rest) = varint(rest)?;
            rest.get(usize::try_from(len).ok()?..)?
        }
        5 => rest.get(4..)?,
        // Groups, which proto3 does not have.
        _ => return None,
    };
    Some((number, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::missing;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Three {
        #[prost(double, optional, tag = "1")]
        first: Option<f64>,
        #[prost(string, optional, tag = "200")]
        second: Option<String>,
        #[prost(uint64, optional, tag = "3")]
        third: Option<u64>,
    }

    const REQUIRED: &[(u32, &str)] = &[(1, "first"), (200, "second"), (3, "third")];

    #[test]
    fn a_field_that_is_there_counts_whatever_its_value() {
        let all = Three { first: Some(0.0), second: Some(String::new()), third: Some(0) };
        assert_eq!(missing(REQUIRED, &all.encode_to_vec()), None);
        for (without, name) in [
            (Three { first: None, ..all.clone() }, "first"),
            (Three { second: None, ..all.clone() }, "second"),
            (Three { third: None, ..all }, "third"),
        ] {
            assert_eq!(missing(REQUIRED, &without.encode_to_vec()), Some(name));
        }
    }

    #[test]
    fn bytes_that_are_no_message_have_no_fields() {
        for hostile in [&[0xff; 20][..], &[0x0a, 0x7f], &[0x09, 1, 2], &[0x0b], &[]] {
            assert_eq!(missing(REQUIRED, hostile), Some("first"), "{hostile:?}");
        }
        assert_eq!(missing(&[], &[0xff]), None);
    }
}
