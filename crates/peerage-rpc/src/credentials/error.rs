//! What can be wrong with credentials.

use std::io;
use std::path::{Path, PathBuf};

use peerage_identity::KeyFileError;

/// Why credentials were not read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Nobody says where the directory is.
    #[error("PEERAGE_HOME is not set, and this user has no home directory")]
    NoHome,
    /// It can be no name of an application or a location.
    #[error("{name:?} is no name: {why}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no such location.
    #[error("there is no location {name:?}: {} does not exist", .path.display())]
    Absent {
        /// The location.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// No location is the default.
    #[error("no location is the default: {} does not exist", .path.display())]
    NoDefault {
        /// The file that would name it.
        path: PathBuf,
    },
    /// There is such a location, and it was not to be replaced.
    #[error("there is a location {name:?} already, which is not overwritten: {}", .path.display())]
    Exists {
        /// The location.
        name: String,
        /// Its file.
        path: PathBuf,
    },
    /// Others than the owner may read or write it.
    #[error("{} has mode {mode:04o}, so others may get at it: chmod {wanted:o} it", .path.display())]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The most that it may have.
        wanted: u32,
    },
    /// A file does not say what it should.
    #[error("{} line {line}: {why}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Credentials that could not be read again.
    #[error("these credentials are not to be kept: {why}")]
    Unfit {
        /// What is wrong with them.
        why: String,
    },
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The file system failed.
    #[error("cannot {action} {}: {why}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// What the file system said.
        why: String,
    },
}

impl CredentialsError {
    /// For `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path: path.clone(), action, kind: error.kind(), why: error.to_string() }
    }
}
