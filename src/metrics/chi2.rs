//! χ² comparisons of two histograms with the same bins.
//!
//! All forms compare shapes: the totals are those of the bins that are given, and the number of degrees of freedom is the
//! number of bins that hold events, less one (the truth's form, in `truth`, has a normalisation of its own). To compare a tail with its normalisation, give the events outside as one bin more.

use std::ops::Range;

use statrs::distribution::{ChiSquared, ContinuousCDF};

use super::{Binning, Comparison, Gives, Numbers, floats};

/// Bins are joined until they hold this many events.
pub const LEAST: f64 = 10.0;

/// A χ² with its degrees of freedom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChiSquare {
    /// The sum over bins.
    pub chi2: f64,
    /// Degrees of freedom, at least 1.
    pub ndf: usize,
    /// The chance of a χ² at least as large, with these degrees of freedom.
    pub p: f64,
}

impl ChiSquare {
    /// A χ² with its degrees of freedom; `None` if it is not finite or there are none.
    pub fn new(chi2: f64, ndf: usize) -> Option<Self> {
        if ndf == 0 {
            return None;
        }
        let law = ChiSquared::new(ndf as f64).ok()?;
        chi2.is_finite().then(|| Self { chi2, ndf, p: law.sf(chi2) })
    }

    /// χ²/NDF.
    pub fn per_ndf(&self) -> f64 {
        self.chi2 / self.ndf as f64
    }
}

/// Two histograms of counts: Σ (√(M/N) n − √(N/M) m)² / (n + m), as `scipy.stats.chi2_contingency([n, m], correction=False)`.
///
/// Its expectation per degree of freedom is 1 for two samples of one distribution, whatever their sizes. Bins empty in both
/// are left out. `None` if the lengths differ, a histogram is empty, or fewer than two bins hold events.
pub fn two_sample(n: &[f64], m: &[f64]) -> Option<ChiSquare> {
    let (total_n, total_m) = totals(n, m)?;
    let (up, down) = ((total_m / total_n).sqrt(), (total_n / total_m).sqrt());
    sum(n.iter().zip(m).map(|(n, m)| ((up * n - down * m).powi(2), n + m)))
}

/// Two histograms of weights with their sums of squared weights:
/// Σ (M n − N m)² / (M² Σw²ₙ + N² Σw²ₘ) (Gagunashvili, physics/0605123; ROOT's `Chi2Test("WW")`).
///
/// Each histogram keeps its own variance, so with unit weights it equals [`two_sample`] for samples of one size, and only
/// approaches it for others. Bins without variance are left out.
pub fn two_sample_weighted(n: &[f64], n_squares: &[f64], m: &[f64], m_squares: &[f64]) -> Option<ChiSquare> {
    if n.len() != n_squares.len() || m.len() != m_squares.len() {
        return None;
    }
    let (total_n, total_m) = totals(n, m)?;
    sum(n
        .iter()
        .zip(n_squares)
        .zip(m.iter().zip(m_squares))
        .map(|((n, n2), (m, m2))| ((total_m * n - total_n * m).powi(2), total_m.powi(2) * n2 + total_n.powi(2) * m2)))
}

/// As `PreciseGAN`: the generated counts, scaled to the test events, are the expectation: Σ (n − m N/M)² / (m N/M), as
/// `scipy.stats.chisquare`.
///
/// The noise of the generated counts is ignored, so the value for a perfect generator is about 1 + N/M, not 1. `None` where
/// it diverges: test events in a bin without generated ones.
pub fn generated_as_expectation(test: &[f64], generated: &[f64]) -> Option<ChiSquare> {
    let (total_n, total_m) = totals(test, generated)?;
    let scale = total_n / total_m;
    if test.iter().zip(generated).any(|(&n, &m)| n > 0.0 && m <= 0.0) {
        return None;
    }
    sum(test.iter().zip(generated).map(|(n, m)| ((n - m * scale).powi(2), m * scale)))
}

