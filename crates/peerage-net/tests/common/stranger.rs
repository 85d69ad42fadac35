//! The other end of a link, by hand: over a socket, with the keys, and with no manners.

use bytes::BytesMut;
use peerage_identity::{Handshake, Identity, Opener, Sealer};
use peerage_wire::frame::{FrameRef, Frames, put_control};
use peerage_wire::handshake::{Answer, put_message, take_answer};
use peerage_wire::hello::{Hello, Limits};
use peerage_wire::preface::{Notice, Preface};
use peerage_wire::proto::link::v1::control::Kind;
use peerage_wire::proto::link::v1::{Accept, Goodbye};
use peerage_wire::{Address, Suite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// A socket that knows the format.
pub struct Stranger {
    pub socket: TcpStream,
    keys: Option<(Sealer, Opener)>,
}

/// What a stranger says of itself.
pub fn hello(identity: &Identity) -> Hello {
    Hello {
        identity: identity.peer_id(),
        signature: *identity.noise_certificate(),
        incarnation: [7; 16],
        software: "a stranger".to_owned(),
        limits: Limits { max_message: 1 << 20, window: 1 << 16, max_channels: 8, ..Limits::default() },
        addresses: Vec::new(),
        instances: Vec::new(),
    }
}

impl Stranger {
    pub async fn connect(to: &Address) -> Self {
        let socket = within("a connection", TcpStream::connect(to.rest())).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, keys: None }
    }

    /// Writes, unless the other end has hung up already.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    pub async fn message(&mut self) -> Vec<u8> {
        within("a handshake message", async {
            let length = self.socket.read_u16().await.unwrap();
            let mut message = vec![0; usize::from(length)];
            self.socket.read_exact(&mut message).await.unwrap();
            message
        })
        .await
    }

    /// The preface and the first message, with this payload.
    pub async fn knock(&mut self, identity: &Identity, payload: &[u8]) -> Handshake {
        let preface = Preface::CURRENT.encode();
        let mut noise = Handshake::initiator(identity, Suite::ChaChaPoly, &preface, [9; 32]).unwrap();
        let mut first = Vec::new();
        noise.write(payload, &mut first).unwrap();
        let mut out = BytesMut::from(&preface[..]);
        put_message(&mut out, &first).unwrap();
        self.write(&out).await;
        noise
    }

    /// What the other end says in clear instead of going on, and that it hangs up then.
    pub async fn notice(&mut self) -> Notice {
        let mut answer = Vec::new();
        within("a notice", self.socket.read_to_end(&mut answer)).await.unwrap();
        let mut answer = BytesMut::from(&answer[..]);
        match take_answer(&mut answer) {
            Ok(Some(Answer::Notice(notice))) if answer.is_empty() => notice,
            other => panic!("no notice but {other:?} and {answer:?}"),
        }
    }

    /// The preface and the first message; gives the handshake, with the answer read.
    pub async fn begin(&mut self, identity: &Identity) -> Handshake {
        let mut noise = self.knock(identity, &[]).await;
        let second = self.message().await;
        noise.read(&second).unwrap();
        noise
    }

    /// The third message, with this payload.
    pub async fn finish(&mut self, mut noise: Handshake, payload: &[u8]) {
        let mut third = Vec::new();
        noise.write(payload, &mut third).unwrap();
        let mut out = BytesMut::new();
        put_message(&mut out, &third).unwrap();
        self.write(&out).await;
        self.take_keys(noise);
    }

    /// All of the handshake, and `Accept` in both directions: the link is up.
    pub async fn up(to: &Address, identity: &Identity, hello: &Hello) -> Self {
        let mut stranger = Self::connect(to).await;
        let noise = stranger.begin(identity).await;
        stranger.finish(noise, &hello.encode()).await;
        stranger.control(Kind::Accept(Accept::default())).await;
        match stranger.read_control().await {
            Some(Kind::Accept(_)) => stranger,
            other => panic!("instead of Accept: {other:?}"),
        }
    }

    /// The handshake is through.
    pub fn take_keys(&mut self, noise: Handshake) {
        self.keys = Some(noise.finish().unwrap());
    }

    pub async fn control_in_single_bytes(&mut self, kind: Kind) {
        let mut record = BytesMut::from(&[0, 0][..]);
        put_control(&mut record, &kind);
        self.keys.as_mut().unwrap().0.seal(&mut record, 0).unwrap();
        for byte in record {
            self.write(&[byte]).await;
        }
    }

    pub async fn control(&mut self, kind: Kind) {
        let mut plain = BytesMut::new();
        put_control(&mut plain, &kind);
        self.record(&plain).await;
    }

    /// Seals whatever this is.
    pub async fn record(&mut self, plain: &[u8]) {
        let mut record = BytesMut::from(&[0, 0][..]);
        record.extend_from_slice(plain);
        self.keys.as_mut().unwrap().0.seal(&mut record, 0).unwrap();
        self.write(&record).await;
    }

    /// The next control, or `None` at the end.
    pub async fn read_control(&mut self) -> Option<Kind> {
        within("a control", async {
            loop {
                let length = self.socket.read_u16().await.ok()?;
                let mut record = vec![0; usize::from(length)];
                self.socket.read_exact(&mut record).await.ok()?;
                let plain = self.keys.as_mut().unwrap().1.open(&mut record).unwrap();
                if let Some(Ok(FrameRef::Control(kind))) = Frames::new(plain).next() {
                    return Some(kind);
                }
            }
        })
        .await
    }

    /// The controls of the next record.
    pub async fn controls(&mut self) -> Vec<Kind> {
        within("a record", async {
            let length = self.socket.read_u16().await.unwrap();
            let mut record = vec![0; usize::from(length)];
            self.socket.read_exact(&mut record).await.unwrap();
            let plain = self.keys.as_mut().unwrap().1.open(&mut record).unwrap();
            let frames = Frames::new(plain).map(|frame| frame.unwrap());
            let controls = frames.filter_map(|frame| match frame {
                FrameRef::Control(kind) => Some(kind),
                _ => None,
            });
            controls.collect()
        })
        .await
    }

    /// What the other end says last.
    pub async fn goodbye(&mut self) -> Goodbye {
        loop {
            if let Some(Kind::Goodbye(goodbye)) = self.controls().await.pop() {
                return goodbye;
            }
        }
    }

    /// Reads to the end, whatever comes.
    pub async fn until_hung_up(&mut self) {
        let mut rest = vec![0; 4096];
        within("the other end to hang up", async {
            while matches!(self.socket.read(&mut rest).await, Ok(read) if read > 0) {}
        })
        .await;
    }
}
