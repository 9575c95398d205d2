//! Upper quantiles against those of a density that is known.

use super::{
    Comparison, Gives, Numbers,
    tail::{QUANTILE_SHARES, quantile},
};

/// Below this many events above a quantile, the quantile says little.
const LEAST: f64 = 5.0;

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("truth_quantile_ratio_U", "quantile of x0 that the share U exceeds, over the exact one; U as in `qq_U`"),
];

/// `truth_quantile_ratio_U`: Q(1 − U) of the sample over F⁻¹(1 − U), where the sample has at least five events above.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let Some((observable, density)) = comparison.bench.density else { return };
    let sample = comparison.sample.ascending(observable);
    for share in QUANTILE_SHARES.into_iter().filter(|share| share * sample.len() as f64 >= LEAST) {
        let ratio = quantile(sample, 1.0 - share).map(|found| found / density.upper_quantile(share));
        numbers.put(format!("truth_quantile_ratio_{share}"), ratio);
    }
}
