//! A peer that has a key and says anything at all on a link that is up, while its host does what hosts do.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use peerage_identity::{Handshake, Sealer};
use peerage_link::LinkConfig;
use peerage_machine::{Class, Direction, Instant, Side, Why};
use peerage_wire::Suite;
use peerage_wire::frame::put_control;
use peerage_wire::handshake::{put_message, take_message};
use peerage_wire::hello::{Hello, Limits};
use peerage_wire::preface::Preface;
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

use crate::Choices;
use crate::peers::{self, End};

/// Runs the bytes as a list of what happens: frames, time, commands of the host's. Nothing panics, memory stays within
/// what the configuration says, the timer keeps its contract, and after its end a link says nothing.
pub fn link_input(data: &[u8]) {
    let mut now = Instant::from_micros(1_000_000);
    let (mut end, mut sealer) = up(now);
    // Its own, and what one link may have of the endpoint's memory: half of what windows may grow by, with what buffers
    // spare, and its messages.
    let config = LinkConfig::default();
    let most = config.worst_case_inbound_bytes() + peers::WINDOWS / 2 / 8 * 9 + config.reassembly;
    let mut choices = Choices(data);
    while !choices.is_empty() {
        match choices.byte() % 8 {
            0..=2 => {
                let length = usize::from(choices.byte());
                let plaintext = choices.bytes(length);
                let record = seal(&mut sealer, plaintext);
                end.arrive(now, &record);
            }
            3 => {
                let length = usize::from(choices.byte());
                end.arrive(now, choices.bytes(length));
            }
            4 => {
                now = now + Duration::from_millis(u64::from(choices.number()));
                due(&mut end, now);
            }
            5 => {
                let class = [Class::Interactive, Class::Control, Class::Bulk];
                let class = class.get(usize::from(choices.byte() % 3)).copied().unwrap_or(Class::Bulk);
                let (channel, size) = (u32::from(choices.byte() % 4), usize::from(choices.number()));
                // Refused or not, it must say so.
                let _ = end.link.send(channel, class, Bytes::from(vec![7; size]));
            }
            6 => match choices.byte() % 4 {
                0 => drop(end.link.open(peers::instance("z"))),
                1 => end.link.close_channel(now, u32::from(choices.byte() % 4), "done"),
                2 => end.link.set_held(now, choices.byte() & 1 == 0),
                _ => end.link.drain(Why::Shutdown { by: Side::Us, detail: String::new() }),
            },
            _ => drop(end.said()),
        }
        end.poll();
        let held = end.link.held_bytes();
        assert!(held <= most, "{held} bytes are held, {most} at most");
    }
}

/// The timer's contract: late, it catches up in one call; then nothing is due any more.
fn due(end: &mut End, now: Instant) {
    if end.link.deadline().is_none_or(|at| at > now) {
        return;
    }
    // A closing channel and its link may each have their time.
    for _ in 0..3 {
        end.link.on_timer(now);
        end.poll();
    }
    assert!(end.link.deadline().is_none_or(|at| at > now), "the timer stands still");
}

/// A link that listens, up with a peer whose sealer is ours.
fn up(now: Instant) -> (End, Sealer) {
    let mut end = End::new(Direction::Inbound, Suite::ChaChaPoly, now);
    let stranger = peers::identity(Direction::Outbound);
    let hello = Hello {
        identity: stranger.peer_id(),
        signature: *stranger.noise_certificate(),
        incarnation: [9; 16],
        software: String::new(),
        limits: Limits { max_message: 1 << 20, window: 256 << 10, max_channels: 64, ..Limits::default() },
        addresses: Vec::new(),
        instances: vec![peers::instance("x"), peers::instance("y")],
    };
    let preface = Preface::CURRENT.encode();
    let mut noise = Handshake::initiator(&stranger, Suite::ChaChaPoly, &preface, [7; 32]).unwrap();
    let (mut wire, mut message) = (BytesMut::from(&preface[..]), Vec::new());
    noise.write(&[], &mut message).unwrap();
    put_message(&mut wire, &message).unwrap();
    end.arrive(now, &wire);
    noise.read(&take_message(&mut end.said()).unwrap().unwrap()).unwrap();
    (wire, message) = (BytesMut::new(), Vec::new());
    noise.write(&hello.encode(), &mut message).unwrap();
    put_message(&mut wire, &message).unwrap();
    end.arrive(now, &wire);
    let (mut sealer, _) = noise.finish().unwrap();
    let mut accept = BytesMut::new();
    put_control(&mut accept, &Kind::Accept(proto::Accept::default()));
    let accept = seal(&mut sealer, &accept);
    end.arrive(now, &accept);
    assert!(end.is_up, "an honest peer is not up");
    (end, sealer)
}

fn seal(sealer: &mut Sealer, plaintext: &[u8]) -> BytesMut {
    let mut record = BytesMut::from(&[0, 0][..]);
    record.extend_from_slice(plaintext);
    sealer.seal(&mut record, 0).unwrap();
    record
}
