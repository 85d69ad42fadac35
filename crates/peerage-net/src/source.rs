//! Who counts as one stranger.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use peerage_wire::Address;

/// What limits by address count: an IPv4 address, or the /64 that an IPv6 address is in, because whoever has one address
/// of it has all 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An address.
    V4([u8; 4]),
    /// The first half of one.
    V6([u8; 8]),
}

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        let prefix = |ip: Ipv6Addr| {
            let [a, b, c, d, e, f, g, h, ..] = ip.octets();
            Self::V6([a, b, c, d, e, f, g, h])
        };
        // A socket that takes both families shows IPv4 as part of IPv6.
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => prefix(ip),
        }
    }
}

impl From<Source> for IpAddr {
    /// The address, or the first one of the prefix.
    fn from(source: Source) -> Self {
        match source {
            Source::V4(ip) => Ipv4Addr::from(ip).into(),
            Source::V6(prefix) => {
                let mut ip = [0; 16];
                ip.iter_mut().zip(prefix).for_each(|(into, byte)| *into = byte);
                Ipv6Addr::from(ip).into()
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = IpAddr::from(*self);
        match self {
            Self::V4(_) => ip.fmt(f),
            Self::V6(_) => write!(f, "{ip}/64"),
        }
    }
}

/// What a cookie is bound to: the source without its port, since the next connection has another; the other end's name
/// where a transport has no IP addresses.
pub(crate) fn cookie_source(source: Option<Source>, remote: impl FnOnce() -> Address) -> Vec<u8> {
    match source {
        Some(Source::V4(ip)) => [&[4], &ip[..]].concat(),
        Some(Source::V6(prefix)) => [&[6], &prefix[..]].concat(),
        None => [&[0], remote().to_string().as_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(ip: &str) -> Source {
        ip.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn an_ipv6_prefix_counts_as_one_and_an_ipv4_address_as_itself() {
        assert_eq!(source("2001:db8:0:7::1"), source("2001:db8:0:7:ffff:1:2:3"));
        assert_ne!(source("2001:db8:0:7::1"), source("2001:db8:0:8::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_eq!(source("2001:db8:0:7::1").to_string(), "2001:db8:0:7::/64");
        assert_eq!(source("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn no_two_sources_have_the_same_bytes_for_a_cookie() {
        let memory = || "mem://a".parse().unwrap();
        let all = [
            Some(source("1.2.3.4")),
            Some(source("1.2.3.5")),
            Some(source("::1")),
            Some(source("1::")),
            None,
        ];
        let bytes: std::collections::BTreeSet<_> =
            all.into_iter().map(|source| cookie_source(source, memory)).collect();
        assert_eq!(bytes.len(), 5);
    }
}
