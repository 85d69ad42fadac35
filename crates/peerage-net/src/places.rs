//! Places for strangers in their handshake, and who may have how many of them.
//!
//! An address may have no more than a quarter of the places that are free, and a network no more than half; after the
//! dynamic thresholds of Choudhury and Hahne ("Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998),
//! a share that shrinks as others come leaves room for one more, whoever they are. It takes 23 addresses of
//! several networks to hold all of 256 places, and not two.

use std::collections::BTreeMap;

use peerage_wire::Network;

use crate::source::Source;

/// Those who came with a cookie and have a place, by where they came from.
#[derive(Debug, Default)]
pub(crate) struct Places {
    sources: BTreeMap<Source, usize>,
    networks: BTreeMap<Network, usize>,
}

impl Places {
    /// One more from there, when so many places are free; false when its address, which may have `most`, or its network
    /// has enough. Whoever has none gets the last one.
    pub(crate) fn take(&mut self, source: Source, free: usize, most: usize) -> bool {
        let network = Network::site(source.into());
        let of_source = self.sources.get(&source).copied().unwrap_or_default();
        let of_network = self.networks.get(&network).copied().unwrap_or_default();
        if of_source >= free.div_ceil(4).min(most) || of_network >= free.div_ceil(2) {
            return false;
        }
        *self.sources.entry(source).or_default() += 1;
        *self.networks.entry(network).or_default() += 1;
        true
    }

    /// One less.
    pub(crate) fn leave(&mut self, source: Source) {
        take_one(&mut self.sources, source);
        take_one(&mut self.networks, Network::site(source.into()));
    }
}

fn take_one<K: Ord>(counts: &mut BTreeMap<K, usize>, of: K) {
    if let Some(count) = counts.get_mut(&of) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    const ALL: usize = 256;

    fn source(ip: &str) -> Source {
        ip.parse::<IpAddr>().unwrap().into()
    }

    /// Takes places in turns until nobody gets one more; how many each has.
    fn fill(places: &mut Places, taken: &mut usize, greedy: &[Source]) -> Vec<usize> {
        let mut each = vec![0; greedy.len()];
        loop {
            let before = *taken;
            for (source, count) in greedy.iter().zip(&mut each) {
                if places.take(*source, ALL - *taken, 128) {
                    *taken += 1;
                    *count += 1;
                }
            }
            if *taken == before {
                return each;
            }
        }
    }

    #[test]
    fn two_greedy_addresses_leave_room_for_an_honest_third() {
        for greedy in [["192.0.2.1", "198.51.100.1"], ["2001:db8:0:1::1", "2001:db8:1:1::1"]] {
            let (mut places, mut taken) = (Places::default(), 0);
            let each = fill(&mut places, &mut taken, &greedy.map(source));
            assert_eq!(each, [43, 43]);
            let third = fill(&mut places, &mut taken, &[source("203.0.113.7")]);
            assert!(third[0] >= 32, "{third:?}");
        }
    }

    #[test]
    fn a_network_of_greedy_addresses_leaves_room_for_others() {
        for greedy in [
            (1..=255).map(|at| source(&format!("192.0.2.{at}"))).collect::<Vec<_>>(),
            (1..=255).map(|at| source(&format!("2001:db8:0:{at:x}::1"))).collect(),
        ] {
            let (mut places, mut taken) = (Places::default(), 0);
            let all: usize = fill(&mut places, &mut taken, &greedy).iter().sum();
            assert!((80..=86).contains(&all), "{all}");
            assert!(places.take(source("203.0.113.7"), ALL - taken, 128));
        }
    }

    #[test]
    fn whoever_has_none_gets_the_last_place() {
        let mut places = Places::default();
        assert!(places.take(source("192.0.2.1"), 1, 128));
        assert!(!places.take(source("192.0.2.1"), 1, 128));
        assert!(places.take(source("203.0.113.7"), 1, 128));
        assert!(!places.take(source("198.51.100.1"), 0, 128));
        assert!(!places.take(source("198.51.100.1"), 100, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Twenty addresses never have all, in whatever order they come and go, and nothing is left of those who went.
        #[test]
        fn few_addresses_never_have_all(turns in prop::collection::vec((0..20_u8, 1..60_usize, any::<bool>()), 1..100)) {
            let (mut places, mut taken) = (Places::default(), Vec::new());
            for (at, count, leaves) in turns {
                let source = Source::V4([10, at, 0, 1]);
                for _ in 0..count {
                    if leaves {
                        let Some(had) = taken.iter().position(|had| *had == source) else { break };
                        taken.swap_remove(had);
                        places.leave(source);
                    } else if places.take(source, ALL - taken.len(), 128) {
                        taken.push(source);
                    }
                }
                prop_assert!(taken.len() < ALL);
            }
            taken.drain(..).for_each(|source| places.leave(source));
            prop_assert!(places.sources.is_empty() && places.networks.is_empty());
        }
    }
}
