//! Peers come and go all the time.

use std::time::Duration;

use anyhow::{Result, bail};
use peerage_machine::Instant;
use peerage_overlay::MessageId;
use peerage_sim::{Config, NodeId, exponential};

use super::Outcome;
use super::measure::{curve, delays, times_among, views};
use crate::cli::{Options, Store};
use crate::figures::Figures;
use crate::plot::Curve;
use crate::regressions::Impossible;
use crate::world::{World, verifier};

/// How long a crash takes to be noticed, at most.
const NOTICED: Duration = Duration::from_secs(5);
/// From one look at who comes and goes to the next.
const STEP: Duration = Duration::from_millis(50);
/// From one broadcast to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Broadcasts that are measured.
const BROADCASTS: usize = 30;
/// Whoever is there from a broadcast until so long after it should have it by then.
const WHOLE: Duration = Duration::from_secs(5);

/// So many periods of reconciliation later, whoever has been there since then must have it.
const PERIODS: u32 = 3;

/// When each peer goes, or comes back.
struct Turnover {
    session: Duration,
    store: Store,
    /// By number of the peer: when it is its turn, and since when it runs.
    turns: Vec<Instant>,
    since: Vec<Instant>,
    departures: u64,
}

impl Turnover {
    fn new(world: &mut World, session: Duration, store: Store) -> Self {
        let now = world.sim.now();
        let count = world.nodes.len();
        let turns = (0..count).map(|_| now + exponential(&mut world.rng, session)).collect();
        Self { session, store, turns, since: vec![Instant::START; count], departures: 0 }
    }

    /// Lets time pass, in which peers go, half of them without a word, and come back a tenth of a session later.
    fn pass(&mut self, world: &mut World, span: Duration, doing: &str) -> Result<()> {
        let end = world.sim.now() + span;
        while world.sim.now() < end {
            let now = world.sim.now();
            for number in 0..self.turns.len() {
                let (Some(node), Some(turn)) = (world.nodes.get(number).copied(), self.turns.get_mut(number))
                else {
                    continue;
                };
                if *turn > now {
                    continue;
                }
                if world.sim.is_running(node) {
                    self.departures += 1;
                    *turn = now + exponential(&mut world.rng, self.session / 10);
                    if world.rng.chance(0.5) {
                        world.sim.crash(node);
                    } else {
                        world.leave(node);
                    }
                } else {
                    *turn = now + exponential(&mut world.rng, self.session);
                    if let Some(since) = self.since.get_mut(number) {
                        *since = now;
                    }
                    world.come_back(node, self.store);
                }
            }
            world.pass((now + STEP).min(end).since(now), doing)?;
        }
        Ok(())
    }

    /// Peers that run, and did all the time since then.
    fn present(&self, world: &World, since: Instant) -> Vec<NodeId> {
        let there =
            |(node, at): (NodeId, &Instant)| (world.sim.is_running(node) && *at <= since).then_some(node);
        world.nodes.iter().copied().zip(&self.since).filter_map(there).collect()
    }

    fn goes_at(&self, node: NodeId) -> Instant {
        self.turns.get(node.index()).copied().unwrap_or_default()
    }
}

/// A broadcast that is followed, and who had a neighbour when it was said.
struct Followed {
    id: MessageId,
    at: Instant,
    ready: Vec<bool>,
}

