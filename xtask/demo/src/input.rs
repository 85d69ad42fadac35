//! The text that goes through the network.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use peerage::MeshConfig;
use serde_json::{Value, json};

use crate::peer::MESH;

/// Lewis Carroll, Alice's Adventures in Wonderland, 1865; in the public domain.
const ALICE: &[u8] = include_bytes!("../text/alice.txt");

/// Room for what a line's message has besides the line: its stamp, its signature, the names of both.
const AROUND: usize = 1024;

/// What to send: the parent and the sending peer read it each for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    /// The file, or the book that comes along.
    pub(crate) file: Option<PathBuf>,
    /// Blocks of so many bytes instead of lines.
    pub(crate) block: Option<usize>,
    /// So many lines, going round.
    pub(crate) lines: Option<usize>,
}

impl Input {
    /// All lines, without their line feeds, in the order of sending.
    pub(crate) fn read(&self) -> Result<Vec<Vec<u8>>> {
        let owned;
        let text = match &self.file {
            None => ALICE,
            Some(file) => {
                owned = fs::read(file).with_context(|| format!("reading the input {}", file.display()))?;
                owned.as_slice()
            }
        };
        let once = self.cut(text);
        if once.is_empty() {
            bail!("{} has no lines to send", self.name());
        }
        let wanted = self.lines.unwrap_or(once.len());
        if u32::try_from(wanted).is_err() {
            bail!("{wanted} lines are more than the demo can number");
        }
        let most = usize::try_from(MeshConfig::named(MESH).max_message).unwrap_or(usize::MAX) - AROUND;
        if let Some((place, long)) = once.iter().enumerate().find(|(_, line)| line.len() > most) {
            let name = self.name();
            bail!("line {} of {name} is {} bytes; a mesh takes {most}", place + 1, long.len());
        }
        Ok(once.into_iter().cycle().take(wanted).map(<[u8]>::to_vec).collect())
    }

    fn cut<'a>(&self, text: &'a [u8]) -> Vec<&'a [u8]> {
        if let Some(block) = self.block {
            // Of one length all: what is left over at the end would be a line like no other.
            let whole: Vec<_> = text.chunks_exact(block.max(1)).collect();
            return if whole.is_empty() && !text.is_empty() { vec![text] } else { whole };
        }
        if text.is_empty() {
            return Vec::new();
        }
        text.strip_suffix(b"\n").unwrap_or(text).split(|byte| *byte == b'\n').collect()
    }

    /// What to call it.
    pub(crate) fn name(&self) -> String {
        self.file
            .as_ref()
            .map_or_else(|| "Alice's Adventures in Wonderland".to_owned(), |file| file.display().to_string())
    }

    /// For the sending peer.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "file": self.file.as_ref().map(|file| file.to_string_lossy()), "block": self.block, "lines": self.lines })
    }

    /// From the parent.
    pub(crate) fn from_json(value: &Value) -> Self {
        let number = |field: &str| {
            value.get(field).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok())
        };
        Self {
            file: value.get("file").and_then(Value::as_str).map(PathBuf::from),
            block: number("block"),
            lines: number("lines"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_is_there_and_reads_well() {
        let lines = Input::default().read().unwrap();
        assert!(lines.len() > 3000);
        assert!(lines.first().unwrap().ends_with(b"ALICE'S ADVENTURES IN WONDERLAND"));
        assert!(lines.last().unwrap().ends_with(b"THE END"));
    }

    #[test]
    fn lines_keep_every_byte_but_the_line_feed() {
        let lines = Input::default().cut(b"one\r\n\n\xff\xfe\n");
        assert_eq!(lines, [b"one\r".as_slice(), b"", b"\xff\xfe"]);
    }

    #[test]
    fn an_empty_text_has_no_line_and_a_line_feed_ends_an_empty_one() {
        assert!(Input::default().cut(b"").is_empty());
        assert_eq!(Input::default().cut(b"\n"), [b"".as_slice()]);
    }

    #[test]
    fn a_line_that_no_mesh_takes_is_refused_with_its_number() {
        let path = std::env::temp_dir().join(format!("peerage-long-line-{}", std::process::id()));
        fs::write(&path, [b"short\n".as_slice(), &vec![b'x'; 17 << 20]].concat()).unwrap();
        let read = Input { file: Some(path.clone()), ..Input::default() }.read();
        fs::remove_file(&path).unwrap();
        let error = read.unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("17825792 bytes"), "{error}");
    }

    #[test]
    fn blocks_are_of_one_length() {
        let input = Input { block: Some(1024), ..Input::default() };
        assert!(input.read().unwrap().iter().all(|block| block.len() == 1024));
    }

    #[test]
    fn more_lines_than_the_text_has_go_round_it() {
        let input = Input { lines: Some(10_000), ..Input::default() };
        let lines = input.read().unwrap();
        let book = Input::default().read().unwrap().len();
        assert_eq!(lines.len(), 10_000);
        assert_eq!(lines.first(), lines.get(book));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let input = Input { file: Some("no/such/file".into()), ..Input::default() };
        assert!(format!("{:#}", input.read().unwrap_err()).contains("no/such/file"));
    }

    #[test]
    fn the_peer_reads_what_the_parent_meant() {
        let input = Input { file: Some("a b.txt".into()), block: Some(7), lines: None };
        assert_eq!(Input::from_json(&input.to_json()), input);
    }
}
