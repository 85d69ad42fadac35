//! Dials: one after the other address until a link is up.

use std::sync::Arc;
use std::time::Duration;

use peerage_machine::{Direction, Target, Why};
use peerage_wire::{Address, PeerId, Suite};
use tokio::sync::oneshot;

use crate::close::shut_down;
use crate::driver::{Driver, Ending, Running};
use crate::hub::{Guest, Shared};
use crate::transport::Connection;
use crate::waiter::{Granted, Waiter};

/// How often an address is tried that leads to a peer which says that it has another link to us.
const TRIES: usize = 3;
/// How often an address is tried again with the cookie that it asked for. Twice: the secret may change in between.
const COOKIES: usize = 2;
/// How long to wait for that other link. It may be on its way and slower than the word of it; or it may be one that is
/// over here and not yet there.
const RIVAL: Duration = Duration::from_secs(1);

/// A dial on its way.
struct Attempt {
    waiter: Waiter,
    expected: Option<PeerId>,
    addresses: Vec<Address>,
}

impl Shared {
    /// Gets `waiter` a link to the target. What fails at once goes to `fail` instead of the waiter, because the caller
    /// may hold the lock that the waiter needs.
    pub(crate) fn dial(self: &Arc<Self>, waiter: Waiter, target: Target, fail: impl FnOnce(Waiter, Why)) {
        if self.is_closing() {
            return fail(waiter, shut_down());
        }
        match target {
            Target::Address(_) if self.is_draining() => fail(waiter, shut_down()),
            Target::Address(address) => {
                self.begin(Attempt { waiter, expected: None, addresses: vec![address] });
            }
            Target::Peer { peer, .. } if peer == self.me => fail(waiter, Why::SelfDial),
            Target::Peer { peer, addresses } => {
                if let Err(mut waiter) = self.await_peer(peer, waiter.or_dial(addresses)) {
                    let addresses = waiter.take_fallback();
                    if addresses.is_empty() {
                        return fail(waiter, Why::NoAddress);
                    }
                    if self.is_draining() {
                        return fail(waiter, shut_down());
                    }
                    self.begin(Attempt { waiter, expected: Some(peer), addresses });
                }
            }
        }
    }

    /// As [`Shared::dial`], for somebody who waits here, and who holds the link by what it gets.
    pub(crate) async fn dial_for_application(self: &Arc<Self>, target: Target) -> Granted {
        let (answer, answered) = oneshot::channel();
        self.dial(Waiter::application(self.next_key(), answer), target, Waiter::failed);
        answered.await.unwrap_or_else(|_| Err(shut_down()))
    }

    fn begin(self: &Arc<Self>, attempt: Attempt) {
        self.counters.dials.add(1);
        let dialling = Box::pin(dial(Arc::clone(self), attempt));
        self.shards.spawn(async {
            // The task lives as long as the link, and what finds it goes before.
            if let Some(link) = dialling.await {
                link.until_end().await;
            }
        });
    }

    /// The link that a waiter waited for came to nothing: another to the same peer serves as well, or a dial of its own.
    pub(crate) fn reroute(self: &Arc<Self>, peer: Option<PeerId>, waiter: Waiter, why: Why) {
        let Some(peer) = peer else { return waiter.failed(why) };
        if let Err(mut waiter) = self.await_peer(peer, waiter) {
            let addresses = waiter.take_fallback();
            if addresses.is_empty() || self.is_draining() {
                return waiter.failed(why);
            }
            self.begin(Attempt { waiter, expected: Some(peer), addresses });
        }
    }

    /// The suite that a listener would take instead of the first of these, if we allow it. The word of it came in clear:
    /// it chooses among what the configuration lists, and adds nothing.
    fn may_use(&self, counter_offer: Option<Suite>, tried: &[Suite]) -> Option<Suite> {
        counter_offer
            .filter(|suite| self.config.dial_suites.contains(suite))
            .filter(|suite| tried.first() != Some(suite))
    }

    /// Waits until there is a link to the peer, or one on its way; then that one has the waiter.
    async fn await_rival(&self, peer: PeerId, mut waiter: Waiter) -> Result<(), Waiter> {
        let until = tokio::time::Instant::now() + RIVAL;
        loop {
            // Made before the look, so that no arrival is missed in between.
            let arrived = self.arrived.notified();
            waiter = match self.await_peer(peer, waiter) {
                Ok(()) => return Ok(()),
                Err(waiter) => waiter,
            };
            tokio::select! {
                () = arrived => {}
                () = tokio::time::sleep_until(until) => return Err(waiter),
                () = self.until_closing() => return Err(waiter),
            }
        }
    }
}

/// One address after the other until there is a link, or nobody waits for it any more.
async fn dial(shared: Arc<Shared>, attempt: Attempt) -> Option<Running> {
    let Attempt { mut waiter, expected, addresses } = attempt;
    // Who dials may have lost its links by moving to another network; its hello is to say where it is now.
    if shared.own.look(shared.clock.mono()) {
        shared.tell_addresses();
    }
    let mut last = Why::NoAddress;
    for address in addresses {
        let mut suites = shared.config.dial_suites.clone();
        let mut asked_again = false;
        let mut cookies = 0;
        let mut tries = 0;
        while tries < TRIES {
            let connected = tokio::select! {
                // Nobody waits for the answer any more, nor would anybody hold the link.
                () = waiter.abandoned() => return None,
                connected = connect(&shared, &address) => connected,
            };
            let connection = match connected {
                Ok(connection) => connection,
                Err(why) => {
                    let address = shared.shown(&address);
                    tracing::debug!(%address, why = shared.shown_why(&why), "could not connect");
                    last = why;
                    break;
                }
            };
            let remote = connection.remote.clone();
            let seat = match shared.seat(Direction::Outbound, remote, connection.ip, Guest::Stranger) {
                Ok(seat) => seat,
                Err(refused) => {
                    waiter.failed(refused.why);
                    return None;
                }
            };
            let driver =
                Driver::new(Arc::clone(&shared), connection, seat, suites.clone(), expected, Some(waiter));
            let mut running = Running::new(driver);
            if running.until_link().await {
                return Some(running);
            }
            match running.until_end().await {
                Ending::Over => return None,
                Ending::NeverUp { waiter: back, why, peer, counter_offer, asked } => {
                    waiter = back;
                    last = why;
                    if let Some(suite) = shared.may_use(counter_offer, &suites)
                        && !std::mem::replace(&mut asked_again, true)
                    {
                        suites = vec![suite];
                        continue;
                    }
                    if asked && cookies < COOKIES {
                        cookies += 1;
                        shared.counters.cookies.add(1);
                        continue;
                    }
                    tries += 1;
                    let (Why::Duplicate, Some(peer)) = (&last, peer) else { break };
                    waiter = match shared.await_rival(peer, waiter).await {
                        Ok(()) => return None,
                        Err(waiter) => waiter,
                    };
                }
            }
        }
    }
    waiter.failed(last);
    None
}

async fn connect(shared: &Shared, address: &Address) -> Result<Connection, Why> {
    let transport =
        shared.transports.get(address.scheme()).ok_or_else(|| Why::NoTransport(address.clone()))?;
    let after = shared.config.connect_timeout;
    tokio::select! {
        () = shared.until_closing() => Err(shut_down()),
        connected = tokio::time::timeout(after, transport.dial(address)) => match connected {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Why::Unreachable { address: address.clone(), detail: error.to_string() }),
            Err(_) => Err(Why::TimedOut { what: "connecting", after }),
        },
    }
}
