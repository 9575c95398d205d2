//! `boost`: trains the second generator as a component of a mixture with the frozen base.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream, invert,
    mixture::{
        Accept, Learn, MixtureConfig,
        trial::{self, Newcomer, Trial, Verdict},
    },
    train_gan::batch,
    training::{self, Material, strata_problems},
};
use crate::{
    model::{Discriminator, Model, StoredModel, Weights},
    train::{
        adversary::{Adversary, Loss},
        boost::{self, BoostTraining, Boosted, WeightRule},
        config::{LatentsConfig, LossConfig, OptimizerConfig, StrataConfig, ema},
        mixture::TailMasses,
    },
    value::{BatchSize, Fraction, OpenProbability, RoundCount, Steps},
};

/// Trains a second generator G1 as a component of the mixture (1 − q)·G + q·G1 with a frozen base G: G1 is drawn often and weighs
/// little. Where validation events do not ask for the mixture, the base stands.
///
/// ```yaml
/// boosted:
///   kind: boost
///   base: frozen
///   candidate: tail
///   data: events
///   mixture: { learn: moments }
///   strata: { shares: [0.5, 0.5] }
///   steps: 5000
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boost {
    /// The frozen model G.
    pub base: String,
    /// The second generator G1, pretrained.
    pub candidate: String,
    /// The dataset that both are to be like.
    pub data: String,
    /// The mixture weight q of G1: how it is found.
    #[serde(default)]
    pub mixture: MixtureConfig,
    /// κ: the share of the fakes drawn from G1.
    #[serde(default = "half")]
    pub share: OpenProbability,
    /// The adversarial loss.
    #[serde(default)]
    pub loss: LossConfig,
    /// Importance sampling of the real events: more of the tail in a batch, with weights. Absent: plain sampling.
    #[serde(default)]
    pub strata: Option<StrataConfig>,
    /// Steps of G1.
    pub steps: Steps,
    /// Events in a batch, of the real ones and of the mixture's each.
    #[serde(default = "batch")]
    pub batch: BatchSize,
    /// The optimiser of G1 and of the discriminator.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// A proposal of an `invert` stage that G1's latent vectors are drawn from, with weights.
    #[serde(default)]
    pub proposal: Option<String>,
    /// Or another importance sampling of G1's latent vectors.
    #[serde(default)]
    pub latents: Option<LatentsConfig>,
    /// Decay of the moving average of G1's weights.
    #[serde(default = "ema")]
    pub ema: Fraction,
    /// When the mixture takes the base's place.
    #[serde(default)]
    pub accept: Accept,
    /// How often this is repeated on its own frozen result, with a fresh copy of the candidate's stage each time. The rounds
    /// become stages of their own, `NAME@round1` and so on; the last one has this stage's name.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub rounds: RoundCount,
    /// The model that the round before started from; set by `rounds`. If the base has no more components than it, that round
    /// was declined, and this one declines at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grown_from: Option<String>,
}

