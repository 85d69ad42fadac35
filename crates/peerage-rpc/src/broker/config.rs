//! Times and bounds of a broker.

use std::time::Duration;

use crate::packet::Limits;

/// Times and bounds of a broker, all of them.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// What each party may have under way, in each direction.
    pub limits: Limits,
    /// How long a user's session outlives its link. 60 s: who changes networks is back by then.
    pub grace: Duration,
    /// How long a node's session outlives its link. 5 s: calls that it was given wait so long for the answer, new ones fail
    /// at once.
    pub node_grace: Duration,
    /// The most sessions. 16,384: an idle one costs about 1 KiB besides its link.
    pub max_sessions: usize,
    /// The most sessions of one user. 64.
    pub max_sessions_per_user: usize,
    /// How long a link may be up without a session. 10 s. Who takes longer is let go.
    pub open_within: Duration,
    /// The most links that are up without a session. 1,024.
    pub max_unopened: usize,
    /// How many wrong tokens one link may show. 3; the link ends with the next.
    pub enrol_tries: u32,
    /// Whether sessions survive a restart: one-way calls and requests that are run here are finished together with what
    /// their handlers write, and only then acknowledged or answered. Needs a store.
    pub journal: bool,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            grace: Duration::from_secs(60),
            node_grace: Duration::from_secs(5),
            max_sessions: 16_384,
            max_sessions_per_user: 64,
            open_within: Duration::from_secs(10),
            max_unopened: 1_024,
            enrol_tries: 3,
            journal: false,
        }
    }
}

impl BrokerConfig {
    /// The most bytes that one session can make a broker hold: parameters of calls, replies, and messages of streams, in
    /// both directions. By default 200 MiB, which a party reaches that answers and reads nothing; what it may have under
    /// way by itself is 36 MiB.
    pub fn worst_case_session_bytes(&self) -> u64 {
        let Limits { calls, call_bytes, streams, stream_bytes, message_bytes, .. } = self.limits;
        let flows = u64::from(streams) * 2 * (stream_bytes + message_bytes);
        let replies = u64::from(calls) * message_bytes;
        2 * (call_bytes + message_bytes + flows) + replies
    }
}
