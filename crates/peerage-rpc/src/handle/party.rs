//! What clients and nodes have in common.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use peerage_machine::{CallId, InstanceName, Why};
use peerage_net::{CloseReport, Endpoint, HostError, Hosted, InstanceSpec, OnReturn, Sink, Start};
use peerage_wire::PeerId;
use prost::Message;
use tokio::sync::watch;

use super::commands::Commands;
use super::context::{AtParty, Here};
use super::desk::Desk;
use super::inbox::lock;
use super::line::{Core, Line, Way, closed};
use super::offers::Offers;
use super::seals::Seals;
use super::sends::FailedSend;
use super::target::Target;
use super::worker;
use crate::accounts::Kind;
use crate::event::{Answer, Event};
use crate::packet::SessionId;
use crate::party::{PartyConfig, PartyMachine};
use crate::status::Status;

/// The version of the protocol that is spoken.
pub(super) const VERSION: u32 = 1;
/// How long [`Party::close`] waits for what is under way.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How a client or a node stands with its broker.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// There is no session yet.
    Connecting,
    /// The session is open.
    Connected {
        /// Which; another one than before, when that was lost.
        session: SessionId,
        /// What this party is.
        kind: Kind,
    },
    /// The session has no link for now: the broker is looked for, and calls wait.
    Adrift {
        /// Why it has none.
        why: Why,
    },
    /// The session is over, and with it all that was under way. If the broker takes a new one, that follows.
    Lost(Lost),
    /// The broker takes no session, or cannot be reached for a first one.
    Refused(Status),
    /// This end is closed.
    Closed,
}

/// A session that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Why.
    pub status: Status,
    /// The last item that the broker had acknowledged: one-way commands with a [`crate::Sent::number`] up to there are done.
    pub last_acknowledged: u64,
}

/// What somebody who has enrolled is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// As what it was taken in.
    pub kind: Kind,
    /// Whether the account may act at once; otherwise an administrator confirms it first.
    pub confirmed: bool,
}

/// What the machine tells of a party beside its calls.
pub(super) struct Board {
    pub(super) standing: watch::Sender<Standing>,
    /// How often the broker has refused this party or was not reached; changes together with `standing`.
    refusals: AtomicU64,
    offers: watch::Sender<Option<Bytes>>,
    lost: Mutex<Option<Lost>>,
    admitted: watch::Sender<Option<Admitted>>,
}

struct PartySink {
    desk: Arc<Desk>,
    board: Arc<Board>,
}

impl Sink<PartyMachine> for PartySink {
    fn event(&mut self, event: Event) {
        let Some(event) = self.desk.event(event) else { return };
        let board = &self.board;
        match event {
            Event::Opened { id, kind, limits, .. } => {
                self.desk.set_limits(limits);
                if let Some(seals) = self.desk.seals.get() {
                    seals.session(Some(id));
                }
                board.standing.send_replace(Standing::Connected { session: id, kind });
            }
            Event::Adrift { why, .. } => {
                board.standing.send_replace(Standing::Adrift { why });
            }
            Event::Closed { session, status, last_acknowledged } => {
                if let Some(seals) = self.desk.seals.get() {
                    seals.session(None);
                }
                self.desk.session_closed(session, &status);
                let lost = Lost { status: *status, last_acknowledged };
                *lock(&board.lost) = Some(lost.clone());
                board.standing.send_replace(Standing::Lost(lost));
            }
            Event::Refused(status) => {
                board.standing.send_modify(|standing| {
                    board.refusals.fetch_add(1, Ordering::Release);
                    *standing = Standing::Refused(*status);
                });
            }
            Event::Enrolled { kind, confirmed } => {
                board.admitted.send_replace(Some(Admitted { kind, confirmed }));
            }
            Event::CallerGone(session) => {
                if let Some(seals) = self.desk.seals.get() {
                    seals.gone(&session);
                }
            }
            Event::Offers(resources) => {
                board.offers.send_replace(Some(resources));
            }
            other => tracing::debug!(?other, "an event that parties do not know"),
        }
    }

    fn answer(&mut self, call: CallId, answer: Answer) {
        self.desk.answer(call, answer);
    }

    fn closed(&mut self) {
        self.desk.close();
        self.board.standing.send_replace(Standing::Closed);
    }
}

