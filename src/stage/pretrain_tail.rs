//! `pretrain_tail`: prepares the second generator on the tail, so that boosting does not start stuck.

use serde::{Deserialize, Serialize};

use super::{ArtifactKind, Context, Metrics, Port, StageError, StageKind, train_gan::batch};
use crate::{
    train::config::OptimizerConfig,
    value::{BatchSize, NonNegative, Steps},
};

/// The YAML of a `pretrain_tail` stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainTail {
    /// The dataset whose tail is learnt.
    pub data: String,
    /// The model whose generator gives the architecture (and, for `copy`, the weights).
    pub like: String,
    /// How.
    pub method: Method,
    /// Steps; none for `copy` and `none`.
    #[serde(default)]
    pub steps: Option<Steps>,
    /// Events in a batch.
    #[serde(default = "batch")]
    pub batch: BatchSize,
    /// The optimiser.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The statistic of `moment_matching`.
    #[serde(default)]
    pub moments: Moments,
    /// β of the KL term of `vae`.
    #[serde(default = "beta")]
    pub beta: NonNegative,
}

fn beta() -> NonNegative {
    NonNegative::try_from(1.0).unwrap_or_else(|_| unreachable!())
}

/// How the second generator is pretrained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A β-VAE on the tail; the decoder becomes the generator.
    Vae,
    /// Moments of generated and tail events are brought together.
    MomentMatching,
    /// The base generator itself.
    Copy,
    /// Fresh weights.
    None,
}

/// What `moment_matching` compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moments {
    /// MMD² with a mixture of RBF kernels, unbiased.
    #[default]
    Mmd,
    /// |Δμ|² + ‖ΔΣ‖².
    Crude,
}

impl StageKind for PretrainTail {
    const VERSION: u32 = 1;
    const PRODUCES: ArtifactKind = ArtifactKind::Candidate;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![
            Port::one("data", &self.data, &[ArtifactKind::Dataset]),
            Port::one("like", &self.like, &[ArtifactKind::FrozenModel, ArtifactKind::Model]),
        ]
    }

    fn run(&self, _context: &mut Context<'_>) -> Result<Metrics, StageError> {
        todo!()
    }
}
