//! Somebody who is not enrolled yet.

use super::location::Location;
use super::{Credentials, CredentialsError, Existing, Home};

/// A key that waits for the broker's word. Made by [`Home::enrol`].
///
/// Whoever drops it, because nobody answered say, may try again with the same invite: the key is kept for that.
#[derive(Debug)]
#[must_use = "nothing is in its place until the broker has accepted it"]
pub struct Newcomer {
    pub(super) home: Home,
    pub(super) name: String,
    pub(super) location: Location,
    pub(super) text: String,
    pub(super) credentials: Credentials,
    pub(super) existing: Existing,
}

impl Newcomer {
    /// What to connect to the broker with, to show it the invite's token.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The broker has accepted the key: the location is put in its place, complete.
    ///
    /// # Errors
    /// [`CredentialsError::Exists`] when another was put there meanwhile and is to stay. The key is kept, so that this can be
    /// tried again to replace, with the same invite: the broker knows the key, and says so again.
    pub fn accepted(self) -> Result<Credentials, CredentialsError> {
        self.home.place(&self.name, &self.location, &self.text, self.existing)?;
        Ok(self.credentials)
    }

    /// The broker will not have the key: it is removed.
    ///
    /// # Errors
    /// The file system failed.
    pub fn refused(self) -> Result<(), CredentialsError> {
        self.home.discard(&self.name, &self.location.key)
    }
}
