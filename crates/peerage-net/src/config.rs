//! What an endpoint may cost.

use std::time::Duration;

use peerage_identity::suites_by_speed;
use peerage_link::{Capacity, LinkConfig};
use peerage_wire::Suite;
use peerage_wire::limits::MAX_RECORD;

use crate::backoff::BackoffConfig;
use crate::driver::WRITE_AHEAD;
use crate::scratch::SCRATCH;

/// Where an endpoint's links and machines run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shards {
    /// So many threads of the endpoint's own, each with a current-thread runtime; a link stays on the one it was given
    /// to. One is enough for most: a hand-off to another thread costs more than opening a record.
    Threads(usize),
    /// Tasks of the runtime that calls `bind`: for tests with a paused clock, and for programs that have a
    /// current-thread runtime of their own.
    Ambient,
}

/// Times and bounds of an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Times and bounds of each link.
    pub link: LinkConfig,
    /// Where links and machines run. One thread.
    pub shards: Shards,
    /// For one connection attempt of a transport. 5 s. A guess.
    pub connect_timeout: Duration,
    /// When [`crate::Endpoint::maintain`] dials again.
    pub redial: BackoffConfig,
    /// How long [`crate::Endpoint::close`] lets links flush. 2 s. A guess.
    pub close_grace: Duration,
    /// The most links, those in their handshake included. 4096; a stranger beyond that is told so and
    /// hung up on, and counted as `links`.
    pub max_links: usize,
    /// The most strangers in their handshake at once. 512: each may hold a socket and about 4 KiB, or 16 KiB when it announces a long message, for
    /// [`LinkConfig::handshake_timeout`]. One more is told so and hung up on, and counted as `handshakes`.
    pub max_handshakes: usize,
    /// Half-open handshakes from which on strangers need a cookie: they are told one, hung up on, and counted as `cookie`;
    /// dialers come back with it by themselves. 256: half of the places stay for those who can be reached where they say
    /// they are. 0 asks everybody.
    pub cookies_above: usize,
    /// The most handshakes that strangers begin in a second without a cookie. 500: a tenth of a core for key operations, if
    /// they take 0.2 ms each, an estimate. Honest crowds beyond that come in by cookies, at the price of one more
    /// connection.
    pub handshakes_per_second: u32,
    /// The most handshakes at once from one address, IPv6 addresses of one /64 being one, while cookies are asked for; and
    /// never more than a quarter of the places that are free then, nor for a network, an IPv4 /24 or an IPv6 /48, more than
    /// half: 52 and 86 of 256, and less for each the more there are. 128. One more is told so and hung up on, and counted
    /// as `address_handshakes`.
    pub max_handshakes_per_address: usize,
    /// The most handshakes that one address begins in a second with cookies; a few addresses may share it. 2,000: less than
    /// half a core, by the same estimate. One more is told so and hung up on, and counted as `address_rate`.
    pub handshakes_per_second_per_address: u32,
    /// The most strangers of each listener who are not in: of whom a cookie is asked, or who have just been told that there
    /// is no room. 1,024: each a socket and 1 KiB. When one more comes, the one who waited longest is hung up on, and
    /// counted as `door`.
    pub max_at_door: usize,
    /// The most strangers who come from one address in a second without showing a good cookie, while cookies are asked for.
    /// With the next one the system is asked not to answer connections from there for [`Config::shed_for`], and then again
    /// at a tenth of it, as long as it goes on: on Linux, by a filter on the listening socket, for 64 addresses at a time.
    /// Never an address to which there is a link, or from which a good cookie came within two minutes. 1,000: with 12 µs
    /// each, what one address may cost is a hundredth of a core. 0 for never.
    pub strangers_per_second_per_address: u32,
    /// For how long. 5 s: whoever dials honestly from the same address waits so long after the last stranger at most, and
    /// meanwhile sees a dial that is not answered.
    pub shed_for: Duration,
    /// The most links that one IP address may have open to us; IPv6 addresses of one /64 are one. 1024: many peers may
    /// share an address. One more is told so and hung up on, and counted as `address`.
    pub max_inbound_per_address: usize,
    /// The cipher suites to dial with, at least one: the first, and when the listener answers that it takes another one
    /// instead, that one, once, if it is in this list. All, the fastest on this processor first
    /// ([`peerage_identity::suites_by_speed`]). That answer comes in clear, so whoever is on the way can make us use
    /// any suite in this list, and no other: leave out what would be too weak, not only what is slow.
    pub dial_suites: Vec<Suite>,
    /// The cipher suites that a dialer may use, at least one; the first is named to one that uses another. All: each is
    /// as safe, and it is the dialer who knows which of them is fast for it. A listener insists by naming only one.
    pub listen_suites: Vec<Suite>,
    /// In how many networks (IPv4 /16, IPv6 /32) peers that this endpoint dialled must see it at an address, beside
    /// being more than half, before it tells others to dial there, with the ports that it listens on. 3: one liar, or
    /// one provider's, is not enough. `usize::MAX` for never.
    pub observed_votes: usize,
    /// How much each instance may queue on each link, in bytes of interactive and bulk messages. 1 MiB. A machine that
    /// sends more gets `Undelivered`, or the message is counted as dropped.
    pub queue_bytes: u64,
    /// By how much the windows of all links together may grow beyond [`LinkConfig::window`], in bytes. 64 MiB: what one
    /// link may have of it, half, fills 320 MB/s at 100 ms. Links that ask for more than there is have equal parts.
    pub window_memory: u64,
    /// For messages that arrive in parts, over all links, in bytes. 128 MiB: sixteen links have room for 4 MiB each at
    /// once, the next ones wait their turn. At least [`LinkConfig::max_message`], and taken to be that when it is less.
    pub message_memory: u64,
    /// Whether logs show addresses, in spans and in reasons. True. Without, they show `hidden`, and of a reason its
    /// label; [`crate::Endpoint::snapshot`] shows them all the same.
    pub log_addresses: bool,
    /// Name and version of the program, for people at the other end; at most 128 bytes.
    pub software: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            link: LinkConfig::default(),
            shards: Shards::Threads(1),
            connect_timeout: Duration::from_secs(5),
            redial: BackoffConfig::default(),
            close_grace: Duration::from_secs(2),
            max_links: 4096,
            max_handshakes: 512,
            cookies_above: 256,
            handshakes_per_second: 500,
            max_handshakes_per_address: 128,
            handshakes_per_second_per_address: 2_000,
            max_at_door: 1_024,
            strangers_per_second_per_address: 1_000,
            shed_for: Duration::from_secs(5),
            max_inbound_per_address: 1024,
            dial_suites: suites_by_speed().to_vec(),
            listen_suites: suites_by_speed().to_vec(),
            observed_votes: 3,
            queue_bytes: 1 << 20,
            window_memory: 64 << 20,
            message_memory: 128 << 20,
            log_addresses: true,
            software: concat!("peerage/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// What a connection costs besides messages: its task, keys, tables and socket, and what is kept of a `Hello` of 16 KiB.
/// An estimate on the safe side.
const CONNECTION: u64 = 64 << 10;

impl Config {
    /// What peers are told of how many connections there may be.
    pub(crate) fn capacity(&self) -> Capacity {
        let told = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Capacity {
            links: told(self.max_links),
            links_per_address: told(self.max_inbound_per_address),
            handshakes: told(self.max_handshakes),
        }
    }

    /// The most bytes of messages, and of what it takes to move them, that peers can make an endpoint hold, whoever they
    /// are and whatever they do: every link with every channel full both ways, which is far from what honest peers
    /// cause. With [`LinkConfig::max_channels`] on each link; see [`Config::worst_case_bytes_with`].
    ///
    /// Beyond it come what machines keep of what they were given, and allocators' overhead.
    pub fn worst_case_bytes(&self) -> u64 {
        self.worst_case_bytes_with(self.link.max_channels)
    }

    /// As [`Config::worst_case_bytes`] for an endpoint that hosts so many instances, because a channel needs an instance
    /// on both sides. It is the sum of
    ///
    /// - [`Config::max_links`] times what a link has of its own: [`LinkConfig::worst_case_inbound_bytes_with`], the
    ///   queues of each instance, what is sealed ahead of the socket, part of a record, and the connection itself;
    /// - [`Config::window_memory`], with an eighth that buffers have to spare, and [`Config::message_memory`];
    /// - a read buffer for each shard.
    ///
    /// By default and with three instances, that is 50 MiB for each link: 1 MiB that the peer can fill by itself, and
    /// 48.75 MiB of queues, should every machine send 16 MiB at once to a peer that does not read.
    pub fn worst_case_bytes_with(&self, instances: u32) -> u64 {
        let instances = instances.min(self.link.max_channels);
        // One message that is longer than the queue may stand in it alone.
        let queues = self.queue_bytes.max(self.link.max_message) + self.link.control_queue;
        let link = self.link.worst_case_inbound_bytes_with(instances)
            + u64::from(instances) * queues
            + (WRITE_AHEAD + 2 * MAX_RECORD) as u64
            + CONNECTION;
        let shards = match self.shards {
            Shards::Threads(threads) => threads.max(1) as u64,
            Shards::Ambient => 1,
        };
        self.max_links as u64 * link
            + self.window_memory / 8 * 9
            + self.message_memory.max(self.link.max_message)
            + shards * SCRATCH as u64
    }
}
