//! `boost`: trains the second generator as a component of a mixture with the frozen base.

use serde::{Deserialize, Serialize};

use super::{ArtifactKind, Context, Metrics, Port, StageError, StageKind, train_gan::batch};
use crate::{
    train::config::{LossConfig, OptimizerConfig, StrataConfig, ema},
    value::{BatchSize, Fraction, OpenProbability, Steps},
};

/// The YAML of a `boost` stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boost {
    /// The frozen model G.
    pub base: String,
    /// The second generator G1.
    pub candidate: String,
    /// The dataset.
    pub data: String,
    /// The mixture weight q of G1.
    #[serde(default)]
    pub mixture: MixtureConfig,
    /// κ: the share of the fakes drawn from G1.
    #[serde(default = "half")]
    pub share: OpenProbability,
    /// The adversarial loss.
    #[serde(default)]
    pub loss: LossConfig,
    /// Importance sampling of reals.
    #[serde(default)]
    pub strata: Option<StrataConfig>,
    /// Generator steps.
    pub steps: Steps,
    /// Events in a batch.
    #[serde(default = "batch")]
    pub batch: BatchSize,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Decay of the moving average of G1's weights.
    #[serde(default = "ema")]
    pub ema: Fraction,
}

fn half() -> OpenProbability {
    OpenProbability::try_from(0.5).unwrap_or_else(|_| unreachable!())
}

/// How q is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureConfig {
    /// The rule.
    #[serde(default)]
    pub learn: Learn,
    /// The first q. Absent: from the tail masses, q₀ = (τ_r − τ_G)/(τ_G1 − τ_G).
    #[serde(default)]
    pub initial: Option<OpenProbability>,
    /// q never falls below this.
    #[serde(default = "floor")]
    pub floor: Fraction,
    /// Steps between updates of q.
    #[serde(default = "every")]
    pub every: Steps,
    /// Share of the steps during which q stays at its first value.
    #[serde(default = "warmup")]
    pub warmup: Fraction,
}

fn floor() -> Fraction {
    Fraction::try_from(0.001).unwrap_or_else(|_| unreachable!())
}

fn every() -> Steps {
    Steps::try_from(100).unwrap_or_else(|_| unreachable!())
}

fn warmup() -> Fraction {
    Fraction::try_from(0.2).unwrap_or_else(|_| unreachable!())
}

impl Default for MixtureConfig {
    fn default() -> Self {
        Self { learn: Learn::Em, initial: None, floor: floor(), every: every(), warmup: warmup() }
    }
}

/// The rule for q.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learn {
    /// Expectation-maximisation on real data, with a classifier between the components.
    #[default]
    Em,
    /// Gradient of the generator's loss; known to collapse when G1 does.
    Adversarial,
    /// Stays at the first value.
    Fixed,
}

impl StageKind for Boost {
    const VERSION: u32 = 1;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![
            Port::one("base", &self.base, &[ArtifactKind::FrozenModel]),
            Port::one("candidate", &self.candidate, &[ArtifactKind::Candidate]),
            Port::one("data", &self.data, &[ArtifactKind::Dataset]),
        ]
    }

    fn run(&self, _context: &mut Context<'_>) -> Result<Metrics, StageError> {
        todo!()
    }
}
