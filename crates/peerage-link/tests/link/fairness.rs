//! Who comes before whom.

use peerage_machine::Class;

use crate::common::{Pair, body, dialer, listener};

const NAMES: [&str; 2] = ["x", "y"];

fn pair() -> Pair {
    Pair::up(dialer(&NAMES), listener(&NAMES))
}

/// One turn of a connection that takes 64 KiB at a time.
fn turn(pair: &mut Pair) {
    pair.a.flush(64 << 10);
    pair.b.flush(64 << 10);
    pair.cross(usize::MAX, usize::MAX);
    pair.a.settle(pair.now);
    pair.b.settle(pair.now);
}

fn interactive_behind_bulk(bulk_on: u32) {
    let mut pair = pair();
    pair.a.link.send(bulk_on, Class::Bulk, body(1, 4 << 20)).unwrap();
    for _ in 0..4 {
        turn(&mut pair);
    }
    pair.a.link.send(0, Class::Interactive, body(2, 1_000)).unwrap();
    turn(&mut pair);
    turn(&mut pair);
    assert_eq!(pair.b.heard.messages(), [(0, body(2, 1_000))]);
    let left = pair.a.link.queued().1;
    assert!(left > 3 << 20, "{left} bytes of the bulk message are left");
    pair.run();
    assert_eq!(pair.b.heard.messages().len(), 2);
}

#[test]
fn an_interactive_message_overtakes_a_bulk_one_of_another_channel() {
    interactive_behind_bulk(1);
}

#[test]
fn an_interactive_message_overtakes_a_bulk_one_of_its_own_channel() {
    interactive_behind_bulk(0);
}

#[test]
fn bulk_gets_a_fifth_beside_a_flood_of_interactive_messages() {
    for bulk_on in [0, 1] {
        let mut pair = pair();
        pair.a.link.send(bulk_on, Class::Bulk, body(0, 1 << 20)).unwrap();
        let mut flood = 0_u64;
        while pair.a.link.queued().0 > 0 && !pair.b.heard.messages().iter().any(|(_, it)| it.len() == 1 << 20)
        {
            while pair.a.link.queued().0 < 300 {
                pair.a.link.send(0, Class::Interactive, body(1, 1_000)).unwrap();
                flood += 1;
            }
            turn(&mut pair);
            assert!(flood < 20_000, "bulk starves");
        }
        let kib = pair.a.heard.room(0, Class::Interactive) >> 10;
        assert!((3 << 10..5 << 10).contains(&kib), "{kib} KiB of interactive to 1 MiB of bulk");
    }
}

#[test]
fn control_overtakes_both() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
    pair.a.link.send(0, Class::Interactive, body(2, 1 << 20)).unwrap();
    turn(&mut pair);
    pair.a.link.send(0, Class::Control, body(3, 60_000)).unwrap();
    turn(&mut pair);
    assert_eq!(pair.b.heard.messages(), [(0, body(3, 60_000))]);
}

#[test]
fn control_passes_a_channel_that_is_out_of_credit() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Interactive, body(1, 1 << 20)).unwrap();
    // The other side says nothing, so that no credit comes.
    for _ in 0..20 {
        pair.a.flush(64 << 10);
    }
    let stuck = pair.a.link.queued();
    assert!(stuck.1 > 700 << 10, "{stuck:?}");
    assert!(!pair.a.link.has_work());
    pair.a.link.send(0, Class::Control, body(2, 100)).unwrap();
    assert!(pair.a.link.has_work());
    pair.a.flush(64 << 10);
    pair.cross(usize::MAX, 0);
    pair.b.settle(pair.now);
    assert_eq!(pair.b.heard.messages(), [(0, body(2, 100))]);
}

#[test]
fn channels_of_one_class_take_turns() {
    let mut pair = pair();
    for number in 0..50 {
        pair.a.link.send(0, Class::Bulk, body(number, 100_000)).unwrap();
        pair.a.link.send(1, Class::Bulk, body(number, 100_000)).unwrap();
    }
    for _ in 0..50 {
        turn(&mut pair);
    }
    let (first, second) = (pair.a.heard.room(0, Class::Bulk), pair.a.heard.room(1, Class::Bulk));
    assert!(first > 1 << 20 && first.abs_diff(second) <= 128 << 10, "{first} and {second}");
}

#[test]
fn a_channel_with_much_to_say_gives_way_within_one_record() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Bulk, body(1, 200_000)).unwrap();
    pair.a.link.send(1, Class::Bulk, body(2, 1_000)).unwrap();
    turn(&mut pair);
    assert_eq!(pair.b.heard.messages(), [(1, body(2, 1_000))]);
}

