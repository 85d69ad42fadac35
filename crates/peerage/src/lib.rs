//! Systems made of peers: one identity each, one encrypted link per pair, and on it a [`Mesh`] that delivers to everyone,
//! or a [`Broker`](rpc::Broker) where users and nodes call each other by their keys.
//!
//! No logic of its own: [`Peer`] is an [`Endpoint`](net::Endpoint) that opens a protocol by its network's name. What most
//! programs name is at the root, the rest in the crates behind it, which are the modules [`overlay`], [`rpc`], [`net`],
//! [`store`], [`identity`], [`machine`] and [`wire`]. Whoever needs one of them only can depend on its crate alone and gets the same
//! types.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use peerage::Peer;
//!
//! let alice = Peer::builder().listen("tcp://127.0.0.1:0".parse()?).bind().await?;
//! let bob = Peer::builder().bind().await?;
//! let (hers, his) = (alice.mesh("news")?, bob.mesh("news")?);
//! his.join(&alice.addresses()).await?;
//!
//! his.broadcast("hello, everybody").await?;
//! assert_eq!(hers.recv().await?.body().as_ref(), b"hello, everybody");
//! println!("{}", bob.close().await);
//! println!("{}", alice.close().await);
//! # Ok(())
//! # }
//! ```
//!
//! Where not everybody reaches everybody, users and nodes meet at a broker. All three are peers; the broker's address is
//! the only one that anybody needs:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use peerage::Peer;
//! use peerage::rpc::accounts::Kind;
//! use peerage::rpc::{Command, Declaration, Status};
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
//! let office = Peer::builder().listen("tcp://127.0.0.1:0".parse()?).bind().await?;
//! let (worker, ada) = (Peer::builder().bind().await?, Peer::builder().bind().await?);
//!
//! let broker = office.broker().network("office").start().await?;
//! // Keys that are known already; others get an invite: `broker.invite(Kind::User, ttl)`.
//! broker.admit(worker.id(), Kind::Node, "worker").await?;
//! broker.admit(ada.id(), Kind::User, "Ada").await?;
//!
//! let node = worker
//!     .node(office.id(), office.addresses())
//!     .network("office")
//!     .command::<Divide, _, _>(|_, divide| async move {
//!         match divide.divisor() {
//!             0.0 => Err(Status::invalid_argument("division by zero")),
//!             divisor => Ok(Quotient { value: divide.dividend() / divisor }),
//!         }
//!     })
//!     .connect()
//!     .await?;
//!
//! let client = ada.client(office.id(), office.addresses()).network("office").connect().await?;
//! let divide = |divisor| Divide { dividend: Some(10.0), divisor: Some(divisor) };
//! assert_eq!(client.node(worker.id()).call(divide(4.0)).await?.value, 2.5);
//! let refused = client.node(worker.id()).call(divide(0.0)).await;
//! assert_eq!(refused, Err(Status::invalid_argument("division by zero")));
//!
//! println!("{} calls were cut", client.close().await.cut);
//! println!("{} calls were cut", node.close().await.cut);
//! broker.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Services can be written as `.proto` files: see the crate `peerage-rpc-build`.
//!
//! A link can be kept without any protocol, and a peer ends in steps, each of which says what it did:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use peerage::{Peer, Suite};
//!
//! let server = Peer::builder()
//!     .listen("tcp://127.0.0.1:0".parse()?)
//!     .announce("tcp://peers.example.org:4000".parse()?)
//!     .suites([Suite::ChaChaPoly])
//!     .configure(|config| config.max_links = 100)
//!     .bind()
//!     .await?;
//! assert_eq!(server.addresses().first().map(ToString::to_string).as_deref(), Some("tcp://peers.example.org:4000"));
//!
//! let client = Peer::builder().bind().await?;
//! let here = server.addresses().pop().ok_or("it listens")?;
//! // Dialled again whenever it ends for a reason that may pass.
//! let mut link = client.maintain(&here);
//! assert_eq!(link.up().await?, server.id());
//! server.ready().await?;
//! assert_eq!(server.snapshot().links.first().and_then(|link| link.suite), Some(Suite::ChaChaPoly));
//!
//! println!("{}", client.drain(Duration::from_secs(5)).await);
//! println!("{}", client.close().await);
//! println!("{}", server.close().await);
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! Those of the crates behind it; each states its own: [`net`] (links), [`overlay`] (the mesh), [`rpc`] (broker, node,
//! client), [`store`] (what must survive), [`identity`] (keys), [`wire`] (formats).
//!
//! # Non-guarantees
//!
//! The last clone of a [`Peer`] that is dropped ends it without goodbyes; [`Peer::close`] says them.
//!
//! # Limits
//!
//! [`net::Config`] bounds what an endpoint costs, [`MeshConfig`] what a mesh does, [`rpc::BrokerConfig`] what a broker does.

mod peer;

pub use peer::{Peer, PeerBuilder};

pub use peerage_identity as identity;
pub use peerage_machine as machine;
pub use peerage_net as net;
pub use peerage_overlay as overlay;
pub use peerage_rpc as rpc;
pub use peerage_store as store;
pub use peerage_wire as wire;

pub use peerage_identity::Identity;
pub use peerage_net::{CloseReport, DrainReport, LinkState, Maintained, Snapshot};
pub use peerage_overlay::{Event, Events, Handled, Mesh, MeshConfig, Message, MessageId, Received};
pub use peerage_wire::{Address, PeerId, Suite};

/// Tests the README's program.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
