//! How the mixture weight q changes while the second generator is trained.

use burn::tensor::Tensor;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    TrainError,
    adversary::Adversary,
    archive::state,
    boost::{BoostTraining, WeightRule},
    mixture::{ComponentClassifier, TailMasses, expectation_maximisation},
    reals::{Batch, Reals},
    tail::TailGauge,
};
use crate::{
    model::{Network, Pass, derived::host, transfer::normal},
    rng::Streams,
};

/// EM iterations at each update of q.
const EM_ITERATIONS: usize = 10;
/// Real events that an update of q looks at.
const EM_EVENTS: usize = 16_384;
/// Events of G1 that its tail mass is measured on at each update by moments.
const MASS_EVENTS: usize = 8192;

/// Holds what an update of q needs.
pub(super) struct Weigher<'a> {
    training: &'a BoostTraining<'a>,
    classifier: Option<ComponentClassifier>,
    /// Real events as the discriminator sees them.
    sample: Vec<f32>,
    gauge: Option<TailGauge<'a>>,
    noise: ChaCha8Rng,
}

state!(Weigher<'_> { classifier, gauge, noise });

impl<'a> Weigher<'a> {
    /// For this training; `sample` are indices of real events that were drawn without strata.
    pub(super) fn new(training: &'a BoostTraining<'a>, sample: &[usize], streams: &Streams) -> Self {
        let rows = training.reals.rows();
        let is_em = training.rule == WeightRule::Em;
        let classifier = is_em.then(|| {
            let mut rng = streams.stream("classifier");
            ComponentClassifier::new(rows.width, training.steps, &mut rng, training.device)
        });
        let sample = if is_em { sample.iter().flat_map(|&i| rows.row(i)).copied().collect() } else { Vec::new() };
        let gauge = TailGauge::new(training.description, streams);
        Self { training, classifier, sample, gauge, noise: streams.stream("weight noise") }
    }

    /// Shows fakes to the classifier of EM, the first `from_base` of which are G's.
    pub(super) fn show(&mut self, fakes: &Tensor<2>, from_base: usize) {
        if let Some(classifier) = &mut self.classifier {
            classifier.learn(fakes, from_base);
        }
    }

    /// The next q. `candidate` is G1 as it is trained, `averaged` its moving average.
    pub(super) fn next(
        &mut self,
        q: f64,
        [candidate, averaged]: [&Network; 2],
        adversary: &Adversary,
        real: &Batch,
        base: Tensor<2>,
    ) -> Result<f64, TrainError> {
        let &BoostTraining { description, batch, device, floor, trust, .. } = self.training;
        let proposed = match (self.training.rule, &self.classifier, &mut self.gauge) {
            (WeightRule::Em, Some(classifier), _) => {
                let ratios = classifier.log_ratios(&self.sample, self.training.reals.rows().width)?;
                expectation_maximisation(q, &ratios, floor, EM_ITERATIONS)
            }
            (WeightRule::Adversarial(rate), ..) => {
                let z = normal([batch, self.training.latent], &mut self.noise, device);
                let made = adversary.see(description, candidate.forward(z, &mut Pass::evaluation()))?;
                let seen = adversary.see(description, base)?;
                let d_real = adversary.logits(real.rows.clone());
                let signal = |rows| host(adversary.weight_signal(adversary.logits(rows), d_real.clone()));
                let (g1, g) = (signal(made)?[0], signal(seen)?[0]);
                adversarial_step(q, f64::from(g1 - g), rate * self.training.every as f64)
            }
            (WeightRule::Moments { real, base }, _, Some(gauge)) => {
                let z = normal([MASS_EVENTS, self.training.latent], &mut self.noise, device);
                let made = host(averaged.forward(z, &mut Pass::evaluation()))?;
                let masses = TailMasses { real, base, candidate: gauge.mass(&made)? };
                masses.initial_weight().unwrap_or(q)
            }
            _ => q,
        };
        Ok(within(q, proposed, trust).clamp(floor, 1.0 - floor))
    }
}

/// The proposed weight, no further than `trust` from the old one on the scale of logit q.
fn within(q: f64, proposed: f64, trust: f64) -> f64 {
    let logit = |q: f64| (q / (1.0 - q)).ln();
    let moved = (logit(proposed.clamp(1e-9, 1.0 - 1e-9)) - logit(q)).clamp(-trust, trust);
    1.0 / (1.0 + (-(logit(q) + moved)).exp())
}

/// One step of gradient descent on a = logit q, dL/da = p q (E_G1 f − E_G f).
fn adversarial_step(q: f64, difference: f64, rate: f64) -> f64 {
    let logit = (q / (1.0 - q)).ln() - rate * q * (1.0 - q) * difference;
    1.0 / (1.0 + (-logit).exp())
}

/// Indices of real events drawn without strata.
pub(super) fn real_sample(reals: &Reals, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let events = reals.rows().len();
    (0..events.min(EM_EVENTS)).map(|_| rng.random_range(0..events)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adversarial_step_lowers_the_weight_of_the_worse_component() {
        assert!(adversarial_step(0.1, 1.0, 0.5) < 0.1);
        assert!(adversarial_step(0.1, -1.0, 0.5) > 0.1);
    }

    #[test]
    fn a_weight_moves_no_further_than_it_is_trusted_to() {
        let odds = |q: f64| q / (1.0 - q);
        assert!((odds(within(0.2, 1e-6, 0.5)) / odds(0.2) - (-0.5f64).exp()).abs() < 1e-12);
        assert!((odds(within(0.2, 0.99, 0.5)) / odds(0.2) - 0.5f64.exp()).abs() < 1e-12);
        assert!((within(0.2, 0.21, 0.5) - 0.21).abs() < 1e-12);
    }
}
