//! Cookies that other endpoints asked for, so that the next dial has one to show.

use std::collections::BTreeMap;
use std::time::Duration;

use peerage_machine::Instant;
use peerage_wire::Address;
use peerage_wire::preface::Cookie;

/// How long a cookie is good for at least.
const LIFE: Duration = Duration::from_secs(120);
/// The most that are kept; the oldest goes first.
const MOST: usize = 256;

/// The last cookie of each address.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    kept: BTreeMap<Address, (Cookie, Instant)>,
}

impl Cookies {
    pub(crate) fn keep(&mut self, of: Address, cookie: Cookie, now: Instant) {
        self.kept.insert(of, (cookie, now));
        if self.kept.len() > MOST {
            self.kept.retain(|_, (_, at)| now.since(*at) < LIFE);
        }
        if self.kept.len() > MOST {
            let oldest = self.kept.iter().min_by_key(|(_, (_, at))| *at).map(|(address, _)| address.clone());
            oldest.map(|address| self.kept.remove(&address));
        }
    }

    /// What to show there, if that end asked for it not long ago.
    pub(crate) fn of(&self, address: &Address, now: Instant) -> Option<Cookie> {
        self.kept.get(address).filter(|(_, at)| now.since(*at) < LIFE).map(|(cookie, _)| *cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: usize) -> Address {
        format!("tcp://192.0.2.1:{port}").parse().unwrap()
    }

    #[test]
    fn a_cookie_is_shown_for_two_minutes_and_the_oldest_go() {
        let mut cookies = Cookies::default();
        let at = |second: u64| Instant::from_micros(second * 1_000_000);
        cookies.keep(address(1), [1; 16], at(0));
        cookies.keep(address(2), [2; 16], at(100));
        assert_eq!(cookies.of(&address(1), at(119)), Some([1; 16]));
        assert_eq!(cookies.of(&address(1), at(120)), None);
        assert_eq!(cookies.of(&address(3), at(100)), None);
        for port in 1_000..2_000 {
            cookies.keep(address(port), [3; 16], at(101));
        }
        assert_eq!(cookies.kept.len(), MOST);
        assert_eq!(cookies.of(&address(1_999), at(101)), Some([3; 16]));
        assert_eq!((cookies.of(&address(1), at(101)), cookies.of(&address(2), at(101))), (None, None));
    }
}
