//! A client or a node: whoever has a session with a broker.
//!
//! It dials the broker, opens its session, and goes on with it whenever the link is lost, until the session is lost too,
//! which is told. Nothing here knows what a client does differently from a node: both make calls and run them.

mod calls;
mod commands;
mod config;
mod link;
mod machine;
mod sessions;

pub(crate) use calls::{fail, micros, name_of};
pub use config::{NotPlaced, PartyConfig, Placed, Placing, UnderWay};
pub use machine::PartyMachine;
