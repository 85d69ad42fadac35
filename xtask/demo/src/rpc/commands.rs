//! What users, nodes and the broker say to each other.

use peerage::rpc::{Command, Declaration};

/// One more note of the caller's, at the broker.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Write {
    #[prost(string, optional, tag = "1")]
    pub(super) text: Option<String>,
}

/// The caller's notes, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Read {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Note {
    #[prost(string, tag = "1")]
    pub(super) text: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Divide {
    #[prost(double, optional, tag = "1")]
    pub(super) dividend: Option<f64>,
    #[prost(double, optional, tag = "2")]
    pub(super) divisor: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Quotient {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
}

/// So many more lines of a node's log, by a channel that stays open.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct More {
    #[prost(uint64, tag = "1")]
    pub(super) lines: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Line {
    #[prost(string, tag = "1")]
    pub(super) text: String,
}

/// A node keeps the file that comes with it, and sends it back.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Keep {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Kept {
    #[prost(uint64, tag = "1")]
    pub(super) bytes: u64,
    /// BLAKE3 of them.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) hash: Vec<u8>,
}

/// Work without an end.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Toil {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Nothing {}

/// What the broker offers its users: the keys of nodes that are there.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Nodes {
    #[prost(string, repeated, tag = "1")]
    pub(super) keys: Vec<String>,
}

impl Command for Write {
    const NAME: &'static str = "write";
    type Reply = Nothing;
    fn declaration() -> Declaration {
        Declaration::one_way().required(&[(1, "text")])
    }
}

impl Command for Read {
    const NAME: &'static str = "read";
    type Reply = Note;
    fn declaration() -> Declaration {
        Declaration::server_stream()
    }
}

impl Command for Divide {
    const NAME: &'static str = "divide";
    type Reply = Quotient;
    fn declaration() -> Declaration {
        Declaration::request().required(&[(1, "dividend"), (2, "divisor")])
    }
}

impl Command for More {
    const NAME: &'static str = "tail";
    type Reply = Line;
    fn declaration() -> Declaration {
        Declaration::channel()
    }
}

impl Command for Keep {
    const NAME: &'static str = "keep";
    type Reply = Kept;
}

impl Command for Toil {
    const NAME: &'static str = "toil";
    type Reply = Nothing;
}

/// What line of a node's log has this number.
pub(super) fn line(number: u64) -> String {
    format!("{number:08} all is well")
}
