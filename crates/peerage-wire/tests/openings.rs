//! How a connection begins: the preface, the clear answer, and the lengths around handshake messages.

use bytes::BytesMut;
use peerage_wire::Suite;
use peerage_wire::handshake::{
    Answer, HandshakeMessageError, Opening, peek_opening, put_message, take_answer, take_message,
};
use peerage_wire::limits::MAX_HANDSHAKE_MESSAGE;
use peerage_wire::preface::{Busy, Notice, Preface, PrefaceError};
use proptest::prelude::*;

#[test]
fn the_preface_is_nine_bytes_that_say_peerage() {
    assert_eq!(&Preface::CURRENT.encode(), b"PEERAGE\x01\x01");
    for (suite, bytes) in [(Suite::ChaChaPoly, b"PEERAGE\x01\x01"), (Suite::AesGcm, b"PEERAGE\x01\x02")] {
        assert_eq!(&Preface::new(suite).encode(), bytes);
        assert_eq!(Preface::decode(bytes), Ok(Preface::new(suite)));
        assert_eq!(Preface::new(suite).check(&Suite::ALL), Ok(suite));
    }
}

#[test]
fn somebody_who_speaks_something_else_is_told_apart() {
    let error = Preface::decode(b"GET / HTT").unwrap_err();
    assert_eq!(error, PrefaceError::Magic { found: *b"GET / H" });
    assert_eq!(error.to_string(), "this is not Peerage: it begins with \"GET / H\" instead of \"PEERAGE\"");
    let error = Preface::decode(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").unwrap_err();
    assert!(error.to_string().contains("\"\\x16\\x03\\x01"), "{error}");
}

#[test]
fn another_version_or_suite_is_read_and_then_refused() {
    let newer = Preface::decode(b"PEERAGE\x02\x01").unwrap();
    assert_eq!(newer.check(&Suite::ALL), Err(PrefaceError::Version { found: 2, ours: 1 }));
    let other = Preface::decode(b"PEERAGE\x01\x03").unwrap();
    let error = other.check(&Suite::ALL).unwrap_err();
    assert_eq!(error, PrefaceError::Suite { found: 3, ours: Suite::ALL.to_vec() });
    assert_eq!(
        error.to_string(),
        "the peer wants cipher suite 3, this endpoint takes 1 (ChaChaPoly) or 2 (AESGCM)"
    );
    // A newer version may number its suites anew, so the version is what counts.
    let both = Preface { version: 0, suite: 1 };
    assert_eq!(both.check(&Suite::ALL), Err(PrefaceError::Version { found: 0, ours: 1 }));
    assert_eq!(both.known_suite(), None);
}

#[test]
fn a_responder_takes_the_suites_that_it_lists_and_no_other() {
    for suite in Suite::ALL {
        let preface = Preface::new(suite);
        assert_eq!(preface.known_suite(), Some(suite));
        for takes in [&[][..], &[Suite::ChaChaPoly], &[Suite::AesGcm], &Suite::ALL] {
            let expected = match takes.contains(&suite) {
                true => Ok(suite),
                false => Err(PrefaceError::Suite { found: suite.id(), ours: takes.to_vec() }),
            };
            assert_eq!(preface.check(takes), expected);
        }
    }
}

#[test]
fn a_suite_has_one_number_and_the_name_that_noise_gives_it() {
    let known: Vec<_> = (0..=u8::MAX).filter_map(Suite::from_id).collect();
    assert_eq!(known, Suite::ALL);
    for suite in known {
        assert_eq!(Suite::from_id(suite.id()), Some(suite));
        assert_eq!(suite.noise_name(), format!("Noise_XX_25519_{suite}_BLAKE2s"));
    }
    assert_eq!(Preface::new(Suite::AesGcm).to_string(), "version 1 with suite 2 (AESGCM)");
    assert_eq!(Preface { version: 3, suite: 2 }.to_string(), "version 3 with suite 2");
}

#[test]
fn no_handshake_message_begins_like_a_clear_answer() {
    let length = usize::from(u16::from_be_bytes(*b"PE"));
    assert_eq!(length, 0x5045);
    assert!(length > MAX_HANDSHAKE_MESSAGE);
}

#[test]
fn a_dialer_tells_a_clear_answer_from_a_message() {
    let mut clear = BytesMut::from(&b"PEERAGE\x02\x03rest"[..]);
    assert_eq!(take_answer(&mut clear), Ok(Some(Answer::Clear(Preface { version: 2, suite: 3 }))));
    assert_eq!(clear, b"rest"[..]);

    let mut message = BytesMut::from(&b"\0\x05hellorest"[..]);
    assert_eq!(take_answer(&mut message), Ok(Some(Answer::Message(BytesMut::from(&b"hello"[..])))));
    assert_eq!(message, b"rest"[..]);

    let mut neither = BytesMut::from(&b"PEERLESS!"[..]);
    let error = PrefaceError::Magic { found: *b"PEERLES" };
    assert_eq!(take_answer(&mut neither), Err(HandshakeMessageError::Preface(error)));
}

#[test]
fn a_dialer_tells_what_a_responder_without_room_says() {
    let notices = [
        Notice::Cookie([7; 16]),
        Notice::Busy(Busy::Links),
        Notice::Busy(Busy::Address),
        Notice::Busy(Busy::Other),
    ];
    for notice in notices {
        let encoded = notice.encode();
        // Less than a preface and the shortest first message.
        assert!(encoded.len() < 9 + 2 + 32);
        for length in 0..encoded.len() {
            assert_eq!(take_answer(&mut BytesMut::from(&encoded[..length])), Ok(None), "{notice:?}");
        }
        assert_eq!(take_answer(&mut BytesMut::from(&encoded[..])), Ok(Some(Answer::Notice(notice))));
    }
    // A reason that is new to us is a reason; a notice that is new to us is none.
    let answer = take_answer(&mut BytesMut::from(&b"PEERAGE\x00\x02\xc8"[..]));
    assert_eq!(answer, Ok(Some(Answer::Notice(Notice::Busy(Busy::Other)))));
    let answer = take_answer(&mut BytesMut::from(&b"PEERAGE\x00\x09"[..]));
    assert_eq!(answer, Ok(Some(Answer::Clear(Preface { version: 0, suite: 9 }))));
}

#[test]
fn a_responder_sees_a_dialers_cookie_before_any_key() {
    let opening = |payload: &[u8]| {
        let mut bytes = BytesMut::from(&Preface::CURRENT.encode()[..]);
        put_message(&mut bytes, &[&[0xee; 32], payload].concat()).unwrap();
        bytes
    };
    for (payload, cookie) in
        [(&[][..], None), (&[5; 15], None), (&[5; 16], Some([5; 16])), (&[5; 300], Some([5; 16]))]
    {
        let bytes = opening(payload);
        // Without a cookie the length says it all.
        let enough = if cookie.is_some() { 59 } else { 11 };
        for length in 0..bytes.len() {
            let expected = if length < enough { Opening::Partial } else { Opening::Whole(cookie) };
            assert_eq!(peek_opening(&bytes[..length]), Ok(expected), "{length} bytes of {}", bytes.len());
        }
    }
    assert!(matches!(peek_opening(b"G"), Err(HandshakeMessageError::Preface(PrefaceError::Magic { .. }))));
    let version = PrefaceError::Version { found: 9, ours: 1 };
    assert_eq!(peek_opening(b"PEERAGE\x09\x01"), Err(HandshakeMessageError::Preface(version)));
    let long = HandshakeMessageError::TooLong { length: 0xffff, limit: MAX_HANDSHAKE_MESSAGE };
    assert_eq!(peek_opening(b"PEERAGE\x01\x01\xff\xff"), Err(long));
    // Which suites will do is for the handshake to say.
    assert_eq!(peek_opening(b"PEERAGE\x01\xfa\x00\x20"), Ok(Opening::Whole(None)));
}

#[test]
fn what_is_not_all_there_yet_is_waited_for() {
    for whole in [&b"PEERAGE\x02\x03"[..], b"\0\x05hello", b"\0\0"] {
        for length in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..length]);
            assert_eq!(take_answer(&mut part), Ok(None), "{length} bytes of {whole:?}");
            assert_eq!(part, whole[..length], "nothing is taken");
        }
        assert!(take_answer(&mut BytesMut::from(whole)).unwrap().is_some());
    }
}

