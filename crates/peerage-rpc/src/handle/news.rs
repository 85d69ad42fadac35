//! What becomes of a broker's sessions, in the order in which it does.

use peerage_machine::Why;
use peerage_wire::PeerId;

use crate::accounts::Kind;
use crate::event::SessionKey;
use crate::packet::SessionId;
use crate::status::Status;

/// Something about a session.
#[derive(Debug)]
pub enum News {
    /// It is open, or again.
    Opened {
        /// Which.
        session: SessionKey,
        /// Its name.
        id: SessionId,
        /// Whose.
        peer: PeerId,
        /// What that one is.
        kind: Kind,
        /// It was there before.
        resumed: bool,
    },
    /// It has no link for now.
    Adrift {
        /// Which.
        session: SessionKey,
        /// Why.
        why: Why,
    },
    /// It is over.
    Closed {
        /// Which.
        session: SessionKey,
        /// Why.
        status: Status,
    },
}
