//! The handle itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock, Weak};

use bytes::Bytes;
use peerage_machine::{CallId, InstanceName};
use peerage_net::{Endpoint, HostError, Hosted, InstanceSpec, OnReturn};
use peerage_wire::{Address, PeerId};

use super::Closed;
use super::book::Book;
use super::desk::{Counter, Desk, Standing};
use super::events::Events;
use super::queue::{Next, Queue, lock};
use super::received::{Handled, Received, RecvError};
use crate::mesh::{
    BOOK, BroadcastError, Conduct, ConfigError, IntoParts, JoinError, MeshAnswer, MeshConfig, MeshMachine,
    MeshSnapshot, MeshStart, Message, Receipt, WhisperError,
};

/// Why a mesh was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A value of the configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The endpoint does not run it.
    #[error(transparent)]
    Host(#[from] HostError),
    /// [`MeshConfig::book`] is there and cannot be read.
    #[error("the address book {}: {detail}", path.display())]
    Book {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

type Handler = Box<dyn Fn(&Received) -> Handled + Send + Sync>;

/// A mesh on an endpoint. Clones are the same mesh; when the last is gone it leaves the mesh. [`Mesh::close`] does so in
/// good order.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    hosted: Hosted<MeshMachine>,
    desk: Arc<Desk>,
    book: Option<Arc<Book>>,
    handlers: RwLock<Vec<Handler>>,
    /// What no handler took; there once there is a handler.
    passed: Mutex<Option<Arc<Queue<Message>>>>,
    config: MeshConfig,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Inner {
    fn leave(&self) {
        // Closed already is as good.
        let _ = self.hosted.call(|machine, now, out| machine.leave(now, out));
        self.hosted.close();
        if let Some(book) = &self.book {
            book.write();
        }
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("name", &self.inner.config.name).finish_non_exhaustive()
    }
}

/// Takes a call back when nobody waits for it any more.
struct Pending<'a> {
    inner: &'a Inner,
    call: CallId,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.inner.desk.forget(self.call);
        let _ = self.inner.hosted.call(|machine, now, out| machine.cancel(now, self.call, out));
    }
}

