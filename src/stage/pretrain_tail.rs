//! `pretrain_tail`: prepares the second generator on the tail, so that boosting does not start stuck.

use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream,
    train_gan::batch,
    training::{self, Material},
};
use crate::{
    model::{Component, Derived, Model, Rows, StoredModel, Weights, freeze::freeze},
    train::{
        Pretraining,
        config::OptimizerConfig,
        moments::{self, Statistic},
        reals::{Reals, Strata},
        vae,
    },
    value::{BatchSize, NonNegative, Steps},
};

/// Events that the candidate's tail mass is measured on.
const MASS_EVENTS: usize = 20_000;

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
    /// The weights that `vae` and `moment_matching` start from.
    #[serde(default)]
    pub start: Start,
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

/// The weights that pretraining starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Those of the base, whose events are already those of the data but for the tail.
    #[default]
    Copy,
    /// Fresh ones.
    Fresh,
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

    fn problems(&self) -> Vec<Problem> {
        let learns = matches!(self.method, Method::Vae | Method::MomentMatching);
        match self.steps {
            None if learns => vec![Problem::new("method", "this method needs `steps`").help("add `steps: 2000`")],
            Some(_) if !learns => vec![Problem::new("steps", "`copy` and `none` take no steps").help("remove `steps`")],
            _ => Vec::new(),
        }
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(upstream, None, None, Some("data"))
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let like = StoredModel::load(context.input("like")?)?;
        let events = material.tail_events()?;
        let base = freeze(&like.components[0].generator);
        let fresh = Weights::fresh(base.layers.clone(), &mut context.streams.stream("weights"));
        let reals = tail_reals(&material, &events, self.batch.get());
        let steps = self.steps.map_or(0, crate::value::Steps::get);
        let pretraining = Pretraining {
            reals: &reals,
            optimizer: &self.optimizer,
            steps,
            batch: self.batch.get(),
            device: &material.device,
        };
        let streams = context.streams.clone();
        let start = if self.start == Start::Copy { &base } else { &fresh };
        let generator = match self.method {
            Method::Copy => base,
            Method::None => fresh,
            Method::Vae => {
                let report = &mut training::report(context, steps);
                vae::train(self.beta.get(), &pretraining, start, &streams, report)?
            }
            Method::MomentMatching => {
                let statistic = match self.moments {
                    Moments::Crude => Statistic::Crude,
                    Moments::Mmd => Statistic::mmd(reals.rows(), &mut streams.stream("bandwidth")),
                };
                let report = &mut training::report(context, steps);
                moments::train(statistic, &pretraining, start, &streams, report)?
            }
        };
        let model = StoredModel {
            description: material.dataset.description.clone(),
            components: vec![Component::new(1.0, generator)],
            discriminator: None,
            ratios: Vec::new(),
        };
        let sample =
            Model::new(&model, context.device)?.sample_encoded(MASS_EVENTS, &mut streams.stream("tail mass"))?;
        let metrics = Metrics::from([
            ("tail.events".to_owned(), events.len() as f64),
            ("tail.mass".to_owned(), material.tail_mass(&sample, context)?),
        ]);
        model.save(&context.out)?;
        Ok(metrics)
    }
}

/// The tail's training events, encoded, with the symmetries of the data.
fn tail_reals(material: &Material, events: &[usize], batch: usize) -> Reals {
    let description = &material.dataset.description;
    let width = description.coordinates.width();
    let values = events.iter().flat_map(|&i| &material.encoded[i * width..(i + 1) * width]).copied().collect();
    let flips = Derived::default().flips(description);
    Reals::new(Rows { values, width }, flips, Strata::all(events.len(), batch))
}
