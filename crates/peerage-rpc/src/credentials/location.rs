//! One location: what is in its file.

use std::fmt::Write as _;
use std::path::Path;

use peerage_identity::Identity;
use peerage_wire::limits::{MAX_ADDRESSES, MAX_NAME};
use peerage_wire::{Address, PeerId};

use super::CredentialsError;

/// The first line of a location's file.
const HEAD: &str = "peerage location 1";

/// What a client or a node connects with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who we are.
    pub identity: Identity,
    /// The broker's key: whoever answers with another one is not talked to.
    pub broker: PeerId,
    /// Where the broker listens, to be tried in turn; 1 to 16.
    pub addresses: Vec<Address>,
    /// What the broker calls its network; at most 128 bytes, without control characters.
    pub network: String,
}

/// What a location's file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The key file's name, beside it.
    pub(super) key: String,
    pub(super) broker: PeerId,
    pub(super) addresses: Vec<Address>,
    pub(super) network: String,
}

impl Location {
    /// What [`Location::parse`] reads, unless it could not.
    pub(super) fn to_text(&self) -> Result<String, CredentialsError> {
        let unfit = |why: String| Err(CredentialsError::Unfit { why });
        if self.addresses.is_empty() || self.addresses.len() > MAX_ADDRESSES {
            return unfit(format!("{} addresses, not 1 to {MAX_ADDRESSES}", self.addresses.len()));
        }
        if let Err(why) = check_network(&self.network) {
            return unfit(why);
        }
        let mut text =
            format!("{HEAD}\nkey {}\nbroker {}\nnetwork {}\n", self.key, self.broker, self.network);
        for address in &self.addresses {
            // Writing to a text does not fail.
            let _ = writeln!(text, "address {address}");
        }
        Ok(text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, CredentialsError> {
        let malformed =
            |line: usize, why: String| CredentialsError::Malformed { path: path.to_owned(), line, why };
        let mut lines = (1..).zip(text.lines());
        match lines.next() {
            Some((_, HEAD)) => {}
            _ => return Err(malformed(1, format!("it is not {HEAD:?}"))),
        }
        let (mut key, mut broker, mut network, mut addresses) = (None, None, None, Vec::new());
        for (line, text) in lines.by_ref() {
            let malformed = |why: String| malformed(line, why);
            // As people leave them who edit a file.
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let (word, value) = text.split_once(' ').unwrap_or((text, ""));
            let is_again = match word {
                "key" => key.replace(check_key(value).map_err(malformed)?).is_some(),
                "broker" => {
                    let parsed = value.parse::<PeerId>().map_err(|error| malformed(error.to_string()))?;
                    broker.replace(parsed).is_some()
                }
                "network" => {
                    check_network(value).map_err(malformed)?;
                    network.replace(value.to_owned()).is_some()
                }
                "address" => {
                    let parsed = value.trim().parse::<Address>();
                    addresses.push(parsed.map_err(|error| malformed(error.to_string()))?);
                    addresses.len() > MAX_ADDRESSES
                }
                _ => return Err(malformed(format!("{word:?} is no word of a location"))),
            };
            if is_again {
                return Err(malformed(format!("one {word} too many")));
            }
        }
        let end = text.lines().count();
        let missing = |what: &str| malformed(end, format!("there is no {what} in it"));
        if addresses.is_empty() {
            return Err(missing("address"));
        }
        Ok(Self {
            key: key.ok_or_else(|| missing("key"))?,
            broker: broker.ok_or_else(|| missing("broker"))?,
            network: network.ok_or_else(|| missing("network"))?,
            addresses,
        })
    }
}

fn check_network(network: &str) -> Result<(), String> {
    if network.len() > MAX_NAME {
        return Err(format!("the network's name has {} bytes, the limit is {MAX_NAME}", network.len()));
    }
    if network.chars().any(char::is_control) {
        return Err(format!("the network's name has control characters: {network:?}"));
    }
    Ok(())
}

/// A name in the same directory: a file that says otherwise would have us read from anywhere.
fn check_key(name: &str) -> Result<String, String> {
    if !is_plain(name) {
        return Err(format!("{name:?} is no name of a key file"));
    }
    Ok(name.to_owned())
}

/// Whether a file may be called that, wherever it is copied to.
fn is_plain(name: &str) -> bool {
    let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    !name.is_empty() && !name.starts_with(['.', '-']) && name.len() <= 128 && name.bytes().all(is_letter)
}

/// A name of an application or a location.
pub(super) fn check_name(name: &str) -> Result<(), CredentialsError> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > 64 {
        "it is longer than 64 characters"
    } else if name.starts_with(['.', '-']) {
        "it begins with a point or a dash"
    } else if !is_plain(name) {
        "only a-z, 0-9, '.', '_' and '-' may be in it"
    } else {
        return Ok(());
    };
    Err(CredentialsError::Name { name: name.chars().take(80).collect(), why })
}
