//! The mesh: everyone hears what anyone says.
//!
//! | file | thought |
//! |---|---|
//! | `machine` | the parts as one machine |
//! | `membership`, `passive` | who is a neighbour: HyParView |
//! | `broadcast`, `publish`, `tree`, `nearer`, `relay`, `spare`, `repair`, `pulls` | messages to everyone: Plumtree with a tree for each origin |
//! | `compare`, `sessions` | what only one of two neighbours has |
//! | `window`, `missing`, `ranges` | what is kept, what is lacking, what was seen |
//! | `direct` | messages to one |
//! | `links`, `names` | what the parts share: links, their room, ids; numbers for streams |
//! | `holdings` | what each part holds, against what it may |
//! | `score`, `meter` | how peers behave, and who is shunned; how much a link may say |
//! | `packet`, `convert` | the words, and their bytes |

mod announce;
mod broadcast;
mod compare;
mod config;
mod convert;
mod direct;
mod error;
mod event;
mod held;
mod holdings;
mod kept;
mod links;
mod lru;
mod machine;
mod membership;
mod message;
mod meter;
mod missing;
mod names;
mod nearer;
mod neighbour;
mod packet;
mod passive;
mod promises;
mod publish;
mod pulls;
mod ranges;
mod relay;
mod repair;
mod room;
mod score;
mod sessions;
mod snapshot;
mod spare;
mod stream;
mod tree;
mod window;

pub use config::MeshConfig;
pub use error::{BroadcastError, ConfigError, JoinError, WhisperError};
pub use event::{Loss, MeshAnswer, MeshEvent};
pub use holdings::Overfull;
pub use machine::{MeshMachine, MeshStart};
pub(crate) use membership::BOOK;
pub use message::{IntoParts, Kind, Message, MessageId, MessageIdError, Receipt};
pub use packet::Packet;
pub use score::Conduct;
pub use snapshot::{MeshSnapshot, MeshStats, NeighbourInfo};
