use bytes::BytesMut;
use peerage_wire::preface::Preface;
use serde_json::Value;

use super::*;
use crate::resolver::tests::{SMALL_ORDER, hex};

impl Handshake {
    pub(crate) fn into_transport(self) -> snow::TransportState {
        self.state.into_transport_mode().unwrap()
    }
}

fn ends(suite: Suite) -> (Handshake, Handshake) {
    ends_with(suite, &Preface::new(suite).encode())
}

fn ends_with(suite: Suite, prologue: &[u8]) -> (Handshake, Handshake) {
    let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
    (
        Handshake::initiator(&alice, suite, prologue, [3; 32]).unwrap(),
        Handshake::responder(&bob, suite, prologue, [4; 32]).unwrap(),
    )
}

fn pass(from: &mut Handshake, to: &mut Handshake, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut message = Vec::new();
    from.write(payload, &mut message)?;
    to.read(&message)
}

pub(crate) fn finished(suite: Suite) -> (Handshake, Handshake) {
    let (mut dialer, mut listener) = ends(suite);
    pass(&mut dialer, &mut listener, b"").unwrap();
    pass(&mut listener, &mut dialer, b"hello of the listener").unwrap();
    pass(&mut dialer, &mut listener, b"hello of the dialer").unwrap();
    (dialer, listener)
}

#[test]
fn the_published_vectors_of_chachapoly_come_out_byte_for_byte() {
    come_out(Suite::ChaChaPoly, include_str!("../../tests/vectors/noise_xx_chachapoly_blake2s.json"));
}

#[test]
fn the_published_vectors_of_aesgcm_come_out_byte_for_byte() {
    come_out(Suite::AesGcm, include_str!("../../tests/vectors/noise_xx_aesgcm_blake2s.json"));
}

