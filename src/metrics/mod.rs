//! Two-sample metrics, each with the definition that it follows and the reference that it is tested against.
//!
//! Plain functions on slices of `f64`, and [`METRICS`]: the registry of what an evaluation reports. Nothing here knows of
//! stages, models or files. Samples are finite numbers; a metric that the samples do not determine (too few events, an empty
//! tail, a column without spread) is `None`, never NaN.
//!
//! A metric is one file with a function `measure(&Comparison, &mut Numbers)`, and one line in `metrics!`.

pub mod binning;
pub mod bootstrap;
pub mod comparison;
pub mod correlation;
pub mod gbdt;
pub mod kolmogorov;
mod matrix;
pub mod paired;

pub use binning::Binning;
pub use comparison::{Bench, Comparison, Effort, Numbers, Sample};

/// A metric of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, as in `metrics: [ks, chi2]`. The numbers that it gives have names of their own.
    pub name: &'static str,
    /// What the sample is held to.
    pub against: Against,
    /// Adds its numbers.
    pub measure: fn(&Comparison<'_>, &mut Numbers),
}

/// What a metric holds the sample to: this decides who stands in for a perfect model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The test events: another real sample is the floor.
    Test,
    /// A truth beyond them: the test events themselves are the floor.
    Truth,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident against $against:ident,)*) => {
        $($(#[$doc])* pub mod $name;)*

        /// All metrics, in the order in which they run.
        pub const METRICS: &[Metric] = &[
            $(Metric { name: stringify!($name), against: Against::$against, measure: $name::measure },)*
        ];
    };
}

metrics! {
    chi2 against Test,
    ks against Test,
    wasserstein against Test,
    anderson against Test,
    tail against Test,
    tail_index against Test,
    in_tail against Test,
    classifier against Test,
    frechet against Test,
    kernel against Test,
    neighbours against Test,
    density against Truth,
    truth against Truth,
}

/// The sample in ascending order.
pub fn sorted(sample: &[f64]) -> Vec<f64> {
    let mut sorted = sample.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Counts as numbers.
fn floats(counts: &[u64]) -> Vec<f64> {
    counts.iter().map(|&count| count as f64).collect()
}

#[cfg(test)]
mod tests;
