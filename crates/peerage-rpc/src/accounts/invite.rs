//! What an administrator hands over.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use data_encoding::BASE32_NOPAD;
use peerage_wire::limits::{MAX_ADDRESSES, MAX_NAME};
use peerage_wire::proto::rpc::v1 as proto;
use peerage_wire::{Address, PeerId};
use prost::Message as _;
use zeroize::Zeroizing;

use super::{Kind, Token};
use crate::convert::{kind_from_wire, kind_to_wire};

/// What every invite begins with. The version follows.
const BEGIN: &str = "peerage-invite-";
const VERSION: &str = "1";
/// Sets the checksum apart from any other hash.
const CONTEXT: &str = "peerage 2026 rpc invite text v1";
const CHECKSUM: usize = 4;
/// No invite comes near it: 16 addresses of 255 bytes and a long name are 7,300.
const MAX_TEXT: usize = 8192;

/// All that a newcomer needs to enrol, as one line of text: `peerage-invite-1-` and lower-case letters and digits. Its
/// `Display` shows the token, which is what it is for; its `Debug` does not.
///
/// Whoever reads the line first can enrol with it, and no later one can. A line that is changed on its way may name another
/// broker: hand it over as you would a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// The broker's key: the newcomer talks to nobody else.
    pub broker: PeerId,
    /// Where the broker listens; at least 1, at most 16.
    pub addresses: Vec<Address>,
    /// What the broker calls its network; at most 128 bytes.
    pub network: String,
    /// What the account will be.
    pub kind: Kind,
    /// To be shown to the broker once.
    pub token: Token,
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite")
            .field("broker", &self.broker)
            .field("addresses", &self.addresses)
            .field("network", &self.network)
            .field("kind", &self.kind)
            .field("token", &self.token)
            .finish()
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = proto::InviteText {
            broker: Bytes::copy_from_slice(self.broker.as_bytes()),
            addresses: self.addresses.iter().map(Address::to_string).collect(),
            network: self.network.clone(),
            kind: kind_to_wire(self.kind),
            token: Bytes::copy_from_slice(self.token.as_bytes()),
        };
        let mut bytes = Zeroizing::new(text.encode_to_vec());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let mut encoded = Zeroizing::new(BASE32_NOPAD.encode(&bytes));
        encoded.make_ascii_lowercase();
        write!(f, "{BEGIN}{VERSION}-{}", *encoded)
    }
}

impl FromStr for Invite {
    type Err = InviteTextError;

    /// Reads what [`fmt::Display`] writes, also in capitals, and with blanks and line ends anywhere in it, as mail programs
    /// add them.
    fn from_str(text: &str) -> Result<Self, InviteTextError> {
        if text.len() > 2 * MAX_TEXT {
            return Err(InviteTextError::TooLong { length: text.len(), limit: 2 * MAX_TEXT });
        }
        let letters = text.chars().filter(|char| !char.is_whitespace());
        let text: Zeroizing<String> = Zeroizing::new(letters.map(|char| char.to_ascii_lowercase()).collect());
        let rest = text.strip_prefix(BEGIN).ok_or(InviteTextError::NotAnInvite)?;
        let (version, encoded) = rest.split_once('-').ok_or(InviteTextError::NotAnInvite)?;
        if version != VERSION {
            return Err(InviteTextError::Version { found: version.chars().take(16).collect() });
        }
        let is_letter = |found: char| matches!(found, 'a'..='z' | '2'..='7');
        if let Some((at, found)) = encoded.chars().enumerate().find(|(_, found)| !is_letter(*found)) {
            return Err(InviteTextError::Character { found, at: text.len() - encoded.len() + at });
        }
        let upper = Zeroizing::new(encoded.to_ascii_uppercase());
        let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| InviteTextError::Checksum)?;
        let bytes = Zeroizing::new(bytes);
        let split = bytes.len().checked_sub(CHECKSUM).and_then(|at| bytes.split_at_checked(at));
        let (message, sum) = split.ok_or(InviteTextError::Checksum)?;
        if checksum(message) != *sum {
            return Err(InviteTextError::Checksum);
        }
        read(message)
    }
}

fn checksum(message: &[u8]) -> [u8; CHECKSUM] {
    let [a, b, c, d, ..] = blake3::derive_key(CONTEXT, message);
    [a, b, c, d]
}

fn read(message: &[u8]) -> Result<Invite, InviteTextError> {
    fn wrong(what: &'static str, why: impl fmt::Display) -> InviteTextError {
        InviteTextError::Content { what, why: why.to_string() }
    }
    let text = proto::InviteText::decode(message).map_err(|error| wrong("message", error))?;
    let broker = PeerId::try_from(&*text.broker).map_err(|error| wrong("broker", error))?;
    if text.addresses.is_empty() || text.addresses.len() > MAX_ADDRESSES {
        let count = text.addresses.len();
        return Err(wrong("addresses", format!("there are {count}, not 1 to {MAX_ADDRESSES}")));
    }
    let addresses = text.addresses.iter().map(|address| address.parse()).collect::<Result<_, _>>();
    if text.network.len() > MAX_NAME {
        let length = text.network.len();
        return Err(wrong("network", format!("its name has {length} bytes, the limit is {MAX_NAME}")));
    }
    let token = Token::read(&text.token)
        .ok_or_else(|| wrong("token", format!("it has {} bytes, not {}", text.token.len(), Token::LEN)))?;
    Ok(Invite {
        broker,
        addresses: addresses.map_err(|error| wrong("addresses", error))?,
        network: text.network,
        kind: kind_from_wire(text.kind).map_err(|error| wrong("kind", error.why))?,
        token,
    })
}

/// Why a text is not an [`Invite`]. None of it shows the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteTextError {
    /// It begins otherwise.
    #[error("this is no invite: one begins with \"peerage-invite-\"")]
    NotAnInvite,
    /// It is of another version.
    #[error("the invite is of version {found:?}, and only version 1 is read here")]
    Version {
        /// Which.
        found: String,
    },
    /// It is far too long.
    #[error("the invite has {length} bytes, the limit is {limit}")]
    TooLong {
        /// Its length, in bytes.
        length: usize,
        /// The most.
        limit: usize,
    },
    /// It has a character that none has.
    #[error("the invite has {found:?} at place {at}, where only a-z and 2-7 may be")]
    Character {
        /// Which.
        found: char,
        /// Where, from 0, blanks not counted.
        at: usize,
    },
    /// It is cut, or a character is another.
    #[error("the invite is incomplete or mistyped: its checksum is not right")]
    Checksum,
    /// It says something that none says: whoever made it was no broker of ours.
    #[error("the invite's {what} is not as it should be: {why}")]
    Content {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}
