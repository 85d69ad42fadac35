//! Connections that do not behave.

use peerage_net::transport::{Connection, Listener, Transport};
use peerage_net::{MemoryTransport, TcpTransport};
use peerage_wire::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Over;

/// Carries bytes between a dialer and an endpoint until it is shut.
pub struct Valve {
    address: Address,
    open: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Valve {
    pub async fn between(transport: &MemoryTransport, to: &Address) -> Self {
        Self::over(transport.clone(), Over::Memory(transport.clone()).address(), to).await
    }

    /// The same on sockets.
    pub async fn between_sockets(to: &Address) -> Self {
        Self::over(TcpTransport, Over::Tcp.address(), to).await
    }

    async fn over(transport: impl Transport, at: Address, to: &Address) -> Self {
        let mut listener = transport.listen(&at).await.unwrap();
        let (at, to) = (listener.address(), to.clone());
        let (open, opened) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut carriers = JoinSet::new();
            while let Ok(inbound) = listener.accept().await {
                let outbound = transport.dial(&to).await.unwrap();
                carriers.spawn(carry(inbound, outbound, opened.clone()));
            }
        });
        Self { address: at, open, _tasks: tasks }
    }

    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// From now on nothing passes, and nothing ends.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Bytes pass again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(a: Connection, b: Connection, open: watch::Receiver<bool>) {
    let ((mut from_a, mut to_a), (mut from_b, mut to_b)) =
        (tokio::io::split(a.stream), tokio::io::split(b.stream));
    let way = async |from: &mut (dyn tokio::io::AsyncRead + Send + Unpin),
                     to: &mut (dyn tokio::io::AsyncWrite + Send + Unpin)| {
        let mut open = open.clone();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut buffer).await;
            // The end of a stream passes no sooner than its bytes.
            if open.wait_for(|open| *open).await.is_err() {
                return;
            }
            match read {
                Ok(0) | Err(_) => return drop(to.shutdown().await),
                Ok(read) => {
                    if to.write_all(buffer.get(..read).unwrap()).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::join!(way(&mut from_a, &mut to_b), way(&mut from_b, &mut to_a));
}

/// Accepts connections, and says nothing on them.
pub struct Stalled {
    address: Address,
    _accepting: JoinSet<()>,
}

impl Stalled {
    pub async fn listen(transport: &MemoryTransport) -> Self {
        Self::saying(transport, b"").await
    }

    /// Says this, and then nothing.
    pub async fn saying(transport: &MemoryTransport, words: &'static [u8]) -> Self {
        let at = Over::Memory(transport.clone()).address();
        let mut listener: Box<dyn Listener> = transport.listen(&at).await.unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut kept = Vec::new();
            while let Ok(mut connection) = listener.accept().await {
                let _ = connection.stream.write_all(words).await;
                kept.push(connection);
            }
        });
        Self { address: at, _accepting: accepting }
    }

    pub fn address(&self) -> Address {
        self.address.clone()
    }
}
