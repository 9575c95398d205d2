//! The judge: numbers and histograms of one sample of events against the test events. Pure: it sees tables only.

use super::{
    super::StageError,
    Metrics,
    shape::{Shape, Shapes},
};
use crate::{
    data::{DataError, Description, Table},
    metrics::{
        Against, Bench, Binning, Comparison, Effort, Metric, Numbers, Sample, comparison::Histogram,
        truth::WeightedTruth,
    },
    report::{
        Evaluation,
        evaluation::{Events, Histograms},
    },
    rng::Streams,
};

/// The column of synthetic events whose density is known.
const TRUTH_COLUMN: &str = "x0";

/// Bins of the spectrum that is drawn.
const SPECTRUM_BINS: usize = 32;

/// Test events, prepared for comparison with samples of models.
pub(super) struct Judge<'a> {
    description: &'a Description,
    bench: Bench,
    /// Finer bins of the tail observable, for drawing.
    spectrum: Option<Histogram>,
    /// What else is drawn.
    shapes: Shapes,
    metrics: Vec<&'static Metric>,
    effort: Effort,
    streams: &'a Streams,
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
    /// What else is drawn of it.
    shape: Shape,
    /// Values left out because they are not finite.
    pub(super) dropped: usize,
}

impl<'a> Judge<'a> {
    /// Prepares test events. The reference, another real sample, sets bins where an observable has none of its own, and is the
    /// floor.
    pub(super) fn new(
        description: &'a Description,
        test: &Table,
        reference: &Table,
        metrics: Vec<&'static Metric>,
        effort: Effort,
        streams: &'a Streams,
        models: usize,
    ) -> Result<Self, StageError> {
        if test.is_empty() || reference.is_empty() {
            return Err(StageError::Unusable(
                "there are no test or no training events to judge by; raise `split.test` of the dataset, or give a `test_file`".into(),
            ));
        }
        let names = description.observable_names();
        let place = |observable: &str| names.iter().position(|name| name == observable);
        let tail = description.tail.as_ref().and_then(|tail| Some((place(&tail.observable)?, tail.above)));
        let density = description.truth.and_then(|density| Some((place(TRUTH_COLUMN)?, density)));
        let mut bench =
            Bench::new(names.clone(), &columns(description, test)?, &columns(description, reference)?, tail);
        bench.density = density;
        let spectrum = tail.and_then(|(observable, _)| {
            let binning = spectrum(bench.reference.ascending(observable))?;
            Some(Histogram::of(binning, bench.test.ascending(observable)))
        });
        let shapes = Shapes::of(&bench, models);
        Ok(Self { description, bench, spectrum, shapes, metrics, effort, streams })
    }

    /// Adds a weighted sample of the truth to judge by.
    pub(super) fn with_truth(mut self, truth: Option<WeightedTruth>) -> Self {
        self.bench.truth = truth;
        self
    }

    /// Compares a sample with the test events.
    pub(super) fn judge(&self, generated: &Table) -> Result<Judged, StageError> {
        let sample = self.bench.sample(&columns(self.description, generated)?);
        Ok(self.judged(&sample, |_| &sample))
    }

    /// Judges real events in a model's place: the reference, and against the truth the test events, since they are what a model
    /// is held to.
    pub(super) fn floor(&self) -> Judged {
        self.judged(&self.bench.reference, |metric| match metric.against {
            Against::Test => &self.bench.reference,
            Against::Truth => &self.bench.test,
        })
    }

    /// Counts of a sample, and the metrics of whichever sample each of them is to see.
    fn judged<'s>(&self, sample: &Sample, seen: impl Fn(&Metric) -> &'s Sample) -> Judged {
        let mut numbers = Numbers::default();
        for metric in &self.metrics {
            let comparison =
                Comparison { bench: &self.bench, sample: seen(metric), streams: self.streams, effort: self.effort };
            (metric.measure)(&comparison, &mut numbers);
        }
        let counts =
            self.bench.bins.iter().enumerate().map(|(i, bins)| {
                bins.as_ref().map(|bins| bins.binning.counts(sample.ascending(i))).unwrap_or_default()
            });
        let spectrum = self.bench.tail.as_ref().zip(self.spectrum.as_ref());
        Judged {
            metrics: numbers.into_map(),
            counts: counts.collect(),
            spectrum: spectrum
                .map(|(tail, bins)| bins.binning.counts(sample.ascending(tail.observable)))
                .unwrap_or_default(),
            shape: self.shapes.shape(sample),
            dropped: sample.dropped(),
        }
    }

    /// The file of the evaluation.
    pub(super) fn evaluation(&self, events: Events, floor: &Judged, models: &[Judged]) -> Evaluation {
        let histograms = |(i, name): (usize, &String)| {
            let bins = self.bench.bins[i].as_ref()?;
            let of = |judged: &Judged| judged.counts[i].clone();
            Some(drawn(name, bins, of(floor), models.iter().map(of).collect()))
        };
        let spectrum = || {
            let name = &self.bench.names[self.bench.tail.as_ref()?.observable];
            let of = |judged: &Judged| judged.spectrum.clone();
            Some(drawn(name, self.spectrum.as_ref()?, of(floor), models.iter().map(of).collect()))
        };
        let (floor, models) = (&floor.shape, models.iter().map(|judged| &judged.shape).collect::<Vec<_>>());
        Evaluation {
            format: Evaluation::FORMAT,
            events,
            tail: self.description.tail.clone(),
            observables: self.bench.names.iter().enumerate().filter_map(histograms).collect(),
            spectra: spectrum().into_iter().collect(),
            quantiles: self.shapes.quantiles(&self.bench, floor, &models),
            joint: self.shapes.joint(&self.bench, floor, &models),
        }
    }
}

fn drawn(observable: &str, bins: &Histogram, floor: Vec<u64>, models: Vec<Vec<u64>>) -> Histograms {
    let (binning, test) = (bins.binning.clone(), bins.test.clone());
    Histograms { observable: observable.to_owned(), binning, test, floor, models }
}

/// The values of all observables.
fn columns(description: &Description, events: &Table) -> Result<Vec<Vec<f64>>, DataError> {
    description.observable_names().iter().map(|name| description.observables.values(events, name)).collect()
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

#[cfg(test)]
mod tests;
