//! Every observable among the events of the tail: a generator may have the tail's mass right and all else in it wrong.

use super::{Binning, Comparison, Gives, Numbers, chi2, floats, ks};

/// Most bins of an observable in the tail.
const BINS: usize = 25;
/// Real events for each bin of equal share.
const EVENTS_PER_BIN: usize = 20;

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("in_tail_ks.OBSERVABLE", "Kolmogorov–Smirnov distance among the events of the tail"),
    ("in_tail_chi2_ndf.OBSERVABLE", "two-sample χ² per degree of freedom among them"),
    ("in_tail_chi2_ndf_mean", "its mean over observables"),
];

/// `in_tail_ks.OBSERVABLE`, `in_tail_chi2_ndf.OBSERVABLE` and `in_tail_chi2_ndf_mean`, of the events above the cut.
///
/// The bins share out another real sample's tail equally. Shapes are compared: the tail's mass is `tail`'s to judge.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let (bench, sample) = (comparison.bench, comparison.sample);
    let bins = (bench.reference.in_tail().len() / EVENTS_PER_BIN).min(BINS);
    let mut scores = Vec::new();
    for (i, name) in bench.names.iter().enumerate() {
        let (test, found) = (bench.test.tail_values(i), sample.tail_values(i));
        numbers.put(format!("in_tail_ks.{name}"), ks::two_sample(&test, &found).map(|test| test.statistic));
        let binning = Binning::quantile(bins, &bench.reference.tail_values(i)).filter(|_| bins > 1);
        let score = binning.and_then(|binning| {
            chi2::two_sample_merged(&floats(&binning.counts(&test)), &floats(&binning.counts(&found)))
        });
        if let Some(score) = score {
            numbers.put(format!("in_tail_chi2_ndf.{name}"), score.per_ndf());
            scores.push(score.per_ndf());
        }
    }
    numbers.put_mean("in_tail_chi2_ndf_mean", &scores);
}
