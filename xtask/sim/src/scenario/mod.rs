//! What can happen to a network.

mod broadcast;
mod crash;
mod measure;

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
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Broadcast => "everyone hears what a few say: redundancy, hops, times, control bytes",
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
        }
    }

    /// Peers when nobody says how many.
    pub(crate) const fn peers(self) -> usize {
        match self {
            Self::Broadcast | Self::Crash => 1000,
        }
    }

    /// The mesh that it runs.
    pub(crate) fn mesh(self) -> MeshConfig {
        MeshConfig::named("sim")
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
        }
    }
}