#[test]
fn an_interactive_message_longer_than_the_window_passes_a_bulk_one_that_is_under_way() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Bulk, body(1, 4 << 20)).unwrap();
    for _ in 0..4 {
        turn(&mut pair);
    }
    let before = pair.a.heard.room(0, Class::Bulk);
    assert!(before > 0, "it is under way");
    pair.a.link.send(0, Class::Interactive, body(2, 1 << 20)).unwrap();
    while pair.b.heard.messages().is_empty() {
        turn(&mut pair);
    }
    assert_eq!(pair.b.heard.messages(), [(0, body(2, 1 << 20))]);
    // Four turns to one; the turn that ends it may carry a little more.
    let beside = pair.a.heard.room(0, Class::Bulk) - before;
    assert!((200 << 10..400 << 10).contains(&beside), "{beside} bytes of bulk went meanwhile");
    pair.run();
    assert_eq!(pair.b.heard.messages()[1..], [(0, body(1, 4 << 20))]);
}

#[test]
fn a_class_that_is_out_of_credit_does_not_hold_up_the_other_class_of_its_channel() {
    for (stuck, other) in [(Class::Bulk, Class::Interactive), (Class::Interactive, Class::Bulk)] {
        let mut pair = pair();
        // Nobody takes what comes, so that no credit of the first class goes back.
        for number in 0..100 {
            pair.a.link.send(0, stuck, body(number, 16_000)).unwrap();
        }
        while pair.a.link.has_work() {
            pair.a.flush(64 << 10);
        }
        assert!(pair.a.link.queued().0 > 80, "{:?}", pair.a.link.queued());
        pair.a.link.send(0, other, body(100, 200_000)).unwrap();
        pair.a.flush(usize::MAX);
        assert!(!pair.a.link.has_work());
        pair.cross(usize::MAX, 0);
        pair.b.settle(pair.now);
        assert!(pair.b.heard.messages().contains(&(0, body(100, 200_000))), "behind {stuck:?}");
        pair.run();
        assert_eq!(pair.b.heard.messages().len(), 101);
    }
}

#[test]
fn small_messages_leave_together_in_one_record() {
    let mut pair = pair();
    let before = pair.a.link.stats().records_sent;
    for number in 0..100 {
        pair.a.link.send(number % 2, Class::Interactive, body(number, 64)).unwrap();
    }
    pair.run();
    assert_eq!(pair.b.heard.messages().len(), 100);
    assert_eq!(pair.a.link.stats().records_sent, before + 1);
}

/// As a host does it: no more is sealed ahead of the socket than this, which then takes it all at once.
const AHEAD: usize = 128 << 10;

#[test]
fn an_interactive_message_behind_full_bulk_queues_leaves_with_the_next_record() {
    let mut pair = pair();
    for channel in 0..2 {
        for number in 0..64 {
            pair.a.link.send(channel, Class::Bulk, body(number, 16_000)).unwrap();
        }
    }
    // A small budget: one record at a time.
    for _ in 0..3 {
        pair.a.flush(1);
    }
    pair.cross(usize::MAX, 0);
    pair.b.settle(pair.now);
    let before = pair.b.heard.messages().len();
    pair.a.link.send(1, Class::Interactive, body(99, 200)).unwrap();
    pair.a.flush(1);
    pair.cross(usize::MAX, 0);
    pair.b.settle(pair.now);
    assert!(pair.b.heard.messages()[before..].contains(&(1, body(99, 200))));
    assert!(pair.a.link.queued().0 > 100, "bulk still waits");
}

#[test]
fn a_pong_waits_for_nothing_but_what_is_sealed() {
    let mut pair = pair();
    pair.b.link.send(0, Class::Bulk, body(1, 8 << 20)).unwrap();
    pair.b.link.send(0, Class::Interactive, body(2, 1 << 20)).unwrap();
    pair.b.flush(AHEAD);
    let sealed = pair.b.wire.len();
    assert!(sealed < AHEAD + (64 << 10), "{sealed} bytes are sealed ahead");
    // A ping arrives while all of that waits for the socket.
    pair.now = pair.now + std::time::Duration::from_secs(1);
    pair.a.on_timer(pair.now);
    pair.a.flush(usize::MAX);
    pair.cross(usize::MAX, 0);
    pair.b.flush(sealed + 1);
    let before = pair.a.heard.rtts();
    // The first record after what was sealed has the answer.
    pair.cross(0, sealed);
    assert_eq!(pair.a.heard.rtts(), before);
    pair.a.settle(pair.now);
    let first = 2 + usize::from(u16::from_be_bytes([pair.b.wire[0], pair.b.wire[1]]));
    pair.cross(0, first);
    pair.a.settle(pair.now);
    assert_eq!(pair.a.heard.rtts(), before + 1);
    assert!(pair.b.link.queued().1 > 1 << 20);
}

#[test]
fn a_long_bulk_transfer_goes_on_beside_interactive_messages_that_never_end() {
    let mut pair = pair();
    pair.a.link.send(0, Class::Bulk, body(1, 2 << 20)).unwrap();
    let mut gone = 0;
    for turn_number in 0..200 {
        while pair.a.link.queued().0 < 40 {
            pair.a.link.send(turn_number % 2, Class::Interactive, body(2, 10_000)).unwrap();
        }
        turn(&mut pair);
        let now = pair.a.heard.room(0, Class::Bulk);
        if turn_number % 8 == 7 {
            assert!(now > gone || now == 2 << 20, "{gone} bytes after {turn_number} turns, and no more");
            gone = now;
        }
    }
    assert_eq!(gone, 2 << 20);
}
