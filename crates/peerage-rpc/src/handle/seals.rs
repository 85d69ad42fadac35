//! The sealed channels of a party: to the nodes that it calls, and from those who call it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use peerage_identity::Identity;
use peerage_net::Config;
use peerage_wire::{PeerId, Suite};
use tokio::sync::oneshot;

use super::call::{Draft, Pending};
use super::desk::{Expected, ReplyTo};
use super::inbox::lock;
use super::line::{Line, Way};
use super::sealed::{SealedCall, Secret, Unopened};
use crate::event::{Caller as Who, Run};
use crate::packet::{SessionId, Shape};
use crate::seal::{Callee, Caller, Ends, SealError, Sealed};
use crate::status::Status;

/// Channels that a node keeps, and those to nodes; the oldest is forgotten, and made again when it is used again.
const MAX_CHANNELS: usize = 4096;
/// Handshakes under way at a node, one for each caller; the oldest is forgotten.
const MAX_SHAKING: usize = 256;
/// How long a handshake may take.
const SHAKE_WITHIN: Duration = Duration::from_secs(30);

/// At most so many of something; a new one takes the place of the oldest.
struct Oldest<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    next: u64,
    limit: usize,
}

impl<K: Ord + Copy, V> Oldest<K, V> {
    fn new(limit: usize) -> Self {
        Self { entries: BTreeMap::new(), next: 0, limit }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.entries.len() >= self.limit && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (age, _))| *age).map(|(key, _)| *key);
            oldest.map(|oldest| self.entries.remove(&oldest));
        }
        self.entries.insert(key, (self.next, value));
        self.next += 1;
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|(_, value)| value)
    }
}

/// The way to one node.
#[derive(Default)]
struct Place {
    /// Whoever has it makes the channel; the others wait, and find it.
    turn: tokio::sync::Mutex<()>,
    secret: Mutex<Option<Arc<Secret>>>,
}

impl Place {
    fn usable(&self) -> Option<Arc<Secret>> {
        lock(&self.secret).clone().filter(|secret| secret.is_usable())
    }
}

/// This party as a caller.
struct Out {
    session: Option<SessionId>,
    nodes: Oldest<PeerId, Arc<Place>>,
}

/// This party as a node.
struct In {
    channels: Oldest<SessionId, Arc<Secret>>,
    shaking: Oldest<SessionId, Callee>,
    refused: u64,
}

/// All of them.
pub(super) struct Seals {
    identity: Arc<Identity>,
    network: String,
    /// To call with.
    suite: Option<Suite>,
    /// To be called with.
    suites: Vec<Suite>,
    out: Mutex<Out>,
    into: Mutex<In>,
}

/// What a sealed call comes to at a node.
pub(super) enum Taken {
    /// It is to be run.
    Call(Arc<SealedCall>),
    /// It is answered.
    Answer(Result<Bytes, Status>),
}

impl Seals {
    pub(super) fn new(identity: &Arc<Identity>, network: &str, config: &Config) -> Arc<Self> {
        Arc::new(Self {
            identity: Arc::clone(identity),
            network: network.to_owned(),
            suite: config.dial_suites.first().copied(),
            suites: config.listen_suites.clone(),
            out: Mutex::new(Out { session: None, nodes: Oldest::new(MAX_CHANNELS) }),
            into: Mutex::new(In {
                channels: Oldest::new(MAX_CHANNELS),
                shaking: Oldest::new(MAX_SHAKING),
                refused: 0,
            }),
        })
    }

    // --- sessions ---

    /// This party's session is that one now, or none: channels end with it.
    pub(super) fn session(&self, session: Option<SessionId>) {
        let mut out = lock(&self.out);
        if out.session != session {
            out.session = session;
            out.nodes.entries.clear();
        }
    }

    /// Nothing comes of that caller any more.
    pub(super) fn gone(&self, caller: &SessionId) {
        let mut into = lock(&self.into);
        into.channels.remove(caller);
        into.shaking.remove(caller);
    }

