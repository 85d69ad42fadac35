//! What a link carries, for how long, and what it refuses.

use peerage_machine::{Class, Effect, Input, LinkId, SendId, Side, Why};
use peerage_sim::{Config, Dropped};

use crate::puppet::*;

#[test]
fn messages_of_one_class_arrive_in_order_whatever_the_jitter() {
    let (mut sim, nodes, links) = linked(Config { jitter: millis(40), ..even() });
    for number in 0..200 {
        send(&mut sim, nodes[0], links[0], number, 0, Class::Interactive);
        sim.run_for(millis(1));
    }
    sim.run_for(millis(1000));
    let arrived = heard(&mut sim, nodes[1]);
    assert_eq!(numbers(&arrived), (0..200).collect::<Vec<_>>());
    let late = arrived.iter().filter(|(at, _)| *at > 1220).count();
    assert!(late > 0, "the jitter does delay");
}

#[test]
fn classes_overtake_each_other() {
    let (mut sim, nodes, links) = linked(Config { bandwidth: Some(1_000_000), ..even() });
    send(&mut sim, nodes[0], links[0], 1, 100_000, Class::Bulk);
    send(&mut sim, nodes[0], links[0], 2, 0, Class::Interactive);
    send(&mut sim, nodes[0], links[0], 3, 0, Class::Control);
    sim.run_for(millis(1000));
    let arrived = heard(&mut sim, nodes[1]);
    assert_eq!(numbers(&arrived), [2, 3, 1]);
    assert_eq!(arrived[2].0, 1000 + 100 + 10, "100 kB at 1 MB/s, and 10 ms of latency");
}

