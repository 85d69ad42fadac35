//! Times and bounds of a broker.

use std::time::Duration;

use super::Policy;
use super::held::STEP;
use crate::accounts::Kind;
use crate::convert::MAX_PACKET;
use crate::packet::Limits;
use crate::talk::ITEM_COST;

/// Times and bounds of a broker, all of them.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// What each party may have under way, in each direction.
    pub limits: Limits,
    /// How many times [`Limits::calls`], [`Limits::call_bytes`] and [`Limits::streams`] a node has, for what all callers together may
    /// have under way at it. 2, at least 1: an account may have more at a node while it has less there than is left, so that one
    /// alone gets half of the node's room, which is all that a session may have. Costs as many times
    /// [`BrokerConfig::worst_case_session_bytes`] for each node.
    pub node_room: u32,
    /// The most bytes that are held for an account in all its sessions. 128 MiB, and for a node [`BrokerConfig::node_room`] times as much:
    /// twice what one session holds of replies that are not acknowledged, at most. From half of it on, calls of the account and to
    /// it are refused with [`crate::Code::ResourceExhausted`]; beyond it, the largest of its sessions is ended with that.
    pub account_bytes: u64,
    /// The most bytes that are held for all accounts. 1 GiB, which eight accounts fill that do their worst. Calls of an account that
    /// holds as much as is left, and to it, are refused; beyond it, the account that holds most loses the largest of its sessions.
    pub broker_bytes: u64,
    /// How long a user's session outlives its link. 60 s: who changes networks is back by then.
    pub grace: Duration,
    /// How long a node's session outlives its link. 5 s: calls that it was given wait so long for the answer, new ones fail
    /// at once. Shorter where it is known that the node is gone: its endpoint has shut down, or another start of it has opened a session. Only
    /// idempotent calls wait so long for a node of their group, or the next start of their own, however it went.
    pub node_grace: Duration,
    /// The most sessions. 16,384: an idle one costs about 1 KiB besides its link.
    pub max_sessions: usize,
    /// The most sessions of one user. 64.
    pub max_sessions_per_user: usize,
    /// How long a link may be up without a session. 10 s. Who takes longer is let go.
    pub open_within: Duration,
    /// The most links that are up without a session; beyond it, those of keys without an account are refused. 1,024.
    pub max_unopened: usize,
    /// How many wrong tokens one link may show. 3; the link ends with the next.
    pub enrol_tries: u32,
    /// Whether sessions survive a restart: one-way calls and requests that are run here are finished together with what
    /// their handlers write, and only then acknowledged or answered. Needs a store.
    pub journal: bool,
    /// Which calls go to nodes: a rule that is asked about each of a party's. None: all do.
    pub calls_to_nodes: Option<Policy>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            node_room: 2,
            account_bytes: 128 << 20,
            broker_bytes: 1 << 30,
            grace: Duration::from_secs(60),
            node_grace: Duration::from_secs(5),
            max_sessions: 16_384,
            max_sessions_per_user: 64,
            open_within: Duration::from_secs(10),
            max_unopened: 1_024,
            enrol_tries: 3,
            journal: false,
            calls_to_nodes: None,
        }
    }
}

impl BrokerConfig {
    /// The most bytes that one session can make a broker hold: parameters of calls, replies, and messages of streams, in
    /// both directions, each with what a table and an allocation have for themselves. By default 413 MiB, which a party
    /// reaches that calls, is called, and reads nothing. One that goes beyond, because it acknowledges nothing, is ended with
    /// [`crate::Code::ResourceExhausted`].
    pub fn worst_case_session_bytes(&self) -> u64 {
        self.worst_case().user
    }

    /// The same of a node's session, with its [`BrokerConfig::node_room`]. By default 822 MiB.
    pub fn worst_case_node_bytes(&self) -> u64 {
        self.worst_case().node
    }

    pub(super) fn worst_case(&self) -> WorstCase {
        let of = |kind| worst_case(&self.limits_of(kind));
        WorstCase { user: of(Kind::User), node: of(Kind::Node) }
    }

    /// The most bytes that a broker holds for all parties together: parameters of calls, replies, and messages of streams, with what
    /// tables have for each. By default 1.25 GiB: [`BrokerConfig::broker_bytes`], and 16 KiB for each session, which is not counted before it
    /// holds so much. Accounts, a session itself (1 KiB), and what handlers have are besides; and so is what one message or
    /// command brings, until it has been dealt with.
    pub fn worst_case_bytes(&self) -> u64 {
        self.broker_bytes.saturating_add(STEP.saturating_mul(self.max_sessions as u64))
    }

    /// What a party of that kind may have under way, in each direction.
    pub fn limits_of(&self, kind: Kind) -> Limits {
        let times = match kind {
            Kind::User => 1,
            Kind::Node => self.node_room.max(1),
        };
        Limits {
            calls: self.limits.calls.saturating_mul(times),
            call_bytes: self.limits.call_bytes.saturating_mul(u64::from(times)),
            streams: self.limits.streams.saturating_mul(times),
            ..self.limits
        }
    }

    /// What fits into packets.
    pub(crate) fn within_bounds(mut self) -> Self {
        self.limits.message_bytes = self.limits.message_bytes.min(MAX_MESSAGE);
        self
    }
}

/// The most that a session can make a broker hold, in bytes, reckoned once.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorstCase {
    user: u64,
    node: u64,
}

impl WorstCase {
    /// Of a party of that kind.
    pub(super) const fn of(self, kind: Kind) -> u64 {
        match kind {
            Kind::User => self.user,
            Kind::Node => self.node,
        }
    }
}

fn worst_case(limits: &Limits) -> u64 {
    let Limits { calls, call_bytes, streams, stream_messages, stream_bytes, message_bytes } = *limits;
    // Data one way, and credit the other.
    let flow_items = 2 * u64::from(stream_messages) + 2;
    let flow = stream_bytes.saturating_add(message_bytes).saturating_add(flow_items * ITEM_COST);
    // Messages and bulk data, of calls from the party and to it.
    let flows = flow.saturating_mul(4 * u64::from(streams));
    let each_call = 4 * ITEM_COST;
    let calls_each_way =
        call_bytes.saturating_add(message_bytes).saturating_add(u64::from(calls) * each_call);
    // As many as are under way, and as many that have come and are not acknowledged yet.
    let replies = 2 * u64::from(calls) * (ITEM_COST + REPLY_HEAD);
    calls_each_way
        .saturating_mul(2)
        .saturating_add(flows)
        .saturating_add(replies)
        .saturating_add(u64::from(calls).saturating_mul(message_bytes))
        .saturating_add(EXTRAS)
}

/// What a reply has besides its payload.
const REPLY_HEAD: u64 = 32;
/// For offers, callers that are introduced, and what else there is of each session.
const EXTRAS: u64 = 4 << 20;
/// The longest that [`Limits::message_bytes`] may be: a packet holds one, and what has gathered before it.
const MAX_MESSAGE: u64 = (MAX_PACKET - (64 << 10)) as u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_the_defaults_is_what_the_documentation_says() {
        assert_eq!(BrokerConfig::default().worst_case_session_bytes() >> 20, 413);
        assert_eq!(BrokerConfig::default().worst_case_node_bytes() >> 20, 822);
        assert_eq!(BrokerConfig::default().worst_case_bytes(), 5 << 28);
    }
}
