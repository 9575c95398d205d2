//! `reweight`: multiplies a model's density by a classifier's ratio of real events to the model's own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream,
    training::{self, Material, ceiling, ceiling_problems, strata_problems},
};
use crate::{
    data::Dataset,
    model::{Derived, Discriminator, Factor, Model, Ratio, Rows, Weights, architecture, freeze::freeze},
    train::{
        config::{DiscriminatorConfig, OptimizerConfig, StrataConfig, Weights as Compensation, ema},
        ratio::{self, RatioTraining},
        reals::{Reals, Strata},
    },
    value::{BatchSize, EventCount, Fraction, NonNegative, Positive, Steps},
};

/// Multiplies a model's density by a classifier's ratio of real events to the model's own.
///
/// The model that comes out makes events of m'(x) ∝ m(x) min(w(x), c), w the classifier's estimate of r/m, by rejection: they carry
/// no weights. A ratio that does not beat "all events are equal" on validation events is declined, and the model stands as it was.
///
/// ```yaml
/// reweighted:
///   kind: reweight
///   model: boosted
///   data: events
///   strata: { shares: [0.5, 0.5] }
///   steps: 3000
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reweight {
    /// The model whose density is multiplied.
    pub model: String,
    /// The dataset that it is to be like.
    pub data: String,
    /// The classifier's net and the derived observables that it sees.
    #[serde(default)]
    pub classifier: DiscriminatorConfig,
    /// Importance sampling of the real events and of the model's, with `exact` weights. Absent: plain sampling.
    #[serde(default)]
    pub strata: Option<StrataConfig>,
    /// γ of a zero-centred gradient penalty, which smooths the ratio.
    #[serde(default = "no_penalty")]
    pub penalty: NonNegative,
    /// Training steps of the classifier.
    pub steps: Steps,
    /// Events of each side in a batch.
    #[serde(default = "batch")]
    pub batch: BatchSize,
    /// Events of the model that the classifier learns from. Absent: four times the training events.
    #[serde(default)]
    pub pool: Option<EventCount>,
    /// The optimiser of the classifier.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Decay of the moving average of the classifier's weights.
    #[serde(default = "ema")]
    pub ema: Fraction,
    /// c: larger ratios are cut to this. The cut is lower where next to no event of the model has so large a ratio, since the
    /// share of events that is kept is about 1/c.
    #[serde(default = "ceiling")]
    pub ceiling: Positive,
}

fn no_penalty() -> NonNegative {
    NonNegative::try_from(0.0).unwrap_or_else(|_| unreachable!())
}

fn batch() -> BatchSize {
    BatchSize::try_from(1024).unwrap_or_else(|_| unreachable!())
}

/// The share of the model's events whose ratio may be cut although it lies below `ceiling`.
const CUT_SHARE: f64 = 1e-4;

impl StageKind for Reweight {
    const VERSION: u32 = 4;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        training::model_and_data(&self.model, &self.data)
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = strata_problems(self.strata.as_ref());
        if self.strata.as_ref().is_some_and(|strata| strata.weights != Compensation::Exact) {
            problems.push(Problem::new("strata.weights", "a density ratio needs `exact` weights"));
        }
        problems.extend(ceiling_problems(self.ceiling, "ratio"));
        problems
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(upstream, Some(&self.classifier.observables), self.strata.as_ref(), None)
            .into_iter()
            .map(|mut problem| {
                problem.field = problem.field.replacen("discriminator", "classifier", 1);
                problem
            })
            .collect()
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let mut stored = material.model(context, "model")?;
        for component in &mut stored.components {
            component.generator = freeze(&component.generator);
        }
        let held_out = HeldOut::of(&material)?;
        let description = &material.dataset.description;
        let derived = Derived::fit(&self.classifier.observables, description, &material.encoded)?;
        let model = Model::new(&stored, context.device)?;
        let pool = self.pool.map_or(4 * material.dataset.train.len(), EventCount::get);
        let pool = model.sample_encoded(pool, &mut context.streams.stream("pool"))?;
        let fresh = model.sample_encoded(held_out.len().max(CALIBRATION), &mut context.streams.stream("held out"))?;

