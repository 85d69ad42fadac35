//! A side that says what it likes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod common;

use bytes::{Bytes, BytesMut};
use common::{key, run, set};
use peerage_reconcile::{
    AcceptError, Answer, Config, DecodeError, Decoder, End, Fingerprint, Message, Session, SessionError,
    ShortId, StartError, Symbol,
};
use proptest::prelude::*;

fn config() -> Config {
    Config { max_symbols: 256, max_differences: 256, max_set: 1000, max_message: 1024, ..Config::default() }
}

fn opened(seed: u64) -> (Session, peerage_reconcile::Open) {
    let (session, message) = Session::start(&set(seed, 0..500), config()).unwrap();
    let Message::Open(open) = message else { panic!() };
    (session, open)
}

#[test]
fn symbols_that_stand_for_no_sets_end_in_an_error() {
    let ours = set(1, 0..10);
    // An id that we should have, and one that we do have, each alone and with a good checksum.
    for (theirs, times) in [(set(1, 50..51), -1), (set(1, 3..4), 1)] {
        let mut symbols = theirs.encoder().next(8);
        for (symbol, own) in symbols.iter_mut().zip(ours.encoder().next(8)) {
            *symbol = Symbol {
                sum: symbol.sum ^ own.sum,
                count: own.count + times * symbol.count,
                check: symbol.check ^ own.check,
            };
        }
        let mut decoder = Decoder::new(ours.encoder(), 100).unwrap();
        assert_eq!(decoder.push(&symbols), Err(DecodeError::Impossible));
    }
}

#[test]
fn an_id_that_hides_in_every_symbol_is_not_found_for_ever() {
    // Each symbol claims the same new id, in places where it is mapped and in others.
    let theirs = set(2, 99..100).encoder().next(1)[0];
    let mut decoder = Decoder::new(set(2, 0..0).encoder(), 1000).unwrap();
    // Taken out where it is mapped to, it is found no more, and what is left elsewhere is of no set.
    assert_eq!(decoder.push(&[theirs; 1000]), Err(DecodeError::Impossible));
    assert_eq!((decoder.theirs().len(), decoder.ours().len()), (1, 0));
    assert!(decoder.steps() < 2000, "{} steps", decoder.steps());
}

#[test]
fn more_symbols_than_the_limit_are_refused() {
    let mut decoder = Decoder::new(set(3, 0..0).encoder(), 100).unwrap();
    let symbols = set(3, 0..500).encoder().next(101);
    assert_eq!(decoder.push(&symbols[..100]), Ok(false));
    assert_eq!(decoder.push(&symbols[100..]), Err(DecodeError::TooManySymbols { symbols: 101, limit: 100 }));
}

#[test]
fn an_encoder_that_has_begun_does_not_decode() {
    let mut encoder = set(3, 0..5).encoder();
    encoder.next(3);
    assert_eq!(Decoder::new(encoder, 10).unwrap_err(), DecodeError::Begun { made: 3 });
}

#[test]
fn our_own_mistakes_are_told_before_anything_is_said() {
    let wrong = Session::start(&set(4, 0..1001), config()).unwrap_err();
    assert_eq!(wrong, StartError::SetTooLarge { len: 1001, limit: 1000 });
    let wrong = Session::start(&set(4, 0..1), Config { max_message: 10, ..config() }).unwrap_err();
    assert!(wrong.to_string().contains("`max_message` is 10"), "{wrong}");
    let wrong = Session::start(&set(4, 0..1), Config { first_symbols: 255, ..config() }).unwrap_err();
    assert!(wrong.to_string().contains("`first_symbols` is 255, and may be 0 to 36"), "{wrong}");
    let (_, open) = opened(4);
    let wrong = Session::accept(&set(5, 0..1), config(), &open).unwrap_err();
    assert_eq!(wrong, AcceptError::Start(StartError::WrongSalt));
}

#[test]
fn messages_out_of_place_are_refused_and_end_the_session() {
    let answer = |want: Vec<u64>, have: Vec<u64>, end| {
        let [want, have] = [want, have].map(|ids| ids.into_iter().map(ShortId).collect());
        Message::Answer(Answer { want, have, end })
    };
    let held = set(6, 0..500).short_id(&key(3)).0;
    let complete = End::Complete(Fingerprint(0));
    for (message, error) in [
        (Message::More { until: 257 }, SessionError::TooManySymbols { symbols: 257, limit: 256 }),
        (Message::More { until: 16 }, SessionError::Gap { from: 16, expected: 16 }),
        (Message::Stop, SessionError::Unexpected { message: "Stop", state: "it offers symbols" }),
        (answer(vec![5], vec![], complete), SessionError::Unknown { short: ShortId(5) }),
        (answer(vec![], vec![held], complete), SessionError::Held { short: ShortId(held) }),
        (answer(vec![], vec![5, 5], complete), SessionError::Order { message: "Answer" }),
        (answer(vec![], vec![], End::Continues), SessionError::Empty { message: "Answer" }),
        (
            Message::List { ids: vec![ShortId(9), ShortId(8)], through: ShortId(10) },
            SessionError::Order { message: "List" },
        ),
        (Message::List { ids: vec![], through: ShortId(8) }, SessionError::Empty { message: "List" }),
        (
            Message::List { ids: vec![ShortId(9)], through: ShortId(8) },
            SessionError::Order { message: "List" },
        ),
    ] {
        let (mut session, _) = opened(6);
        assert_eq!(session.on_message(message.clone()), Err(error), "{message:?}");
        assert!(session.is_over());
        assert!(session.on_message(Message::AskList).is_err());
    }
}

