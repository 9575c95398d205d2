//! What a figure shows, in the unit of its axis: heights and errors of test events and models.

use super::{Axis, Evaluation, Histograms};

/// Heights and errors, bin by bin.
pub(super) struct Curve {
    pub(super) values: Vec<f64>,
    pub(super) errors: Vec<f64>,
}

/// The histograms of a figure, scaled for drawing.
pub(super) struct Content {
    edges: Vec<f64>,
    widths: Widths,
    pub(super) test: Curve,
    pub(super) models: Vec<Curve>,
}

/// How the bins of a histogram relate; it decides what a height means.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Widths {
    /// All of this width: events in a bin.
    Equal(f64),
    /// All of the same ratio: events in a bin, on a log axis.
    Ratio,
    /// Anything else: events per unit.
    Mixed,
}

impl Content {
    /// `None` if there is no test event in the bins.
    pub(super) fn of(histograms: &Histograms, evaluation: &Evaluation) -> Option<Self> {
        let edges = histograms.binning.edges().to_vec();
        let widths = Widths::of(&edges);
        let curve = |counts: &[u64], scale: f64| {
            let unit = |bin: usize| if widths == Widths::Mixed { edges[bin + 1] - edges[bin] } else { 1.0 };
            let scaled = |value: &dyn Fn(f64) -> f64| {
                counts.iter().enumerate().map(|(bin, &count)| scale * value(count as f64) / unit(bin)).collect()
            };
            Curve { values: scaled(&|count| count), errors: scaled(&f64::sqrt) }
        };
        let fits = histograms.test.len() + 1 == edges.len()
            && histograms.models.iter().all(|counts| counts.len() == histograms.test.len());
        let scale = evaluation.events.test as f64 / evaluation.events.generated.max(1) as f64;
        (fits && histograms.test.iter().any(|&count| count > 0)).then(|| Self {
            test: curve(&histograms.test, 1.0),
            models: histograms.models.iter().map(|counts| curve(counts, scale)).collect(),
            widths,
            edges: edges.clone(),
        })
    }

    pub(super) fn bins(&self) -> usize {
        self.edges.len() - 1
    }

    /// The axis of the observable.
    pub(super) fn x(&self, from: i32, to: i32) -> Axis {
        Axis { low: self.edges[0], high: self.edges[self.bins()], log: self.widths == Widths::Ratio, from, to }
    }

    /// The pixels of the edges of a bin.
    pub(super) fn span(&self, x: Axis, bin: usize) -> [i32; 2] {
        [x.at(self.edges[bin]), x.at(self.edges[bin + 1])]
    }

    /// The pixel of the middle of a bin.
    pub(super) fn centre(&self, x: Axis, bin: usize) -> i32 {
        let [left, right] = self.span(x, bin);
        i32::midpoint(left, right)
    }

    /// Whether the bins differ in width, so that a point alone would not tell where its bin ends.
    pub(super) fn is_uneven(&self) -> bool {
        self.widths == Widths::Mixed
    }

    /// What the heights mean.
    pub(super) fn y_label(&self, unit: Option<&str>) -> String {
        match (self.widths, unit) {
            (Widths::Ratio, _) => "Events / bin".to_owned(),
            (Widths::Equal(width), unit) => {
                let width = format!("{width:.3}");
                let width = width.trim_end_matches('0').trim_end_matches('.');
                format!("Events / {width}{}", unit.map(|unit| format!(" {unit}")).unwrap_or_default())
            }
            (Widths::Mixed, Some(unit)) => format!("Events / {unit}"),
            (Widths::Mixed, None) => "Events / unit".to_owned(),
        }
    }

    /// The highest point in a range of bins, error bars included.
    pub(super) fn highest(&self, bins: &(impl Iterator<Item = usize> + Clone)) -> f64 {
        let top = |curve: &Curve| bins.clone().map(|bin| curve.values[bin] + curve.errors[bin]).fold(0.0, f64::max);
        self.models.iter().map(top).fold(top(&self.test), f64::max)
    }

    /// The lowest point above zero.
    fn lowest(&self) -> f64 {
        let curves = std::iter::once(&self.test).chain(&self.models);
        curves.flat_map(|curve| curve.values.iter().copied()).filter(|&value| value > 0.0).fold(f64::INFINITY, f64::min)
    }

    /// The axis of heights between the pixels of `panel`: logarithmic where the heights span more than a factor of 30.
    pub(super) fn y(&self, panel: Axis) -> Axis {
        let (low, high) = (self.lowest(), self.highest(&(0..self.bins())));
        let log = high > 30.0 * low;
        Axis { low: if log { 0.4 * low } else { 0.0 }, high: if log { 2.0 * high } else { 1.15 * high }, log, ..panel }
    }

    /// A range of ratios around 1 that suits where most of the models lie: ±0.2, ±0.5 or ±1.
    pub(super) fn ratio_range(&self) -> (f64, f64) {
        let off: Vec<f64> = self
            .models
            .iter()
            .flat_map(|curve| curve.values.iter().zip(&self.test.values).zip(&self.test.errors))
            // Bins with fewer than ten events say more about themselves than about a model.
            .filter(|((_, test), error)| **test > 0.0 && (*test / *error).powi(2) >= 10.0)
            .map(|((value, test), _)| (value / test - 1.0).abs())
            .collect();
        let beyond = |limit: f64| 10 * off.iter().filter(|&&off| off > limit).count() > off.len();
        let half = [0.2, 0.5].into_iter().find(|&limit| !beyond(limit)).unwrap_or(1.0);
        (1.0 - half, 1.0 + half)
    }
}

impl Widths {
    fn of(edges: &[f64]) -> Self {
        let same = |measure: &dyn Fn(f64, f64) -> f64| {
            let first = measure(edges[0], edges[1]);
            let near = |pair: &[f64]| (measure(pair[0], pair[1]) - first).abs() < 1e-6 * first.abs();
            edges.windows(2).all(near).then_some(first)
        };
        match same(&|low, high| high - low) {
            Some(width) => Self::Equal(width),
            None if edges[0] > 0.0 && same(&|low, high| (high / low).ln()).is_some() => Self::Ratio,
            None => Self::Mixed,
        }
    }
}
