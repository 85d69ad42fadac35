//! What a handler knows of the call that it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use peerage_wire::PeerId;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::bulk::{self, BulkReader};
use super::desk::theirs;
use super::inbox::lock;
use super::line::{Line, Way};
use super::sealed::Seal;
use super::slot::Slot;
use super::target::Target;
use crate::accounts::Kind;
use crate::event::{Caller, Run, RunKey};
use crate::packet::{SessionId, Shape};
use crate::status::Status;

/// Where handlers run: at a party ([`AtParty`]), or at a broker with the application's model.
pub trait Place: Send + Sync + Sized + 'static {
    /// What handlers share there.
    #[doc(hidden)]
    type Shared: Send + Sync + 'static;

    /// Before a command's handler runs, whoever calls it.
    #[doc(hidden)]
    fn before_run(call: &Context<Self>, command: &str) -> Result<(), Status> {
        let _ = (call, command);
        Ok(())
    }

    /// A session has come or gone.
    #[doc(hidden)]
    fn news(here: &Arc<Here<Self>>, news: super::news::News) {
        let _ = (here, news);
    }
}

/// At a client or a node.
#[derive(Clone, Copy, Debug)]
pub enum AtParty {}

impl Place for AtParty {
    type Shared = ();
}

/// What the handlers of one instance share.
pub struct Here<M: Place> {
    pub(super) line: Arc<dyn Line>,
    pub(super) shared: M::Shared,
}

/// Names a call for ever: whoever does something outside of the broker's journal can tell by it that it has been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallName {
    /// The caller's session.
    pub session: SessionId,
    /// The call's number in it.
    pub number: u64,
}

/// The call that a handler runs. Clones are of the same call.
pub struct Context<M: Place = AtParty> {
    pub(super) here: Arc<Here<M>>,
    pub(super) slot: Arc<Slot>,
    key: RunKey,
    shape: Shape,
    caller: Arc<Caller>,
    origin: u64,
    until: Option<Instant>,
    seal: Seal,
}

impl<M: Place> Clone for Context<M> {
    fn clone(&self) -> Self {
        Self {
            here: Arc::clone(&self.here),
            slot: Arc::clone(&self.slot),
            key: self.key,
            shape: self.shape,
            caller: Arc::clone(&self.caller),
            origin: self.origin,
            until: self.until,
            seal: self.seal.clone(),
        }
    }
}

impl<M: Place> fmt::Debug for Context<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("caller", &self.caller)
            .field("call", &self.origin)
            .finish_non_exhaustive()
    }
}

impl<M: Place> Context<M> {
    pub(super) fn new(here: &Arc<Here<M>>, slot: &Arc<Slot>, run: &Run, seal: Seal) -> Self {
        Self {
            here: Arc::clone(here),
            slot: Arc::clone(slot),
            key: run.key,
            shape: run.shape,
            caller: Arc::clone(&run.caller),
            origin: run.origin,
            until: run.timeout.map(|timeout| Instant::now() + timeout),
            seal,
        }
    }

    pub(super) fn seal(&self) -> &Seal {
        &self.seal
    }

    pub(super) fn key(&self) -> RunKey {
        self.key
    }

    pub(super) fn line(&self) -> &Arc<dyn Line> {
        &self.here.line
    }

    /// Whether the call is sealed: that it is the caller's was proven to this node then, and the broker has read nothing of it.
    pub fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    /// Who calls, as the broker has proven it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The caller's key.
    pub fn peer(&self) -> PeerId {
        self.caller.peer
    }

    /// What the caller is; `None` when the broker itself calls.
    pub fn kind(&self) -> Option<Kind> {
        self.caller.kind
    }

    /// The caller's session.
    pub fn session_id(&self) -> SessionId {
        self.caller.session
    }

    /// The call's name. A call that is run again, because nobody knows whether it was, has the same.
    pub fn call_id(&self) -> CallName {
        CallName { session: self.caller.session, number: self.origin }
    }

    /// How long the caller still waits; `None` when it waits for as long as it takes.
    pub fn time_left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody waits for the answer any more. The handler's future is dropped then; this is for what it has started
    /// elsewhere.
    pub fn is_cancelled(&self) -> bool {
        self.slot.is_cancelled()
    }

    /// Returns when nobody waits for the answer any more; never, when the handler ends first.
    pub async fn cancelled(&self) {
        loop {
            // Made before the look, so that it is not missed in between.
            let cancelled = self.slot.cancelled.notified();
            if self.is_cancelled() {
                return;
            }
            cancelled.await;
        }
    }

    /// The bulk data that comes with the call, if any does. The first call gets it.
    pub fn bulk(&self) -> Option<BulkReader> {
        if !self.shape.has(Shape::BULK_UP) {
            return None;
        }
        BulkReader::of_callee(self.line(), theirs(self.key, true), self.seal.clone())
    }

    /// Whether the caller takes bulk data beside the reply.
    pub fn wants_bulk(&self) -> bool {
        self.shape.has(Shape::BULK_DOWN)
    }

    /// Sends what this reads to the caller, after the reply. A handler that fails sends none.
    ///
    /// # Errors
    /// The caller takes no bulk data.
    pub fn reply_bulk(&self, reader: impl AsyncRead + Send + 'static) -> Result<(), Status> {
        if !self.wants_bulk() {
            return Err(Status::failed_precondition("the caller takes no bulk data beside the reply"));
        }
        let stream = theirs(self.key, true);
        let room = self.line().desk().room_of(stream);
        let task = bulk::pump(Arc::clone(self.line()), stream, room, self.seal.clone(), Box::pin(reader));
        *lock(&self.slot.reply_bulk) = Some(Box::pin(task));
        Ok(())
    }
}

impl Context<AtParty> {
    /// The broker, to call it from the handler.
    pub fn broker(&self) -> Target {
        Target::new(Arc::clone(self.line()), Way::Peer)
    }

    /// A node, by way of the broker.
    pub fn node(&self, node: PeerId) -> Target {
        Target::new(Arc::clone(self.line()), Way::Node(node))
    }

    /// Any node of a group, by way of the broker.
    pub fn group(&self, group: &str) -> Target {
        Target::new(Arc::clone(self.line()), Way::Group(group.to_owned().into()))
    }
}
