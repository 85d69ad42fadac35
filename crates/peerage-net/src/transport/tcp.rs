//! TCP.

#[cfg(any(target_os = "linux", target_os = "android", test))]
mod filter;
mod listener;

use std::io;
use std::net::SocketAddr;

use peerage_wire::Address;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use self::listener::Tcp;
use super::{BoxFuture, Connection, Listener, Transport};

/// `tcp://host:port`, by name or number; port 0 lets the system choose.
///
/// `TCP_NODELAY` is on: records leave when they are full or there is nothing to add. `TCP_NOTSENT_LOWAT` is 128 KiB:
/// what waits, waits in the link, where control still goes before bulk.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpTransport;

const NOT_SENT: u32 = 128 << 10;

fn prepare(stream: TcpStream, remote: SocketAddr) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT)?;
    Ok(Connection { stream: Box::new(stream), remote: Address::tcp(remote), ip: Some(remote.ip()) })
}

/// Connections that the system keeps for a listener that has not accepted them; Linux takes its own `somaxconn`, 4,096,
/// if that is less. When all are taken, an honest dialer's system waits a second before it tries again: so there is room
/// for a flood of a tenth of a second.
const BACKLOG: i32 = 4_096;

/// The first address of the name that can be had.
async fn bind(at: &str) -> io::Result<Tcp> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in tokio::net::lookup_host(at).await? {
        match bind_at(address) {
            Ok(listener) => return Tcp::new(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// IPv6 takes no IPv4, so that both may have one port.
fn bind_at(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of the last process that listened here, which are over, do not keep this one out.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Transport for TcpTransport {
    fn scheme(&self) -> &'static str {
        "tcp"
    }

    fn dial<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let stream = TcpStream::connect(to.rest()).await?;
            let remote = stream.peer_addr()?;
            prepare(stream, remote)
        })
    }

    fn listen<'a>(&'a self, at: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = bind(at.rest()).await?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}
