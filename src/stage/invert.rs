//! `invert`: finds the latent vectors that lead to the tail, and makes a proposal that draws them more often.
//!
//! An encoder is trained adversarially on pairs (ALI/BiGAN); the training events of the tail are encoded, a mixture of Gaussians
//! q_T is fitted to them, and the proposal is h = (1 − α) N(0, I) + α q_T. `train_gan` and `boost` take it as `proposal`. The
//! artifact is `proposal.json`.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Artifact, ArtifactKind, Context, Metrics, Port, Problem, StageError, StageKind, Upstream,
    train_gan::batch,
    training::{self, Material, strata_problems},
};
use crate::{
    model::{
        Component, Derived, Discriminator, Model, Network, Pass, StoredModel, Weights, architecture::mlp,
        derived::host, freeze::freeze,
    },
    train::{
        adversary::{Adversary, Loss},
        config::{LossConfig, OptimizerConfig, StrataConfig, Weights as Compensation, ema},
        gaussians::Proposal,
        invert::{self, Inversion},
    },
    value::{BatchSize, Fraction, OpenProbability, Steps, Width},
};

/// The file of the artifact.
/// Version of the file.
const FORMAT: u32 = 1;
/// Latent vectors that the Gaussians are fitted to, and that the proposal is measured on.
const FIT_VECTORS: usize = 20_000;
/// Hidden layers of encoder and discriminator.
const HIDDEN: [usize; 3] = [128, 128, 128];

/// Finds the latent vectors that lead to the tail: trains an encoder adversarially on pairs (ALI/BiGAN), encodes the tail's training
/// events, fits a mixture of Gaussians q_T to them, and makes the proposal h = (1 − α) N(0, I) + α q_T. `train_gan` and `boost` take it
/// as `proposal`.
///
/// ```yaml
/// latents:
///   kind: invert
///   model: base
///   data: events
///   steps: 5000
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invert {
    /// The model of one generator that is inverted.
    pub model: String,
    /// The dataset, with its tail.
    pub data: String,
    /// Training steps of the encoder.
    pub steps: Steps,
    /// Events in a batch, of the real ones and of the generator's each.
    #[serde(default = "batch")]
    pub batch: BatchSize,
    /// Importance sampling of the real events, with `exact` weights. Absent: plain sampling.
    #[serde(default)]
    pub strata: Option<StrataConfig>,
    /// The adversarial loss.
    #[serde(default)]
    pub loss: LossConfig,
    /// The optimiser of the encoder and of its discriminator.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Decay of the moving average of the encoder's weights.
    #[serde(default = "ema")]
    pub ema: Fraction,
    /// Gaussians in q_T.
    #[serde(default = "gaussians")]
    pub gaussians: Width,
    /// α: the share of latent vectors drawn from q_T; weights stay below 1/(1 − α).
    #[serde(default = "share")]
    pub share: OpenProbability,
}

fn gaussians() -> Width {
    Width::try_from(4).unwrap_or_else(|_| unreachable!())
}

fn share() -> OpenProbability {
    OpenProbability::try_from(0.5).unwrap_or_else(|_| unreachable!())
}

/// `proposal.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProposalFile {
    format: u32,
    proposal: Proposal,
}

impl StageKind for Invert {
    const VERSION: u32 = 4;
    const PRODUCES: ArtifactKind = ArtifactKind::Proposal;

    fn ports(&self) -> Vec<Port<'_>> {
        training::model_and_data(&self.model, &self.data)
    }

    fn goes_on(&self) -> bool {
        self.optimizer.knows_no_end()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = strata_problems(self.strata.as_ref());
        if self.strata.as_ref().is_some_and(|strata| strata.weights != Compensation::Exact) {
            problems.push(Problem::new("strata.weights", "an inversion needs `exact` weights"));
        }
        problems
    }

    fn mismatches(&self, upstream: &Upstream<'_>) -> Vec<Problem> {
        training::mismatches(upstream, None, self.strata.as_ref(), Some("data"))
    }

    fn run(&self, context: &mut Context<'_>) -> Result<Metrics, StageError> {
        let material = Material::load(context)?;
        let description = &material.dataset.description;
        let model = material.model(context, "model")?;
        let [Component { generator, .. }] = model.components.as_slice() else {
            return Err(StageError::Unusable(
                "`model` is a mixture; only a model of one generator can be inverted".into(),
            ));
        };
        let generator = freeze(generator);
        let encoder = self.train(&material, &generator, context)?;

        let width = description.coordinates.width();
        let tail = material.tail_events()?;
        // Events of a small tail are encoded several times, with other noise.
        let repeated: Vec<u32> = tail.into_iter().cycle().take(FIT_VECTORS).collect();
        let events = material.encoded.gather(width, &repeated, &context.scratch)?;
        let streams = context.streams.clone();
        let points = invert::encode(&encoder, &events, width, &streams, &material.device)?;
        if points.iter().any(|value| !value.is_finite()) {
            return Err(StageError::Unusable(
                "the encoder gave numbers that are not finite; lower `optimizer.rate`".into(),
            ));
        }
        let mut rng = streams.stream("gaussians");
        let proposal = Proposal::fit(&points, generator.inputs(), self.gaussians.get(), self.share.get(), &mut rng);
        let metrics = measure(&proposal, &generator, &points, &material, context)?;
        save(&proposal, &context.out)?;
        Ok(metrics)
    }
}

