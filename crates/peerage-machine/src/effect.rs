//! What a machine wants of the world.

use std::time::Duration;

use bytes::Bytes;
use peerage_wire::{Address, PeerId};

use crate::{CallId, DialId, JobId, LinkId, OpId, SendId, Why};

/// The order of service on a link. Messages of one instance and class arrive in order; classes overtake each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Class {
    /// What somebody waits for: the default.
    #[default]
    Interactive,
    /// Small messages that keep the protocol alive. They need no credit; a link queues at most
    /// 256 KiB of them for one instance, and each is at most 64 KiB.
    Control,
    /// What may take its time.
    Bulk,
}

/// Whom to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Whoever listens there.
    Address(Address),
    /// This peer and no other, at the first of these addresses, or those that the host knows, that answers.
    Peer {
        /// Who must answer.
        peer: PeerId,
        /// Where to try.
        addresses: Vec<Address>,
    },
}

/// One change of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Bytes,
    /// The new value, or `None` to delete.
    pub value: Option<Bytes>,
}

/// One thing that a machine wants done. Hosts carry effects out in the order of the outbox.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Effect<M, E, A> {
    /// Queue a message on each of these links. Encoded once.
    Send {
        /// Where to. Links that are down are skipped, and reported if there is an id.
        to: Vec<LinkId>,
        /// What.
        message: M,
        /// The order of service.
        class: Class,
        /// Set when the machine wants [`crate::Input::Undelivered`] for a link that refuses it.
        id: Option<SendId>,
    },
    /// [`Effect::Send`] to one link, without an id: what most messages are, and so without a list.
    SendOne {
        /// Where to. When it is down, nothing is sent.
        to: LinkId,
        /// What.
        message: M,
        /// The order of service.
        class: Class,
    },
    /// Have a link to the target, existing or new, and hold it. Ends in `Dialed` or `DialFailed`.
    Dial {
        /// Chosen by the machine.
        id: DialId,
        /// Whom.
        target: Target,
    },
    /// Keep the link while this instance holds it. A link that no instance on either side holds closes after a grace.
    Hold(LinkId),
    /// This instance does not need the link any more.
    Release(LinkId),
    /// End this instance on the link; other instances keep it.
    CloseChannel {
        /// Which link.
        link: LinkId,
        /// What the peer is told.
        why: Why,
    },
    /// The peer did what no honest peer does. Counted; the host closes a link whose faults reach its limit.
    Fault {
        /// Who, by link.
        link: LinkId,
        /// What it did.
        what: &'static str,
    },
    /// Write a batch, all or nothing. Ends in `Stored`.
    Store {
        /// Chosen by the machine.
        op: OpId,
        /// The changes, in order.
        batch: Vec<Write>,
    },
    /// Check a signature, off the machine. Ends in `Verified`.
    Verify {
        /// Chosen by the machine.
        job: JobId,
        /// Whose signature it should be.
        signer: PeerId,
        /// The signature's domain.
        domain: &'static str,
        /// What should be signed.
        message: Bytes,
        /// The signature.
        signature: [u8; 64],
    },
    /// Tell the application.
    Emit(E),
    /// End a question of the application's.
    Answer {
        /// Which.
        call: CallId,
        /// How.
        answer: A,
    },
    /// Count something, by a name of the machine's: `mesh_duplicates_total`.
    Count {
        /// The counter.
        name: &'static str,
        /// By how much.
        by: u64,
    },
    /// Record a duration, by a name of the machine's.
    Observe {
        /// The histogram.
        name: &'static str,
        /// The value.
        value: Duration,
    },
}

/// Effects for which a machine at rest has room: more than most turns have.
const KEPT: usize = 8;

/// Effects, in the order in which the machine wanted them.
#[derive(Debug)]
pub struct Outbox<M, E, A> {
    effects: Vec<Effect<M, E, A>>,
    /// How many there were at once since room was given back.
    most: usize,
}

impl<M, E, A> Default for Outbox<M, E, A> {
    fn default() -> Self {
        Self { effects: Vec::new(), most: 0 }
    }
}

impl<M, E, A> Outbox<M, E, A> {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Any effect.
    pub fn push(&mut self, effect: Effect<M, E, A>) {
        self.effects.push(effect);
    }