#[test]
fn a_wrong_fingerprint_of_what_both_have_is_noticed() {
    let (mut session, _) = opened(7);
    let answer = Answer { want: Vec::new(), have: Vec::new(), end: End::Complete(Fingerprint(1)) };
    let step = session.on_message(Message::Answer(answer)).unwrap();
    assert_eq!(step.difference.unwrap().agrees, Some(false));
}

#[test]
fn a_count_that_cannot_be_is_refused() {
    let (_, open) = opened(8);
    let bob = set(8, 0..10);
    // The counts of its symbols are those of a larger set.
    let fewer = peerage_reconcile::Open { count: 3, ..open.clone() };
    let error = Session::accept(&bob, config(), &fewer).unwrap_err();
    assert!(matches!(error, AcceptError::Peer(SessionError::SymbolCount { .. })), "{error}");
    let most = peerage_reconcile::Open { count: u64::MAX, ..open };
    let error = Session::accept(&bob, config(), &most).unwrap_err();
    assert_eq!(error, AcceptError::Peer(SessionError::Count { count: u64::MAX, limit: 1 << 48 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A session one of whose messages was changed or cut ends, whatever that does.
    #[test]
    fn a_changed_message_leads_to_a_step_or_an_error(
        which in 0_usize..12,
        place: prop::sample::Index,
        mask in 1_u8..=255,
        cut: bool,
        alice in 0_u64..400,
        bob in 0_u64..400,
    ) {
        let [alice, bob] = [set(9, 0..alice), set(9, 100..100 + bob)];
        let (mut alices, first) = Session::start(&alice, config()).unwrap();
        let (mut number, mut turn, mut bobs) = (0, 1, None);
        let mut queue = vec![first];
        let worst = config().worst_case_bytes();
        while !queue.is_empty() {
            let mut answers = Vec::new();
            for message in queue {
                let mut bytes = BytesMut::new();
                message.encode(&mut bytes);
                if number == which && cut {
                    bytes.truncate(place.index(bytes.len()));
                } else if number == which {
                    let place = place.index(bytes.len());
                    bytes[place] ^= mask;
                }
                number += 1;
                prop_assert!(number < 1000);
                let Ok(message) = Message::decode(Bytes::from(bytes)) else { return Ok(()) };
                let step = if turn == 0 {
                    alices.on_message(message).ok()
                } else if let Some(bobs) = &mut bobs {
                    Session::on_message(bobs, message).ok()
                } else {
                    let Message::Open(open) = message else { return Ok(()) };
                    let accepted = Session::accept(&bob, config(), &open).ok();
                    accepted.map(|(session, step)| {
                        bobs = Some(session);
                        step
                    })
                };
                let Some(step) = step else { return Ok(()) };
                answers.extend(step.send);
                prop_assert!(alices.held_bytes() <= worst);
                prop_assert!(bobs.as_ref().is_none_or(|bobs| bobs.held_bytes() <= worst));
            }
            (queue, turn) = (answers, 1 - turn);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = Message::decode(Bytes::from(bytes)) {
            let (mut session, _) = opened(10);
            let _ = session.on_message(message);
        }
    }

    #[test]
    fn any_symbols_end(
        symbols in prop::collection::vec((any::<u64>(), -2_i64..4, any::<u32>()), 0..200),
        honest in 0_usize..100,
    ) {
        let mut all = set(11, 40..100).encoder().next(honest as u32);
        all.extend(symbols.into_iter().map(|(sum, count, check)| Symbol { sum, count, check }));
        let mut decoder = Decoder::new(set(11, 0..50).encoder(), 1000).unwrap();
        let _ = decoder.push(&all);
        prop_assert!(decoder.theirs().len() + decoder.ours().len() <= all.len());
    }
}

#[test]
fn a_session_holds_at_most_what_its_configuration_says() {
    let config = Config { max_set: 5000, max_symbols: 6000, max_differences: 6000, ..Config::default() };
    let worst = config.worst_case_bytes();
    let (alice, bob) = (set(12, 0..5000), set(12, 1000..6000));
    let by_symbols = run(&alice, &bob, &config, &config).held;
    let by_list = run(&alice, &set(12, 5000..10_000), &config, &config).held;
    for held in [by_symbols, by_list] {
        assert!(held <= worst && held > 5000 * 32, "{held} of {worst}");
    }
    // The most that hostile symbols make a decoder hold.
    let (_, open) = {
        let (session, message) = Session::start(&set(13, 0..5000), config.clone()).unwrap();
        let Message::Open(open) = message else { panic!() };
        (session, open)
    };
    let many = set(13, 100_000..105_000);
    let (mut session, mut step) = Session::accept(&many, config, &open).unwrap();
    let mut most = session.held_bytes();
    let mut encoder = set(13, 0..5000).encoder();
    encoder.next(16);
    while let Some(Message::More { .. }) = step.send.first() {
        let (mut initiator, _) = Session::start(&set(13, 0..5000), Config::default()).unwrap();
        let answers = initiator.on_message(step.send.remove(0)).unwrap().send;
        for message in answers {
            step = session.on_message(message).unwrap_or_default();
            most = most.max(session.held_bytes());
        }
    }
    assert!(most <= worst, "{most} of {worst}");
}
