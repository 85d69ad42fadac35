//! Links that are dialled again when they end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use peerage_machine::{Direction, Rng, Side, Target, Why};
use peerage_wire::{Address, PeerId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::backoff::Backoff;
use crate::close::shut_down;
use crate::hub::Shared;
use crate::waiter::{Grant, Granted};

/// Whom a [`Maintained`] link is to.
#[derive(Clone, Debug)]
pub(crate) enum Aim {
    /// Whoever answers there.
    Address(Address),
    /// This peer, there or where it says that it listens.
    Peer(PeerId, Vec<Address>),
}

/// Where a [`Maintained`] link stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkState {
    /// Being dialled.
    Dialling {
        /// How many waits came before, since a link was last up for
        /// [`stable_after`](crate::BackoffConfig::stable_after).
        waits: u32,
    },
    /// There, and held.
    Up {
        /// Who is at the other end.
        peer: PeerId,
    },
    /// Not there, for a reason that may pass.
    Waiting {
        /// Why the link ended, or the last dial failed.
        why: Why,
        /// How many waits there were with this one.
        waits: u32,
        /// How long from the moment at which this wait began until the next dial.
        next_in: Duration,
    },
    /// Not there, for a reason that will not pass by waiting. Nothing follows.
    GivenUp {
        /// The reason.
        why: Why,
    },
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialling { .. } => f.write_str("dialling"),
            Self::Up { peer } => write!(f, "up to {}", peer.short()),
            Self::Waiting { why, next_in, .. } => {
                write!(f, "dialling again in {} ms: {why}", next_in.as_millis())
            }
            Self::GivenUp { why } => write!(f, "given up: {why}"),
        }
    }
}

/// A link that the application wants for as long as it keeps this: dialled, held, and dialled again when it ends for a
/// reason that may pass. Dropping it ends that and lets go of the link. It does not keep the endpoint alive, and is
/// given up when that closes. Made by [`crate::Endpoint::maintain`], whose page lists the reasons.
#[derive(Debug)]
#[must_use = "the link is let go when this is dropped"]
pub struct Maintained {
    state: watch::Receiver<LinkState>,
    hurry: Arc<Notify>,
    task: Option<JoinHandle<()>>,
}

impl Maintained {
    pub(crate) fn start(shared: &Arc<Shared>, aim: Aim) -> Self {
        let begins = if shared.is_closing() {
            LinkState::GivenUp { why: shut_down() }
        } else {
            LinkState::Dialling { waits: 0 }
        };
        let (told, state) = watch::channel(begins);
        let hurry = Arc::new(Notify::new());
        let rng = shared.seed.fork(&format!("maintain {}", shared.next_key().0)).rng();
        let keeper = Keeper {
            backoff: Backoff::new(shared.config.redial),
            shared: Arc::clone(shared),
            aim,
            last: None,
            told,
            hurry: Arc::clone(&hurry),
            rng,
        };
        let task = shared.shards.spawn_first(keeper.keep());
        Self { state, hurry, task }
    }

    /// Where it stands.
    pub fn state(&self) -> LinkState {
        let state = self.state.borrow().clone();
        // An endpoint that is dropped takes its tasks with it.
        let is_over = self.state.has_changed().is_err();
        if is_over && !matches!(state, LinkState::GivenUp { .. }) {
            return LinkState::GivenUp { why: shut_down() };
        }
        state
    }

    /// Waits for the next change, and says what it is. Changes that nobody waited for are passed over. After
    /// [`LinkState::GivenUp`] it gives that again, at once.
    pub async fn changed(&mut self) -> LinkState {
        // An error means that nothing follows.
        let _ = self.state.changed().await;
        self.state()
    }

    /// Waits until the link is up, and says who is there; or until it is given up, with the reason.
    ///
    /// # Errors
    /// The reason.
    pub async fn up(&mut self) -> Result<PeerId, Why> {
        loop {
            self.state.mark_unchanged();
            match self.state() {
                LinkState::Up { peer } => return Ok(peer),
                LinkState::GivenUp { why } => return Err(why),
                _ => self.changed().await,
            };
        }
    }

