//! A filter that the system runs on a listening socket: who is kept out gets no answer to its first packet.
//!
//! Classic BPF (McCanne and Jacobson, "The BSD Packet Filter", 1993), as Linux attaches it with `SO_ATTACH_FILTER`. It sees
//! each segment from its TCP header on, and the IP header at an offset of its own.

use crate::source::Source;

/// One instruction: what to do, how far to jump when a comparison holds and when not, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Op {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) k: u32,
}

const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const SHIFT_RIGHT: u16 = 0x74;
const IS: u16 = 0x15;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
/// To and from the program's own memory.
const STORE: u16 = 0x02;
const RECALL: u16 = 0x60;

/// `SKF_NET_OFF`: offsets from here are into the IP header.
const NET: u32 = 0xfff0_0000;
const TCP_FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;
/// The source address in a header of IPv4, and the two words of its prefix in one of IPv6.
const V4_SOURCE: u32 = NET + 12;
const V6_SOURCE: [u32; 2] = [NET + 8, NET + 12];

const fn op(code: u16, k: u32) -> Op {
    Op { code, yes: 0, no: 0, k }
}

/// Goes on when it is `k`, and else passes over the next few.
const fn is(k: u32, or_skip: u8) -> Op {
    Op { code: IS, yes: 0, no: or_skip, k }
}

/// Passes over the next when it is `k`.
const fn is_or_passes(k: u32) -> Op {
    Op { code: IS, yes: 1, no: 0, k }
}

const DROP: Op = op(RETURN, 0);
const PASS: Op = op(RETURN, u32::MAX);

/// Drops the segments that begin a connection from one of these, and no others: what is connected stays so, and a socket
/// that inherits the program is none the worse for it.
///
/// It reads each word of a packet once: the system makes ten instructions of its own of each that reads the IP header,
/// and has 20 KiB for them and for those of the program before (`optmem_max`; six times as much since Linux 6.7).
pub(super) fn program(sources: &[Source]) -> Vec<Op> {
    let [first, second] = V6_SOURCE.map(|offset| op(LOAD_WORD, offset));
    let mut v4 = vec![op(LOAD_WORD, V4_SOURCE)];
    let mut v6 = vec![first, op(STORE, 0), second, op(STORE, 1)];
    for source in sources {
        match source {
            Source::V4(ip) => v4.extend([is(u32::from_be_bytes(*ip), 1), DROP]),
            Source::V6([a, b, c, d, e, f, g, h]) => {
                let [high, low] = [[*a, *b, *c, *d], [*e, *f, *g, *h]].map(u32::from_be_bytes);
                v6.extend([op(RECALL, 0), is(high, 3), op(RECALL, 1), is(low, 1), DROP]);
            }
        }
    }
    v4.push(PASS);
    v6.push(PASS);
    let over_v4 = u32::try_from(v4.len()).unwrap_or(u32::MAX);
    let head = [
        op(LOAD_BYTE, TCP_FLAGS),
        op(AND, SYN | ACK),
        is_or_passes(SYN),
        PASS,
        op(LOAD_BYTE, NET),
        op(SHIFT_RIGHT, 4),
        is(6, 1),
        // Over the rest of the head as well.
        op(JUMP, 2 + over_v4),
        is_or_passes(4),
        PASS,
    ];
    [&head[..], &v4, &v6].concat()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    /// What the system's interpreter does with these instructions.
    fn runs(program: &[Op], ip: &[u8], tcp: &[u8]) -> u32 {
        let (mut at, mut held, mut kept) = (0, 0_u32, [None; 2]);
        loop {
            let Op { code, yes, no, k } = program[at];
            let (from, offset) = if k >= NET { (ip, k - NET) } else { (tcp, k) };
            let offset = offset as usize;
            at += 1;
            match code {
                LOAD_BYTE => held = u32::from(from[offset]),
                LOAD_WORD => held = u32::from_be_bytes(from[offset..offset + 4].try_into().unwrap()),
                STORE => kept[k as usize] = Some(held),
                RECALL => held = kept[k as usize].unwrap(),
                AND => held &= k,
                SHIFT_RIGHT => held >>= k,
                IS => at += usize::from(if held == k { yes } else { no }),
                JUMP => at += offset,
                RETURN => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn passes(sources: &[&str], from: &str, flags: u8) -> bool {
        let sources: Vec<Source> = sources.iter().map(|ip| ip.parse::<IpAddr>().unwrap().into()).collect();
        let mut tcp = [0; 20];
        tcp[13] = flags;
        let ip = match from.parse::<IpAddr>().unwrap() {
            IpAddr::V4(ip) => {
                let mut header = vec![0; 20];
                header[0] = 0x45;
                header[12..16].copy_from_slice(&ip.octets());
                header
            }
            IpAddr::V6(ip) => {
                let mut header = vec![0; 40];
                // Traffic class and flow label may be anything.
                header[..4].copy_from_slice(&[0x6f, 0xff, 0xff, 0xff]);
                header[8..24].copy_from_slice(&ip.octets());
                header
            }
        };
        match runs(&program(&sources), &ip, &tcp) {
            0 => false,
            u32::MAX => true,
            other => panic!("{other}"),
        }
    }

    const ALL: [&str; 4] = ["192.0.2.1", "2001:db8:0:7::", "198.51.100.9", "2001:db8:0:8::"];

    #[test]
    fn those_who_are_kept_out_begin_no_connection_and_others_do() {
        for from in ["192.0.2.1", "198.51.100.9", "2001:db8:0:7::1", "2001:db8:0:8:ffff::"] {
            assert!(!passes(&ALL, from, 0x02), "{from}");
            // With ECN asked for, as the first segment does.
            assert!(!passes(&ALL, from, 0xc2), "{from}");
            assert!(passes(&[], from, 0x02), "{from}");
        }
        for from in ["192.0.2.2", "1.2.0.192", "2001:db8:0:9::1", "2001:db8:1:7::1", "::1"] {
            assert!(passes(&ALL, from, 0x02), "{from}");
        }
    }

    #[test]
    fn what_belongs_to_a_connection_passes() {
        for flags in [0x10, 0x12, 0x18, 0x11, 0x04, 0x14, 0x00] {
            for from in ["192.0.2.1", "2001:db8:0:7::1"] {
                assert!(passes(&ALL, from, flags), "{flags:#x}");
            }
        }
    }

    #[test]
    fn as_many_as_are_ever_kept_out_fit_into_what_the_system_takes() {
        let v6: Vec<_> = (0..64_u8).map(|at| Source::V6([0x20, 1, 0, 0, 0, 0, 0, at])).collect();
        let v4: Vec<_> = (0..64_u8).map(|at| Source::V4([192, 0, 2, at])).collect();
        for program in [program(&v6), program(&v4), program(&[v6, v4].concat())] {
            assert!(program.len() <= 4_096 / 8);
            let reads = program.iter().filter(|op| matches!(op.code, LOAD_BYTE | LOAD_WORD));
            assert_eq!(
                reads.count(),
                5,
                "each is ten of the system's own, and there is room for two programs"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn whoever_is_in_the_list_is_dropped_and_nobody_else(
            listed in prop::collection::btree_set(any::<(bool, u8)>(), 0..65),
            from in any::<(bool, u8)>(),
        ) {
            let name = |(v6, at): (bool, u8)| match v6 {
                true => format!("2001:db8:0:{at:x}::7"),
                false => format!("192.0.2.{at}"),
            };
            let names: Vec<_> = listed.iter().copied().map(name).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            prop_assert_eq!(passes(&names, &name(from), 0x02), !listed.contains(&from));
        }
    }
}