/// Why a client, a node or a broker was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its endpoint was not made.
    #[error(transparent)]
    Bind(#[from] peerage_net::BindError),
    /// The endpoint does not run it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Its commands make no sense.
    #[error(transparent)]
    Commands(#[from] super::CommandsError),
    /// Nobody said who the broker is.
    #[error("a party needs its broker's key and at least one address")]
    NoBroker,
    /// A node serves too many groups, or one whose name is too long.
    #[error(
        "a node serves at most {} groups, with names of 1 to {} bytes",
        crate::MAX_GROUPS,
        crate::MAX_GROUP
    )]
    Groups,
    /// The endpoint's links take messages of at most so many bytes (`LinkConfig::max_message`), which is too few for sessions.
    #[error(
        "the endpoint's links take messages of at most {0} bytes (`max_message`), and sessions need {least}",
        least = crate::LEAST_MAX_MESSAGE
    )]
    MaxMessage(u64),
    /// The accounts in the broker's store make no sense.
    #[error(transparent)]
    Accounts(#[from] crate::accounts::LoadError),
    /// The broker's store does not do.
    #[error("the store: {0}")]
    Store(String),
}

/// Why a client or a node is not connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It was not started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The broker takes no session, or cannot be reached.
    #[error(transparent)]
    Refused(#[from] Status),
}

/// What was left when a party was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Calls that were not answered, and one-way commands that were not done.
    pub cut: usize,
    /// What became of the links, where the endpoint was the party's own.
    pub endpoint: Option<CloseReport>,
}

/// What clients and nodes have in common: a session with a broker, which is dialled again whenever its link is lost. Calls go to
/// the broker, by the methods of [`Target`]. Clones are the same party; when the last is gone, it leaves.
/// [`Party::close`] does so in good order.
#[derive(Clone)]
pub struct Party {
    target: Target,
    inner: Arc<Inner>,
}

struct Inner {
    hosted: Hosted<PartyMachine>,
    desk: Arc<Desk>,
    board: Arc<Board>,
    /// The last of the refusals that [`Party::ready`] has told.
    told: AtomicU64,
    /// Its own, which closes with it.
    endpoint: Option<Endpoint>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closed already is as good.
        let _ = self.hosted.call(|machine, _, out| machine.leave(out));
        self.hosted.close();
    }
}

/// The calls of a party go to its broker.
impl Deref for Party {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party")
            .field("standing", &*self.inner.board.standing.borrow())
            .finish_non_exhaustive()
    }
}

