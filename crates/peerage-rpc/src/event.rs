//! What the machines tell the application, and what they call things.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::Outbox;
use peerage_wire::PeerId;

use crate::accounts::Kind;
use crate::packet::{Limits, Packet, SessionId, Shape};
use crate::status::Status;

/// Names a session within its machine; a party has one at a time, the broker many. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// A call that came from the other end, until it is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The session that it came by.
    pub session: SessionKey,
    /// Its number there.
    pub seq: u64,
}

/// One direction of a stream, or of bulk data, that has an end here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The session that carries it.
    pub session: SessionKey,
    /// The call's number in its caller's lane.
    pub call: u64,
    /// Whether the call was made here.
    pub is_ours: bool,
    /// Whether it is bulk data.
    pub is_bulk: bool,
}

/// Who calls: proven, whatever the call says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose key.
    pub peer: PeerId,
    /// What it is. `None` for the broker itself.
    pub kind: Option<Kind>,
    /// Which of its sessions.
    pub session: SessionId,
}

/// A call to be run here.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// To complete it by.
    pub key: RunKey,
    /// Which command; UTF-8.
    pub command: Bytes,
    /// Its parameters.
    pub payload: Bytes,
    /// What else flows.
    pub shape: Shape,
    /// Who calls.
    pub caller: Arc<Caller>,
    /// The call's number in its caller's session: with [`Caller::session`], it names the call for ever.
    pub origin: u64,
    /// Time left when it came.
    pub timeout: Option<Duration>,
}

/// What a machine tells the application.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Run this, and complete it. One-way calls of a caller come one after the other has completed.
    Run(Box<Run>),
    /// Nobody waits for that call any more: stop it. It is completed already.
    Cancelled(RunKey),
    /// Messages of a stream, each with its length in front; of bulk data, a piece as it is.
    Data {
        /// Which.
        stream: StreamKey,
        /// How many messages.
        count: u32,
        /// They.
        items: Bytes,
    },
    /// The last of a stream has come.
    StreamEnded {
        /// Which.
        stream: StreamKey,
        /// Why it is not complete.
        status: Option<Box<Status>>,
    },
    /// A stream that would take no more takes some again, or never will.
    Room(StreamKey),
    /// More calls may be made.
    Slots(SessionKey),
    /// A one-way call was not run.
    OneWayFailed {
        /// Of which session.
        session: SessionKey,
        /// Its number.
        seq: u64,
        /// Why.
        status: Box<Status>,
    },
    /// All one-way calls up to this one are done.
    OneWaysDone {
        /// Of which session.
        session: SessionKey,
        /// The number.
        up_to: u64,
    },
    /// The session is open: a new one, or again after its link was lost.
    Opened {
        /// Which.
        session: SessionKey,
        /// Its name.
        id: SessionId,
        /// Whose it is.
        peer: PeerId,
        /// What that one is.
        kind: Kind,
        /// Whether it was there before.
        resumed: bool,
        /// What may be under way at once.
        limits: Limits,
    },
    /// The session has no link for now.
    Adrift {
        /// Which.
        session: SessionKey,
        /// Why.
        why: peerage_machine::Why,
    },
    /// The session is over.
    Closed {
        /// Which.
        session: SessionKey,
        /// Why.
        status: Box<Status>,
        /// The last item up to which the other end had said that all is done, calls with an answer excepted.
        last_acknowledged: u64,
    },
    /// The broker takes no session of ours, or the enrolment; or cannot be reached now.
    Refused(Box<Status>),
    /// The broker has taken the enrolment.
    Enrolled {
        /// As what.
        kind: Kind,
        /// Whether the account may act at once.
        confirmed: bool,
    },
    /// What the application of the broker has for us.
    Offers(Bytes),
    /// A caller's session is over, or this one is: nothing comes of it any more.
    CallerGone(SessionId),
}

/// How a call made here ended.
pub type Answer = Result<Bytes, Status>;

pub(crate) type Out = Outbox<Packet, Event, Answer>;

/// Why a message was not sent on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no credit; [`Event::Room`] tells when there is.
    #[error("the receiver takes nothing now")]
    Full,
    /// The call is over, or the stream is.
    #[error("nobody takes what is sent any more")]
    Closed,
    /// It is longer than the limit.
    #[error("the message has {bytes} bytes, the limit is {limit}")]
    TooLong {
        /// What it has.
        bytes: u64,
        /// What it may have.
        limit: u64,
    },
}
