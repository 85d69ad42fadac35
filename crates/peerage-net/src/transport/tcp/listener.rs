//! A socket that listens.
//!
//! On Unix a stranger is a bare socket until somebody wants more of it: an accept, a read, a write and a close are all that
//! most cost in a flood. Elsewhere the runtime sets each of them up.

use std::io;

use peerage_wire::Address;

use super::prepare;
use crate::transport::{BoxFuture, Connection, Listener};
#[cfg(any(target_os = "linux", target_os = "android"))]
use {super::filter, crate::source::Source, socket2::SockFilter, socket2::SockRef};

pub(super) struct Tcp {
    #[cfg(unix)]
    listener: tokio::io::unix::AsyncFd<std::net::TcpListener>,
    #[cfg(not(unix))]
    listener: tokio::net::TcpListener,
    address: Address,
    /// Whether sockets may inherit a filter, which kept somebody out; set once.
    #[cfg(unix)]
    was_filtered: bool,
    /// Whether there is one now.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    is_filtered: bool,
}

impl Tcp {
    /// One that is non-blocking already.
    pub(super) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        let address = Address::tcp(listener.local_addr()?);
        #[cfg(unix)]
        #[expect(
            deprecated,
            reason = "a socket of the standard library owns its descriptor for as long as it lives, which is what is asked for"
        )]
        let listener = tokio::io::unix::AsyncFd::with_interest(listener, Interest::READABLE)?;
        #[cfg(not(unix))]
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(Self {
            listener,
            address,
            #[cfg(unix)]
            was_filtered: false,
            #[cfg(any(target_os = "linux", target_os = "android"))]
            is_filtered: false,
        })
    }
}

#[cfg(not(unix))]
impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async {
            let (stream, remote) = self.listener.accept().await?;
            prepare(stream, remote)
        })
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}

#[cfg(unix)]
impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async { self.arrive().await?.connect() })
    }

    fn arrive(&mut self) -> BoxFuture<'_, io::Result<Arrival>> {
        let inherits = self.was_filtered;
        Box::pin(async move {
            self.listener.async_io(Interest::READABLE, |listener| bare(listener, inherits)).await
        })
    }

    fn try_arrive(&mut self) -> Option<io::Result<Arrival>> {
        match self.listener.try_io(Interest::READABLE, |listener| bare(listener, self.was_filtered)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            arrival => Some(arrival),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn keep_out(&mut self, sources: &[Source]) -> io::Result<()> {
        let socket = SockRef::from(self.listener.get_ref());
        if sources.is_empty() {
            // The system takes it for an error when there is none.
            return if std::mem::take(&mut self.is_filtered) { socket.detach_filter() } else { Ok(()) };
        }
        let program: Vec<_> =
            filter::program(sources).iter().map(|op| SockFilter::new(op.code, op.yes, op.no, op.k)).collect();
        if let Err(error) = socket.attach_filter(&program) {
            // The one before would stay, and keep out those who may come again.
            if std::mem::take(&mut self.is_filtered) {
                socket.detach_filter()?;
            }
            return Err(error);
        }
        (self.is_filtered, self.was_filtered) = (true, true);
        Ok(())
    }

    fn address(&self) -> Address {
        self.address.clone()
    }
}

#[cfg(unix)]
use self::unix::{Arrival, Interest, bare};

#[cfg(unix)]
mod unix {
    use std::io::{self, Read, Write};
    use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

    use peerage_wire::Address;
    pub(super) use tokio::io::Interest;

    use super::prepare;
    pub(super) use crate::transport::Arrival;
    use crate::transport::{Caller, Connection};

    /// Takes one from the system's queue.
    pub(super) fn bare(listener: &TcpListener, inherits: bool) -> io::Result<Arrival> {
        let (stream, remote) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(Arrival::Caller(Box::new(Bare { stream, remote, inherits })))
    }

    /// A socket that nobody waits for.
    struct Bare {
        stream: TcpStream,
        remote: SocketAddr,
        /// Whether it may have the listener's filter, which does it no harm and each segment takes a moment.
        inherits: bool,
    }

    impl Caller for Bare {
        fn remote(&self) -> Address {
            Address::tcp(self.remote)
        }

        fn ip(&self) -> Option<IpAddr> {
            Some(self.remote.ip())
        }

        fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.stream.read(into)
        }

        fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.stream.write(bytes)
        }

        fn connect(self: Box<Self>) -> io::Result<Connection> {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            if self.inherits {
                // An error is a socket that has none.
                let _ = socket2::SockRef::from(&self.stream).detach_filter();
            }
            prepare(tokio::net::TcpStream::from_std(self.stream)?, self.remote)
        }
    }
}
