//! Broker, node and client on real links: what a program holds.
//!
//! Thin: the protocol is in [`crate::PartyMachine`] and [`crate::BrokerMachine`]. Here are queues between them and the
//! application, futures that wait for their answers, and the task that runs handlers.

mod admin;
mod broker;
mod broker_builder;
mod builder;
mod bulk;
mod call;
mod command;
mod commands;
mod context;
mod desk;
mod directory;
mod inbox;
mod keeper;
mod line;
mod model;
mod news;
mod offers;
mod party;
mod presence;
mod sealed;
mod seals;
mod sends;
mod slot;
mod stream;
mod target;
mod worker;

pub use admin::AdminError;
pub use broker::{Broker, BrokerRef, Session};
pub use broker_builder::BrokerBuilder;
pub use builder::{Client, Node, PartyBuilder};
pub use bulk::BulkReader;
pub use call::{BulkCall, Call, Calling};
pub use command::{Command, Declaration, Method};
pub use commands::{Commands, CommandsError, Service};
pub use context::{AtParty, CallName, Context, Place};
pub use keeper::Batch;
pub use model::Model;
pub use offers::Offers;
pub use party::{Admitted, ConnectError, Left, Lost, Party, Standing, StartError};
pub use sends::FailedSend;
pub use stream::{ClientStream, Receiver, Sender};
pub use target::{Sent, Target};