    // --- as a caller ---

    fn place(&self, node: PeerId) -> (Arc<Place>, Option<SessionId>) {
        let mut out = lock(&self.out);
        let session = out.session;
        if let Some(place) = out.nodes.get(&node) {
            return (Arc::clone(place), session);
        }
        let place = Arc::<Place>::default();
        out.nodes.insert(node, Arc::clone(&place));
        (place, session)
    }

    /// The channel to a node, if there is one.
    pub(super) fn known(&self, node: &PeerId) -> Option<Arc<Secret>> {
        lock(&self.out).nodes.get(node)?.usable()
    }

    /// The channel to a node, which is made if there is none.
    pub(super) async fn channel(&self, line: &Arc<dyn Line>, node: PeerId) -> Result<Arc<Secret>, Status> {
        if let Some(secret) = self.known(&node) {
            return Ok(secret);
        }
        let (place, session) = self.place(node);
        let _turn = place.turn.lock().await;
        if let Some(secret) = place.usable() {
            return Ok(secret);
        }
        let session =
            session.ok_or_else(|| Status::unavailable("there is no session with the broker yet"))?;
        let made = tokio::time::timeout(SHAKE_WITHIN, self.shake(line, session, node)).await;
        let made = made.unwrap_or_else(|_| Err(Status::deadline_exceeded("the node did not answer in time")));
        match made {
            Ok(secret) => {
                *lock(&place.secret) = Some(Arc::clone(&secret));
                Ok(secret)
            }
            Err(mut status) => {
                // What was to be called was not.
                status.may_have_run = false;
                Err(status)
            }
        }
    }

    async fn shake(
        &self,
        line: &Arc<dyn Line>,
        session: SessionId,
        node: PeerId,
    ) -> Result<Arc<Secret>, Status> {
        let ends = Ends { network: &self.network, caller: self.identity.peer_id(), session, node };
        let broken = |error: SealError| Status::data_loss(error.to_string());
        let suite = self.suite.ok_or_else(|| Status::internal("there is no suite to call with"))?;
        let (begun, first) = Caller::begin(&self.identity, suite, &ends, entropy()?).map_err(broken)?;
        let second = ask(line, node, first).await?;
        let (channel, third) = begun.go_on(second).map_err(broken)?;
        ask(line, node, third).await?;
        Ok(Secret::new(channel))
    }

    // --- as a node ---

    /// A sealed call has come, in its caller's order: opens it in place, or answers it.
    pub(super) fn take(&self, run: &mut Run) -> Taken {
        let taken = self.open(run).unwrap_or_else(|status| {
            let mut into = lock(&self.into);
            into.refused += 1;
            let refused = into.refused;
            drop(into);
            tracing::debug!(%status, refused, caller = %run.caller.peer.short(), "a sealed call was refused");
            Taken::Answer(Err(status))
        });
        if matches!(taken, Taken::Answer(_)) {
            run.payload = Bytes::new();
        }
        taken
    }

    /// Sealed calls that were refused.
    pub(super) fn refused(&self) -> u64 {
        lock(&self.into).refused
    }

