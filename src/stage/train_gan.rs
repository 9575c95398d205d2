//! `train_gan`: trains the base generator and its discriminator.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, Stage, StageError, StageKind, Upstream, invert,
    training::{self, Material, strata_problems},
};
use crate::{
    model::{Component, Derived, Discriminator, StoredModel, Weights, architecture, freeze::freeze},
    train::{
        adversary::{Adversary, Loss},
        config::{
            DiscriminatorConfig, GeneratorConfig, LatentsConfig, LossConfig, LossKind, OptimizerConfig, Region,
            StrataConfig, ema,
        },
        gan::{self, GanTraining},
    },
    value::{BatchSize, Fraction, Steps},
};

/// Trains a generator and its discriminator, the classical way or with importance sampling of the tail on either side.
///
/// ```yaml
/// base:
///   kind: train_gan
///   data: events
///   generator: { layers: [128, 128, 128, 128], latent: 16 }
///   discriminator: { layers: [128, 128, 128, 128] }
///   loss: { kind: relativistic, r1: 0.1, r2: 0.1 }
///   strata: { shares: [0.5, 0.5] }
///   steps: 20000
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainGan {
    /// The dataset that is learnt.
    pub data: String,
    /// A model of one generator to go on from, with its discriminator. Nets that are given beside it must be its own.
    #[serde(default)]
    pub start: Option<String>,
    /// Trains on this part of the data only. Absent: on all of it.
    #[serde(default)]
    pub region: Option<Region>,
    /// The generator's nets.
    #[serde(default)]
    pub generator: GeneratorConfig,
    /// The discriminator's nets.
    #[serde(default)]
    pub discriminator: DiscriminatorConfig,
    /// The adversarial loss.
    #[serde(default)]
    pub loss: LossConfig,
    /// Importance sampling of the real events: more of the tail in a batch, with weights. Absent: plain sampling.
    #[serde(default)]
    pub strata: Option<StrataConfig>,
    /// Generator steps.
    pub steps: Steps,
    /// Events in a batch, of the real ones and of the generator's each.
    #[serde(default = "batch")]
    pub batch: BatchSize,
    /// The optimiser of the generator and of the discriminator.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// A proposal of an `invert` stage that the generator's latent vectors are drawn from, with weights.
    #[serde(default)]
    pub proposal: Option<String>,
    /// Or another importance sampling of the generator's latent vectors.
    #[serde(default)]
    pub latents: Option<LatentsConfig>,
    /// Decay of the moving average of the generator's weights, which is what is sampled; 0 turns it off.
    #[serde(default = "ema")]
    pub ema: Fraction,
}

/// 512 events.
pub(super) fn batch() -> BatchSize {
    BatchSize::try_from(512).unwrap_or_else(|_| unreachable!())
}

