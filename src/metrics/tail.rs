//! How much of a sample lies in the tail, and how far up its quantiles reach.

use super::{
    Comparison, Gives, Numbers,
    bootstrap::{self, Top},
    chi2,
    comparison::TailBench,
    floats, wasserstein,
};

/// Shares of the events above which quantiles are compared, where at least [`QUANTILE_EVENTS`] of either sample lie there.
pub const QUANTILE_SHARES: [f64; 3] = [1e-2, 1e-3, 1e-4];

/// Below this many events above a quantile, the quantile says little.
pub const QUANTILE_EVENTS: f64 = 10.0;

/// The tail mass of a generated sample over that of the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MassRatio {
    /// `(k_g/n_g) / (k_r/n_r)`, with k of n events in the tail.
    pub ratio: f64,
    /// Deviation of ln(ratio), `√(1/k_r + 1/k_g)`; `None` if no generated event lies in the tail.
    pub sigma: Option<f64>,
}

/// Events strictly above a cut.
pub fn above(sample: &[f64], cut: f64) -> usize {
    sample.iter().filter(|&&value| value > cut).count()
}

/// Compares the tail masses above a cut. `None` if the reference has no event there or the generated sample is empty.
pub fn mass_ratio(reference: &[f64], generated: &[f64], cut: f64) -> Option<MassRatio> {
    let (k_r, k_g) = (above(reference, cut) as f64, above(generated, cut) as f64);
    if k_r == 0.0 || generated.is_empty() {
        return None;
    }
    let ratio = (k_g / generated.len() as f64) / (k_r / reference.len() as f64);
    Some(MassRatio { ratio, sigma: (k_g > 0.0).then(|| (1.0 / k_r + 1.0 / k_g).sqrt()) })
}

/// The quantile at p of an ascending sample, as `numpy.quantile(sample, p)`: linear between order statistics.
/// `None` if the sample is empty or p is outside [0, 1].
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    quantile_of(sorted.len(), p, |rank| sorted.get(rank).copied())
}

/// The quantile at p of `size` values, of which `ranked` gives the one of a rank from 0, or none where it is not known.
pub(super) fn quantile_of(size: usize, p: f64, ranked: impl Fn(usize) -> Option<f64>) -> Option<f64> {
    if size == 0 || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = (size - 1) as f64 * p;
    let below = (position.floor() as usize).min(size - 1);
    let (low, high) = (ranked(below)?, ranked((below + 1).min(size - 1))?);
    let part = position - below as f64;
    // From the nearer side, so that the result never leaves [low, high].
    Some(if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) })
}

/// `Q_g(1 − u) / Q_r(1 − u) − 1` for ascending samples: how far the generated quantile strays, relative to the real one.
/// `None` if a sample is empty or the real quantile is 0.
pub fn quantile_deviation(reference: &[f64], generated: &[f64], u: f64) -> Option<f64> {
    deviation(quantile(reference, 1.0 - u)?, quantile(generated, 1.0 - u)?)
}

fn deviation(real: f64, generated: f64) -> Option<f64> {
    Some(generated / real - 1.0).filter(|deviation| deviation.is_finite())
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("tail_mass_ratio", "share of events above the cut over that of the test events"),
    ("tail_mass_ratio_sigma", "standard deviation of its log, from the counts"),
    ("tail_chi2_ndf", "χ² per degree of freedom in bins above the cut, with one more for all events below: the mass counts, too"),
    ("tail_w1", "Wasserstein-1 distance of the top shares of both samples, on the log where the cut is above 0: a relative shift"),
    ("tail_w1_low", "lower end of its 95 % bootstrap interval"),
    ("tail_w1_high", "upper end"),
    ("qq_U", "quantile that the share U exceeds over that of the test events, less 1; U is 0.01, 0.001 and 0.0001, where ten events exceed it"),
    ("qq_U_low", "lower end of its 95 % bootstrap interval"),
    ("qq_U_high", "upper end"),
];

