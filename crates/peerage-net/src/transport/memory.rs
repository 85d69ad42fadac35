//! Connections inside one process.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use peerage_wire::Address;
use tokio::sync::mpsc;

use super::{BoxFuture, Connection, Listener, Transport};
use crate::scratch::lock;

/// `mem://name`, for tests and for many endpoints in one process. Endpoints reach each other when they share one
/// (clone it). Each direction holds 64 KiB, as a socket would.
#[derive(Clone, Debug, Default)]
pub struct MemoryTransport {
    listeners: Arc<Mutex<BTreeMap<String, mpsc::Sender<Connection>>>>,
}

const PIPE: usize = 64 << 10;
/// As TCP's usual backlog.
const BACKLOG: usize = 128;

impl MemoryTransport {
    /// A space of names of its own.
    pub fn new() -> Self {
        Self::default()
    }
}

struct Memory {
    address: Address,
    incoming: mpsc::Receiver<Connection>,
    transport: MemoryTransport,
}

impl Listener for Memory {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async {
            let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the listener is closed");
            self.incoming.recv().await.ok_or_else(closed)
        })
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        lock(&self.transport.listeners).remove(self.address.rest());
    }
}

impl Transport for MemoryTransport {
    fn scheme(&self) -> &'static str {
        "mem"
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let refused =
                || io::Error::new(io::ErrorKind::ConnectionRefused, format!("nobody listens at {to}"));
            let listener = lock(&self.listeners).get(to.rest()).cloned().ok_or_else(refused)?;
            let (ours, theirs) = tokio::io::duplex(PIPE);
            let inbound = Connection { stream: Box::new(theirs), remote: to.clone(), ip: None };
            listener.send(inbound).await.map_err(|_| refused())?;
            Ok(Connection { stream: Box::new(ours), remote: to.clone(), ip: None })
        })
    }

    fn listen<'a>(&'a self, at: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut listeners = lock(&self.listeners);
            if listeners.contains_key(at.rest()) {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{at} is taken")));
            }
            let (sender, incoming) = mpsc::channel(BACKLOG);
            listeners.insert(at.rest().to_owned(), sender);
            let listener = Memory { address: at.clone(), incoming, transport: self.clone() };
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}