impl Party {
    pub(super) fn start(
        endpoint: &Endpoint,
        is_own: bool,
        network: &str,
        config: PartyConfig,
        commands: Commands<AtParty>,
    ) -> Result<Self, StartError> {
        commands.check()?;
        let desk = Arc::<Desk>::default();
        desk.seals.get_or_init(|| Seals::new(endpoint.identity(), network, endpoint.config()));
        let board = Arc::new(Board {
            standing: watch::Sender::new(Standing::Connecting),
            refusals: AtomicU64::new(0),
            offers: watch::Sender::new(None),
            lost: Mutex::default(),
            admitted: watch::Sender::new(None),
        });
        let make = |start: Start| PartyMachine::new(config, start.now.mono, &start.seed);
        let sink = PartySink { desk: Arc::clone(&desk), board: Arc::clone(&board) };
        let hosted = endpoint.host(spec(network), make, sink)?;
        let line: Arc<dyn Line> = Arc::new(Core { hosted: hosted.clone(), desk: Arc::clone(&desk) });
        let here = Arc::new(Here::<AtParty> { line: Arc::clone(&line), shared: () });
        tokio::spawn(worker::work(here, commands));
        let endpoint = is_own.then(|| endpoint.clone());
        let inner = Arc::new(Inner { hosted, desk, board, told: AtomicU64::new(0), endpoint });
        Ok(Self { target: Target::new(line, Way::Peer), inner })
    }

    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.target = self.target.clone().with_timeout(timeout);
    }

    /// The endpoint that carries it.
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.hosted.endpoint()
    }

    /// A node, to be called by way of the broker. A call to one that is not there fails at once.
    pub fn node(&self, node: PeerId) -> Target {
        self.target.by(Way::Node(node))
    }

    /// Any node of a group, to be called by way of the broker, which takes the one that has the fewest calls under way.
    pub fn group(&self, group: &str) -> Target {
        self.target.by(Way::Group(group.to_owned().into()))
    }

    /// How it stands with the broker, and what becomes of that. Who looks late misses what was between.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.inner.board.standing.subscribe()
    }

    /// The last session that was lost, if any was.
    pub fn lost(&self) -> Option<Lost> {
        lock(&self.inner.board.lost).clone()
    }

    /// Waits until a session is open; returns at once when one is.
    ///
    /// # Errors
    /// The broker refuses it, or cannot be reached; or this end is closed. A broker that may take it later is tried again, and this
    /// may be called again at once, in a loop: each failure is told once, and whoever asks again waits for what the next try comes
    /// to. What is final (an account that there is not, say) is told at once, each time.
    pub async fn ready(&self) -> Result<(), Status> {
        let mut standing = self.standing();
        let told = self.inner.told.load(Ordering::Acquire);
        loop {
            let (now, refusals) = {
                // They change together while nobody looks.
                let now = standing.borrow_and_update();
                (now.clone(), self.inner.board.refusals.load(Ordering::Acquire))
            };
            match now {
                Standing::Connected { .. } => return Ok(()),
                Standing::Refused(status) => {
                    let over = self.inner.hosted.call(|machine, _, _| machine.over().is_some());
                    if over.unwrap_or(true) {
                        // Who asks again at once must not keep others from their turn.
                        tokio::task::yield_now().await;
                        return Err(status);
                    }
                    if refusals > told {
                        self.inner.told.fetch_max(refusals, Ordering::AcqRel);
                        return Err(status);
                    }
                }
                Standing::Closed => return Err(closed()),
                Standing::Lost(_) => {
                    let over = self.inner.hosted.call(|machine, _, _| machine.over().cloned());
                    if let Some(status) = over.unwrap_or_else(|_| Some(closed())) {
                        return Err(status);
                    }
                }
                Standing::Connecting | Standing::Adrift { .. } => {}
            }
            if standing.changed().await.is_err() {
                return Err(closed());
            }
        }
    }

    /// Waits until all one-way commands that were sent before are done: run, or refused.
    ///
    /// # Errors
    /// The first that failed since the last flush, or the session was lost. [`Party::failed_sends`] has all of them.
    pub async fn flush(&self) -> Result<(), Status> {
        self.inner.desk.flush(None).await
    }

    /// One-way commands that were not run, since this was called last; the oldest are forgotten beyond 1,024.
    pub fn failed_sends(&self) -> Vec<FailedSend> {
        self.inner.desk.take_failed()
    }

    /// What the application of the broker has for this party, and what becomes of that.
    pub fn offers<T: Message + Default>(&self) -> Offers<T> {
        Offers::new(self.inner.board.offers.subscribe())
    }

    /// Calls that are not answered, and one-way commands that are not done.
    pub fn under_way(&self) -> usize {
        self.inner.desk.under_way()
    }

    /// Sealed calls to this party that were not run: there was no channel for them, or what came was not what was sealed.
    pub fn sealed_refused(&self) -> u64 {
        self.inner.desk.seals.get().map_or(0, |seals| seals.refused())
    }

    /// Leaves the broker in good order: waits for one-way commands to be done, at most 5 s, ends the session, and closes the
    /// endpoint, if that is the party's own. Calls that are not answered by then are cut, and hear that. Cannot fail; a second
    /// call finds nothing.
    pub async fn close(&self) -> Left {
        let inner = &*self.inner;
        let is_open =
            matches!(*inner.board.standing.borrow(), Standing::Connected { .. } | Standing::Adrift { .. });
        if is_open {
            let mut standing = self.standing();
            let gone = async {
                let _ = self.flush().await;
                let cut = inner.desk.under_way();
                let left = inner.hosted.call(|machine, _, out| machine.leave(out));
                let is_over = |now: &Standing| matches!(now, Standing::Lost(_) | Standing::Closed);
                if left.is_ok() {
                    let _ = standing.wait_for(is_over).await;
                }
                cut
            };
            let cut = tokio::time::timeout(CLOSE_WITHIN, gone).await;
            let cut = cut.unwrap_or_else(|_| inner.desk.under_way());
            return Left { cut, endpoint: self.shut().await };
        }
        Left { cut: inner.desk.under_way(), endpoint: self.shut().await }
    }

    async fn shut(&self) -> Option<CloseReport> {
        self.inner.hosted.close();
        match &self.inner.endpoint {
            Some(endpoint) => Some(endpoint.close().await),
            None => None,
        }
    }

    /// Waits until the broker has taken the admitted, or not.
    pub(super) async fn enrolled(&self) -> Result<Admitted, Status> {
        let mut admitted = self.inner.board.admitted.subscribe();
        let mut standing = self.standing();
        loop {
            if let Some(admitted) = *admitted.borrow_and_update() {
                return Ok(admitted);
            }
            match &*standing.borrow_and_update() {
                Standing::Refused(status) => return Err(status.clone()),
                Standing::Closed => return Err(closed()),
                _ => {}
            }
            tokio::select! {
                _ = admitted.changed() => {}
                _ = standing.changed() => {}
            }
        }
    }
}

/// What an application's instance is called on a link.
pub(super) fn spec(network: &str) -> InstanceSpec {
    InstanceSpec {
        name: InstanceName { protocol: "rpc".to_owned(), name: network.to_owned() },
        version: VERSION,
        parameters: Bytes::new(),
        // A user has as many sessions as it has programs, each with an endpoint of its own.
        on_return: OnReturn::Coexist,
    }
}
