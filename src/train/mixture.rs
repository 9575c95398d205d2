//! The mixture weight q of a new component: its first value from tail masses, its EM updates on real data.
//!
//! The mixture is m = p G + q G1 with p = 1 − q (SCIENCE, section 2).

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{
    TrainError,
    archive::{optional, state},
    config::OptimizerConfig,
    optimizer::Optimizer,
    softplus,
};
use crate::model::{Leaf, Network, Pass, Traced, Weights, architecture::mlp, derived::host};

/// Shares of the real events, of G's and of G1's that lie in the tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailMasses {
    /// τ_r.
    pub real: f64,
    /// τ_G.
    pub base: f64,
    /// τ_G1.
    pub candidate: f64,
}

impl TailMasses {
    /// q₀ = (τ_r − τ_G)/(τ_G1 − τ_G), the weight that gives the mixture the real tail mass; `None` where no weight in (0, 1)
    /// does: G has enough tail, or G1 has less of it than is missing.
    pub fn initial_weight(self) -> Option<f64> {
        let weight = (self.real - self.base) / (self.candidate - self.base);
        (self.real > self.base && self.candidate > self.real && weight.is_finite()).then_some(weight)
    }
}

/// EM for q with everything else fixed: q ← mean of q eˡ / (q eˡ + p) over real events, l = ln g1(x)/g(x), repeated.
/// Never leaves `[floor, 1 − floor]`.
pub fn expectation_maximisation(q: f64, log_ratios: &[f32], floor: f64, iterations: usize) -> f64 {
    let mut q = q;
    for _ in 0..iterations {
        let offset = (q / (1.0 - q)).ln();
        let posterior = |&l: &f32| 1.0 / (1.0 + (-(offset + f64::from(l))).exp());
        let mean = log_ratios.iter().map(posterior).sum::<f64>() / log_ratios.len().max(1) as f64;
        q = mean.clamp(floor, 1.0 - floor);
    }
    q
}

/// A classifier that learns ln g1(x)/g(x) from fakes of both components, as many of each in effect.
pub struct ComponentClassifier {
    net: Network,
    optimizer: Optimizer,
    device: Device,
}

state!(ComponentClassifier { net, optimizer });
optional!(ComponentClassifier);

impl ComponentClassifier {
    /// A fresh classifier of rows of this width, over this many steps.
    pub fn new(width: usize, steps: u64, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let mut config = OptimizerConfig::default();
        if let Ok(rate) = crate::value::Positive::try_from(1e-3) {
            config.rate = rate;
        }
        let weights = Weights::fresh(mlp(width, &[64, 64], 1), rng);
        Self { net: Network::new(&weights, device), optimizer: Optimizer::new(&config, steps), device: device.clone() }
    }

    /// One step on fakes `[batch, width]`, the first `base` of which came from G and the rest from G1.
    pub fn learn(&mut self, rows: &Tensor<2>, base: usize) {
        let size = rows.dims()[0];
        let gradient = {
            let (logits, traced) = Traced::forward(&self.net, rows.clone(), &mut Pass::evaluation());
            let logits = Leaf::new(logits);
            let from_base = softplus(logits.tensor().slice(0..base)).mean();
            let from_candidate = softplus(logits.tensor().slice(base..size).neg()).mean();
            traced.parameters(logits.slope(&(from_base + from_candidate).backward()))
        };
        self.optimizer.update(&mut self.net, gradient);
    }

    /// ln g1(x)/g(x) of host rows, one an event.
    pub fn log_ratios(&self, rows: &[f32], width: usize) -> Result<Vec<f32>, TrainError> {
        let mut ratios = Vec::with_capacity(rows.len() / width.max(1));
        for chunk in rows.chunks(width * 8192) {
            let tensor =
                Tensor::<2>::from_data(TensorData::new(chunk.to_vec(), [chunk.len() / width, width]), &self.device);
            ratios.extend(host(self.net.forward(tensor, &mut Pass::evaluation()))?);
        }
        Ok(ratios)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    #[test]
    fn the_first_weight_gives_the_mixture_the_real_tail_mass() {
        let masses = TailMasses { real: 0.08, base: 0.07, candidate: 0.9 };
        let q = masses.initial_weight().unwrap();
        assert!((q * masses.candidate + (1.0 - q) * masses.base - masses.real).abs() < 1e-12);
    }

    #[test]
    fn there_is_no_first_weight_where_the_base_overproduces_the_tail() {
        assert_eq!(TailMasses { real: 0.07, base: 0.08, candidate: 0.9 }.initial_weight(), None);
        assert_eq!(TailMasses { real: 0.07, base: 0.07, candidate: 0.9 }.initial_weight(), None);
        assert_eq!(TailMasses { real: 0.08, base: 0.07, candidate: 0.06 }.initial_weight(), None);
    }

    #[test]
    fn em_finds_the_weight_of_a_known_mixture() {
        // G = N(0, 1), G1 = N(3, 1): ln g1/g = 3x − 4.5.
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let ratios: Vec<f32> = (0..40_000)
            .map(|_| {
                let z: f32 = StandardNormal.sample(&mut rng);
                let x = if rng.random_bool(0.2) { z + 3.0 } else { z };
                3.0 * x - 4.5
            })
            .collect();
        let q = expectation_maximisation(0.5, &ratios, 1e-3, 200);
        assert!((q - 0.2).abs() < 0.01, "{q}");
    }

    proptest! {
        #[test]
        fn em_stays_above_its_floor(ratios in prop::collection::vec(-50f32..50.0, 1..50), q in 0.01..0.99) {
            let q = expectation_maximisation(q, &ratios, 0.005, 20);
            prop_assert!((0.005..=0.995).contains(&q));
        }
    }
}
