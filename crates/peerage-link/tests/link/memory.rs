//! What a link holds at most, and that it is held no longer than it must.

use bytes::BytesMut;
use peerage_link::{LinkConfig, Memory};
use peerage_wire::frame::{DataHeader, put_data};
use peerage_wire::proto::link::v1::control::Kind;

use crate::common::{Stranger, instance, listener, with};

const NAMES: [&str; 4] = ["w", "x", "y", "z"];

fn config(config: &mut LinkConfig) {
    config.max_channels = 4;
    config.max_message = 1 << 20;
    config.reassembly = 2 << 20;
    config.window = 128 << 10;
}

/// All that fits: each channel's window full of large messages in parts, the budget full, control messages in parts.
fn fill(stranger: &mut Stranger) {
    // Two large messages in the budget, all but their last byte there.
    for channel in 0..2 {
        stranger.data(channel, 2, 1 << 20, &[1; 16_384]);
        (1..63).for_each(|_| stranger.data(channel, 2, 0, &[1; 16_384]));
        stranger.data(channel, 2, 0, &[1; 16_383]);
    }
    // The rest of the credit in messages that wait for room, by two classes, in pieces that leave much to spare.
    for (channel, class) in [(0, 0), (1, 0), (2, 0), (2, 2), (3, 0), (3, 2)] {
        stranger.data(channel, class, 1 << 20, &[2; 16_000]);
        (0..12).for_each(|_| stranger.data(channel, class, 0, &[2; 9_000]));
    }
    for channel in 0..4 {
        stranger.data(channel, 1, 65_536, &[4; 16_384]);
        (0..2).for_each(|_| stranger.data(channel, 1, 0, &[4; 16_384]));
        stranger.data(channel, 1, 0, &[4; 16_383]);
    }
    assert_eq!(stranger.end.heard.closed(), None);
}

#[test]
fn a_full_link_holds_what_its_config_says_and_no_more() {
    let setup = with(listener(&NAMES), config);
    let bound = setup.config.worst_case_inbound_bytes() + setup.config.reassembly;
    let mut stranger = Stranger::up(setup, NAMES.map(instance).to_vec());
    fill(&mut stranger);
    // And whole messages, which nobody takes, as long as the link takes records.
    let mut plaintext = BytesMut::new();
    let header = DataHeader { channel: 0, class: 1, total: 0 };
    // The last byte of channel 0's control message first.
    put_data(&mut plaintext, header, &[0]);
    (0..3).for_each(|_| put_data(&mut plaintext, header, &[0; 16_384]));
    for _ in 0..100 {
        let record = stranger.seal(&plaintext);
        stranger.end.arrive(stranger.now, &record);
    }
    let held = stranger.end.link.held_bytes();
    assert!(held <= bound, "{held} of {bound}");
    assert!(held > bound * 3 / 4, "{held} of {bound}: the bound is far from the truth, or the link not full");
    // Once they are taken, what is left is in parts.
    stranger.end.poll();
    assert!(stranger.end.link.held_bytes() < held - (256 << 10));
    stranger.end.link.close(peerage_machine::Why::Unheld);
    assert_eq!(stranger.end.link.held_bytes(), 0);
}

#[test]
fn a_peer_that_made_windows_grow_holds_no_more_than_they_are() {
    let mut setup = with(listener(&NAMES), config);
    let mut config = LinkConfig::clone(&setup.config);
    (config.window, config.max_window) = (64 << 10, 16 << 20);
    let own = config.worst_case_inbound_bytes();
    setup.config = std::sync::Arc::new(config);
    setup.memory = Memory::new(8 << 20, 2 << 20);
    let memory = setup.memory.clone();
    let mut stranger = Stranger::up(setup, NAMES.map(instance).to_vec());
    // Messages that are taken at once, as fast as credit allows, by one channel after the other.
    let mut allowed = [[64_u64 << 10; 3]; 4];
    let look = |stranger: &mut Stranger, allowed: &mut [[u64; 3]; 4]| {
        for kind in stranger.controls() {
            if let Kind::Credit(credit) = kind {
                allowed[credit.channel as usize][credit.class as usize] += credit.bytes;
            }
        }
    };
    for _ in 0..400 {
        for channel in 0..4 {
            for class in [0, 2] {
                if allowed[channel as usize][class as usize] >= 16_416 {
                    allowed[channel as usize][class as usize] -= 16_416;
                    stranger.data(channel, class, 0, &[1; 16_384]);
                }
            }
        }
        look(&mut stranger, &mut allowed);
    }
    assert_eq!(stranger.end.link.borrowed_bytes(), (4 << 20, 0), "half of what there is");
    assert_eq!(memory.windows.left(), 4 << 20);
    // Then all of it at once in messages that get no room, but for the first ones.
    for channel in 0..4 {
        for class in [0, 2] {
            let credit = &mut allowed[channel as usize][class as usize];
            let mut total = 1 << 20;
            while *credit >= 9_032 {
                *credit -= 9_032;
                stranger.data(channel, class, total, &[1; 9_000]);
                total = 0;
            }
        }
    }
    let held = stranger.end.link.held_bytes();
    let (windows, room) = stranger.end.link.borrowed_bytes();
    let bound = own + windows / 8 * 9 + room;
    assert_eq!(stranger.end.heard.closed(), None);
    assert!(held <= bound, "{held} of {bound}");
    assert!(held > windows * 3 / 4 && held > bound / 2, "{held} of {bound}: the link is not full");
    stranger.end.link.close(peerage_machine::Why::Unheld);
    assert_eq!((memory.windows.left(), memory.messages.left()), (8 << 20, 2 << 20));
}

