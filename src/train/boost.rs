//! Boosting: a second generator G1 in a mixture m = p G + q G1 with a frozen base G, by component importance sampling.
//!
//! A share κ of the fakes comes from G1, with weight q/κ; the rest from G, with weight p/(1 − κ) (SCIENCE, section 2). So G1 is
//! drawn often and weighs little, and the discriminator still sees the mixture. G is constant in G1's parameters: the step of
//! G1 draws nothing from it.

use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::{
    LOG_EVERY, TrainError,
    adversary::{Adversary, LossValue},
    archive::state,
    bank::Bank,
    checkpoint::Session,
    config::OptimizerConfig,
    finite,
    gan::{Randomness, check, effective_share},
    guard::{Fakes, Guard},
    latents::{LatentSampling, Latents},
    optimizer::{Average, Optimizer},
    reals::{Batch, Reals},
    tempering::Tempering,
    weigher::{Weigher, real_sample},
};
use crate::{
    data::Description,
    model::{
        Discriminator, Model, Network, Pass, Traced, Weights,
        transfer::{permutation, upload},
    },
    rng::Streams,
};

/// The rule for q while G1 is trained, with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WeightRule {
    /// Stays.
    Fixed,
    /// Gives the mixture the real tail mass.
    Moments {
        /// τ_r.
        real: f64,
        /// τ_G.
        base: f64,
    },
    /// Expectation-maximisation on real data.
    Em,
    /// Gradient descent on a = logit q with this rate.
    Adversarial(f64),
}

/// What the loop needs to know.
pub struct BoostTraining<'a> {
    /// What the events are.
    pub description: &'a Description,
    /// Real training events.
    pub reals: &'a Reals,
    /// G.
    pub base: &'a Model,
    /// Generator steps.
    pub steps: u64,
    /// Events in a batch.
    pub batch: usize,
    /// κ.
    pub share: f64,
    /// The first q.
    pub weight: f64,
    /// How q changes.
    pub rule: WeightRule,
    /// q stays above this.
    pub floor: f64,
    /// logit q changes by no more than this at an update.
    pub trust: f64,
    /// Numbers in G1's latent vector.
    pub latent: usize,
    /// Steps between updates of q.
    pub every: u64,
    /// Steps during which q stays.
    pub warmup: u64,
    /// G1's optimiser.
    pub optimizer: &'a OptimizerConfig,
    /// Decay of the moving average of G1's weights.
    pub ema: f64,
    /// How G1's latent vectors are drawn.
    pub latents: LatentSampling<'a>,
    /// Where tensors live, without autodiff.
    pub device: &'a Device,
}

/// What boosting has made.
pub struct Boosted {
    /// G1's averaged weights.
    pub generator: Weights,
    /// The discriminator.
    pub discriminator: Discriminator,
    /// q.
    pub weight: f64,
    /// Effective share of a batch of fakes: n_eff / n by the component weights.
    pub effective_share: f64,
    /// What was watched, at the last step.
    pub watched: Vec<(&'static str, f64)>,
}

/// All that changes from step to step.
struct Boosting<'a> {
    random: Randomness,
    base: Bank<'a>,
    latents: Latents<'a>,
    net: Network,
    optimizer: Optimizer,
    average: Average,
    adversary: Adversary,
    weigher: Weigher<'a>,
    guard: Option<Guard<'a>>,
    tempering: Option<Tempering<'a>>,
    q: f64,
}

state!(Boosting<'_> {
    random, base, latents, net, optimizer, average, adversary, weigher, guard, tempering, q
});

/// How a batch of fakes is made up.
#[derive(Clone, Copy)]
struct Composition {
    from_base: usize,
    from_candidate: usize,
}

impl Composition {
    /// A share κ of the batch comes from G1, as nearly as whole events allow.
    fn of(batch: usize, share: f64) -> Result<Self, TrainError> {
        let from_candidate = ((share * batch as f64).round() as usize).clamp(1, batch.saturating_sub(1).max(1));
        if batch == from_candidate {
            return Err(TrainError::Unusable("boosting needs a batch of at least 2 events".into()));
        }
        Ok(Self { from_base: batch - from_candidate, from_candidate })
    }

