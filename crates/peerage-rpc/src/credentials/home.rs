//! The directory of an application.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use peerage_identity::{Identity, KeyFileError};
use zeroize::Zeroizing;

use super::location::{Location, check_name};
use super::{Credentials, CredentialsError, Newcomer, files};
use crate::accounts::{Invite, InviteId};

/// Names the directory of all applications, in place of `~/.peerage`.
const VARIABLE: &str = "PEERAGE_HOME";
const DEFAULT: &str = "default";
const LOCATION: &str = ".location";

/// What becomes of a location that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is, and the call fails.
    Keep,
    /// It is replaced, and its key is gone for good: its account can act only from a copy.
    Replace,
}

/// The credentials of one application: locations by name, one of which is the default.
///
/// Every call reads and writes files, and waits for the disk.
#[derive(Clone)]
pub struct Home {
    path: PathBuf,
    passphrase: Option<Zeroizing<String>>,
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The default location of an application: [`Home::of`] and [`Home::default_location`].
///
/// # Errors
/// Those of both.
pub fn default_location(application: &str) -> Result<Credentials, CredentialsError> {
    Home::of(application)?.default_location()
}

impl Home {
    /// The directory `application` in `$PEERAGE_HOME`, or else in `~/.peerage`. It is made when something is written.
    ///
    /// # Errors
    /// [`CredentialsError::Name`] and [`CredentialsError::NoHome`].
    pub fn of(application: &str) -> Result<Self, CredentialsError> {
        check_name(application)?;
        let base = base(env::var_os(VARIABLE), env::home_dir())?;
        Ok(Self::at(base.join(application)))
    }

    /// This directory, wherever it is. It is made when something is written.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), passphrase: None }
    }

