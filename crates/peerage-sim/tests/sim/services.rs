//! Timers, signatures, counters, and what a scenario can ask.

use bytes::Bytes;
use peerage_machine::{CallId, Effect, Input, Instant, JobId, Now};
use peerage_sim::{Config, Verifier, peer};

use crate::puppet::*;

#[test]
fn timers_fire_at_their_deadline_to_the_microsecond() {
    let (mut sim, nodes) = world(even(), 1);
    sim.command(nodes[0], |puppet, now, _| {
        puppet.deadline = Some(now.mono + millis(700));
        puppet.on_timer = |puppet, now, out| {
            out.answer(CallId(1), now.mono.as_micros());
            puppet.deadline = (now.mono < at(2000)).then(|| now.mono + millis(700));
        };
    });
    sim.run_for(millis(60_000));
    let answers: Vec<_> =
        sim.take_answers(nodes[0]).into_iter().map(|(at, _, answer)| (at, answer)).collect();
    assert_eq!(answers, [(at(700), 700_000), (at(1400), 1_400_000), (at(2100), 2_100_000)]);
    assert_eq!(sim.stats().timers, 3);
}

#[test]
fn a_deadline_that_moves_is_met_where_it_is_last() {
    for (moves, last) in [([500, 900, 800], 800), ([900, 500, 300], 300), ([300, 900, 500], 500)] {
        let (mut sim, nodes) = world(even(), 1);
        for when in moves {
            sim.command(nodes[0], |puppet, _, _| puppet.deadline = Some(at(when)));
        }
        sim.command(nodes[0], |puppet, _, _| {
            puppet.on_timer = |puppet, now, out| {
                puppet.deadline = None;
                out.answer(CallId(1), now.mono.as_micros());
            };
        });
        sim.run_for(millis(2000));
        assert_eq!(sim.take_answers(nodes[0]), [(at(last), CallId(1), last * 1000)]);
    }
}

#[test]
fn timers_of_a_restarted_node_run_on_its_own_clock() {
    let (mut sim, nodes) = world(even(), 1);
    sim.run_for(millis(5000));
    sim.restart(nodes[0]);
    sim.command(nodes[0], |puppet, now, _| {
        assert_eq!(now.mono, Instant::START);
        puppet.deadline = Some(at(100));
        puppet.on_timer = |puppet, now, out| {
            puppet.deadline = None;
            out.answer(CallId(1), now.mono.as_micros());
        };
    });
    sim.run_for(millis(1000));
    assert_eq!(sim.take_answers(nodes[0]), [(at(5100), CallId(1), 100_000)]);
}

#[test]
#[should_panic(expected = "n0 breaks rule 2 of the machine contract")]
fn a_machine_that_leaves_its_deadline_in_the_past_is_named() {
    let (mut sim, nodes) = world(even(), 1);
    sim.command(nodes[0], |puppet, _, _| {
        puppet.deadline = Some(at(100));
        puppet.on_timer = |_, _, _| ();
    });
    sim.run_for(millis(1000));
}

#[test]
#[should_panic(expected = "seed 1")]
fn a_machine_that_crawls_is_named_with_the_seed() {
    let (mut sim, nodes) = world(even(), 1);
    sim.run_for(millis(1000));
    sim.command(nodes[0], |puppet, _, _| {
        puppet.deadline = Some(Instant::START);
        puppet.on_timer = |puppet, _, _| puppet.deadline = puppet.deadline.map(Instant::next);
    });
    sim.run_for(millis(1000));
}

fn verify(job: u64, signature: [u8; 64]) -> Effect<Word, Input<Word>, u64> {
    Effect::Verify {
        job: JobId(job),
        signer: peer(1),
        domain: "test",
        message: Bytes::from_static(b"m"),
        signature,
    }
}

