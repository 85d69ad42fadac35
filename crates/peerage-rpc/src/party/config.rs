//! Whom a party dials, and what a call of its is.

use std::time::Duration;

use bytes::Bytes;
use peerage_machine::CallId;
use peerage_wire::{Address, PeerId};

use super::micros;
use crate::event::{SessionKey, StreamKey};
use crate::packet::{Call, Destination, MAX_COMMAND, MAX_GROUP, Shape};
use crate::status::Status;

/// Whom a party dials, and how.
#[derive(Clone, Debug)]
pub struct PartyConfig {
    /// The broker's key; nobody else will do.
    pub broker: PeerId,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Groups that this party serves, as a node.
    pub groups: Vec<String>,
    /// The token of an invite, to enrol instead of opening a session.
    pub enrol: Option<Bytes>,
    /// The first wait before the broker is dialled again, after a dial that failed; it doubles with each. 50 ms. A link
    /// that is lost is dialled again at once.
    pub redial_after: Duration,
    /// The longest such wait. 5 s.
    pub redial_at_most: Duration,
}

impl PartyConfig {
    /// To the broker of that key.
    pub fn new(broker: PeerId, addresses: Vec<Address>) -> Self {
        Self {
            broker,
            addresses,
            groups: Vec::new(),
            enrol: None,
            redial_after: Duration::from_millis(50),
            redial_at_most: Duration::from_secs(5),
        }
    }
}

/// What a call made here is to do.
#[derive(Clone, Debug)]
pub struct Placing {
    /// Which command; UTF-8, at most 128 bytes.
    pub command: Bytes,
    /// Its parameters, encoded.
    pub payload: Bytes,
    /// Where.
    pub to: Destination,
    /// What flows besides.
    pub shape: Shape,
    /// How long the answer may take.
    pub timeout: Option<Duration>,
}

/// What is under way in a party's session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Calls of this party that are not over.
    pub calls: u32,
    /// Calls that run here, or wait to.
    pub calls_here: u32,
    /// Those of both that have streams.
    pub streams: u32,
    /// Items that are kept, to be sent or sent again.
    pub kept_items: usize,
    /// Their bytes.
    pub kept_bytes: usize,
    /// All that is held for the session, about, in bytes.
    pub held_bytes: u64,
}

/// A call that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its answer comes under this name; none comes to a one-way call.
    pub id: CallId,
    /// The session that it goes by.
    pub session: SessionKey,
    /// Its number there.
    pub seq: u64,
}

impl Placed {
    /// The stream of messages of the call, from here or to here.
    pub const fn stream(&self, is_bulk: bool) -> StreamKey {
        StreamKey { session: self.session, call: self.seq, is_ours: true, is_bulk }
    }
}

impl Placing {
    /// As it travels, if it can.
    pub(crate) fn into_call(self, limit: u64) -> Result<Box<Call>, NotPlaced> {
        let Self { command, payload, to, shape, timeout } = self;
        let bytes = payload.len() as u64;
        if bytes > limit {
            return Err(NotPlaced::TooLong { bytes, limit });
        }
        let wrong = |what: String| Err(NotPlaced::NotOpen(Status::invalid_argument(what)));
        if command.len() > MAX_COMMAND || std::str::from_utf8(&command).is_err() {
            let len = command.len();
            return wrong(format!(
                "a command's name is UTF-8 of at most {MAX_COMMAND} bytes, and this has {len}"
            ));
        }
        if let Destination::Group(group) = &to
            && !(1..=MAX_GROUP).contains(&group.len())
        {
            return wrong(format!("a group's name has 1 to {MAX_GROUP} bytes, and this has {}", group.len()));
        }
        if Shape::from_bits(shape.bits()).is_none() {
            return wrong("nothing flows besides a one-way call".to_owned());
        }
        let timeout_micros = micros(timeout);
        Ok(Box::new(Call { command, payload, to, timeout_micros, shape, caller: 0, origin: 0 }))
    }
}

/// Why a call was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPlaced {
    /// Too much is under way; [`crate::Event::Slots`] will tell.
    Full(Status),
    /// There is no session, and will not be before it is told; or nobody would take such a call.
    NotOpen(Status),
    /// It is longer than the limit, in bytes.
    TooLong {
        /// What it has.
        bytes: u64,
        /// What it may have.
        limit: u64,
    },
}
