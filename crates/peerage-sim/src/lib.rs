//! Hosts any [`Machine`](peerage_machine::Machine) by the thousand in virtual time on one seeded, hostile network.
//!
//! The machines are the ones that `peerage-net` hosts on real links. The simulator carries out every effect as a real
//! host does: it dials, keeps at most one link per pair of running nodes, queues within credit, closes what nobody
//! holds, stores, verifies. And it does what real networks do: nodes crash, restart and leave, links stall, break and are
//! half open, the network falls apart, in both directions or one, and heals, some can dial and not be dialled, regions are
//! far from each other, wall clocks disagree and drift. Some nodes run a machine that only looks like the others
//! ([`Role::Byzantine`]); those who look on ([`Watch`]) see every event, and stop the run at what must never be.
//!
//! `cargo xtask sim` runs the protocols' scenarios on it, by the ten thousand, and says what came of them.
//!
//! ```
//! use std::time::Duration;
//! use bytes::{BufMut, Bytes, BytesMut};
//! use peerage_machine::{DialId, Input, Instant, LinkId, Machine, Malformed, Message, Now, OutboxOf, Target};
//! use peerage_sim::{Config, Instance, Sim, address, peer};
//!
//! /// A rumour, told to every neighbour when it is news.
//! #[derive(Clone, Debug)]
//! struct Rumour(u8);
//! # impl Message for Rumour {
//! #     fn encoded_len(&self) -> usize { 1 }
//! #     fn encode(&self, into: &mut BytesMut) { into.put_u8(self.0) }
//! #     fn decode(bytes: Bytes) -> Result<Self, Malformed> {
//! #         bytes.first().map(|byte| Self(*byte)).ok_or_else(|| Malformed::new("rumour", "it is empty"))
//! #     }
//! # }
//!
//! #[derive(Default)]
//! struct Gossip {
//!     links: Vec<LinkId>,
//!     known: Vec<u8>,
//! }
//!
//! impl Gossip {
//!     fn hear(&mut self, rumour: u8, out: &mut OutboxOf<Self>) {
//!         if !self.known.contains(&rumour) {
//!             self.known.push(rumour);
//!             out.emit(rumour);
//!             self.links.iter().for_each(|link| out.send(*link, Rumour(rumour)));
//!         }
//!     }
//! }
//!
//! impl Machine for Gossip {
//!     type Message = Rumour;
//!     type Event = u8;
//!     type Answer = ();
//!
//!     fn on_input(&mut self, _: Now, input: Input<Rumour>, out: &mut OutboxOf<Self>) {
//!         match input {
//!             Input::Up { link, .. } => self.links.push(link),
//!             Input::Down { link, .. } => self.links.retain(|up| *up != link),
//!             Input::Message { message: Rumour(rumour), .. } => self.hear(rumour, out),
//!             _ => (),
//!         }
//!     }
//!     fn on_timer(&mut self, _: Now, _: &mut OutboxOf<Self>) {}
//!     fn deadline(&self) -> Option<Instant> {
//!         None
//!     }
//! }
//!
//! let mut sim = Sim::new(Config::seeded(42));
//! for n in 0..50 {
//!     sim.add(peer(n), [address(n)], Instance::new("gossip", "village"), |_start| Gossip::default());
//! }
//! for (n, node) in sim.nodes().enumerate() {
//!     let next = address((n as u32 + 1) % 50);
//!     sim.command(node, |_, _, out| out.dial(DialId(0), Target::Address(next)));
//! }
//! assert!(sim.run_until_quiet(Duration::from_secs(10)));
//!
//! let somebody = sim.nodes().next().unwrap();
//! sim.command(somebody, |gossip, _, out| gossip.hear(7, out));
//! sim.run_for(Duration::from_secs(2));
//! assert!(sim.nodes().all(|node| sim.machine(node).unwrap().known == [7]));
//! ```
//!
//! # How things happen
//! - **Dialling** takes one and a half round trips of the pair, whose latency is drawn once. An address leads to the node
//!   that was added with it; a peer is tried at the addresses of the dial, one after the other, and the host knows no
//!   others. Dials that cross become one link: that of the smaller key, held by both.
//! - **A message** arrives after the link's transmission time, latency and jitter, in order within its class; its credit
//!   comes back to the sender at the same instant.
//! - **A link** goes down at the end that closes it at once, at the other after everything that was sent to it. A new link
//!   of the same two starts comes up only when both ends have seen the old one down.
//! - **A stall** of a link's direction ([`Config::stalls_per_second`], [`Sim::stall`]) holds back what is sent from then on,
//!   in order, as lost packets hold back a stream.
//! - **A crash** ends the machine; the other ends have a ghost of the link until they notice, or until a link to the new
//!   incarnation takes over ([`Why::Superseded`](peerage_machine::Why::Superseded)). An instance that is
//!   [`Instance::coexisting`] keeps both, and a link to each of several nodes with one key ([`Sim::add_session`]).
//! - **Trouble** comes by itself, each second and link with its own probability: resets, links that are half open, stalls.
//! - **A check of a signature** ends as [`Config::verifier`] says: [`Verifier::remembering`] tells a forgery from the
//!   genuine, and costs ten thousand receivers of one message one check.
//! - **The steady clock** of a node begins at zero with each start, and deadlines are met to the microsecond.
//!
//! # Guarantees
//! - One [`Config::seed`] and the same calls give the same run, in every process and on every platform:
//!   [`Sim::trace_hash`] is equal. No hash map is iterated, no clock is read, no logarithm is taken, and one queue orders
//!   everything by (time, order of scheduling).
//! - Every dial ends in exactly one `Dialed` or `DialFailed` unless the dialler crashes. Every `Up` has one `Down`, unless
//!   the node crashes. No message or credit is for a link that is not up. A [`LinkId`](peerage_machine::LinkId) is not
//!   given twice within a node.
//! - Every message that a machine sends is delivered or counted in [`Stats::dropped`] with its reason.
//! - A batch is in the store wholly or not at all, also after a crash; what was `Stored` is there.
//! - Nothing happens after a [`Violation`].
//! - A machine that leaves its deadline in the past twice stops the run with a panic that names it. A test that fails
//!   while a simulation lives prints the seed ([`Sim::reproduction`]).
//!
//! # Non-guarantees
//! - One node runs one machine. Links are not shared between instances here, so closing a channel closes the link.
//! - Where messages move as values, nothing is encrypted, and fragments do not interleave: with [`Config::bandwidth`], a
//!   message once begun is sent to its end. [`Config::wire`] has links as on real connections instead, with handshake,
//!   records, fragments, credit and pings, or all of that but the handshake ([`Wire::without_handshake`]); what arrives is
//!   then all counted as interactive, how a link ends is still the simulator's affair, and what a link has not yet written
//!   when it is closed is not counted as dropped.
//! - Messages are handed over one by one, never in batches.
//! - A partition breaks the links across it even if it heals at once.
//!
//! # Limits
//! - 2^32 nodes and 2^32 pending events. About 3.5 million events a second with 1,000 nodes on one core of 2024, 1.6 million with
//!   10,000 (`cargo run --release -p peerage-sim --example throughput`).
//!   100,000 meshes, forming and then hearing ten broadcasts, within 56 s of virtual time: 28 million events in 240 s of one
//!   core, 4.1 GiB, nearly all of both the meshes' own.
//! - What machines emit and answer is kept until it is taken, unless a [`Watch`] keeps it.
//! - 64 one-way walls at once.
//! - Control messages are at most 64 KiB, and 256 KiB of them are under way in one direction of a link.

mod chance;
mod checks;
mod config;
mod deliver;
mod dial;
mod faults;
mod host;
mod links;
mod names;
mod node;
mod queue;
mod read;
mod role;
mod sim;
mod stats;
mod trace;
mod verifier;
mod watch;
mod wire;

pub use chance::exponential;
pub use checks::{bounded, holds, once, readable, within_credit};
pub use config::{Config, Region, Route};
pub use names::{Instance, NodeId, Start, address, peer};
pub use read::LinkView;
pub use role::{Impostor, Role};
pub use sim::Sim;
pub use stats::{ByClass, Dropped, Observed, Stats, Traffic};
pub use verifier::{Judge, Verifier};
pub use watch::{Sent, Violation, Watch};
pub use wire::{Wire, WireEnd};
