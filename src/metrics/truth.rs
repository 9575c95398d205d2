//! A tail against the truth: a weighted sample that reaches further up than any natural one.
//!
//! The truth's weights are cross-sections, so the expectation has an absolute normalisation: N events of the sample stand for
//! a luminosity of N/σ, with σ the cross-section of all events of that kind.

use super::{
    Binning, Comparison, Gives, Numbers,
    bootstrap::{self, Top},
    chi2::{self, ChiSquare},
    floats, wasserstein,
};

/// A weighted sample of the truth.
#[derive(Clone, Debug)]
pub struct WeightedTruth {
    observable: usize,
    binning: Binning,
    /// The quantile function from the top, on the log if the first edge is positive.
    steps: Vec<(f64, f64)>,
    /// In each bin, over the total cross-section: the probability, and the sum of the squares of its parts.
    shares: Vec<f64>,
    squares: Vec<f64>,
    normalisation: f64,
}

impl WeightedTruth {
    /// Takes values of an observable with their weights (pb), the edges of bins (the last bin also takes what lies above), the
    /// cross-section (pb) of all events, below the bins too, and its relative error. `None` if the edges do not ascend,
    /// values and weights do not match, or no weight lies in the bins.
    pub fn new(
        observable: usize,
        (values, weights): (Vec<f64>, Vec<f64>),
        edges: Vec<f64>,
        cross_section: f64,
        normalisation: f64,
    ) -> Option<Self> {
        let binning = Binning::new(edges)?.open_above();
        let sound = values.len() == weights.len()
            && weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
            && cross_section > 0.0
            && normalisation >= 0.0;
        let (sums, squares) = binning.weighted_counts(&values, &weights);
        let shares: Vec<f64> = sums.iter().map(|sum| sum / cross_section).collect();
        let squares = squares.iter().map(|square| square / cross_section.powi(2)).collect();
        let held = shares.iter().sum::<f64>();
        if !sound || held <= 0.0 || !held.is_finite() {
            return None;
        }
        let on_logs = binning.edges()[0] > 0.0;
        let scaled = values.iter().map(|&value| scaled(value, on_logs));
        let steps = wasserstein::weighted_steps(scaled.zip(weights), cross_section);
        Some(Self { observable, binning, steps, shares, squares, normalisation })
    }

    /// The χ² of a sample's counts against N times the truth's shares, in bins joined from the top until ten are expected.
    ///
    /// The covariance is that of Poisson counts of the expectation, of the truth's own Σw², and of a normalisation that all bins
    /// share: `E_i δ_ij + N² Σw²_i/σ² δ_ij + f² E_i E_j`. The normalisation is absolute, so every bin is a degree of freedom.
    pub fn chi2(&self, sample: &[f64]) -> Option<ChiSquare> {
        let bins = self.joined(sample);
        // Sherman and Morrison: (D + uuᵀ)⁻¹ = D⁻¹ − D⁻¹uuᵀD⁻¹/(1 + uᵀD⁻¹u), with u = fE.
        let (mut rr, mut ru, mut uu) = (0.0, 0.0, 0.0);
        for bin in &bins {
            let variance = bin.expected + bin.variance;
            let (residual, shared) = (bin.found - bin.expected, self.normalisation * bin.expected);
            rr += residual * residual / variance;
            ru += residual * shared / variance;
            uu += shared * shared / variance;
        }
        ChiSquare::new(rr - ru * ru / (1.0 + uu), bins.len())
    }

    /// W₁ between the logs of a sample and of the truth (between the values, if the first edge is not positive), over the share
    /// of the truth above the first edge.
    pub fn distance(&self, sample: &[f64]) -> Option<f64> {
        self.top_distance(&Top::of(&super::sorted(sample), self.share()?))
    }

    /// The share of all events that the truth puts into the bins; `None` if it is more than all.
    fn share(&self) -> Option<f64> {
        Some(self.shares.iter().sum::<f64>()).filter(|&share| share < 1.01).map(|share| share.min(1.0))
    }

    fn top_distance(&self, top: &Top) -> Option<f64> {
        let on_logs = self.binning.edges()[0] > 0.0;
        let values = top.values().iter().map(|&value| scaled(value, on_logs));
        wasserstein::from_the_top(wasserstein::steps(values, top.size()), self.steps.iter().copied(), self.share()?)
    }

    /// Counts and expectations in joined bins.
    fn joined(&self, sample: &[f64]) -> Vec<Bin> {
        let events = sample.len() as f64;
        let expected: Vec<f64> = self.shares.iter().map(|share| events * share).collect();
        let variances: Vec<f64> = self.squares.iter().map(|square| events * events * square).collect();
        let groups = chi2::merged(&expected, &vec![0.0; expected.len()], chi2::LEAST);
        let [expected, variances, found] = [expected, variances, floats(&self.binning.counts(sample))]
            .map(|numbers| chi2::regrouped(&numbers, &groups));
        let bin = |(i, group): (usize, &std::ops::Range<usize>)| Bin {
            from: self.binning.edges()[group.start],
            expected: expected[i],
            variance: variances[i],
            found: found[i],
        };
        groups.iter().enumerate().map(bin).filter(|bin| bin.expected > 0.0).collect()
    }
}

