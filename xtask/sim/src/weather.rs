//! What the network is like, whatever the scenario: distances, what goes wrong with links, who can be dialled, clocks.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use peerage_sim::{Config, Region, Route};

use crate::span::{Given, rate, share, span, spans};

/// More are on no map.
const MOST_REGIONS: u8 = 64;
/// From one region to the next on the ring, and how much of that differs by pair.
const STEP: Duration = Duration::from_millis(40);
const SPREAD: Duration = Duration::from_millis(20);
const FAR_JITTER: Duration = Duration::from_millis(5);

/// Arguments of every scenario that say what the world is like.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The world, of any scenario")]
pub(crate) struct Weather {
    /// One-way latency; each pair of peers has its own from here [default: 5ms..50ms].
    #[arg(long, value_name = "LEAST..MOST", value_parser = Given::by(spans))]
    latency: Option<Given<RangeInclusive<Duration>>>,
    /// The most that a message is later than its pair's latency [default: 2ms].
    #[arg(long, value_name = "SPAN", value_parser = Given::by(span))]
    jitter: Option<Given<Duration>>,
    /// Bytes a second of each link and direction, such as 500k or 10M [default: no limit].
    #[arg(long, value_name = "RATE", value_parser = Given::by(rate))]
    bandwidth: Option<Given<u64>>,
    /// Parts of the world, among which peers are dealt out in turn: how many, on a ring, each 40 to 60 ms from the next; or
    /// what is between which, as A-B=LEAST..MOST+JITTER@RATE,… with the last two as wanted.
    #[arg(long, value_name = "N|MAP", value_parser = Given::by(regions))]
    regions: Option<Given<Map>>,
    /// How likely each direction of each link stalls in each second, for 0.2 to 2 s [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = Given::by(share))]
    stalls: Option<Given<f64>>,
    /// How likely each link is reset in each second [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = Given::by(share))]
    resets: Option<Given<f64>>,
    /// How likely each link becomes half open in each second: one end has lost it, the other one sends into the void until
    /// it notices [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = Given::by(share))]
    half_open: Option<Given<f64>>,
    /// Share of peers that can dial and not be dialled, as behind a NAT [default: 0].
    #[arg(long, value_name = "SHARE", value_parser = Given::by(share))]
    nat: Option<Given<f64>>,
    /// How far wall clocks are off, at most, either way [default: 50ms].
    #[arg(long, value_name = "SPAN", value_parser = Given::by(span))]
    skew: Option<Given<Duration>>,
    /// How much too fast or slow wall clocks run, at most, in microseconds a second [default: 0].
    #[arg(long, value_name = "MICROS", value_parser = clap::value_parser!(u32).range(..=100_000))]
    drift: Option<u32>,
}

impl Weather {
    /// The scenario's world with this weather.
    pub(crate) fn over(&self, config: Config) -> Config {
        fn or<T: Clone>(given: &Option<Given<T>>, otherwise: T) -> T {
            given.as_ref().map_or(otherwise, |given| given.value.clone())
        }
        Config {
            latency: or(&self.latency, config.latency),
            jitter: or(&self.jitter, config.jitter),
            bandwidth: self.bandwidth.as_ref().map_or(config.bandwidth, |rate| Some(rate.value)),
            routes: self.regions.as_ref().map_or(config.routes, |map| map.value.routes.clone()),
            stalls_per_second: or(&self.stalls, config.stalls_per_second),
            link_loss_per_second: or(&self.resets, config.link_loss_per_second),
            half_open_per_second: or(&self.half_open, config.half_open_per_second),
            wall_skew: or(&self.skew, config.wall_skew),
            wall_drift: self.drift.unwrap_or(config.wall_drift),
            ..config
        }
    }

    /// Where the peer of this number is.
    pub(crate) fn region(&self, number: usize) -> Region {
        let count = self.regions.as_ref().map_or(1, |map| usize::from(map.value.count.max(1)));
        Region((number % count) as u8)
    }

    /// The share of peers that cannot be dialled.
    pub(crate) fn nat(&self) -> f64 {
        self.nat.as_ref().map_or(0.0, |share| share.value)
    }

    /// The arguments, as they were given.
    pub(crate) fn given(&self) -> Vec<(&'static str, String)> {
        fn words<T>(given: &Option<Given<T>>) -> Option<String> {
            given.as_ref().map(ToString::to_string)
        }
        let all = [
            ("--latency", words(&self.latency)),
            ("--jitter", words(&self.jitter)),
            ("--bandwidth", words(&self.bandwidth)),
            ("--regions", words(&self.regions)),
            ("--stalls", words(&self.stalls)),
            ("--resets", words(&self.resets)),
            ("--half-open", words(&self.half_open)),
            ("--nat", words(&self.nat)),
            ("--skew", words(&self.skew)),
            ("--drift", self.drift.map(|drift| drift.to_string())),
        ];
        all.into_iter().filter_map(|(flag, words)| words.map(|words| (flag, words))).collect()
    }
}

