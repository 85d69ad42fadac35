//! Hosts any machine by the thousand in virtual time on one seeded network.

mod config;
mod dial;
mod faults;
mod host;
mod links;
mod names;
mod node;
mod queue;
mod read;
mod sim;
mod stats;
mod trace;

pub use config::{Config, Judge, Verifier};
pub use names::{Instance, NodeId, Start, address, peer};
pub use read::LinkView;
pub use sim::Sim;
pub use stats::{ByClass, Dropped, Observed, Stats, Traffic};