fn totals(n: &[f64], m: &[f64]) -> Option<(f64, f64)> {
    let (total_n, total_m): (f64, f64) = (n.iter().sum(), m.iter().sum());
    (n.len() == m.len() && total_n > 0.0 && total_m > 0.0).then_some((total_n, total_m))
}

/// Adds up squares over variances, leaving out bins without variance.
fn sum(terms: impl Iterator<Item = (f64, f64)>) -> Option<ChiSquare> {
    let used = terms.filter(|(_, variance)| *variance > 0.0);
    let (chi2, bins) = used.fold((0.0, 0_usize), |(chi2, bins), (square, variance)| (chi2 + square / variance, bins + 1));
    ChiSquare::new(chi2, bins.checked_sub(1)?)
}

/// Groups of neighbouring bins that hold at least this many events of both samples together.
///
/// Bins are joined from the top downwards, where spectra fall; what is left over at the bottom joins the lowest group.
pub fn merged(n: &[f64], m: &[f64], least: f64) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut end, mut held) = (n.len().min(m.len()), 0.0);
    for bin in (0..end).rev() {
        held += n[bin] + m[bin];
        if held >= least {
            groups.push(bin..end);
            (end, held) = (bin, 0.0);
        }
    }
    match groups.last_mut() {
        Some(lowest) => lowest.start = 0,
        None if end > 0 => groups.push(0..end),
        None => {}
    }
    groups.reverse();
    groups
}

/// The content of each group of bins.
pub fn regrouped(counts: &[f64], groups: &[Range<usize>]) -> Vec<f64> {
    groups.iter().map(|group| counts[group.clone()].iter().sum()).collect()
}

/// [`two_sample`] after joining bins with fewer than ten events of both samples together.
pub fn two_sample_merged(n: &[f64], m: &[f64]) -> Option<ChiSquare> {
    if n.len() != m.len() {
        return None;
    }
    let groups = merged(n, m, LEAST);
    two_sample(&regrouped(n, &groups), &regrouped(m, &groups))
}

/// [`two_sample_weighted`] after joining bins, from the top, until both samples together expect ten effective events there.
///
/// The expectation is that of the common shape: (Σwₙ/N + Σwₘ/M)/2 times the effective size of both samples, (ΣΣw)²/ΣΣw² each.
pub fn two_sample_weighted_merged(n: &[f64], n_squares: &[f64], m: &[f64], m_squares: &[f64]) -> Option<ChiSquare> {
    if n.len() != n_squares.len() || m.len() != m_squares.len() {
        return None;
    }
    let (total_n, total_m) = totals(n, m)?;
    let size = |total: f64, squares: &[f64]| total * total / squares.iter().sum::<f64>();
    let half = f64::midpoint(size(total_n, n_squares), size(total_m, m_squares));
    let [n_share, m_share] =
        [(n, total_n), (m, total_m)].map(|(sums, total)| sums.iter().map(|sum| half * sum / total).collect::<Vec<_>>());
    let groups = merged(&n_share, &m_share, LEAST);
    let [n, n_squares, m, m_squares] = [n, n_squares, m, m_squares].map(|sums| regrouped(sums, &groups));
    two_sample_weighted(&n, &n_squares, &m, &m_squares)
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("chi2_ndf.OBSERVABLE", "two-sample χ² per degree of freedom: about 1 for two samples of one distribution"),
    ("chi2_ndf_mean", "mean of `chi2_ndf` over observables: the bulk"),
    ("chi2_ndf_precisegan.OBSERVABLE", "χ² per degree of freedom as PreciseGAN has it, with the generated counts for the expectation; of jet pairs only, where every bin with test events has generated ones"),
];

