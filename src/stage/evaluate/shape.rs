//! What an evaluation keeps of a sample to draw beside its histograms: upper quantiles of the tail observable, and observables two by two.

use crate::{
    metrics::{
        Bench, Binning, Sample, correlation,
        tail::{QUANTILE_EVENTS, quantile},
    },
    report::evaluation::{Correlations, Density, Joint, Quantiles},
};

/// Shares of the events above which quantiles are kept.
const SHARES: usize = 48;
/// Bins of an observable in a density.
const BINS: usize = 24;
/// Most densities of a file, those of models included: a few megabytes.
const DENSITIES: usize = 1000;
/// Most densities of one sample: all pairs of 14 observables.
const PAIRS: usize = 91;
/// This share of the events lies on either side of the bins of a density, where these are of equal width.
const OUTSIDE: f64 = 5e-4;
/// Normal quantile of a two-sided 95 % interval.
const Z: f64 = 1.96;

/// What is kept of each sample, the same for all.
pub(super) struct Shapes {
    /// The tail observable, and shares of the events above its quantiles, descending.
    shares: Option<(usize, Vec<f64>)>,
    /// The bins of each observable.
    binnings: Vec<Option<Binning>>,
    /// The pairs whose densities are kept.
    pairs: Vec<(usize, usize)>,
}

/// What is kept of one sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shape {
    quantiles: Vec<f64>,
    correlations: Vec<Option<f64>>,
    densities: Vec<Vec<u32>>,
}

impl Shapes {
    /// Decides by the real events what is kept of them and of `models` samples.
    pub(super) fn of(bench: &Bench, models: usize) -> Self {
        let binnings: Vec<Option<Binning>> =
            (0..bench.names.len()).map(|i| binning(bench.reference.ascending(i))).collect();
        let tail = bench.tail.as_ref().map(|tail| tail.observable);
        let mut pairs: Vec<(usize, usize)> = correlation::pairs(bench.names.len())
            .filter(|&(x, y)| binnings[x].is_some() && binnings[y].is_some())
            .collect();
        // Where there is no room for all, those with the tail observable come first.
        pairs.sort_by_key(|&(x, y)| !(tail == Some(x) || tail == Some(y)));
        pairs.truncate(PAIRS.min(DENSITIES / (models + 1)));
        pairs.sort_unstable();
        let shares = bench.tail.as_ref().map(|tail| (tail.observable, shares(bench, tail.share)));
        Self { shares, binnings, pairs }
    }

    pub(super) fn shape(&self, sample: &Sample) -> Shape {
        let quantiles = self.shares.iter().flat_map(|(observable, shares)| {
            shares.iter().filter_map(|share| quantile(sample.ascending(*observable), 1.0 - share))
        });
        Shape {
            quantiles: quantiles.collect(),
            correlations: correlation::spearman(sample),
            densities: self.densities(sample),
        }
    }

    fn densities(&self, sample: &Sample) -> Vec<Vec<u32>> {
        let bins = |observable: usize| {
            let binning = self.binnings[observable].as_ref()?;
            let bin = |row: usize| binning.bin(f64::from(sample.event(row)[observable]));
            Some((0..sample.events()).map(bin).collect::<Vec<Option<usize>>>())
        };
        let bins: Vec<_> = (0..self.binnings.len()).map(bins).collect();
        let density = |&(x, y): &(usize, usize)| {
            let [columns, rows] = [x, y].map(|i| self.binnings[i].as_ref().map_or(0, |b| b.edges().len() - 1));
            let mut counts = vec![0; columns * rows];
            for (x, y) in bins[x].iter().flatten().zip(bins[y].iter().flatten()) {
                if let (Some(x), Some(y)) = (x, y) {
                    counts[y * columns + x] += 1;
                }
            }
            counts
        };
        self.pairs.iter().map(density).collect()
    }

    /// The quantiles of all samples, if there is a tail.
    pub(super) fn quantiles(&self, bench: &Bench, floor: &Shape, models: &[&Shape]) -> Option<Quantiles> {
        let (observable, shares) = self.shares.as_ref()?;
        let test = bench.test.ascending(*observable);
        let at = |share: f64| quantile(test, 1.0 - share.clamp(0.0, 1.0));
        let all = |share: &dyn Fn(f64) -> f64| shares.iter().map(|&u| at(share(u))).collect::<Option<Vec<f64>>>();
        // As many events as a binomial count may stray by.
        let strays = |u: f64| Z * (u * (1.0 - u) / test.len() as f64).sqrt();
        Some(Quantiles {
            observable: bench.names[*observable].clone(),
            shares: shares.clone(),
            test: all(&|u| u)?,
            test_interval: [all(&|u| u + strays(u))?, all(&|u| u - strays(u))?],
            floor: floor.quantiles.clone(),
            models: models.iter().map(|shape| shape.quantiles.clone()).collect(),
        })
    }

