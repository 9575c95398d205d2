//! The Fréchet physics distance of JetNet (Kansal et al., arXiv:2211.10295), on observables normalised as JetNet does: over the
//! largest absolute value among the real events.

use rand::Rng;
use rayon::prelude::*;

use super::{
    Comparison, Gives, Numbers,
    matrix::{Rows, Scale, cholesky, eigenvalues},
};

/// Sizes of batches, smallest and largest; `jetnet.evaluation.fpd`'s defaults. Of fewer events, the largest batch is as many
/// as there are, and the smallest keeps its ratio to it.
const SIZES: (f64, f64) = (20_000.0, 50_000.0);
/// Sizes at regular intervals in 1/N.
const POINTS: usize = 10;
/// Batches of a size.
const BATCHES: usize = 20;
/// Fewer events say nothing.
const LEAST: usize = 500;

/// Means and covariances of events.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    mean: Vec<f64>,
    /// Row-major, with n − 1 for its divisor.
    covariance: Vec<f64>,
}

impl Moments {
    /// The moments of some rows, `[events, width]`.
    fn of(rows: &Rows, events: &[usize]) -> Self {
        let (width, n) = (rows.width, events.len() as f64);
        let (mut sums, mut products) = (vec![0.0; width], vec![0.0; width * width]);
        for &event in events {
            let row = rows.row(event);
            for (i, &value) in row.iter().enumerate() {
                sums[i] += value;
                products[i * width..=i * width + i].iter_mut().zip(row).for_each(|(sum, other)| *sum += value * other);
            }
        }
        let mean: Vec<f64> = sums.iter().map(|sum| sum / n).collect();
        let mut covariance = vec![0.0; width * width];
        for i in 0..width {
            for j in 0..=i {
                let value = (products[i * width + j] - n * mean[i] * mean[j]) / (n - 1.0);
                (covariance[i * width + j], covariance[j * width + i]) = (value, value);
            }
        }
        Self { mean, covariance }
    }

    /// The moments of events, `[events, width]` in row-major order.
    pub fn of_events(width: usize, events: &[f64]) -> Self {
        let rows = Rows { width, values: events.to_vec() };
        Self::of(&rows, &(0..rows.len()).collect::<Vec<_>>())
    }
}

/// `|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½)` of two samples of one width. The trace of the root is that of the eigenvalues of
/// LᵀΣ₂L, where LLᵀ = Σ₁.
pub fn distance(one: &Moments, other: &Moments) -> f64 {
    let n = one.mean.len();
    let apart: f64 = one.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
    let trace = |moments: &Moments| (0..n).map(|i| moments.covariance[i * n + i]).sum::<f64>();
    let factor = cholesky(&one.covariance, n);
    let at = |k: usize, i: usize| factor[k * n + i];
    let half: Vec<f64> = (0..n * n)
        .map(|place| (0..n).map(|k| other.covariance[place / n * n + k] * at(k, place % n)).sum())
        .collect();
    let mut inner: Vec<f64> =
        (0..n * n).map(|place| (0..n).map(|k| at(k, place / n) * half[k * n + place % n]).sum()).collect();
    for i in 0..n {
        for j in 0..i {
            let even = f64::midpoint(inner[i * n + j], inner[j * n + i]);
            (inner[i * n + j], inner[j * n + i]) = (even, even);
        }
    }
    let root: f64 = eigenvalues(inner, n).into_iter().map(|value| value.max(0.0).sqrt()).sum();
    apart + trace(one) + trace(other) - 2.0 * root
}

/// A value with its error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its error.
    pub error: f64,
}

/// Values at sizes N, extrapolated to 1/N = 0 along a straight line whose intercept and slope are at least 0, as
/// `scipy.optimize.curve_fit` within those bounds; the error is that of the intercept by the residuals.
pub fn extrapolated(sizes: &[f64], values: &[f64]) -> Option<Estimate> {
    let n = sizes.len().min(values.len()) as f64;
    if n < 3.0 {
        return None;
    }
    let points = || sizes.iter().map(|size| 1.0 / size).zip(values.iter().copied());
    let sum = |term: fn(f64, f64) -> f64| points().map(|(x, y)| term(x, y)).sum::<f64>();
    let (x, y, xx, xy) = (sum(|x, _| x), sum(|_, y| y), sum(|x, _| x * x), sum(|x, y| x * y));
    let spread = n * xx - x * x;
    let free = ((xx * y - x * xy) / spread, (n * xy - x * y) / spread);
    let loss = |(a, b): (f64, f64)| points().map(|(x, y)| (y - a - b * x).powi(2)).sum::<f64>();
    // At most one bound is active where the values are positive: the better of the two edges, if the free line leaves them.
    let edges = [(0.0, (xy / xx).max(0.0)), ((y / n).max(0.0), 0.0)];
    let (a, b) = if free.0 >= 0.0 && free.1 >= 0.0 {
        free
    } else if loss(edges[0]) <= loss(edges[1]) {
        edges[0]
    } else {
        edges[1]
    };
    let error = (loss((a, b)) / (n - 2.0) * xx / spread).sqrt();
    (a.is_finite() && error.is_finite()).then_some(Estimate { value: a, error })
}

