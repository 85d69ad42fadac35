//! Those who have just connected.

use std::io;
use std::net::IpAddr;

use peerage_wire::Address;

use super::Connection;

/// Somebody who has connected, and for whom nothing is set up yet, neither options nor wake-ups: while many want in, most
/// are told a word and hung up on, and need neither. Dropping it ends the connection.
pub trait Caller: Send {
    /// Where it is.
    fn remote(&self) -> Address;

    /// Its IP address, as [`Connection::ip`].
    fn ip(&self) -> Option<IpAddr>;

    /// What it has said so far. [`io::ErrorKind::WouldBlock`] when that is nothing; 0 when it has hung up.
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize>;

    /// Says as much as the transport takes at once.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Sets it up.
    fn connect(self: Box<Self>) -> io::Result<Connection>;
}

/// One who has come.
pub enum Arrival {
    /// Nothing is set up yet.
    Caller(Box<dyn Caller>),
    /// All is.
    Connection(Connection),
}

impl Arrival {
    /// Sets it up, if it is not.
    pub fn connect(self) -> io::Result<Connection> {
        match self {
            Self::Caller(caller) => caller.connect(),
            Self::Connection(connection) => Ok(connection),
        }
    }
}
