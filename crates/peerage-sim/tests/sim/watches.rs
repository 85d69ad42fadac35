//! Who looks on finds what must never be: each invariant beside a machine that breaks it.

use std::cell::RefCell;
use std::rc::Rc;

use peerage_machine::{Class, DialId, Input, Instant, LinkId, Machine, Now, OutboxOf, Target};
use peerage_sim::{
    Config, NodeId, Role, Sent, Sim, Watch, address, bounded, holds, once, peer, readable, within_credit,
};

use crate::puppet::*;

/// Hears words, and is broken in one way.
#[derive(Default)]
struct Ear {
    heard: Vec<u64>,
    /// Tells everything twice.
    stutters: bool,
    /// Forgets nothing.
    hoards: bool,
}

impl Machine for Ear {
    type Message = Word;
    type Event = u64;
    type Answer = ();

    fn on_input(&mut self, _: Now, input: Input<Word>, out: &mut OutboxOf<Self>) {
        if let Input::Message { message, .. } = input {
            self.heard.push(message.number);
            if !self.hoards {
                self.heard.truncate(10);
            }
            for _ in 0..1 + u32::from(self.stutters) {
                out.emit(message.number);
            }
        }
    }

    fn on_timer(&mut self, _: Now, _: &mut OutboxOf<Self>) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

fn pair(broken: fn() -> Ear) -> (Sim<Ear>, [NodeId; 2], LinkId) {
    pair_in(even(), broken)
}

fn pair_in(config: Config, broken: fn() -> Ear) -> (Sim<Ear>, [NodeId; 2], LinkId) {
    let mut sim = Sim::new(config);
    let speaker = sim.add(peer(0), [address(0)], stage(), |_| Ear::default());
    let listener = sim.add(peer(1), [address(1)], stage(), move |_| broken());
    sim.command(speaker, |_, _, out| out.dial(DialId(0), Target::Address(address(1))));
    sim.run_for(millis(100));
    let link = sim.links(speaker)[0].link;
    (sim, [speaker, listener], link)
}

fn talk<M: Machine<Message = Word>>(sim: &mut Sim<M>, speaker: NodeId, link: LinkId, words: u64) {
    for number in 0..words {
        sim.command(speaker, |_, _, out| out.send(link, Word { number, ballast: 0 }));
        sim.run_for(millis(20));
    }
}

#[test]
fn a_machine_that_tells_twice_is_caught_at_once_and_nothing_happens_after_that() {
    let (mut sim, [speaker, listener], link) = pair(|| Ear { stutters: true, ..Ear::default() });
    sim.watch(once(|number: &u64| Some(*number)));
    let events = sim.stats().events;
    talk(&mut sim, speaker, link, 3);
    let violation = sim.violation().expect("it was caught");
    assert_eq!((violation.node, violation.at), (listener, at(110)));
    assert!(violation.to_string().contains("told the application twice"), "{violation}");
    // The commands, the one message, and its credit, which comes with it.
    assert_eq!(sim.stats().events, events + 3 + 2);
    assert!(!sim.step(at(1_000_000)));
}

#[test]
fn a_machine_that_tells_again_after_a_restart_is_none_that_tells_twice() {
    let (mut sim, [speaker, listener], link) = pair(Ear::default);
    sim.watch(once(|number: &u64| Some(*number)));
    talk(&mut sim, speaker, link, 3);
    assert_eq!(sim.take_events(listener).len(), 3, "who looks on takes nothing away");
    sim.restart(listener);
    sim.run_for(millis(5000));
    sim.command(speaker, |_, _, out| out.dial(DialId(1), Target::Address(address(1))));
    sim.run_for(millis(100));
    let link = sim.links(speaker)[0].link;
    talk(&mut sim, speaker, link, 3);
    assert_eq!(sim.take_events(listener).len(), 3);
    assert_eq!(sim.violation(), None);
}

#[test]
fn a_machine_that_holds_more_than_it_promised_is_caught() {
    for (broken, caught) in
        [((|| Ear { hoards: true, ..Ear::default() }) as fn() -> Ear, true), (Ear::default, false)]
    {
        let (mut sim, [speaker, listener], link) = pair(broken);
        sim.watch(bounded(20 * 8, 1, |ear: &Ear| ear.heard.len() as u64 * 8));
        talk(&mut sim, speaker, link, 40);
        let found = sim.violation().map(|violation| (violation.node, violation.what.clone()));
        let expected = "a machine holds 168 bytes, at most 160 were promised".to_owned();
        assert_eq!(found, caught.then_some((listener, expected)));
    }
}

#[test]
fn a_machine_of_which_something_does_not_hold_is_caught_after_the_call_that_broke_it() {
    let (mut sim, [speaker, listener], link) = pair(|| Ear { hoards: true, ..Ear::default() });
    sim.watch(holds(|ear: &Ear| {
        if ear.heard.len() > 10 { Err(format!("{} words are remembered", ear.heard.len())) } else { Ok(()) }
    }));
    talk(&mut sim, speaker, link, 40);
    let found = sim.violation().map(|violation| (violation.at, violation.node, violation.what.as_str()));
    assert_eq!(found, Some((at(110 + 20 * 10), listener, "11 words are remembered")));
}

#[test]
fn a_machine_that_sends_to_a_peer_that_takes_nothing_is_caught_where_its_queue_is_full() {
    for whose in [0, 1] {
        let (mut sim, [speaker, listener], link) = pair(Ear::default);
        sim.watch(within_credit(move |node: NodeId| node.index() == whose));
        assert!(sim.stall(speaker, listener, millis(60_000)));
        for number in 0..2 {
            let word = Word { number, ballast: 700 << 10 };
            sim.command(speaker, |_, _, out| out.send(link, word));
        }
        let found = sim.violation().map(|violation| violation.what.clone());
        let expected = "n0 sends more to n1, in whose queue are 716808 of 1048576 bytes".to_owned();
        assert_eq!(found, (whose == 0).then_some(expected));
    }
}

#[test]
fn a_machine_that_sends_what_its_receiver_cannot_read_is_caught_unless_it_is_byzantine() {
    for (codec, whose) in [(true, 0), (true, 1), (false, 0)] {
        let (mut sim, [speaker, listener], link) = pair_in(Config { codec, ..even() }, Ear::default);
        sim.watch(readable(move |node: NodeId| node.index() == whose));
        talk(&mut sim, speaker, link, 1);
        assert_eq!(sim.violation(), None);
        sim.command(speaker, |_, _, out| out.send(link, Word { number: u64::MAX, ballast: 0 }));
        sim.run_for(millis(100));
        let found = sim.violation().map(|violation| (violation.node, violation.what.clone()));
        let expected = "n0 sent to n1 a malformed word: its number is too large".to_owned();
        assert_eq!(found, (codec && whose == 0).then_some((speaker, expected)));
        assert_eq!(sim.take_events(listener).len(), if codec { 1 } else { 2 });
    }
}

#[test]
fn who_looks_on_sees_what_is_sent_and_who_is_gone() {
    #[derive(Default)]
    struct Seen(Rc<RefCell<Vec<String>>>);
    impl Watch<Ear> for Seen {
        fn sent(&mut self, _: Instant, sent: Sent<'_, Word>) {
            let how = sent.refused.map_or("taken".to_owned(), ToString::to_string);
            self.0.borrow_mut().push(format!("{} to {}: {}, {how}", sent.from, sent.to, sent.message.number));
        }
        fn drained(&mut self, at: Instant, from: NodeId, to: NodeId, bytes: u64) {
            self.0.borrow_mut().push(format!("{bytes} bytes from {from} to {to} at {at:?}"));
        }
        fn stopped(&mut self, _: Instant, node: NodeId) {
            self.0.borrow_mut().push(format!("{node} is gone"));
        }
    }
    let (mut sim, [speaker, listener], link) = pair(Ear::default);
    let seen = Rc::new(RefCell::new(Vec::new()));
    sim.watch(Seen(Rc::clone(&seen)));
    talk(&mut sim, speaker, link, 1);
    sim.crash(listener);
    sim.crash(listener);
    sim.run_for(millis(5000));
    talk(&mut sim, speaker, link, 1);
    sim.stop(speaker);
    assert_eq!(
        *seen.borrow(),
        ["n0 to n1: 0, taken", "8 bytes from n0 to n1 at 0.110000s", "n1 is gone", "n0 is gone"]
    );
}

#[test]
fn who_takes_events_leaves_none_to_be_taken() {
    struct Taker(Rc<RefCell<Vec<(Instant, NodeId, u64)>>>);
    impl Watch<Ear> for Taker {
        fn emitted(&mut self, at: Instant, node: NodeId, event: u64) -> Option<u64> {
            self.0.borrow_mut().push((at, node, event));
            None
        }
    }
    let (mut sim, [speaker, listener], link) = pair(Ear::default);
    let taken = Rc::new(RefCell::new(Vec::new()));
    sim.watch(Taker(Rc::clone(&taken)));
    talk(&mut sim, speaker, link, 2);
    assert_eq!(*taken.borrow(), [(at(110), listener, 0), (at(130), listener, 1)]);
    assert!(sim.take_events(listener).is_empty());
}

#[test]
fn a_byzantine_machine_runs_beside_honest_ones() {
    let mut sim: Sim<Role<Ear>> = Sim::new(Config { codec: true, ..even() });
    let speaker = sim.add(peer(0), [address(0)], stage(), |_| Role::Honest(Ear::default()));
    let impostor = sim.add(peer(1), [address(1)], stage(), |_| {
        Role::Byzantine(Box::new(Ear { stutters: true, ..Ear::default() }))
    });
    sim.watch(once(|number: &u64| Some(*number)));
    sim.command(speaker, |_, _, out| out.dial(DialId(0), Target::Address(address(1))));
    sim.run_for(millis(100));
    assert!(sim.machine(speaker).unwrap().honest().is_some());
    assert!(sim.machine(impostor).unwrap().honest().is_none());
    let link = sim.links(speaker)[0].link;
    talk(&mut sim, speaker, link, 1);
    assert_eq!(sim.violation().map(|violation| violation.node), Some(impostor));
}

#[test]
fn messages_are_counted_by_kind() {
    let (mut sim, [speaker, _], link) = pair(Ear::default);
    sim.count_kinds(|word| if word.number % 2 == 0 { "even" } else { "odd" });
    talk(&mut sim, speaker, link, 3);
    sim.command(speaker, |_, _, out| {
        out.push(peerage_machine::Effect::Send {
            to: vec![link],
            message: Word { number: 5, ballast: 90 },
            class: Class::Control,
            id: None,
        });
    });
    let stats = sim.stats();
    let sent: Vec<_> = stats.sent_of_kind.iter().map(|(kind, it)| (*kind, it.messages, it.bytes)).collect();
    assert_eq!(sent, [("even", 2, 16), ("odd", 2, 8 + 98)]);
    let arrived: Vec<_> = stats.delivered_of_kind.iter().map(|(kind, it)| (*kind, it.messages)).collect();
    assert_eq!(arrived, [("even", 2), ("odd", 1)]);
}
