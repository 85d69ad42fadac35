//! Identities and links to play with.

use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use peerage_identity::{Identity, Opener, Sealer};
use peerage_link::{Capacity, Link, LinkConfig, LinkEvent, Memory, Setup};
use peerage_machine::{Direction, Incarnation, Instant};
use peerage_wire::Suite;
use peerage_wire::hello::Instance;

/// What windows may grow by, and room for messages, in bytes.
pub(crate) const WINDOWS: u64 = 64 << 20;
pub(crate) const MESSAGES: u64 = 128 << 20;

/// Making one costs as much as half a handshake.
static IDENTITIES: LazyLock<[Arc<Identity>; 2]> =
    LazyLock::new(|| [1, 2].map(|seed| Arc::new(Identity::from_seed([seed; 32]))));

pub(crate) fn identity(direction: Direction) -> Arc<Identity> {
    let [dialer, listener] = &*IDENTITIES;
    Arc::clone(if direction == Direction::Outbound { dialer } else { listener })
}

fn setup(direction: Direction, suite: Suite) -> Setup {
    Setup {
        direction,
        identity: identity(direction),
        incarnation: Incarnation([direction as u8; 16]),
        software: "fuzzed".to_owned(),
        addresses: Vec::new(),
        observed: "tcp://192.0.2.1:4000".parse().ok(),
        instances: vec![instance("x"), instance("y")],
        expected: None,
        suites: vec![suite],
        cookie: None,
        entropy: [direction as u8 + 3; 32],
        config: Arc::new(LinkConfig::default()),
        memory: Memory::new(WINDOWS, MESSAGES),
        capacity: Capacity::default(),
    }
}

pub(crate) fn instance(name: &str) -> Instance {
    Instance {
        protocol: "fuzz".to_owned(),
        name: name.to_owned(),
        version: 1,
        parameters: bytes::Bytes::new(),
    }
}

/// One end of a connection.
pub(crate) struct End {
    pub(crate) link: Link,
    pub(crate) is_up: bool,
    pub(crate) is_closed: bool,
    /// Arrived and not yet taken.
    input: BytesMut,
}

impl End {
    pub(crate) fn new(direction: Direction, suite: Suite, now: Instant) -> Self {
        let link = Link::new(setup(direction, suite), now);
        Self { link, is_up: false, is_closed: false, input: BytesMut::new() }
    }

    /// These bytes arrive.
    pub(crate) fn arrive(&mut self, now: Instant, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        loop {
            let used = self.link.receive(now, &mut self.input);
            assert!(used <= self.input.len(), "a link took more than there was");
            let _ = self.input.split_to(used);
            self.poll();
            if used == 0 {
                return;
            }
        }
    }

    /// How much of what arrived the link has not taken.
    pub(crate) fn left(&self) -> usize {
        self.input.len()
    }

    pub(crate) fn poll(&mut self) {
        while let Some(event) = self.link.poll_event() {
            assert!(!self.is_closed, "after its end a link said {event:?}");
            match event {
                LinkEvent::Greeted(_) => self.link.admit(),
                LinkEvent::Up { .. } => self.is_up = true,
                LinkEvent::Closed(_) => self.is_closed = true,
                _ => {}
            }
        }
    }

    /// What it has to say.
    pub(crate) fn said(&mut self) -> BytesMut {
        let mut said = BytesMut::new();
        self.link.transmit(&mut said, usize::MAX);
        self.poll();
        said
    }
}

/// Two ends of Noise that have met.
pub(crate) fn transport(suite: Suite) -> ((Sealer, Opener), (Sealer, Opener)) {
    use peerage_identity::Handshake;
    let (dialer, listener) = (identity(Direction::Outbound), identity(Direction::Inbound));
    let mut one = Handshake::initiator(&dialer, suite, b"fuzz", [1; 32]).unwrap();
    let mut other = Handshake::responder(&listener, suite, b"fuzz", [2; 32]).unwrap();
    for turn in 0..3 {
        let (from, to) = if turn % 2 == 0 { (&mut one, &mut other) } else { (&mut other, &mut one) };
        let mut message = Vec::new();
        from.write(&[], &mut message).unwrap();
        to.read(&message).unwrap();
    }
    (one.finish().unwrap(), other.finish().unwrap())
}
