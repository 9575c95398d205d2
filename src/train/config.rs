//! Training options as they stand in a pipeline, shared by the stages that train.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Fraction, NonNegative, OpenProbability, Positive, Probability, Width};

/// A generator's architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// The family of nets.
    #[serde(default)]
    pub architecture: Architecture,
    /// Widths of the hidden layers, for `mlp`.
    #[serde(default = "hidden")]
    pub layers: Vec<Width>,
    /// Numbers in the latent vector, drawn from N(0, 1).
    #[serde(default = "latent")]
    pub latent: Width,
}

/// A discriminator's architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// The family of nets.
    #[serde(default)]
    pub architecture: Architecture,
    /// Widths of the hidden layers, for `mlp`.
    #[serde(default = "hidden")]
    pub layers: Vec<Width>,
    /// Derived observables that it sees beside the coordinates.
    #[serde(default)]
    pub observables: Vec<String>,
    /// Share of the last hidden layer dropped in training, for PreciseGAN's nets; must be 0 with `wgan_gp`.
    #[serde(default = "zero_fraction")]
    pub dropout: Fraction,
}

/// A family of nets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Fully connected layers with leaky ReLU (slope 0.2), linear output.
    #[default]
    Mlp,
    /// PreciseGAN's fully connected nets.
    PreciseganFc,
    /// PreciseGAN's convolutional nets.
    PreciseganCnn,
}

/// The adversarial loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {
    /// Which loss.
    #[serde(default)]
    pub kind: LossKind,
    /// γ of the zero-centred gradient penalty on reals, γ/2 E|∇D|². Absent: 0.1, and 0 with `wgan_gp`.
    #[serde(default)]
    pub r1: Option<NonNegative>,
    /// γ of the zero-centred gradient penalty on fakes. Absent: 0.1 with `relativistic`, else 0.
    #[serde(default)]
    pub r2: Option<NonNegative>,
    /// λ of the gradient penalty of `wgan_gp`, λ E(|∇D| − 1)². Absent: 10.
    #[serde(default)]
    pub penalty: Option<NonNegative>,
    /// Discriminator steps for each generator step. Absent: 1, and 5 with `wgan_gp`.
    #[serde(default)]
    pub critic_steps: Option<Width>,
}

/// Which adversarial loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Pairs of a real and a fake, with R1 and R2 (0.1 each by default).
    #[default]
    Relativistic,
    /// The non-saturating GAN loss, with R1 (0.1 by default).
    NonSaturating,
    /// Wasserstein critic with gradient penalty (10 by default) and five critic steps.
    WganGp,
}

/// Importance sampling of real examples by strata of the tail observable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StrataConfig {
    /// Edges between strata of the tail observable, ascending, in its unit. Absent: the tail's cut.
    #[serde(default)]
    pub edges: Vec<Positive>,
    /// Share of each batch drawn from each stratum, from below; one more than edges, and they sum to 1.
    pub shares: Vec<OpenProbability>,
    /// How the oversampling is compensated.
    #[serde(default)]
    pub weights: Weights,
    /// The power of `tempered`: 1 is `exact`; towards 0 the tail counts for more.
    #[serde(default = "StrataConfig::half")]
    pub power: Probability,
}

impl StrataConfig {
    /// The power of `tempered` where none is given: ½.
    pub fn half() -> Probability {
        Probability::try_from(0.5).unwrap_or_else(|_| unreachable!("a probability constant"))
    }
}

/// How oversampled strata are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// w = π/ρ: the expected loss is that of plain sampling, with less noise in the tail.
    #[default]
    Exact,
    /// Reals weigh w^power in the place of w = π/ρ, and fakes weigh w^(power − 1): both terms of D's loss are multiplied by
    /// the same s(x), so the optimum stays, and the tail counts for more.
    Tempered,
    /// No weights: multiplies the tail by about ρ/π. Wrong, kept as a baseline.
    None,
}

/// How a generator's latent vectors are drawn, if not from N(0, I).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatentsConfig {
    /// The rule.
    pub method: LatentMethod,
    /// ρ: the share of a batch of fakes that lands in the tail.
    #[serde(default = "half")]
    pub share: OpenProbability,
    /// Latent vectors that are tried for each one that is taken.
    #[serde(default = "pool")]
    pub pool: Width,
}

/// A rule for latent vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LatentMethod {
    /// More of those that lead to the tail, by a pool that is sorted by where the generator sends it, with weights.
    Stratified,
}

/// A part of the data by its tail observable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// Events above the tail's cut.
    Tail,
    /// All others.
    Bulk,
}

/// An optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which rule.
    #[serde(default)]
    pub kind: OptimizerKind,
    /// Learning rate, per step.
    #[serde(default = "rate")]
    pub rate: Positive,
    /// Decay of the first moment (Adam) or momentum (SGD, RMSprop).
    #[serde(default = "zero_fraction")]
    pub beta1: Fraction,
    /// Decay of the second moment (Adam, RMSprop).
    #[serde(default = "beta2")]
    pub beta2: Fraction,
    /// Added to the root of the second moment (Adam, RMSprop).
    #[serde(default = "epsilon")]
    pub epsilon: Positive,
    /// How the rate changes over the steps.
    #[serde(default)]
    pub schedule: Schedule,
    /// Steps over which the rate rises from 0 at the start.
    #[serde(default)]
    pub warmup: u64,
    /// The rate at the end, as a share of the rate (cosine and linear).
    #[serde(default = "final_share")]
    pub final_share: Fraction,
}

/// An optimiser's rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Adam (Kingma & Ba 2015), bias-corrected.
    #[default]
    Adam,
    /// RMSprop, epsilon outside the root.
    Rmsprop,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// How a learning rate changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine, from the rate down to `final_share` of it.
    #[default]
    Cosine,
    /// A straight line down.
    Linear,
    /// No change.
    Constant,
}

impl OptimizerConfig {
    /// Whether a step is the same however many follow it.
    pub fn knows_no_end(&self) -> bool {
        self.schedule == Schedule::Constant
    }
}

fn widths(widths: &[u64]) -> Vec<Width> {
    widths.iter().filter_map(|&width| Width::try_from(width).ok()).collect()
}

fn hidden() -> Vec<Width> {
    widths(&[128, 128, 128, 128])
}

fn latent() -> Width {
    widths(&[16])[0]
}

fn positive(value: f64) -> Positive {
    Positive::try_from(value).unwrap_or_else(|_| unreachable!("a positive constant"))
}

fn fraction(value: f64) -> Fraction {
    Fraction::try_from(value).unwrap_or_else(|_| unreachable!("a fraction constant"))
}

fn half() -> OpenProbability {
    OpenProbability::try_from(0.5).unwrap_or_else(|_| unreachable!("a probability constant"))
}

fn pool() -> Width {
    widths(&[4])[0]
}

fn zero_fraction() -> Fraction {
    fraction(0.0)
}

fn rate() -> Positive {
    positive(3e-4)
}

fn beta2() -> Fraction {
    fraction(0.99)
}

fn epsilon() -> Positive {
    positive(1e-8)
}

fn final_share() -> Fraction {
    fraction(0.02)
}

/// EMA decay of generator weights, 0.999.
pub fn ema() -> Fraction {
    fraction(0.999)
}

macro_rules! default_by_serde {
    ($($config:ident),*) => {$(
        impl Default for $config {
            fn default() -> Self {
                serde_json::from_str("{}").unwrap_or_else(|_| unreachable!("every field has a default"))
            }
        }
    )*};
}

default_by_serde!(GeneratorConfig, DiscriminatorConfig, LossConfig, OptimizerConfig);
