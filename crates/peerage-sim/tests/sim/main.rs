//! What the simulator promises, shown with a machine that does as it is told.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first thing that is not as it should be")]

mod determinism;
mod dials;
mod faults;
mod links;
mod network;
mod puppet;
mod returns;
mod services;
mod watches;