/// Published vectors for exactly this pattern: `tests/vectors` says whose.
fn come_out(suite: Suite, vectors: &str) {
    let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in &vectors {
        assert_eq!(vector["protocol_name"], suite.noise_name());
        let bytes = |name: &str| hex(vector[name].as_str().unwrap());
        let end = |role: &str, initiator: bool| {
            let (secret, ephemeral, prologue) = (
                bytes(&format!("{role}_static")),
                bytes(&format!("{role}_ephemeral")),
                bytes(&format!("{role}_prologue")),
            );
            let builder = builder(suite, Resolver::new(Zeroizing::new([0; 32])))
                .unwrap()
                .local_private_key(&secret)
                .unwrap()
                .prologue(&prologue)
                .unwrap()
                .fixed_ephemeral_key_for_testing_only(&ephemeral);
            let state = if initiator { builder.build_initiator() } else { builder.build_responder() };
            Handshake { state: state.unwrap(), suite, initiator, done: 0, failed: false }
        };
        let (mut dialer, mut listener) = (end("init", true), end("resp", false));
        let messages: Vec<_> = vector["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| ["payload", "ciphertext"].map(|part| hex(message[part].as_str().unwrap())))
            .collect();

        for (number, [payload, ciphertext]) in messages.iter().take(3).enumerate() {
            let (from, to) = match number {
                1 => (&mut listener, &mut dialer),
                _ => (&mut dialer, &mut listener),
            };
            let mut message = Vec::new();
            from.write(payload, &mut message).unwrap();
            assert_eq!(&message, ciphertext, "message {number}");
            assert_eq!(&to.read(&message).unwrap(), payload, "message {number}");
        }
        if let Some(hash) = vector["handshake_hash"].as_str() {
            assert_eq!(dialer.state.get_handshake_hash(), hex(hash));
        }
        // The messages go on in turn: what follows the handshake are records.
        let (mut dialer, mut listener) = (dialer.finish().unwrap(), listener.finish().unwrap());
        for (number, [payload, ciphertext]) in messages.iter().enumerate().skip(3) {
            let (from, to) = match number % 2 {
                1 => (&mut listener, &mut dialer),
                _ => (&mut dialer, &mut listener),
            };
            let mut record = BytesMut::zeroed(2);
            record.extend_from_slice(payload);
            from.0.seal(&mut record, 0).unwrap();
            assert_eq!(&record[2..], ciphertext, "message {number}");
            assert_eq!(to.1.open(&mut record[2..]).unwrap(), payload, "message {number}");
        }
    }
}

#[test]
fn both_ends_learn_each_others_payload_and_key() {
    for suite in Suite::ALL {
        let (mut dialer, mut listener) = ends(suite);
        assert_eq!(pass(&mut dialer, &mut listener, b"").unwrap(), b"");
        assert_eq!(pass(&mut listener, &mut dialer, b"to the dialer").unwrap(), b"to the dialer");
        assert_eq!(pass(&mut dialer, &mut listener, b"to the listener").unwrap(), b"to the listener");
        let (alice, bob) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        assert_eq!(dialer.check_certificate(&bob.peer_id(), bob.noise_certificate()), Ok(()));
        assert_eq!(listener.check_certificate(&alice.peer_id(), alice.noise_certificate()), Ok(()));
        assert!(dialer.is_finished() && listener.is_finished());
    }
}

#[test]
fn a_certificate_of_somebody_else_is_refused() {
    let (dialer, _) = finished(Suite::ChaChaPoly);
    let (bob, mallory) = (Identity::from_seed([2; 32]), Identity::from_seed([5; 32]));
    let refused = |peer: PeerId, signature| {
        let error = HandshakeError::Certificate(SignatureError::Forged { peer });
        assert_eq!(dialer.check_certificate(&peer, signature), Err(error));
    };
    // Mallory's own, which is over Mallory's key; Mallory's under Bob's name; Bob's under Mallory's name.
    refused(mallory.peer_id(), mallory.noise_certificate());
    refused(bob.peer_id(), mallory.noise_certificate());
    refused(mallory.peer_id(), bob.noise_certificate());
    // Bob's signature over the right bytes, for another purpose.
    refused(bob.peer_id(), &bob.sign("another purpose", &dialer.remote_static().unwrap()));
}

#[test]
fn ends_that_saw_different_prefaces_do_not_meet() {
    let (mut dialer, _) = ends_with(Suite::ChaChaPoly, b"PEERAGE\x01\x01");
    let (_, mut listener) = ends_with(Suite::ChaChaPoly, b"PEERAGE\x01\x02");
    pass(&mut dialer, &mut listener, b"").unwrap();
    assert_eq!(pass(&mut listener, &mut dialer, b""), Err(HandshakeError::Decrypt));
}

#[test]
fn ends_of_different_suites_do_not_meet_even_with_the_same_prologue() {
    let (mut dialer, _) = ends_with(Suite::ChaChaPoly, b"");
    let (_, mut listener) = ends_with(Suite::AesGcm, b"");
    pass(&mut dialer, &mut listener, b"").unwrap();
    assert_eq!(pass(&mut listener, &mut dialer, b""), Err(HandshakeError::Decrypt));
}

#[test]
fn an_ephemeral_key_of_small_order_ends_the_handshake() {
    for point in SMALL_ORDER {
        let (_, mut listener) = ends(Suite::ChaChaPoly);
        listener.read(&hex(point)).unwrap();
        let mut out = b"before".to_vec();
        assert_eq!(listener.write(b"", &mut out), Err(HandshakeError::WeakKey), "{point}");
        assert_eq!(out, b"before", "nothing is sent");

        let (mut dialer, _) = ends(Suite::ChaChaPoly);
        dialer.write(b"", &mut Vec::new()).unwrap();
        let mut answer = hex(point);
        answer.resize(96, 0);
        assert_eq!(dialer.read(&answer), Err(HandshakeError::WeakKey), "{point}");
    }
}

#[test]
fn every_prefix_and_every_changed_byte_of_the_second_message_is_refused() {
    for suite in Suite::ALL {
        let mut second = Vec::new();
        let (mut dialer, mut listener) = ends(suite);
        pass(&mut dialer, &mut listener, b"").unwrap();
        listener.write(b"hello", &mut second).unwrap();
        let attempt = |message: &[u8]| {
            let (mut dialer, _) = ends(suite);
            dialer.write(b"", &mut Vec::new()).unwrap();
            let error = dialer.read(message).unwrap_err();
            assert_eq!(dialer.remote_static(), None);
            assert_eq!(dialer.read(&second), Err(HandshakeError::Failed), "the first error is final");
            error
        };
        hostile(&second, 96, attempt);
    }
}

#[test]
fn every_prefix_and_every_changed_byte_of_the_third_message_is_refused() {
    for suite in Suite::ALL {
        let third = |change: &dyn Fn(&[u8]) -> Vec<u8>| {
            let (mut dialer, mut listener) = ends(suite);
            pass(&mut dialer, &mut listener, b"").unwrap();
            pass(&mut listener, &mut dialer, b"").unwrap();
            let mut message = Vec::new();
            dialer.write(b"hello", &mut message).unwrap();
            let result = listener.read(&change(&message));
            (message, result, listener)
        };
        let (message, result, _) = third(&<[u8]>::to_vec);
        assert_eq!(result.unwrap(), b"hello");
        hostile(&message, 64, |changed| {
            let (_, result, listener) = third(&|_| changed.to_vec());
            assert!(matches!(listener.finish(), Err(HandshakeError::Failed)));
            result.unwrap_err()
        });
    }
}

fn hostile(message: &[u8], least: usize, attempt: impl Fn(&[u8]) -> HandshakeError) {
    for length in 0..message.len() {
        let expected = match length {
            _ if length < least => HandshakeError::TooShort { length, least },
            _ => HandshakeError::Decrypt,
        };
        assert_eq!(attempt(&message[..length]), expected);
    }
    for at in 0..message.len() {
        let mut changed = message.to_vec();
        changed[at] ^= 0x40;
        assert_eq!(attempt(&changed), HandshakeError::Decrypt, "byte {at}");
    }
    let longer = [message, b"x"].concat();
    assert_eq!(attempt(&longer), HandshakeError::Decrypt);
    let error = HandshakeError::TooLong { length: 16_385, limit: MAX_HANDSHAKE_MESSAGE };
    assert_eq!(attempt(&vec![0; 16_385]), error);
}

#[test]
fn a_payload_fills_a_message_to_the_limit_and_no_further() {
    let (mut dialer, mut listener) = ends(Suite::ChaChaPoly);
    for overhead in OVERHEAD {
        let longest = MAX_HANDSHAKE_MESSAGE - overhead;
        let mut message = Vec::new();
        let error = HandshakeError::TooLong { length: 16_385, limit: MAX_HANDSHAKE_MESSAGE };
        assert_eq!(dialer.write(&vec![1; longest + 1], &mut message), Err(error));
        assert!(message.is_empty());
        dialer.write(&vec![1; longest], &mut message).unwrap();
        assert_eq!(message.len(), MAX_HANDSHAKE_MESSAGE);
        assert_eq!(listener.read(&message).unwrap().len(), longest);
        std::mem::swap(&mut dialer, &mut listener);
    }
}

#[test]
fn whoever_acts_out_of_turn_is_told_and_may_go_on() {
    let (mut dialer, mut listener) = ends(Suite::ChaChaPoly);
    assert_eq!(dialer.read(&[0; 96]), Err(HandshakeError::Turn { done: 0 }));
    assert_eq!(listener.write(b"", &mut Vec::new()), Err(HandshakeError::Turn { done: 0 }));
    let bob = Identity::from_seed([2; 32]);
    let unknown = dialer.check_certificate(&bob.peer_id(), bob.noise_certificate());
    assert_eq!(unknown, Err(HandshakeError::Turn { done: 0 }));
    pass(&mut dialer, &mut listener, b"").unwrap();
    pass(&mut listener, &mut dialer, b"").unwrap();
    pass(&mut dialer, &mut listener, b"").unwrap();
    assert_eq!(dialer.write(b"", &mut Vec::new()), Err(HandshakeError::Turn { done: 3 }));
    assert_eq!(listener.read(&[0; 64]), Err(HandshakeError::Turn { done: 3 }));
    assert!(dialer.finish().is_ok() && listener.finish().is_ok());
}

#[test]
fn a_handshake_that_is_not_through_has_no_ciphers() {
    let (dialer, _) = ends(Suite::ChaChaPoly);
    assert_eq!(dialer.finish().map(drop), Err(HandshakeError::Turn { done: 0 }));
}

#[test]
fn the_same_entropy_gives_the_same_bytes_and_other_entropy_others() {
    let first = |entropy, seed| {
        let mut message = Vec::new();
        let identity = Identity::from_seed([seed; 32]);
        Handshake::initiator(&identity, Suite::AesGcm, b"", [entropy; 32])
            .unwrap()
            .write(b"", &mut message)
            .unwrap();
        message
    };
    assert_eq!(first(1, 1), first(1, 1));
    assert_ne!(first(1, 1), first(2, 1));
    assert_ne!(first(1, 1), first(1, 2), "two peers with the same poor entropy");
}

#[test]
fn nothing_of_a_secret_is_printed() {
    let (dialer, _) = ends(Suite::AesGcm);
    assert_eq!(
        format!("{dialer:?}"),
        "Handshake { suite: AesGcm, initiator: true, messages: 0, failed: false, .. }"
    );
}
