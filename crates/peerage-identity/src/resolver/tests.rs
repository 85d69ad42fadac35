use super::*;

/// The points of small order of Curve25519 and what else encodes to one of them, as in libsodium's list.
pub(crate) const SMALL_ORDER: [&str; 12] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

pub(crate) fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_key_of_small_order_agrees_on_nothing() {
    let ours = X25519::new(StaticSecret::from([9; 32]));
    for point in SMALL_ORDER {
        let mut out = [0xee; 32];
        assert_eq!(ours.dh(&hex(point), &mut out), Err(Error::Dh), "{point}");
        assert_eq!(out, [0xee; 32], "{point}");
    }
}

#[test]
fn randomness_is_as_long_as_asked_and_never_the_same_twice() {
    let resolver = Resolver::new(Zeroizing::new([1; 32]));
    let mut rng = resolver.resolve_rng().unwrap();
    let (mut first, mut second) = ([0; 80], [0; 80]);
    rng.try_fill_bytes(&mut first).unwrap();
    rng.try_fill_bytes(&mut second).unwrap();
    assert_ne!(first, second);
    let mut again = [0; 80];
    resolver.resolve_rng().unwrap().try_fill_bytes(&mut again).unwrap();
    assert_eq!(first, again);
}

#[test]
fn nothing_but_the_suites_resolves() {
    let resolver = Resolver::new(Zeroizing::new([1; 32]));
    assert!(resolver.resolve_dh(&DHChoice::Curve448).is_none());
    assert!(resolver.resolve_hash(&HashChoice::SHA256).is_none());
    for (choice, name) in [(CipherChoice::ChaChaPoly, "ChaChaPoly"), (CipherChoice::AESGCM, "AESGCM")] {
        assert_eq!(resolver.resolve_cipher(&choice).unwrap().name(), name);
    }
}

#[test]
fn the_handshakes_cipher_refuses_what_has_no_room_or_no_key() {
    for suite in Suite::ALL {
        refuses_what_has_no_room_or_no_key(HandshakeCipher::unset(suite));
    }
}

fn refuses_what_has_no_room_or_no_key(mut cipher: HandshakeCipher) {
    assert_eq!(cipher.encrypt(0, b"", b"text", &mut [0; 64]), 0);
    assert_eq!(cipher.decrypt(0, b"", &[0; 20], &mut [0; 64]), Err(Error::Decrypt));
    cipher.set(&[1; 32]);
    assert_eq!(cipher.encrypt(0, b"", b"text", &mut [0; 19]), 0);
    let mut out = [0; 20];
    assert_eq!(cipher.encrypt(0, b"ad", b"text", &mut out), 20);
    assert_eq!(cipher.decrypt(0, b"ad", &out, &mut [0; 3]), Err(Error::Decrypt));
    assert_eq!(cipher.decrypt(0, b"da", &out, &mut [0; 4]), Err(Error::Decrypt));
    let mut plain = [0; 4];
    assert_eq!(cipher.decrypt(0, b"ad", &out, &mut plain), Ok(4));
    assert_eq!(&plain, b"text");
}