#[test]
fn a_link_takes_as_much_as_its_credit_and_gives_it_back_on_arrival() {
    let (mut sim, nodes, links) = linked(Config { credit: 1000, ..even() });
    sim.take_events(nodes[0]);
    send(&mut sim, nodes[0], links[0], 1, 592, Class::Interactive);
    send(&mut sim, nodes[0], links[0], 2, 392, Class::Bulk);
    send(&mut sim, nodes[0], links[0], 3, 0, Class::Interactive);
    sim.run_for(millis(5));
    let refused = heard(&mut sim, nodes[0]);
    let why = Why::Full { queued: 1000, limit: 1000 };
    assert!(
        matches!(&refused[..], [(1000, Input::Undelivered { send: SendId(3), why: said, .. })] if *said == why),
        "{refused:?}"
    );
    sim.run_for(millis(100));
    let credit: Vec<_> = sim
        .take_events(nodes[0])
        .into_iter()
        .map(|(when, input)| match input {
            Input::Credit { class, bytes, .. } => (when, class, bytes),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(credit, [(at(1010), Class::Interactive, 600), (at(1010), Class::Bulk, 400)]);
    send(&mut sim, nodes[0], links[0], 4, 992, Class::Interactive);
    sim.run_for(millis(100));
    assert_eq!(numbers(&heard(&mut sim, nodes[1])), [1, 2, 4]);
    assert_eq!(sim.stats().dropped(Dropped::Full), 1);
}

#[test]
fn a_message_longer_than_the_credit_goes_alone() {
    let (mut sim, nodes, links) = linked(Config { credit: 1000, ..even() });
    send(&mut sim, nodes[0], links[0], 1, 5000, Class::Bulk);
    send(&mut sim, nodes[0], links[0], 2, 5000, Class::Bulk);
    sim.run_for(millis(100));
    assert_eq!(numbers(&heard(&mut sim, nodes[1])), [1]);
}

#[test]
fn control_messages_need_no_credit_and_have_bounds_of_their_own() {
    let (mut sim, nodes, links) = linked(Config { credit: 10, ..even() });
    send(&mut sim, nodes[0], links[0], 0, 10, Class::Interactive);
    for number in 1..=5 {
        send(&mut sim, nodes[0], links[0], number, 65_528, Class::Control);
    }
    send(&mut sim, nodes[0], links[0], 6, 65_529, Class::Control);
    sim.run_for(millis(100));
    assert_eq!(numbers(&heard(&mut sim, nodes[1])), [0, 1, 2, 3, 4]);
    let refused = heard(&mut sim, nodes[0]);
    assert!(
        matches!(
            &refused[..],
            [
                (
                    _,
                    Input::Undelivered {
                        send: SendId(5),
                        why: Why::Full { queued: 262_144, limit: 262_144 },
                        ..
                    }
                ),
                (
                    _,
                    Input::Undelivered {
                        send: SendId(6),
                        why: Why::TooLarge { size: 65_537, limit: 65_536 },
                        ..
                    }
                )
            ]
        ),
        "{refused:?}"
    );
}

#[test]
fn what_is_too_large_or_for_no_link_comes_back_or_is_counted() {
    let (mut sim, nodes, links) = linked(Config { max_message: 100, ..even() });
    send(&mut sim, nodes[0], links[0], 1, 93, Class::Interactive);
    send(&mut sim, nodes[0], LinkId(77), 2, 0, Class::Interactive);
    let message = Word { number: 3, ballast: 93 };
    let nameless = Effect::Send { to: vec![links[0], LinkId(77)], message, class: Class::Bulk, id: None };
    push(&mut sim, nodes[0], nameless);
    sim.run_for(millis(100));
    let refused = heard(&mut sim, nodes[0]);
    assert!(
        matches!(
            &refused[..],
            [
                (_, Input::Undelivered { send: SendId(1), why: Why::TooLarge { size: 101, limit: 100 }, .. }),
                (_, Input::Undelivered { send: SendId(2), link: LinkId(77), why: Why::NotUp })
            ]
        ),
        "{refused:?}"
    );
    assert_eq!((sim.stats().dropped(Dropped::TooLarge), sim.stats().dropped(Dropped::NotUp)), (2, 2));
}

#[test]
fn one_send_reaches_many_links() {
    let (mut sim, nodes) = world(even(), 4);
    for n in 1..4 {
        dial(&mut sim, nodes[0], u64::from(n), n);
    }
    sim.run_for(millis(100));
    let to = sim.links(nodes[0]).iter().map(|view| view.link).collect();
    let message = Word { number: 5, ballast: 0 };
    push(&mut sim, nodes[0], Effect::Send { to, message, class: Class::Interactive, id: None });
    sim.run_for(millis(100));
    for node in &nodes[1..] {
        assert_eq!(numbers(&heard(&mut sim, *node)), [5]);
    }
    assert_eq!(sim.stats().delivered.interactive.messages, 3);
    assert_eq!(sim.stats().delivered.total().bytes, 24);
}

#[test]
fn a_link_that_nobody_holds_closes_after_the_grace() {
    let (mut sim, nodes, links) = linked(even());
    push(&mut sim, nodes[0], Effect::Release(links[0]));
    sim.run_for(millis(10_000));
    for node in nodes {
        assert_eq!(downs(&heard(&mut sim, node)), [(3000, Why::Unheld)]);
        assert!(sim.links(node).is_empty());
    }
}

#[test]
fn a_link_stays_while_either_side_holds_it() {
    let (mut sim, nodes, links) = linked(even());
    push(&mut sim, nodes[1], Effect::Hold(links[1]));
    push(&mut sim, nodes[0], Effect::Release(links[0]));
    sim.run_for(millis(60_000));
    assert_eq!(sim.links(nodes[0]).len(), 1);
    push(&mut sim, nodes[1], Effect::Release(links[1]));
    sim.run_for(millis(1_999));
    assert_eq!(sim.links(nodes[0]).len(), 1);
    sim.run_for(millis(1));
    assert_eq!(sim.links(nodes[0]).len(), 0);
}

#[test]
fn who_holds_it_again_within_the_grace_keeps_the_link() {
    let (mut sim, nodes, links) = linked(even());
    push(&mut sim, nodes[0], Effect::Release(links[0]));
    sim.run_for(millis(1_000));
    push(&mut sim, nodes[1], Effect::Hold(links[1]));
    sim.run_for(millis(500));
    push(&mut sim, nodes[1], Effect::Release(links[1]));
    sim.run_for(millis(1_999));
    assert_eq!(sim.links(nodes[0]).len(), 1, "the grace began anew");
    sim.run_for(millis(1));
    assert_eq!(sim.links(nodes[0]).len(), 0);
}

#[test]
fn a_closed_channel_is_down_on_both_sides_after_what_was_sent_before() {
    let (mut sim, nodes, links) = linked(even());
    send(&mut sim, nodes[1], links[1], 9, 0, Class::Interactive);
    send(&mut sim, nodes[0], links[0], 1, 0, Class::Interactive);
    push(&mut sim, nodes[0], Effect::CloseChannel { link: links[0], why: Why::SelfDial });
    send(&mut sim, nodes[0], links[0], 2, 0, Class::Interactive);
    sim.run_for(millis(1000));
    let [closer, other] = nodes.map(|node| heard(&mut sim, node));
    let detail = Why::SelfDial.to_string();
    let ours = Why::ChannelClosed { by: Side::Us, detail: detail.clone() };
    assert_eq!(downs(&closer), [(1000, ours)]);
    assert_eq!(downs(&other), [(1010, Why::ChannelClosed { by: Side::Them, detail })]);
    assert_eq!(numbers(&other), [1]);
    assert!(numbers(&closer).is_empty(), "what the other side had under way is lost");
    assert_eq!(sim.stats().dropped(Dropped::UnderWay), 1);
    // The name is not used again.
    dial(&mut sim, nodes[0], 5, 1);
    sim.run_for(millis(100));
    assert_eq!(sim.links(nodes[0])[0].link, LinkId(1));
}

#[test]
fn a_new_link_comes_up_only_after_the_old_one_is_down_at_both_ends() {
    // The goodbye waits behind 500 ms of bulk; the new link is there after 30 ms.
    let (mut sim, nodes, links) = linked(Config { bandwidth: Some(1_000_000), ..even() });
    send(&mut sim, nodes[0], links[0], 1, 500_000, Class::Bulk);
    push(&mut sim, nodes[0], Effect::CloseChannel { link: links[0], why: Why::Unheld });
    sim.run_for(millis(1));
    dial(&mut sim, nodes[0], 5, 1);
    sim.run_for(millis(2000));
    let other = heard(&mut sim, nodes[1]);
    assert!(
        matches!(
            &other[..],
            [
                (1031, Input::Down { why: Why::ChannelClosed { by: Side::Them, .. }, .. }),
                (1031, Input::Up { .. })
            ]
        ),
        "{other:?}"
    );
}

#[test]
fn faults_are_counted_and_too_many_close_the_link() {
    let (mut sim, nodes, links) = linked(Config { fault_limit: 3, ..even() });
    for _ in 0..2 {
        push(&mut sim, nodes[0], Effect::Fault { link: links[0], what: "nonsense" });
    }
    sim.run_for(millis(100));
    assert_eq!(sim.links(nodes[0]).len(), 1);
    push(&mut sim, nodes[0], Effect::Fault { link: links[0], what: "nonsense" });
    sim.run_for(millis(100));
    let why = |by| Why::Fault { by, what: "nonsense".to_owned() };
    assert_eq!(downs(&heard(&mut sim, nodes[0])), [(1100, why(Side::Them))]);
    assert_eq!(downs(&heard(&mut sim, nodes[1])), [(1110, why(Side::Us))]);
    assert_eq!(sim.faults(nodes[0])["nonsense"], 3);
    assert_eq!(sim.stats().faults["nonsense"], 3);
}

#[test]
fn what_cannot_be_decoded_is_not_delivered_and_ends_the_link() {
    for codec in [true, false] {
        let (mut sim, nodes, links) = linked(Config { codec, ..even() });
        send(&mut sim, nodes[0], links[0], u64::MAX, 0, Class::Interactive);
        sim.run_for(millis(100));
        let [sender, receiver] = nodes.map(|node| heard(&mut sim, node));
        assert_eq!(numbers(&receiver).len(), usize::from(!codec));
        assert_eq!(sim.stats().dropped(Dropped::Malformed), u64::from(codec));
        let ended = |at, by| codec.then(|| (at, Why::Fault { by, what: "malformed message".to_owned() }));
        assert_eq!(downs(&receiver), Vec::from_iter(ended(1010, Side::Them)));
        assert_eq!(downs(&sender), Vec::from_iter(ended(1020, Side::Us)));
        assert_eq!(sim.stats().faults.get("malformed message").copied(), codec.then_some(1));
    }
}
