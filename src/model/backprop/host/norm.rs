//! Batch normalisation (Ioffe & Szegedy 2015) of rows with their channels last.

use super::vector::wide;
use crate::model::layer::NORM_EPSILON;

/// Rows whose sums are taken in single precision.
const CHUNK: usize = 64;

/// Mean and variance of each channel.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
}

impl Moments {
    /// Of these rows; the variance is the biased one.
    pub(super) fn of(x: &[f32], channels: usize) -> Self {
        let rows = (x.len() / channels) as f64;
        let mean: Vec<f32> = sums(x, x, channels, |x, _, _| x).into_iter().map(|sum| (sum / rows) as f32).collect();
        let squares = sums(x, x, channels, |x, _, c| (x - mean[c]) * (x - mean[c]));
        Self { variance: squares.into_iter().map(|sum| (sum / rows) as f32).collect(), mean }
    }

    /// 1/√(σ² + ε) of each channel.
    fn scale(&self) -> Vec<f32> {
        self.variance.iter().map(|variance| 1.0 / (variance + NORM_EPSILON as f32).sqrt()).collect()
    }

    /// `out` = (x − μ)/√(σ² + ε) γ + β.
    pub(super) fn normalise(&self, out: &mut [f32], x: &[f32], [gamma, beta]: [&[f32]; 2]) {
        let channels = gamma.len();
        let scale: Vec<f32> = self.scale().iter().zip(gamma).map(|(scale, gamma)| scale * gamma).collect();
        wide(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    for channel in 0..channels {
                        out[channel] = (x[channel] - self.mean[channel]) * scale[channel] + beta[channel];
                    }
                }
            },
        );
    }

    /// Takes a gradient back in place; gives those of γ and β. Of a `batch`'s own moments it goes through them, too.
    pub(super) fn backward(&self, delta: &mut [f32], x: &[f32], gamma: &[f32], batch: bool) -> [Vec<f32>; 2] {
        let channels = gamma.len();
        let scale = self.scale();
        let beta_gradient = sums(delta, x, channels, |delta, _, _| delta);
        let gamma_gradient = sums(delta, x, channels, |delta, x, c| delta * (x - self.mean[c]) * scale[c]);
        let rows = if batch { (x.len() / channels) as f64 } else { f64::INFINITY };
        let single = |sums: &[f64], by: f64| -> Vec<f32> { sums.iter().map(|sum| (sum / by) as f32).collect() };
        let (shift, slope) = (single(&beta_gradient, rows), single(&gamma_gradient, rows));
        wide(
            #[inline(always)]
            || {
                for (delta, x) in delta.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
                    for c in 0..channels {
                        let normal = (x[c] - self.mean[c]) * scale[c];
                        delta[c] = (delta[c] - shift[c] - normal * slope[c]) * gamma[c] * scale[c];
                    }
                }
            },
        );
        [single(&gamma_gradient, 1.0), single(&beta_gradient, 1.0)]
    }
}

/// The sum over rows of a function of the numbers in two places and their channel.
#[inline(always)]
fn sums(x: &[f32], y: &[f32], channels: usize, of: impl Fn(f32, f32, usize) -> f32) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    let mut partial = vec![0.0; channels];
    wide(
        #[inline(always)]
        || {
            for (x, y) in x.chunks(channels * CHUNK).zip(y.chunks(channels * CHUNK)) {
                partial.fill(0f32);
                for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact(channels)) {
                    for channel in 0..channels {
                        partial[channel] += of(x[channel], y[channel], channel);
                    }
                }
                sums.iter_mut().zip(&partial).for_each(|(sum, &partial)| *sum += f64::from(partial));
            }
        },
    );
    sums
}
