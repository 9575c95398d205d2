//! The judge: numbers and histograms of one sample of events against the test events. Pure: it sees tables only.

use super::{super::StageError, Metrics};
use crate::{
    data::{DataError, Description, Table, Truth},
    metrics::{Binning, chi2, ks, sorted, tail, wasserstein},
    report::{
        Evaluation,
        evaluation::{Events, Histograms},
    },
};

/// Shares of the events above which quantiles are compared, where at least [`QUANTILE_EVENTS`] of either sample lie there.
const QUANTILE_SHARES: [f64; 3] = [1e-2, 1e-3, 1e-4];

/// Below this many events above a quantile, the quantile says little.
const QUANTILE_EVENTS: f64 = 10.0;

/// As [`QUANTILE_EVENTS`], where the other side is the exact quantile.
const TRUTH_EVENTS: f64 = 5.0;

/// Q(1 − u) of a sample over F⁻¹(1 − u); `_u` follows.
const TRUTH_METRIC: &str = "truth_quantile_ratio_";

/// The column of synthetic events whose density is known.
const TRUTH_COLUMN: &str = "x0";

/// Bins of the spectrum that is drawn.
const SPECTRUM_BINS: usize = 32;

/// Test events, prepared for comparison with samples of models.
pub(super) struct Judge<'a> {
    description: &'a Description,
    rulers: Vec<Ruler>,
}

/// One observable of the test events.
struct Ruler {
    observable: String,
    /// Test values, ascending.
    test: Vec<f64>,
    bins: Option<Histogram>,
    /// The bins carry a published name, so `PreciseGAN`'s χ² is known for them.
    published: bool,
    tail: Option<TailRuler>,
    /// The density that the events were drawn from, if it is known.
    truth: Option<Truth>,
}

/// The tail of the observable that defines it.
struct TailRuler {
    cut: f64,
    /// The share of the test events above the cut.
    share: f64,
    bins: Option<Histogram>,
    /// For drawing.
    spectrum: Option<Histogram>,
}

/// Test events in bins.
struct Histogram {
    binning: Binning,
    test: Vec<u64>,
}

impl Histogram {
    fn of(binning: Binning, test: &[f64]) -> Self {
        Self { test: binning.counts(test), binning }
    }
}

/// One sample against the test events.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judged {
    /// Numbers by name, `METRIC[.OBSERVABLE]`.
    pub(super) metrics: Metrics,
    /// Events in the bins of each observable.
    counts: Vec<Vec<u64>>,
    /// Events in the bins of the spectrum, if there is one.
    spectrum: Vec<u64>,
    /// Values left out because they are not finite.
    pub(super) dropped: usize,
}

impl<'a> Judge<'a> {
    /// Prepares test events. The reference, another real sample, sets bins where an observable has none of its own.
    pub(super) fn new(description: &'a Description, test: &Table, reference: &Table) -> Result<Self, StageError> {
        if test.is_empty() || reference.is_empty() {
            return Err(StageError::Unusable(
                "there are no test or no training events to judge by; raise `split.test` of the dataset, or give a `test_file`".into(),
            ));
        }
        let rulers = description.observable_names().into_iter().map(|observable| {
            let (test, _) = values(description, test, &observable)?;
            let (reference, _) = values(description, reference, &observable)?;
            let binning = Binning::for_observable(&observable, &reference);
            let published = binning.is_some() && binning == Binning::dijet(&observable);
            let tail = description.tail.as_ref().filter(|tail| tail.observable == observable);
            let tail = tail.map(|tail| TailRuler::new(&observable, tail.above, &test, &reference));
            let bins = binning.map(|binning| Histogram::of(binning, &test));
            let truth = description.truth.filter(|_| observable == TRUTH_COLUMN);
            Ok(Ruler { observable, test, bins, published, tail, truth })
        });
        Ok(Self { description, rulers: rulers.collect::<Result<_, DataError>>()? })
    }

