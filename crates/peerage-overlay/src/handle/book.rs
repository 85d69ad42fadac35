//! The address book in a file: whom a peer knows, kept for its next start.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;

use super::queue::lock;

/// Longer files are no address books: 4,096 peers of four long addresses each are less.
const MAX_BYTES: u64 = 8 << 20;

/// A file that always holds a whole book: the last one or the one before.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    waiting: Mutex<Waiting>,
    /// Held while the file is written.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// What is to be written next.
    book: Option<Bytes>,
    /// Whether a thread will write it.
    has_thread: bool,
}

impl Book {
    /// The book in that file, and what it holds. A file that is not there yet holds nothing.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Bytes>)> {
        let held = match fs::File::open(path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
                if bytes.len() as u64 > MAX_BYTES {
                    let what = format!("it is longer than {MAX_BYTES} bytes, so it is no address book");
                    return Err(io::Error::new(ErrorKind::InvalidData, what));
                }
                Some(Bytes::from(bytes))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok((Self { path: path.to_owned(), waiting: Mutex::default(), writing: Mutex::default() }, held))
    }

    /// Has it written by a thread that ends then: a mesh does not wait for a disk.
    pub(super) fn write_soon(self: &Arc<Self>, book: Bytes) -> io::Result<()> {
        let mut waiting = lock(&self.waiting);
        waiting.book = Some(book);
        if !waiting.has_thread {
            let book = Arc::clone(self);
            thread::Builder::new().name("peerage-book".to_owned()).spawn(move || book.write())?;
            waiting.has_thread = true;
        }
        Ok(())
    }

    /// Writes what waits, on this thread.
    pub(super) fn write(&self) {
        let _writing = lock(&self.writing);
        let taken = {
            let mut waiting = lock(&self.waiting);
            waiting.has_thread = false;
            waiting.book.take()
        };
        let Some(book) = taken else { return };
        if let Err(error) = replace(&self.path, &book) {
            tracing::warn!(path = %self.path.display(), %error, "the address book was not written");
            // To be tried again at the end, unless a newer one comes.
            lock(&self.waiting).book.get_or_insert(book);
        }
    }
}

/// Whoever reads the file finds the old bytes or the new ones, whatever happens meanwhile.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_book_is_in_the_file_however_many_are_written_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("news.book");
        let (book, held) = Book::open(&path).unwrap();
        assert_eq!(held, None);
        let book = Arc::new(book);
        for number in 0..100_u8 {
            book.write_soon(Bytes::from(vec![number; 1000])).unwrap();
        }
        book.write();
        let (_, held) = Book::open(&path).unwrap();
        assert_eq!(held, Some(Bytes::from(vec![99; 1000])));
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside the file");
    }

    #[test]
    fn what_could_not_be_written_is_written_when_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("later").join("news.book");
        let book = Arc::new(Book::open(&path).unwrap().0);
        book.write_soon(Bytes::from_static(b"known")).unwrap();
        book.write();
        assert!(!path.exists());
        fs::create_dir(directory.path().join("later")).unwrap();
        book.write();
        assert_eq!(fs::read(&path).unwrap(), b"known");
    }

    #[test]
    fn a_file_that_is_far_too_long_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("film");
        fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(Book::open(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
