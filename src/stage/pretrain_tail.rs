//! `pretrain_tail`: prepares the second generator on the tail, so that boosting does not start stuck.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream,
    train_gan::batch,
    training::{self, Material},
};
use crate::{
    data::Scratch,
    model::{Component, Derived, Model, Rows, StoredModel, Weights, freeze::freeze},
    train::{
        Pretraining,
        config::{LossConfig, OptimizerConfig, ema},
        moments::{self, Statistic},
        reals::{Reals, Strata},
        vae,
    },
    value::{BatchSize, Fraction, NonNegative, OpenProbability, Steps},
};

mod reweighted;

/// Events that the candidate's tail mass is measured on.
const MASS_EVENTS: usize = 20_000;

/// Prepares a second generator on the tail, so that boosting does not start stuck.
///
/// ```yaml
/// tail:
///   kind: pretrain_tail
///   data: events
///   like: frozen
///   method: moment_matching
///   steps: 2000
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PretrainTail {
    /// The dataset whose tail is learnt.
    pub data: String,
    /// The model whose generator gives the architecture (and, for `copy`, the weights).
    pub like: String,
    /// How the second generator is prepared.
    pub method: Method,
    /// The weights that `vae` and `moment_matching` start from.
    #[serde(default)]
    pub start: Start,
    /// Training steps; needed by all methods but `copy` and `none`, which take none.
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
    /// β, the weight of the KL term of `vae`.
    #[serde(default = "beta")]
    pub beta: NonNegative,
    /// The mixture weight that the candidate is meant for: β of `adagan`, q of `residual`; needed by these two.
    #[serde(default)]
    pub weight: Option<OpenProbability>,
    /// Training steps of the classifier of `adagan` and `residual`.
    #[serde(default = "classifier_steps")]
    pub classifier_steps: Steps,
    /// The adversarial loss of `adagan` and `residual`.
    #[serde(default)]
    pub loss: LossConfig,
    /// Decay of the moving average of the generator's weights, for `adagan` and `residual`.
    #[serde(default = "ema")]
    pub ema: Fraction,
}

fn classifier_steps() -> Steps {
    Steps::try_from(2000).unwrap_or_else(|_| unreachable!())
}

fn beta() -> NonNegative {
    NonNegative::try_from(1.0).unwrap_or_else(|_| unreachable!())
}

/// How the second generator is pretrained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// A GAN on data with the weights (λ* − (1 − β) h)_+, h the model's density over the data's as a classifier finds it.
    Adagan,
    /// A GAN on what the model lacks, data with the weights (1 − (1 − q) h)_+.
    Residual,
}

impl Method {
    fn trains_on_reweighted_data(self) -> bool {
        matches!(self, Self::Adagan | Self::Residual)
    }
}

/// The weights that pretraining starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Those of the base, whose events are already those of the data but for the tail.
    #[default]
    Copy,
    /// Fresh ones.
    Fresh,
}

/// What `moment_matching` compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Moments {
    /// MMD² with a mixture of RBF kernels, unbiased.
    #[default]
    Mmd,
    /// |Δμ|² + ‖ΔΣ‖².
    Crude,
}

impl StageKind for PretrainTail {
    const VERSION: u32 = 4;
    const PRODUCES: ArtifactKind = ArtifactKind::Candidate;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![
            Port::one("data", &self.data, &[ArtifactKind::Dataset]),
            Port::one("like", &self.like, &[ArtifactKind::FrozenModel, ArtifactKind::Model]),
        ]
    }

    fn goes_on(&self) -> bool {
        matches!(self.method, Method::Vae | Method::MomentMatching) && self.optimizer.knows_no_end()
    }

    fn problems(&self) -> Vec<Problem> {
        let learns = !matches!(self.method, Method::Copy | Method::None);
        let mut problems = match self.steps {
            None if learns => vec![Problem::new("method", "this method needs `steps`").help("add `steps: 2000`")],
            Some(_) if !learns => vec![Problem::new("steps", "`copy` and `none` take no steps").help("remove `steps`")],
            _ => Vec::new(),
        };
        if self.method.trains_on_reweighted_data() && self.weight.is_none() {
            let problem = Problem::new("method", "this method needs the `weight` that the candidate is meant for");
            problems.push(problem.help("add `weight: 0.1`, and mix with `mixture: { learn: fixed, initial: 0.1 }`"));
        }
        if !self.method.trains_on_reweighted_data() && self.weight.is_some() {
            problems.push(Problem::new("weight", "`weight` belongs to `adagan` and `residual`"));
        }
        problems
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(upstream, None, None, (!self.method.trains_on_reweighted_data()).then_some("data"))
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let like = StoredModel::load(context.input("like")?)?;
        let base = freeze(&like.components[0].generator);
        let fresh = Weights::fresh(base.layers.clone(), &mut context.streams.stream("weights"));
        let (generator, mut metrics) = match self.method {
            Method::Copy => (base, Metrics::new()),
            Method::None => (fresh, Metrics::new()),
            Method::Adagan | Method::Residual => reweighted::train(self, &material, &like, [&base, &fresh], context)?,
            Method::Vae | Method::MomentMatching => {
                let start = if self.start == Start::Copy { &base } else { &fresh };
                (self.train_on_tail(&material, start, context)?, Metrics::new())
            }
        };
        let model = StoredModel {
            description: material.dataset.description.clone(),
            components: vec![Component::new(1.0, generator)],
            discriminator: None,
            ratios: Vec::new(),
        };
        if material.dataset.description.tail.is_some() {
            let mut rng = context.streams.stream("tail mass");
            let sample = Model::new(&model, context.device)?.sample_encoded(MASS_EVENTS, &mut rng)?;
            metrics.insert("tail.events".to_owned(), material.tail_events()?.len() as f64);
            metrics.insert("tail.mass".to_owned(), material.tail_mass(&sample, context)?);
        }
        model.save(&context.out)?;
        Ok(metrics)
    }
}

impl PretrainTail {
    /// Trains on the tail's events.
    fn train_on_tail(
        &self,
        material: &Material,
        start: &Weights,
        context: &mut Context<'_>,
    ) -> Result<Weights, StageError> {
        let reals = tail_reals(material, self.batch.get(), &context.scratch)?;
        let steps = self.steps.map_or(0, crate::value::Steps::get);
        let pretraining = Pretraining {
            reals: &reals,
            optimizer: &self.optimizer,
            steps,
            batch: self.batch.get(),
            device: &material.device,
        };
        let streams = context.streams.clone();
        let session = &mut training::session(context, steps)?;
        if self.method == Method::Vae {
            return Ok(vae::train(self.beta.get(), &pretraining, start, &streams, session)?);
        }
        let statistic = match self.moments {
            Moments::Crude => Statistic::Crude,
            Moments::Mmd => Statistic::mmd(reals.rows(), &mut streams.stream("bandwidth")),
        };
        Ok(moments::train(statistic, &pretraining, start, &streams, session)?)
    }
}

/// The tail's training events, encoded, with the symmetries of the data.
fn tail_reals(material: &Material, batch: usize, scratch: &Scratch) -> Result<Reals, StageError> {
    let description = &material.dataset.description;
    let width = description.coordinates.width();
    let values = material.encoded.gather(width, &material.tail_events()?, scratch)?;
    let (rows, flips) = (Rows { values, width }, Derived::default().flips(description));
    let strata = Strata::all(rows.len(), batch);
    Ok(Reals::new(rows, flips, strata))
}
