//! How many events a second the simulator hosts: a thousand nodes in a ring with chords, each passing balls on.
//!
//! `cargo run --release -p peerage-sim --example throughput -- [nodes] [simulated seconds]`

use std::time::{Duration, Instant as Watch};

use bytes::{Bytes, BytesMut};
use peerage_machine::{
    DialId, Input, Instant, LinkId, Machine, Malformed, Message, Now, OutboxOf, Rng, Target,
};
use peerage_sim::{Config, Instance, Sim, address, peer};

#[derive(Clone, Debug)]
struct Ball;

impl Message for Ball {
    fn encoded_len(&self) -> usize {
        64
    }

    fn encode(&self, into: &mut BytesMut) {
        into.resize(into.len() + 64, 0);
    }

    fn decode(_: Bytes) -> Result<Self, Malformed> {
        Ok(Self)
    }
}

/// Throws a ball when it is bored, and passes on what it gets.
struct Player {
    links: Vec<LinkId>,
    rng: Rng,
    bored: Instant,
}

impl Machine for Player {
    type Message = Ball;
    type Event = ();
    type Answer = ();

    fn on_input(&mut self, _: Now, input: Input<Ball>, out: &mut OutboxOf<Self>) {
        match input {
            Input::Up { link, .. } => self.links.push(link),
            Input::Message { .. } => {
                if let Some(link) = self.rng.pick(&self.links) {
                    out.send(*link, Ball);
                }
            }
            _ => (),
        }
    }

    fn on_timer(&mut self, now: Now, out: &mut OutboxOf<Self>) {
        if now.mono >= self.bored {
            self.bored = now.mono + Duration::from_secs(1);
            if let Some(link) = self.rng.pick(&self.links) {
                out.send(*link, Ball);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.bored)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map_while(|argument| argument.parse::<u32>().ok());
    let (nodes, seconds) = (arguments.next().unwrap_or(1000), arguments.next().unwrap_or(20));
    let mut sim = Sim::new(Config::default());
    for n in 0..nodes {
        sim.add(peer(n), [address(n)], Instance::new("ball", "yard"), |start| Player {
            links: Vec::new(),
            rng: start.seed.rng(),
            bored: start.now.mono + Duration::from_secs(1),
        });
    }
    for (n, node) in sim.nodes().enumerate() {
        for reach in [1, 7, 31] {
            let to = (n as u32 + reach) % nodes;
            sim.command(node, |_, _, out| out.dial(DialId(u64::from(reach)), Target::Address(address(to))));
        }
    }
    let watch = Watch::now();
    sim.run_for(Duration::from_secs(u64::from(seconds)));
    let took = watch.elapsed();
    let stats = sim.stats();
    let rate = stats.events as f64 / took.as_secs_f64() / 1e6;
    println!("{nodes} nodes, {seconds} s: {} events in {took:.2?}, {rate:.2} M/s", stats.events);
    println!("{} messages delivered, {} timers", stats.delivered.total().messages, stats.timers);
}
