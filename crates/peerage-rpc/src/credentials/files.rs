//! Small text files that are whole or not there, and that nobody else may read.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::CredentialsError;

/// No file of ours comes near it.
const MAX_FILE: u64 = 16 << 10;

/// Tells the files that are being written by one process apart.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Reads a file that only its owner may; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, CredentialsError> {
    let failed = CredentialsError::io("read", path);
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(&failed)?,
    };
    // Of what was opened, not of what the path names by now.
    check_mode(path, &file.metadata().map_err(&failed)?, 0o600)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(&failed)?;
    let malformed = |why: String| CredentialsError::Malformed { path: path.to_owned(), line: 1, why };
    if bytes.len() as u64 > MAX_FILE {
        return Err(malformed(format!("it is longer than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| malformed("it is not text".to_owned()))
}

/// Writes a file beside and puts it in its place: a new one, or over what is there. Survives a crash after the return.
///
/// False when there is one that is to stay.
pub(super) fn write(path: &Path, text: &str, replace: bool) -> Result<bool, CredentialsError> {
    let failed = CredentialsError::io("write", path);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.{}.new", process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed)));
    let beside = PathBuf::from(beside);
    // Only a process that had this number and stopped half-way can have left it.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let written = write_new(&beside, text)
        .and_then(|()| if replace { fs::rename(&beside, path) } else { fs::hard_link(&beside, path) });
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    match written {
        Err(error) if !replace && error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        other => other.map_err(&failed)?,
    }
    sync_parent(path).map_err(&failed)?;
    Ok(true)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Removes a file for good. None is as well.
pub(super) fn remove(path: &Path) -> Result<(), CredentialsError> {
    let failed = CredentialsError::io("remove", path);
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| sync_parent(path)).map_err(failed),
    }
}

/// Makes a directory, and those above it, for its owner alone. One that is there must be so already.
pub(super) fn make_folder(path: &Path) -> Result<(), CredentialsError> {
    if check_folder(path)? {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let made = builder.create(path).and_then(|()| sync_parent(path));
    made.map_err(CredentialsError::io("make", path))
}

/// False when there is none.
pub(super) fn check_folder(path: &Path) -> Result<bool, CredentialsError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.map_err(CredentialsError::io("read", path))?,
    };
    check_mode(path, &metadata, 0o700)?;
    Ok(true)
}

#[cfg(unix)]
fn check_mode(path: &Path, metadata: &Metadata, wanted: u32) -> Result<(), CredentialsError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Mode { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _metadata: &Metadata, _wanted: u32) -> Result<(), CredentialsError> {
    Ok(())
}

#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_parent(_path: &Path) -> io::Result<()> {
    Ok(())
}
