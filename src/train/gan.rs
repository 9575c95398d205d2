//! The adversarial loop of one generator against a discriminator.

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{
    LOG_EVERY, TrainError,
    adversary::Adversary,
    archive::state,
    checkpoint::Session,
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

state!(Randomness { order, noise, dropout });

impl Randomness {
    pub(super) fn new(streams: &Streams) -> Self {
        Self { order: streams.stream("order"), noise: streams.stream("noise"), dropout: streams.stream("dropout") }
    }
}

/// Latent vectors `[batch, latent]`, outside of autodiff.
pub(super) fn latent(batch: usize, width: usize, rng: &mut ChaCha8Rng, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(noise(batch * width, rng), [batch, width]), device)
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
        let (d_loss, loss) = gan.step(training)?;
        if step % LOG_EVERY == 0 || step == steps {
            let d_loss = d_loss.map_or(Ok(0.0), |loss| finite(loss, step, "discriminator's loss"))?;
            session.report(step, &[("d_loss", d_loss), ("g_loss", finite(loss, step, "generator's loss")?)]);
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

    /// One step of the generator after those of the discriminator; returns both losses, the discriminator's last one.
    fn step(&mut self, training: &GanTraining<'_>) -> Result<(Option<Tensor<1>>, Tensor<1>), TrainError> {
        let &GanTraining { description, reals, batch, device, .. } = training;
        let Self { random, latents, net, optimizer, average, adversary, tempering } = self;
        let mut real = reals.batch(&mut random.order, device);
        let mut d_loss = None;
        for critic_step in 0..adversary.loss().critic_steps {
            if critic_step > 0 {
                real = reals.batch(&mut random.order, device);
            }
            let drawn = latents.draw(batch, net, &mut random.noise)?;
            let mut pass = Pass::training(&mut random.dropout);
            let made = net.forward(drawn.z.clone(), &mut pass);
            net.absorb(pass);
            let weights = fake_weights(tempering.as_mut(), &made, &drawn, device)?;
            let fake = Batch { rows: adversary.see(description, made)?, weights };
            d_loss = Some(adversary.learn(&real, &fake, &mut random.order));
        }

        let drawn = latents.draw(batch, net, &mut random.noise)?;
        let (loss, gradient) = {
            let (made, traced) = Traced::forward(net, drawn.z.clone(), &mut Pass::training(&mut random.dropout));
            let (loss, slope) = adversary.judge(description, &real, made, drawn.weights(1.0, device))?;
            (loss, traced.parameters(slope))
        };
        optimizer.update(net, gradient);
        average.update(net);
        Ok((d_loss, loss))
    }
}

/// Refuses weights that are not finite.
pub(super) fn check(weights: &Weights, step: u64) -> Result<(), TrainError> {
    let finite = weights.parameters.iter().chain(&weights.running).all(|value| value.is_finite());
    if finite { Ok(()) } else { Err(TrainError::Diverged { step, what: "set of generator weights" }) }
}
