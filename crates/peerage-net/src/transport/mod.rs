//! How bytes get from one endpoint to another: TCP, memory, or what you bring.
//!
//! A transport is an object: an endpoint holds one for each scheme. Encryption, framing and limits are the link's, the
//! same over all of them. `tests/transport_conformance.rs` is the suite that each transport passes.

mod caller;
mod memory;
mod tcp;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use peerage_wire::Address;
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::source::Source;
pub use caller::{Arrival, Caller};
pub use memory::MemoryTransport;
pub use tcp::TcpTransport;

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection.
pub struct Connection {
    /// The bytes. Dropping it ends the connection; shutting it down ends its sending half.
    pub stream: Box<dyn Stream>,
    /// Where the other end is.
    pub remote: Address,
    /// Its IP address, which limits by address count. `None` counts as nobody's.
    pub ip: Option<IpAddr>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// Waits for connections. Dropping it frees the address.
pub trait Listener: Send + Sync {
    /// The next connection. An error is passing: the endpoint counts it, waits a little and asks again.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>>;

    /// The same, with nothing set up yet where the transport can give that. By default what [`Listener::accept`] gives.
    fn arrive(&mut self) -> BoxFuture<'_, io::Result<Arrival>> {
        Box::pin(async { Ok(Arrival::Connection(self.accept().await?)) })
    }

    /// One more, if one is waiting; by default `None`.
    fn try_arrive(&mut self) -> Option<io::Result<Arrival>> {
        None
    }

    /// From now on the system leaves those unanswered who would connect from one of these, and nobody else; what is
    /// connected stays so. With none, and after an error, it answers everybody. Asked with none when the endpoint starts:
    /// a transport that cannot do it says so then ([`io::ErrorKind::Unsupported`], the default) and is not asked again. One
    /// that can must allow that the future of [`Listener::arrive`] is dropped before it is done.
    fn keep_out(&mut self, sources: &[Source]) -> io::Result<()> {
        let _ = sources;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Where it listens, with the port that the system chose.
    fn address(&self) -> Address;
}

/// Makes connections.
pub trait Transport: Send + Sync + 'static {
    /// The scheme of its addresses, "tcp".
    fn scheme(&self) -> &'static str;

    /// Connects. The endpoint sets the deadline and drops the future when it comes.
    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, io::Result<Connection>>;

    /// Listens.
    fn listen<'a>(&'a self, at: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}
