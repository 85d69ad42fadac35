//! Where others see us: votes of those whom we dialled.
//!
//! A peer behind a translating router does not know its own outward address; those that it dials do. One of them can
//! lie, and one operator can run many, so that voters count by the network that they are in, not by their keys: an
//! IPv4 /16 or an IPv6 /32 is about what one provider gets, and has one vote, its latest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use peerage_wire::Network;

#[cfg(test)]
mod tests;

/// The most networks of each family whose votes are kept; the oldest goes first. Bounds memory to a few kilobytes, and
/// lets a peer that moved forget where it was.
const KEPT: usize = 64;

/// An address at which others see this endpoint, and how many networks say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Where its dials come from.
    pub ip: IpAddr,
    /// How many networks saw it there last.
    pub votes: usize,
    /// Whether they are enough: more than half of the family's votes, and at least
    /// [`Config::observed_votes`](crate::Config::observed_votes).
    pub is_elected: bool,
}

#[derive(Clone, Copy, Debug)]
struct Vote {
    seen: IpAddr,
    /// Later votes have greater numbers.
    number: u64,
}

/// The votes.
#[derive(Clone, Debug)]
pub(crate) struct Votes {
    least: usize,
    votes: BTreeMap<Network, Vote>,
    next: u64,
}

impl Votes {
    /// An election needs so many networks; at least one.
    pub(crate) fn new(least: usize) -> Self {
        Self { least: least.max(1), votes: BTreeMap::new(), next: 0 }
    }

    /// `voter`, whom we dialled, sees us at `seen`. What nobody could be reached at is no vote.
    pub(crate) fn vote(&mut self, voter: IpAddr, seen: IpAddr) {
        let (voter, seen) = (voter.to_canonical(), seen.to_canonical());
        if voter.is_ipv4() != seen.is_ipv4() || !is_plausible(voter, seen) {
            return;
        }
        self.votes.insert(Network::provider(voter), Vote { seen, number: self.next });
        self.next += 1;
        let family = || self.votes.iter().filter(|(_, vote)| vote.seen.is_ipv4() == seen.is_ipv4());
        if family().count() > KEPT
            && let Some((oldest, _)) = family().min_by_key(|(_, vote)| vote.number)
        {
            let oldest = *oldest;
            self.votes.remove(&oldest);
        }
    }

    /// Every address that has votes, those with the most first.
    pub(crate) fn candidates(&self) -> Vec<Observed> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for vote in self.votes.values() {
            *counts.entry(vote.seen).or_default() += 1;
        }
        let family =
            |ip: &IpAddr| self.votes.values().filter(|vote| vote.seen.is_ipv4() == ip.is_ipv4()).count();
        let mut candidates: Vec<_> = counts
            .iter()
            .map(|(ip, votes)| {
                let is_elected = *votes >= self.least && 2 * votes > family(ip);
                Observed { ip: *ip, votes: *votes, is_elected }
            })
            .collect();
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.votes));
        candidates
    }

    /// The addresses that won: at most one of each family.
    pub(crate) fn elected(&self) -> Vec<IpAddr> {
        self.candidates()
            .iter()
            .filter(|candidate| candidate.is_elected)
            .map(|candidate| candidate.ip)
            .collect()
    }
}

fn is_plausible(voter: IpAddr, seen: IpAddr) -> bool {
    let is_somewhere = match seen {
        IpAddr::V4(ip) => {
            !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_link_local()
        }
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_unicast_link_local(),
    };
    // From elsewhere nobody is seen on this very machine.
    is_somewhere && (!seen.is_loopback() || voter.is_loopback())
}
