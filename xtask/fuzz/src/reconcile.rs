//! Two sides of a reconciliation, and somebody between them.

use bytes::{Bytes, BytesMut};
use peerage_reconcile::{Config, KeyedSet, Message, Salt, Session};

use crate::Choices;

/// Small, so that every limit is met.
fn config() -> Config {
    Config { first_symbols: 4, max_symbols: 64, max_differences: 100, max_set: 300, max_message: 1024 }
}

/// A session whose messages are changed, dropped or replaced: it ends, each side holds no more than it may, and when
/// nothing was changed both find the same.
pub fn reconcile(data: &[u8]) {
    let mut choices = Choices(data);
    let salt = Salt::new([choices.byte(); 16]);
    let alice = set(salt, 0, choices.byte());
    let bob = set(salt, u16::from(choices.byte()), choices.byte());
    let (mut alices, first) = Session::start(&alice, config()).unwrap();
    let (mut queue, mut results, mut honest) = (vec![first], Vec::new(), true);
    let mut bobs: Option<Session> = None;
    let mut is_for_bob = true;
    for _ in 0..200 {
        let mut answers = Vec::new();
        for message in queue.drain(..) {
            let (bytes, is_whole) = meddle(&message, &mut choices);
            honest &= is_whole;
            let Ok(message) = Message::decode(bytes) else { return };
            let step = match (is_for_bob, &mut bobs, message) {
                (false, _, message) => alices.on_message(message).ok(),
                (true, Some(bobs), message) => bobs.on_message(message).ok(),
                (true, none, Message::Open(open)) => {
                    Session::accept(&bob, config(), &open).ok().map(|(session, step)| {
                        *none = Some(session);
                        step
                    })
                }
                _ => None,
            };
            let Some(step) = step else {
                assert!(!honest, "an honest session failed");
                return;
            };
            answers.extend(step.send);
            results.extend(step.difference);
            for session in bobs.iter().chain([&alices]) {
                assert!(session.held_bytes() <= config().worst_case_bytes());
            }
        }
        (queue, is_for_bob) = (answers, !is_for_bob);
        if queue.is_empty() {
            break;
        }
    }
    assert!(queue.is_empty(), "a session does not end");
    if let (true, [one, other]) = (honest, results.as_slice()) {
        assert!((&one.ours, &one.theirs) == (&other.theirs, &other.ours), "{results:?}");
    }
    assert!(!honest || results.len() == 2, "{results:?}");
}

fn set(salt: Salt, from: u16, count: u8) -> KeyedSet<[u8; 2]> {
    KeyedSet::from_keys(salt, (from..from + u16::from(count)).map(u16::to_le_bytes))
}

/// The message's bytes, or what becomes of them.
fn meddle(message: &Message, choices: &mut Choices<'_>) -> (Bytes, bool) {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    match choices.byte() {
        0..=199 => return (bytes.freeze(), true),
        200..=239 => {
            let (place, mask, length) = (usize::from(choices.number()), choices.byte(), bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(place % length) {
                *byte ^= mask;
            }
        }
        240..=249 => bytes.truncate(usize::from(choices.number())),
        _ => {
            let length = usize::from(choices.number());
            bytes = BytesMut::from(choices.bytes(length));
        }
    }
    (bytes.freeze(), false)
}
