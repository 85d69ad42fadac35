//! Real links: dial, listen, handshake, limits, shards; hosts machines on tokio over TCP or memory.
//!
//! An [`Endpoint`] is one identity with any number of links, one for each peer, and any number of protocol instances
//! that share them. An instance is a [`peerage_machine::Machine`], hosted with [`Endpoint::host`]; protocol crates wrap
//! that in handles of their own.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use peerage_identity::Identity;
//! use peerage_net::Endpoint;
//!
//! let alice = Endpoint::builder().identity(Identity::generate()?).listen("tcp://127.0.0.1:0".parse()?).bind().await?;
//! let bob = Endpoint::builder().identity(Identity::generate()?).bind().await?;
//! let found = bob.connect(alice.addresses().first().ok_or("no address")?).await?;
//! assert_eq!(found, alice.peer_id());
//! println!("{}", bob.close().await);
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - At most one link for each pair of running endpoints; a restarted peer replaces its old link at once, but for
//!   instances that asked to coexist ([`OnReturn`]).
//! - A peer that lost its link and dials anew has its place within a second, also while the old link looks alive here.
//! - Every dial ends in one answer, every link in one reason, on both sides where there are two.
//! - A dial finds the link that there is, or is on its way, in either direction. When that one ends before the dial has its
//!   answer, the dial's own addresses are tried.
//! - A link has a cipher suite that both ends' [`Config`]s list, whatever anybody says in clear; its snapshot names it.
//! - Nothing waits for a slow peer: each queue has a bound, and each bound a documented outcome
//!   ([`Config`] names them all).
//! - [`Endpoint::close`] cannot fail, takes at most its grace and a little, and says what was cut; [`Endpoint::drain`] takes
//!   at most the grace that it is given, and says what is left.
//! - No task outlives its endpoint, and the addresses that it listened on are free: when `close` returns, when the last handle
//!   is dropped, or for [`Shards::Ambient`] as soon as the runtime has had its turn after that.
//! - Nobody is told an address that cannot be dialled: in place of a wildcard stands the machine's own.
//!
//! # Non-guarantees
//!
//! - That a queued message arrives. Protocols above say what they promise.
//! - Redial for machines. An endpoint dials when a machine asks, and says why a dial failed; the application's links are
//!   dialled again when it asks for that, by [`Endpoint::maintain`].
//! - That an elected address ([`Config::observed_votes`]) leads here: a router may see dials come from where it lets
//!   nobody in. [`Builder::announce`] says what is so.
//!
//! # Limits
//!
//! [`Config`] bounds links in all (4,096), half-open handshakes (512), handshakes begun in a second without a cookie (500),
//! links and handshakes from one address (1,024, 128; an IPv6 prefix of 64 bits is one address), strangers at the door
//! (1,024), queues and message sizes. A dialer that meets one of them is told which. A stranger who is asked for a cookie
//! costs a hash and what the system takes for a connection; `docs/adr/0004-strangers-at-the-door.md` has the figures.
//!
//! On Linux, an address that sends more than 1,000 such strangers a second is not answered for 5 s, and again while it goes
//! on, 64 addresses at a time; whoever dials honestly from there meanwhile is not answered either. Elsewhere, and where the
//! system refuses the filter, they are all answered. A flood from many addresses with fewer each is answered, too.

mod backoff;
mod clock;
mod close;
mod config;
mod cookies;
mod counters;
mod dial;
mod door;
mod driver;
mod dropped;
mod endpoint;
mod error;
mod hosted;
mod hub;
mod link_handle;
mod listen;
mod maintain;
mod own;
mod places;
mod rates;
mod scratch;
mod shards;
mod shed;
mod shown;
mod snapshot;
mod source;
mod spec;
pub mod transport;
mod votes;
mod waiter;

pub use backoff::{Backoff, BackoffConfig};
pub use close::{CloseReport, DrainReport};
pub use config::{Config, Shards};
pub use endpoint::{Builder, Endpoint};
pub use error::{BindError, Closed, DialError, HostError};
pub use hosted::{Hosted, WeakHosted};
pub use maintain::{LinkState, Maintained};
pub use peerage_machine::OnReturn;
pub use rates::{Rate, Rates};
pub use snapshot::{LinkSnapshot, Snapshot, Totals};
pub use spec::{InstanceSpec, Sink, Start, StoreAnswer};
pub use transport::{MemoryTransport, TcpTransport, Transport};
pub use votes::Observed;
