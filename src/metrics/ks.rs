//! The Kolmogorov–Smirnov test of two samples, with or without weights.

use super::{Comparison, Gives, Numbers, kolmogorov};

/// A distance between two distribution functions and its p-value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KolmogorovSmirnov {
    /// sup |F − G|, from 0 to 1.
    pub statistic: f64,
    /// The chance of a distance at least as large between samples of one distribution.
    pub p: f64,
}

/// Two samples of single events, as `scipy.stats.ks_2samp(a, b, method="asymp")`: the law of Dₙ at n = round(ab/(a + b)).
/// `None` if a sample is empty.
pub fn two_sample(a: &[f64], b: &[f64]) -> Option<KolmogorovSmirnov> {
    let weighted = |sample: &[f64]| sample.iter().map(|&value| (value, 1.0)).collect();
    compare(weighted(a), weighted(b))
}

/// Two samples of weighted events: distribution functions of the weights, and effective sizes (Σw)²/Σw² in the p-value.
/// `None` if the lengths differ, a weight is negative, or a sample has no weight.
pub fn two_sample_weighted(a: &[f64], a_weights: &[f64], b: &[f64], b_weights: &[f64]) -> Option<KolmogorovSmirnov> {
    let weighted = |sample: &[f64], weights: &[f64]| {
        let fits = sample.len() == weights.len() && weights.iter().all(|&weight| weight >= 0.0);
        fits.then(|| sample.iter().copied().zip(weights.iter().copied()).collect())
    };
    compare(weighted(a, a_weights)?, weighted(b, b_weights)?)
}

/// Pairs of a value and its weight.
type Weighted = Vec<(f64, f64)>;

fn compare(a: Weighted, b: Weighted) -> Option<KolmogorovSmirnov> {
    let (a, b) = (Steps::of(a)?, Steps::of(b)?);
    let size = (a.size * b.size / (a.size + b.size)).round_ties_even();
    let statistic = distance(&a, &b);
    Some(KolmogorovSmirnov { statistic, p: kolmogorov::survival(size as u64, statistic) })
}

/// An empirical distribution function.
struct Steps {
    events: Weighted,
    total: f64,
    size: f64,
}

impl Steps {
    fn of(mut events: Weighted) -> Option<Self> {
        events.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        let total: f64 = events.iter().map(|event| event.1).sum();
        let squares: f64 = events.iter().map(|event| event.1 * event.1).sum();
        (total > 0.0 && total.is_finite()).then(|| Self { events, total, size: total * total / squares })
    }

    /// Adds the weights of the events at or below a value to `sum`, from `next` on.
    fn climb(&self, value: f64, next: &mut usize, sum: &mut f64) {
        while let Some(event) = self.events.get(*next).filter(|event| event.0 <= value) {
            *sum += event.1;
            *next += 1;
        }
    }
}

fn distance(a: &Steps, b: &Steps) -> f64 {
    let (mut i, mut j, mut below_a, mut below_b) = (0, 0, 0.0, 0.0);
    let mut largest = 0.0_f64;
    while let (Some(next_a), Some(next_b)) = (a.events.get(i), b.events.get(j)) {
        // Equal values step together: between tied events there is no point at which to compare.
        let value = next_a.0.min(next_b.0);
        a.climb(value, &mut i, &mut below_a);
        b.climb(value, &mut j, &mut below_b);
        largest = largest.max((below_a / a.total - below_b / b.total).abs());
    }
    largest.min(1.0)
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("ks.OBSERVABLE", "largest distance of the two distribution functions, from 0 to 1"),
];

/// `ks.OBSERVABLE`.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    for (name, test, sample) in comparison.observables() {
        numbers.put(format!("ks.{name}"), two_sample(test, sample).map(|test| test.statistic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_apart_are_at_distance_one() {
        let test = two_sample(&[1.0, 2.0, 3.0], &[4.0, 5.0]).unwrap();
        assert!((test.statistic - 1.0).abs() < 1e-15);
    }

    #[test]
    fn a_weight_of_two_counts_as_two_events_in_the_statistic() {
        let copies = two_sample(&[1.0, 1.0, 3.0], &[2.0, 4.0, 4.0]).unwrap();
        let weights = two_sample_weighted(&[1.0, 3.0], &[2.0, 1.0], &[4.0, 2.0], &[2.0, 1.0]).unwrap();
        assert!((copies.statistic - weights.statistic).abs() < 1e-15);
        assert!(weights.p > copies.p, "fewer effective events are weaker evidence");
    }

    #[test]
    fn samples_without_weight_cannot_be_compared() {
        assert_eq!(two_sample(&[], &[1.0]), None);
        assert_eq!(two_sample_weighted(&[1.0], &[0.0], &[1.0], &[1.0]), None);
        assert_eq!(two_sample_weighted(&[1.0], &[1.0, 1.0], &[1.0], &[1.0]), None);
        assert_eq!(two_sample_weighted(&[1.0], &[-1.0], &[1.0], &[1.0]), None);
    }
}