#[test]
fn signatures_are_good_or_as_the_verifier_says() {
    let verifier = Verifier::by(|signer, domain, message, signature| {
        (signer, domain, message) == (&peer(1), "test", b"m") && signature[0] == 1
    });
    for (verifier, expected) in [(Verifier::AlwaysValid, [true, true]), (verifier, [true, false])] {
        let (mut sim, nodes) = world(Config { verifier, verify_delay: millis(3), ..even() }, 1);
        push(&mut sim, nodes[0], verify(0, [1; 64]));
        push(&mut sim, nodes[0], verify(1, [2; 64]));
        sim.run_for(millis(10));
        let verdicts = heard(&mut sim, nodes[0]).into_iter().map(|(at, input)| match input {
            Input::Verified { job, valid } => (at, job.0, valid),
            other => panic!("{other:?}"),
        });
        assert_eq!(verdicts.collect::<Vec<_>>(), [(3, 0, expected[0]), (3, 1, expected[1])]);
    }
}

#[test]
fn what_machines_count_and_observe_is_summed_over_nodes() {
    let (mut sim, nodes) = world(even(), 2);
    for (node, by) in [(nodes[0], 2), (nodes[1], 3)] {
        push(&mut sim, node, Effect::Count { name: "things", by });
        push(&mut sim, node, Effect::Observe { name: "spans", value: millis(by) });
    }
    let stats = sim.stats();
    assert_eq!((stats.counter("things"), sim.counter(nodes[1], "things")), (5, 3));
    let spans = stats.observed["spans"];
    assert_eq!((spans.count, spans.min, spans.max, spans.sum), (2, millis(2), millis(3), millis(5)));
    assert_eq!(spans.mean(), millis(5) / 2);
}

#[test]
fn wall_clocks_disagree_within_the_bound_and_can_be_set() {
    let (mut sim, nodes) = world(Config { wall_skew: millis(100), ..even() }, 50);
    let mut wall = |node| sim.command(node, |_, now: Now, _| now.wall.0);
    let readings: Vec<_> = nodes.iter().map(|node| wall(*node)).collect();
    let (least, most) = (readings.iter().min().unwrap(), readings.iter().max().unwrap());
    assert!(most - least > 100 && most - least <= 200, "{least} {most}");
    sim.set_wall_skew(nodes[0], -5000);
    let set = sim.command(nodes[0], |_, now, _| now.wall.0);
    sim.set_wall_skew(nodes[0], 1000);
    assert_eq!(sim.command(nodes[0], |_, now, _| now.wall.0) - set, 6000);
}

#[test]
fn quiet_is_when_only_timers_are_left() {
    let (mut sim, nodes) = world(even(), 2);
    sim.command(nodes[0], |puppet, _, _| puppet.deadline = Some(at(100_000)));
    dial(&mut sim, nodes[0], 1, 1);
    assert!(sim.run_until_quiet(millis(10_000)));
    assert_eq!(sim.now(), at(30));
    assert!(!sim.run_while(millis(5), |_| true));
    assert_eq!(sim.now(), at(35));
    assert!(sim.run_while(millis(200_000), |sim| sim.now() < at(50_000)));
    assert_eq!(sim.now(), at(100_000), "the first event after");
}

#[test]
fn a_script_acts_at_its_time() {
    let (mut sim, nodes) = world(even(), 2);
    let [a, b] = [nodes[0], nodes[1]];
    dial(&mut sim, a, 1, 1);
    sim.at_time(at(400), move |sim| assert!(sim.sever(a, b)));
    sim.run_for(millis(1000));
    assert_eq!(downs(&heard(&mut sim, b))[0].0, 400);
}

#[test]
#[should_panic(expected = "n0 does not run")]
fn a_crashed_node_takes_no_commands() {
    let (mut sim, nodes) = world(even(), 1);
    sim.crash(nodes[0]);
    assert_eq!(sim.try_command(nodes[0], |_, _, _| ()), None);
    sim.command(nodes[0], |_, _, _| ());
}
