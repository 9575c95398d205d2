//! `train_gan`: trains the base generator and its discriminator.

use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream,
    training::{self, Material, strata_problems},
};
use crate::{
    model::{Component, Derived, Discriminator, StoredModel, Weights, architecture},
    train::{
        adversary::{Adversary, Loss},
        config::{DiscriminatorConfig, GeneratorConfig, LossConfig, LossKind, OptimizerConfig, StrataConfig, ema},
        gan::{self, GanTraining},
    },
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
    const VERSION: u32 = 2;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![Port::one("data", &self.data, &[ArtifactKind::Dataset])]
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = strata_problems(self.strata.as_ref());
        let wgan = self.loss.kind == LossKind::WganGp;
        if wgan && self.discriminator.dropout.get() > 0.0 {
            problems.push(Problem::new("discriminator.dropout", "a `wgan_gp` critic must have no dropout"));
        }
        if !wgan && self.loss.penalty.is_some() {
            problems.push(Problem::new("loss.penalty", "`penalty` belongs to `wgan_gp`").help("use `r1` and `r2`"));
        }
        problems
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(upstream, Some(&self.discriminator.observables), self.strata.as_ref(), None)
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let description = &material.dataset.description;
        let width = description.coordinates.width();
        let mut weights = context.streams.stream("weights");
        let generator = Weights::fresh(architecture::generator(&self.generator, width), &mut weights);
        let derived = Derived::fit(&self.discriminator.observables, description, &material.encoded)?;
        let batch = self.batch.get();
        let reals = material.reals(&derived, self.strata.as_ref(), batch)?;
        let layers = architecture::discriminator(&self.discriminator, reals.rows().width);
        let discriminator = Discriminator { derived, net: Weights::fresh(layers, &mut weights) };
        let steps = self.steps.get();
        let adversary = Adversary::new(
            &discriminator,
            Loss::from(&self.loss),
            &self.optimizer,
            steps,
            &material.device,
            context.streams.stream("discriminator dropout"),
        );
        let training = GanTraining {
            description,
            reals: &reals,
            steps,
            batch,
            optimizer: &self.optimizer,
            ema: self.ema.get(),
            device: &material.device,
        };
        let streams = context.streams.clone();
        let (generator, discriminator) =
            gan::train(&training, &generator, adversary, &streams, &mut training::report(context, steps))?;
        let metrics = Metrics::from([
            ("steps".to_owned(), steps as f64),
            ("reals.effective_share".to_owned(), reals.strata().effective_share()),
            ("generator.parameters".to_owned(), generator.parameters.len() as f64),
            ("discriminator.parameters".to_owned(), discriminator.net.parameters.len() as f64),
        ]);
        let model = StoredModel {
            description: description.clone(),
            components: vec![Component { weight: 1.0, generator }],
            discriminator: Some(discriminator),
            ratios: Vec::new(),
        };
        model.save(&context.out)?;
        Ok(metrics)
    }
}