/// A value on the scale of distances. What lies at or below 0 is very far off on that of logs.
fn scaled(value: f64, on_logs: bool) -> f64 {
    if on_logs { value.max(f64::MIN_POSITIVE).ln() } else { value }
}

/// A bin of the truth and a sample.
struct Bin {
    from: f64,
    expected: f64,
    /// Of the expectation.
    variance: f64,
    found: f64,
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("truth_chi2_ndf", "χ² per degree of freedom of the counts above the first edge, with absolute normalisation"),
    ("truth_ratio.EDGE", "events found from this edge on, over those expected"),
    ("truth_w1", "Wasserstein-1 distance of the logs over the truth's share above the first edge"),
    ("truth_w1_low", "lower end of its 95 % bootstrap interval"),
    ("truth_w1_high", "upper end"),
];

/// `truth_chi2_ndf`; `truth_w1` with `_low` and `_high`, the sample resampled and the truth not; and `truth_ratio.EDGE`, found
/// over expected in the joined bin from that edge on.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let Some(truth) = &comparison.bench.truth else { return };
    let sample = comparison.sample.ascending(truth.observable);
    if sample.is_empty() {
        return;
    }
    numbers.put("truth_chi2_ndf", truth.chi2(sample).map(|score| score.per_ndf()));
    for bin in truth.joined(sample) {
        numbers.put(format!("truth_ratio.{}", bin.from), bin.found / bin.expected);
    }
    let Some(share) = truth.share() else { return };
    let top = Top::of(sample, share);
    let Some(distance) = truth.top_distance(&top) else { return };
    numbers.put("truth_w1", distance);
    let mut rng = comparison.streams.stream("bootstrap truth");
    let replicas = (0..comparison.effort.replicas).filter_map(|_| truth.top_distance(&top.replica(&mut rng)));
    numbers.put_interval("truth_w1", bootstrap::around(distance, replicas.collect()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weighted events at the middles of four bins; all events have a cross-section of 100.
    fn truth(normalisation: f64) -> WeightedTruth {
        let events = (vec![1.5, 2.5, 3.5, 4.5], vec![4.0, 3.0, 2.0, 1.0]);
        WeightedTruth::new(0, events, vec![1.0, 2.0, 3.0, 4.0, 5.0], 100.0, normalisation).unwrap()
    }

    /// 1000 events, of which so many lie at the middles of the bins.
    fn sample(counts: [usize; 4]) -> Vec<f64> {
        let mut values: Vec<f64> = [1.5, 2.5, 3.5, 4.5].into_iter().zip(counts).flat_map(|(at, n)| vec![at; n]).collect();
        values.resize(1000, 0.5);
        values.sort_unstable_by(f64::total_cmp);
        values
    }

    #[test]
    fn the_expected_counts_have_no_chi2_and_no_distance() {
        let (truth, sample) = (truth(0.01), sample([40, 30, 20, 10]));
        let score = truth.chi2(&sample).unwrap();
        assert!(score.chi2.abs() < 1e-12 && score.ndf == 4);
        assert!(truth.distance(&sample).unwrap() < 1e-12);
    }

    #[test]
    fn a_wrong_normalisation_is_forgiven_as_far_as_it_is_uncertain() {
        let doubled = sample([80, 60, 40, 20]);
        let (strict, lenient) = (truth(0.0).chi2(&doubled).unwrap(), truth(10.0).chi2(&doubled).unwrap());
        assert!(strict.chi2 > 1.0 && lenient.chi2 < 0.01 * strict.chi2, "{} {}", strict.chi2, lenient.chi2);
    }

    #[test]
    fn bins_where_little_is_expected_join_downwards_and_events_beyond_the_edges_count() {
        let mut few = sample([40, 30, 20, 10]);
        few.truncate(900);
        few.extend([17.0; 10]);
        few.sort_unstable_by(f64::total_cmp);
        let bins = truth(0.0).joined(&few);
        assert_eq!(bins.iter().map(|bin| bin.from).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
        assert_eq!(bins[2].found, few.iter().filter(|&&value| value >= 3.0).count() as f64);
    }

    #[test]
    fn a_truth_that_holds_nothing_is_none() {
        assert!(WeightedTruth::new(0, (vec![0.5], vec![1.0]), vec![1.0, 2.0], 1.0, 0.0).is_none());
        assert!(WeightedTruth::new(0, (vec![1.5], vec![1.0]), vec![2.0, 1.0], 1.0, 0.0).is_none());
        assert!(WeightedTruth::new(0, (vec![1.5], vec![]), vec![1.0, 2.0], 1.0, 0.0).is_none());
    }
}