/// The tail's numbers: mass, the top share's W₁ and the spectrum above the cut, and the deviations of upper quantiles.
///
/// `tail_mass_ratio` with `_sigma`, `tail_w1`, `qq_U` with `_low` and `_high` (both samples resampled, see [`bootstrap`]),
/// `tail_chi2_ndf` of bins above the cut, the events below it being one bin more.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let Some(tail) = &comparison.bench.tail else { return };
    let (test, sample) =
        (comparison.bench.test.ascending(tail.observable), comparison.sample.ascending(tail.observable));

    let mass = mass_ratio(test, sample, tail.cut);
    numbers.put("tail_mass_ratio", mass.map(|mass| mass.ratio));
    numbers.put("tail_mass_ratio_sigma", mass.and_then(|mass| mass.sigma));
    if let Some(bins) = &tail.bins {
        // The events outside are one bin more: the tail's normalisation counts, not its shape alone.
        let outside = |counts: &[u64], events: usize| {
            let outside = events as f64 - counts.iter().sum::<u64>() as f64;
            std::iter::once(outside).chain(floats(counts)).collect::<Vec<_>>()
        };
        let found = bins.binning.counts(sample);
        let score = chi2::two_sample_merged(&outside(&bins.test, test.len()), &outside(&found, sample.len()));
        numbers.put("tail_chi2_ndf", score.map(|score| score.per_ndf()));
    }

    let enough = |share: &f64| share * test.len().min(sample.len()) as f64 >= QUANTILE_EVENTS;
    let shares: Vec<f64> = QUANTILE_SHARES.into_iter().filter(enough).collect();
    let pair = Pair::new(tail, test, sample, &shares);
    let w1 = pair.distance();
    numbers.put("tail_w1", w1);
    for &share in &shares {
        numbers.put(format!("qq_{share}"), pair.deviation(share));
    }

    let mut rng = comparison.streams.stream("bootstrap");
    let (mut distances, mut deviations) = (Vec::new(), vec![Vec::new(); shares.len()]);
    for _ in 0..comparison.effort.replicas {
        let replica = Pair { test: pair.test.replica(&mut rng), sample: pair.sample.replica(&mut rng), ..pair };
        distances.extend(replica.distance());
        shares.iter().zip(&mut deviations).for_each(|(&share, found)| found.extend(replica.deviation(share)));
    }
    numbers.put_interval("tail_w1", w1.and_then(|value| bootstrap::around(value, distances)));
    for (share, found) in shares.into_iter().zip(deviations) {
        numbers.put_interval(&format!("qq_{share}"), bootstrap::percentile(found));
    }
}

/// The tops of two samples.
struct Pair {
    test: Top,
    sample: Top,
    /// The share of the events in the tail.
    share: f64,
    /// Whether distances are those of the logs.
    on_logs: bool,
}

impl Pair {
    fn new(tail: &TailBench, test: &[f64], sample: &[f64], shares: &[f64]) -> Self {
        let reach = shares.iter().copied().fold(tail.share, f64::max);
        Self {
            test: Top::of(test, reach),
            sample: Top::of(sample, reach),
            share: tail.share,
            on_logs: tail.cut > 0.0,
        }
    }

    /// W₁ of the tail's share: on the log where the observable has one; what a model puts at or below 0 is then very far off.
    fn distance(&self) -> Option<f64> {
        let scale = |value: &f64| if self.on_logs { value.max(f64::MIN_POSITIVE).ln() } else { *value };
        let [test, sample] =
            [&self.test, &self.sample].map(|top| wasserstein::steps(top.values().iter().map(scale), top.size()));
        wasserstein::from_the_top(test, sample, self.share)
    }

    fn deviation(&self, share: f64) -> Option<f64> {
        deviation(self.test.quantile(1.0 - share)?, self.sample.quantile(1.0 - share)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masses_are_shares_of_their_samples() {
        let ratio = mass_ratio(&[1.0, 2.0, 3.0, 4.0], &[3.0, 5.0], 2.5).unwrap();
        assert!((ratio.ratio - 2.0).abs() < 1e-15);
        assert!((ratio.sigma.unwrap() - 1.0).abs() < 1e-15);
    }

    #[test]
    fn an_empty_generated_tail_has_ratio_zero_and_no_error() {
        assert_eq!(mass_ratio(&[3.0], &[1.0], 2.0), Some(MassRatio { ratio: 0.0, sigma: None }));
        assert_eq!(mass_ratio(&[1.0], &[3.0], 2.0), None);
        assert_eq!(mass_ratio(&[3.0], &[], 2.0), None);
    }

    #[test]
    fn quantiles_lie_between_order_statistics() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
    }

    #[test]
    fn a_stretched_tail_shows_as_its_stretch() {
        let real: Vec<f64> = (1..=1000).map(f64::from).collect();
        let stretched: Vec<f64> = real.iter().map(|value| 1.1 * value).collect();
        assert!((quantile_deviation(&real, &stretched, 1e-2).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(quantile_deviation(&[0.0], &[1.0], 0.5), None);
    }
}