    /// Dials now if it waits: the network is back, say, or the peer is known to be.
    pub fn hurry(&self) {
        self.hurry.notify_waiters();
    }
}

impl Drop for Maintained {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What to do about an end or a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    /// It may pass: dial again.
    Passing,
    /// It holds for this address; another may do.
    OfAddress,
    /// It holds for the peer.
    Final,
}

/// The table is in the documentation of [`crate::Endpoint::maintain`].
fn outlook(why: &Why) -> Outlook {
    match why {
        Why::WrongPeer { .. } | Why::SelfDial | Why::NoTransport(_) | Why::NoAddress => Outlook::OfAddress,
        Why::Shutdown { by: Side::Us, .. }
        | Why::Refused(_)
        | Why::Superseded
        | Why::ChannelClosed { .. } => Outlook::Final,
        _ => Outlook::Passing,
    }
}

/// The peer of the last link, and where it was found.
struct Last {
    peer: PeerId,
    /// The address that worked, then those that the peer gave.
    addresses: Vec<Address>,
}

struct Keeper {
    shared: Arc<Shared>,
    aim: Aim,
    last: Option<Last>,
    backoff: Backoff,
    told: watch::Sender<LinkState>,
    hurry: Arc<Notify>,
    rng: Rng,
}

impl Keeper {
    async fn keep(mut self) {
        let shared = Arc::clone(&self.shared);
        let why = tokio::select! {
            why = self.until_given_up() => why,
            () = shared.until_closing() => shut_down(),
        };
        let aim = self.shared.shown(format!("{:?}", self.aim));
        tracing::debug!(%aim, why = self.shared.shown_why(&why), "a link is not dialled again");
        self.told.send_replace(LinkState::GivenUp { why });
    }

    async fn until_given_up(&mut self) -> Why {
        loop {
            self.told.send_replace(LinkState::Dialling { waits: self.backoff.waits() });
            let dialled = tokio::select! {
                dialled = self.dial() => dialled,
                // The peer came by itself, while a dial stands before a door that does not open.
                peer = self.linked() => self.dial_none(peer).await,
            };
            let why = match dialled {
                Err((why, Outlook::Passing)) => why,
                Err((why, _)) => return why,
                Ok(grant) => {
                    let why = self.hold(grant).await;
                    let elsewhere = matches!(why, Why::Duplicate | Why::Superseded);
                    if elsewhere && self.peer().is_some_and(|peer| self.shared.is_linked(peer)) {
                        continue;
                    }
                    if outlook(&why) != Outlook::Passing {
                        return why;
                    }
                    why
                }
            };
            self.wait(why).await;
        }
    }

    /// Whom the link is to, as far as that is known.
    fn peer(&self) -> Option<PeerId> {
        match (&self.aim, &self.last) {
            (Aim::Peer(peer, _), _) => Some(*peer),
            (Aim::Address(_), last) => last.as_ref().map(|last| last.peer),
        }
    }

    /// Returns when there is a link to the peer, or one on its way.
    async fn linked(&self) -> PeerId {
        let Some(peer) = self.peer() else { return std::future::pending().await };
        loop {
            // Made before the look, so that no arrival is missed in between.
            let arrived = self.shared.arrived.notified();
            if self.shared.is_linked(peer) {
                return peer;
            }
            arrived.await;
        }
    }

    /// The link that there is, or that is on its way.
    async fn dial_none(&self, peer: PeerId) -> Result<Grant, (Why, Outlook)> {
        let found = self.ask(Target::Peer { peer, addresses: Vec::new() }).await;
        found.map_err(|why| {
            // It may have gone meanwhile; that nobody knows an address is then for `dial` to say.
            let outlook = if why == Why::NoAddress { Outlook::Passing } else { outlook(&why) };
            (why, outlook)
        })
    }

