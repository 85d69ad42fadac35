//! Listeners whose system gives them no more connections, or such as are over already.

#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Over, config};
use peerage_net::transport::{Arrival, BoxFuture, Caller, Connection, Listener, Transport};
use peerage_net::{Endpoint, Shards};
use peerage_wire::Address;

/// Whoever comes here has nothing to say, and the system has no more sockets after so many.
struct Exhausted {
    sockets: usize,
    asked: Arc<AtomicUsize>,
}

impl Exhausted {
    fn next(&mut self) -> io::Result<Arrival> {
        let left = self.sockets.checked_sub(1).ok_or_else(|| io::Error::other("too many open files"))?;
        self.sockets = left;
        Ok(Arrival::Caller(Box::new(Mute(Arc::clone(&self.asked)))))
    }
}

impl Listener for Exhausted {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async { self.next()?.connect() })
    }

    fn arrive(&mut self) -> BoxFuture<'_, io::Result<Arrival>> {
        Box::pin(async { self.next() })
    }

    fn try_arrive(&mut self) -> Option<io::Result<Arrival>> {
        Some(self.next())
    }

    fn address(&self) -> Address {
        "full://here".parse().unwrap()
    }
}

struct Mute(Arc<AtomicUsize>);

impl Caller for Mute {
    fn remote(&self) -> Address {
        "full://there".parse().unwrap()
    }

    fn ip(&self) -> Option<IpAddr> {
        None
    }

    fn try_read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(0),
        }
    }

    fn try_write(&mut self, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn connect(self: Box<Self>) -> io::Result<Connection> {
        Err(io::Error::other("it is gone, in the words of some system"))
    }
}

struct Full {
    sockets: usize,
    asked: Arc<AtomicUsize>,
}

impl Transport for Full {
    fn scheme(&self) -> &'static str {
        "full"
    }

    fn dial<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn listen<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        let listener = Exhausted { sockets: self.sockets, asked: Arc::clone(&self.asked) };
        Box::pin(async move { Ok(Box::new(listener) as Box<dyn Listener>) })
    }
}

/// An endpoint that listens there, and asks for cookies beyond so many half-open handshakes.
async fn endpoint(sockets: usize, asked: &Arc<AtomicUsize>, cookies_above: usize) -> Endpoint {
    let full = Full { sockets, asked: Arc::clone(asked) };
    let config = config(|config| (config.cookies_above, config.shards) = (cookies_above, Shards::Ambient));
    let builder = Over::memory().builder(1).transport(Arc::new(full)).config(config);
    builder.listen("full://here".parse().unwrap()).bind().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_sockets_left_those_who_have_one_are_still_heard_and_let_go() {
    let asked = Arc::new(AtomicUsize::new(0));
    let endpoint = endpoint(1, &asked, 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(endpoint.snapshot().totals.dropped.get("door_lost"), Some(&1));
    endpoint.close().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_hangs_up_at_once_keeps_nobody_else_waiting() {
    let endpoint = endpoint(300, &Arc::default(), 256).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let counted = endpoint.snapshot().totals;
    assert_eq!(counted.accepted, 300);
    assert!(counted.dropped.get("accept").is_some_and(|count| *count >= 300), "{:?}", counted.dropped);
    endpoint.close().await;
}
