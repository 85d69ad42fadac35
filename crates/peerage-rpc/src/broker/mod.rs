//! The broker: who may talk, who is there, and which call goes where.

mod admin;
mod again;
mod calls;
mod check;
mod config;
mod doors;
mod held;
mod journal;
mod machine;
mod nodes;
mod policy;
mod sessions;

pub use admin::AdmitError;
pub use config::BrokerConfig;
pub use journal::JOURNAL_PREFIX;
pub use machine::{BrokerMachine, SessionInfo};
pub use policy::Policy;
pub use sessions::MAX_OFFERS;
