//! What all tests of links need: setups, two links joined back to back, and a stranger driven by hand.

mod pair;
mod stranger;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use peerage_identity::Identity;
use peerage_link::{Capacity, LinkConfig, LinkEvent, Memory, Setup};
use peerage_machine::{Class, Direction, Incarnation, Refusal, Why};
use peerage_wire::hello::{Hello, Instance};
use peerage_wire::{PeerId, Suite};

pub(crate) use pair::{End, Pair};
pub(crate) use stranger::{Got, Stranger, hello_of};

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32])
}

pub(crate) fn peer(seed: u8) -> PeerId {
    identity(seed).peer_id()
}

/// Windows that stay as they are, for all tests but those of their growth.
fn fixed_windows() -> LinkConfig {
    let mut config = LinkConfig::default();
    (config.window, config.max_window) = (256 << 10, 256 << 10);
    config
}

/// What an endpoint has by default.
pub(crate) fn memory() -> Memory {
    Memory::new(64 << 20, 128 << 20)
}

pub(crate) fn instance(name: &str) -> Instance {
    Instance { protocol: "test".to_owned(), name: name.to_owned(), version: 1, parameters: Bytes::new() }
}

/// The endpoint of this seed, with instances of these names.
pub(crate) fn setup(direction: Direction, seed: u8, names: &[&str]) -> Setup {
    Setup {
        direction,
        identity: Arc::new(identity(seed)),
        incarnation: Incarnation([seed; 16]),
        software: format!("test {seed}"),
        addresses: Vec::new(),
        observed: Some(format!("tcp://192.0.2.1:{seed}").parse().unwrap()),
        instances: names.iter().map(|name| instance(name)).collect(),
        expected: None,
        suites: vec![Suite::ChaChaPoly],
        cookie: None,
        entropy: [seed.wrapping_add(100); 32],
        config: Arc::new(fixed_windows()),
        memory: memory(),
        capacity: Capacity::default(),
    }
}

pub(crate) fn dialer(names: &[&str]) -> Setup {
    setup(Direction::Outbound, 1, names)
}

pub(crate) fn listener(names: &[&str]) -> Setup {
    setup(Direction::Inbound, 2, names)
}

/// The same, with these suites.
pub(crate) fn of_suites(setup: Setup, suites: &[Suite]) -> Setup {
    Setup { suites: suites.to_vec(), ..setup }
}

pub(crate) fn with(mut setup: Setup, change: impl FnOnce(&mut LinkConfig)) -> Setup {
    let mut config = LinkConfig::clone(&setup.config);
    change(&mut config);
    config.max_window = config.window;
    setup.config = Arc::new(config);
    setup
}

pub(crate) const CLASSES: [Class; 3] = [Class::Interactive, Class::Control, Class::Bulk];

/// A message that differs from all others: its number, then bytes that depend on their place and on it.
pub(crate) fn body(number: u32, length: usize) -> Bytes {
    let mut body = BytesMut::with_capacity(length + 4);
    body.put_u32(number);
    body.extend((4..length.max(4)).map(|place| (place as u32).wrapping_mul(31).wrapping_add(number) as u8));
    body.truncate(length);
    body.freeze()
}

/// What a side heard, in order.
#[derive(Debug, Default)]
pub(crate) struct Heard(pub(crate) Vec<LinkEvent>);

impl Heard {
    pub(crate) fn messages(&self) -> Vec<(u32, Bytes)> {
        let all = self.0.iter();
        all.filter_map(|event| match event {
            LinkEvent::Message { channel, message } => Some((*channel, message.clone())),
            _ => None,
        })
        .collect()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.0.iter().any(|event| matches!(event, LinkEvent::Up { .. }))
    }

    pub(crate) fn hello(&self) -> Option<&Hello> {
        self.0.iter().find_map(|event| match event {
            LinkEvent::Greeted(hello) => Some(&**hello),
            _ => None,
        })
    }

    /// The reason of the end; there is never more than one, and nothing after it.
    pub(crate) fn closed(&self) -> Option<&Why> {
        let place = self.0.iter().position(|event| matches!(event, LinkEvent::Closed(_)))?;
        assert_eq!(place + 1, self.0.len(), "what follows the end: {:?}", &self.0[place..]);
        match &self.0[place] {
            LinkEvent::Closed(why) => Some(why),
            _ => None,
        }
    }

    /// What became of channels, in order.
    pub(crate) fn channels(&self) -> Vec<Channel> {
        let all = self.0.iter();
        all.filter_map(|event| match event {
            LinkEvent::ChannelUp { channel } => Some(Channel::Up(*channel)),
            LinkEvent::ChannelRefused { channel, refusal } => {
                Some(Channel::Refused(*channel, refusal.clone()))
            }
            LinkEvent::ChannelDown { channel, why } => Some(Channel::Down(*channel, why.clone())),
            _ => None,
        })
        .collect()
    }

    /// The sum of all room of a channel and class.
    pub(crate) fn room(&self, of: u32, in_class: Class) -> u64 {
        let all = self.0.iter();
        all.map(|event| match event {
            LinkEvent::Room { channel, class, bytes } if *channel == of && *class == in_class => *bytes,
            _ => 0,
        })
        .sum()
    }

    pub(crate) fn rtts(&self) -> usize {
        self.0.iter().filter(|event| matches!(event, LinkEvent::Rtt(_))).count()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Channel {
    Up(u32),
    Refused(u32, Refusal),
    Down(u32, Why),
}