/// `chi2_ndf.OBSERVABLE` and their mean; of published bins also `chi2_ndf_precisegan.OBSERVABLE`.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let mut scores = Vec::new();
    for ((name, _, found), bins) in comparison.observables().zip(&comparison.bench.bins) {
        let Some(bins) = bins else { continue };
        let (test, found) = (floats(&bins.test), floats(&bins.binning.counts(found)));
        if let Some(score) = two_sample_merged(&test, &found) {
            numbers.put(format!("chi2_ndf.{name}"), score.per_ndf());
            scores.push(score.per_ndf());
        }
        if Binning::dijet(name).as_ref() == Some(&bins.binning) {
            let score = generated_as_expectation(&test, &found);
            numbers.put(format!("chi2_ndf_precisegan.{name}"), score.map(|score| score.per_ndf()));
        }
    }
    numbers.put_mean("chi2_ndf_mean", &scores);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_one_shape_have_no_chi2() {
        let test = two_sample(&[10.0, 20.0, 30.0], &[1.0, 2.0, 3.0]).unwrap();
        assert!(test.chi2 < 1e-12 && test.ndf == 2 && (test.p - 1.0).abs() < 1e-12);
    }

    #[test]
    fn with_unit_weights_and_equal_sizes_the_weighted_form_is_the_plain_one() {
        let (n, m) = ([5.0, 9.0, 16.0], [8.0, 12.0, 10.0]);
        let (plain, weighted) = (two_sample(&n, &m).unwrap(), two_sample_weighted(&n, &n, &m, &m).unwrap());
        assert!((plain.chi2 - weighted.chi2).abs() < 1e-12);
    }

    #[test]
    fn bins_empty_in_both_do_not_count() {
        let with = two_sample(&[5.0, 0.0, 7.0], &[6.0, 0.0, 3.0]).unwrap();
        assert_eq!(Some(with), two_sample(&[5.0, 7.0], &[6.0, 3.0]));
        assert_eq!(two_sample(&[5.0], &[5.0]), None);
        assert_eq!(two_sample(&[0.0, 0.0], &[5.0, 1.0]), None);
        assert_eq!(two_sample(&[1.0, 2.0], &[5.0, 1.0, 1.0]), None);
    }

    #[test]
    fn an_empty_generated_bin_has_no_finite_expectation() {
        assert_eq!(generated_as_expectation(&[5.0, 1.0], &[5.0, 0.0]), None);
        assert!(generated_as_expectation(&[5.0, 0.0, 2.0], &[5.0, 0.0, 3.0]).is_some());
    }

    #[test]
    fn weighted_bins_join_where_few_effective_events_are_expected() {
        // Unit weights: bins of 8 + 8, 6 + 2 and 1 + 3 events; the upper two hold twelve together.
        let (n, m) = ([8.0, 6.0, 1.0], [8.0, 2.0, 3.0]);
        let joined = two_sample_weighted(&[8.0, 7.0], &[8.0, 7.0], &[8.0, 5.0], &[8.0, 5.0]);
        assert_eq!(two_sample_weighted_merged(&n, &n, &m, &m), joined);
        assert_eq!(joined.unwrap().ndf, 1);
        // The same sums from a few heavy events say less, so that all bins join and nothing is left to compare.
        let heavy = n.map(|sum| 100.0 * sum);
        assert_eq!(two_sample_weighted_merged(&n, &heavy, &m, &heavy), None);
    }

    #[test]
    fn bins_join_from_the_top_until_they_hold_enough() {
        let groups = merged(&[1.0, 8.0, 8.0, 3.0, 1.0], &[1.0, 8.0, 8.0, 3.0, 3.0], 10.0);
        assert_eq!(groups, [0..2, 2..3, 3..5]);
        assert_eq!(regrouped(&[1.0, 8.0, 8.0, 3.0, 1.0], &groups), [9.0, 8.0, 4.0]);
        assert_eq!(merged(&[1.0, 2.0], &[1.0, 0.0], 10.0), vec![0..2]);
        assert!(merged(&[], &[], 10.0).is_empty());
    }
}