    fn kappa(self) -> f64 {
        self.from_candidate as f64 / (self.from_base + self.from_candidate) as f64
    }
}

/// Trains G1 and q.
pub fn train(
    training: &BoostTraining<'_>,
    candidate: &Weights,
    adversary: Adversary,
    streams: &Streams,
    session: &mut Session<'_>,
) -> Result<Boosted, TrainError> {
    let steps = training.steps;
    let composition = Composition::of(training.batch, training.share)?;
    let mut boosting = Boosting::new(training, composition, candidate, adversary, streams)?;
    let mut watched = Vec::new();
    for step in session.resume("boost", steps, &mut boosting)? + 1..=steps {
        session.keep("boost", step - 1, &mut boosting);
        let done = boosting.step(training, composition)?;
        if step % LOG_EVERY == 0 || step == steps {
            watched = boosting.watch(&done, composition, step)?;
            session.report(step, &watched);
        }
        if training.rule != WeightRule::Fixed && step > training.warmup && step % training.every == 0 {
            boosting.reweigh(done)?;
        }
    }
    let Boosting { net, average, adversary, q, .. } = boosting;
    let unreadable = || TrainError::Diverged { step: steps, what: "set of weights on the device" };
    let generator = average.network(&net).weights().ok_or_else(unreadable)?;
    check(&generator, steps)?;
    let kappa = composition.kappa();
    let effective_share = 1.0 / ((1.0 - q).powi(2) / (1.0 - kappa) + q * q / kappa);
    let discriminator = adversary.discriminator().ok_or_else(unreadable)?;
    Ok(Boosted { generator, discriminator, weight: q, effective_share, watched })
}

/// What a step leaves to look at.
struct Done {
    d_loss: LossValue,
    g_loss: LossValue,
    /// What the discriminator saw last.
    real: Batch,
    fake: Batch,
    /// G's fakes, encoded.
    base: Tensor<2>,
    /// All fakes, encoded, those of G first, with their weights of components and latent vectors.
    fakes: Tensor<2>,
    weights: Vec<f32>,
}

impl<'a> Boosting<'a> {
    fn new(
        training: &'a BoostTraining<'a>,
        composition: Composition,
        candidate: &Weights,
        adversary: Adversary,
        streams: &Streams,
    ) -> Result<Self, TrainError> {
        let &BoostTraining { description, reals, steps, device, .. } = training;
        let net = Network::new(candidate, device);
        let sample = real_sample(reals, &mut streams.stream("mixture weight"));
        Ok(Self {
            random: Randomness::new(streams),
            base: Bank::new(training.base, composition.from_base, streams.stream("base noise"), device),
            latents: Latents::new(training.latents, training.latent, description, streams, device)?,
            optimizer: Optimizer::new(training.optimizer, steps),
            average: Average::new(&net, training.ema),
            weigher: Weigher::new(training, &sample, streams),
            guard: Guard::new(description, reals, &sample, streams, device)?,
            tempering: Tempering::new(reals.strata(), description, adversary.loss().is_wasserstein(), streams),
            q: training.weight,
            net,
            adversary,
        })
    }

