//! A link, as everybody but its own task sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::Waker;

use bytes::Bytes;
use peerage_machine::{Class, DialId, Direction, Incarnation, LinkId, UnixMillis, Why};
use peerage_wire::{Address, PeerId};
use tokio::sync::oneshot;

use crate::hosted::Instance;
use crate::scratch::lock;

/// Names an instance within its endpoint; 0 is the application itself, through `connect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceKey(pub(crate) u64);

/// Who waits for a dial.
enum Who {
    Machine { instance: Arc<dyn Instance>, dial: DialId },
    Application(oneshot::Sender<Result<PeerId, Why>>),
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

    pub(crate) fn application(answer: oneshot::Sender<Result<PeerId, Why>>) -> Self {
        Self { who: Who::Application(answer), fallback: Vec::new() }
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
            Who::Application(_) => InstanceKey(0),
        }
    }

    /// The instance that waits, or none when the application itself does.
    pub(crate) fn instance(&self) -> Option<&Arc<dyn Instance>> {
        match &self.who {
            Who::Machine { instance, .. } => Some(instance),
            Who::Application(_) => None,
        }
    }

    /// The link is there. Gives the waiter back when its instance has just lost the link again.
    pub(crate) fn done(self, link: &LinkHandle) -> Result<(), Self> {
        match self.who {
            Who::Machine { instance, dial } => {
                if instance.dialed(dial, link.id) {
                    return Ok(());
                }
                Err(Self { who: Who::Machine { instance, dial }, fallback: self.fallback })
            }
            Who::Application(answer) => {
                if let Some(known) = link.known.get() {
                    // Whoever asked may have stopped waiting.
                    let _ = answer.send(Ok(known.peer));
                }
                Ok(())
            }
        }
    }

    pub(crate) fn failed(self, why: Why) {
        match self.who {
            Who::Machine { instance, dial } => instance.dial_failed(dial, why),
            Who::Application(answer) => {
                let _ = answer.send(Err(why));
            }
        }
    }
}

/// What a link's task is asked to do.
pub(crate) enum Command {
    Send {
        channel: u32,
        class: Class,
        message: Bytes,
    },
    Open(Arc<dyn Instance>),
    CloseInstance {
        key: InstanceKey,
        detail: String,
    },
    /// Tell this waiter when its instance is up on this link, or why not.
    Await(Waiter),
    HeldChanged,
    Fault(&'static str),
    Close(Why),
    Drain(Why),
    /// Drop everything now.
    Abort,
}

/// What is known of the peer once the handshake is over.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) peer: PeerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) addresses: Vec<Address>,
    pub(crate) software: String,
    pub(crate) since: UnixMillis,
}

#[derive(Debug, Default)]
pub(crate) struct LinkCounters {
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) messages_received: AtomicU64,
    pub(crate) queued_messages: AtomicU64,
    pub(crate) queued_bytes: AtomicU64,
    pub(crate) rtt_micros: AtomicU64,
    pub(crate) late_fragments: AtomicU64,
    /// Sealed, and not yet taken by the transport.
    pub(crate) unsent_bytes: AtomicU64,
}

#[derive(Default)]
struct Mail {
    commands: Vec<Command>,
    /// Whom to wake, when it rests.
    waker: Option<Waker>,
    /// The link's task has nothing to do. While it has, it looks here by itself: a message that is answered in the same
    /// turn wakes nobody.
    rests: bool,
    gone: bool,
}

pub(crate) struct LinkHandle {
    pub(crate) id: LinkId,
    pub(crate) direction: Direction,
    pub(crate) remote: Address,
    pub(crate) known: OnceLock<Known>,
    pub(crate) up: AtomicBool,
    pub(crate) counters: LinkCounters,
    /// Instances that are open on the link.
    pub(crate) open: Mutex<BTreeMap<InstanceKey, Arc<dyn Instance>>>,
    /// Taken from its instances: it comes up for none of them any more.
    detached: AtomicBool,
    holders: Mutex<BTreeSet<InstanceKey>>,
    mail: Mutex<Mail>,
}

impl LinkHandle {
    pub(crate) fn new(id: LinkId, direction: Direction, remote: Address) -> Self {
        Self {
            id,
            direction,
            remote,
            known: OnceLock::new(),
            up: AtomicBool::new(false),
            counters: LinkCounters::default(),
            open: Mutex::default(),
            detached: AtomicBool::new(false),
            holders: Mutex::default(),
            mail: Mutex::default(),
        }
    }

    /// Asks the link's task; false when the task is gone, and then whoever cares hears of the link's end.
    pub(crate) fn ask(&self, command: Command) -> bool {
        let mail = lock(&self.mail);
        // Who hangs up and lingers can still be told not to.
        if mail.gone && !matches!(command, Command::Abort) {
            return false;
        }
        Self::put(mail, command);
        true
    }

    /// Lets a waiter wait for this link; gives it back when the link's task is gone.
    pub(crate) fn wait(&self, waiter: Waiter) -> Result<(), Waiter> {
        let mail = lock(&self.mail);
        if mail.gone {
            return Err(waiter);
        }
        Self::put(mail, Command::Await(waiter));
        Ok(())
    }

    fn put(mut mail: MutexGuard<'_, Mail>, command: Command) {
        mail.commands.push(command);
        let waker = std::mem::take(&mut mail.rests).then(|| mail.waker.clone()).flatten();
        drop(mail);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What has been asked since the last call, into `into`, which is empty.
    pub(crate) fn take_mail(&self, into: &mut Vec<Command>) {
        let mut mail = lock(&self.mail);
        mail.rests = false;
        std::mem::swap(&mut mail.commands, into);
    }

    /// Has the link's task woken by the next command; false when there is one already.
    pub(crate) fn await_mail(&self, waker: &Waker) -> bool {
        let mut mail = lock(&self.mail);
        if !mail.commands.is_empty() {
            return false;
        }
        mail.rests = true;
        match &mail.waker {
            Some(known) if known.will_wake(waker) => {}
            _ => mail.waker = Some(waker.clone()),
        }
        true
    }

    /// No more commands but [`Command::Abort`]; those that nobody took.
    pub(crate) fn shut_mail(&self) -> Vec<Command> {
        let mut mail = lock(&self.mail);
        mail.gone = true;
        std::mem::take(&mut mail.commands)
    }

    pub(crate) fn hold(&self, key: InstanceKey) {
        let changed = {
            let mut holders = lock(&self.holders);
            let was = holders.is_empty();
            holders.insert(key);
            was
        };
        if changed {
            self.ask(Command::HeldChanged);
        }
    }

    pub(crate) fn release(&self, key: InstanceKey) {
        let changed = {
            let mut holders = lock(&self.holders);
            holders.remove(&key) && holders.is_empty()
        };
        if changed {
            self.ask(Command::HeldChanged);
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        !lock(&self.holders).is_empty()
    }

    /// Takes the link from its instances at once, before its task gets to it.
    pub(crate) fn detach(&self, why: &Why) {
        self.detached.store(true, Ordering::SeqCst);
        let open = std::mem::take(&mut *lock(&self.open));
        for instance in open.into_values() {
            instance.down(self.id, why.clone());
        }
    }
    pub(crate) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::SeqCst)
    }
}
