//! Batch normalisation (Ioffe & Szegedy 2015) of rows with their channels last.

use super::vector::scale_shift;
use crate::model::{layer::NORM_EPSILON, wide::wide};

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
        let mean: Vec<f32> = sums(x, channels, add_chunk).into_iter().map(|sum| (sum / rows) as f32).collect();
        let squares = sums(x, channels, |sums, x| add_squares(sums, x, &mean));
        Self { variance: squares.into_iter().map(|sum| (sum / rows) as f32).collect(), mean }
    }

    /// (x − μ)/√(σ² + ε) as x · scale + shift.
    fn affine(&self) -> (Vec<f32>, Vec<f32>) {
        let both = self.mean.iter().zip(&self.variance).map(|(mean, variance)| {
            let scale = 1.0 / (variance + NORM_EPSILON as f32).sqrt();
            (scale, -mean * scale)
        });
        both.unzip()
    }

    /// `out` = (x − μ)/√(σ² + ε) γ + β.
    pub(super) fn normalise(&self, out: &mut [f32], x: &[f32], [gamma, beta]: [&[f32]; 2]) {
        let (mut scale, mut shift) = self.affine();
        for ((scale, shift), (gamma, beta)) in scale.iter_mut().zip(&mut shift).zip(gamma.iter().zip(beta)) {
            *scale *= gamma;
            *shift = *shift * gamma + beta;
        }
        scale_shift(out, x, &scale, &shift);
    }

    /// Takes a gradient back in place; gives those of γ and β. Of a `batch`'s own moments it goes through them, too.
    pub(super) fn backward(&self, delta: &mut [f32], x: &[f32], gamma: &[f32], batch: bool) -> [Vec<f32>; 2] {
        let channels = gamma.len();
        let (scale, shift) = self.affine();
        let beta_gradient = sums(delta, channels, add_chunk);
        let mut normal = vec![0.0; x.len()];
        scale_shift(&mut normal, x, &scale, &shift);
        let mut chunks = normal.chunks(channels * CHUNK);
        let gamma_gradient =
            sums(delta, channels, |sums, delta| add_products(sums, delta, chunks.next().unwrap_or_default()));
        // δ ← γ/σ (δ − Σδ/n − x̂ Σ(δ x̂)/n), of running moments γ/σ δ.
        let rows = if batch { (x.len() / channels) as f64 } else { f64::INFINITY };
        let outer: Vec<f32> = gamma.iter().zip(&scale).map(|(gamma, scale)| gamma * scale).collect();
        let inner = |sums: &[f64]| -> Vec<f32> {
            sums.iter().zip(&outer).map(|(sum, outer)| -(sum / rows) as f32 * outer).collect()
        };
        take_back(delta, &normal, &outer, &inner(&gamma_gradient), &inner(&beta_gradient));
        [gamma_gradient, beta_gradient].map(|sums| sums.into_iter().map(|sum| sum as f32).collect())
    }
}

/// The sum over rows, by what adds the rows of a chunk.
fn sums(x: &[f32], channels: usize, mut add: impl FnMut(&mut [f32], &[f32])) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    let mut partial = vec![0.0; channels];
    for x in x.chunks(channels * CHUNK) {
        partial.fill(0.0);
        add(&mut partial, x);
        sums.iter_mut().zip(&partial).for_each(|(sum, &partial)| *sum += f64::from(partial));
    }
    sums
}

wide! {
    fn add_chunk(sums: &mut [f32], x: &[f32]) {
        for x in x.chunks_exact(sums.len()) {
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
    }

    fn add_squares(sums: &mut [f32], x: &[f32], mean: &[f32]) {
        for x in x.chunks_exact(sums.len()) {
            sums.iter_mut().zip(x.iter().zip(mean)).for_each(|(sum, (x, mean))| *sum += (x - mean) * (x - mean));
        }
    }

    fn add_products(sums: &mut [f32], x: &[f32], y: &[f32]) {
        for (x, y) in x.chunks_exact(sums.len()).zip(y.chunks_exact(sums.len())) {
            sums.iter_mut().zip(x.iter().zip(y)).for_each(|(sum, (x, y))| *sum += x * y);
        }
    }

    /// δ ← `outer` δ + `slope` x̂ + `shift`.
    fn take_back(delta: &mut [f32], normal: &[f32], outer: &[f32], slope: &[f32], shift: &[f32]) {
        let width = outer.len();
        let channels = outer.iter().zip(slope.iter().zip(shift));
        for (delta, normal) in delta.chunks_exact_mut(width).zip(normal.chunks_exact(width)) {
            for ((delta, normal), (outer, (slope, shift))) in delta.iter_mut().zip(normal).zip(channels.clone()) {
                *delta = *delta * outer + normal * slope + shift;
            }
        }
    }
}