#[test]
fn a_message_is_refused_as_soon_as_its_length_is_known() {
    let error = HandshakeMessageError::TooLong { length: 16_385, limit: MAX_HANDSHAKE_MESSAGE };
    assert_eq!(take_message(&mut BytesMut::from(&[0x40, 0x01][..])), Err(error.clone()));
    let mut out = BytesMut::from(&b"before"[..]);
    assert_eq!(put_message(&mut out, &[0; 16_385]), Err(error));
    assert_eq!(out, b"before"[..]);
    put_message(&mut out, &[0; 16_384]).unwrap();
    assert_eq!(take_message(&mut out.split_off(6)).unwrap().unwrap().len(), 16_384);
}

proptest! {
    #[test]
    fn random_bytes_are_an_answer_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        magic: bool,
    ) {
        let mut buffer = if magic { BytesMut::from(&b"PEERAGE"[..]) } else { BytesMut::new() };
        buffer.extend_from_slice(&bytes);
        let before = buffer.clone();
        match take_answer(&mut buffer) {
            Ok(Some(Answer::Clear(preface))) => prop_assert_eq!(&before[..9], &preface.encode()[..]),
            Ok(Some(Answer::Message(message))) => {
                prop_assert_eq!(&before[2..2 + message.len()], &message[..]);
                prop_assert_eq!(before.len(), 2 + message.len() + buffer.len());
            }
            Ok(Some(Answer::Notice(notice))) => {
                let said = &before[..before.len() - buffer.len()];
                prop_assert!(matches!(notice, Notice::Busy(Busy::Other)) || said == &notice.encode()[..]);
            }
            Ok(None) => prop_assert_eq!(&before, &buffer),
            Err(_) => {}
        }
        let _ = peek_opening(&before);
    }

    #[test]
    fn messages_come_back_in_order(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..6)) {
        let mut buffer = BytesMut::new();
        for message in &messages {
            put_message(&mut buffer, message).unwrap();
        }
        for message in &messages {
            prop_assert_eq!(&take_message(&mut buffer).unwrap().unwrap()[..], &message[..]);
        }
        prop_assert_eq!(take_message(&mut buffer), Ok(None));
    }
}
