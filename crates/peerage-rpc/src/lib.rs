//! Broker, node and client: RPC where everyone is named by a key.

pub mod accounts;
mod broker;
mod convert;
pub mod credentials;
mod event;
mod fast;
mod flow;
mod gate;
mod handle;
mod lane;
mod packet;
mod party;
mod seal;
mod session;
mod status;
mod talk;

pub use broker::{AdmitError, BrokerConfig, BrokerMachine, JOURNAL_PREFIX, SessionInfo};
pub use event::{Answer, Caller, Event, Run, RunKey, SendError, SessionKey, StreamKey};
pub use handle::{
    AdminError, Admitted, AtParty, Batch, Broker, BrokerBuilder, BrokerRef, BulkCall, BulkReader, Call,
    CallName, Calling, Client, ClientStream, Command, Commands, CommandsError, ConnectError, Context,
    Declaration, FailedSend, Left, Lost, Method, Model, Node, Offers, Party, PartyBuilder, Place, Receiver,
    Sender, Sent, Service, Session, Standing, StartError, Target,
};
pub use packet::{Destination, Limits, MAX_COMMAND, MAX_GROUP, MAX_GROUPS, Packet, SessionId, Shape};
pub use party::{NotPlaced, PartyConfig, PartyMachine, Placed, Placing};
pub use status::{Code, MAX_DETAIL_BYTES, MAX_DETAILS, MAX_STATUS_MESSAGE, Status};
