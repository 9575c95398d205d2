//! `train_gan`: trains the base generator and its discriminator.

use serde::{Deserialize, Serialize};

use super::{ArtifactKind, Context, Metrics, Port, StageError, StageKind};
use crate::{
    train::config::{DiscriminatorConfig, GeneratorConfig, LossConfig, OptimizerConfig, StrataConfig, ema},
    value::{BatchSize, Fraction, Steps},
};

/// The YAML of a `train_gan` stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainGan {
    /// The dataset.
    pub data: String,
    /// The generator's nets.
    #[serde(default)]
    pub generator: GeneratorConfig,
    /// The discriminator's nets.
    #[serde(default)]
    pub discriminator: DiscriminatorConfig,
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
    /// The generator's and the discriminator's optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Decay of the moving average of the generator's weights, which is what is sampled; 0 turns it off.
    #[serde(default = "ema")]
    pub ema: Fraction,
}

/// 512 events.
pub(super) fn batch() -> BatchSize {
    BatchSize::try_from(512).unwrap_or_else(|_| unreachable!())
}

impl StageKind for TrainGan {
    const VERSION: u32 = 1;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![Port::one("data", &self.data, &[ArtifactKind::Dataset])]
    }

    fn run(&self, _context: &mut Context<'_>) -> Result<Metrics, StageError> {
        todo!()
    }
}