    /// One step of G1 after those of the discriminator.
    fn step(&mut self, training: &BoostTraining<'_>, composition: Composition) -> Result<Done, TrainError> {
        let &BoostTraining { description, reals, batch, device, .. } = training;
        let Composition { from_base, from_candidate } = composition;
        let Self { random, latents, net, adversary, .. } = self;
        let real = reals.batch(&mut random.order, device);
        let base = self.base.take()?;
        let mut seen_by_critic = None;
        for _ in 0..adversary.loss().critic_steps {
            let drawn = latents.draw(from_candidate, net, &mut random.noise)?;
            let mut pass = Pass::training(&mut random.dropout);
            let made = net.forward(drawn.z, &mut pass);
            net.absorb(pass);
            let fakes = Tensor::cat(vec![base.clone(), made], 0);
            let mut weights = component_weights(from_base, from_candidate, self.q, composition.kappa());
            let of_latents = drawn.weights.iter().flatten();
            weights[from_base..].iter_mut().zip(of_latents).for_each(|(weight, of_latent)| *weight *= of_latent);
            let component = weights.clone();
            if let Some(tempering) = &mut self.tempering {
                weights.iter_mut().zip(tempering.weights(&fakes)?).for_each(|(weight, s)| *weight *= s);
            }
            let seen = adversary.see(description, fakes.clone())?;
            self.weigher.show(&seen, from_base);
            // Relativistic pairs join the i-th real and the i-th fake, and reals come ordered by stratum.
            let fake = shuffled(&seen, &weights, &mut random.order, device);
            seen_by_critic = Some((adversary.learn(&real, &fake, &mut random.order)?, fake, fakes, component));
        }
        let Some((d_loss, fake, fakes, weights)) = seen_by_critic else {
            return Err(TrainError::Unusable("boosting needs at least one step of its discriminator".into()));
        };

        let drawn = latents.draw(batch, net, &mut random.noise)?;
        let (g_loss, gradient) = {
            let (made, traced) = Traced::forward(net, drawn.z.clone(), &mut Pass::passing(&mut random.dropout));
            let (loss, slope) = adversary.judge(description, &real, made, drawn.weights(self.q, device))?;
            (loss, traced.parameters(slope))
        };
        self.optimizer.update(net, gradient);
        self.average.update(net);
        Ok(Done { d_loss, g_loss, real, fake, base, fakes, weights })
    }

    /// The losses, q, what the discriminator makes of the batch, what the guard finds, the effective share of the fakes, and the learning
    /// rate.
    fn watch(
        &mut self,
        done: &Done,
        composition: Composition,
        step: u64,
    ) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let d_loss = finite(done.d_loss.number(), step, "discriminator's loss")?;
        let g_loss = finite(done.g_loss.number(), step, "generator's loss")?;
        let mut watched = vec![("d_loss", d_loss), ("g_loss", g_loss), ("q", self.q)];
        watched.extend(self.adversary.look(&done.real, &done.fake, &self.random.order)?);
        if let Some(guard) = &mut self.guard {
            let fakes = Fakes { encoded: done.fakes.clone(), weights: &done.weights, from_base: composition.from_base };
            watched.extend(guard.look(&self.adversary, &fakes)?);
        }
        watched.push(("effective_share", effective_share(&done.weights)));
        watched.push(("learning_rate", self.optimizer.learning_rate()));
        Ok(watched)
    }

    /// The next q.
    fn reweigh(&mut self, done: Done) -> Result<(), TrainError> {
        let averaged = self.average.network(&self.net);
        self.q = self.weigher.next(self.q, [&self.net, &averaged], &self.adversary, &done.real, done.base)?;
        Ok(())
    }
}

/// p/(1 − κ) for G's fakes, then q/κ for G1's: their mean is 1.
fn component_weights(from_base: usize, from_candidate: usize, q: f64, kappa: f64) -> Vec<f32> {
    let (base, candidate) = (((1.0 - q) / (1.0 - kappa)) as f32, (q / kappa) as f32);
    std::iter::repeat_n(base, from_base).chain(std::iter::repeat_n(candidate, from_candidate)).collect()
}

/// The rows and their weights in a random order.
fn shuffled(rows: &Tensor<2>, weights: &[f32], rng: &mut ChaCha8Rng, device: &Device) -> Batch {
    let size = weights.len();
    let order = permutation(size, rng, device);
    let weights: Tensor<2> = upload(weights.to_vec(), [size, 1], device);
    Batch { rows: rows.clone().select(0, order.clone()), weights: weights.select(0, order) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn component_weights_average_to_one_whatever_is_drawn() {
        for (base, candidate, q) in [(128, 128, 0.02), (64, 192, 0.3), (200, 56, 0.9)] {
            let kappa = candidate as f64 / (base + candidate) as f64;
            let weights = component_weights(base, candidate, q, kappa);
            let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            assert!((sum / (base + candidate) as f64 - 1.0).abs() < 1e-6);
            let candidate_share: f64 = weights[base..].iter().map(|&w| f64::from(w)).sum::<f64>() / sum;
            assert!((candidate_share - q).abs() < 1e-6);
        }
    }
}
