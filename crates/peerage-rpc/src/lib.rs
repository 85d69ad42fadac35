//! Broker, node and client: RPC where everyone is named by a key.
//!
//! Users and nodes meet at a [`Broker`], and need no address but the broker's. A [`Client`] calls commands of the broker, and of
//! nodes by their keys or groups; a [`Node`] runs them, and knows who calls. Commands have typed parameters and one reply, or
//! none, or streams either way, and bulk data beside them. Whatever is under way survives the links that it goes by.
//!
//! ```
//! use peerage_identity::Identity;
//! use peerage_rpc::accounts::Kind;
//! use peerage_rpc::{Broker, Client, Command, Declaration, Node, Status};
//!
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Divide {
//!     #[prost(double, optional, tag = "1")]
//!     dividend: Option<f64>,
//!     #[prost(double, optional, tag = "2")]
//!     divisor: Option<f64>,
//! }
//!
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Quotient {
//!     #[prost(double, tag = "1")]
//!     value: f64,
//! }
//!
//! impl Command for Divide {
//!     const NAME: &'static str = "divide";
//!     type Reply = Quotient;
//!     fn declaration() -> Declaration {
//!         Declaration::request().required(&[(1, "dividend"), (2, "divisor")])
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Broker::builder()
//!     .identity(Identity::generate()?)
//!     .listen("tcp://127.0.0.1:0".parse()?)
//!     .network("sums")
//!     .start()
//!     .await?;
//! let (ada, calculator) = (Identity::generate()?, Identity::generate()?);
//! broker.admit(ada.peer_id(), Kind::User, "Ada").await?;
//! broker.admit(calculator.peer_id(), Kind::Node, "calculator").await?;
//! let addresses = broker.endpoint().addresses();
//!
//! let node = Node::builder()
//!     .identity(calculator)
//!     .broker(broker.peer_id(), addresses.clone())
//!     .network("sums")
//!     .command::<Divide, _, _>(|_, divide| async move {
//!         if divide.divisor() == 0.0 {
//!             return Err(Status::invalid_argument("division by zero"));
//!         }
//!         Ok(Quotient { value: divide.dividend() / divide.divisor() })
//!     })
//!     .connect()
//!     .await?;
//!
//! let client =
//!     Client::builder().identity(ada).broker(broker.peer_id(), addresses).network("sums").connect().await?;
//! let calculator = client.node(node.endpoint().peer_id());
//! let quotient = calculator.call(Divide { dividend: Some(10.0), divisor: Some(5.0) }).await?;
//! assert_eq!(quotient.value, 2.0);
//! let by_zero = calculator.call(Divide { dividend: Some(10.0), divisor: Some(0.0) }).await;
//! assert_eq!(by_zero, Err(Status::invalid_argument("division by zero")));
//! # client.close().await;
//! # node.close().await;
//! # broker.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`PartyMachine`] and [`BrokerMachine`] are the protocol, pure; the rest are handles over them. [`accounts`] say who may talk,
//! [`credentials`] keep what a client or a node connects with.
//!
//! # Guarantees
//!
//! - Whoever calls is who it says: a handler's [`Context`] has the key, the kind and the session that the broker has proven; a party
//!   talks to the broker of the key that it was given, and to nobody else.
//! - In a session and direction, calls, replies and messages of streams arrive in order and once, over any number of links,
//!   within the grace ([`BrokerConfig::grace`]). At each callee, one-way commands of a caller are run one after the other; requests start in order, after
//!   the one-way commands before them, and run beside each other.
//! - Every call ends once: with its reply, or with a [`Status`] that says whether it may have run. So does every stream. One-way
//!   commands that are not run are told ([`Party::flush`], [`Party::failed_sends`]).
//! - With the journal ([`BrokerBuilder::journal`]) a command that the broker ran is never run again, also after it was killed:
//!   what its handler staged in [`Context::batch`], the reply, and the mark that it is done are written together, before the
//!   reply or the acknowledgement leaves.
//! - A call that a node was given is never given to another one, unless its command is [`Declaration::idempotent`].
//! - What a command declares is checked before its handler runs, where the handler is. Which calls go to nodes at all, the broker's
//!   application says ([`Model::calls_to_nodes`]). A handler that panics answers
//!   [`Code::Internal`]; one that nobody waits for any more is dropped.
//! - Of calls to a node that are sealed ([`Target::sealed`]) nobody between the caller and the node learns or changes the command, its
//!   parameters, its reply, the status of a handler, or what flows in its streams and bulk data; each end has proven its key to the
//!   other. What is changed, said twice, in another order or under another call's name, and a stream that has lost a part or its end,
//!   is told as an error ([`Code::DataLoss`] at the caller), and nobody else is harmed.
//! - A reader that is slow makes its own sender wait, and nobody else. Whoever has too much under way waits, or is told
//!   [`Code::ResourceExhausted`].
//! - No account takes all the room of a node, in however many sessions and groups it calls: it may have more calls there, bytes of them and
//!   streams while it has less of these than is left, and is told [`Code::ResourceExhausted`] beyond. So one alone has at most half, and
//!   others find the rest. The broker's own application counts as one more account.
//!
//! # Non-guarantees
//!
//! - What a handler does elsewhere than in [`Context::batch`] may be done again after a crash: [`Context::call_id`] tells that it is the
//!   same call.
//! - Without the journal, a broker that is restarted has no sessions: calls that were under way end as
//!   [`Code::Unavailable`], and [`Party::lost`] says how far the session had come.
//! - Streams and bulk data do not survive a restart of the broker, nor of the node.
//! - Time for a call is not kept to the microsecond: who runs it learns how much was left when it was made.
//! - Many accounts together can fill a node: each that comes finds less. With streams that never end, seven that come one after the other
//!   leave one of 128 places.
//! - The broker sees what it passes on, unless it is sealed. Of sealed calls it sees who calls whom, when, how much, what kinds of streams
//!   flow, that a call has ended, and how long it may take. It can refuse, hold up and lose calls, and say of one that it was not run
//!   when it was, so that it is made again.
//!
//! # Limits
//!
//! [`Limits`], for each session and direction: 1,024 calls under way with 4 MiB of parameters, 64 of them with streams; 4,096
//! messages and 256 KiB of each stream under way; parameters, replies and messages of at most 64 KiB, and 24 KiB less than the links of both
//! ends take, which is at least [`LEAST_MAX_MESSAGE`]; what is longer travels as bulk data, of any length. A node has twice as many calls, bytes of them and streams ([`BrokerConfig::node_room`]), for all its callers together. [`BrokerConfig`]: 16,384 sessions, 64 of one user, one of a node; 128 MiB held for a user in all its sessions,
//! 256 MiB for a node, 1 GiB for all, and from half of these on an account takes no more calls ([`BrokerConfig::worst_case_bytes`]). Command names have at most
//! [`MAX_COMMAND`] bytes. A node keeps 4,096 sealed channels, one for each caller's session, and 256 handshakes under way; the oldest are
//! forgotten, and made again when they are used. Sealing takes up to 200 bytes of a message's limit. A party remembers the last 1,024 one-way commands that failed.
//! Small packets come together: a [`bytes::Bytes`] of parameters or of a reply that a program keeps, keeps up to 8 KiB in memory, unless it is copied.

pub mod accounts;
mod broker;
mod convert;
pub mod credentials;
mod event;
mod fast;
mod fit;
mod flow;
mod gate;
mod handle;
mod lane;
mod packet;
mod party;
mod rising;
mod seal;
mod session;
mod status;
mod talk;

pub use broker::{AdmitError, BrokerConfig, BrokerMachine, JOURNAL_PREFIX, MAX_OFFERS, Policy, SessionInfo};
pub use event::{Answer, Caller, Event, Run, RunKey, SendError, SessionKey, StreamKey};
pub use fit::LEAST_MAX_MESSAGE;
pub use handle::{
    AdminError, Admitted, AtParty, Batch, Broker, BrokerBuilder, BrokerRef, BulkCall, BulkReader, Call,
    CallName, Calling, Client, ClientStream, Command, Commands, CommandsError, ConnectError, Context,
    Declaration, FailedSend, Left, Lost, Method, Model, Node, Offers, Party, PartyBuilder, Place, Receiver,
    Sender, Sent, Service, Session, Standing, StartError, Target,
};
pub use packet::{Destination, Limits, MAX_COMMAND, MAX_GROUP, MAX_GROUPS, Packet, SessionId, Shape};
pub use party::{NotPlaced, PartyConfig, PartyMachine, Placed, Placing, UnderWay};
pub use status::{Code, MAX_DETAIL_BYTES, MAX_DETAILS, MAX_STATUS_MESSAGE, Status};
