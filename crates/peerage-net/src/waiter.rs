//! Those who wait for a link, and what they get.

use std::sync::Arc;

use peerage_machine::{DialId, OnReturn, Why};
use peerage_wire::{Address, PeerId};
use tokio::sync::oneshot;

use crate::hosted::Instance;
use crate::link_handle::{InstanceKey, LinkHandle};

/// A link that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) link: Arc<LinkHandle>,
    pub(crate) peer: PeerId,
    key: InstanceKey,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.link.release(self.key);
    }
}

/// How a dial of the application's ends.
pub(crate) type Granted = Result<Grant, Why>;

/// Who waits for a dial.
enum Who {
    Machine {
        instance: Arc<dyn Instance>,
        dial: DialId,
    },
    /// Each under a key of its own, so that one who stops waiting takes no other's hold away.
    Application {
        key: InstanceKey,
        answer: oneshot::Sender<Granted>,
    },
}

/// Somebody who waits for a link, and must get one answer.
pub(crate) struct Waiter {
    who: Who,
    /// Where to dial, should the link that is waited for come to nothing.
    fallback: Vec<Address>,
}

impl Waiter {
    pub(crate) fn machine(instance: Arc<dyn Instance>, dial: DialId) -> Self {
        Self { who: Who::Machine { instance, dial }, fallback: Vec::new() }
    }

    pub(crate) fn application(key: InstanceKey, answer: oneshot::Sender<Granted>) -> Self {
        Self { who: Who::Application { key, answer }, fallback: Vec::new() }
    }

    pub(crate) fn or_dial(self, fallback: Vec<Address>) -> Self {
        Self { fallback, ..self }
    }

    pub(crate) fn take_fallback(&mut self) -> Vec<Address> {
        std::mem::take(&mut self.fallback)
    }

    pub(crate) fn key(&self) -> InstanceKey {
        match &self.who {
            Who::Machine { instance, .. } => instance.key(),
            Who::Application { key, .. } => *key,
        }
    }

    /// The instance that waits, or none when the application itself does.
    pub(crate) fn instance(&self) -> Option<&Arc<dyn Instance>> {
        match &self.who {
            Who::Machine { instance, .. } => Some(instance),
            Who::Application { .. } => None,
        }
    }

    /// Whether a link that a newer incarnation of its peer has superseded will do.
    pub(crate) fn coexists(&self) -> bool {
        self.instance().is_some_and(|instance| instance.spec().on_return == OnReturn::Coexist)
    }

    /// Returns when whoever asked stops waiting.
    pub(crate) async fn abandoned(&mut self) {
        match &mut self.who {
            // A machine waits until it is told.
            Who::Machine { .. } => std::future::pending().await,
            Who::Application { answer, .. } => answer.closed().await,
        }
    }

    /// The link is there, and held under [`Waiter::key`]. Gives the waiter back when its instance has just lost the
    /// link again.
    pub(crate) fn done(self, link: &Arc<LinkHandle>) -> Result<(), Self> {
        match self.who {
            Who::Machine { instance, dial } => {
                if instance.dialed(dial, link.id) {
                    return Ok(());
                }
                Err(Self { who: Who::Machine { instance, dial }, fallback: self.fallback })
            }
            Who::Application { key, answer } => {
                if let Some(known) = link.known.get() {
                    // Whoever asked may have stopped waiting: what is not taken is dropped, and holds nothing then.
                    let _ = answer.send(Ok(Grant { link: Arc::clone(link), peer: known.peer, key }));
                }
                Ok(())
            }
        }
    }

    pub(crate) fn failed(self, why: Why) {
        match self.who {
            Who::Machine { instance, dial } => instance.dial_failed(dial, why),
            Who::Application { answer, .. } => {
                let _ = answer.send(Err(why));
            }
        }
    }
}