fn once() -> RoundCount {
    RoundCount::ONE
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_once(rounds: &RoundCount) -> bool {
    *rounds == RoundCount::ONE
}

fn half() -> OpenProbability {
    OpenProbability::try_from(0.5).unwrap_or_else(|_| unreachable!())
}

impl StageKind for Boost {
    const VERSION: u32 = 6;
    const PRODUCES: ArtifactKind = ArtifactKind::Model;

    fn ports(&self) -> Vec<Port<'_>> {
        let ports = [
            Port::one("base", &self.base, &[ArtifactKind::FrozenModel]),
            Port::one("candidate", &self.candidate, &[ArtifactKind::Candidate]),
            Port::one("data", &self.data, &[ArtifactKind::Dataset]),
        ];
        let proposal = self.proposal.as_deref();
        let proposal = proposal.map(|proposal| Port::one("proposal", proposal, &[ArtifactKind::Proposal]));
        let grown_from =
            self.grown_from.as_ref().map(|from| Port::one("grown_from", from, &[ArtifactKind::FrozenModel]));
        ports.into_iter().chain(grown_from).chain(proposal).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        let latents = training::latents_problems(self.proposal.as_ref(), self.latents.as_ref());
        strata_problems(self.strata.as_ref()).into_iter().chain(self.mixture.problems()).chain(latents).collect()
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(
            upstream,
            None,
            self.strata.as_ref(),
            self.mixture.needs_tail().or(self.latents.map(|_| "latents")),
        )
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let (base, candidate) = trial::inputs(context, &material)?;
        let Some(discriminator) = base.discriminator.clone() else {
            return Err(StageError::Unusable("the base model has no discriminator to go on with".into()));
        };
        if let Some(before) = context.inputs.get("grown_from").and_then(|models| models.first())
            && StoredModel::load(before)?.components.len() >= base.components.len()
        {
            context.notice("boosting declined: so was the round before, and this one has nothing else to start from");
            base.save(&context.out)?;
            return Ok([("declined".to_owned(), 1.0), ("q".to_owned(), 0.0)].into());
        }
        let mix = Trial::new(&material, &base, context)?;
        let masses = mix.masses(&candidate, context)?;
        let mut metrics = trial::masses_as_metrics(masses);
        let Some(initial) = self.mixture.initial.map(OpenProbability::get).or_else(|| masses.initial_weight()) else {
            trial::decline(trial::declined(masses), &base, context, &mut metrics)?;
            return Ok(metrics);
        };
        let floor = self.mixture.floor();
        let initial = initial.clamp(floor, 1.0 - floor);
        let (boosted, trained) = self.train(&mix, masses, &discriminator, &candidate, initial, context)?;
        metrics.extend(trained);
        metrics.insert("q.initial".to_owned(), initial);
        if self.mixture.learn != Learn::Fixed && boosted.weight <= floor {
            context.notice(format!("the mixture weight collapsed to its floor {floor}"));
        }
        let Boosted { generator, discriminator, weight, .. } = boosted;
        let newcomer = Newcomer { generator, weight, discriminator: Some(discriminator) };
        match mix.settle(&self.mixture, self.accept, newcomer, context, &mut metrics)? {
            Verdict::Taken(model) => {
                metrics.insert("declined".to_owned(), 0.0);
                model.save(&context.out)?;
            }
            Verdict::Declined(reason) => trial::decline(reason, &base, context, &mut metrics)?,
        }
        Ok(metrics)
    }
}

impl Boost {
    /// Trains G1 with q from its first value on.
    fn train(
        &self,
        trial: &Trial<'_>,
        masses: TailMasses,
        discriminator: &Discriminator,
        candidate: &Weights,
        initial: f64,
        context: &mut Context<'_>,
    ) -> Result<(Boosted, Metrics), StageError> {
        let material = trial.material;
        let (steps, batch) = (self.steps.get(), self.batch.get());
        let reals = material.reals(&discriminator.derived, self.strata.as_ref(), batch)?;
        let adversary = Adversary::new(
            discriminator,
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
            Learn::Moments | Learn::LineSearch | Learn::FullyCorrective => {
                WeightRule::Moments { real: masses.real, base: masses.base }
            }
        };
        let base = Model::new(trial.base, context.device)?;
        let proposal = self.proposal.as_ref().map(|_| invert::load(context.input("proposal")?)).transpose()?;
        let training = BoostTraining {
            description: &material.dataset.description,
            reals: &reals,
            base: &base,
            steps,
            batch,
            share: self.share.get(),
            weight: initial,
            rule,
            floor: self.mixture.floor(),
            trust: self.mixture.trust.get(),
            latent: candidate.inputs(),
            every: self.mixture.every.get(),
            warmup: (self.mixture.warmup.get() * steps as f64) as u64,
            optimizer: &self.optimizer,
            ema: self.ema.get(),
            latents: training::latent_sampling(proposal.as_ref(), self.latents.as_ref()),
            device: &material.device,
        };
        let streams = context.streams.clone();
        let boosted = boost::train(&training, candidate, adversary, &streams, &mut training::session(context, steps)?)?;
        let watched = boosted.watched.iter().map(|&(name, value)| (format!("last.{name}"), value));
        let shares = [
            ("fakes.effective_share".to_owned(), boosted.effective_share),
            ("reals.effective_share".to_owned(), reals.strata().effective_share()),
        ];
        let metrics = watched.chain(shares).collect();
        Ok((boosted, metrics))
    }
}
