//! A store in a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    CommitError, Database, DatabaseError, ReadableDatabase as _, StorageError, TableDefinition, TableError,
    TableHandle as _, TransactionError,
};

use crate::change::check;
use crate::memory::first;
use crate::{Change, OpenError, Store, StoreError};

/// All that is kept.
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("peerage");

/// Tells the files that are being made by one process apart.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A store in one file, by `redb`: a copy-on-write tree with checksums, so that a file is as one commit left it whenever the
/// process or the machine stops.
///
/// While it is open, nobody else can open the file as a store. Reads see the last commit and do not wait for one that
/// is under way; commits wait for the disk, and for each other. For many small batches at once there is
/// [`crate::Committer`].
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
}

impl RedbStore {
    /// The most that is kept of the file in memory, in bytes.
    pub const CACHE: usize = 32 << 20;

    /// Opens the store in this file, or makes one when there is none. A new file is readable by its owner alone, and appears
    /// whole or not at all; the mode of one that is there stays as it is.
    ///
    /// The whole file is read and checked, after a crash and always. With the file in the system's memory, a million values of
    /// 100 bytes (128 MB) took half a second, and a gigabyte of values of 500 KB took 1.3 s.
    ///
    /// # Errors
    /// [`OpenError::InUse`] when it is open already, [`OpenError::NotAStore`], [`OpenError::Damaged`] and
    /// [`OpenError::Version`] about what is in it, [`OpenError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let database = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => existing(path, file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                match make(path) {
                    // Another was faster.
                    Err(OpenError::Io { kind: ErrorKind::AlreadyExists, .. }) => {}
                    made => made?,
                }
                let file = OpenOptions::new().read(true).write(true).open(path);
                existing(path, file.map_err(failed(path, "open"))?)?
            }
            Err(error) => return Err(failed(path, "open")(error)),
        };
        Ok(Self { database })
    }
}

impl Store for RedbStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key)?.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        for entry in table.range::<&[u8]>((first(prefix, after), Bound::Unbounded))? {
            let (key, value) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value())));
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        check(changes)?;
        if changes.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for change in changes {
                match &change.value {
                    Some(value) => table.insert(&*change.key, &**value)?,
                    None => table.remove(&*change.key)?,
                };
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// A new store beside the file, and then by its name: whoever stops half-way has made no file that cannot be opened.
fn make(path: &Path) -> Result<(), OpenError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.{}.new", process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
    let beside = PathBuf::from(beside);
    // Only a process that had this number and stopped half-way can have left it.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(path, "make")(error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(&beside).map_err(failed(path, "make")).and_then(|file| {
        let database = database(path, file)?;
        let table = database.begin_write().map_err(StoreError::from).and_then(|transaction| {
            transaction.open_table(TABLE)?;
            Ok(transaction.commit()?)
        });
        table.map_err(|error| unreadable(path, "make", error))?;
        database.close().map_err(|error| refused(path, "make", error))?;
        fs::hard_link(&beside, path).map_err(failed(path, "make"))
    });
    let removed = fs::remove_file(&beside);
    made?;
    removed.and_then(|()| sync_folder(path)).map_err(failed(path, "make"))
}

/// A file that is there.
fn existing(path: &Path, file: File) -> Result<Database, OpenError> {
    let metadata = file.metadata().map_err(failed(path, "read"))?;
    if !metadata.is_file() {
        return Err(OpenError::NotAStore { path: path.to_owned(), why: "it is not a file".to_owned() });
    }
    let database = database(path, file)?;
    let tables = database.begin_read().map_err(StoreError::from).and_then(|transaction| {
        let tables = transaction.list_tables()?;
        let names: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
        Ok((transaction.open_table(TABLE).map(drop), names))
    });
    match tables.map_err(|error| unreadable(path, "read", error))? {
        (Ok(()), _) => Ok(database),
        (Err(TableError::Storage(error)), _) => Err(unreadable(path, "read", error.into())),
        (Err(error), names) => {
            let why = format!("it is a database of another program, with the tables {names:?}: {error}");
            Err(OpenError::NotAStore { path: path.to_owned(), why })
        }
    }
}

/// Checked, because of a damaged file redb may otherwise panic later.
fn database(path: &Path, file: File) -> Result<Database, OpenError> {
    FileBackend::new(file)
        .and_then(|backend| {
            Database::builder()
                .set_cache_size(RedbStore::CACHE)
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)
        })
        .map_err(|error| refused(path, "open", error))
}

fn refused(path: &Path, action: &'static str, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => OpenError::InUse { path },
        DatabaseError::UpgradeRequired(found) => OpenError::Version { path, found },
        // What redb says of another magic number.
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
            OpenError::NotAStore { path, why: error.to_string() }
        }
        // The file is shorter than its header says.
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
            OpenError::Damaged { path, why: error.to_string() }
        }
        DatabaseError::Storage(error) => unreadable(&path, action, error.into()),
        other => OpenError::Damaged { path, why: other.to_string() },
    }
}

fn unreadable(path: &Path, action: &'static str, error: StoreError) -> OpenError {
    let path = path.to_owned();
    match error {
        StoreError::Io { kind, why } => OpenError::Io { path, action, kind, why },
        other => OpenError::Damaged { path, why: other.to_string() },
    }
}

fn failed(path: &Path, action: &'static str) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_owned();
    move |error| OpenError::Io { path: path.clone(), action, kind: error.kind(), why: error.to_string() }
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) => Self::Io { kind: error.kind(), why: error.to_string() },
            StorageError::Corrupted(why) => Self::Damaged { why },
            other => Self::Broken { why: other.to_string() },
        }
    }
}

impl From<TransactionError> for StoreError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => Self::Broken { why: other.to_string() },
        }
    }
}

impl From<TableError> for StoreError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            other => Self::Damaged { why: other.to_string() },
        }
    }
}

impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Self::Broken { why: other.to_string() },
        }
    }
}