    /// Compares a sample with the test events.
    pub(super) fn judge(&self, generated: &Table) -> Result<Judged, StageError> {
        let mut judged = Judged::default();
        for ruler in &self.rulers {
            let (values, dropped) = values(self.description, generated, &ruler.observable)?;
            ruler.compare(&values, &mut judged);
            judged.dropped += dropped;
        }
        let scores: Vec<f64> = with_prefix(&judged.metrics, "chi2_ndf.").collect();
        if !scores.is_empty() {
            judged.put("chi2_ndf_mean", Some(scores.iter().sum::<f64>() / scores.len() as f64));
        }
        Ok(judged)
    }

    /// Judges real events in a model's place. Against the truth stand the test events, since they are what a model is held to.
    pub(super) fn floor(&self, reference: &Table) -> Result<Judged, StageError> {
        let mut judged = self.judge(reference)?;
        judged.metrics.retain(|name, _| !name.starts_with(TRUTH_METRIC));
        self.rulers.iter().for_each(|ruler| ruler.compare_with_truth(&ruler.test, &mut judged));
        Ok(judged)
    }

    /// The file of the evaluation.
    pub(super) fn evaluation(&self, events: Events, floor: &Judged, models: &[Judged]) -> Evaluation {
        let histograms = |(i, ruler): (usize, &Ruler)| {
            let bins = ruler.bins.as_ref()?;
            Some(Histograms {
                observable: ruler.observable.clone(),
                binning: bins.binning.clone(),
                test: bins.test.clone(),
                floor: floor.counts[i].clone(),
                models: models.iter().map(|model| model.counts[i].clone()).collect(),
            })
        };
        let spectrum = |ruler: &Ruler| {
            let spectrum = ruler.tail.as_ref()?.spectrum.as_ref()?;
            Some(Histograms {
                observable: ruler.observable.clone(),
                binning: spectrum.binning.clone(),
                test: spectrum.test.clone(),
                floor: floor.spectrum.clone(),
                models: models.iter().map(|model| model.spectrum.clone()).collect(),
            })
        };
        Evaluation {
            format: Evaluation::FORMAT,
            events,
            tail: self.description.tail.clone(),
            observables: self.rulers.iter().enumerate().filter_map(histograms).collect(),
            spectra: self.rulers.iter().filter_map(spectrum).collect(),
        }
    }
}

impl Ruler {
    /// Adds numbers and counts of this observable; `generated` ascends.
    fn compare(&self, generated: &[f64], judged: &mut Judged) {
        let name = &self.observable;
        let counts = self.bins.as_ref().map(|bins| bins.binning.counts(generated)).unwrap_or_default();
        if let Some(bins) = &self.bins {
            let (test, found) = (floats(&bins.test), floats(&counts));
            judged.put(format!("chi2_ndf.{name}"), per_ndf(chi2::two_sample_merged(&test, &found)));
            if self.published {
                let score = per_ndf(chi2::generated_as_expectation(&test, &found));
                judged.put(format!("chi2_ndf_precisegan.{name}"), score);
            }
        }
        judged.counts.push(counts);
        judged.put(format!("ks.{name}"), ks::two_sample(&self.test, generated).map(|test| test.statistic));
        judged.put(format!("w1.{name}"), wasserstein::distance(&self.test, generated));
        if let Some(tail) = &self.tail {
            tail.compare(&self.test, generated, judged);
        }
        self.compare_with_truth(generated, judged);
    }

    /// Adds upper quantiles of an ascending sample over those of the density, where at least [`TRUTH_EVENTS`] lie above.
    fn compare_with_truth(&self, sample: &[f64], judged: &mut Judged) {
        let Some(truth) = &self.truth else { return };
        for share in QUANTILE_SHARES.into_iter().filter(|share| share * sample.len() as f64 >= TRUTH_EVENTS) {
            let ratio = tail::quantile(sample, 1.0 - share).map(|found| found / truth.upper_quantile(share));
            judged.put(format!("{TRUTH_METRIC}{share}"), ratio.filter(|ratio| ratio.is_finite()));
        }
    }
}