/// Regions, and the ways between those for which they are unlike the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    count: u8,
    routes: BTreeMap<(Region, Region), Route>,
}

fn regions(text: &str) -> Result<Map, String> {
    if text.contains('=') { map(text) } else { ring(text) }
}

fn ring(text: &str) -> Result<Map, String> {
    let count = text.parse().ok().filter(|count| (1..=MOST_REGIONS).contains(count));
    let count = count.ok_or_else(|| {
        format!("`{text}` are no regions; it takes 1 to {MOST_REGIONS}, or what is between which: 0-1=80ms..120ms,…")
    })?;
    let mut routes = BTreeMap::new();
    for a in 0..count {
        for b in a + 1..count {
            let steps = u32::from((b - a).min(count - (b - a)));
            let latency = STEP * steps..=STEP * steps + SPREAD;
            routes.insert((Region(a), Region(b)), Route { latency, jitter: FAR_JITTER, bandwidth: None });
        }
    }
    Ok(Map { count, routes })
}

fn map(text: &str) -> Result<Map, String> {
    let mut routes = BTreeMap::new();
    let mut count = 0;
    for way in text.split(',') {
        let wrong = |what: &str| {
            format!(
                "`{way}` is no way between regions: {what}; it takes A-B=LEAST..MOST+JITTER@RATE, such as 0-1=80ms..120ms+5ms@10M"
            )
        };
        let (ends, like) = way.split_once('=').ok_or_else(|| wrong("there is no ="))?;
        let number = |text: &str| text.trim().parse().ok().filter(|number: &u8| *number < MOST_REGIONS);
        let (a, b) = ends.split_once('-').and_then(|(a, b)| number(a).zip(number(b))).ok_or_else(|| {
            wrong(&format!("`{ends}` are no two regions, which have numbers from 0 to {}", MOST_REGIONS - 1))
        })?;
        let (like, bandwidth) = match like.split_once('@') {
            Some((like, text)) => (like, Some(rate(text).map_err(|error| wrong(&error))?)),
            None => (like, None),
        };
        let (latency, jitter) = match like.split_once('+') {
            Some((latency, text)) => (latency, span(text).map_err(|error| wrong(&error))?),
            None => (like, Duration::ZERO),
        };
        let latency = spans(latency.trim()).map_err(|error| wrong(&error))?;
        let ends = (Region(a.min(b)), Region(a.max(b)));
        if routes.insert(ends, Route { latency, jitter, bandwidth }).is_some() {
            return Err(wrong("it is there twice"));
        }
        count = count.max(a.max(b) + 1);
    }
    Ok(Map { count, routes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(from: u64, to: u64) -> RangeInclusive<Duration> {
        Duration::from_millis(from)..=Duration::from_millis(to)
    }

    #[test]
    fn a_ring_of_regions_is_as_far_one_way_as_the_other() {
        let map = regions("4").unwrap();
        assert_eq!((map.count, map.routes.len()), (4, 6));
        let between = |a, b| map.routes[&(Region(a), Region(b))].latency.clone();
        assert_eq!(
            (between(0, 1), between(0, 3), between(0, 2)),
            (millis(40, 60), millis(40, 60), millis(80, 100))
        );
        assert_eq!(regions("1").unwrap().routes.len(), 0);
    }

    #[test]
    fn a_map_says_what_is_between_which() {
        let map = regions("0-1=80ms..120ms+5ms@10M,2-1=30ms").unwrap();
        assert_eq!(map.count, 3);
        let jitter = Duration::from_millis(5);
        let far = Route { latency: millis(80, 120), jitter, bandwidth: Some(10_000_000) };
        let near = Route { latency: millis(30, 30), jitter: Duration::ZERO, bandwidth: None };
        let expected = BTreeMap::from([((Region(0), Region(1)), far), ((Region(1), Region(2)), near)]);
        assert_eq!(map.routes, expected);
    }

    #[test]
    fn a_map_that_makes_no_sense_is_refused_with_the_part_that_does_not() {
        for (text, what) in [
            ("0", "no regions"),
            ("65", "no regions"),
            ("0-1=fast", "`fast`"),
            ("0-1=5ms,1-0=6ms", "twice"),
            ("0-64=5ms", "no two regions"),
            ("01=5ms", "no two regions"),
            ("0-1=5ms@slow", "`slow`"),
            ("0-1=5ms,", "there is no ="),
        ] {
            let error = regions(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