    fn open(&self, run: &mut Run) -> Result<Taken, Status> {
        let caller = Arc::clone(&run.caller);
        if caller.kind.is_none() {
            return Err(Status::unimplemented("a broker seals no calls"));
        }
        let payload = std::mem::take(&mut run.payload);
        let sealed = Sealed::read(payload).map_err(|error| Status::invalid_argument(error.to_string()))?;
        match sealed {
            Sealed::First { suite, .. } if !self.suites.contains(&suite) => {
                Err(Status::invalid_argument(format!("this node does not use {suite}")))
            }
            Sealed::First { .. } => self.begin(&caller, &sealed).map(|second| Taken::Answer(Ok(second))),
            Sealed::Third(_) => self.finish(&caller, &sealed).map(|()| Taken::Answer(Ok(Bytes::new()))),
            Sealed::Body { number, data } => {
                let secret = lock(&self.into).channels.get(&caller.session).cloned();
                let secret = secret.filter(|secret| secret.is_usable());
                let secret =
                    secret.ok_or_else(|| Status::failed_precondition("there is no sealed channel"))?;
                match secret.open(number, data, run.shape) {
                    Ok((opened, call)) => {
                        run.command = opened.command;
                        run.payload = opened.payload;
                        Ok(Taken::Call(call))
                    }
                    // The one that came before it may have been run.
                    Err(Unopened::Late) => {
                        Err(Status::aborted("a sealed call came twice, or too late").may_have_run())
                    }
                    Err(Unopened::Broken(error)) => {
                        self.gone(&caller.session);
                        Err(Status::failed_precondition(error.to_string()))
                    }
                }
            }
        }
    }

    fn ends<'a>(&'a self, caller: &Who) -> Ends<'a> {
        let node = self.identity.peer_id();
        Ends { network: &self.network, caller: caller.peer, session: caller.session, node }
    }

    fn begin(&self, caller: &Who, first: &Sealed) -> Result<Bytes, Status> {
        let begun = Callee::begin(&self.identity, &self.ends(caller), first, entropy()?);
        let (callee, second) = begun.map_err(|error| Status::invalid_argument(error.to_string()))?;
        lock(&self.into).shaking.insert(caller.session, callee);
        Ok(second)
    }

    fn finish(&self, caller: &Who, third: &Sealed) -> Result<(), Status> {
        let callee = lock(&self.into).shaking.remove(&caller.session);
        let callee = callee.ok_or_else(|| Status::failed_precondition("there is no handshake under way"))?;
        let channel = callee.finish(third).map_err(|error| Status::invalid_argument(error.to_string()))?;
        lock(&self.into).channels.insert(caller.session, Secret::new(channel));
        Ok(())
    }
}

fn entropy() -> Result<[u8; 32], Status> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Status::internal(format!("no entropy: {error}")))?;
    Ok(bytes)
}

/// A step of a handshake.
async fn ask(line: &Arc<dyn Line>, node: PeerId, payload: Bytes) -> Result<Bytes, Status> {
    let (reply, answered) = oneshot::channel();
    let mut expected = Expected { reply: ReplyTo::Waiting(reply), ..Expected::default() };
    let draft = Draft {
        line: Arc::clone(line),
        way: Way::Node(node),
        command: Bytes::new(),
        payload,
        shape: Shape::REQUEST.and(Shape::SEALED),
        timeout: None,
        is_sealed: false,
        secret: None,
    };
    let made = draft.make(&mut expected).await?;
    Pending::new(line, &made, answered).answer().await
}

