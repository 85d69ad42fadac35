//! A broker, as its application holds it.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use peerage_machine::CallId;
use peerage_net::{CloseReport, Endpoint, Hosted, Sink, StoreAnswer, WeakHosted};
use peerage_store::Store;
use peerage_wire::PeerId;
use prost::Message as _;

use super::context::{Context, Here, Place};
use super::desk::{Desk, Work};
use super::directory::{Directory, Entry, State};
use super::inbox::lock;
use super::keeper::{Batch, Keeper};
use super::line::Way;
use super::model::Model;
use super::news::News;
use super::target::Target;
use crate::accounts::Kind;
use crate::broker::{BrokerMachine, SessionInfo};
use crate::event::{Answer, Event, SessionKey};
use crate::packet::SessionId;
use crate::status::Status;

/// What all handles of a broker have in common.
pub struct BrokerShared<M: Model> {
    pub(super) model: M,
    pub(super) hosted: Hosted<BrokerMachine>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) network: String,
    pub(super) directory: Mutex<Directory<M>>,
}

pub(super) struct BrokerSink {
    pub(super) desk: Arc<Desk>,
    pub(super) keeper: Arc<Keeper>,
}

impl Sink<BrokerMachine> for BrokerSink {
    fn hosted(&mut self, machine: WeakHosted<BrokerMachine>) {
        self.keeper.hosted(machine);
    }

    fn event(&mut self, event: Event) {
        let Some(event) = self.desk.event(event) else { return };
        let news = match event {
            Event::Opened { session, id, peer, kind, resumed, .. } => {
                News::Opened { session, id, peer, kind, resumed }
            }
            Event::Adrift { session, why } => News::Adrift { session, why },
            Event::Closed { session, status, .. } => {
                self.desk.session_closed(session, &status);
                News::Closed { session, status: *status }
            }
            other => return tracing::debug!(?other, "an event that brokers do not know"),
        };
        self.desk.push(Work::News(news));
    }

    fn answer(&mut self, call: CallId, answer: Answer) {
        self.desk.answer(call, answer);
    }

    fn store(&mut self, op: peerage_machine::OpId, batch: Vec<peerage_machine::Write>) -> StoreAnswer {
        self.keeper.keep(op, batch)
    }

    fn closed(&mut self) {
        self.desk.close();
    }
}

impl<M: Model> Place for M {
    type Shared = BrokerShared<M>;

    fn before_run(call: &Context<Self>, command: &str) -> Result<(), Status> {
        call.model().before_run(call, command)
    }

    fn news(here: &Arc<Here<Self>>, news: News) {
        let broker = BrokerRef { here: Arc::clone(here) };
        match news {
            News::Opened { session, id, peer, kind, resumed } => {
                broker.opened(session, id, (peer, kind), resumed);
            }
            News::Adrift { session, why } => {
                let entry = lock(&here.shared.directory).entry(session);
                if let Some(entry) = entry.filter(|entry| entry.kind == Kind::Node && entry.goes()) {
                    let status = Status::unavailable(format!("its link is lost: {why}"));
                    here.shared.model.node_gone(&broker.named(entry), &status);
                    broker.refresh_offers();
                }
            }
            News::Closed { session, status } => broker.ended(session, &status),
        }
    }
}

/// A broker, for whoever works with it and does not own it: handlers, hooks, tasks. Cheap to clone; it keeps nothing open.
pub struct BrokerRef<M: Model = ()> {
    pub(super) here: Arc<Here<M>>,
}

impl<M: Model> Clone for BrokerRef<M> {
    fn clone(&self) -> Self {
        Self { here: Arc::clone(&self.here) }
    }
}

impl<M: Model> fmt::Debug for BrokerRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("network", &self.shared().network).finish_non_exhaustive()
    }
}

impl<M: Model> BrokerRef<M> {
    pub(super) fn shared(&self) -> &BrokerShared<M> {
        &self.here.shared
    }

    fn named(&self, entry: Arc<Entry<M>>) -> Session<M> {
        let target = Target::new(Arc::clone(&self.here.line), Way::Session(entry.key));
        Session { broker: self.clone(), target, entry }
    }

