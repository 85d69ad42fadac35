//! Boxes, whoever made them and whatever became of them on the way.

use std::sync::LazyLock;

use peerage_identity::{BOX_OVERHEAD, BoxOpenError, BoxSealError, BoxSecret, Recipient};
use peerage_machine::Direction;
use peerage_wire::PeerId;

use crate::{Choices, peers};

static SECRET: LazyLock<BoxSecret> = LazyLock::new(|| BoxSecret::from_bytes([5; 32]));

/// Somebody who opens boxes: a peer, or whoever has a secret of no identity.
#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Peer,
    Other,
}

impl Whose {
    fn from(choices: &mut Choices<'_>) -> Self {
        if choices.byte() & 1 == 0 { Self::Peer } else { Self::Other }
    }

    fn recipient(self) -> Recipient {
        match self {
            Self::Peer => Recipient::peer(&peers::identity(Direction::Outbound).peer_id()).unwrap(),
            Self::Other => SECRET.recipient(),
        }
    }

    fn open(self, ad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, BoxOpenError> {
        match self {
            Self::Peer => peers::identity(Direction::Outbound).open_box(ad, sealed),
            Self::Other => SECRET.open(ad, sealed),
        }
    }
}

/// One of three: bytes that somebody calls a box; a box to bytes that somebody calls a key; a box that is changed, cut or
/// lengthened on its way, or that comes with other associated data, or to somebody else, and then does not open.
pub fn boxes(data: &[u8]) {
    let mut choices = Choices(data);
    match choices.byte() % 3 {
        0 => strange_box(choices),
        1 => strange_key(choices),
        _ => round_trip(choices),
    }
}

fn strange_box(mut choices: Choices<'_>) {
    let whose = Whose::from(&mut choices);
    let length = usize::from(choices.byte() & 31);
    let ad = choices.bytes(length);
    let Choices(sealed) = choices;
    match whose.open(ad, sealed) {
        Ok(opened) => assert_eq!(opened.len() + BOX_OVERHEAD, sealed.len()),
        Err(BoxOpenError::TooShort { length, least }) => {
            assert_eq!((length, least), (sealed.len(), BOX_OVERHEAD));
            assert!(length < least);
        }
        Err(_) => assert!(sealed.len() >= BOX_OVERHEAD),
    }
}

fn strange_key(mut choices: Choices<'_>) {
    let is_peer = choices.byte() & 1 == 0;
    let mut key = [0; 32];
    key.iter_mut().for_each(|byte| *byte = choices.byte());
    let recipient = if is_peer {
        // A name that is no key, or a weak one, is an error here and never one of sealing.
        let Ok(recipient) = Recipient::peer(&PeerId::from_bytes(key)) else { return };
        recipient
    } else {
        Recipient::from_x25519(key)
    };
    let Choices(plaintext) = choices;
    match recipient.seal_with(b"", plaintext, [9; 32]) {
        Ok(sealed) => assert_eq!(sealed.len(), plaintext.len() + BOX_OVERHEAD),
        Err(error) => assert!(!is_peer && error == BoxSealError::WeakKey, "{error}"),
    }
}

fn round_trip(mut choices: Choices<'_>) {
    let (to, by) = (Whose::from(&mut choices), Whose::from(&mut choices));
    let (edits, ad, length) = (choices.byte() & 3, choices.byte() & 31, choices.byte());
    let ad = choices.bytes(usize::from(ad)).to_vec();
    let plaintext = choices.bytes(usize::from(length));
    let honest = to.recipient().seal_with(&ad, plaintext, [9; 32]).unwrap();
    assert_eq!(honest.len(), plaintext.len() + BOX_OVERHEAD);
    let (mut sealed, mut said) = (honest.clone(), ad.clone());
    for _ in 0..edits {
        let (what, place, by) = (choices.byte(), usize::from(choices.number()), choices.byte());
        match what & 3 {
            0 => flip(&mut sealed, place, by),
            1 => flip(&mut said, place, by),
            2 => sealed.truncate(sealed.len().saturating_sub(usize::from(by))),
            _ => sealed.extend(std::iter::repeat_n(by, place & 31)),
        }
    }
    let whole = sealed == honest && said == ad && to == by;
    match by.open(&said, &sealed) {
        Ok(opened) => {
            assert!(whole, "a box opened that was changed, or by somebody for whom it was not");
            assert_eq!(opened, plaintext);
        }
        Err(error) => assert!(!whole, "{error}"),
    }
    // The same entropy for something else gives another key, and so no nonce twice.
    let mut other = plaintext.to_vec();
    other.push(0);
    let other = to.recipient().seal_with(&ad, &other, [9; 32]).unwrap();
    assert_ne!(other.first_chunk::<32>(), honest.first_chunk::<32>());
}

fn flip(bytes: &mut [u8], place: usize, mask: u8) {
    let length = bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(place % length) {
        *byte ^= mask;
    }
}
