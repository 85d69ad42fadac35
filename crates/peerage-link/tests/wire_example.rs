//! The example in docs/wire-example.md: two links talk, and the page has what they said.
//!
//! Not the links' own keys open the records here but those of two handshakes that the test repeats by hand, with the same
//! entropy: so the page shows what was sealed, and that it was sealed with the keys that it gives.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use peerage_identity::{Handshake, Identity, Opener};
use peerage_link::{Capacity, Link, LinkConfig, LinkEvent, Memory, Setup};
use peerage_machine::{Class, Direction, Incarnation, Instant};
use peerage_wire::Suite;
use peerage_wire::hello::{Hello, Instance};
use peerage_wire::preface::Preface;
use peerage_wire::proto::mesh::v1 as mesh;
use peerage_wire::proto::mesh::v1::packet::Kind;
use prost::Message;
use x25519_dalek::{PublicKey, StaticSecret};

const BEGIN: &str = "<!-- made by crates/peerage-link/tests/wire_example.rs -->\n";
const END: &str = "<!-- end -->\n";

/// One side: its name, its Ed25519 secret and its entropy are this byte over and over.
#[derive(Clone, Copy)]
struct Side {
    name: &'static str,
    seed: u8,
    entropy: u8,
    direction: Direction,
}

const DIALER: Side = Side { name: "dialer", seed: 1, entropy: 3, direction: Direction::Outbound };
const LISTENER: Side = Side { name: "listener", seed: 2, entropy: 4, direction: Direction::Inbound };

impl Side {
    fn identity(self) -> Identity {
        Identity::from_seed([self.seed; 32])
    }

    fn setup(self, suite: Suite) -> Setup {
        let mut config = LinkConfig::default();
        (config.max_message, config.window, config.max_channels) = (1 << 20, 1 << 16, 64);
        Setup {
            direction: self.direction,
            identity: Arc::new(self.identity()),
            incarnation: Incarnation([self.seed << 4; 16]),
            software: "example 1.0".to_owned(),
            observed: None,
            addresses: match self.direction {
                Direction::Inbound => vec!["tcp://192.0.2.1:4000".parse().unwrap()],
                Direction::Outbound => Vec::new(),
            },
            instances: vec![Instance {
                protocol: "mesh".to_owned(),
                name: "news".to_owned(),
                version: 1,
                parameters: Bytes::copy_from_slice(&(16_u64 << 20).to_le_bytes()),
            }],
            expected: None,
            cookie: None,
            suites: vec![suite],
            entropy: [self.entropy; 32],
            config: Arc::new(config),
            memory: Memory::new(1 << 20, 1 << 20),
            capacity: Capacity { links: 4_096, links_per_address: 1_024, handshakes: 512 },
        }
    }

    /// The X25519 secrets that it uses: static and ephemeral. How a peer comes by them is its own business; these are
    /// Peerage's ways, and whether they still are shows in the public keys.
    fn secrets(self) -> [StaticSecret; 2] {
        let fixed = blake3::derive_key("peerage 2026 noise static X25519 key v1", &[self.seed; 32]);
        let role = [u8::from(self.direction == Direction::Outbound)];
        let material = [&[self.entropy; 32][..], &fixed, &role].concat();
        let seed = blake3::derive_key("peerage 2026 noise ephemeral randomness v1", &material);
        let ephemeral = *blake3::keyed_hash(&seed, &0_u64.to_le_bytes()).as_bytes();
        [fixed, ephemeral].map(StaticSecret::from)
    }
}

/// A link, what it hears, and what its side could open by hand.
struct End {
    link: Link,
    by_hand: Handshake,
    opener: Option<Opener>,
}

impl End {
    fn new(side: Side, suite: Suite, now: Instant) -> Self {
        let (identity, preface) = (side.identity(), Preface::new(suite).encode());
        let handshake = match side.direction {
            Direction::Outbound => Handshake::initiator,
            Direction::Inbound => Handshake::responder,
        };
        let by_hand = handshake(&identity, suite, &preface, [side.entropy; 32]).unwrap();
        Self { link: Link::new(side.setup(suite), now), by_hand, opener: None }
    }

    fn said(&mut self) -> BytesMut {
        let mut said = BytesMut::new();
        self.link.transmit(&mut said, usize::MAX);
        said
    }

