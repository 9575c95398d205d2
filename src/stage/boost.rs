//! `boost`: trains the second generator as a component of a mixture with the frozen base.

use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream,
    train_gan::batch,
    training::{self, Material, strata_problems},
};
use crate::{
    model::{Component, Model, StoredModel, Weights},
    train::{
        adversary::{Adversary, Loss},
        boost::{self, BoostTraining, Boosted, WeightRule},
        config::{LossConfig, OptimizerConfig, StrataConfig, ema},
        mixture::TailMasses,
    },
    value::{BatchSize, Fraction, OpenProbability, Positive, Steps},
};

/// Events that tail masses are measured on.
const MASS_EVENTS: usize = 100_000;

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
    /// The rate of `adversarial`, per step, on logit q.
    #[serde(default = "rate")]
    pub rate: Positive,
}

fn rate() -> Positive {
    Positive::try_from(0.05).unwrap_or_else(|_| unreachable!())
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
        Self { learn: Learn::Em, initial: None, floor: floor(), every: every(), warmup: warmup(), rate: rate() }
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
    const VERSION: u32 = 2;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        vec![
            Port::one("base", &self.base, &[ArtifactKind::FrozenModel]),
            Port::one("candidate", &self.candidate, &[ArtifactKind::Candidate]),
            Port::one("data", &self.data, &[ArtifactKind::Dataset]),
        ]
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = strata_problems(self.strata.as_ref());
        if self.mixture.initial.is_some_and(|initial| initial.get() < self.mixture.floor.get()) {
            problems.push(Problem::new("mixture.initial", "the first weight lies below `floor`"));
        }
        problems
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        let needs_tail = self.mixture.initial.is_none().then_some("mixture");
        training::mismatches(upstream, None, self.strata.as_ref(), needs_tail)
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let base = StoredModel::load(context.input("base")?)?;
        let candidate = StoredModel::load(context.input("candidate")?)?.components.swap_remove(0).generator;
        let Some(discriminator) = base.discriminator.clone() else {
            return Err(StageError::Unusable("the base model has no discriminator to go on with".into()));
        };
        if base.description != material.dataset.description {
            return Err(StageError::Unusable("the base model was trained on another dataset than `data`".into()));
        }
        let generator = Model::new(&base, context.device)?;
        let masses = tail_masses(&material, &generator, &base, &candidate, context)?;
        let mut metrics = masses_as_metrics(masses);
        let Some(initial) = self.mixture.initial.map(OpenProbability::get).or_else(|| masses.initial_weight()) else {
            context.notice(declined(masses));
            metrics.extend([("declined".to_owned(), 1.0), ("q".to_owned(), 0.0)]);
            base.save(&context.out)?;
            return Ok(metrics);
        };
        let floor = self.mixture.floor.get();
        let initial = initial.clamp(floor.max(1e-6), 1.0 - floor.max(1e-6));

        let (steps, batch) = (self.steps.get(), self.batch.get());
        let reals = material.reals(&discriminator.derived, self.strata.as_ref(), batch)?;
        let adversary = Adversary::new(
            &discriminator,
            Loss::from(&self.loss),
            &self.optimizer,
            steps,
            &material.device,
            context.streams.stream("discriminator dropout"),
        );
        let rule = match self.mixture.learn {
            Learn::Fixed => WeightRule::Fixed,
            Learn::Em => WeightRule::Em,
            Learn::Adversarial => WeightRule::Adversarial(self.mixture.rate.get()),
        };
        let training = BoostTraining {
            description: &material.dataset.description,
            reals: &reals,
            base: &generator,
            steps,
            batch,
            share: self.share.get(),
            weight: initial,
            rule,
            floor: floor.max(1e-6),
            every: self.mixture.every.get(),
            warmup: (self.mixture.warmup.get() * steps as f64) as u64,
            optimizer: &self.optimizer,
            ema: self.ema.get(),
            device: &material.device,
        };
        let streams = context.streams.clone();
        let boosted = boost::train(&training, &candidate, adversary, &streams, &mut training::report(context, steps))?;
        let after = tail_masses(&material, &generator, &base, &boosted.generator, context)?;
        let q = boosted.weight;
        metrics.extend([
            ("declined".to_owned(), 0.0),
            ("q.initial".to_owned(), initial),
            ("q".to_owned(), q),
            ("ln_q".to_owned(), q.ln()),
            ("fakes.effective_share".to_owned(), boosted.effective_share),
            ("reals.effective_share".to_owned(), reals.strata().effective_share()),
            ("tail.candidate_after".to_owned(), after.candidate),
            ("tail.mixture".to_owned(), (1.0 - q) * after.base + q * after.candidate),
        ]);
        let in_tail = q * after.candidate / ((1.0 - q) * after.base + q * after.candidate);
        if in_tail.is_finite() {
            metrics.insert("tail.share_of_candidate".to_owned(), in_tail);
        }
        if self.mixture.learn != Learn::Fixed && q <= floor {
            context.notice(format!(
                "the mixture weight collapsed to its floor {floor}: the real events do not ask for the second generator"
            ));
        }
        mixture(base, boosted).save(&context.out)?;
        Ok(metrics)
    }
}

/// Tail masses of the training events, the base, and a second generator.
fn tail_masses(
    material: &Material,
    base: &Model,
    stored: &StoredModel,
    candidate: &Weights,
    context: &Context<'_>,
) -> Result<TailMasses, StageError> {
    if material.dataset.description.tail.is_none() {
        return Ok(TailMasses { real: 0.0, base: 0.0, candidate: 0.0 });
    }
    let alone = StoredModel {
        description: stored.description.clone(),
        components: vec![Component::new(1.0, candidate.clone())],
        discriminator: None,
    };
    let candidate = Model::new(&alone, context.device)?;
    let mass = |model: &Model| -> Result<f64, StageError> {
        let rows = model.sample_encoded(MASS_EVENTS, &mut context.streams.stream("tail mass"))?;
        material.tail_mass(&rows, context)
    };
    let real = material.tail_events()?.len() as f64 / material.dataset.train.len() as f64;
    Ok(TailMasses { real, base: mass(base)?, candidate: mass(&candidate)? })
}

fn masses_as_metrics(masses: TailMasses) -> Metrics {
    let TailMasses { real, base, candidate } = masses;
    [("tail.real", real), ("tail.base", base), ("tail.candidate", candidate)].map(|(k, v)| (k.to_owned(), v)).into()
}

/// Why no mixture can mend the tail, for the user.
fn declined(masses: TailMasses) -> String {
    let TailMasses { real, base, candidate } = masses;
    if base >= real {
        format!(
            "boosting declined: the base already makes {:.2} % tail events where the data has {:.2} %, and adding a component \
             cannot take events away; the base stands unchanged",
            base * 100.0,
            real * 100.0
        )
    } else {
        format!(
            "boosting declined: the candidate makes {:.2} % tail events, no more than the data's {:.2} %, so no weight of it gives \
             the tail what it lacks; pretrain it longer or by another `method`. The base stands unchanged",
            candidate * 100.0,
            real * 100.0
        )
    }
}

/// The base's components with their weights times p, and the new one with weight q.
fn mixture(base: StoredModel, boosted: Boosted) -> StoredModel {
    let q = boosted.weight;
    let mut components = base.components;
    for component in &mut components {
        component.weight *= 1.0 - q;
    }
    components.push(Component::new(q, boosted.generator));
    StoredModel { description: base.description, components, discriminator: Some(boosted.discriminator) }
}