/// FPD of two samples of normalised events, `[events, width]` in row-major order, as `jetnet.evaluation.fpd` estimates it: mean
/// distances of batches drawn with replacement, extrapolated to infinite size. `None` of fewer than 500 events.
pub fn fpd(width: usize, real: &[f64], generated: &[f64], rng: &mut impl Rng) -> Option<Estimate> {
    let [real, generated] = [real, generated].map(|events| Rows { width, values: events.to_vec() });
    estimate(&real, &generated, rng)
}

fn estimate(real: &Rows, generated: &Rows, rng: &mut impl Rng) -> Option<Estimate> {
    let fewest = real.len().min(generated.len());
    if fewest < LEAST || real.width == 0 {
        return None;
    }
    let largest = SIZES.1.min(fewest as f64);
    let smallest = largest * SIZES.0 / SIZES.1;
    let at = |i: usize| i as f64 / (POINTS - 1) as f64;
    let sizes: Vec<f64> =
        (0..POINTS).map(|i| (1.0 / (1.0 / smallest + at(i) * (1.0 / largest - 1.0 / smallest))).floor()).collect();
    let mut mean = |&size: &f64| {
        // Drawn one after the other, compared side by side: threads change nothing.
        let draws: Vec<[Vec<usize>; 2]> =
            (0..BATCHES).map(|_| [real, generated].map(|rows| rows.draw(size as usize, rng))).collect();
        let distances: Vec<f64> = draws
            .par_iter()
            .map(|[one, other]| distance(&Moments::of(real, one), &Moments::of(generated, other)))
            .collect();
        distances.iter().sum::<f64>() / BATCHES as f64
    };
    let values: Vec<f64> = sizes.iter().map(&mut mean).collect();
    extrapolated(&sizes, &values)
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("fpd", "the distance, extrapolated to infinitely many events"),
    ("fpd_error", "its standard error"),
];

/// `fpd` and `fpd_error`.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let scale = Scale::largest(&comparison.bench.test);
    let (real, generated) = (scale.all(&comparison.bench.test), scale.all(comparison.sample));
    let found = estimate(&real, &generated, &mut comparison.streams.stream("frechet"));
    numbers.put("fpd", found.map(|found| found.value));
    numbers.put("fpd_error", found.map(|found| found.error));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_of_uncorrelated_events_is_its_own_square() {
        let events = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let shifted = events.map(|value| value + 2.0);
        let (one, other) = (Moments::of_events(2, &events), Moments::of_events(2, &shifted));
        assert!((distance(&one, &other) - 8.0).abs() < 1e-12);
        // Twice as wide: (σ₁ − σ₂)² in each of two directions, with σ² = 1/3.
        let wide = Moments::of_events(2, &events.map(|value| 2.0 * value - 0.5));
        assert!((distance(&one, &wide) - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn lines_are_extrapolated_to_infinite_size_and_stay_at_or_above_zero() {
        let sizes = [100.0, 200.0, 400.0, 800.0];
        let of = |a: f64, b: f64| extrapolated(&sizes, &sizes.map(|size| a + b / size)).unwrap();
        assert!((of(0.3, 5.0).value - 0.3).abs() < 1e-12 && of(0.3, 5.0).error < 1e-9);
        assert_eq!(of(-0.01, 5.0).value.to_bits(), 0.0_f64.to_bits());
        assert!((of(0.3, -5.0).value - sizes.map(|size| 0.3 - 5.0 / size).iter().sum::<f64>() / 4.0).abs() < 1e-12);
        assert_eq!(extrapolated(&sizes[..2], &[1.0, 2.0]), None);
    }
}