impl TailRuler {
    fn new(observable: &str, cut: f64, test: &[f64], reference: &[f64]) -> Self {
        let bins = Binning::tail(observable, cut, reference).map(|binning| Histogram::of(binning, test));
        let spectrum = spectrum(reference).map(|binning| Histogram::of(binning, test));
        Self { cut, share: tail::above(test, cut) as f64 / test.len() as f64, bins, spectrum }
    }

    /// Adds the tail's numbers: those of mass, quantiles, the top share's W₁ and the spectrum above the cut.
    fn compare(&self, test: &[f64], generated: &[f64], judged: &mut Judged) {
        let mass = tail::mass_ratio(test, generated, self.cut);
        judged.put("tail_mass_ratio", mass.map(|mass| mass.ratio));
        judged.put("tail_mass_ratio_sigma", mass.and_then(|mass| mass.sigma));

        // On the log where the observable has one; what a model puts at or below 0 is then very far off.
        let scale = |value: &f64| if self.cut > 0.0 { value.max(f64::MIN_POSITIVE).ln() } else { *value };
        let (on_test, on_generated): (Vec<_>, Vec<_>) =
            (test.iter().map(scale).collect(), generated.iter().map(scale).collect());
        judged.put("tail_w1", wasserstein::top_distance(&on_test, &on_generated, self.share));

        for share in QUANTILE_SHARES {
            if share * test.len().min(generated.len()) as f64 >= QUANTILE_EVENTS {
                judged.put(format!("qq_{share}"), tail::quantile_deviation(test, generated, share));
            }
        }
        if let Some(bins) = &self.bins {
            // The events outside are one bin more: the tail's normalisation counts, not its shape alone.
            let outside = |counts: &[u64], events: usize| {
                let outside = events as f64 - counts.iter().sum::<u64>() as f64;
                std::iter::once(outside).chain(floats(counts)).collect::<Vec<_>>()
            };
            let found = bins.binning.counts(generated);
            let score = chi2::two_sample_merged(&outside(&bins.test, test.len()), &outside(&found, generated.len()));
            judged.put("tail_chi2_ndf", per_ndf(score));
        }
        judged.spectrum = self.spectrum.as_ref().map(|bins| bins.binning.counts(generated)).unwrap_or_default();
    }
}

impl Judged {
    fn put(&mut self, name: impl Into<String>, value: Option<f64>) {
        if let Some(value) = value {
            self.metrics.insert(name.into(), value);
        }
    }
}

/// The finite values of an observable in ascending order, and how many were not finite.
fn values(description: &Description, events: &Table, observable: &str) -> Result<(Vec<f64>, usize), DataError> {
    let mut values = description.observables.values(events, observable)?;
    values.retain(|value| value.is_finite());
    Ok((sorted(&values), events.len() - values.len()))
}

/// Bins of the whole range of an ascending sample and a little more: of equal ratio where all of it is positive.
fn spectrum(sample: &[f64]) -> Option<Binning> {
    let (&low, &high) = (sample.first()?, sample.last()?);
    if low > 0.0 {
        Binning::logarithmic(SPECTRUM_BINS, low, high * 1.2)
    } else {
        Binning::uniform(SPECTRUM_BINS, low, high + 0.1 * (high - low))
    }
}

fn per_ndf(score: Option<chi2::ChiSquare>) -> Option<f64> {
    score.map(|score| score.per_ndf())
}

fn floats(counts: &[u64]) -> Vec<f64> {
    counts.iter().map(|&count| count as f64).collect()
}

fn with_prefix<'a>(metrics: &'a Metrics, prefix: &'a str) -> impl Iterator<Item = f64> + 'a {
    metrics.iter().filter(move |(name, _)| name.starts_with(prefix)).map(|(_, &value)| value)
}

#[cfg(test)]
mod tests;
