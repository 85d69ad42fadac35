//! What can happen to a network.

mod broadcast;
mod churn;
mod crash;
mod measure;
mod partition;
mod sybil;

use anyhow::Result;
use clap::ValueEnum;
use peerage_overlay::MeshConfig;

use crate::cli::Options;
use crate::figures::Figures;
use crate::plot::Curve;
use crate::world::World;

/// The scenarios that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    Broadcast,
    Crash,
    Churn,
    Partition,
    Sybil,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    pub(crate) curve: Curve,
}

impl Scenario {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Crash => "crash",
            Self::Churn => "churn",
            Self::Partition => "partition",
            Self::Sybil => "sybil",
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Broadcast => "everyone hears what a few say: redundancy, hops, times, control bytes",
            Self::Churn => "peers come and go: whether those that stay hear everything",
            Self::Partition => {
                "the network falls into three parts and heals: whether everyone has the whole window"
            }
            Self::Sybil => "attackers outnumber the honest: what is lost, and how late the rest is",
            Self::Crash => {
                "a share of all peers crashes at once: components, and the first broadcast after it"
            }
        }
    }

    /// Arguments that only some scenarios take.
    pub(crate) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Broadcast => &["--origins", "--warm", "--broadcasts"],
            Self::Crash => &["--fraction", "--cycle"],
            Self::Churn => &["--session", "--store"],
            Self::Partition => &["--lasting", "--one-way"],
            Self::Sybil => &["--ratio", "--attack"],
        }
    }

    /// Peers when nobody says how many.
    pub(crate) const fn peers(self) -> usize {
        match self {
            Self::Broadcast | Self::Crash | Self::Churn => 1000,
            Self::Partition => 256,
            Self::Sybil => 100,
        }
    }

    /// Peers at the least: so many that each has somebody to talk to.
    pub(crate) const fn least_peers(self) -> usize {
        match self {
            Self::Partition => 2 * partition::PARTS,
            Self::Broadcast | Self::Crash | Self::Churn | Self::Sybil => 2,
        }
    }

    /// The mesh that it runs.
    pub(crate) fn mesh(self, options: &Options) -> MeshConfig {
        let mut mesh = MeshConfig::named("sim");
        if self == Self::Partition {
            mesh.retain_for = partition::retain_for(options.lasting());
        }
        mesh
    }

    /// Runs it once.
    pub(crate) fn run(
        self,
        options: &Options,
        seed: u64,
        world: impl FnOnce(peerage_sim::Config) -> World,
    ) -> Result<(Outcome, World)> {
        match self {
            Self::Broadcast => broadcast::run(options, seed, world),
            Self::Crash => crash::run(options, seed, world),
            Self::Churn => churn::run(options, seed, world),
            Self::Partition => partition::run(options, seed, world),
            Self::Sybil => sybil::run(options, seed, world),
        }
    }
}
