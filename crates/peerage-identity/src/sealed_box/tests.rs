use proptest::prelude::*;

use super::*;
use crate::Identity;
use crate::resolver::tests::{SMALL_ORDER, hex};

fn bob() -> Identity {
    Identity::from_seed([2; 32])
}

fn to_bob() -> Recipient {
    Recipient::peer(&bob().peer_id()).unwrap()
}

/// The values of the example in docs/wire.md, by their names.
struct Example(&'static str);

impl Example {
    fn of_the_page() -> Self {
        let page = include_str!("../../../../docs/wire.md");
        let from = page.split_once("<!-- example: box -->").expect("the page has the example").1;
        Self(from.split_once("<!-- end -->").expect("the example has an end").0)
    }

    /// What follows the name, over as many lines as it takes.
    fn bytes(&self, name: &str) -> Vec<u8> {
        let lines = self.0.lines().map(str::trim_start);
        let value = lines.skip_while(|line| !line.starts_with(name)).enumerate().map_while(|(at, line)| {
            let line = if at == 0 { &line[name.len()..] } else { line };
            let digits = line.trim().replace(' ', "");
            digits.chars().all(|digit| digit.is_ascii_hexdigit()).then_some(digits)
        });
        let value: String = value.collect();
        assert!(!value.is_empty(), "the example has no {name:?}");
        hex(&value)
    }

    fn key(&self, name: &str) -> [u8; 32] {
        self.bytes(name).try_into().unwrap()
    }
}

#[test]
fn the_example_of_the_page_comes_out_byte_for_byte() {
    let example = Example::of_the_page();
    let recipient = Identity::from_seed(example.key("recipient's secret"));
    assert_eq!(recipient.peer_id().as_bytes(), &example.key("recipient "));
    let to = Recipient::peer(&recipient.peer_id()).unwrap();
    assert_eq!(to.as_bytes(), &example.key("its X25519 key"));
    let x25519 = BoxSecret::from_bytes(example.key("its X25519 secret"));
    assert_eq!(x25519.recipient(), to);

    let (ad, plaintext, sealed) =
        (example.bytes("associated data"), example.bytes("plaintext"), example.bytes("box"));
    let ephemeral = StaticSecret::from(example.key("ephemeral secret"));
    assert_eq!(to.seal_by(&ephemeral, &ad, &plaintext).unwrap(), sealed);
    assert_eq!(recipient.open_box(&ad, &sealed).unwrap(), plaintext);
    assert_eq!(x25519.open(&ad, &sealed).unwrap(), plaintext);
}

#[test]
fn who_a_box_is_for_opens_it_and_nobody_else_does() {
    let sealed = to_bob().seal_with(b"ad", b"for Bob", [3; 32]).unwrap();
    assert_eq!(sealed.len(), b"for Bob".len() + BOX_OVERHEAD);
    assert_eq!(bob().open_box(b"ad", &sealed).unwrap(), b"for Bob");
    let mallory = Identity::from_seed([5; 32]);
    assert_eq!(mallory.open_box(b"ad", &sealed), Err(BoxOpenError::Forged));
    assert_eq!(BoxSecret::from_bytes([5; 32]).open(b"ad", &sealed), Err(BoxOpenError::Forged));
}

#[test]
fn a_box_can_be_for_a_key_of_no_peer() {
    let secret = BoxSecret::from_bytes([6; 32]);
    let to = Recipient::from_x25519(*secret.recipient().as_bytes());
    let sealed = to.seal(b"", b"psst").unwrap();
    assert_eq!(secret.open(b"", &sealed).unwrap(), b"psst");
    assert_eq!(bob().open_box(b"", &sealed), Err(BoxOpenError::Forged));
}

/// The two ways to a peer's X25519 key, by its public and by its secret one, lead to the same.
#[test]
fn every_identity_opens_what_is_sealed_to_its_name() {
    for seed in 0..32 {
        let identity = Identity::from_seed([seed; 32]);
        let to = Recipient::peer(&identity.peer_id()).unwrap();
        let sealed = to.seal_with(b"", &[seed], [seed; 32]).unwrap();
        assert_eq!(identity.open_box(b"", &sealed).unwrap(), [seed]);
    }
}

/// Handshakes have another: who learns the one does not have the other.
#[test]
fn the_key_for_boxes_is_not_the_handshakes() {
    let handshakes = BoxSecret::from_bytes(*bob().noise_secret());
    assert_ne!(handshakes.recipient(), to_bob());
}

#[test]
fn the_associated_data_must_be_the_same() {
    let sealed = to_bob().seal_with(b"chat 7", b"hello", [3; 32]).unwrap();
    for other in [&b"chat 8"[..], b"chat", b"chat 77", b""] {
        assert_eq!(bob().open_box(other, &sealed), Err(BoxOpenError::Forged));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let sealed = to_bob().seal_with(b"ad", b"forty-two", [3; 32]).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        // X25519 ignores the last bit of a key; the derivation of the box's key does not.
        assert_eq!(bob().open_box(b"ad", &changed), Err(BoxOpenError::Forged), "bit {bit}");
    }
}

#[test]
fn every_cut_and_every_byte_more_is_noticed() {
    let sealed = to_bob().seal_with(b"ad", b"forty-two", [3; 32]).unwrap();
    for length in 0..sealed.len() {
        let expected = match length {
            0..BOX_OVERHEAD => BoxOpenError::TooShort { length, least: BOX_OVERHEAD },
            _ => BoxOpenError::Forged,
        };
        assert_eq!(bob().open_box(b"ad", &sealed[..length]), Err(expected));
    }
    for more in [0, 1, 255] {
        assert_eq!(bob().open_box(b"ad", &[&sealed[..], &[more]].concat()), Err(BoxOpenError::Forged));
    }
}

#[test]
fn an_empty_box_has_the_overhead_and_opens() {
    let sealed = to_bob().seal_with(b"", b"", [3; 32]).unwrap();
    assert_eq!(sealed.len(), BOX_OVERHEAD);
    assert_eq!(BOX_OVERHEAD, 48);
    assert_eq!(bob().open_box(b"", &sealed).unwrap(), b"");
}

#[test]
fn nothing_is_sealed_to_a_key_that_everybody_knows() {
    for point in SMALL_ORDER {
        let to = Recipient::from_x25519(hex(point).try_into().unwrap());
        assert_eq!(to.seal(b"", b"secret"), Err(BoxSealError::WeakKey), "{point}");
    }
}

#[test]
fn a_box_whose_key_everybody_knows_is_not_opened() {
    for point in SMALL_ORDER {
        let sealed = [hex(point), vec![0; 40]].concat();
        assert_eq!(bob().open_box(b"", &sealed), Err(BoxOpenError::WeakKey), "{point}");
    }
}

#[test]
fn bytes_that_name_nobody_are_no_recipient() {
    // y = 2 is on no point of the curve.
    let mut nobody = [0; 32];
    nobody[0] = 2;
    let nobody = PeerId::from_bytes(nobody);
    assert_eq!(Recipient::peer(&nobody), Err(RecipientError::NotAKey { peer: nobody }));
    // The neutral element; the point of order 2; one of order 4.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let order_2 = hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    for weak in [neutral, order_2.try_into().unwrap(), [0; 32]] {
        let peer = PeerId::from_bytes(weak);
        assert_eq!(Recipient::peer(&peer), Err(RecipientError::Weak { peer }));
    }
}

