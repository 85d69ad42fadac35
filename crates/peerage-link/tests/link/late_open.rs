//! Instances that come and go while the link is up.

use std::time::Duration;

use peerage_machine::{Class, InstanceName, Refusal, RefusalReason, Side, Why};

use crate::common::{Channel, End, Pair, body, dialer, instance, listener, with};

fn pair() -> Pair {
    Pair::up(dialer(&["x"]), listener(&["x"]))
}

fn refusal(by: Side, reason: RefusalReason) -> Refusal {
    Refusal { by, instance: InstanceName { protocol: "test".to_owned(), name: "late".to_owned() }, reason }
}

fn unknown(channel: u32) -> Channel {
    Channel::Refused(channel, refusal(Side::Them, RefusalReason::UnknownInstance))
}

fn down(channel: u32, detail: &str) -> Channel {
    Channel::Down(channel, Why::ChannelClosed { by: Side::Them, detail: detail.to_owned() })
}

/// What became of channels other than the first since the last look.
fn news(end: &mut End) -> Vec<Channel> {
    let news = end.heard.channels();
    end.heard.0.clear();
    news.into_iter().filter(|news| *news != Channel::Up(0)).collect()
}

fn assert_talk(pair: &mut Pair, of_a: u32, of_b: u32) {
    for class in [Class::Interactive, Class::Control, Class::Bulk] {
        pair.a
            .link
            .send(of_a, class, body(1, 300_000.min(if class == Class::Control { 999 } else { 300_000 })))
            .unwrap();
        pair.b.link.send(of_b, class, body(2, 5)).unwrap();
    }
    pair.run();
    let (at_a, at_b) = (pair.a.heard.messages(), pair.b.heard.messages());
    assert!(at_a.len() == 3 && at_a.iter().all(|(channel, _)| *channel == of_a), "{at_a:?}");
    assert!(at_b.len() == 3 && at_b.iter().all(|(channel, _)| *channel == of_b));
    pair.a.heard.0.clear();
    pair.b.heard.0.clear();
}

#[test]
fn one_that_only_one_side_opens_is_refused_and_stays_on_offer() {
    let mut pair = pair();
    assert_eq!(pair.a.link.open(instance("late")), 1);
    pair.run();
    assert_eq!(news(&mut pair.a), [unknown(1)]);
    assert_eq!(news(&mut pair.b), []);
    assert_eq!(pair.b.link.open(instance("late")), 1);
    pair.run();
    assert_eq!((news(&mut pair.a), news(&mut pair.b)), (vec![Channel::Up(1)], vec![Channel::Up(1)]));
    assert_talk(&mut pair, 1, 1);
}

#[test]
fn one_that_the_other_side_had_from_the_start_meets_it() {
    let mut pair = Pair::up(dialer(&["x"]), listener(&["late", "x"]));
    news(&mut pair.b);
    assert_eq!(pair.a.link.open(instance("late")), 1);
    pair.run();
    assert_eq!((news(&mut pair.a), news(&mut pair.b)), (vec![Channel::Up(1)], vec![]));
    assert_talk(&mut pair, 1, 0);
}

#[test]
fn one_that_both_open_at_once_is_one_channel() {
    let mut pair = pair();
    pair.a.link.open(instance("late"));
    pair.b.link.open(instance("late"));
    pair.run();
    assert_eq!((news(&mut pair.a), news(&mut pair.b)), (vec![Channel::Up(1)], vec![Channel::Up(1)]));
    assert_talk(&mut pair, 1, 1);
}

#[test]
fn one_that_is_opened_before_the_link_is_up_is_offered_when_it_is() {
    for steps in 0..5 {
        let mut pair = Pair::new(dialer(&["x"]), listener(&["x", "late"]));
        for _ in 0..steps {
            pair.exchange(Duration::ZERO);
        }
        assert_eq!(pair.a.link.open(instance("late")), 1);
        pair.run();
        assert!(pair.a.heard.channels().contains(&Channel::Up(1)), "after {steps}: {:?}", pair.a.heard);
        assert_eq!(pair.b.heard.channels().last(), Some(&Channel::Up(1)));
        pair.a.heard.0.clear();
        pair.b.heard.0.clear();
        assert_talk(&mut pair, 1, 1);
    }
}

#[test]
fn one_that_is_opened_while_the_host_decides_is_no_reason_to_refuse_the_link() {
    // The dialer offered nothing, and what it has opened since meets nothing yet.
    for late in ["late", "other"] {
        let mut pair = Pair::new(dialer(&[]), listener(&["late"]));
        pair.a.answer = None;
        for _ in 0..4 {
            pair.exchange(Duration::ZERO);
        }
        assert!(pair.a.heard.hello().is_some());
        assert_eq!(pair.a.link.open(instance(late)), 0);
        pair.a.link.admit();
        pair.run();
        assert!(pair.a.heard.is_up() && pair.b.heard.is_up(), "{:?}", pair.a.heard);
        assert_eq!(pair.a.heard.channels().contains(&Channel::Up(0)), late == "late");
    }
}

