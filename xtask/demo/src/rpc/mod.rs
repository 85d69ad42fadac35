//! A broker, its nodes and its users, shown: what Messidge's own demo does, and what it does not survive.

mod broker;
mod child;
mod client;
mod commands;
mod hall;
mod node;
mod outcome;
mod party;
mod proxy;
mod scenario;
mod steps;
mod storm;

pub(crate) use child::{SUBCOMMAND, main};
pub(crate) use scenario::run;
