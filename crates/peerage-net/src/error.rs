//! What can go wrong with an endpoint, by operation.

use peerage_machine::{InstanceName, Why};
use peerage_wire::Address;
use peerage_wire::hello::HelloError;

/// Why an endpoint was not bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// No identity was given.
    #[error("an endpoint needs an identity: Builder::identity")]
    NoIdentity,
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {detail}")]
    Listen {
        /// Which.
        address: Address,
        /// What kind of error the system gave.
        kind: std::io::ErrorKind,
        /// Its text.
        detail: String,
    },
    /// An address to announce is none that anybody could dial.
    #[error("cannot announce {address}: {why}")]
    Announce {
        /// Which.
        address: Address,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The scheme of an address has no transport.
    #[error("no transport for {0}; the endpoint has {1}")]
    NoTransport(Address, String),
    /// A list of cipher suites is empty: nobody could be dialled, or could dial.
    #[error("the endpoint allows no cipher suite: Config::{0} is empty")]
    NoSuite(&'static str),
    /// What the endpoint would say of itself is out of bounds.
    #[error("the endpoint's hello: {0}")]
    Hello(HelloError),
    /// The system gave no randomness.
    #[error("the system gave no randomness: {0}")]
    Entropy(String),
    /// A shard's thread or runtime could not start.
    #[error("a shard could not start: {0}")]
    Shard(String),
}

/// Why an instance was not hosted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The endpoint runs one of that name.
    #[error("the endpoint already runs {0}")]
    Taken(InstanceName),
    /// Its name or parameters are out of bounds, or there are too many.
    #[error("{0}")]
    Hello(HelloError),
    /// The endpoint is closed.
    #[error("the endpoint is closed")]
    Closed,
}

/// The instance, or its endpoint, is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the instance is closed")]
pub struct Closed;

/// Why no link came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot connect to {to}: {why}")]
pub struct DialError {
    /// Where to.
    pub to: Address,
    /// The reason.
    pub why: Why,
}
