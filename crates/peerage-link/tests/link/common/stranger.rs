//! A peer driven by hand, which can say anything at all.

use bytes::{Bytes, BytesMut};
use peerage_identity::{Handshake, Identity, Opener, Sealer};
use peerage_link::Setup;
use peerage_machine::{Direction, Instant};
use peerage_wire::Suite;
use peerage_wire::frame::{DataHeader, FrameRef, Frames, put_control, put_data};
use peerage_wire::handshake::{put_message, take_message};
use peerage_wire::hello::{Hello, Instance, Limits};
use peerage_wire::preface::Preface;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use super::{End, identity};

/// A frame that the link sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Got {
    Data(DataHeader, Bytes),
    Control(Kind),
}

/// A hand-driven peer, and the link that it plays with.
pub(crate) struct Stranger {
    pub(crate) now: Instant,
    pub(crate) end: End,
    sealer: Sealer,
    opener: Opener,
    /// Frames of the link's that were not looked at yet.
    pub(crate) got: Vec<Got>,
}

/// What an honest stranger says of itself; seed 9.
pub(crate) fn hello_of(stranger: &Identity, instances: Vec<Instance>) -> Hello {
    Hello {
        identity: stranger.peer_id(),
        signature: *stranger.noise_certificate(),
        incarnation: [9; 16],
        software: "stranger".to_owned(),
        limits: Limits { max_message: 1 << 20, window: 256 << 10, max_channels: 64, ..Limits::default() },
        addresses: Vec::new(),
        instances,
    }
}

impl Stranger {
    /// Goes through the handshake with a link of this setup, as the other direction. Nothing is accepted yet on the
    /// stranger's side.
    pub(crate) fn greet(setup: Setup, hello: &Hello) -> Self {
        Self::greet_with(setup, &hello.encode())
    }

    /// As [`Stranger::greet`], with any bytes for a `Hello`.
    pub(crate) fn greet_with(setup: Setup, hello: &[u8]) -> Self {
        let now = Instant::from_micros(1_000_000);
        let (direction, stranger) = (setup.direction, identity(9));
        let mut end = End::new(setup, now);
        let preface = Preface::CURRENT.encode();
        let mut wire = BytesMut::new();
        let mut message = Vec::new();
        let noise = match direction {
            Direction::Inbound => {
                let mut noise =
                    Handshake::initiator(&stranger, Suite::ChaChaPoly, &preface, [77; 32]).unwrap();
                noise.write(&[], &mut message).unwrap();
                wire.extend_from_slice(&preface);
                put_message(&mut wire, &message).unwrap();
                end.arrive(now, &wire);
                end.flush(usize::MAX);
                noise.read(&take_message(&mut end.wire).unwrap().unwrap()).unwrap();
                message.clear();
                wire.clear();
                noise.write(hello, &mut message).unwrap();
                put_message(&mut wire, &message).unwrap();
                end.arrive(now, &wire);
                noise
            }
            Direction::Outbound => {
                let mut noise =
                    Handshake::responder(&stranger, Suite::ChaChaPoly, &preface, [78; 32]).unwrap();
                end.flush(usize::MAX);
                assert_eq!(end.wire.split_to(Preface::LEN), preface[..]);
                noise.read(&take_message(&mut end.wire).unwrap().unwrap()).unwrap();
                noise.write(hello, &mut message).unwrap();
                put_message(&mut wire, &message).unwrap();
                end.arrive(now, &wire);
                end.flush(usize::MAX);
                noise.read(&take_message(&mut end.wire).unwrap().unwrap()).unwrap();
                noise
            }
        };
        let (sealer, opener) = noise.finish().unwrap();
        end.settle(now);
        let mut stranger = Self { now, end, sealer, opener, got: Vec::new() };
        stranger.read();
        stranger
    }

    /// An honest stranger with these instances, up with a link of this setup. What the link said so far is forgotten.
    pub(crate) fn up(setup: Setup, instances: Vec<Instance>) -> Self {
        let mut stranger = Self::greet(setup, &hello_of(&identity(9), instances));
        stranger.control(Kind::Accept(proto::Accept::default()));
        assert!(stranger.end.heard.is_up(), "{:?}", stranger.end.heard);
        stranger.read();
        stranger.got.clear();
        stranger
    }

    /// Seals a plaintext.
    pub(crate) fn seal(&mut self, plaintext: &[u8]) -> BytesMut {
        let mut record = BytesMut::from(&[0, 0][..]);
        record.extend_from_slice(plaintext);
        self.sealer.seal(&mut record, 0).unwrap();
        record
    }

    /// These bytes arrive at the link, which takes all that it can.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.end.arrive(self.now, bytes);
        self.end.settle(self.now);
    }

    pub(crate) fn plaintext(&mut self, plaintext: &[u8]) {
        let record = self.seal(plaintext);
        self.raw(&record);
    }

    pub(crate) fn control(&mut self, kind: Kind) {
        let mut plaintext = BytesMut::new();
        put_control(&mut plaintext, &kind);
        self.plaintext(&plaintext);
    }

    pub(crate) fn data(&mut self, channel: u32, class: u32, total: u64, payload: &[u8]) {
        let mut plaintext = BytesMut::new();
        put_data(&mut plaintext, DataHeader { channel, class, total }, payload);
        self.plaintext(&plaintext);
    }

    /// Reads what the link has to say.
    pub(crate) fn read(&mut self) {
        self.end.flush(usize::MAX);
        let mut wire = self.end.wire.split();
        while !wire.is_empty() {
            let mut record = wire.split_to(2 + usize::from(u16::from_be_bytes([wire[0], wire[1]])));
            let plaintext = self.opener.open(&mut record[2..]).expect("a link seals in order");
            for frame in Frames::new(plaintext) {
                self.got.push(match frame.expect("a link sends frames") {
                    FrameRef::Data { header, payload } => Got::Data(header, Bytes::copy_from_slice(payload)),
                    FrameRef::Control(kind) => Got::Control(kind),
                    FrameRef::UnknownControl => panic!("a link knows what it says"),
                });
            }
        }
    }

    /// The controls that the link said since the last look.
    pub(crate) fn controls(&mut self) -> Vec<Kind> {
        self.read();
        std::mem::take(&mut self.got)
            .into_iter()
            .filter_map(|got| match got {
                Got::Control(kind) => Some(kind),
                Got::Data(..) => None,
            })
            .collect()
    }

    /// The link took offence: it is over, says why, and told the stranger.
    pub(crate) fn assert_accused(&mut self, of: &str) {
        match self.end.heard.closed() {
            Some(peerage_machine::Why::Fault { by: peerage_machine::Side::Them, what }) => {
                assert!(what.contains(of), "accused of {what:?}, not of {of:?}");
            }
            other => panic!("no fault {of:?} but {other:?}"),
        }
        let told = self.controls();
        match told.last() {
            Some(Kind::Goodbye(goodbye)) => {
                assert_eq!(goodbye.code(), proto::goodbye::Code::Fault);
                assert!(goodbye.detail.contains(of) || goodbye.detail.len() == 256, "{goodbye:?}");
            }
            other => panic!("the last word is {other:?}"),
        }
    }
}
