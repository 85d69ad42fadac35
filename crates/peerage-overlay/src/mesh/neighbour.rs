//! What is told to one neighbour, and what it is owed.

use std::collections::{BTreeMap, VecDeque};

use peerage_machine::Instant;

use super::announce::Notes;
use super::message::{MessageId, StreamKey};
use super::pulls::Pulls;
use super::ranges::Range;
use super::sessions::Comparing;

/// A range that a neighbour asked for and has not been sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owed {
    pub(crate) stream: StreamKey,
    pub(crate) range: Range,
    pub(crate) pulled: bool,
    /// It asked.
    pub(crate) asked: bool,
}

/// Why a message is announced rather than pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum News {
    /// The neighbour gets pushes from elsewhere, or most likely has it.
    Lazy,
    /// There was no room to push it: the neighbour had better ask.
    PutOff,
}

/// What is told to one neighbour.
#[derive(Debug, Default)]
pub(crate) struct Neighbour {
    /// To announce.
    pub(crate) announce: Notes,
    pub(crate) announce_ranges: usize,
    /// Flushes that it has let pass.
    pub(crate) announce_waits: u8,
    pub(crate) owed: VecDeque<Owed>,
    /// Large messages that it may say that it has, and until when.
    pub(crate) offered: BTreeMap<MessageId, Instant>,
    /// When it last sent something that it was asked for.
    pub(crate) answered: Instant,
    /// Since when it was blamed for broken promises, and how often.
    pub(crate) blamed: (Instant, usize),
    /// Something that others said went to it since something of ours did: it is our turn.
    pub(crate) own_turn: bool,
    pub(crate) pulls: Pulls,
    /// Finds what only one of us has.
    pub(crate) comparing: Option<Box<Comparing>>,
}
