use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn voted(votes: &[(&str, &str)]) -> Votes {
    let mut counted = Votes::new(3);
    for (voter, seen) in votes {
        counted.vote(ip(voter), ip(seen));
    }
    counted
}

#[test]
fn three_networks_elect_and_two_do_not() {
    let us = "203.0.113.9";
    let two = [("198.51.100.1", us), ("192.0.2.1", us)];
    assert!(voted(&two).elected().is_empty());
    assert_eq!(voted(&two).candidates(), [Observed { ip: ip(us), votes: 2, is_elected: false }]);
    let three = [two[0], two[1], ("8.8.8.8", us)];
    assert_eq!(voted(&three).elected(), [ip(us)]);
}

#[test]
fn a_network_has_one_vote_however_many_speak_from_it() {
    let mut votes = Votes::new(3);
    for last in 0..=255 {
        votes.vote(IpAddr::V4(Ipv4Addr::new(8, 8, last, 1)), ip("203.0.113.9"));
        votes.vote(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, last.into(), 0, 0, 0, 0, 1)), ip("2a00::9"));
    }
    assert_eq!(votes.candidates().iter().map(|found| found.votes).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_network_may_change_its_mind() {
    let (old, new) = ("203.0.113.9", "203.0.113.10");
    let mut votes = voted(&[("8.8.0.1", old), ("9.9.0.1", old), ("1.1.0.1", old), ("2.2.0.1", old)]);
    for (voter, elected) in [("8.8.9.9", vec![ip(old)]), ("9.9.9.9", vec![]), ("1.1.9.9", vec![ip(new)])] {
        votes.vote(ip(voter), ip(new));
        assert_eq!(votes.elected(), elected, "after {voter}");
    }
}

#[test]
fn the_two_families_are_elected_apart() {
    let votes = voted(&[
        ("8.8.0.1", "203.0.113.9"),
        ("9.9.0.1", "203.0.113.9"),
        ("1.1.0.1", "203.0.113.9"),
        ("2a00::1", "2001:db8::9"),
        ("2a01::1", "2001:db8::9"),
        // The same as 1.1.0.1, told in the other family's words.
        ("::ffff:1.1.0.1", "::ffff:203.0.113.9"),
    ]);
    assert_eq!(votes.elected(), [ip("203.0.113.9")]);
    assert_eq!(votes.candidates().len(), 2);
}

#[test]
fn nonsense_is_no_vote() {
    for (voter, seen) in [
        ("8.8.8.8", "0.0.0.0"),
        ("8.8.8.8", "127.0.0.1"),
        ("8.8.8.8", "255.255.255.255"),
        ("8.8.8.8", "224.0.0.1"),
        ("8.8.8.8", "169.254.1.1"),
        ("8.8.8.8", "2001:db8::1"),
        ("2a00::1", "::"),
        ("2a00::1", "::1"),
        ("2a00::1", "fe80::1"),
        ("2a00::1", "ff02::1"),
    ] {
        assert!(voted(&[(voter, seen)]).candidates().is_empty(), "{voter} sees {seen}");
    }
    assert_eq!(voted(&[("127.0.0.1", "127.0.0.1")]).candidates().len(), 1);
}

fn v4(networks: u8) -> impl Strategy<Value = IpAddr> {
    (0..networks, 0_u8..4).prop_map(|(network, host)| IpAddr::V4(Ipv4Addr::new(8, network, 0, host)))
}

fn seen() -> impl Strategy<Value = IpAddr> {
    (0_u8..4).prop_map(|last| IpAddr::V4(Ipv4Addr::new(203, 0, 113, last)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn who_is_elected_has_a_majority_of_distinct_networks_latest_votes(
        cast in prop::collection::vec((v4(40), seen()), 0..120),
        least in 0_usize..6,
    ) {
        let mut votes = Votes::new(least);
        for (voter, seen) in &cast {
            votes.vote(*voter, *seen);
        }
        // The same, counted slowly.
        let mut latest = BTreeMap::new();
        for (voter, seen) in &cast {
            latest.insert(Network::provider(*voter), *seen);
        }
        let most = latest.values().collect::<BTreeSet<_>>().into_iter().find(|seen| {
            let count = latest.values().filter(|other| other == seen).count();
            count >= least.max(1) && 2 * count > latest.len()
        });
        prop_assert_eq!(votes.elected(), most.copied().into_iter().collect::<Vec<_>>());
        let counted: usize = votes.candidates().iter().map(|candidate| candidate.votes).sum();
        prop_assert_eq!(counted, latest.len());
    }

    #[test]
    fn however_many_vote_memory_is_bounded_and_the_latest_count(
        cast in prop::collection::vec((v4(255), seen()), 0..400),
    ) {
        let mut votes = Votes::new(3);
        for (voter, seen) in &cast {
            votes.vote(*voter, *seen);
            prop_assert!(votes.votes.len() <= KEPT);
            prop_assert_eq!(votes.votes.get(&Network::provider(*voter)).map(|vote| vote.seen), Some(*seen));
            prop_assert!(votes.elected().len() <= 1);
        }
    }

    #[test]
    fn two_networks_alone_elect_nothing(
        cast in prop::collection::vec((v4(2), seen()), 0..50),
    ) {
        let mut votes = Votes::new(3);
        for (voter, seen) in cast {
            votes.vote(voter, seen);
            prop_assert!(votes.elected().is_empty());
        }
    }
}