impl StageKind for TrainGan {
    const VERSION: u32 = 5;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        let start = self.start.as_deref();
        let start = start.map(|start| Port::one("start", start, &[ArtifactKind::Model, ArtifactKind::FrozenModel]));
        let proposal = self.proposal.as_deref();
        let proposal = proposal.map(|proposal| Port::one("proposal", proposal, &[ArtifactKind::Proposal]));
        std::iter::once(Port::one("data", &self.data, &[ArtifactKind::Dataset])).chain(start).chain(proposal).collect()
    }

    fn goes_on(&self) -> bool {
        self.optimizer.knows_no_end()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = strata_problems(self.strata.as_ref());
        problems.extend(training::latents_problems(self.proposal.as_ref(), self.latents.as_ref()));
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
        let region = self.region.map(|_| "region").or(self.latents.map(|_| "latents"));
        let observables = Some(self.discriminator.observables.as_slice());
        let mut problems = training::mismatches(upstream, observables, self.strata.as_ref(), region);
        if let Some(Stage::TrainGan(start)) = upstream.get("start").and_then(|stages| stages.first()) {
            let differs = |field| {
                Problem::new(field, "these nets are not those of `start`")
                    .help("leave them out: `start` brings its own")
            };
            if self.generator != GeneratorConfig::default() && self.generator != start.generator {
                problems.push(differs("generator"));
            }
            if self.discriminator != DiscriminatorConfig::default() && self.discriminator != start.discriminator {
                problems.push(differs("discriminator"));
            }
        }
        problems
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let mut material = Material::load(context)?;
        let description = &material.dataset.description;
        let width = description.coordinates.width();
        let start = self.read_start(context, &material)?;
        let mut weights = context.streams.stream("weights");
        let fresh = Weights::fresh(architecture::generator(&self.generator, width), &mut weights);
        let derived = Derived::fit(&self.discriminator.observables, description, &material.encoded)?;
        let layers = architecture::discriminator(&self.discriminator, width + derived.names.len());
        let (generator, discriminator) = match start {
            Some((generator, discriminator)) => (generator, discriminator),
            None => (fresh, None),
        };
        let discriminator =
            discriminator.unwrap_or_else(|| Discriminator { derived, net: Weights::fresh(layers, &mut weights) });
        if let Some(region) = self.region {
            material.restrict(region)?;
        }
        let description = &material.dataset.description;
        let batch = self.batch.get();
        let reals = material.reals(&discriminator.derived, self.strata.as_ref(), batch)?;
        let steps = self.steps.get();
        let adversary = Adversary::new(
            &discriminator,
            Loss::from(&self.loss),
            &self.optimizer,
            steps,
            &material.device,
            context.streams.stream("discriminator dropout"),
        );
        let proposal = self.proposal.as_ref().map(|_| invert::load(context.input("proposal")?)).transpose()?;
        let training = GanTraining {
            description,
            reals: &reals,
            steps,
            batch,
            optimizer: &self.optimizer,
            ema: self.ema.get(),
            latents: training::latent_sampling(proposal.as_ref(), self.latents.as_ref()),
            device: &material.device,
        };
        let streams = context.streams.clone();
        let (generator, discriminator) =
            gan::train(&training, &generator, adversary, &streams, &mut training::session(context, steps)?)?;
        let metrics = Metrics::from([
            ("steps".to_owned(), steps as f64),
            ("reals.effective_share".to_owned(), reals.strata().effective_share()),
            ("generator.parameters".to_owned(), generator.parameters.len() as f64),
            ("discriminator.parameters".to_owned(), discriminator.net.parameters.len() as f64),
        ]);
        let model = StoredModel {
            description: description.clone(),
            components: vec![Component::new(1.0, generator)],
            discriminator: Some(discriminator),
            ratios: Vec::new(),
        };
        model.save(&context.out)?;
        Ok(metrics)
    }
}

impl TrainGan {
    /// The generator and the discriminator to go on from, if they fit the data and the nets that are asked for.
    fn read_start(
        &self,
        context: &Context<'_>,
        material: &Material,
    ) -> Result<Option<(Weights, Option<Discriminator>)>, StageError> {
        if self.start.is_none() {
            return Ok(None);
        }
        let mut start = material.model(context, "start")?;
        if !start.ratios.is_empty() {
            let message = "the model of `start` has been reweighted; training goes on from the model before that";
            return Err(StageError::Unusable(message.into()));
        }
        let [component] = start.components.as_mut_slice() else {
            let message = "`start` is a mixture; training goes on from a model of one generator";
            return Err(StageError::Unusable(message.into()));
        };
        let generator = std::mem::take(&mut component.generator);
        let differs = |which: &str| {
            Err(StageError::Unusable(format!("the nets of `{which}` are not those of `start`; leave `{which}` out")))
        };
        if self.generator != GeneratorConfig::default() {
            let width = material.dataset.description.coordinates.width();
            let layers = architecture::generator(&self.generator, width);
            let frozen = freeze(&Weights::fresh(layers.clone(), &mut context.streams.stream("weights"))).layers;
            if generator.layers != layers && generator.layers != frozen {
                return differs("generator");
            }
        }
        if let Some(Discriminator { derived, net }) = &start.discriminator
            && self.discriminator != DiscriminatorConfig::default()
        {
            let layers = architecture::discriminator(&self.discriminator, net.inputs());
            if derived.names != self.discriminator.observables || net.layers != layers {
                return differs("discriminator");
            }
        }
        Ok(Some((generator, start.discriminator)))
    }
}
