use peerage_machine::{Direction, Incarnation, UnixMillis};
use peerage_wire::PeerId;

use super::*;

const LINK: LinkId = LinkId(7);

fn on_a_link(credit: u64) -> Session {
    let info = LinkInfo {
        peer: PeerId::from_bytes([1; 32]),
        incarnation: Incarnation([1; 16]),
        addresses: Vec::new(),
        direction: Direction::Inbound,
        rtt: None,
        parameters: Bytes::new(),
        credit,
        max_message: 1 << 20,
        since: UnixMillis(0),
    };
    let mut session = Session::default();
    session.carried_by(LINK, &info, Lanes::default()).unwrap();
    session
}

fn reply(to: u64, len: usize) -> Item {
    Item::Reply { to, result: Ok(vec![0; len].into()) }
}

/// The numbers that each message of the interactive class brings, 0 for an acknowledgement, and its bytes.
fn sent(session: &mut Session) -> Vec<(Vec<u64>, u64)> {
    let mut out = Out::new();
    session.pump(&mut out);
    session.check().unwrap();
    let of = |effect: Effect<Packet, crate::Event, crate::Answer>| match effect {
        Effect::SendOne { message, class: Class::Interactive, .. } => {
            let bytes = message.encoded_len() as u64;
            let numbers = message.into_bodies().map(|read| match read.unwrap().0 {
                Body::Item { seq, .. } => seq,
                _ => 0,
            });
            Some((numbers.collect(), bytes))
        }
        _ => None,
    };
    out.drain().filter_map(of).collect()
}

fn numbers(sent: &[(Vec<u64>, u64)]) -> Vec<&[u64]> {
    sent.iter().map(|(numbers, _)| &numbers[..]).collect()
}

#[test]
fn small_items_gather_while_the_link_is_busy_and_then_leave_together() {
    let mut session = on_a_link(1 << 20);
    // What was told on another link is said again.
    session.push(false, &reply(1, 64), Until::Acknowledged);
    let first = sent(&mut session);
    assert_eq!(numbers(&first), [&[0, 1]]);
    for to in 2..=4 {
        session.push(false, &reply(to, 64), Until::Acknowledged);
        assert_eq!(sent(&mut session), []);
    }
    session.room(Class::Bulk, 10);
    assert_eq!(sent(&mut session), [], "that was another lane's");
    session.room(Class::Interactive, first[0].1);
    assert_eq!(numbers(&sent(&mut session)), [&[2, 3, 4]]);
}

#[test]
fn what_is_much_leaves_without_waiting_and_what_is_long_by_itself() {
    let mut session = on_a_link(1 << 20);
    sent(&mut session);
    for to in 1..=9 {
        session.push(false, &reply(to, 1000), Until::Acknowledged);
    }
    session.push(false, &reply(10, 2000), Until::Acknowledged);
    session.push(false, &reply(11, 10), Until::Acknowledged);
    assert_eq!(numbers(&sent(&mut session)), [&[1, 2, 3, 4][..], &[5, 6, 7, 8]], "the rest waits");
    session.room(Class::Interactive, 1);
    assert_eq!(numbers(&sent(&mut session)), [&[9]]);
    session.room(Class::Interactive, 1);
    assert_eq!(numbers(&sent(&mut session)), [&[10]]);
    session.room(Class::Interactive, 1);
    assert_eq!(numbers(&sent(&mut session)), [&[11]]);
}

#[test]
fn what_nobody_waits_for_is_acknowledged_later_than_what_somebody_may() {
    let mut session = on_a_link(1 << 20);
    sent(&mut session);
    let now = Instant::from_micros(1_000_000);
    session.arrives(now, 1, false, 100, true).unwrap();
    assert_eq!(session.deadline(), Some(now + ACK_AFTER));
    session.arrives(now, 2, false, 100, false).unwrap();
    assert_eq!(session.deadline(), Some(now + ACK_AFTER), "it is not done");
    let later = now + ACK_SOON;
    session.finished(later, 2);
    assert_eq!(session.deadline(), Some(later + ACK_SOON));
    session.on_timer(later + ACK_SOON);
    sent(&mut session);
    assert_eq!(session.deadline(), None);
}

#[test]
fn together_they_need_no_more_room_than_the_link_has() {
    let mut session = on_a_link(1_000);
    sent(&mut session);
    for to in 1..=100 {
        session.push(false, &reply(to, 64), Until::Acknowledged);
    }
    let first = sent(&mut session);
    // A quarter each, so that bulk data, which leaves half of the room, leaves room for one.
    assert_eq!(numbers(&first), [&[1, 2, 3][..], &[4, 5, 6], &[7, 8, 9], &[10, 11, 12]]);
    session.room(Class::Interactive, 100);
    assert_eq!(sent(&mut session), []);
    session.room(Class::Interactive, first[0].1);
    assert_eq!(numbers(&sent(&mut session)), [&[13, 14, 15]]);
}
