//! Who finds whom, in virtual time. Each failure names its seed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first thing that is not as it should be")]

mod common;

use common::{MS, SECOND, World};
use peerage_sim::Config;

#[test]
fn fifty_peers_that_join_at_once_end_up_connected_for_every_seed() {
    for seed in 0..100 {
        let mut world = World::new(Config::seeded(seed));
        for _ in 0..50 {
            world.add();
        }
        for node in 1..50 {
            world.join(world.nodes[node], world.nodes[0]);
        }
        let formed = world.sim.run_while(SECOND * 3, |sim| {
            !sim.nodes().all(|node| sim.machine(node).is_some_and(|mesh| mesh.is_ready()))
        });
        assert!(formed, "seed {seed}: somebody is alone after 3 s");
        world.sim.run_for(SECOND * 3);
        assert_eq!(world.component(), 50, "seed {seed}");
        assert_eq!(world.asymmetries(), 0, "seed {seed}");
        for node in world.running() {
            let neighbours = world.neighbours(node).len();
            assert!((3..=7).contains(&neighbours), "seed {seed}: {node} has {neighbours} neighbours");
        }
    }
}

#[test]
fn hundreds() {
    let mut world = World::formed(Config::seeded(1), 200);
    assert!(world.is_connected());
    let _ = MS;
    world.collect();
}
