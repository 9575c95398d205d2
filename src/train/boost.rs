//! Boosting: a second generator G1 in a mixture m = p G + q G1 with a frozen base G, by component importance sampling.
//!
//! A share κ of the fakes comes from G1, with weight q/κ; the rest from G, with weight p/(1 − κ) (SCIENCE, section 2). So G1 is
//! drawn often and weighs little, and the discriminator still sees the mixture. G is constant in G1's parameters: the step of
//! G1 draws nothing from it.

use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    LOG_EVERY, Report, TrainError,
    adversary::Adversary,
    config::OptimizerConfig,
    finite,
    gan::{Randomness, check},
    guard::{Fakes, Guard},
    latents::{LatentSampling, Latents},
    optimizer::{Average, Optimizer},
    reals::{Batch, Reals},
    tempering::Tempering,
    weigher::{Weigher, real_sample, rows},
};
use crate::{
    data::Description,
    model::{Discriminator, Model, Network, Pass, Traced, Weights},
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

/// Trains G1 and q.
pub fn train(
    training: &BoostTraining<'_>,
    candidate: &Weights,
    mut adversary: Adversary,
    streams: &Streams,
    report: Report<'_>,
) -> Result<Boosted, TrainError> {
    let &BoostTraining { description, reals, base, steps, batch, device, .. } = training;
    let from_candidate = ((training.share * batch as f64).round() as usize).clamp(1, batch.saturating_sub(1).max(1));
    let from_base = batch - from_candidate;
    if from_base == 0 {
        return Err(TrainError::Unusable("boosting needs a batch of at least 2 events".into()));
    }
    let kappa = from_candidate as f64 / batch as f64;
    let mut random = Randomness::new(streams);
    let mut base_noise = streams.stream("base noise");
    let mut latents = Latents::new(training.latents, training.latent, description, streams, device)?;
    let mut net = Network::new(candidate, device);
    let mut optimizer = Optimizer::new(training.optimizer, steps);
    let mut average = Average::new(&net, training.ema);
    let sample = real_sample(reals, &mut streams.stream("mixture weight"));
    let mut weigher = Weigher::new(training, &sample, streams);
    let mut guard = Guard::new(description, reals, &sample, streams, device)?;
    let mut tempering = Tempering::new(reals.strata(), description, adversary.loss().is_wasserstein(), streams);
    let mut q = training.weight;
    let mut watched = Vec::new();

    for step in 1..=steps {
        let real = reals.batch(&mut random.order, device);
        let base_rows = base.sample_encoded(from_base, &mut base_noise)?;
        let base_rows = rows(base_rows, description.coordinates.width(), device);
        let is_logged = step % LOG_EVERY == 0 || step == steps;
        let mut last = None;
        for _ in 0..adversary.loss().critic_steps {
            let drawn = latents.draw(from_candidate, &net, &mut random.noise)?;
            let mut pass = Pass::training(&mut random.dropout);
            let made = net.plain().forward(drawn.z, &mut pass);
            net.absorb(pass);
            let encoded = Tensor::cat(vec![base_rows.clone(), made], 0);
            let mut weights = component_weights(from_base, from_candidate, q, kappa);
            let of_latents = drawn.weights.iter().flatten();
            weights[from_base..].iter_mut().zip(of_latents).for_each(|(weight, of_latent)| *weight *= of_latent);
            let component = weights.clone();
            if let Some(tempering) = &mut tempering {
                weights.iter_mut().zip(tempering.weights(&encoded)?).for_each(|(weight, s)| *weight *= s);
            }
            let seen = adversary.see(description, encoded.clone())?;
            weigher.show(&seen, from_base);
            // Relativistic pairs join the i-th real and the i-th fake, and reals come ordered by stratum.
            let fake = shuffled(&seen, &weights, &mut random.order, device);
            last = Some((adversary.learn(&real, &fake, &mut random.order), encoded, component));
        }

        let drawn = latents.draw(batch, &net, &mut random.noise)?;
        let (loss, gradient) = {
            let (made, traced) = Traced::forward(&net, drawn.z.clone(), &mut Pass::training(&mut random.dropout));
            let (loss, slope) = adversary.judge(description, &real, made, drawn.weights(q, device))?;
            (loss, traced.parameters(slope))
        };
        optimizer.update(&mut net, gradient);
        average.update(&net);

        if let Some((d_loss, encoded, weights)) = last.filter(|_| is_logged) {
            let d_loss = finite(d_loss, step, "discriminator's loss")?;
            watched = vec![("d_loss", d_loss), ("g_loss", finite(loss, step, "generator's loss")?), ("q", q)];
            if let Some(guard) = &mut guard {
                watched.extend(guard.look(&adversary, &Fakes { encoded, weights: &weights, from_base })?);
            }
            report(step, &watched);
        }
        if training.rule != WeightRule::Fixed && step > training.warmup && step % training.every == 0 {
            let averaged = average.network(&net);
            q = weigher.next(q, [&net, &averaged], &adversary, &real, base_rows)?;
        }
    }
    let unreadable = || TrainError::Diverged { step: steps, what: "set of weights on the device" };
    let generator = average.network(&net).weights().ok_or_else(unreadable)?;
    check(&generator, steps)?;
    let effective_share = 1.0 / ((1.0 - q).powi(2) / (1.0 - kappa) + q * q / kappa);
    let discriminator = adversary.discriminator().ok_or_else(unreadable)?;
    Ok(Boosted { generator, discriminator, weight: q, effective_share, watched })
}

/// p/(1 − κ) for G's fakes, then q/κ for G1's: their mean is 1.
fn component_weights(from_base: usize, from_candidate: usize, q: f64, kappa: f64) -> Vec<f32> {
    let (base, candidate) = (((1.0 - q) / (1.0 - kappa)) as f32, (q / kappa) as f32);
    std::iter::repeat_n(base, from_base).chain(std::iter::repeat_n(candidate, from_candidate)).collect()
}

/// The rows and their weights in a random order.
fn shuffled(rows: &Tensor<2>, weights: &[f32], rng: &mut ChaCha8Rng, device: &Device) -> Batch {
    let size = weights.len();
    let mut order: Vec<usize> = (0..size).collect();
    for last in (1..size).rev() {
        order.swap(last, rng.random_range(0..=last));
    }
    let weights: Vec<f32> = order.iter().map(|&i| weights[i]).collect();
    let order: Vec<i32> = order.into_iter().map(|i| i as i32).collect();
    let order = Tensor::<1, burn::tensor::Int>::from_data(TensorData::new(order, [size]), device);
    Batch {
        rows: rows.clone().select(0, order),
        weights: Tensor::from_data(TensorData::new(weights, [size, 1]), device),
    }
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
