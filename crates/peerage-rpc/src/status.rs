//! How a call ends when it does not end well.

use std::fmt;

use bytes::Bytes;

/// The most bytes of a status's message; more is cut off.
pub const MAX_STATUS_MESSAGE: usize = 4096;
/// The most details of a status.
pub const MAX_DETAILS: usize = 16;
/// The most bytes of all details of a status together. Over a link that takes less than this and 24 KiB, 40 KiB or more are sent, and
/// a status with more goes without its details.
pub const MAX_DETAIL_BYTES: usize = 64 << 10;

/// What kind of failure it is; numbered as gRPC does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The caller cancelled it.
    Cancelled,
    /// Something went wrong, and nobody says what.
    Unknown,
    /// The parameters are wrong, whatever the state of things.
    InvalidArgument,
    /// Its time was over.
    DeadlineExceeded,
    /// What it is about is not there.
    NotFound,
    /// What it would make is there.
    AlreadyExists,
    /// The caller may not do this.
    PermissionDenied,
    /// A limit: of credit, of calls, of memory.
    ResourceExhausted,
    /// The state of things does not allow it.
    FailedPrecondition,
    /// It was broken off; another try may go well.
    Aborted,
    /// Beyond the end of something.
    OutOfRange,
    /// There is no such command.
    Unimplemented,
    /// The handler is broken: it panicked, say.
    Internal,
    /// Whoever should do it is not there; another try may go well.
    Unavailable,
    /// What was there is lost.
    DataLoss,
    /// Nobody knows the caller.
    Unauthenticated,
}

impl Code {
    /// The number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::Cancelled => 1,
            Self::Unknown => 2,
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::OutOfRange => 11,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }

    /// The code of that number; a number that this version does not know is [`Code::Unknown`].
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Cancelled,
            3 => Self::InvalidArgument,
            4 => Self::DeadlineExceeded,
            5 => Self::NotFound,
            6 => Self::AlreadyExists,
            7 => Self::PermissionDenied,
            8 => Self::ResourceExhausted,
            9 => Self::FailedPrecondition,
            10 => Self::Aborted,
            11 => Self::OutOfRange,
            12 => Self::Unimplemented,
            13 => Self::Internal,
            14 => Self::Unavailable,
            15 => Self::DataLoss,
            16 => Self::Unauthenticated,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid argument",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::PermissionDenied => "permission denied",
            Self::ResourceExhausted => "resource exhausted",
            Self::FailedPrecondition => "failed precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out of range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data loss",
            Self::Unauthenticated => "unauthenticated",
        })
    }
}

/// How a call, a stream or a session ended, when not well: what handlers return and callers get.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}{}", if *.may_have_run { " (it may have run)" } else { "" })]
pub struct Status {
    /// What kind of failure.
    pub code: Code,
    /// For people.
    pub message: String,
    /// Whether what was asked may have been done all the same. False: it was not, and may be asked again.
    pub may_have_run: bool,
    /// For programs: kinds and values, as the command documents them.
    pub details: Vec<(String, Bytes)>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $code:ident,)*) => {
        $($(#[$doc])*
        pub fn $name(message: impl Into<String>) -> Self {
            Self::new(Code::$code, message)
        })*
    };
}

impl Status {
    /// A status of that code; the message is for people.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: cut(message.into()), may_have_run: false, details: Vec::new() }
    }

    constructors! {
        /// The caller's parameters are wrong.
        invalid_argument => InvalidArgument,
        /// What it is about is not there.
        not_found => NotFound,
        /// What it would make is there.
        already_exists => AlreadyExists,
        /// The caller may not do this.
        permission_denied => PermissionDenied,
        /// A limit is reached.
        resource_exhausted => ResourceExhausted,
        /// The state of things does not allow it.
        failed_precondition => FailedPrecondition,
        /// Broken off; another try may go well.
        aborted => Aborted,
        /// Beyond the end of something.
        out_of_range => OutOfRange,
        /// No such command.
        unimplemented => Unimplemented,
        /// The handler is broken.
        internal => Internal,
        /// Whoever should do it is not there.
        unavailable => Unavailable,
        /// What was there is lost.
        data_loss => DataLoss,
        /// Nobody knows the caller.
        unauthenticated => Unauthenticated,
        /// The caller does not want it any more.
        cancelled => Cancelled,
        /// Its time was over.
        deadline_exceeded => DeadlineExceeded,
    }

    /// With a detail for programs. Beyond [`MAX_DETAILS`] and [`MAX_DETAIL_BYTES`] it is left out.
    #[must_use]
    pub fn with_detail(mut self, kind: impl Into<String>, value: impl Into<Bytes>) -> Self {
        let (kind, value) = (kind.into(), value.into());
        let held: usize = self.details.iter().map(|(kind, value)| kind.len() + value.len()).sum();
        if self.details.len() < MAX_DETAILS && held + kind.len() + value.len() <= MAX_DETAIL_BYTES {
            self.details.push((kind, value));
        }
        self
    }

    /// The same, and what was asked may have been done.
    #[must_use]
    pub fn may_have_run(mut self) -> Self {
        self.may_have_run = true;
        self
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MAX_STATUS_MESSAGE {
        let end = (0..=MAX_STATUS_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_their_numbers() {
        for number in 1..=16 {
            assert_eq!(Code::from_number(number).number(), number);
        }
        assert_eq!(Code::from_number(99), Code::Unknown);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let status = Status::internal("é".repeat(MAX_STATUS_MESSAGE));
        assert_eq!(status.message.len(), MAX_STATUS_MESSAGE);
        assert!(status.message.chars().all(|c| c == 'é'));
    }

    #[test]
    fn a_status_says_whether_it_may_have_run() {
        assert_eq!(Status::unavailable("the node is gone").to_string(), "unavailable: the node is gone");
        let maybe = Status::unavailable("the node is gone").may_have_run();
        assert_eq!(maybe.to_string(), "unavailable: the node is gone (it may have run)");
    }
}
