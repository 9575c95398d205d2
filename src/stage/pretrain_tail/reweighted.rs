//! A candidate by an ordinary GAN on reweighted data: AdaGAN's weights, or those of the residual.

use super::{Method, PretrainTail, Start};
use crate::{
    model::{
        Derived, Discriminator, Model, Network, Rows, StoredModel, Weights, architecture, freeze::freeze,
        ratio::log_ratios,
    },
    stage::{
        Context, Metrics, StageError,
        training::{self, Material},
    },
    train::{
        adagan::{EventWeights, adagan, residual},
        adversary::{Adversary, Loss},
        config::{DiscriminatorConfig, OptimizerConfig},
        gan::{self, GanTraining},
        latents::LatentSampling,
        ratio::{self, RatioTraining},
        reals::{Reals, Strata},
    },
    value::{NonNegative, OpenProbability, Steps},
};

/// γ of the classifier's gradient penalty: the ratio must not follow single events.
const PENALTY: f64 = 0.01;
/// Decay of the moving average of the classifier's weights.
const CLASSIFIER_EMA: f64 = 0.99;

/// The candidate's generator, with metrics.
pub(super) fn train(
    stage: &PretrainTail,
    material: &Material,
    like: &StoredModel,
    [base, fresh]: [&Weights; 2],
    context: &mut Context<'_>,
) -> Result<(Weights, Metrics), StageError> {
    let (steps, batch) = (stage.steps.map_or(0, Steps::get), stage.batch.get());
    let description = &material.dataset.description;
    let discriminator = discriminator(stage, like, description.coordinates.width(), context);
    let derived = &discriminator.derived;

    let (h, mut metrics) = ratios(stage, material, like, derived, context)?;
    let weights = event_weights(stage, &h)?;
    metrics.extend([
        ("weights.lambda".to_owned(), weights.lambda),
        ("weights.effective_share".to_owned(), weights.effective_share()),
        ("weights.kept_share".to_owned(), weights.kept_share()),
    ]);
    if let Some(in_tail) = description.are_in_tail(&material.dataset.train)? {
        let tail = weights.weights.iter().zip(in_tail).filter(|(_, in_tail)| *in_tail).map(|(weight, _)| weight);
        metrics.insert("weights.tail_mass".to_owned(), tail.sum());
    }

    let strata = Strata::weighted(&weights.weights, batch);
    let reals = Reals::new(material.seen(derived)?, derived.flips(description), strata);
    let dropout = context.streams.stream("discriminator dropout");
    let loss = Loss::from(&stage.loss);
    let adversary = Adversary::new(&discriminator, loss, &stage.optimizer, steps, &material.device, dropout);
    let training = GanTraining {
        description,
        reals: &reals,
        steps,
        batch,
        optimizer: &stage.optimizer,
        ema: stage.ema.get(),
        latents: LatentSampling::Normal,
        device: &material.device,
    };
    let streams = context.streams.clone();
    let start = if stage.start == Start::Copy { base } else { fresh };
    let (generator, _) = gan::train(&training, start, adversary, &streams, &mut training::session(context, steps)?)?;
    Ok((freeze(&generator), metrics))
}

/// The model's own discriminator to go on from, or a fresh one of the same nets.
fn discriminator(stage: &PretrainTail, like: &StoredModel, width: usize, context: &Context<'_>) -> Discriminator {
    let (derived, layers) = match &like.discriminator {
        Some(discriminator) if stage.start == Start::Copy => return discriminator.clone(),
        Some(discriminator) => (discriminator.derived.clone(), discriminator.net.layers.clone()),
        None => (Derived::default(), architecture::discriminator(&DiscriminatorConfig::default(), width)),
    };
    Discriminator { derived, net: Weights::fresh(layers, &mut context.streams.stream("discriminator")) }
}

/// The weights of the stage's method.
fn event_weights(stage: &PretrainTail, h: &[f64]) -> Result<EventWeights, StageError> {
    let Some(weight) = stage.weight.map(OpenProbability::get) else {
        return Err(StageError::Unusable("this method needs the `weight` that the candidate is meant for".into()));
    };
    if stage.method == Method::Adagan {
        return Ok(adagan(h, weight));
    }
    residual(h, weight).ok_or_else(|| {
        let message = "the model makes enough of every training event, so the residual is empty; raise `weight`";
        StageError::Unusable(message.into())
    })
}

/// h = g/r at each training event, from a classifier between real events and the model's.
fn ratios(
    stage: &PretrainTail,
    material: &Material,
    like: &StoredModel,
    derived: &Derived,
    context: &mut Context<'_>,
) -> Result<(Vec<f64>, Metrics), StageError> {
    let description = &material.dataset.description;
    let validation = &material.dataset.validation;
    if validation.is_empty() {
        let message =
            "this method needs validation events to stop its classifier by; raise `split.validation` of the dataset";
        return Err(StageError::Unusable(message.into()));
    }
    let model = Model::new(like, context.device)?;
    let pool = model.sample_encoded(2 * material.dataset.train.len(), &mut context.streams.stream("pool"))?;
    let held_out = model.sample_encoded(validation.len(), &mut context.streams.stream("held out"))?;
    let drawn = |rows: Rows| {
        let strata = Strata::all(rows.len(), stage.batch.get());
        Reals::new(rows, derived.flips(description), strata)
    };
    let (reals, fakes) = (drawn(material.seen(derived)?), drawn(derived.append(description, &pool)?));
    let validation = derived.append(description, &description.coordinates.encode(&validation.table()?)?)?;
    let layers = architecture::discriminator(&DiscriminatorConfig::default(), reals.rows().width);
    let net = Weights::fresh(layers, &mut context.streams.stream("classifier"));
    let classifier = Discriminator { derived: derived.clone(), net };
    let (steps, device, streams) = (stage.classifier_steps.get(), material.device.clone(), context.streams.clone());
    let training = RatioTraining {
        reals: &reals,
        fakes: &fakes,
        held_out: [&validation, &derived.append(description, &held_out)?],
        penalty: NonNegative::try_from(PENALTY).unwrap_or_else(|_| unreachable!("a constant above 0")),
        steps,
        optimizer: &OptimizerConfig::default(),
        ema: CLASSIFIER_EMA,
        device: &device,
    };
    let trained = ratio::train(&training, &classifier, &streams, &mut training::session(context, steps)?)?;
    let logits = if trained.step == 0 {
        context.notice(
            "on validation events the classifier never told real events from the model's better than by chance: all training \
             events weigh the same",
        );
        vec![0.0; reals.rows().len()]
    } else {
        log_ratios(&Network::new(&trained.weights, &device), derived, description, &material.encoded)?
    };
    let h = logits.into_iter().map(|logit| f64::from(-logit).exp()).collect();
    Ok((h, Metrics::from([("classifier.held_out_loss".to_owned(), trained.loss)])))
}
