//! The weight of a new component in a mixture: how it is asked for, its first and its last value, and whether the mixture is
//! taken at all. Shared by `boost`, which trains the component first, and `mix`, which takes it as it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;
use crate::value::{Fraction, OpenProbability, Positive, Steps};

pub(super) mod trial;

/// The least floor: q is never 0, where its logit ends.
const LEAST: f64 = 1e-6;

/// How q is found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureConfig {
    /// The rule for q.
    #[serde(default)]
    pub learn: Learn,
    /// The first q. Absent: from the tail masses, q₀ = (τ_r − τ_G)/(τ_G1 − τ_G).
    #[serde(default)]
    pub initial: Option<OpenProbability>,
    /// q never falls below this.
    #[serde(default = "floor")]
    pub floor: Fraction,
    /// The largest q that `line_search` tries.
    #[serde(default = "max")]
    pub max: OpenProbability,
    /// Training steps between updates of q.
    #[serde(default = "every")]
    pub every: Steps,
    /// Share of the training steps, from the start, during which q stays at its first value.
    #[serde(default = "warmup")]
    pub warmup: Fraction,
    /// The rate of `adversarial`, per step, on logit q.
    #[serde(default = "rate")]
    pub rate: Positive,
    /// The trust region: an update changes logit q by no more than this.
    #[serde(default = "trust")]
    pub trust: Positive,
}

fn positive(value: f64) -> Positive {
    Positive::try_from(value).unwrap_or_else(|_| unreachable!("a positive constant"))
}

fn rate() -> Positive {
    positive(0.05)
}

fn trust() -> Positive {
    positive(0.5)
}

fn floor() -> Fraction {
    Fraction::try_from(0.001).unwrap_or_else(|_| unreachable!("a fraction constant"))
}

fn max() -> OpenProbability {
    OpenProbability::try_from(0.5).unwrap_or_else(|_| unreachable!("a probability constant"))
}

fn every() -> Steps {
    Steps::try_from(100).unwrap_or_else(|_| unreachable!("a number of steps"))
}

fn warmup() -> Fraction {
    Fraction::try_from(0.2).unwrap_or_else(|_| unreachable!("a fraction constant"))
}

impl Default for MixtureConfig {
    fn default() -> Self {
        serde_json::from_str("{}").unwrap_or_else(|_| unreachable!("every field has a default"))
    }
}

/// A rule for q.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Learn {
    /// The weight that gives the mixture the tail mass of the training events, at every update and at the end.
    #[default]
    Moments,
    /// Expectation-maximisation on real data, with a classifier between the components; falls to the floor where that
    /// classifier tells them apart too well.
    Em,
    /// Gradient of the generator's loss; known to collapse when G1 does.
    Adversarial,
    /// Stays at the first value.
    Fixed,
    /// By moments in training; at the end the weight that brings the log-tail W₁ of validation events lowest.
    LineSearch,
    /// By moments in training; at the end the weights of all components by EM, with a classifier among all of them.
    FullyCorrective,
}

/// When the mixture takes the base's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// If its log-tail W₁ on validation events is below the base's.
    #[default]
    Validation,
    /// If, moreover, the 90 % bootstrap interval of the gain lies above 0.
    Significant,
    /// Always.
    Always,
}

impl MixtureConfig {
    /// What is wrong with the numbers as they stand.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.initial.is_some_and(|initial| initial.get() < self.floor.get()) {
            problems.push(Problem::new("mixture.initial", "the first weight lies below `floor`"));
        }
        if self.max.get() <= self.floor.get() {
            problems.push(Problem::new("mixture.max", "the largest weight does not lie above `floor`"));
        }
        problems
    }

    /// The field that needs a dataset with a tail, if one does.
    pub(super) fn needs_tail(&self) -> Option<&'static str> {
        (self.initial.is_none() || matches!(self.learn, Learn::Moments | Learn::LineSearch)).then_some("mixture")
    }

    /// The floor, above 0.
    pub(super) fn floor(&self) -> f64 {
        self.floor.get().max(LEAST)
    }

    /// q within the floor.
    fn within(&self, q: f64) -> f64 {
        q.clamp(self.floor(), 1.0 - self.floor())
    }
}
