//! Sealed records, and somebody who changes them.

use bytes::BytesMut;

use crate::Choices;
use crate::peers;

/// Records of any length with any bytes changed: one that was changed does not open, nor does any after it, and one that
/// was not opens as it was.
pub fn records(data: &[u8]) {
    let mut choices = Choices(data);
    let ((mut sealer, _), (_, mut opener)) = peers::transport(choices.suite());
    let mut whole = true;
    while !choices.is_empty() {
        let (edits, length) = (choices.byte() & 3, usize::from(choices.byte()));
        let plaintext = choices.bytes(length);
        let mut record = BytesMut::from(&[0, 0][..]);
        record.extend_from_slice(plaintext);
        sealer.seal(&mut record, 0).unwrap();
        let mut sealed = record.split_off(2);
        let honest = sealed.clone();
        for _ in 0..edits {
            let (place, mask) = (usize::from(choices.byte()), choices.byte());
            let length = sealed.len();
            if let Some(byte) = sealed.get_mut(place % length) {
                *byte ^= mask;
            }
        }
        whole &= sealed == honest;
        match opener.open(&mut sealed) {
            Ok(opened) => {
                assert!(whole, "a changed record opened, or one behind it");
                assert_eq!(opened, plaintext);
            }
            Err(error) => assert!(!whole, "{error}"),
        }
    }
}