    fn hear(&mut self, now: Instant, said: &[u8]) -> Vec<Bytes> {
        let mut input = said.to_vec();
        let mut heard = Vec::new();
        let mut used = 0;
        while used < input.len() {
            used += self.link.receive(now, &mut input[used..]);
            while let Some(event) = self.link.poll_event() {
                match event {
                    LinkEvent::Greeted(_) => self.link.admit(),
                    LinkEvent::Message { message, .. } => heard.push(message),
                    LinkEvent::Closed(why) => panic!("{why}"),
                    _ => {}
                }
            }
        }
        heard
    }
}

/// The page, as it grows.
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        writeln!(self.0, "{line}").unwrap();
    }

    /// Bytes, 32 a line.
    fn bytes(&mut self, indent: usize, bytes: &[u8]) {
        for line in bytes.chunks(32) {
            self.line(&format!("{:indent$}{}", "", hex(line)));
        }
    }

    fn title(&mut self, title: &str) {
        self.line(&format!("\n{title}\n"));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes a length and what it counts off the front.
fn take(said: &mut BytesMut) -> BytesMut {
    let length = usize::from(u16::from_be_bytes([said[0], said[1]]));
    said.split_to(2 + length)
}

fn packet(kind: Kind) -> Bytes {
    mesh::Packet { kind: Some(kind) }.encode_to_vec().into()
}

/// All that the two say to each other in this suite.
struct Talk {
    page: Page,
    now: Instant,
    dialer: End,
    listener: End,
}

impl Talk {
    fn new(suite: Suite) -> Self {
        let now = Instant::from_micros(1_000_000);
        let mut page = Page(String::new());
        page.line(&format!("\n## {}", suite.noise_name()));
        let (dialer, listener) = (End::new(DIALER, suite, now), End::new(LISTENER, suite, now));
        Self { page, now, dialer, listener }
    }

    /// One handshake message is shown with its payload; it is what the repeated handshake makes of its own.
    fn message(&mut self, title: &str, from_dialer: bool, message: &[u8]) {
        let (from, to) = match from_dialer {
            true => (&mut self.dialer, &mut self.listener),
            false => (&mut self.listener, &mut self.dialer),
        };
        let payload = to.by_hand.read(&message[2..]).unwrap();
        let mut again = Vec::new();
        from.by_hand.write(&payload, &mut again).unwrap();
        assert_eq!(again, message[2..], "the handshake by hand goes another way than the link's");
        self.page.title(title);
        self.page.bytes(4, message);
        if !payload.is_empty() {
            assert!(Hello::decode(&payload).is_ok());
            self.page.title("with the `Hello`");
            self.page.bytes(8, &payload);
        }
    }

    fn handshake(&mut self) {
        let mut said = self.dialer.said();
        let preface = said.split_to(Preface::LEN);
        self.page.title("The dialer's preface:");
        self.page.bytes(4, &preface);
        self.message("The dialer's first message, `e`:", true, &said.clone());
        self.listener.hear(self.now, &[&preface[..], &said].concat());
        let said = self.listener.said();
        self.message("The listener's message, `e, ee, s, es`:", false, &said.clone());
        self.dialer.hear(self.now, &said);
        let mut said = self.dialer.said();
        let third = take(&mut said);
        self.message("The dialer's second message, `s, se`:", true, &third);
        self.check_keys();
        for end in [&mut self.dialer, &mut self.listener] {
            let spent = Handshake::initiator(&DIALER.identity(), Suite::ChaChaPoly, b"", [0; 32]).unwrap();
            let (_, opener) = std::mem::replace(&mut end.by_hand, spent).finish().unwrap();
            end.opener = Some(opener);
        }
        // The link's own Accept left together with it.
        self.listener.hear(self.now, &third);
        self.records("The dialer's first record, `Accept`:", true, &said);
    }

    /// What the page says of the keys is so.
    fn check_keys(&self) {
        for (side, other) in [(DIALER, &self.listener), (LISTENER, &self.dialer)] {
            let [fixed, _] = side.secrets();
            assert_eq!(other.by_hand.remote_static(), Some(PublicKey::from(&fixed).to_bytes()));
        }
    }

    /// These records arrive, and are shown one by one; gives the messages of channels that were in them.
    fn records(&mut self, title: &str, from_dialer: bool, said: &[u8]) -> Vec<Bytes> {
        let to = if from_dialer { &mut self.listener } else { &mut self.dialer };
        let mut rest = BytesMut::from(said);
        self.page.title(title);
        while !rest.is_empty() {
            let mut record = take(&mut rest);
            self.page.bytes(4, &record);
            let plain = to.opener.as_mut().unwrap().open(&mut record[2..]).unwrap();
            self.page.title("which seals");
            self.page.bytes(8, plain);
        }
        to.hear(self.now, said)
    }

    fn run(mut self) -> String {
        self.handshake();
        let said = self.listener.said();
        self.records("The listener's first record, `Accept`:", false, &said);

        let join = packet(Kind::Join(mesh::Join { urgent: false }));
        self.dialer.link.send(0, Class::Control, join.clone()).unwrap();
        let said = self.dialer.said();
        let heard = self.records("The dialer joins the mesh, `Join`:", true, &said);
        assert_eq!(heard, [join]);

        let reply = packet(Kind::NeighbourReply(mesh::NeighbourReply { accepted: true, others: Vec::new() }));
        self.listener.link.send(0, Class::Control, reply.clone()).unwrap();
        let said = self.listener.said();
        let heard = self.records("The listener accepts it, `NeighbourReply`:", false, &said);
        assert_eq!(heard, [reply]);

        self.now = self.dialer.link.deadline().unwrap();
        self.dialer.link.on_timer(self.now);
        let said = self.dialer.said();
        self.records("The dialer's first `Ping`:", true, &said);
        let said = self.listener.said();
        self.records("The listener's `Pong`, and a `Ping` of its own:", false, &said);
        self.page.0
    }
}

fn keys() -> String {
    let mut page = Page("\n## Keys\n\n| whose | what | bytes |\n|---|---|---|\n".to_owned());
    for side in [DIALER, LISTENER] {
        let [fixed, ephemeral] = side.secrets();
        for (what, bytes) in [
            ("Ed25519 secret", [side.seed; 32]),
            ("Ed25519 public key", *side.identity().peer_id().as_bytes()),
            ("static X25519 secret", fixed.to_bytes()),
            ("static X25519 public key", PublicKey::from(&fixed).to_bytes()),
            ("ephemeral X25519 secret", ephemeral.to_bytes()),
            ("ephemeral X25519 public key", PublicKey::from(&ephemeral).to_bytes()),
        ] {
            page.line(&format!("| {} | {what} | `{}` |", side.name, hex(&bytes)));
        }
    }
    page.0
}

fn made() -> String {
    let talks = Suite::ALL.map(|suite| Talk::new(suite).run());
    format!("{}{}\n", keys(), talks.concat())
}

#[test]
fn the_page_has_what_two_links_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire-example.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the first mark");
    let (shown, after) = rest.split_once(END).expect("the page has the second mark");
    let made = made();
    if shown == made {
        return;
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}")).unwrap();
        return;
    }
    let differs = shown.lines().zip(made.lines()).position(|(shown, made)| shown != made);
    let at = differs.unwrap_or(shown.lines().count().min(made.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("nothing").to_owned();
    panic!(
        "docs/wire-example.md is not what two links say. Line {} after the mark\nis:        {}\nshould be: {}\nPeers that \
         speak as the page does may not understand the new bytes. If that is meant, run\n    BLESS=1 cargo test -p \
         peerage-link --test wire_example\nand commit the page together with docs/wire.md.",
        at + 1,
        line(shown),
        line(&made)
    );
}

/// A client needs no way of Peerage's to its ephemeral keys; who wants to make these very bytes needs the keys.
#[test]
fn the_secrets_on_the_page_are_those_of_the_bytes() {
    for suite in Suite::ALL {
        let mut talk = Talk::new(suite);
        let said = talk.dialer.said();
        let ephemeral = |said: &[u8]| said[2..34].to_vec();
        let of = |side: Side| PublicKey::from(&side.secrets()[1]).to_bytes();
        assert_eq!(ephemeral(&said[Preface::LEN..]), of(DIALER));
        talk.listener.hear(talk.now, &said);
        assert_eq!(ephemeral(&talk.listener.said()), of(LISTENER));
    }
}