    fn opened(&self, key: SessionKey, id: SessionId, (peer, kind): (PeerId, Kind), resumed: bool) {
        let (entry, is_new) = lock(&self.shared().directory).open(key, id, peer, kind);
        let session = self.named(entry);
        match kind {
            Kind::User => {
                if is_new {
                    self.offer_to(&[peer]);
                }
                if resumed {
                    self.shared().model.session_recovered(&session);
                } else {
                    self.shared().model.session_came(&session);
                }
            }
            Kind::Node => {
                if session.entry.comes() {
                    self.shared().model.node_came(&session);
                    self.refresh_offers();
                }
            }
        }
    }

    fn ended(&self, key: SessionKey, status: &Status) {
        let (entry, is_last) = lock(&self.shared().directory).close(key);
        let Some(entry) = entry else { return };
        if is_last && entry.kind == Kind::User {
            // Its next session gets them anew.
            let peer = entry.peer;
            let _ =
                self.shared().hosted.call(|machine, _, out| machine.offer(peer, bytes::Bytes::new(), out));
        }
        let (kind, was_there) = (entry.kind, entry.goes());
        let session = self.named(entry);
        match kind {
            Kind::User => self.shared().model.session_gone(&session, status),
            Kind::Node if was_there => {
                self.shared().model.node_gone(&session, status);
                self.refresh_offers();
            }
            Kind::Node => {}
        }
    }

    fn offer_to(&self, users: &[PeerId]) {
        let model = &self.shared().model;
        let offers: Vec<_> = users
            .iter()
            .map(|user| {
                let resources = model.resources(self, *user);
                (*user, resources.map(|resources| resources.encode_to_vec()).unwrap_or_default().into())
            })
            .collect();
        let changed = lock(&self.shared().directory).changed(offers);
        if !changed.is_empty() {
            // A closed broker offers nothing.
            let _ = self.shared().hosted.call(|machine, _, out| {
                for (user, resources) in changed {
                    machine.offer(user, resources, out);
                }
            });
        }
    }

    /// The application's model.
    pub fn model(&self) -> &M {
        &self.shared().model
    }

    /// Its own key.
    pub fn peer_id(&self) -> PeerId {
        self.endpoint().peer_id()
    }

    /// The endpoint that carries it.
    pub fn endpoint(&self) -> &Endpoint {
        self.shared().hosted.endpoint()
    }

    /// What it keeps things in: what handlers staged in [`Context::batch`] is there once it is written, which the next
    /// handler does not wait for. Who reads what another handler writes keeps it in the model, too.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared().keeper.store
    }

    /// Asks the model again what users who have sessions may use, and sends what has changed.
    pub fn refresh_offers(&self) {
        let users = lock(&self.shared().directory).users();
        self.offer_to(&users);
    }

    /// A session, to call its party; `None` when there is none of that name.
    pub fn session(&self, id: &SessionId) -> Option<Session<M>> {
        let entry = lock(&self.shared().directory).named(id)?;
        Some(self.named(entry))
    }

    /// All sessions of a user, or of a node.
    pub fn sessions_of(&self, peer: &PeerId) -> Vec<Session<M>> {
        let entries = lock(&self.shared().directory).of(peer);
        entries.into_iter().map(|entry| self.named(entry)).collect()
    }

    /// A node, to be called. A call to one that is not there fails at once.
    pub fn node(&self, node: PeerId) -> Target {
        Target::new(Arc::clone(&self.here.line), Way::Node(node))
    }

    /// The node of a group that has the fewest calls under way, to be called.
    pub fn group(&self, group: &str) -> Target {
        Target::new(Arc::clone(&self.here.line), Way::Group(group.to_owned().into()))
    }

    /// Sessions that there are, for a dashboard; empty when it is closed.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let sessions = self.shared().hosted.call(|machine, _, _| machine.sessions().collect());
        sessions.unwrap_or_default()
    }

    /// Nodes that are there, in the order of their keys; empty when it is closed.
    pub fn nodes(&self) -> Vec<PeerId> {
        let nodes =
            self.shared().hosted.call(|machine, _, _| machine.nodes().map(|(peer, _)| peer).collect());
        nodes.unwrap_or_default()
    }
}

/// A session at the broker: its party can be called, by the methods of [`Target`]. Cheap to clone; it keeps nothing open.
pub struct Session<M: Model = ()> {
    broker: BrokerRef<M>,
    target: Target,
    entry: Arc<Entry<M>>,
}

impl<M: Model> Deref for Session<M> {
    type Target = Target;

    fn deref(&self) -> &Target {
        &self.target
    }
}

impl<M: Model> Clone for Session<M> {
    fn clone(&self) -> Self {
        Self { broker: self.broker.clone(), target: self.target.clone(), entry: Arc::clone(&self.entry) }
    }
}

