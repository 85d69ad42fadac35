//! What each side is told of the other's limits, and that no numbers in them do harm.

use std::time::Duration;

use peerage_link::{Capacity, LinkConfig, Setup};
use peerage_machine::Class;
use peerage_wire::hello::Limits;
use proptest::prelude::*;

use crate::common::{Pair, Stranger, body, dialer, hello_of, identity, instance, listener};
use peerage_wire::proto::link::v1 as proto;
use peerage_wire::proto::link::v1::control::Kind;

#[test]
fn both_sides_hear_all_of_the_others_limits() {
    let capacity = |links| Capacity { links, links_per_address: 3, handshakes: 2 };
    let setup = |setup: Setup, links| Setup {
        capacity: capacity(links),
        config: std::sync::Arc::new(LinkConfig::default()),
        ..setup
    };
    let pair = Pair::up(setup(dialer(&["x"]), 5), setup(listener(&["x"]), u32::MAX));
    let limits = |max_links| Limits {
        max_message: 16 << 20,
        window: 64 << 10,
        max_channels: 64,
        max_messages_per_second: 20_000_000,
        max_controls_per_second: 10_000,
        max_links,
        max_links_per_address: 3,
        max_handshakes: 2,
        handshake_timeout_ms: 5_000,
    };
    assert_eq!(pair.a.heard.hello().unwrap().limits, limits(u32::MAX));
    assert_eq!(pair.b.heard.hello().unwrap().limits, limits(5));
}

fn extreme<T: std::fmt::Debug + Clone + 'static>(any: BoxedStrategy<T>, ends: Vec<T>) -> BoxedStrategy<T> {
    prop_oneof![1 => any, 3 => proptest::sample::select(ends)].boxed()
}

fn limits() -> impl Strategy<Value = Limits> {
    let long = || extreme(any::<u64>().boxed(), vec![0, 1, 2, 16_384, 32_768, u64::MAX - 1, u64::MAX]);
    let short = || extreme(any::<u32>().boxed(), vec![0, 1, 2, u32::MAX]);
    ((long(), long(), short(), long(), short()), (short(), short(), short(), short())).prop_map(
        |(of_link, of_endpoint)| Limits {
            max_message: of_link.0,
            window: of_link.1,
            max_channels: of_link.2,
            max_messages_per_second: of_link.3,
            max_controls_per_second: of_link.4,
            max_links: of_endpoint.0,
            max_links_per_address: of_endpoint.1,
            max_handshakes: of_endpoint.2,
            handshake_timeout_ms: of_endpoint.3,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_limits_a_peer_tells_the_link_keeps_to_them_and_lives(
        limits in limits(),
        lengths in proptest::collection::vec(0_usize..60_000, 1..20),
    ) {
        let mut hello = hello_of(&identity(9), vec![instance("x")]);
        hello.limits = limits;
        let mut stranger = Stranger::greet(listener(&["x"]), &hello);
        stranger.control(Kind::Accept(proto::Accept::default()));
        prop_assert!(stranger.end.heard.is_up());
        let began = stranger.now;
        let mut sent = 0_u64;
        for (number, length) in (0..).zip(lengths) {
            let class = [Class::Interactive, Class::Bulk, Class::Control][number as usize % 3];
            let taken = stranger.end.link.send(0, class, body(number, length));
            prop_assert!(length as u64 <= limits.max_message || taken.is_err());
            stranger.now = stranger.now + Duration::from_millis(300);
            stranger.end.on_timer(stranger.now);
            stranger.control(Kind::Ping(proto::Ping { nonce: u64::from(number) }));
            stranger.read();
            sent = stranger.end.link.stats().messages_sent;
            let span = stranger.now.since(began).as_micros();
            let rate = u128::from(limits.max_messages_per_second);
            prop_assert!(rate == 0 || u128::from(sent) <= rate + rate.saturating_mul(span) / 1_000_000 + 1);
        }
        prop_assert_eq!(stranger.end.heard.closed(), None);
        prop_assert!(sent <= 20);
    }
}