pub(super) fn run(
    options: &Options,
    seed: u64,
    world: impl FnOnce(Config) -> World,
) -> Result<(Outcome, World)> {
    let peers = options.peers(super::Scenario::Churn.peers());
    let config = Config { verifier: verifier(), detection: Duration::ZERO..=NOTICED, ..Config::seeded(seed) };
    let mut world = world(config);
    world.form(peers, Duration::from_secs(10))?;
    let mut turnover = Turnover::new(&mut world, options.session(), options.store());
    let settle = options.settle(Duration::from_secs(60));
    world.stage("peers come and go", settle);
    turnover.pass(&mut world, settle, "peers come and go")?;
    let mut figures = Figures::default();
    views(&world, &mut figures);
    let period = world.mesh().summary_every;
    world.arrives_within = Some(WHOLE + period * PERIODS);
    let (mut followed, mut told) = (Vec::new(), Counts::default());
    let departures = turnover.departures;
    let start = world.sim.now();
    let looks = WHOLE.as_secs() as usize;
    let rounds = BROADCASTS + looks + period.as_secs() as usize;
    world.stage("peers come and go, and speak", EVERY * rounds as u32);
    for number in 0..rounds {
        if number < BROADCASTS {
            followed.push(say(&mut world, &turnover)?);
        }
        turnover.pass(&mut world, EVERY, "speaking")?;
        for it in &followed {
            let age = world.sim.now().since(it.at);
            if age >= WHOLE && age < WHOLE + EVERY {
                told.look(&world, it, &turnover, false);
            } else if age >= WHOLE + period && age < WHOLE + period + EVERY {
                told.look(&world, it, &turnover, true);
            }
        }
    }
    figures.add_at_least("delivered", "share", told.ready.share(), 0.9999);
    figures.add("delivered_of", "", told.ready.should() as f64);
    figures.add_at_least("delivered_later", "share", told.later.share(), 1.0);
    figures.add("delivered_to_unready", "share", told.unready.share());
    let all = told.ready.should();
    let millis = told.ready.millis;
    delays(millis.clone(), &mut figures);
    figures.add(
        "departures_per_s",
        "1/s",
        (turnover.departures - departures) as f64 / world.sim.now().since(start).as_secs_f64(),
    );
    figures.add("present", "", world.running().count() as f64);
    figures.add("component", "share", world.component());
    figures.add("refused", "", world.refused as f64);
    let curve = Curve {
        title: format!("{peers} peers, sessions of {:?} on average, seed {seed}", options.session()),
        x: "time since the broadcast, ms".to_owned(),
        y: "share of peers reached".to_owned(),
        points: curve(millis, all),
    };
    Ok((Outcome { figures, curve }, world))
}

/// Peers that should have a message.
#[derive(Default)]
struct Count {
    /// How long it took to those that have it.
    millis: Vec<f64>,
    lack: usize,
}

impl Count {
    fn should(&self) -> usize {
        self.millis.len() + self.lack
    }

    fn share(&self) -> f64 {
        self.millis.len() as f64 / self.should().max(1) as f64
    }

    fn add(&mut self, (millis, lack): (Vec<f64>, usize)) {
        self.millis.extend(millis);
        self.lack += lack;
    }
}

#[derive(Default)]
struct Counts {
    /// Those that had a neighbour when it was said, and stayed.
    ready: Count,
    /// Those that had just come and had none.
    unready: Count,
    /// Both, one period of reconciliation later.
    later: Count,
}

impl Counts {
    fn look(&mut self, world: &World, it: &Followed, turnover: &Turnover, later: bool) {
        let present = turnover.present(world, it.at);
        if later {
            return self.later.add(times_among(world, it.id, &present));
        }
        let (ready, unready): (Vec<NodeId>, Vec<NodeId>) =
            present.into_iter().partition(|node| it.ready.get(node.index()) == Some(&true));
        self.ready.add(times_among(world, it.id, &ready));
        self.unready.add(times_among(world, it.id, &unready));
    }
}

/// A peer that stays long enough says something.
fn say(world: &mut World, turnover: &Turnover) -> Result<Followed> {
    let now = world.sim.now();
    let ready: Vec<bool> =
        world.nodes.iter().map(|node| world.honest(*node).is_some_and(|mesh| mesh.is_ready())).collect();
    let stays =
        |node: &NodeId| ready.get(node.index()) == Some(&true) && turnover.goes_at(*node) > now + WHOLE;
    let able: Vec<NodeId> = world.nodes.iter().copied().filter(stays).collect();
    let Some(origin) = world.rng.pick(&able).copied() else {
        bail!(Impossible(format!("no peer stays for {WHOLE:?}: sessions are too short")))
    };
    let id = world.say(origin)?;
    Ok(Followed { id, at: now, ready })
}
