//! Two-sample metrics, each with the definition that it follows and the reference that it is tested against.
//!
//! Plain functions on slices of `f64`: nothing here knows of stages, models or files. Samples are finite numbers; a metric
//! that the samples do not determine (too few events, an empty tail) is `None`, never NaN.

pub mod binning;
pub mod chi2;
pub mod kolmogorov;
pub mod ks;
pub mod paired;
pub mod tail;
pub mod wasserstein;

pub use binning::Binning;

/// The sample in ascending order.
pub fn sorted(sample: &[f64]) -> Vec<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}
