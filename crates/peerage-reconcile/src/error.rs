//! What can go wrong, one error for each operation.

use thiserror::Error;

/// Why symbols could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The encoder of our set has made symbols already, so its first ones are gone.
    #[error("our encoder has made {made} symbols already")]
    Begun {
        /// How many.
        made: u32,
    },
    /// More symbols than the decoder takes.
    #[error("{symbols} symbols, the limit is {limit}")]
    TooManySymbols {
        /// With those that were too many.
        symbols: usize,
        /// The limit.
        limit: u32,
    },
    /// No two sets have such symbols: the peer is broken or hostile, or two ids have the same 32-bit checksum by a
    /// chance of some 2^-32 for each symbol. Another salt tells which.
    #[error("no two sets have such symbols")]
    Impossible,
}

/// Why a session cannot begin: our own mistake.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A number of the configuration is out of its range.
    #[error("`{field}` is {value}, and may be {least} to {most}")]
    Config {
        /// Which.
        field: &'static str,
        /// What it is.
        value: u64,
        /// The least that it may be.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Our set is larger than the configuration allows.
    #[error("the set has {len} keys, the limit is {limit}")]
    SetTooLarge {
        /// How many keys.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// Our set has another salt than the session.
    #[error("the set has not the salt of the session")]
    WrongSalt,
}

/// Why a session came to nothing: the peer's mistake, except where it says otherwise. The session is over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The message does not belong here.
    #[error("`{message}` does not belong here: {state}")]
    Unexpected {
        /// The message's kind.
        message: &'static str,
        /// What the session is doing.
        state: &'static str,
    },
    /// A set cannot have so many keys.
    #[error("a set of {count} keys, the limit is {limit}")]
    Count {
        /// What the peer says.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// Symbols in another place than those that come next.
    #[error("symbols from {from} on, where {expected} come next")]
    Gap {
        /// Where they begin.
        from: u32,
        /// Where they should.
        expected: u32,
    },
    /// More symbols than were asked for, or than may be.
    #[error("{symbols} symbols, the limit is {limit}")]
    TooManySymbols {
        /// How many.
        symbols: u64,
        /// The limit.
        limit: u64,
    },
    /// A message without anything in it, where something must be.
    #[error("`{message}` has nothing in it")]
    Empty {
        /// The message's kind.
        message: &'static str,
    },
    /// A symbol cannot stand for so many ids.
    #[error("symbol {index} stands for {count} of {of} ids")]
    SymbolCount {
        /// Which symbol.
        index: u32,
        /// How many ids it claims.
        count: i64,
        /// How many there are.
        of: u64,
    },
    /// Ids that do not ascend, or lie outside their range.
    #[error("the ids of `{message}` are not in order, or out of their range")]
    Order {
        /// The message's kind.
        message: &'static str,
    },
    /// The peer asks for an id that we never had.
    #[error("the peer asks for {short:?}, which we do not have")]
    Unknown {
        /// The id.
        short: crate::ShortId,
    },
    /// The peer says that we lack an id that we have.
    #[error("the peer says that we lack {short:?}, which we have")]
    Held {
        /// The id.
        short: crate::ShortId,
    },
    /// The symbols are of no two sets. Rarely nobody's fault: see [`DecodeError::Impossible`].
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why a session could not be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Our own mistake.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The peer's.
    #[error(transparent)]
    Peer(#[from] SessionError),
}

/// Why bytes are no message of a session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// They are no protobuf.
    #[error("it is no protobuf message: {detail}")]
    Protobuf {
        /// What the decoder says.
        detail: String,
    },
    /// A message without a kind that is known here.
    #[error("it has no kind that is known here")]
    Kind,
    /// A field has not the length that it must have.
    #[error("`{field}` has {len} bytes, not {expected}")]
    Length {
        /// Which.
        field: &'static str,
        /// How many it has.
        len: usize,
        /// How many it must have.
        expected: usize,
    },
    /// The parts of symbols are not equally many.
    #[error("{sums} sums, {checks} checks and {counts} counts")]
    Ragged {
        /// How many sums.
        sums: usize,
        /// How many checksums.
        checks: usize,
        /// How many counts.
        counts: usize,
    },
    /// How an answer ends is none of the ways that are known here.
    #[error("an answer ends in {end}")]
    End {
        /// Its number.
        end: i32,
    },
}