impl Mesh {
    /// Opens a mesh on an endpoint. It knows nobody yet: see [`Mesh::join`]; others may join by this peer. With
    /// [`MeshConfig::book`], it turns to those that an earlier start knew, which [`Mesh::ready`] waits for.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(endpoint: &Endpoint, config: MeshConfig) -> Result<Self, OpenError> {
        config.check()?;
        let spec = InstanceSpec {
            name: InstanceName { protocol: "mesh".to_owned(), name: config.name.clone() },
            version: MeshConfig::VERSION,
            parameters: config.parameters(),
            on_return: OnReturn::Replace,
        };
        let desk = Arc::new(Desk::new(&config));
        let (book, known) = match config.book.as_deref() {
            Some(path) => {
                let opened = Book::open(path);
                let (book, known) = opened
                    .map_err(|error| OpenError::Book { path: path.to_owned(), detail: error.to_string() })?;
                (Some(Arc::new(book)), known)
            }
            None => (None, None),
        };
        let settings = config.clone();
        let make = |start: peerage_net::Start| {
            let peerage_net::Start { now, seed, identity, incarnation, addresses, .. } = start;
            MeshMachine::new(settings, MeshStart { now, seed, identity, incarnation, addresses })
        };
        let sink = Counter { desk: Arc::clone(&desk), book: book.clone() };
        let hosted = endpoint.host(spec, make, sink)?;
        if let Some(known) = known {
            let stored = BTreeMap::from([(Bytes::from_static(BOOK), known)]);
            // An endpoint that closes meanwhile is told of by whatever is called next.
            let _ = hosted.call(|machine, now, out| machine.restore(now, &stored, out));
        }
        let (handlers, passed) = (RwLock::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { hosted, desk, book, handlers, passed, config }) })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.inner.config.name
    }

    /// The endpoint that it runs on.
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.hosted.endpoint()
    }

    /// Joins by these contacts, at most 64; they are remembered for when everybody else is lost. Returns as soon as
    /// there is a neighbour, by whatever way.
    ///
    /// # Errors
    /// [`JoinError`], with each contact's reason when none could be reached. The mesh goes on trying in the background.
    pub async fn join(&self, contacts: &[Address]) -> Result<(), JoinError> {
        let inner = &*self.inner;
        let asked = inner.hosted.call(|machine, now, out| {
            machine.join(now, contacts.to_vec(), out).map(|call| (call, inner.desk.expect(call)))
        });
        let (call, answered) = asked.unwrap_or(Err(JoinError::Closed))?;
        let _pending = Pending { inner, call };
        match answered.await {
            Ok(MeshAnswer::Joined(result)) => result,
            Ok(MeshAnswer::Whispered(_)) | Err(_) => Err(JoinError::Closed),
        }
    }

    /// Returns when there is a neighbour: at once, or as soon as there is one.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn ready(&self) -> Result<(), Closed> {
        let mut standing = self.inner.desk.standing.subscribe();
        let found = standing.wait_for(|standing| *standing != Standing::Alone).await;
        match found.map(|standing| *standing) {
            Ok(Standing::Connected) => Ok(()),
            Ok(Standing::Closed | Standing::Alone) | Err(_) => Err(Closed),
        }
    }

    /// Says something to everyone; waits while a neighbour's queue is full. Returns when the message is on its way, not
    /// when it has arrived. Dropping the future before it returns says nothing.
    ///
    /// # Errors
    /// [`BroadcastError`], but never `Full`.
    pub async fn broadcast(&self, parts: impl IntoParts) -> Result<Receipt, BroadcastError> {
        let parts = parts.into_parts();
        loop {
            // Made before the try, so that no room is missed in between.
            let room = self.inner.desk.room.notified();
            match self.try_broadcast(parts.clone()) {
                Err(BroadcastError::Full { .. }) => room.await,
                result => return result,
            }
        }
    }

    /// Says something to everyone, or says at once why not.
    ///
    /// # Errors
    /// [`BroadcastError`].
    pub fn try_broadcast(&self, parts: impl IntoParts) -> Result<Receipt, BroadcastError> {
        let parts = parts.into_parts();
        let said = self.inner.hosted.call(|machine, now, out| machine.broadcast(now, parts, out));
        said.unwrap_or(Err(BroadcastError::Closed))
    }

    /// Says something to one peer, neighbour or not. Returns when it has it.
    ///
    /// # Errors
    /// [`WhisperError`]; after `TimedOut` it may have arrived.
    pub async fn whisper(&self, peer: PeerId, parts: impl IntoParts) -> Result<(), WhisperError> {
        let (inner, parts) = (&*self.inner, parts.into_parts());
        let asked = inner.hosted.call(|machine, now, out| {
            machine.whisper(now, peer, parts, out).map(|call| (call, inner.desk.expect(call)))
        });
        let (call, answered) = asked.unwrap_or(Err(WhisperError::Closed))?;
        let _pending = Pending { inner, call };
        match answered.await {
            Ok(MeshAnswer::Whispered(result)) => result,
            Ok(MeshAnswer::Joined(_)) | Err(_) => Err(WhisperError::Closed),
        }
    }

    /// The next message that no handler took. Several may read: each message goes to one. A reader that leaves
    /// [`MeshConfig::inbox_messages`] or [`MeshConfig::inbox_bytes`] unread loses the oldest and is told. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// [`RecvError`].
    pub async fn recv(&self) -> Result<Received, RecvError> {
        let passed = lock(&self.inner.passed).clone();
        let next = match &passed {
            Some(passed) => passed.next().await,
            None => self.inner.desk.inbox.next().await,
        };
        match next {
            Next::Item(message) => Ok(Received { message, mesh: self.clone() }),
            Next::Lagged(missed) => Err(RecvError::Lagged { missed }),
            Next::Closed => Err(RecvError::Closed),
        }
    }

    /// Adds a handler. Messages go to handlers in the order in which they were added, until one takes it; what none
    /// takes goes to [`Mesh::recv`]. Add handlers before the first `recv`.
    ///
    /// Handlers run one message at a time on a task of the runtime that adds the first of them; a slow one holds up
    /// messages, not the network. One that panics ends the task: no handler runs any more, and [`Mesh::recv`] hears
    /// [`RecvError::Closed`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, as [`tokio::spawn`] does.
    pub fn on(&self, handler: impl Fn(&Received) -> Handled + Send + Sync + 'static) {
        let inner = &self.inner;
        inner.handlers.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(Box::new(handler));
        let mut passed = lock(&inner.passed);
        if passed.is_none() {
            let queue = Arc::new(Queue::new(inner.config.inbox_messages, inner.config.inbox_bytes));
            tokio::spawn(hand_out(Arc::downgrade(inner), Arc::clone(&inner.desk), Arc::clone(&queue)));
            *passed = Some(queue);
        }
    }

    /// All events from now on.
    pub fn events(&self) -> Events {
        Events { queue: self.inner.desk.subscribe() }
    }

    /// Whom it talks to, in the order of their keys.
    pub fn neighbours(&self) -> Vec<PeerId> {
        self.inner.hosted.call(|machine, _, _| machine.neighbours()).unwrap_or_default()
    }

    /// How a peer has behaved, in five numbers and their sum; `None` of one that did nothing of note lately.
    pub fn explain(&self, peer: &PeerId) -> Option<Conduct> {
        self.inner.hosted.call(|machine, now, _| machine.explain(now, peer)).unwrap_or_default()
    }

    /// What a dashboard needs.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn snapshot(&self) -> Result<MeshSnapshot, Closed> {
        self.inner.hosted.call(|machine, _, _| machine.snapshot()).map_err(|_| Closed)
    }

    /// Leaves the mesh: neighbours are told, waiting calls end as closed, and readers get what is left and then the end.
    /// What was broadcast goes out while the endpoint lives: [`Endpoint::close`] flushes it. The address book is written before
    /// this returns.
    pub fn close(&self) {
        self.inner.leave();
    }
}

struct Ends(Arc<Queue<Message>>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Gives messages to handlers, until the mesh is closed or its last handle is gone.
async fn hand_out(mesh: Weak<Inner>, desk: Arc<Desk>, passed: Arc<Queue<Message>>) {
    // Also when a handler panics: readers then hear the end, instead of nothing for ever.
    let _ends = Ends(Arc::clone(&passed));
    loop {
        let message = match desk.inbox.next().await {
            Next::Item(message) => message,
            Next::Lagged(missed) => {
                passed.note_missed(missed);
                continue;
            }
            Next::Closed => return,
        };
        let Some(inner) = mesh.upgrade() else { return };
        let received = Received { message, mesh: Mesh { inner: Arc::clone(&inner) } };
        let handlers = inner.handlers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let taken = handlers.iter().any(|handler| handler(&received) == Handled::Taken);
        drop(handlers);
        if !taken {
            let bytes = received.len() as u64;
            passed.push(received.into_message(), bytes);
        }
    }
}
