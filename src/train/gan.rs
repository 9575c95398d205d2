//! The adversarial loop of one generator against a discriminator.

use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::{
    LOG_EVERY, TrainError,
    adversary::{Adversary, LossValue},
    archive::state,
    checkpoint::Session,
    config::OptimizerConfig,
    finite,
    latents::{LatentSampling, Latents},
    optimizer::{Average, Optimizer},
    reals::{Batch, Reals},
    tail::TailGauge,
    tempering::{Tempering, fake_weights},
};
use crate::{
    data::Description,
    model::{Discriminator, Network, Pass, Traced, Weights, derived::host},
    rng::Streams,
};

/// What the loop needs to know.
pub struct GanTraining<'a> {
    /// What the events are.
    pub description: &'a Description,
    /// Real training events.
    pub reals: &'a Reals,
    /// Generator steps.
    pub steps: u64,
    /// Events in a batch.
    pub batch: usize,
    /// The generator's optimiser.
    pub optimizer: &'a OptimizerConfig,
    /// Decay of the moving average of the generator's weights.
    pub ema: f64,
    /// How latent vectors are drawn.
    pub latents: LatentSampling<'a>,
    /// Where tensors live, without autodiff.
    pub device: &'a Device,
}

/// The random streams of an adversarial loop.
pub(super) struct Randomness {
    pub(super) order: ChaCha8Rng,
    pub(super) noise: ChaCha8Rng,
    pub(super) dropout: ChaCha8Rng,
}

state!(Randomness { order, noise, dropout });

impl Randomness {
    pub(super) fn new(streams: &Streams) -> Self {
        Self { order: streams.stream("order"), noise: streams.stream("noise"), dropout: streams.stream("dropout") }
    }
}

/// What a step leaves to look at.
struct Done {
    /// Of the discriminator's last step.
    d_loss: LossValue,
    g_loss: LossValue,
    /// What the discriminator saw last.
    real: Batch,
    fake: Batch,
    /// These fakes, encoded, and the weights of their latent vectors.
    made: Tensor<2>,
    weights: Option<Vec<f32>>,
}

/// All that changes from step to step.
struct Gan<'a> {
    random: Randomness,
    latents: Latents<'a>,
    net: Network,
    optimizer: Optimizer,
    average: Average,
    adversary: Adversary,
    tempering: Option<Tempering<'a>>,
}

state!(Gan<'_> { random, latents, net, optimizer, average, adversary, tempering });

/// Trains a generator; returns its averaged weights, and the discriminator.
pub fn train(
    training: &GanTraining<'_>,
    generator: &Weights,
    adversary: Adversary,
    streams: &Streams,
    session: &mut Session<'_>,
) -> Result<(Weights, Discriminator), TrainError> {
    let steps = training.steps;
    let mut gan = Gan::new(training, generator, adversary, streams)?;
    for step in session.resume("gan", steps, &mut gan)? + 1..=steps {
        session.keep("gan", step - 1, &mut gan);
        let done = gan.step(training)?;
        if step % LOG_EVERY == 0 || step == steps {
            session.report(step, &gan.watch(&done, training, streams, step)?);
        }
    }
    session.finish("gan", steps, &mut gan);
    let unreadable = || TrainError::Diverged { step: steps, what: "set of weights on the device" };
    let generator = gan.average.network(&gan.net).weights().ok_or_else(unreadable)?;
    let discriminator = gan.adversary.discriminator().ok_or_else(unreadable)?;
    check(&generator, steps)?;
    Ok((generator, discriminator))
}

impl<'a> Gan<'a> {
    fn new(
        training: &GanTraining<'a>,
        generator: &Weights,
        adversary: Adversary,
        streams: &Streams,
    ) -> Result<Self, TrainError> {
        let &GanTraining { description, reals, steps, device, .. } = training;
        let net = Network::new(generator, device);
        Ok(Self {
            random: Randomness::new(streams),
            latents: Latents::new(training.latents, generator.inputs(), description, streams, device)?,
            optimizer: Optimizer::new(training.optimizer, steps),
            average: Average::new(&net, training.ema),
            tempering: Tempering::new(reals.strata(), description, adversary.loss().is_wasserstein(), streams),
            net,
            adversary,
        })
    }

    /// One step of the generator after those of the discriminator.
    fn step(&mut self, training: &GanTraining<'_>) -> Result<Done, TrainError> {
        let &GanTraining { description, reals, batch, device, .. } = training;
        let Self { random, latents, net, optimizer, average, adversary, tempering } = self;
        let mut real = reals.batch(&mut random.order, device);
        let mut seen_by_critic = None;
        for critic_step in 0..adversary.loss().critic_steps {
            if critic_step > 0 {
                real = reals.batch(&mut random.order, device);
            }
            let drawn = latents.draw(batch, net, &mut random.noise)?;
            let mut pass = Pass::training(&mut random.dropout);
            let made = net.forward(drawn.z.clone(), &mut pass);
            net.absorb(pass);
            let weights = fake_weights(tempering.as_mut(), &made, &drawn, device)?;
            let fake = Batch { rows: adversary.see(description, made.clone())?, weights };
            let d_loss = adversary.learn(&real, &fake, &mut random.order)?;
            seen_by_critic = Some((d_loss, fake, made, drawn.weights));
        }
        let Some((d_loss, fake, made, weights)) = seen_by_critic else {
            return Err(TrainError::Unusable("training needs at least one step of the discriminator".into()));
        };

        let drawn = latents.draw(batch, net, &mut random.noise)?;
        let (g_loss, gradient) = {
            let (made, traced) = Traced::forward(net, drawn.z.clone(), &mut Pass::passing(&mut random.dropout));
            let (loss, slope) = adversary.judge(description, &real, made, drawn.weights(1.0, device))?;
            (loss, traced.parameters(slope))
        };
        optimizer.update(net, gradient);
        average.update(net);
        Ok(Done { d_loss, g_loss, real, fake, made, weights })
    }

    /// The losses, what the discriminator makes of the batch, the tail's share of what was generated, the effective share of the fakes
    /// where latent vectors have weights, and the learning rate. Nothing changes by it.
    fn watch(
        &self,
        done: &Done,
        training: &GanTraining<'_>,
        streams: &Streams,
        step: u64,
    ) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let mut watched = vec![
            ("d_loss", finite(done.d_loss.number(), step, "discriminator's loss")?),
            ("g_loss", finite(done.g_loss.number(), step, "generator's loss")?),
        ];
        watched.extend(self.adversary.look(&done.real, &done.fake, &self.random.order)?);
        if let Some(mut gauge) = TailGauge::new(training.description, streams) {
            watched.push(("tail_share", gauge.share(&host(done.made.clone())?, done.weights.as_deref())?));
        }
        watched.extend(done.weights.as_ref().map(|weights| ("effective_share", effective_share(weights))));
        watched.push(("learning_rate", self.optimizer.learning_rate()));
        Ok(watched)
    }
}

/// Effective sample size over the number of events: (Σw)² / (n Σw²).
pub(super) fn effective_share(weights: &[f32]) -> f64 {
    let sum = |power| weights.iter().map(|&w| f64::from(w).powi(power)).sum::<f64>();
    sum(1).powi(2) / (weights.len() as f64 * sum(2))
}

/// Refuses weights that are not finite.
pub(super) fn check(weights: &Weights, step: u64) -> Result<(), TrainError> {
    let finite = weights.parameters.iter().chain(&weights.running).all(|value| value.is_finite());
    if finite { Ok(()) } else { Err(TrainError::Diverged { step, what: "set of generator weights" }) }
}
