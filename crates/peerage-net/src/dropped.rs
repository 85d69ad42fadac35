//! Why something was not carried out.

use peerage_link::Turned;
use peerage_machine::Why;

/// The reasons with their words for counters, in one table: what is not in it cannot be counted, and a test looks for
/// all of it in `docs/metrics.md`.
macro_rules! reasons {
    ($($(#[$says:meta])* $reason:ident = $label:literal,)+) => {
        /// Why something was not carried out: the `reason` of `peerage_dropped_total`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Dropped {
            $($(#[$says])* $reason,)+
        }

        impl Dropped {
            pub(crate) const ALL: &[Self] = &[$(Self::$reason,)+];

            /// The word for counters.
            pub(crate) const fn label(self) -> &'static str {
                match self {
                    $(Self::$reason => $label,)+
                }
            }
        }
    };
}

reasons! {
    /// A message without an id: the link's queue had no room.
    Full = "full",
    /// The same: it was longer than the peer takes.
    TooLarge = "too_large",
    /// The same: there was no such link.
    NotUp = "not_up",
    /// Messages that were queued when their link ended.
    LinkEnded = "link_ended",
    /// Messages that were queued when their channel ended, and its link did not.
    ChannelEnded = "channel_ended",
    /// Parts of messages for a channel that was closed here.
    LateFragments = "late_fragments",
    /// A stranger: the bound on links is reached.
    Links = "links",
    /// A stranger: the bound on half-open handshakes is reached.
    Handshakes = "handshakes",
    /// A stranger: the bound on links from its address is reached.
    Address = "address",
    /// A stranger with a cookie: the bound on half-open handshakes from its address is reached.
    AddressHandshakes = "address_handshakes",
    /// A stranger with a cookie: too many of its address in a second.
    AddressRate = "address_rate",
    /// A stranger was asked to come back with a cookie.
    Cookie = "cookie",
    /// The one who waited longest at the door made room for another.
    Door = "door",
    /// One at the door took too long.
    DoorTimedOut = "door_timed_out",
    /// One at the door hung up.
    DoorLost = "door_lost",
    /// One at the door speaks something else.
    NotPeerage = "not_peerage",
    /// One at the door speaks another version.
    Incompatible = "incompatible",
    /// The system could not accept a connection.
    Accept = "accept",
    /// An instance complained of a peer.
    Fault = "fault",
    /// An instance answered its own effects without end.
    MachineLoop = "machine_loop",
    /// An instance asked for what this host cannot do.
    UnknownEffect = "unknown_effect",
}

/// Of a message that was not put on its link.
impl From<&Why> for Dropped {
    fn from(why: &Why) -> Self {
        match why {
            Why::Full { .. } => Self::Full,
            Why::TooLarge { .. } => Self::TooLarge,
            _ => Self::NotUp,
        }
    }
}

/// Of a stranger at the door who was told something.
impl From<Turned> for Dropped {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::Incompatible => Self::Incompatible,
            Turned::Cookie => Self::Cookie,
            Turned::AddressRate => Self::AddressRate,
        }
    }
}
