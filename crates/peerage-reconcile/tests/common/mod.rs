//! Sets, and two sides that talk.

use bytes::{Bytes, BytesMut};
use peerage_reconcile::{Config, Difference, KeyedSet, Message, Salt, Session};

pub(crate) type Key = [u8; 32];

/// The key of a number.
pub(crate) fn key(number: u64) -> Key {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

pub(crate) fn salt(seed: u64) -> Salt {
    let mut bytes = [0x5a; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Salt::new(bytes)
}

pub(crate) fn set(seed: u64, numbers: impl IntoIterator<Item = u64>) -> KeyedSet<Key> {
    KeyedSet::from_keys(salt(seed), numbers.into_iter().map(key))
}

/// What both sides of a session took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) alices: u64,
    pub(crate) bobs: u64,
}

/// What a whole session came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) alice: Difference,
    pub(crate) bob: Difference,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) bytes: usize,
    pub(crate) longest: usize,
    pub(crate) symbols: usize,
    /// The most that either side held.
    pub(crate) held: usize,
    pub(crate) steps: Steps,
    pub(crate) transcript: Vec<u8>,
}

/// Runs a session, every message through bytes.
pub(crate) fn run(
    alice: &KeyedSet<Key>,
    bob: &KeyedSet<Key>,
    config: &Config,
    bobs_config: &Config,
) -> Outcome {
    let (mut alices, first) = Session::start(alice, config.clone()).unwrap();
    let mut outcome = Outcome {
        alice: Difference::default(),
        bob: Difference::default(),
        kinds: Vec::new(),
        bytes: 0,
        longest: 0,
        symbols: 0,
        held: 0,
        steps: Steps::default(),
        transcript: Vec::new(),
    };
    let Message::Open(open) = carry(&first, &mut outcome) else { panic!("{first:?}") };
    let (mut bobs, step) = Session::accept(bob, bobs_config.clone(), &open).unwrap();
    outcome.held = alices.held_bytes().max(bobs.held_bytes());
    let (mut to_alice, mut to_bob) = (step.send, Vec::new());
    let (mut alice_has, mut bob_has) = (None, step.difference);
    while !to_alice.is_empty() || !to_bob.is_empty() {
        for message in std::mem::take(&mut to_alice) {
            let message = carry(&message, &mut outcome);
            let step = alices.on_message(message).unwrap();
            to_bob.extend(step.send);
            if let Some(difference) = step.difference {
                assert_eq!(alice_has.replace(difference), None, "two results");
            }
            outcome.held = outcome.held.max(alices.held_bytes());
        }
        for message in std::mem::take(&mut to_bob) {
            let message = carry(&message, &mut outcome);
            let step = bobs.on_message(message).unwrap();
            to_alice.extend(step.send);
            if let Some(difference) = step.difference {
                assert_eq!(bob_has.replace(difference), None, "two results");
            }
            outcome.held = outcome.held.max(bobs.held_bytes());
        }
        assert!(outcome.kinds.len() < 10_000, "the session does not end: {:?}", &outcome.kinds[..50]);
    }
    assert!(alices.is_over() && bobs.is_over(), "{:?}", outcome.kinds);
    outcome.steps = Steps { alices: alices.steps(), bobs: bobs.steps() };
    (outcome.alice, outcome.bob) = (alice_has.unwrap(), bob_has.unwrap());
    outcome
}

fn carry(message: &Message, outcome: &mut Outcome) -> Message {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    assert_eq!(bytes.len(), message.encoded_len());
    outcome.kinds.push(message.kind());
    outcome.bytes += bytes.len();
    outcome.longest = outcome.longest.max(bytes.len());
    outcome.transcript.extend_from_slice(&bytes);
    match message {
        Message::Open(open) => outcome.symbols += open.symbols.len(),
        Message::Symbols { symbols, .. } => outcome.symbols += symbols.len(),
        _ => (),
    }
    let read = Message::decode(Bytes::from(bytes)).unwrap();
    assert_eq!(&read, message);
    read
}
