use peerage_wire::Suite;

use super::*;
use crate::handshake::tests::finished;
use crate::resolver::tests::hex;

const KEY: [u8; 32] = [7; 32];

fn cipher(suite: Suite) -> Box<Cipher> {
    Box::new(Cipher::new(suite, &KEY).unwrap())
}

fn pair_of(suite: Suite, rekey_every: u64) -> (Sealer, Opener) {
    let direction = || Direction::new(cipher(suite), rekey_every);
    (Sealer(direction()), Opener(direction()))
}

/// For what has nothing to do with the cipher.
fn pair(rekey_every: u64) -> (Sealer, Opener) {
    pair_of(Suite::ChaChaPoly, rekey_every)
}

fn seal(sealer: &mut Sealer, plaintext: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::zeroed(RECORD_LENGTH_LEN);
    buffer.extend_from_slice(plaintext);
    sealer.seal(&mut buffer, 0).unwrap();
    buffer
}

/// What `seal` made, without its length.
fn body(record: &BytesMut) -> Vec<u8> {
    record[RECORD_LENGTH_LEN..].to_vec()
}

#[test]
fn a_record_opens_as_it_was_sealed_in_any_size() {
    for suite in Suite::ALL {
        let (mut sealer, mut opener) = pair_of(suite, 3);
        for size in [0, 1, 2, 63, 64, 1_000, 16_384, MAX_PLAINTEXT] {
            let plaintext: Vec<u8> = (0..size).map(|byte| byte as u8).collect();
            let record = seal(&mut sealer, &plaintext);
            assert_eq!(record.len(), RECORD_LENGTH_LEN + size + TAG_LEN);
            assert_eq!(usize::from(u16::from_be_bytes([record[0], record[1]])), size + TAG_LEN);
            assert_eq!(opener.open(&mut body(&record)).unwrap(), plaintext);
        }
    }
}

#[test]
fn a_record_is_sealed_where_it_starts_and_leaves_what_is_before_it() {
    let (mut sealer, mut opener) = pair(REKEY_EVERY);
    let mut buffer = seal(&mut sealer, b"first");
    let first = buffer.clone();
    let start = buffer.len();
    buffer.extend_from_slice(b"\0\0second");
    sealer.seal(&mut buffer, start).unwrap();
    assert_eq!(buffer[..start], first);
    assert_eq!(opener.open(&mut body(&first)).unwrap(), b"first");
    assert_eq!(opener.open(&mut buffer[start + RECORD_LENGTH_LEN..]).unwrap(), b"second");
}

#[test]
fn snow_opens_what_we_seal_and_we_open_what_snow_seals_across_rekeys() {
    for suite in Suite::ALL {
        for we_dialled in [true, false] {
            let (dialer, listener) = finished(suite);
            let (us, snow) = if we_dialled { (dialer, listener) } else { (listener, dialer) };
            let (mut sealer, mut opener) = us.finish().unwrap();
            for direction in [&mut sealer.0, &mut opener.0] {
                *direction = Direction::new(std::mem::replace(&mut direction.cipher, cipher(suite)), 5);
            }
            let mut snow = snow.into_transport();
            let mut buffer = vec![0; MAX_RECORD];
            for number in 0_u32..23 {
                if number > 0 && number.is_multiple_of(5) {
                    snow.rekey_incoming();
                    snow.rekey_outgoing();
                }
                let text = format!("record {number}").repeat(number as usize);

                let ours = body(&seal(&mut sealer, text.as_bytes()));
                let length = snow.read_message(&ours, &mut buffer).unwrap();
                assert_eq!(&buffer[..length], text.as_bytes(), "{suite}, record {number}");

                let length = snow.write_message(text.as_bytes(), &mut buffer).unwrap();
                let opened = opener.open(&mut buffer[..length]).unwrap();
                assert_eq!(opened, text.as_bytes(), "{suite}, record {number}");
            }
        }
    }
}

/// Made by another implementation of both ciphers (OpenSSL's), by what Noise's text says: a record whose number has
/// two bytes that differ, so that their order shows, and the first one under the next key.
#[test]
fn nonces_and_the_next_key_are_what_another_implementation_makes_of_them() {
    let known = [
        (
            Suite::ChaChaPoly,
            "de87f344303d9a797bbf1f916ccff57948e2b420e7aa1e734a444ee15fd5740735867c",
            "e616a69070bf3b54ddb534bfe00c6da815e5bddbbf5864cdc42fd69b37141f088fb5075e",
        ),
        (
            Suite::AesGcm,
            "470f62cd0ee0f257db3377faade953ddd58bdcea66bf66ced5b3d0c5abe17a9cd3c608",
            "fe52e29c2b78c02fd97edc7f1402454cf1c89b91a73cb12ab8091e8a8e89b06b8efd7f38",
        ),
    ];
    for (suite, last_of_the_first, first_of_the_second) in known {
        let (mut sealer, mut opener) = pair_of(suite, 0x0103);
        (sealer.0.counter, opener.0.counter) = (0x0102, 0x0102);
        for (text, record) in
            [("under the first key", last_of_the_first), ("under the second key", first_of_the_second)]
        {
            assert_eq!(body(&seal(&mut sealer, text.as_bytes())), hex(record), "{suite}");
            assert_eq!(opener.open(&mut hex(record)).unwrap(), text.as_bytes(), "{suite}");
        }
    }
}