impl<M: Model> fmt::Debug for Session<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.entry.id)
            .field("peer", &self.entry.peer)
            .finish_non_exhaustive()
    }
}

impl<M: Model> Session<M> {
    /// Its name.
    pub fn id(&self) -> SessionId {
        self.entry.id
    }

    /// Whose it is.
    pub fn peer(&self) -> PeerId {
        self.entry.peer
    }

    /// What that one is.
    pub fn kind(&self) -> Kind {
        self.entry.kind
    }

    /// What the application keeps of it, if it is a user's.
    pub fn user(&self) -> Option<&M::Session> {
        match &self.entry.state {
            State::User(state) => Some(state),
            State::Node(_) => None,
        }
    }

    /// What the application keeps of it, if it is a node's.
    pub fn node(&self) -> Option<&M::Node> {
        match &self.entry.state {
            State::Node(state) => Some(state),
            State::User(_) => None,
        }
    }

    /// Its broker.
    pub fn broker(&self) -> &BrokerRef<M> {
        &self.broker
    }

    /// Waits until all one-way commands that were sent by this session before are done: run, or refused.
    ///
    /// # Errors
    /// The first of those since this was asked last that failed.
    pub async fn flush(&self) -> Result<(), Status> {
        self.broker.here.line.desk().flush(Some(self.entry.key)).await
    }

    /// Ends it, whatever is under way; its party hears why, and does not come back by itself.
    pub fn end(&self, status: &Status) {
        let key = self.entry.key;
        // A closed broker has ended it.
        let _ = self.broker.shared().hosted.call(|machine, _, out| machine.end_session(key, status, out));
    }
}

impl<M: Model> Context<M> {
    /// The broker that runs the command.
    pub fn broker(&self) -> BrokerRef<M> {
        BrokerRef { here: Arc::clone(&self.here) }
    }

    /// The application's model.
    pub fn model(&self) -> &M {
        &self.here.shared.model
    }

    /// The caller's session; `None` when it is over.
    pub fn session(&self) -> Option<Session<M>> {
        let entry = lock(&self.here.shared.directory).entry(self.key().session)?;
        Some(self.broker().named(entry))
    }

    /// A node, to be called.
    pub fn node(&self, node: PeerId) -> Target {
        self.broker().node(node)
    }

    /// What is to be written together with the reply: all or nothing, before anybody hears that the command is done. With
    /// the journal, a command whose writes are there is never run again. A command that fails writes nothing.
    pub fn batch(&self) -> Batch<'_> {
        Batch::new(&self.slot.writes)
    }
}

/// A broker. Clones are the same broker; when the last is gone it ends. [`Broker::close`] ends it in good order.
pub struct Broker<M: Model = ()> {
    broker: BrokerRef<M>,
    inner: Arc<Owned>,
}

struct Owned {
    hosted: Hosted<BrokerMachine>,
    keeper: Arc<Keeper>,
    /// Its own, which closes with it.
    endpoint: Option<Endpoint>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.hosted.close();
    }
}

impl<M: Model> Broker<M> {
    pub(super) fn own(broker: BrokerRef<M>, endpoint: Option<Endpoint>) -> Self {
        let (hosted, keeper) = (broker.shared().hosted.clone(), Arc::clone(&broker.shared().keeper));
        Self { broker, inner: Arc::new(Owned { hosted, keeper, endpoint }) }
    }

    /// Ends it: links write what waits, at most for the endpoint's grace, and the store has all that was handed to it. Parties
    /// look for it from then on; with the journal, they go on with their sessions when it is there again. Gives what became of
    /// the links, where the endpoint was its own.
    pub async fn close(&self) -> Option<CloseReport> {
        let report = match &self.inner.endpoint {
            Some(endpoint) => Some(endpoint.close().await),
            None => None,
        };
        self.inner.hosted.close();
        self.inner.keeper.flush().await;
        report
    }
}

impl<M: Model> Deref for Broker<M> {
    type Target = BrokerRef<M>;

    fn deref(&self) -> &BrokerRef<M> {
        &self.broker
    }
}

impl<M: Model> Clone for Broker<M> {
    fn clone(&self) -> Self {
        Self { broker: self.broker.clone(), inner: Arc::clone(&self.inner) }
    }
}

impl<M: Model> fmt::Debug for Broker<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.broker.fmt(f)
    }
}
