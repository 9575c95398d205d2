//! Fully corrective weights: a classifier among all components of a mixture, and EM over their weights on real events.

use burn::tensor::{Device, Tensor, TensorData, activation::log_softmax};
use rand::RngExt;

use super::{LOG_EVERY, TrainError, config::OptimizerConfig, finite, optimizer::Optimizer};
use crate::{
    model::{Leaf, Network, Pass, Rows, Traced, Weights, architecture::mlp, derived::host},
    rng::Streams,
    value::Positive,
};

/// Events of each component in a batch of the classifier.
const BATCH: usize = 128;
/// EM iterations.
const ITERATIONS: usize = 500;

/// A classifier that tells which of K components an event came from: with as many of each, its logits are ln g_k(x) up to a
/// term that is the same for all k.
pub struct ComponentClasses {
    net: Network,
    classes: usize,
    device: Device,
}

impl ComponentClasses {
    /// Learns from a sample of each component, as the discriminator sees them, for these steps.
    pub fn train(samples: &[Rows], steps: u64, streams: &Streams, device: &Device) -> Result<Self, TrainError> {
        let (classes, width) = (samples.len(), samples.first().map_or(0, |rows| rows.width));
        let mut rng = streams.stream("component classes");
        let mut config = OptimizerConfig::default();
        if let Ok(rate) = Positive::try_from(1e-3) {
            config.rate = rate;
        }
        let mut net = Network::new(&Weights::fresh(mlp(width, &[64, 64], classes), &mut rng), device);
        let mut optimizer = Optimizer::new(&config, steps);
        let labels: Vec<f32> = (0..classes * BATCH * classes)
            .map(|i| if i % classes == i / classes / BATCH { 1.0 } else { 0.0 })
            .collect();
        let labels = Tensor::<2>::from_data(TensorData::new(labels, [classes * BATCH, classes]), device);
        for step in 1..=steps {
            let mut values = Vec::with_capacity(classes * BATCH * width);
            for rows in samples {
                (0..BATCH).for_each(|_| values.extend_from_slice(rows.row(rng.random_range(0..rows.len()))));
            }
            let rows = Tensor::<2>::from_data(TensorData::new(values, [classes * BATCH, width]), device);
            let (loss, gradient) = {
                let (logits, traced) = Traced::forward(&net, rows, &mut Pass::evaluation());
                let logits = Leaf::new(logits);
                let hits = log_softmax(logits.tensor(), 1) * Tensor::from_inner(labels.clone());
                let loss = hits.sum().neg() / (classes * BATCH) as f64;
                let gradient = traced.parameters(logits.slope(&loss.backward()));
                (loss.inner(), gradient)
            };
            optimizer.update(&mut net, gradient);
            if step % LOG_EVERY == 0 || step == steps {
                finite(loss, step, "classifier's loss")?;
            }
        }
        Ok(Self { net, classes, device: device.clone() })
    }

    /// ln g_k(x) up to a term without k, `[events × classes]`.
    pub fn log_densities(&self, rows: &Rows) -> Result<Vec<f32>, TrainError> {
        let mut found = Vec::with_capacity(rows.len() * self.classes);
        for chunk in rows.values.chunks(rows.width * 8192) {
            let shape = [chunk.len() / rows.width, rows.width];
            let tensor = Tensor::<2>::from_data(TensorData::new(chunk.to_vec(), shape), &self.device);
            found.extend(host(self.net.forward(tensor, &mut Pass::evaluation()))?);
        }
        Ok(found)
    }
}

/// EM over the weights of all components with the components fixed: α_k ← mean over real events of
/// α_k g_k / Σ_j α_j g_j. Climbs the likelihood of the real events; weights stay positive and sum to 1.
pub fn fully_corrective(weights: &[f64], log_densities: &[f32]) -> Vec<f64> {
    let classes = weights.len();
    let mut alpha = weights.to_vec();
    for _ in 0..ITERATIONS {
        let mut sums = vec![0.0; classes];
        for row in log_densities.chunks_exact(classes) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let terms: Vec<f64> =
                row.iter().zip(&alpha).map(|(&l, alpha)| alpha * f64::from(l - highest).exp()).collect();
            let sum: f64 = terms.iter().sum();
            sums.iter_mut().zip(terms).for_each(|(total, term)| *total += term / sum);
        }
        let total: f64 = sums.iter().sum();
        if total <= 0.0 || !total.is_finite() {
            return alpha;
        }
        let next: Vec<f64> = sums.iter().map(|sum| sum / total).collect();
        let moved = next.iter().zip(&alpha).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        alpha = next;
        if moved < 1e-7 {
            break;
        }
    }
    alpha
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    const MEANS: [f32; 3] = [-2.0, 0.0, 3.0];

    fn draw(weights: &[f64], events: usize, rng: &mut ChaCha8Rng) -> Rows {
        let draw = |rng: &mut ChaCha8Rng| {
            let (mut u, mut k): (f64, usize) = (rng.random(), 0);
            while k + 1 < weights.len() && u > weights[k] {
                u -= weights[k];
                k += 1;
            }
            let z: f32 = StandardNormal.sample(rng);
            MEANS[k] + z
        };
        Rows { values: (0..events).map(|_| draw(rng)).collect(), width: 1 }
    }

    fn assert_near(found: &[f64], truth: &[f64], tolerance: f64) {
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(found.iter().zip(truth).all(|(a, b)| (a - b).abs() < tolerance), "{found:?} is not {truth:?}");
    }

    #[test]
    fn em_finds_the_weights_of_three_known_components() {
        let truth = [0.2, 0.7, 0.1];
        let rows = draw(&truth, 30_000, &mut ChaCha8Rng::seed_from_u64(3));
        let log_densities: Vec<f32> =
            rows.values.iter().flat_map(|x| MEANS.map(|mean| -0.5 * (x - mean) * (x - mean))).collect();
        assert_near(&fully_corrective(&[1.0 / 3.0; 3], &log_densities), &truth, 0.015);
    }

    #[test]
    fn a_classifier_stands_in_for_the_densities() {
        let truth = [0.2, 0.7, 0.1];
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let samples = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|alone| draw(&alone, 10_000, &mut rng));
        let streams = Streams::new(1, "test");
        let classes = ComponentClasses::train(&samples, 600, &streams, &Device::flex()).unwrap();
        let log_densities = classes.log_densities(&draw(&truth, 20_000, &mut rng)).unwrap();
        assert_near(&fully_corrective(&[1.0 / 3.0; 3], &log_densities), &truth, 0.03);
    }
}
