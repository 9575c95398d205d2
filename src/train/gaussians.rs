//! A mixture of Gaussians in latent space, and the defensive proposal made of it.
//!
//! h(z) = (1 − α) N(z; 0, I) + α q_T(z), with the importance weight N(z)/h(z) ≤ 1/(1 − α) whatever q_T is (Hesterberg 1995). Its
//! mean under h is 1.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

/// EM iterations of a fit.
const ITERATIONS: usize = 40;
/// Added to the variances of a fit: no component collapses onto a point.
const RIDGE: f64 = 1e-3;

/// One Gaussian.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gaussian {
    /// Its weight in the mixture.
    pub weight: f64,
    /// Its mean.
    pub mean: Vec<f64>,
    /// The lower Cholesky factor of its covariance, row-major `[latent × latent]`.
    pub factor: Vec<f64>,
}

/// The proposal h for latent vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Numbers in a latent vector.
    pub latent: usize,
    /// α: the share drawn from the Gaussians.
    pub share: f64,
    /// q_T; the weights sum to 1.
    pub gaussians: Vec<Gaussian>,
}

impl Gaussian {
    fn new(weight: f64, mean: Vec<f64>, covariance: &[f64]) -> Self {
        Self { weight, factor: cholesky(covariance, mean.len()), mean }
    }

    /// ln density.
    fn log_density(&self, z: &[f64]) -> f64 {
        let d = self.mean.len();
        let mut solved = Vec::with_capacity(d);
        let mut log = -0.5 * d as f64 * (2.0 * std::f64::consts::PI).ln();
        for row in 0..d {
            let factor = &self.factor[row * d..=row * d + row];
            let known: f64 = factor[..row].iter().zip(&solved).map(|(a, b): (&f64, &f64)| a * b).sum();
            let value = (z[row] - self.mean[row] - known) / factor[row];
            log -= 0.5 * value * value + factor[row].ln();
            solved.push(value);
        }
        log
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let d = self.mean.len();
        let noise: Vec<f64> = StandardNormal.sample_iter(rng).take(d).collect();
        let row = |i: usize| self.factor[i * d..=i * d + i].iter().zip(&noise).map(|(a, b)| a * b).sum::<f64>();
        (0..d).map(|i| self.mean[i] + row(i)).collect()
    }
}

impl Proposal {
    /// Fits q_T to points, `[events × latent]`, by EM from random points with the covariance of all.
    pub fn fit(points: &[f32], latent: usize, components: usize, share: f64, rng: &mut ChaCha8Rng) -> Self {
        let points: Vec<Vec<f64>> =
            points.chunks_exact(latent).map(|row| row.iter().copied().map(f64::from).collect()).collect();
        let even = vec![1.0; points.len()];
        let (_, covariance) = moments(&points, &even, latent);
        let start = |rng: &mut ChaCha8Rng| points[rng.random_range(0..points.len())].clone();
        let weight = 1.0 / components as f64;
        let mut gaussians: Vec<Gaussian> =
            (0..components).map(|_| Gaussian::new(weight, start(rng), &covariance)).collect();
        for _ in 0..ITERATIONS {
            let mut posteriors = vec![Vec::with_capacity(points.len()); components];
            for point in &points {
                let logs: Vec<f64> = gaussians.iter().map(|g| g.weight.ln() + g.log_density(point)).collect();
                let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = logs.iter().map(|log| (log - highest).exp()).sum();
                logs.iter().zip(&mut posteriors).for_each(|(log, p)| p.push((log - highest).exp() / sum));
            }
            let refit = |posterior: &Vec<f64>| {
                let mass: f64 = posterior.iter().sum();
                // A component that has lost all points but a few is left as it is.
                (mass > latent as f64 + 1.0).then(|| {
                    let (mean, covariance) = moments(&points, posterior, latent);
                    Gaussian::new(mass / points.len() as f64, mean, &covariance)
                })
            };
            for (gaussian, posterior) in gaussians.iter_mut().zip(&posteriors) {
                if let Some(next) = refit(posterior) {
                    *gaussian = next;
                }
            }
            let sum: f64 = gaussians.iter().map(|gaussian| gaussian.weight).sum();
            for gaussian in &mut gaussians {
                gaussian.weight /= sum;
            }
        }
        Self { latent, share, gaussians }
    }

    /// Whether the numbers make a density: what a file must hold.
    pub fn is_sound(&self) -> bool {
        let d = self.latent;
        let sound = |g: &Gaussian| {
            g.mean.len() == d
                && g.factor.len() == d * d
                && g.weight >= 0.0
                && g.mean.iter().chain(&g.factor).all(|value| value.is_finite())
                && (0..d).all(|i| g.factor[i * d + i] > 0.0)
        };
        let sum: f64 = self.gaussians.iter().map(|gaussian| gaussian.weight).sum();
        d > 0 && (0.0..1.0).contains(&self.share) && self.gaussians.iter().all(sound) && (sum - 1.0).abs() < 1e-6
    }