#[test]
fn keys_change_after_two_to_the_twentieth_record_and_not_before() {
    for suite in Suite::ALL {
        let (dialer, listener) = finished(suite);
        let (mut sealer, _) = dialer.finish().unwrap();
        let mut snow = listener.into_transport();
        let last = (1 << 20) - 1;
        sealer.0.counter = last;
        snow.set_receiving_nonce(last);
        let mut buffer = [0; 64];

        let record = body(&seal(&mut sealer, b"last under the first key"));
        assert!(snow.read_message(&record, &mut buffer).is_ok());
        let record = body(&seal(&mut sealer, b"first under the second"));
        assert!(snow.read_message(&record, &mut buffer).is_err());
        snow.rekey_incoming();
        assert!(snow.read_message(&record, &mut buffer).is_ok());
    }
}

#[test]
fn a_replayed_record_does_not_open() {
    let (mut sealer, mut opener) = pair(REKEY_EVERY);
    let record = seal(&mut sealer, b"pay once");
    assert!(opener.open(&mut body(&record)).is_ok());
    assert_eq!(opener.open(&mut body(&record)), Err(RecordError::Forged { number: 1 }));
}

#[test]
fn records_in_another_order_do_not_open() {
    let (mut sealer, mut opener) = pair(REKEY_EVERY);
    let (first, second) = (seal(&mut sealer, b"first"), seal(&mut sealer, b"second"));
    assert_eq!(opener.open(&mut body(&second)), Err(RecordError::Forged { number: 0 }));
    assert_eq!(opener.open(&mut body(&first)).unwrap(), b"first", "the right one still opens");
}

#[test]
fn a_record_of_the_other_direction_does_not_open() {
    let (dialer, listener) = finished(Suite::ChaChaPoly);
    let (mut sealer, mut own) = dialer.finish().unwrap();
    let (_, mut opener) = listener.finish().unwrap();
    let record = seal(&mut sealer, b"to the listener");
    assert_eq!(own.open(&mut body(&record)), Err(RecordError::Forged { number: 0 }));
    assert!(opener.open(&mut body(&record)).is_ok());
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    for suite in Suite::ALL {
        let (mut sealer, _) = pair_of(suite, REKEY_EVERY);
        let record = body(&seal(&mut sealer, b"forty-two"));
        for length in 0..record.len() {
            let (_, mut opener) = pair_of(suite, REKEY_EVERY);
            let expected = match length {
                0..TAG_LEN => RecordError::TooShort { length, least: TAG_LEN },
                _ => RecordError::Forged { number: 0 },
            };
            assert_eq!(opener.open(&mut record[..length].to_vec()), Err(expected));
        }
        for bit in 0..record.len() * 8 {
            let (_, mut opener) = pair_of(suite, REKEY_EVERY);
            let mut changed = record.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opener.open(&mut changed), Err(RecordError::Forged { number: 0 }), "bit {bit}");
        }
    }
}

#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    let (mut sealer, mut opener) = pair(REKEY_EVERY);
    let mut buffer = BytesMut::zeroed(RECORD_LENGTH_LEN + MAX_PLAINTEXT + 1);
    let before = buffer.clone();
    let error = SealError::TooLong { size: MAX_PLAINTEXT + 1, limit: MAX_PLAINTEXT };
    assert_eq!(sealer.seal(&mut buffer, 0), Err(error));
    assert_eq!(buffer, before);
    let error = RecordError::TooLong { length: MAX_RECORD + 1, limit: MAX_RECORD };
    assert_eq!(opener.open(&mut vec![0; MAX_RECORD + 1]), Err(error));
    assert_eq!(opener.open(&mut body(&seal(&mut sealer, b"still in step"))).unwrap(), b"still in step");
}

#[test]
fn a_record_needs_two_bytes_for_its_length() {
    let (mut sealer, _) = pair(REKEY_EVERY);
    for (length, start) in [(0, 0), (1, 0), (5, 4), (5, 5), (5, 6), (5, usize::MAX)] {
        let mut buffer = BytesMut::zeroed(length);
        assert_eq!(sealer.seal(&mut buffer, start), Err(SealError::Start { start, length }));
    }
}

#[test]
fn a_link_ends_long_before_its_nonces_do() {
    for suite in Suite::ALL {
        // The last record that a link may have, and the key that is due after it.
        let (mut sealer, mut opener) = pair_of(suite, LAST_RECORD);
        (sealer.0.counter, opener.0.counter) = (LAST_RECORD - 1, LAST_RECORD - 1);
        let record = seal(&mut sealer, b"the last");
        assert_eq!(opener.open(&mut body(&record)).unwrap(), b"the last");

        let mut buffer = BytesMut::zeroed(10);
        for _ in 0..2 {
            let exhausted = SealError::Exhausted { records: LAST_RECORD };
            assert_eq!(sealer.seal(&mut buffer, 0), Err(exhausted), "and it stays so");
            assert_eq!(buffer, BytesMut::zeroed(10));
            let exhausted = RecordError::Exhausted { records: LAST_RECORD };
            assert_eq!(opener.open(&mut body(&record)), Err(exhausted));
        }
    }
}

#[test]
fn nothing_of_a_key_is_printed() {
    let (sealer, opener) = pair(REKEY_EVERY);
    assert_eq!(format!("{sealer:?}"), "Sealer { records: 0, .. }");
    assert_eq!(format!("{opener:?}"), "Opener { records: 0, .. }");
}

#[test]
fn halves_of_a_link_may_go_to_different_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Sealer>();
    check::<Opener>();
    check::<crate::Handshake>();
    check::<crate::Identity>();
}

#[test]
fn records_under_a_key_that_is_there_already_are_records_as_any() {
    for suite in Suite::ALL {
        let (mut sealer, mut opener) = records_under(suite, &KEY).unwrap();
        for text in [&b"first"[..], b"second"] {
            assert_eq!(opener.open(&mut body(&seal(&mut sealer, text))).unwrap(), text);
        }
        let (mut other, _) = records_under(suite, &[9; 32]).unwrap();
        assert!(opener.open(&mut body(&seal(&mut other, b"third"))).is_err(), "under another key");
    }
}
