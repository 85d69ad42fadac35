//! Dials: one after the other address until a link is up.

use std::collections::VecDeque;
use std::sync::Arc;

use peerage_machine::{Direction, Side, Target, Why};
use peerage_wire::{Address, PeerId};

use crate::counters::add;
use crate::driver::{self, Ending};
use crate::hub::Shared;
use crate::link_handle::Waiter;
use crate::transport::Connection;

/// A dial on its way.
struct Attempt {
    waiter: Waiter,
    expected: Option<PeerId>,
    addresses: VecDeque<Address>,
}

impl Shared {
    /// Gets `waiter` a link to the target. What fails at once goes to `fail` instead of the waiter, because the caller
    /// may hold the lock that the waiter needs.
    pub(crate) fn dial(self: &Arc<Self>, waiter: Waiter, target: Target, fail: impl FnOnce(Waiter, Why)) {
        if self.closing.load(std::sync::atomic::Ordering::Acquire) {
            return fail(waiter, Why::Shutdown { by: Side::Us, detail: String::new() });
        }
        let attempt = match target {
            Target::Address(address) => Attempt { waiter, expected: None, addresses: [address].into() },
            Target::Peer { peer, .. } if peer == self.me => return fail(waiter, Why::SelfDial),
            Target::Peer { peer, addresses } => match self.await_peer(peer, waiter) {
                Ok(()) => return,
                Err(waiter) if addresses.is_empty() => return fail(waiter, Why::NoAddress),
                Err(waiter) => Attempt { waiter, expected: Some(peer), addresses: addresses.into() },
            },
        };
        add(&self.counters.dials, 1);
        self.shards.spawn(run(Arc::clone(self), attempt));
    }
}

async fn run(shared: Arc<Shared>, attempt: Attempt) {
    let Attempt { mut waiter, expected, mut addresses } = attempt;
    let mut last = Why::NoAddress;
    while let Some(address) = addresses.pop_front() {
        let connection = match connect(&shared, &address).await {
            Ok(connection) => connection,
            Err(why) => {
                tracing::debug!(%address, %why, "could not connect");
                last = why;
                continue;
            }
        };
        let seat = match shared.seat(Direction::Outbound, connection.remote.clone(), connection.ip) {
            Ok(seat) => seat,
            Err(why) => return waiter.failed(why),
        };
        match driver::run(Arc::clone(&shared), connection, seat, expected, Some(waiter)).await {
            Ending::Over => return,
            Ending::NeverUp(back, why) => {
                waiter = back;
                last = why;
            }
        }
    }
    waiter.failed(last);
}

async fn connect(shared: &Shared, address: &Address) -> Result<Connection, Why> {
    let transport =
        shared.transports.get(address.scheme()).ok_or_else(|| Why::NoTransport(address.clone()))?;
    let after = shared.config.connect_timeout;
    match tokio::time::timeout(after, transport.dial(address)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(Why::Unreachable { address: address.clone(), detail: error.to_string() }),
        Err(_) => Err(Why::TimedOut { what: "connecting", after }),
    }
}