    /// Draws latent vectors from h, `[events × latent]`, with their weights N/h.
    pub fn draw(&self, events: usize, rng: &mut ChaCha8Rng) -> (Vec<f32>, Vec<f32>) {
        let mut z = Vec::with_capacity(events * self.latent);
        let mut weights = Vec::with_capacity(events);
        for _ in 0..events {
            let row = self.draw_one(rng);
            weights.push(self.weight(&row) as f32);
            z.extend(row.into_iter().map(|value| value as f32));
        }
        (z, weights)
    }

    fn draw_one(&self, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let mut at: f64 = rng.random();
        if at < self.share {
            at /= self.share;
            for gaussian in &self.gaussians {
                if at < gaussian.weight {
                    return gaussian.draw(rng);
                }
                at -= gaussian.weight;
            }
        }
        StandardNormal.sample_iter(rng).take(self.latent).collect()
    }

    /// N(z)/h(z).
    pub fn weight(&self, z: &[f64]) -> f64 {
        let half = 0.5 * z.iter().map(|x| x * x).sum::<f64>();
        let normal = -half - 0.5 * self.latent as f64 * (2.0 * std::f64::consts::PI).ln();
        let ratio: f64 = self.gaussians.iter().map(|g| g.weight * (g.log_density(z) - normal).exp()).sum();
        1.0 / (1.0 - self.share + self.share * ratio)
    }
}

/// Weighted mean and covariance, with the ridge.
fn moments(points: &[Vec<f64>], weights: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
    let mass: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut mean = vec![0.0; d];
    for (point, weight) in points.iter().zip(weights) {
        mean.iter_mut().zip(point).for_each(|(m, x)| *m += weight * x / mass);
    }
    let mut covariance = vec![0.0; d * d];
    for (point, weight) in points.iter().zip(weights) {
        let centred: Vec<f64> = point.iter().zip(&mean).map(|(x, m)| x - m).collect();
        for (row, a) in covariance.chunks_exact_mut(d).zip(&centred) {
            row.iter_mut().zip(&centred).for_each(|(c, b)| *c += weight * a * b / mass);
        }
    }
    (0..d).for_each(|i| covariance[i * d + i] += RIDGE);
    (mean, covariance)
}

/// The lower Cholesky factor of a positive definite matrix; pivots that rounding makes too small are raised.
fn cholesky(matrix: &[f64], d: usize) -> Vec<f64> {
    let mut factor = vec![0.0; d * d];
    for i in 0..d {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| factor[i * d + k] * factor[j * d + k]).sum();
            let rest = matrix[i * d + j] - known;
            factor[i * d + j] = if i == j { rest.max(1e-9).sqrt() } else { rest / factor[j * d + j] };
        }
    }
    factor
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// Two clusters in the plane: 30 % about (2, −1) with correlation, 70 % about (−2, 1).
    fn points(events: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let normal = |rng: &mut ChaCha8Rng| -> f64 { StandardNormal.sample(rng) };
        let rows = (0..events).flat_map(|i| {
            let (a, b) = (normal(rng), normal(rng));
            if i % 10 < 3 { [2.0 + 0.5 * a, -1.0 + 0.3 * a + 0.4 * b] } else { [-2.0 + 0.6 * a, 1.0 + 0.5 * b] }
        });
        rows.map(|value| value as f32).collect()
    }

    #[test]
    fn a_fit_finds_two_known_clusters() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut fitted = Proposal::fit(&points(20_000, &mut rng), 2, 2, 0.5, &mut rng);
        fitted.gaussians.sort_by(|a, b| b.mean[0].total_cmp(&a.mean[0]));
        let [right, left] = &fitted.gaussians[..] else { panic!("two were asked for") };
        let close = |found: f64, expected: f64| (found - expected).abs() < 0.03;
        assert!(close(right.weight, 0.3) && close(left.weight, 0.7), "{fitted:?}");
        assert!(close(right.mean[0], 2.0) && close(right.mean[1], -1.0) && close(left.mean[0], -2.0), "{fitted:?}");
        assert!(
            close(right.factor[0], 0.5) && close(right.factor[2], 0.3) && close(right.factor[3], 0.4),
            "{fitted:?}"
        );
    }

    #[test]
    fn weights_average_to_one_under_the_proposal_and_never_pass_their_bound() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let proposal = Proposal::fit(&points(5000, &mut rng), 2, 2, 0.6, &mut rng);
        assert!(proposal.is_sound());
        let (z, weights) = proposal.draw(200_000, &mut rng);
        let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!(weights.iter().all(|&w| w <= 2.5 + 1e-5));
        // Weighted, the draw is N(0, 1) again: E z₀ = 0, E z₀² = 1.
        let moment = |power: i32| -> f64 {
            let terms = z.chunks_exact(2).zip(&weights).map(|(z, &w)| f64::from(w) * f64::from(z[0]).powi(power));
            terms.sum::<f64>() / weights.len() as f64
        };
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.02, "{} {}", moment(1), moment(2));
    }

    #[test]
    fn the_density_of_a_gaussian_is_that_of_its_formula() {
        // N(1; mean 3, variance 4) = exp(−½) / (2 √(2π)).
        let gaussian = Gaussian::new(1.0, vec![3.0], &[4.0]);
        let expected = -0.5 - 2f64.ln() - 0.5 * (2.0 * std::f64::consts::PI).ln();
        assert!((gaussian.log_density(&[1.0]) - expected).abs() < 1e-12);
    }
}
