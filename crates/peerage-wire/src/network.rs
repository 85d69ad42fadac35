//! Which addresses are of one network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Address;

/// The part of an IP address that says whose it is: whoever has many addresses has most of them in few networks, so that
/// limits and votes count networks.
///
/// IPv4 within IPv6 (`::ffff:203.0.113.7`) counts as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// With zeroes after the prefix.
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// What one owner has as a rule, a household or a rented machine with its neighbours: an IPv4 /24, an IPv6 /48.
    pub fn site(ip: IpAddr) -> Self {
        Self::of(ip, 24, 48)
    }

    /// About what one provider gets: an IPv4 /16, an IPv6 /32.
    pub fn provider(ip: IpAddr) -> Self {
        Self::of(ip, 16, 32)
    }

    fn of(ip: IpAddr, v4: u8, v6: u8) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let mask = u32::MAX << (32 - u32::from(v4));
                Self { first: Ipv4Addr::from_bits(ip.to_bits() & mask).into(), bits: v4 }
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX << (128 - u32::from(v6));
                Self { first: Ipv6Addr::from_bits(ip.to_bits() & mask).into(), bits: v6 }
            }
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl Address {
    /// The [`Network::site`] of an address with an IP address and a port; `None` without, and where nobody is far: on this
    /// machine, on this link and in private networks.
    pub fn site(&self) -> Option<Network> {
        let ip = self.rest().parse::<SocketAddr>().ok()?.ip().to_canonical();
        let is_near = match ip {
            IpAddr::V4(v4) => {
                v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()
            }
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified()
            }
        };
        (!is_near).then(|| Network::site(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_what_their_prefixes_say() {
        let site = |text: &str| Network::site(text.parse().unwrap()).to_string();
        let provider = |text: &str| Network::provider(text.parse().unwrap()).to_string();
        assert_eq!(site("203.0.113.7"), "203.0.113.0/24");
        assert_eq!(provider("203.0.113.7"), "203.0.0.0/16");
        assert_eq!(site("::ffff:203.0.113.7"), "203.0.113.0/24");
        assert_eq!(site("2001:db8:1:2::3"), "2001:db8:1::/48");
        assert_eq!(provider("2001:db8:1:2::3"), "2001:db8::/32");
    }

    #[test]
    fn sites_are_of_addresses_that_are_far() {
        let of = |text: &str| text.parse::<Address>().unwrap().site();
        assert_eq!(of("tcp://203.0.113.7:1"), of("tcp://203.0.113.250:9"));
        assert_ne!(of("tcp://203.0.113.7:1"), of("tcp://203.0.112.7:1"));
        assert_eq!(of("tcp://[2001:db8:1:2::3]:1"), of("tcp://[2001:db8:1:9::]:1"));
        assert_ne!(of("tcp://[2001:db8:1::]:1"), of("tcp://[2001:db8:2::]:1"));
        for near in
            ["tcp://127.0.0.1:1", "tcp://10.1.2.3:1", "tcp://[::1]:1", "tcp://[fe80::1]:1", "mem://alice"]
        {
            assert_eq!(of(near), None, "{near}");
        }
    }
}
