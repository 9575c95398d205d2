//! What every metric of the registry sees: test events prepared once, and the sample that they judge.

use std::collections::BTreeMap;

use super::{Binning, bootstrap::Interval, sorted, tail, truth::WeightedTruth};
use crate::{data::Truth, rng::Streams};

/// Events prepared for comparison: each observable in ascending order, and the complete events as rows.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Events given, complete or not.
    size: usize,
    /// Finite values in ascending order, one list an observable.
    ascending: Vec<Vec<f64>>,
    /// Events whose observables are all finite, `[events, observables]`.
    rows: Vec<f32>,
    /// The rows in the tail.
    in_tail: Vec<usize>,
    /// Values that are not finite.
    dropped: usize,
}

impl Sample {
    /// Prepares columns of equal length, one an observable. The tail is an observable's index and the cut that its events exceed.
    pub fn new(columns: &[Vec<f64>], tail: Option<(usize, f64)>) -> Self {
        let size = columns.first().map_or(0, Vec::len);
        let finite = |column: &Vec<f64>| column.iter().copied().filter(|value| value.is_finite()).collect::<Vec<_>>();
        let ascending: Vec<Vec<f64>> = columns.iter().map(|column| sorted(&finite(column))).collect();
        let dropped = ascending.iter().map(|values| size - values.len()).sum();
        let (mut rows, mut in_tail) = (Vec::with_capacity(size * columns.len()), Vec::new());
        // A double beyond the range of singles is infinite as a single: no complete event.
        let complete = (0..size).filter(|&i| columns.iter().all(|column| (column[i] as f32).is_finite()));
        for (row, event) in complete.enumerate() {
            rows.extend(columns.iter().map(|column| column[event] as f32));
            if tail.is_some_and(|(observable, cut)| columns[observable][event] > cut) {
                in_tail.push(row);
            }
        }
        Self { size, ascending, rows, in_tail, dropped }
    }

    /// Events given.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Values left out because they are not finite.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Observables.
    pub fn width(&self) -> usize {
        self.ascending.len()
    }

    /// The finite values of an observable, ascending.
    pub fn ascending(&self, observable: usize) -> &[f64] {
        &self.ascending[observable]
    }

    /// Complete events.
    pub fn events(&self) -> usize {
        if self.width() == 0 { 0 } else { self.rows.len() / self.width() }
    }

    /// A complete event, one value an observable.
    pub fn event(&self, row: usize) -> &[f32] {
        &self.rows[row * self.width()..][..self.width()]
    }

    /// Which of the complete events lie in the tail.
    pub fn in_tail(&self) -> &[usize] {
        &self.in_tail
    }

    /// The values of an observable in the tail, ascending.
    pub fn tail_values(&self, observable: usize) -> Vec<f64> {
        sorted(&self.in_tail.iter().map(|&row| f64::from(self.event(row)[observable])).collect::<Vec<_>>())
    }
}

/// Test events in bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The bins.
    pub binning: Binning,
    /// Test events in each.
    pub test: Vec<u64>,
}

impl Histogram {
    /// Fills test events into bins.
    pub fn of(binning: Binning, test: &[f64]) -> Self {
        Self { test: binning.counts(test), binning }
    }
}

/// The tail of the test events.
#[derive(Clone, Debug, PartialEq)]
pub struct TailBench {
    /// The observable that defines it.
    pub observable: usize,
    /// Events above this lie in it.
    pub cut: f64,
    /// The share of the test events that do.
    pub share: f64,
    /// Bins above the cut.
    pub bins: Option<Histogram>,
}

/// All that judges a sample: test events with their bins, and the truth where it is known.
#[derive(Clone, Debug)]
pub struct Bench {
    /// Names of the observables.
    pub names: Vec<String>,
    /// The test events.
    pub test: Sample,
    /// Another real sample: it sets bins where an observable has none of its own, and stands in for a perfect model.
    pub reference: Sample,
    /// The bins of each observable, `None` for one without spread.
    pub bins: Vec<Option<Histogram>>,
    /// The tail, if one is named.
    pub tail: Option<TailBench>,
    /// The density of an observable, if it is known.
    pub density: Option<(usize, Truth)>,
    /// A weighted sample of the truth in the tail, if there is one.
    pub truth: Option<WeightedTruth>,
}