/// Where a party keeps its channels; a broker has none.
pub(super) type Keys = OnceLock<Arc<Seals>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Kind;
    use crate::event::{RunKey, SessionKey};

    const NETWORK: &str = "notes";

    fn seals() -> (Arc<Seals>, PeerId) {
        let identity = Arc::new(Identity::from_seed([1; 32]));
        (Seals::new(&identity, NETWORK, &Config::default()), identity.peer_id())
    }

    fn run(caller: &Arc<Who>, payload: Bytes) -> Run {
        Run {
            key: RunKey { session: SessionKey(0), seq: 1 },
            command: Bytes::new(),
            payload,
            shape: Shape::SEALED,
            caller: Arc::clone(caller),
            origin: 1,
            timeout: None,
        }
    }

    fn answer(seals: &Seals, caller: &Arc<Who>, payload: Bytes) -> Result<Bytes, Status> {
        match seals.take(&mut run(caller, payload)) {
            Taken::Answer(answer) => answer,
            Taken::Call(_) => Ok(Bytes::from_static(b"it is run")),
        }
    }

    fn caller(number: u16) -> (Identity, Arc<Who>) {
        let identity = Identity::from_seed([2; 32]);
        let mut session = SessionId([0; 16]);
        session.0.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
        let caller = Who { peer: identity.peer_id(), kind: Some(Kind::User), session };
        (identity, Arc::new(caller))
    }

    fn begin(seals: &Seals, node: PeerId, number: u16) -> (Arc<Who>, Caller, Bytes) {
        let (identity, who) = caller(number);
        let ends = Ends { network: NETWORK, caller: who.peer, session: who.session, node };
        let (begun, first) = Caller::begin(&identity, Suite::ChaChaPoly, &ends, [3; 32]).unwrap();
        let second = answer(seals, &who, first).unwrap();
        (who, begun, second)
    }

    #[test]
    fn a_node_keeps_so_many_handshakes_and_channels_and_those_of_sessions_that_are_there() {
        let (seals, node) = seals();
        let (who, begun, second) = begin(&seals, node, 0);
        let (channel, third) = begun.go_on(second).unwrap();
        assert_eq!(answer(&seals, &who, third.clone()), Ok(Bytes::new()));
        assert!(answer(&seals, &who, third).is_err(), "it is said again");
        let secret = Secret::new(channel);
        let call = || {
            secret.call(Bytes::from_static(b"x"), Bytes::new(), Shape::REQUEST, |payload, _| payload).unwrap()
        };
        assert_eq!(answer(&seals, &who, call()), Ok(Bytes::from_static(b"it is run")));
        let first_of_many = begin(&seals, node, 1);
        for number in 2..=u16::try_from(MAX_SHAKING).unwrap() + 1 {
            begin(&seals, node, number);
        }
        assert_eq!(lock(&seals.into).shaking.entries.len(), MAX_SHAKING);
        let (late, begun, second) = first_of_many;
        let (_, third) = begun.go_on(second).unwrap();
        let status = answer(&seals, &late, third).unwrap_err();
        assert_eq!(status.code, crate::Code::FailedPrecondition, "the oldest is forgotten");
        assert_eq!(answer(&seals, &who, call()), Ok(Bytes::from_static(b"it is run")));
        seals.gone(&who.session);
        assert!(lock(&seals.into).channels.entries.is_empty());
        let status = answer(&seals, &who, call()).unwrap_err();
        assert_eq!((status.code, status.may_have_run), (crate::Code::FailedPrecondition, false));
        assert_eq!(seals.refused(), 3);
    }

    #[test]
    fn the_oldest_makes_room_for_a_new_one_and_one_that_comes_again_for_itself() {
        let mut kept = Oldest::new(2);
        for (key, value) in [(1, 'a'), (2, 'b'), (1, 'c'), (3, 'd')] {
            kept.insert(key, value);
        }
        assert_eq!((kept.get(&1), kept.get(&2), kept.get(&3)), (Some(&'c'), None, Some(&'d')));
    }

    #[test]
    fn calls_of_the_broker_itself_and_suites_that_are_not_wanted_are_refused() {
        let identity = Arc::new(Identity::from_seed([1; 32]));
        let mut config = Config::default();
        config.listen_suites = vec![Suite::AesGcm];
        let seals = Seals::new(&identity, NETWORK, &config);
        let (of_caller, who) = caller(0);
        let node = identity.peer_id();
        let ends = Ends { network: NETWORK, caller: who.peer, session: who.session, node };
        let (_, first) = Caller::begin(&of_caller, Suite::ChaChaPoly, &ends, [3; 32]).unwrap();
        assert_eq!(answer(&seals, &who, first.clone()).unwrap_err().code, crate::Code::InvalidArgument);
        let broker = Arc::new(Who { kind: None, ..(*who).clone() });
        assert_eq!(answer(&seals, &broker, first).unwrap_err().code, crate::Code::Unimplemented);
        let garbage = answer(&seals, &who, Bytes::from_static(b"\xff\xff")).unwrap_err();
        assert_eq!(garbage.code, crate::Code::InvalidArgument);
    }
}
