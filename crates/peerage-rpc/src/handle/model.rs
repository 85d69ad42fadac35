//! The application's side of a broker.

use prost::Message;

use super::broker::Session;
use super::context::Context;
use crate::broker::Policy;
use crate::status::Status;
use peerage_wire::PeerId;

/// What the application keeps and does at a broker. Handlers have it as [`Context::model`]; it is hooked in where sessions come
/// and go. Hooks run on the task of the handlers, one at a time and in the order in which things happen: a session's before
/// its commands. They should be quick; what a hook panics over harms nobody.
///
/// `()` is the model of a broker that has none.
pub trait Model: Send + Sync + Sized + 'static {
    /// What is kept of a user's session.
    type Session: Default + Send + Sync + 'static;
    /// What is kept of a node's session.
    type Node: Default + Send + Sync + 'static;
    /// What users are offered.
    type Offers: Message + Default + 'static;

    /// What this user may use, sent to each of its sessions when it begins, and again when it has changed: whenever a
    /// node comes or goes, and on [`crate::BrokerRef::refresh_offers`]. `None`: nothing is sent.
    fn resources(&self, broker: &super::broker::BrokerRef<Self>, user: PeerId) -> Option<Self::Offers> {
        let _ = (broker, user);
        None
    }

    /// Before a command is run here, at the broker, with what its declaration asks for checked.
    ///
    /// # Errors
    /// The command is not run, and this is its answer.
    fn before_run(&self, ctx: &Context<Self>, command: &str) -> Result<(), Status> {
        let _ = (ctx, command);
        Ok(())
    }

    /// Which calls of parties go to nodes. Asked once, when the broker starts; the rule it gives is asked about each call, where
    /// the broker passes it on, and not on the task of the handlers. `None`: all go, unless
    /// [`crate::BrokerConfig::calls_to_nodes`] says otherwise.
    fn calls_to_nodes(&self) -> Option<Policy> {
        None
    }

    /// A user has begun a session.
    fn session_came(&self, session: &Session<Self>) {
        let _ = session;
    }

    /// A user's session has a link again; or, with the journal, is back after the broker was restarted, with a new state.
    fn session_recovered(&self, session: &Session<Self>) {
        let _ = session;
    }

    /// A user's session is over.
    fn session_gone(&self, session: &Session<Self>, why: &Status) {
        let _ = (session, why);
    }

    /// A node is there: new, or again.
    fn node_came(&self, node: &Session<Self>) {
        let _ = node;
    }

    /// A node is not there any more: its link is lost, or its session is over. What it was given may still be answered, until
    /// its grace is over.
    fn node_gone(&self, node: &Session<Self>, why: &Status) {
        let _ = (node, why);
    }
}

impl Model for () {
    type Session = ();
    type Node = ();
    type Offers = ();
}