    /// Holds the link to its end.
    async fn hold(&mut self, grant: Grant) -> Why {
        let mut addresses = Vec::new();
        if grant.link.direction == Direction::Outbound {
            addresses.push(grant.link.remote.clone());
        }
        if let Some(known) = grant.link.known.get() {
            addresses.extend(known.addresses.iter().cloned());
        }
        self.last = Some(Last { peer: grant.peer, addresses });
        self.backoff.up(self.shared.clock.mono());
        self.told.send_replace(LinkState::Up { peer: grant.peer });
        let why = grant.link.ended().await;
        self.backoff.down(self.shared.clock.mono());
        why
    }

    async fn wait(&mut self, why: Why) {
        let next_in = self.backoff.next(&mut self.rng);
        let until = tokio::time::Instant::now() + next_in;
        let aim = self.shared.shown(format!("{:?}", self.aim));
        tracing::debug!(%aim, why = self.shared.shown_why(&why), ?next_in, "a link will be dialled again");
        let hurry = Arc::clone(&self.hurry);
        let hurried = hurry.notified();
        self.told.send_replace(LinkState::Waiting { why, waits: self.backoff.waits(), next_in });
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = hurried => {}
            // The peer came by itself.
            _ = self.linked() => {}
        }
    }

    /// Tries every address that is known, once; a link that is there already serves as well.
    async fn dial(&self) -> Result<Grant, (Why, Outlook)> {
        let mut failed = None;
        let wanted: &[Address] = match &self.aim {
            Aim::Address(address) => std::slice::from_ref(address),
            Aim::Peer(_, addresses) => addresses,
        };
        let found = self.last.iter().flat_map(|last| &last.addresses);
        let mut tried: Vec<&Address> = Vec::new();
        // First where it was found last, then where it should be, then where it says that it is.
        for address in found.clone().take(1).chain(wanted).chain(found) {
            if tried.contains(&address) {
                continue;
            }
            tried.push(address);
            match self.dial_at(address).await {
                Ok(grant) => return Ok(grant),
                Err(why) => {
                    let outlook = outlook(&why);
                    if outlook == Outlook::Final {
                        return Err((why, outlook));
                    }
                    // Of several reasons one that may pass counts, and the first.
                    if !matches!(failed, Some((_, Outlook::Passing)))
                        && (failed.is_none() || outlook == Outlook::Passing)
                    {
                        failed = Some((why, outlook));
                    }
                }
            }
        }
        match (failed, &self.aim) {
            (Some(failed), _) => Err(failed),
            // Nowhere to dial; the peer may have a link to us.
            (None, Aim::Peer(peer, _)) => self.dial_none(*peer).await,
            (None, Aim::Address(_)) => Err((Why::NoAddress, Outlook::OfAddress)),
        }
    }

    async fn dial_at(&self, address: &Address) -> Granted {
        if let Some(peer) = self.peer() {
            let found = self.ask(Target::Peer { peer, addresses: vec![address.clone()] }).await;
            let is_wanted = matches!(&self.aim, Aim::Address(wanted) if wanted == address);
            // Somebody else is there now. Whoever that is will do.
            if !(is_wanted && matches!(found, Err(Why::WrongPeer { .. }))) {
                return found;
            }
        }
        self.ask(Target::Address(address.clone())).await
    }

    async fn ask(&self, target: Target) -> Granted {
        self.shared.dial_for_application(target).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_pass_are_told_from_those_that_do_not() {
        let by = Side::Them;
        let passing = [
            Why::Lost("reset".to_owned()),
            Why::Silent { after: Duration::from_secs(15) },
            Why::Shutdown { by, detail: String::new() },
            Why::TimedOut { what: "the handshake", after: Duration::from_secs(5) },
            Why::Limit { by, what: "links".to_owned() },
            Why::Fault { by, what: "a bit flipped".to_owned() },
            Why::Unheld,
            Why::Duplicate,
            Why::Incompatible { ours: String::new(), theirs: String::new() },
        ];
        for why in passing {
            assert_eq!(outlook(&why), Outlook::Passing, "{why}");
        }
        let ends = [shut_down(), Why::Superseded];
        for why in ends {
            assert_eq!(outlook(&why), Outlook::Final, "{why}");
        }
        assert_eq!(outlook(&Why::SelfDial), Outlook::OfAddress);
    }
}