impl Invert {
    /// The file of the proposal.
    pub const FILE: &'static str = "proposal.json";

    /// Trains the encoder.
    fn train(
        &self,
        material: &Material,
        generator: &Weights,
        context: &mut Context<'_>,
    ) -> Result<Weights, StageError> {
        let description = &material.dataset.description;
        let (steps, batch) = (self.steps.get(), self.batch.get());
        let (width, latent) = (description.coordinates.width(), generator.inputs());
        let reals = material.reals(&Derived::default(), self.strata.as_ref(), batch)?;
        let mut weights = context.streams.stream("weights");
        let encoder = Weights::fresh(mlp(width + latent, &HIDDEN, latent), &mut weights);
        let net = Weights::fresh(mlp(width + latent, &HIDDEN, 1), &mut weights);
        let discriminator = Discriminator { derived: Derived::default(), net };
        let dropout = context.streams.stream("discriminator dropout");
        let loss = Loss::from(&self.loss);
        let adversary = Adversary::new(&discriminator, loss, &self.optimizer, steps, &material.device, dropout);
        let inversion = Inversion {
            description,
            reals: &reals,
            generator,
            steps,
            batch,
            optimizer: &self.optimizer,
            ema: self.ema.get(),
            device: &material.device,
        };
        let streams = context.streams.clone();
        Ok(invert::train(&inversion, &encoder, adversary, &streams, &mut training::session(context, steps)?)?)
    }
}

/// The mean weight and effective sample size under h, and the tail rates under N, q_T's encodings and h.
fn measure(
    proposal: &Proposal,
    generator: &Weights,
    points: &[f32],
    material: &Material,
    context: &mut Context<'_>,
) -> Result<Metrics, StageError> {
    let (z, weights) = proposal.draw(5 * FIT_VECTORS, &mut context.streams.stream("measure"));
    let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
    let sum: f64 = weights.iter().sum();
    let mean = sum / weights.len() as f64;
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    let deviation = ((squares / weights.len() as f64 - mean * mean) / weights.len() as f64).sqrt();
    if (mean - 1.0).abs() > 6.0 * deviation + 1e-3 {
        return Err(StageError::Unusable(format!(
            "the weights of the proposal average to {mean:.4} where they must to 1: the fit of the Gaussians failed; use \
             fewer `gaussians`"
        )));
    }
    let net = Network::new(generator, &material.device);
    let rate = |z: &[f32]| -> Result<Vec<f64>, StageError> {
        let latent = generator.inputs();
        let rows = burn::tensor::TensorData::new(z.to_vec(), [z.len() / latent, latent]);
        let rows = burn::tensor::Tensor::<2>::from_data(rows, &material.device);
        let made = host(net.forward(rows, &mut Pass::evaluation()))?;
        material.tail_values(&made, context)
    };
    let above = material.dataset.description.tail.as_ref().map_or(f64::INFINITY, |tail| tail.above);
    let share = |values: &[f64]| values.iter().filter(|&&v| v > above).count() as f64 / values.len() as f64;
    let values = rate(&z)?;
    let weighted = values.iter().zip(&weights).filter(|(value, _)| **value > above).map(|(_, w)| w).sum::<f64>() / sum;
    let alone = StoredModel {
        description: material.dataset.description.clone(),
        components: vec![Component::new(1.0, generator.clone())],
        discriminator: None,
        ratios: Vec::new(),
    };
    let plain = Model::new(&alone, context.device)?;
    let plain = plain.sample_encoded(5 * FIT_VECTORS, &mut context.streams.stream("plain"))?;
    let (of_model, of_encoded) = (share(&material.tail_values(&plain, context)?), share(&rate(points)?));
    let of_proposal = share(&values);
    if of_proposal < 2.0 * of_model {
        context.notice(format!(
            "the proposal leads to the tail in {:.2} % of its draws, N(0, I) in {:.2} %: the inversion has found little; \
             train it longer",
            of_proposal * 100.0,
            of_model * 100.0
        ));
    }
    Ok(Metrics::from([
        ("weights.mean".to_owned(), mean),
        ("weights.effective_share".to_owned(), sum * sum / squares / weights.len() as f64),
        ("tail_rate.model".to_owned(), of_model),
        ("tail_rate.encoded".to_owned(), of_encoded),
        ("tail_rate.proposal".to_owned(), of_proposal),
        ("tail_rate.proposal_weighted".to_owned(), weighted),
    ]))
}

/// Writes the artifact.
fn save(proposal: &Proposal, folder: &Path) -> Result<(), StageError> {
    let path = folder.join(Invert::FILE);
    let file = ProposalFile { format: FORMAT, proposal: proposal.clone() };
    let json = serde_json::to_vec_pretty(&file).map_err(|error| StageError::Artifact(error.to_string()))?;
    std::fs::write(&path, json).map_err(StageError::io(&path))
}

/// Reads a proposal artifact.
pub(super) fn load(artifact: &Artifact) -> Result<Proposal, StageError> {
    let path = artifact.file(Invert::FILE)?;
    let bytes = std::fs::read(path).map_err(StageError::io(path))?;
    let bad = |why: String| StageError::Artifact(format!("{}: {why}", path.display()));
    let file: ProposalFile = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if file.format != FORMAT {
        return Err(bad(format!("format {} is not {FORMAT}", file.format)));
    }
    if !file.proposal.is_sound() {
        return Err(bad("the numbers make no density".into()));
    }
    Ok(file.proposal)
}
