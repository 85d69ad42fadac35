//! What a signature proves, and what it does not.

use peerage_identity::{Identity, NOISE_STATIC, SignatureError, verify};
use peerage_wire::PeerId;
use proptest::prelude::*;

fn alice() -> Identity {
    Identity::from_seed([1; 32])
}

fn forged(peer: PeerId) -> Result<(), SignatureError> {
    Err(SignatureError::Forged { peer })
}

/// RFC 8032, section 7.1, test 1: the seed names this key.
#[test]
fn a_seed_gives_the_public_key_of_the_rfc() {
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
        0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];
    let key = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
        0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ];
    assert_eq!(Identity::from_seed(seed).peer_id(), PeerId::from_bytes(key));
}

/// What docs/wire.md says is signed, put together by hand and checked by another implementation of Ed25519.
#[test]
fn what_is_signed_is_what_the_documentation_says() {
    let signed = [&b"peerage signature v1\0"[..], &[7], b"example", b"message"].concat();
    let signature = alice().sign("example", b"message");
    let id = alice().peer_id();
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, id.as_bytes());
    key.verify(&signed, &signature).unwrap();
}

/// The values that docs/wire.md gives as examples.
#[test]
fn the_examples_of_the_documentation_are_right() {
    let page = include_str!("../../../docs/wire.md");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(page.contains(&format!("`{}`", hex(alice().peer_id().as_bytes()))));
    assert!(page.contains(&format!("`{}`", alice().peer_id())));
    let signature = hex(&alice().sign("example", b"message"));
    let (first, second) = signature.split_at(64);
    assert!(page.contains(&format!("    {first}\n    {second}\n")), "{signature}");
}

#[test]
fn the_certificate_is_a_signature_under_its_domain() {
    let identity = alice();
    let certificate = identity.noise_certificate();
    assert_eq!(
        verify(&identity.peer_id(), NOISE_STATIC, b"not the key", certificate),
        forged(identity.peer_id())
    );
    assert_eq!(certificate, alice().noise_certificate(), "made the same every time");
}

#[test]
fn moving_the_border_between_domain_and_message_is_noticed() {
    let signature = alice().sign("ab", b"c");
    assert_eq!(verify(&alice().peer_id(), "ab", b"c", &signature), Ok(()));
    assert_eq!(verify(&alice().peer_id(), "a", b"bc", &signature), forged(alice().peer_id()));
    assert_eq!(verify(&alice().peer_id(), "abc", b"", &signature), forged(alice().peer_id()));
}

#[test]
fn of_a_long_domain_the_first_255_bytes_count() {
    let (long, longer) = ("d".repeat(255), "d".repeat(256));
    let signature = alice().sign(&long, b"m");
    assert_eq!(verify(&alice().peer_id(), &longer, b"m", &signature), Ok(()));
    assert_eq!(verify(&alice().peer_id(), &"d".repeat(254), b"m", &signature), forged(alice().peer_id()));
}

#[test]
fn a_name_that_is_no_key_verifies_nothing() {
    let peer = PeerId::from_bytes([2; 32]);
    let signature = alice().sign("d", b"m");
    assert_eq!(verify(&peer, "d", b"m", &signature), Err(SignatureError::Key { peer }));
}

/// The neutral element as key and nonce "signs" every message where it is taken for a key.
#[test]
fn a_key_of_small_order_signs_nothing() {
    let mut one = [0; 32];
    one[0] = 1;
    let peer = PeerId::from_bytes(one);
    let mut signature = [0; 64];
    signature[0] = 1;
    assert_eq!(verify(&peer, "d", b"anything", &signature), Err(SignatureError::Key { peer }));
}

/// Adding the group's order to S leaves the equation true; but S is out of range.
#[test]
fn a_signature_with_s_out_of_range_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature = alice().sign("d", b"m");
    let mut carry = 0;
    for (byte, order) in signature.iter_mut().skip(32).zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(verify(&alice().peer_id(), "d", b"m", &signature), forged(alice().peer_id()));
}

#[test]
fn nothing_of_an_identity_is_printed_but_its_name() {
    let printed = format!("{:?}", alice());
    assert_eq!(printed, format!("Identity {{ peer_id: PeerId({}), .. }}", alice().peer_id().short()));
}

#[test]
fn two_generated_identities_differ_and_clones_do_not() {
    let (one, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    assert_ne!(one.peer_id(), other.peer_id());
    assert_eq!(one.clone().sign("d", b"m"), one.sign("d", b"m"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_signature_is_good_for_its_domain_and_message_and_nothing_else(
        seed: [u8; 32],
        domain in ".{0,40}",
        message: Vec<u8>,
        bit in 0_usize..512,
    ) {
        let identity = Identity::from_seed(seed);
        let peer = identity.peer_id();
        let mut signature = identity.sign(&domain, &message);
        prop_assert_eq!(verify(&peer, &domain, &message, &signature), Ok(()));
        let other = domain.clone() + "2";
        prop_assert!(verify(&peer, &other, &message, &signature).is_err());
        prop_assert!(verify(&peer, &domain, &[message.as_slice(), b"x"].concat(), &signature).is_err());
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify(&peer, &domain, &message, &signature).is_err());
    }
}