#[test]
fn versions_and_parameters_are_compared_late_too() {
    let mut pair = pair();
    let mut newer = instance("late");
    newer.version = 2;
    pair.b.link.open(instance("late"));
    pair.a.link.open(newer);
    pair.run();
    let reason = |ours: u32, theirs: &str| RefusalReason::Version { ours, theirs: theirs.to_owned() };
    assert_eq!(news(&mut pair.a), [Channel::Refused(1, refusal(Side::Them, reason(2, "1")))]);
    assert_eq!(news(&mut pair.b), [Channel::Refused(1, refusal(Side::Them, reason(1, "2")))]);
}

#[test]
fn one_that_is_closed_and_opened_again_has_a_new_number_and_full_credit() {
    let mut pair = pair();
    for round in 1..20 {
        pair.a.link.send(round - 1, Class::Interactive, body(round, 200_000)).unwrap();
        pair.a.flush(usize::MAX);
        pair.cross(usize::MAX, usize::MAX);
        pair.a.link.close_channel(pair.now, round - 1, "again");
        assert_eq!(pair.a.link.open(instance("x")), round);
        pair.run();
        assert_eq!(news(&mut pair.a), [Channel::Up(round)]);
        assert_eq!(pair.b.heard.channels().last(), Some(&Channel::Up(0)));
        assert!(pair.b.heard.channels().contains(&down(0, "again")));
        pair.b.heard.0.clear();
        assert_talk(&mut pair, round, 0);
    }
}

#[test]
fn an_instance_that_comes_and_goes_a_thousand_times_is_welcome_every_time() {
    let mut pair = pair();
    for round in 1..=1000 {
        pair.a.link.open(instance("late"));
        pair.run();
        assert_eq!(news(&mut pair.a), [unknown(round)]);
        pair.a.link.close_channel(pair.now, round, "");
    }
    pair.b.link.open(instance("late"));
    let last = pair.a.link.open(instance("late"));
    pair.run();
    assert_eq!(pair.a.heard.channels().last(), Some(&Channel::Up(last)));
    pair.a.heard.0.clear();
    pair.b.heard.0.clear();
    assert_talk(&mut pair, last, 1);
}

#[test]
fn one_that_is_closed_while_the_peer_answers_does_not_stay_up_there() {
    let mut pair = Pair::up(dialer(&["x"]), listener(&["x", "late"]));
    news(&mut pair.b);
    pair.a.link.open(instance("late"));
    pair.a.flush(usize::MAX);
    pair.cross(usize::MAX, 0);
    pair.b.settle(pair.now);
    assert_eq!(pair.b.heard.channels(), [Channel::Up(1)]);
    // The peer's answer is on its way.
    pair.a.link.close_channel(pair.now, 1, "");
    pair.run();
    assert_eq!(pair.b.heard.channels(), [Channel::Up(1), down(1, "")]);
    assert_eq!(pair.b.link.send(1, Class::Interactive, body(1, 1)), Err(Why::NotUp));
}

#[test]
fn one_that_is_closed_during_the_handshake_does_not_stay_up_at_the_peer() {
    for steps in 0..5 {
        let mut pair = Pair::new(dialer(&["x", "gone"]), listener(&["gone", "x"]));
        for _ in 0..steps {
            pair.exchange(Duration::ZERO);
        }
        pair.a.link.close_channel(pair.now, 1, "");
        pair.run();
        assert_eq!(pair.b.link.send(0, Class::Interactive, body(1, 1)), Err(Why::NotUp), "after {steps}");
        assert!(!matches!(pair.b.heard.channels().last(), Some(Channel::Up(0))));
        assert_eq!(pair.b.link.send(1, Class::Interactive, body(1, 1)), Ok(()));
    }
}

#[test]
fn both_close_at_once_and_open_at_once() {
    let mut pair = pair();
    for round in 1..100 {
        pair.a.link.close_channel(pair.now, round - 1, "");
        pair.b.link.close_channel(pair.now, round - 1, "");
        if round % 2 == 0 {
            pair.run();
        }
        assert_eq!((pair.a.link.open(instance("x")), pair.b.link.open(instance("x"))), (round, round));
        pair.run();
        assert_eq!(pair.a.heard.channels().last(), Some(&Channel::Up(round)));
        assert_eq!(pair.b.heard.channels().last(), Some(&Channel::Up(round)));
        pair.a.heard.0.clear();
        pair.b.heard.0.clear();
    }
    assert_talk(&mut pair, 99, 99);
}

