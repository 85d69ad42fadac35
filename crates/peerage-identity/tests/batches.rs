//! Many signatures at once are judged as each of them alone.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signature, VerifyingKey};
use peerage_identity::{Check, Identity, SignatureError, verify, verify_all};
use peerage_wire::PeerId;
use proptest::prelude::*;

const DOMAIN: &str = "batch tests v1";

#[derive(Clone, Debug)]
struct Signed {
    signer: PeerId,
    message: Vec<u8>,
    signature: [u8; 64],
}

fn honest(seed: u8, message: &[u8]) -> Signed {
    let identity = Identity::from_seed([seed; 32]);
    Signed {
        signer: identity.peer_id(),
        message: message.to_vec(),
        signature: identity.sign(DOMAIN, message),
    }
}

fn input(message: &[u8]) -> Vec<u8> {
    [&b"peerage signature v1\0"[..], &[DOMAIN.len() as u8], DOMAIN.as_bytes(), message].concat()
}

/// A signature whose key and R have these parts of small order, by a signer that counts as if there were none.
fn crooked(secret: u64, key_part: usize, nonce_part: usize, message: &[u8]) -> Signed {
    let secret = Scalar::from(secret) * Scalar::from(0x1234_5678_9abc_def1_u64);
    let key = (ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[key_part]).compress().to_bytes();
    sign_with(secret, Scalar::from(77_u64) + secret, key, nonce_part, message)
}

fn sign_with(secret: Scalar, nonce: Scalar, key: [u8; 32], nonce_part: usize, message: &[u8]) -> Signed {
    let first: EdwardsPoint = ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[nonce_part];
    let first = first.compress().to_bytes();
    let hash = ring::digest::digest(&ring::digest::SHA512, &[&first, &key[..], &input(message)].concat());
    let challenge = Scalar::from_bytes_mod_order_wide(hash.as_ref().try_into().unwrap());
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&first);
    signature[32..].copy_from_slice((nonce + challenge * secret).as_bytes());
    Signed { signer: PeerId::from_bytes(key), message: message.to_vec(), signature }
}

fn alone(it: &Signed) -> Result<(), SignatureError> {
    verify(&it.signer, DOMAIN, &it.message, &it.signature)
}

fn together(all: &[Signed]) -> Vec<Result<(), SignatureError>> {
    let checks: Vec<Check<'_>> = all
        .iter()
        .map(|it| Check { signer: it.signer, domain: DOMAIN, message: &it.message, signature: &it.signature })
        .collect();
    verify_all(&checks)
}

/// What a check without the cofactor says.
fn without_cofactor(it: &Signed) -> bool {
    VerifyingKey::from_bytes(it.signer.as_bytes()).is_ok_and(|key| {
        key.verify_strict(&input(&it.message), &Signature::from_bytes(&it.signature)).is_ok()
    })
}

#[test]
fn parts_of_small_order_change_nothing_alone_or_together() {
    let mut disagreed = 0;
    for key_part in 0..8 {
        for nonce_part in 0..8 {
            let all: Vec<Signed> =
                (0..5).map(|n| crooked(3 + n, key_part, nonce_part, &[n as u8, key_part as u8])).collect();
            disagreed += all.iter().filter(|it| !without_cofactor(it)).count();
            for it in &all {
                assert_eq!(alone(it), Ok(()), "{key_part} {nonce_part}");
            }
            assert!(together(&all).iter().all(Result::is_ok), "{key_part} {nonce_part}");
        }
    }
    // These are the signatures on which peers would disagree that check without the cofactor, some one by one and some
    // together: seven of eight.
    assert!((200..320).contains(&disagreed), "{disagreed}");
}

#[test]
fn keys_and_nonces_of_small_order_are_refused_alone_and_together() {
    let secret = Scalar::from(9_u64);
    let key = (ED25519_BASEPOINT_POINT * secret).compress().to_bytes();
    let mut all = Vec::new();
    for (part, small) in EIGHT_TORSION.iter().enumerate() {
        let small = small.compress().to_bytes();
        // A key without a large part needs no secret: S·B = R, whatever was said.
        all.push(sign_with(Scalar::ZERO, Scalar::from(5_u64), small, 0, b"anything"));
        // An R without one gives its signer's secret away, but would be good.
        all.push(sign_with(secret, Scalar::ZERO, key, part, b"anything"));
    }
    let results = together(&all);
    for (it, result) in all.iter().zip(results) {
        assert!(result.is_err());
        assert_eq!(result, alone(it));
    }
    assert_eq!(alone(&all[0]), Err(SignatureError::Key { peer: all[0].signer }));
}

#[test]
fn of_many_the_bad_ones_are_named_wherever_they_are() {
    let good: Vec<Signed> = (0..150_u8).map(|n| honest(n % 7, &[n, 1, 2])).collect();
    assert!(together(&good).iter().all(Result::is_ok));
    for bad in [&[0_usize][..], &[63], &[64], &[149], &[3, 4], &[0, 31, 32, 63, 64, 100]] {
        let mut all = good.clone();
        bad.iter().for_each(|at| all[*at].message.push(0));
        let named: Vec<usize> =
            together(&all).iter().enumerate().filter(|(_, it)| it.is_err()).map(|(at, _)| at).collect();
        assert_eq!(named, bad);
    }
    let all: Vec<Signed> =
        good.into_iter().map(|it| Signed { message: b"never said".to_vec(), ..it }).collect();
    assert!(together(&all).iter().all(Result::is_err));
    assert!(together(&[]).is_empty());
}

/// Two errors that would cancel each other out in a plain sum.
#[test]
fn errors_do_not_make_up_for_each_other() {
    let mut all: Vec<Signed> = (0..16_u8).map(|n| honest(1, &[n])).collect();
    let shift = |it: &mut Signed, by: Scalar| {
        let response = Scalar::from_canonical_bytes(it.signature[32..].try_into().unwrap()).unwrap() + by;
        it.signature[32..].copy_from_slice(response.as_bytes());
    };
    shift(&mut all[2], Scalar::ONE);
    shift(&mut all[9], -Scalar::ONE);
    let named: Vec<bool> = together(&all).iter().map(Result::is_err).collect();
    assert_eq!(named.iter().filter(|bad| **bad).count(), 2);
    assert!(named[2] && named[9]);
}

/// One of many, or nothing at all like a signature.
fn signed() -> impl Strategy<Value = Signed> {
    let message = prop::collection::vec(any::<u8>(), 0..5);
    (0_u8..9, 0_u8..4, message, 0_usize..8, 0_usize..8, any::<[u8; 32]>(), any::<[u8; 64]>(), 0_usize..512)
        .prop_map(|(kind, seed, message, key_part, nonce_part, key, bytes, bit)| {
            let mut it = match kind {
                0..=3 => honest(seed, &message),
                _ => crooked(u64::from(seed) + 2, key_part, nonce_part, &message),
            };
            match kind {
                0 | 4 => it.signature[bit / 8] ^= 1 << (bit % 8),
                1 => it.signer = PeerId::from_bytes(key),
                5 => it.signature = bytes,
                6 => it.message.push(1),
                _ => {}
            }
            it
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn together_is_as_alone_and_no_stricter_check_finds_more(all in prop::collection::vec(signed(), 0..70)) {
        let expected: Vec<_> = all.iter().map(alone).collect();
        prop_assert_eq!(&together(&all), &expected);
        for (it, result) in all.iter().zip(expected) {
            // Whoever checks without the cofactor takes less, and never more.
            prop_assert!(result.is_ok() || !without_cofactor(it));
        }
    }
}