        let reals = material.reals(&derived, self.strata.as_ref(), self.batch.get())?;
        let fakes = self.fakes(&material, &derived, &pool, context)?;
        let width = description.coordinates.width();
        let held_out_fakes = derived.append(description, &fresh[..held_out.len() * width])?;
        let layers = architecture::discriminator(&self.classifier, reals.rows().width);
        let net = Weights::fresh(layers, &mut context.streams.stream("weights"));
        let classifier = Discriminator { derived: derived.clone(), net };
        let (device, steps, streams) = (material.device.clone(), self.steps.get(), context.streams.clone());
        let training = RatioTraining {
            reals: &reals,
            fakes: &fakes,
            held_out: [&derived.append(description, &held_out.encoded)?, &held_out_fakes],
            penalty: self.penalty,
            steps,
            optimizer: &self.optimizer,
            ema: self.ema.get(),
            device: &device,
        };
        let trained = ratio::train(&training, &classifier, &streams, &mut training::session(context, steps)?)?;
        let mut metrics = Metrics::from([
            ("declined".to_owned(), f64::from(u8::from(trained.step == 0))),
            ("best_step".to_owned(), trained.step as f64),
            ("held_out_loss".to_owned(), trained.loss),
            ("held_out_gain".to_owned(), 2.0 * std::f64::consts::LN_2 - trained.loss),
            ("reals.effective_share".to_owned(), reals.strata().effective_share()),
        ]);
        if trained.step == 0 {
            context.notice(
                "reweighting declined: on validation events the classifier never told real events from the model's better than \
                 by chance; the model stands unchanged",
            );
        } else {
            let classifier = Discriminator { derived, net: trained.weights };
            let ratio = self.calibrated(classifier, &material, &fresh, &mut metrics)?;
            stored.ratios.push(ratio);
        }
        stored.save(&context.out)?;
        Ok(metrics)
    }
}

/// Events of the model that the ratio's mean and ceiling are measured on, at least.
const CALIBRATION: usize = 100_000;

/// Real events that the classifier does not learn from, encoded.
struct HeldOut {
    encoded: Vec<f32>,
    events: usize,
}

impl HeldOut {
    fn of(material: &Material) -> Result<Self, StageError> {
        let Dataset { description, validation, .. } = &material.dataset;
        if validation.is_empty() {
            let message = "reweighting needs validation events to stop by; raise `split.validation` of the dataset";
            return Err(StageError::Unusable(message.into()));
        }
        Ok(Self { encoded: description.coordinates.encode(&validation.table()?)?, events: validation.len() })
    }

    fn len(&self) -> usize {
        self.events
    }
}

impl Reweight {
    /// The model's events in the strata of the real ones.
    fn fakes(
        &self,
        material: &Material,
        derived: &Derived,
        encoded: &[f32],
        context: &Context<'_>,
    ) -> Result<Reals, StageError> {
        let description = &material.dataset.description;
        let rows: Rows = derived.append(description, encoded)?;
        let strata = match (&self.strata, &description.tail) {
            (Some(config), Some(tail)) => {
                let values = material.tail_values(encoded, context)?;
                Strata::new(config, values, tail.above, self.batch.get())?
            }
            _ => Strata::all(rows.len(), self.batch.get()),
        };
        Ok(Reals::new(rows, derived.flips(description), strata))
    }

    /// The ratio with its offset, so that w averages to 1 over events of the model, and its ceiling.
    fn calibrated(
        &self,
        classifier: Discriminator,
        material: &Material,
        events: &[f32],
        metrics: &mut Metrics,
    ) -> Result<Ratio, StageError> {
        let net = crate::model::Network::new(&classifier.net, &material.device);
        let description = &material.dataset.description;
        let logits = crate::model::ratio::log_ratios(&net, &classifier.derived, description, events)?;
        let mut logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
        logits.sort_unstable_by(f64::total_cmp);
        let count = logits.len() as f64;
        let offset = -(logits.iter().map(|logit| logit.exp()).sum::<f64>() / count).ln();
        let largest = crate::data::interpolated_quantile(&logits, 1.0 - CUT_SHARE) + offset;
        let ceiling = largest.clamp(0.0, self.ceiling.get().ln());
        let weights = || logits.iter().map(|logit| (logit + offset).min(ceiling).exp());
        let sum: f64 = weights().sum();
        metrics.extend([
            ("ratio.ceiling".to_owned(), ceiling.exp()),
            ("ratio.kept".to_owned(), sum / count / ceiling.exp()),
            ("ratio.effective_share".to_owned(), sum * sum / (count * weights().map(|w| w * w).sum::<f64>())),
        ]);
        Ok(Ratio { factor: Factor::Classifier(classifier), offset, ceiling })
    }
}
