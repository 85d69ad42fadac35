//! Where a peer can be reached.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Where a peer listens, as `scheme://rest`: `tcp://127.0.0.1:4000`, `tcp://[::1]:4000`, `mem://alice`.
///
/// Which schemes mean something is for the endpoint's transports to say; here only the shape is checked: a scheme of
/// lower-case letters and digits, then up to 255 printable ASCII characters. Cheap to clone: the text is shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Arc<str>,
    scheme: u8,
}

impl Address {
    /// The longest address, in bytes.
    pub const MAX_LEN: usize = 255;

    /// What comes before `://`.
    pub fn scheme(&self) -> &str {
        self.text.get(..usize::from(self.scheme)).unwrap_or_default()
    }

    /// What comes after `://`.
    pub fn rest(&self) -> &str {
        self.text.get(usize::from(self.scheme) + 3..).unwrap_or_default()
    }

    /// The whole.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `tcp://` and a socket address.
    pub fn tcp(socket: std::net::SocketAddr) -> Self {
        Self { text: format!("tcp://{socket}").into(), scheme: 3 }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let reject = |why| Err(AddressError { text: text.chars().take(64).collect(), why });
        if text.len() > Self::MAX_LEN {
            return reject("it is longer than 255 bytes");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return reject("there is no \"://\"");
        };
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        {
            return reject("the scheme is not lower-case letters and digits");
        }
        if rest.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return reject("what follows \"://\" is empty or not printable ASCII");
        }
        // The whole is at most 255 bytes.
        Ok(Self { text: text.into(), scheme: scheme.len() as u8 })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address like tcp://127.0.0.1:4000: {why}")]
pub struct AddressError {
    text: String,
    why: &'static str,
}