impl Bench {
    /// Prepares test events and another real sample, each as columns in the order of the names.
    pub fn new(names: Vec<String>, test: &[Vec<f64>], reference: &[Vec<f64>], tail: Option<(usize, f64)>) -> Self {
        let (test, reference) = (Sample::new(test, tail), Sample::new(reference, tail));
        let bins = names.iter().enumerate().map(|(i, name)| {
            let binning = Binning::for_observable(name, reference.ascending(i))?;
            Some(Histogram::of(binning, test.ascending(i)))
        });
        let bins = bins.collect();
        let tail = tail.map(|(observable, cut)| {
            let values = test.ascending(observable);
            let bins = Binning::tail(&names[observable], cut, reference.ascending(observable));
            TailBench {
                observable,
                cut,
                share: tail::above(values, cut) as f64 / values.len().max(1) as f64,
                bins: bins.map(|binning| Histogram::of(binning, values)),
            }
        });
        Self { names, test, reference, bins, tail, density: None, truth: None }
    }

    /// Prepares a sample to be judged, as columns in the order of the names.
    pub fn sample(&self, columns: &[Vec<f64>]) -> Sample {
        Sample::new(columns, self.tail.as_ref().map(|tail| (tail.observable, tail.cut)))
    }
}

/// How much work the costly metrics may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Most events of either sample that the classifier sees.
    pub classifier_events: usize,
    /// Most events of either sample whose neighbours are searched.
    pub neighbour_events: usize,
    /// Bootstrap replicas.
    pub replicas: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { classifier_events: 200_000, neighbour_events: 5000, replicas: 200 }
    }
}

/// A sample before its bench.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// What judges.
    pub bench: &'a Bench,
    /// What is judged.
    pub sample: &'a Sample,
    /// Randomness; the same for every sample, so that samples are compared under the same draws.
    pub streams: &'a Streams,
    /// How much work to do.
    pub effort: Effort,
}

impl<'a> Comparison<'a> {
    /// Name, test values and sample values, both ascending, of each observable.
    pub fn observables(&self) -> impl Iterator<Item = (&'a str, &'a [f64], &'a [f64])> + use<'a> {
        let (bench, sample) = (self.bench, self.sample);
        bench.names.iter().enumerate().map(|(i, name)| (name.as_str(), bench.test.ascending(i), sample.ascending(i)))
    }
}

/// Named results. A number that is not finite is no result: it is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers(BTreeMap<String, f64>);

impl Numbers {
    /// Adds a number if there is one.
    pub fn put(&mut self, name: impl Into<String>, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into().filter(|value| value.is_finite()) {
            self.0.insert(name.into(), value);
        }
    }

    /// Adds the mean of some numbers, if there are any.
    pub fn put_mean(&mut self, name: &str, values: &[f64]) {
        self.put(name, (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64));
    }

    /// Adds both ends of an interval, if there is one: `NAME_low` and `NAME_high`.
    pub fn put_interval(&mut self, name: &str, interval: Option<Interval>) {
        self.put(format!("{name}_low"), interval.map(|interval| interval.low));
        self.put(format!("{name}_high"), interval.map(|interval| interval.high));
    }

    /// All numbers by name.
    pub fn into_map(self) -> BTreeMap<String, f64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_with_a_value_that_is_not_finite_is_no_row_but_its_other_values_count() {
        let sample = Sample::new(&[vec![1.0, f64::NAN, 3.0], vec![6.0, 5.0, 1e300]], Some((0, 0.5)));
        assert_eq!((sample.size(), sample.events(), sample.dropped()), (3, 1, 1));
        assert_eq!(sample.ascending(1), [5.0, 6.0, 1e300]);
        assert_eq!(sample.in_tail(), [0]);
        assert_eq!(sample.tail_values(1), [6.0]);
    }

    #[test]
    fn numbers_that_are_not_finite_are_left_out() {
        let mut numbers = Numbers::default();
        numbers.put("a", f64::NAN);
        numbers.put("b", None);
        numbers.put_mean("c", &[]);
        numbers.put_mean("d", &[1.0, 3.0]);
        assert_eq!(numbers.into_map(), BTreeMap::from([("d".to_owned(), 2.0)]));
    }
}
