//! The tail index ξ: how slowly a spectrum falls above a cut. P(x > c·t) ∝ t^(−1/ξ) for ξ > 0; a Gaussian tail has ξ = 0.

use super::{Comparison, Gives, Numbers};
use crate::data::pareto::{GeneralisedPareto, LEAST};

/// An index with its asymptotic deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailIndex {
    /// ξ.
    pub index: f64,
    /// Its deviation.
    pub sigma: f64,
}

/// Hill's estimator over a threshold: the mean of ln(x/c) over the k values above c; deviation ξ/√k (Hill 1975).
/// `None` if the cut is not positive or fewer than twenty values lie above it.
pub fn hill(sample: &[f64], cut: f64) -> Option<TailIndex> {
    let logs: Vec<f64> = sample.iter().filter(|&&value| value > cut).map(|value| (value / cut).ln()).collect();
    if cut <= 0.0 || logs.len() < LEAST {
        return None;
    }
    let index = logs.iter().sum::<f64>() / logs.len() as f64;
    index.is_finite().then(|| TailIndex { index, sigma: index / (logs.len() as f64).sqrt() })
}

/// The shape of a generalised Pareto law of the excesses over a threshold, by maximum likelihood, as
/// `scipy.stats.genpareto.fit(x - c, floc=0)`; deviation (1 + ξ)/√k (Smith 1987). `None` if fewer than twenty values lie above the
/// cut, or all at one place.
pub fn generalised_pareto(sample: &[f64], cut: f64) -> Option<TailIndex> {
    let excesses: Vec<f64> = sample.iter().filter(|&&value| value > cut).map(|value| value - cut).collect();
    let index = GeneralisedPareto::fit(&excesses)?.shape;
    Some(TailIndex { index, sigma: (1.0 + index) / (excesses.len() as f64).sqrt() })
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("tail_index_hill", "ξ by Hill's estimate"),
    ("tail_index_hill_sigma", "its standard deviation"),
    ("tail_index_gpd", "ξ of a generalised Pareto law fitted to the excesses"),
    ("tail_index_gpd_sigma", "its standard deviation"),
];

/// `tail_index_hill` and `tail_index_gpd` of the sample over the cut, each with `_sigma`; where the observable is positive.
///
/// They are the sample's own, not differences: compare them with the floor's.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let Some(tail) = comparison.bench.tail.as_ref().filter(|tail| tail.cut > 0.0) else { return };
    let sample = comparison.sample.ascending(tail.observable);
    for (name, found) in [("hill", hill(sample, tail.cut)), ("gpd", generalised_pareto(sample, tail.cut))] {
        numbers.put(format!("tail_index_{name}"), found.map(|found| found.index));
        numbers.put(format!("tail_index_{name}_sigma"), found.map(|found| found.sigma));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of x^(−1/ξ) above 1 at the middles of equal shares.
    fn pareto(size: u32, xi: f64) -> Vec<f64> {
        (0..size).map(|i| ((f64::from(i) + 0.5) / f64::from(size)).powf(-xi)).collect()
    }

    #[test]
    fn both_find_the_index_of_a_pareto_law_above_any_cut() {
        let sample = pareto(50_000, 0.3);
        for cut in [1.0, 1.5] {
            assert!((hill(&sample, cut).unwrap().index - 0.3).abs() < 0.003);
            assert!((generalised_pareto(&sample, cut).unwrap().index - 0.3).abs() < 0.01);
        }
    }

    #[test]
    fn an_exponential_tail_has_index_zero_and_a_bounded_one_a_negative_index() {
        let middles = || (0..20_000).map(|i| (f64::from(i) + 0.5) / 20_000.0);
        let exponential: Vec<f64> = middles().map(|u| -u.ln()).collect();
        assert!(generalised_pareto(&exponential, 0.5).unwrap().index.abs() < 0.01);
        // P(x > y) = (1 − y/3)^4: ξ = −1/4.
        let bounded: Vec<f64> = middles().map(|u| 3.0 * (1.0 - u.powf(0.25))).collect();
        assert!((generalised_pareto(&bounded, 0.0).unwrap().index + 0.25).abs() < 0.01);
    }

    #[test]
    fn a_tail_without_events_or_spread_has_no_index() {
        assert_eq!(hill(&[2.0; 5], 1.0), None);
        assert_eq!(hill(&[2.0; 50], -1.0), None);
        assert_eq!(generalised_pareto(&[2.0; 50], 1.0), None);
        assert_eq!(generalised_pareto(&[2.0; 50], 3.0), None);
    }
}