#[test]
fn the_same_entropy_gives_the_same_box_and_another_key_to_anything_else() {
    let carol = Recipient::peer(&Identity::from_seed([3; 32]).peer_id()).unwrap();
    let seal = |to: Recipient, ad: &[u8], text: &[u8]| to.seal_with(ad, text, [9; 32]).unwrap();
    let once = seal(to_bob(), b"a", b"b");
    assert_eq!(once, seal(to_bob(), b"a", b"b"));
    // Two boxes under one key would give away both: each has a key of its own, even from a generator that stands still.
    let others = [
        seal(to_bob(), b"a", b"c"),
        seal(to_bob(), b"b", b"b"),
        seal(to_bob(), b"", b"ab"),
        seal(carol, b"a", b"b"),
    ];
    for other in others {
        assert_ne!(other[..KEY_LEN], once[..KEY_LEN]);
    }
    assert_ne!(to_bob().seal(b"a", b"b").unwrap(), to_bob().seal(b"a", b"b").unwrap());
}

#[test]
fn nothing_of_a_secret_is_printed() {
    let secret = BoxSecret::from_bytes([6; 32]);
    let expected = format!("BoxSecret {{ recipient: {:?}, .. }}", secret.recipient());
    assert_eq!(format!("{secret:?}"), expected);
}

#[test]
fn secrets_promise_to_be_overwritten() {
    fn promises<T: zeroize::ZeroizeOnDrop>(_: &T) {}
    promises(&BoxSecret::from_bytes([6; 32]).secret);
    promises(&ChaCha20Poly1305::new(&[0; 32].into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sealed_comes_out(
        seed: [u8; 32],
        entropy: [u8; 32],
        ad in proptest::collection::vec(any::<u8>(), 0..40),
        plaintext in proptest::collection::vec(any::<u8>(), 0..3_000),
    ) {
        let identity = Identity::from_seed(seed);
        let sealed = Recipient::peer(&identity.peer_id()).unwrap().seal_with(&ad, &plaintext, entropy).unwrap();
        prop_assert_eq!(sealed.len(), plaintext.len() + BOX_OVERHEAD);
        prop_assert_eq!(identity.open_box(&ad, &sealed).unwrap(), plaintext);
    }

    #[test]
    fn random_bytes_are_no_box(
        ad in proptest::collection::vec(any::<u8>(), 0..40),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        prop_assert!(bob().open_box(&ad, &bytes).is_err());
    }

    #[test]
    fn random_names_are_a_recipient_or_an_error(name: [u8; 32]) {
        if let Ok(to) = Recipient::peer(&PeerId::from_bytes(name)) {
            prop_assert!(to.seal(b"", b"text").is_ok());
        }
    }
}
