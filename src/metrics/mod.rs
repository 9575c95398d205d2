//! Two-sample metrics, each with the definition that it follows and the reference that it is tested against.
//!
//! Plain functions on slices of `f64`, and [`METRICS`]: the registry of what an evaluation reports. Nothing here knows of
//! stages, models or files. Samples are finite numbers; a metric that the samples do not determine (too few events, an empty
//! tail, a column without spread) is `None`, never NaN.
//!
//! A metric is one file with a function `measure(&Comparison, &mut Numbers)` and the list `GIVES` of its numbers, and one line in
//! `metrics!`.

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
    /// What it is, in a sentence.
    pub summary: &'static str,
    /// The numbers that it gives, and what each means.
    pub gives: &'static [Gives],
    /// Adds its numbers.
    pub measure: fn(&Comparison<'_>, &mut Numbers),
}

/// A number of a metric: its name, and what it means. In the name `OBSERVABLE` stands for each observable, `U` for a share of the
/// events and `EDGE` for the edge of a bin.
pub type Gives = (&'static str, &'static str);

/// What a metric holds the sample to: this decides who stands in for a perfect model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The test events: another real sample is the floor.
    Test,
    /// A truth beyond them: the test events themselves are the floor.
    Truth,
}

macro_rules! metrics {
    ($($name:ident against $against:ident: $summary:literal,)*) => {
        $(pub mod $name;)*

        /// All metrics, in the order in which they run.
        pub const METRICS: &[Metric] = &[
            $(Metric {
                name: stringify!($name),
                against: Against::$against,
                summary: $summary,
                gives: $name::GIVES,
                measure: $name::measure,
            },)*
        ];
    };
}

metrics! {
    chi2 against Test: "Histograms of every observable, by a two-sample χ².",
    ks against Test: "Distribution functions of every observable, by the Kolmogorov–Smirnov distance.",
    wasserstein against Test: "How far events must be moved, observable by observable.",
    anderson against Test: "The Anderson–Darling test of every observable, which weighs the tails.",
    tail against Test: "The tail observable above the dataset's cut: mass, shape and upper quantiles.",
    tail_index against Test: "How slowly the spectrum of the tail observable falls above the cut.",
    in_tail against Test: "Every observable among the events of the tail.",
    classifier against Test: "How well gradient boosting tells generated events from real ones.",
    frechet against Test: "JetNet's Fréchet physics distance.",
    kernel against Test: "JetNet's kernel physics distance.",
    neighbours against Test: "Whether generated events lie where real ones do, and the other way round, by balls around events.",
    density against Truth: "Upper quantiles of synthetic events against the density that they come from.",
    truth against Truth: "The tail against a weighted sample of the truth.",
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
