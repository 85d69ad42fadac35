//! Hosts any machine by the thousand in virtual time on one seeded network.

mod config;
mod dial;
mod faults;
mod host;
mod links;
mod names;
mod queue;
mod sim;
mod stats;
mod trace;

pub use config::{Config, Judge, Verifier};
pub use names::{Instance, NodeId, Start, address, peer};
pub use sim::{LinkView, Sim};
pub use stats::{ByClass, Dropped, Observed, Stats, Traffic};