    /// Keys are encrypted with this, all of them.
    #[must_use]
    pub fn with_passphrase(self, passphrase: impl Into<String>) -> Self {
        Self { passphrase: Some(Zeroizing::new(passphrase.into())), ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all locations, in order. None when there is no directory.
    ///
    /// # Errors
    /// [`CredentialsError::Mode`] and [`CredentialsError::Io`].
    pub fn locations(&self) -> Result<Vec<String>, CredentialsError> {
        if !files::check_folder(&self.path)? {
            return Ok(Vec::new());
        }
        let failed = CredentialsError::io("list", &self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(&failed)? {
            let name = entry.map_err(&failed)?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(LOCATION));
            names.extend(name.filter(|name| check_name(name).is_ok()).map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }

    /// The credentials of a location.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn location(&self, name: &str) -> Result<Credentials, CredentialsError> {
        check_name(name)?;
        let Location { key, broker, addresses, network } =
            self.read(name)?.ok_or_else(|| self.absent(name))?;
        let identity = Identity::load(self.path.join(key), self.passphrase())?;
        Ok(Credentials { identity, broker, addresses, network })
    }

    /// The credentials of the default location.
    ///
    /// # Errors
    /// [`CredentialsError::NoDefault`] when none is; those of [`Home::location`].
    pub fn default_location(&self) -> Result<Credentials, CredentialsError> {
        let path = self.default_path();
        self.location(&self.default_name()?.ok_or(CredentialsError::NoDefault { path })?)
    }

    /// Which location is the default. The first that is kept is, until another one is made so.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn default_name(&self) -> Result<Option<String>, CredentialsError> {
        files::check_folder(&self.path)?;
        let path = self.default_path();
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let name = text.trim();
        check_name(name).map_err(|error| CredentialsError::Malformed {
            path,
            line: 1,
            why: error.to_string(),
        })?;
        Ok(Some(name.to_owned()))
    }

    /// Makes a location the default.
    ///
    /// # Errors
    /// [`CredentialsError::Absent`] when there is no such location.
    pub fn set_default(&self, name: &str) -> Result<(), CredentialsError> {
        check_name(name)?;
        self.read(name)?.ok_or_else(|| self.absent(name))?;
        files::write(&self.default_path(), &format!("{name}\n"), true).map(drop)
    }

    /// Keeps credentials as a location.
    ///
    /// # Errors
    /// [`CredentialsError::Exists`] when there is one of this name that is to stay; it is as it was.
    pub fn save(
        &self,
        name: &str,
        credentials: &Credentials,
        existing: Existing,
    ) -> Result<(), CredentialsError> {
        self.check_free(name, existing)?;
        let Credentials { identity, broker, addresses, network } = credentials;
        let key = format!("{name}.{}.key", identity.peer_id().short());
        let location =
            Location { key, broker: *broker, addresses: addresses.clone(), network: network.clone() };
        let text = location.to_text()?;
        files::make_folder(&self.path)?;
        let path = self.path.join(&location.key);
        match identity.save(&path, self.passphrase()) {
            // Left by a try that was cut, or kept already: the same key, unless somebody has put another in its place.
            Err(KeyFileError::Exists { .. })
                if Identity::load(&path, self.passphrase())?.peer_id() == identity.peer_id() => {}
            other => other?,
        }
        self.place(name, &location, &text, existing)
    }

    /// Removes a location and its key, for good. If it was the default, none is.
    ///
    /// # Errors
    /// [`CredentialsError::Absent`] when there is no such location.
    pub fn remove(&self, name: &str) -> Result<(), CredentialsError> {
        check_name(name)?;
        let location = self.read(name)?.ok_or_else(|| self.absent(name))?;
        if self.default_name()?.as_deref() == Some(name) {
            files::remove(&self.default_path())?;
        }
        files::remove(&self.location_path(name))?;
        files::remove(&self.path.join(location.key))
    }

    /// Makes the key of a newcomer, for the location `name`; no location is touched before [`Newcomer::accepted`]. For the
    /// same invite it is the same key, if an earlier try has left it.
    ///
    /// # Errors
    /// [`CredentialsError::Exists`] when there is one of this name that is to stay.
    pub fn enrol(
        &self,
        name: &str,
        invite: &Invite,
        existing: Existing,
    ) -> Result<Newcomer, CredentialsError> {
        self.check_free(name, existing)?;
        let id = InviteId::of(invite.token.as_bytes()).to_string();
        let key = format!("{name}.{}.key", id.get(..16).unwrap_or(&id));
        let (addresses, network) = (invite.addresses.clone(), invite.network.clone());
        let location = Location { key, broker: invite.broker, addresses, network };
        let text = location.to_text()?;
        files::make_folder(&self.path)?;
        let identity = Identity::load_or_create(self.path.join(&location.key), self.passphrase())?;
        let credentials = Credentials {
            identity,
            broker: location.broker,
            addresses: location.addresses.clone(),
            network: location.network.clone(),
        };
        Ok(Newcomer { home: self.clone(), name: name.to_owned(), location, text, credentials, existing })
    }

    /// Puts a location in its place, when its key is.
    pub(super) fn place(
        &self,
        name: &str,
        location: &Location,
        text: &str,
        existing: Existing,
    ) -> Result<(), CredentialsError> {
        let old = match existing {
            Existing::Keep => None,
            // One that cannot be read is replaced, too; its key is not known then, and stays.
            Existing::Replace => self.read(name).ok().flatten(),
        };
        if !files::write(&self.location_path(name), text, existing == Existing::Replace)? {
            return Err(self.exists(name));
        }
        if let Some(old) = old.filter(|old| old.key != location.key) {
            files::remove(&self.path.join(old.key))?;
        }
        // The first of all is the default.
        files::write(&self.default_path(), &format!("{name}\n"), false).map(drop)
    }

    /// Removes a key that no location names.
    pub(super) fn discard(&self, name: &str, key: &str) -> Result<(), CredentialsError> {
        match self.read(name)? {
            Some(location) if location.key == key => Ok(()),
            _ => files::remove(&self.path.join(key)),
        }
    }

    fn check_free(&self, name: &str, existing: Existing) -> Result<(), CredentialsError> {
        check_name(name)?;
        let path = self.location_path(name);
        // Also one that makes no sense.
        let is_there = fs::exists(&path).map_err(CredentialsError::io("read", &path))?;
        if is_there && existing == Existing::Keep { Err(self.exists(name)) } else { Ok(()) }
    }

    fn read(&self, name: &str) -> Result<Option<Location>, CredentialsError> {
        files::check_folder(&self.path)?;
        let path = self.location_path(name);
        files::read(&path)?.map(|text| Location::parse(&path, &text)).transpose()
    }

    fn passphrase(&self) -> Option<&str> {
        self.passphrase.as_ref().map(|passphrase| passphrase.as_str())
    }

    fn default_path(&self) -> PathBuf {
        self.path.join(DEFAULT)
    }

    fn location_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{LOCATION}"))
    }

    fn absent(&self, name: &str) -> CredentialsError {
        CredentialsError::Absent { name: name.to_owned(), path: self.location_path(name) }
    }

    fn exists(&self, name: &str) -> CredentialsError {
        CredentialsError::Exists { name: name.to_owned(), path: self.location_path(name) }
    }
}

/// Where the directories of all applications are.
fn base(variable: Option<OsString>, home: Option<PathBuf>) -> Result<PathBuf, CredentialsError> {
    let is_said = |path: &PathBuf| !path.as_os_str().is_empty();
    let named = variable.map(PathBuf::from).filter(is_said);
    named.or_else(|| home.filter(is_said).map(|home| home.join(".peerage"))).ok_or(CredentialsError::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_comes_before_the_users_home() {
        let of = |variable: Option<&str>, home: Option<&str>| {
            base(variable.map(OsString::from), home.map(PathBuf::from)).ok()
        };
        assert_eq!(of(Some("/srv/peerage"), Some("ada")), Some("/srv/peerage".into()));
        assert_eq!(of(None, Some("ada")), Some("ada/.peerage".into()));
        assert_eq!(of(Some(""), Some("ada")), Some("ada/.peerage".into()));
        assert_eq!(of(None, None), None);
        assert_eq!(of(None, Some("")), None);
    }
}