#[test]
fn what_waits_on_a_channel_that_the_peer_closes_is_dropped_and_other_channels_go_on() {
    let mut pair = Pair::up(dialer(&["x", "y"]), listener(&["x", "y"]));
    pair.a.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
    pair.a.link.send(1, Class::Bulk, body(2, 1 << 20)).unwrap();
    pair.a.flush(100_000);
    pair.cross(usize::MAX, usize::MAX);
    pair.b.link.close_channel(pair.now, 0, "enough");
    pair.run();
    assert_eq!(pair.b.heard.messages(), [(1, body(2, 1 << 20))]);
    assert_eq!(pair.a.heard.channels().last(), Some(&down(0, "enough")));
    assert_eq!(pair.a.link.queued(), (0, 0));
    assert_eq!(pair.b.link.held_bytes(), 0);
    assert_eq!(pair.a.heard.closed(), None);
    assert!(pair.b.link.stats().late_fragments > 0);
}

#[test]
fn a_channel_that_closes_gives_its_room_to_the_next() {
    let config = |config: &mut peerage_link::LinkConfig| {
        config.max_message = 1 << 20;
        config.reassembly = 1 << 20;
    };
    for by_receiver in [true, false] {
        let mut pair = Pair::up(dialer(&["x", "y"]), with(listener(&["x", "y"]), config));
        pair.a.link.send(0, Class::Bulk, body(1, 1 << 20)).unwrap();
        pair.a.flush(100_000);
        pair.a.link.send(1, Class::Bulk, body(2, 1 << 20)).unwrap();
        for _ in 0..20 {
            pair.a.flush(usize::MAX);
            pair.cross(usize::MAX, 0);
            pair.b.settle(pair.now);
        }
        assert_eq!(pair.b.heard.messages(), []);
        if by_receiver {
            pair.b.link.close_channel(pair.now, 0, "");
        } else {
            // The sender hears the other side, and gets to say nothing itself until it gives the channel up.
            pair.a.link.close_channel(pair.now, 0, "");
            pair.now = pair.now + Duration::from_secs(10);
            pair.b.on_timer(pair.now);
            pair.b.flush(usize::MAX);
            pair.cross(0, usize::MAX);
            pair.now = pair.now + Duration::from_secs(5);
            pair.a.on_timer(pair.now);
        }
        pair.run();
        assert_eq!(pair.b.heard.messages(), [(1, body(2, 1 << 20))]);
    }
}

#[test]
fn the_peers_limit_of_channels_is_told_and_there_is_room_again_when_one_closes() {
    let limited = with(listener(&["x"]), |config| config.max_channels = 2);
    let mut pair = Pair::up(dialer(&["x"]), limited);
    for name in ["late", "later", "latest"] {
        pair.b.link.open(instance(name));
    }
    pair.run();
    news(&mut pair.b);
    pair.a.link.open(instance("later"));
    pair.a.link.open(instance("late"));
    pair.run();
    let limit = RefusalReason::Limit("2 channels".to_owned());
    assert_eq!(news(&mut pair.a), [Channel::Up(1), Channel::Refused(2, refusal(Side::Them, limit))]);
    pair.a.link.close_channel(pair.now, 1, "");
    pair.a.link.close_channel(pair.now, 2, "");
    pair.a.link.open(instance("late"));
    pair.run();
    assert_eq!(news(&mut pair.a), [Channel::Up(3)]);
}

#[test]
fn ones_own_limit_holds_when_both_open_at_once() {
    let limited = with(dialer(&["x"]), |config| config.max_channels = 1);
    let mut pair = Pair::up(limited, listener(&["x"]));
    pair.a.link.open(instance("late"));
    pair.b.link.open(instance("late"));
    pair.run();
    let limit = refusal(Side::Us, RefusalReason::Limit("1 channels".to_owned()));
    assert!(news(&mut pair.a).contains(&Channel::Refused(1, limit)));
    assert_eq!(pair.a.link.send(1, Class::Interactive, body(1, 1)), Err(Why::NotUp));
    assert_eq!(pair.b.link.send(1, Class::Interactive, body(1, 1)), Err(Why::NotUp));
    assert_eq!((pair.a.heard.closed(), pair.b.heard.closed()), (None, None));
}

#[test]
fn what_cannot_be_opened_is_refused_here_and_the_link_lives_on() {
    let mut pair = pair();
    let long = "n".repeat(129);
    let (first, second) = (pair.a.link.open(instance(&long)), pair.a.link.open(instance("x")));
    pair.run();
    let reasons: Vec<String> = news(&mut pair.a)
        .into_iter()
        .map(|news| match news {
            Channel::Refused(channel, refusal) => {
                assert_eq!(refusal.by, Side::Us);
                format!("{channel} {}", refusal.reason)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        reasons,
        [
            format!("{first} it is at a limit: the network's name is 129 bytes, the limit is 128"),
            format!("{second} it is at a limit: one channel for each instance"),
        ]
    );
    assert_talk(&mut pair, 0, 0);
}
