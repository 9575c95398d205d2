//! The adversarial loop of one generator against a discriminator.

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{
    LOG_EVERY, Report, TrainError,
    adversary::Adversary,
    config::OptimizerConfig,
    finite,
    latents::{LatentSampling, Latents},
    optimizer::{Average, Optimizer},
    reals::{Batch, Reals},
    tempering::{Tempering, fake_weights},
};
use crate::{
    data::Description,
    model::{Discriminator, Network, Pass, Traced, Weights, noise},
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

impl Randomness {
    pub(super) fn new(streams: &Streams) -> Self {
        Self { order: streams.stream("order"), noise: streams.stream("noise"), dropout: streams.stream("dropout") }
    }
}

/// Latent vectors `[batch, latent]`, outside of autodiff.
pub(super) fn latent(batch: usize, width: usize, rng: &mut ChaCha8Rng, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(noise(batch * width, rng), [batch, width]), device)
}

/// Trains a generator; returns its averaged weights, and the discriminator.
pub fn train(
    training: &GanTraining<'_>,
    generator: &Weights,
    mut adversary: Adversary,
    streams: &Streams,
    report: Report<'_>,
) -> Result<(Weights, Discriminator), TrainError> {
    let &GanTraining { description, reals, steps, batch, device, .. } = training;
    let mut random = Randomness::new(streams);
    let mut latents = Latents::new(training.latents, generator.inputs(), description, streams, device)?;
    let mut net = Network::new(generator, device);
    let mut optimizer = Optimizer::new(training.optimizer, steps);
    let mut average = Average::new(&net, training.ema);
    let mut tempering = Tempering::new(reals.strata(), description, adversary.loss().is_wasserstein(), streams);

    for step in 1..=steps {
        let mut real = reals.batch(&mut random.order, device);
        let mut d_loss = None;
        for critic_step in 0..adversary.loss().critic_steps {
            if critic_step > 0 {
                real = reals.batch(&mut random.order, device);
            }
            let drawn = latents.draw(batch, &net, &mut random.noise)?;
            let mut pass = Pass::training(&mut random.dropout);
            let made = net.plain().forward(drawn.z.clone(), &mut pass);
            net.absorb(pass);
            let weights = fake_weights(tempering.as_mut(), &made, &drawn, device)?;
            let fake = Batch { rows: adversary.see(description, made)?, weights };
            d_loss = Some(adversary.learn(&real, &fake, &mut random.order));
        }

        let drawn = latents.draw(batch, &net, &mut random.noise)?;
        let (loss, gradient) = {
            let (made, traced) = Traced::forward(&net, drawn.z.clone(), &mut Pass::training(&mut random.dropout));
            let (loss, slope) = adversary.judge(description, &real, made, drawn.weights(1.0, device))?;
            (loss, traced.parameters(slope))
        };
        optimizer.update(&mut net, gradient);
        average.update(&net);

        if step % LOG_EVERY == 0 || step == steps {
            let d_loss = d_loss.map_or(Ok(0.0), |loss| finite(loss, step, "discriminator's loss"))?;
            report(step, &[("d_loss", d_loss), ("g_loss", finite(loss, step, "generator's loss")?)]);
        }
    }
    let unreadable = || TrainError::Diverged { step: steps, what: "set of weights on the device" };
    let generator = average.network(&net).weights().ok_or_else(unreadable)?;
    let discriminator = adversary.discriminator().ok_or_else(unreadable)?;
    check(&generator, steps)?;
    Ok((generator, discriminator))
}

/// Refuses weights that are not finite.
pub(super) fn check(weights: &Weights, step: u64) -> Result<(), TrainError> {
    let finite = weights.parameters.iter().chain(&weights.running).all(|value| value.is_finite());
    if finite { Ok(()) } else { Err(TrainError::Diverged { step, what: "set of generator weights" }) }
}