    /// [`Effect::Send`] to one link, [`Class::Interactive`], without an id.
    pub fn send(&mut self, to: LinkId, message: M) {
        self.push(Effect::Send { to: vec![to], message, class: Class::Interactive, id: None });
    }

    /// [`Effect::Send`] to one link, [`Class::Control`], without an id.
    pub fn control(&mut self, to: LinkId, message: M) {
        self.push(Effect::Send { to: vec![to], message, class: Class::Control, id: None });
    }

    /// [`Effect::Dial`].
    pub fn dial(&mut self, id: DialId, target: Target) {
        self.push(Effect::Dial { id, target });
    }

    /// [`Effect::Emit`].
    pub fn emit(&mut self, event: E) {
        self.push(Effect::Emit(event));
    }

    /// [`Effect::Answer`].
    pub fn answer(&mut self, call: CallId, answer: A) {
        self.push(Effect::Answer { call, answer });
    }

    /// [`Effect::Count`].
    pub fn count(&mut self, name: &'static str, by: u64) {
        self.push(Effect::Count { name, by });
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// How much there is to do.
    pub fn len(&self) -> usize {
        self.effects.len()
    }

    /// Takes everything out, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<M, E, A>> + '_ {
        self.most = self.most.max(self.effects.len());
        self.effects.drain(..)
    }

    /// Gives back room that was not needed since the last call, in halves: a machine that is busy again has most of it. For
    /// hosts, once they have carried out what there was.
    pub fn rest(&mut self) {
        let needed = std::mem::take(&mut self.most).max(KEPT);
        if self.effects.capacity() >= 2 * needed {
            self.effects.shrink_to(self.effects.capacity() / 2);
        }
    }

    /// Gives every id that the machine chose (of dials, sends, batches, checks and calls) another number.
    ///
    /// Two machines inside one both count from where they like, so their ids meet. With `|n| 2 * n` for the one and
    /// `|n| 2 * n + 1` for the other they do not, and an input's id says whose it is.
    pub fn renumber(&mut self, mut number: impl FnMut(u64) -> u64) {
        for effect in &mut self.effects {
            if let Effect::Send { id: Some(SendId(id)), .. }
            | Effect::Dial { id: DialId(id), .. }
            | Effect::Store { op: OpId(id), .. }
            | Effect::Verify { job: JobId(id), .. }
            | Effect::Answer { call: CallId(id), .. } = effect
            {
                *id = number(*id);
            }
        }
    }

    /// Moves the effects of a machine inside this one here, its words turned into ours. An event may be for the outer
    /// machine alone: `None` keeps it from the application. Ids stay as they are.
    pub fn map<M2, E2, A2>(
        &mut self,
        inner: &mut Outbox<M2, E2, A2>,
        mut message: impl FnMut(M2) -> M,
        mut event: impl FnMut(E2) -> Option<E>,
        mut answer: impl FnMut(A2) -> A,
    ) {
        for effect in inner.drain() {
            self.push(match effect {
                Effect::Send { to, message: inner, class, id } => {
                    Effect::Send { to, message: message(inner), class, id }
                }
                Effect::SendOne { to, message: inner, class } => {
                    Effect::SendOne { to, message: message(inner), class }
                }
                Effect::Emit(inner) => match event(inner) {
                    Some(event) => Effect::Emit(event),
                    None => continue,
                },
                Effect::Answer { call, answer: inner } => Effect::Answer { call, answer: answer(inner) },
                Effect::Dial { id, target } => Effect::Dial { id, target },
                Effect::Hold(link) => Effect::Hold(link),
                Effect::Release(link) => Effect::Release(link),
                Effect::CloseChannel { link, why } => Effect::CloseChannel { link, why },
                Effect::Fault { link, what } => Effect::Fault { link, what },
                Effect::Store { op, batch } => Effect::Store { op, batch },
                Effect::Verify { job, signer, domain, message, signature } => {
                    Effect::Verify { job, signer, domain, message, signature }
                }
                Effect::Count { name, by } => Effect::Count { name, by },
                Effect::Observe { name, value } => Effect::Observe { name, value },
            });
        }
    }
}