#[test]
fn large_messages_that_nobody_takes_keep_their_room() {
    let mut stranger = Stranger::up(with(listener(&NAMES), config), NAMES.map(instance).to_vec());
    let mut sent = 0;
    // The host takes nothing; the sender has credit for fragments of whatever has room.
    let mut allowed = 128_u64 << 10;
    'all: loop {
        for part in 0..64 {
            if allowed < 16_416 {
                break 'all;
            }
            allowed -= 16_416;
            let mut plaintext = BytesMut::new();
            let total = if part == 0 { 1 << 20 } else { 0 };
            put_data(&mut plaintext, DataHeader { channel: 0, class: 2, total }, &[5; 16_384]);
            let record = stranger.seal(&plaintext);
            stranger.end.arrive(stranger.now, &record);
            sent += 1;
            assert!(sent < 1_000, "no end to it");
            for kind in stranger.controls() {
                if let Kind::Credit(credit) = kind {
                    allowed += credit.bytes;
                }
            }
        }
    }
    let held = stranger.end.link.held_bytes();
    assert!((2 << 20..=(2 << 20) + (144 << 10)).contains(&held), "{held}");
    // Taking them gives the third its room, and the sender its credit.
    stranger.end.poll();
    assert_eq!(stranger.end.heard.messages().len(), 2);
    assert!(stranger.controls().len() == 1);
    assert!(stranger.end.link.held_bytes() < 300 << 10);
}

#[test]
fn a_message_that_is_not_large_takes_no_room_from_one_that_is() {
    let setup = with(listener(&NAMES), |config| {
        config.max_message = 1 << 20;
        config.reassembly = 1 << 20;
        config.window = 64 << 10;
    });
    let mut stranger = Stranger::up(setup, NAMES.map(instance).to_vec());
    // Up to a quarter of the window fits into the credit; one byte more is large and takes the room.
    for (length, room) in [(16_384, true), (16_385, false)] {
        stranger.data(0, 2, length, &[1; 9_000]);
        stranger.data(1, 2, 1 << 20, &[2; 16_384]);
        let credit = stranger
            .controls()
            .into_iter()
            .any(|kind| matches!(kind, Kind::Credit(credit) if credit.channel == 1));
        assert_eq!(credit, room, "beside a message of {length}");
        if room {
            stranger.data(0, 2, 0, &[1; 7_384]);
            (0..63).for_each(|_| stranger.data(1, 2, 0, &[2; 16_384]));
            assert_eq!(stranger.end.heard.messages().len(), 2);
            stranger.controls();
        }
    }
}

#[test]
fn an_idle_link_holds_nothing() {
    let stranger = Stranger::up(listener(&NAMES), NAMES.map(instance).to_vec());
    assert_eq!(stranger.end.link.held_bytes(), 0);
}

#[test]
fn the_announced_length_of_a_message_takes_no_memory() {
    let mut stranger = Stranger::up(listener(&NAMES), NAMES.map(instance).to_vec());
    for channel in 0..4 {
        stranger.data(channel, 2, 16 << 20, &[0]);
    }
    assert!(stranger.end.link.held_bytes() <= 4 * 16_384, "{}", stranger.end.link.held_bytes());
}
