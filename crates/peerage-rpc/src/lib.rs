//! Broker, node and client: RPC where everyone is named by a key.

mod accounts;
mod convert;
mod event;
mod flow;
mod gate;
mod lane;
mod packet;
mod party;
mod session;
mod status;
mod talk;

pub use packet::{Limits, SessionId, Shape};
pub use status::{Code, Status};