    /// The observables of all samples two by two, if there are several.
    pub(super) fn joint(&self, bench: &Bench, floor: &Shape, models: &[&Shape]) -> Option<Joint> {
        if bench.names.len() < 2 {
            return None;
        }
        let test = self.densities(&bench.test);
        let of_models = |at: usize| models.iter().map(|shape| shape.densities[at].clone()).collect();
        let densities = self.pairs.iter().zip(test).enumerate();
        Some(Joint {
            observables: bench.names.clone(),
            correlations: Correlations {
                test: correlation::spearman(&bench.test),
                floor: floor.correlations.clone(),
                models: models.iter().map(|shape| shape.correlations.clone()).collect(),
            },
            binnings: self.binnings.clone(),
            densities: densities.map(|(at, (&(x, y), test))| Density { x, y, test, models: of_models(at) }).collect(),
        })
    }
}

/// Shares in equal ratios from twice the tail's down to where [`QUANTILE_EVENTS`] of the smaller real sample are left.
fn shares(bench: &Bench, tail: f64) -> Vec<f64> {
    let events = bench.test.size().min(bench.reference.size()).max(1);
    let (first, last) = ((2.0 * tail).clamp(1e-3, 0.5), QUANTILE_EVENTS / events as f64);
    if last >= first {
        return Vec::new();
    }
    let ratio = (last / first).ln() / (SHARES - 1) as f64;
    (0..SHARES).map(|i| first * (ratio * i as f64).exp()).collect()
}

/// Bins of an ascending sample: of equal ratio up to its largest value where it spans a factor of four above zero, else of equal width.
fn binning(sample: &[f64]) -> Option<Binning> {
    let (low, high) = (quantile(sample, OUTSIDE)?, quantile(sample, 1.0 - OUTSIDE)?);
    if low > 0.0 && high > 4.0 * low {
        Binning::logarithmic(BINS, low, *sample.last()?)
    } else {
        Binning::uniform(BINS, low, high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A falling mass and what is made of it.
    fn columns(events: usize, up: f64) -> Vec<Vec<f64>> {
        let mass: Vec<f64> = (0..events).map(|i| (1.0 - (i as f64 + 0.5) / events as f64).powf(-0.25)).collect();
        let twice = mass.iter().map(|mass| up * mass).collect();
        let constant = vec![1.0; events];
        vec![mass, twice, constant]
    }

    fn bench() -> Bench {
        let names = ["mass", "twice", "constant"].map(String::from).to_vec();
        Bench::new(names, &columns(5000, 2.0), &columns(4000, 2.0), Some((0, 2.0)))
    }

    #[test]
    fn what_is_kept_of_a_perfect_model_is_that_of_the_test_events() {
        let bench = bench();
        let shapes = Shapes::of(&bench, 1);
        let [floor, model] = [4000, 5000].map(|events| shapes.shape(&bench.sample(&columns(events, 2.0))));
        let quantiles = shapes.quantiles(&bench, &floor, &[&model]).unwrap();
        assert_eq!(quantiles.models[0], quantiles.test);
        assert!((quantiles.shares[0] - 2.0 / 16.0).abs() < 1e-3 && quantiles.shares.len() == SHARES);
        assert!((quantiles.shares[SHARES - 1] * 4000.0 - QUANTILE_EVENTS).abs() < 1e-9);
        let [low, high] = &quantiles.test_interval;
        assert!(low.iter().zip(&quantiles.test).zip(high).all(|((low, test), high)| low < test && test < high));

        let joint = shapes.joint(&bench, &floor, &[&model]).unwrap();
        assert!((joint.correlations.test[0].unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(joint.correlations.test[1..], [None, None]);
        assert_eq!(joint.correlations.models[0], joint.correlations.test);
        let [density] = &joint.densities[..] else { panic!("only one pair has spread") };
        assert_eq!(density.models[0], density.test);
        let diagonal: u32 = (0..BINS).map(|i| density.test[i * BINS + i]).sum();
        assert!(density.test.iter().sum::<u32>() - diagonal < 10 && diagonal > 4900);
    }

    #[test]
    fn pairs_with_the_tail_observable_stay_where_there_is_no_room_for_all() {
        let names: Vec<String> = (0..6).map(|i| format!("x{i}")).collect();
        let column: Vec<f64> = (0..1000).map(f64::from).collect();
        let columns = vec![column; 6];
        let bench = Bench::new(names, &columns, &columns, Some((3, 900.0)));
        let kept = Shapes::of(&bench, 199).pairs;
        assert_eq!(kept, [(0, 3), (1, 3), (2, 3), (3, 4), (3, 5)]);
        assert_eq!(Shapes::of(&bench, 2).pairs.len(), 15);
    }

    #[test]
    fn a_model_without_events_has_no_quantiles_and_no_correlations() {
        let bench = bench();
        let shapes = Shapes::of(&bench, 1);
        let shape = shapes.shape(&bench.sample(&[vec![], vec![], vec![]]));
        assert!(shape.quantiles.is_empty() && shape.correlations.iter().all(Option::is_none));
    }
}
