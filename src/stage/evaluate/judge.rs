//! The judge: numbers and histograms of one sample of events against the test events. Pure: it sees tables only.

use super::{super::StageError, Metrics};
use crate::{
    data::{DataError, Description, Table},
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
            Ok(Ruler { observable, test, bins, published, tail })
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
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::{
        data::{Coordinates, Observables, Tail},
        rng::Streams,
    };

    fn description(tail: Option<f64>) -> Description {
        Description {
            features: vec!["mass".into(), "angle".into()],
            coordinates: Coordinates::Columns(Vec::new()),
            observables: Observables::None,
            symmetries: Vec::new(),
            tail: tail.map(|above| Tail { observable: "mass".into(), above }),
            truth: None,
        }
    }

    /// Events with a falling mass spectrum, mass = scale · u^(−1/4), and a flat angle.
    fn events(number: usize, scale: f32, purpose: &str) -> Table {
        let mut rng = Streams::new(7, "test").stream(purpose);
        let mass = (0..number).map(|_| scale * (1.0 - rng.random::<f32>()).powf(-0.25)).collect();
        let angle = (0..number).map(|_| rng.random::<f32>() - 0.5).collect();
        Table::new(vec!["mass".into(), "angle".into()], vec![mass, angle]).unwrap()
    }

    fn judged(generated: &Table) -> Metrics {
        let (description, test, reference) =
            (description(Some(2.0)), events(20_000, 1.0, "test"), events(20_000, 1.0, "reference"));
        Judge::new(&description, &test, &reference).unwrap().judge(generated).unwrap().metrics
    }

    #[test]
    fn a_perfect_model_scores_what_another_real_sample_does() {
        let metrics = judged(&events(20_000, 1.0, "generated"));
        for name in ["chi2_ndf.mass", "chi2_ndf.angle", "chi2_ndf_mean", "tail_chi2_ndf"] {
            assert!((0.4..1.8).contains(&metrics[name]), "{name}: {}", metrics[name]);
        }
        assert!(metrics["ks.mass"] < 0.02 && metrics["w1.angle"] < 0.02);
        assert!((metrics["tail_mass_ratio"].ln() / metrics["tail_mass_ratio_sigma"]).abs() < 3.0);
        assert!(metrics["tail_w1"] < 0.03);
    }

    #[test]
    fn a_model_that_scales_the_mass_shows_it_in_every_number_of_the_mass() {
        let metrics = judged(&events(20_000, 1.1, "generated"));
        assert!(metrics["chi2_ndf.mass"] > 20.0 && metrics["chi2_ndf.angle"] < 1.8);
        // Mass above the cut grows as the fourth power, and each quantile by the scale.
        assert!((metrics["tail_mass_ratio"] / 1.1_f64.powi(4) - 1.0).abs() < 4.0 * metrics["tail_mass_ratio_sigma"]);
        assert!((metrics["qq_0.01"] - 0.1).abs() < 0.05 && (metrics["qq_0.001"] - 0.1).abs() < 0.2);
        assert!((metrics["tail_w1"] - 1.1_f64.ln()).abs() < 0.03);
        assert!(metrics["tail_chi2_ndf"] > 3.0);
        assert!(!metrics.contains_key("qq_0.0001"), "two events above a quantile say nothing");
    }

    #[test]
    fn the_tail_score_sees_a_wrong_normalisation_of_a_right_shape() {
        // Half of the events, all below the cut, are doubled: the tail's shape stays, its mass halves.
        let real = events(40_000, 1.0, "generated");
        let mass = real.column("mass").unwrap();
        let bulk: Vec<usize> = (0..real.len()).filter(|&i| mass[i] < 2.0).collect();
        let thinned: Vec<usize> = (0..real.len() / 2).chain(bulk[..real.len() / 2].iter().copied()).collect();
        let metrics = judged(&real.rows(&thinned));
        assert!(metrics["tail_chi2_ndf"] > 5.0, "{}", metrics["tail_chi2_ndf"]);
        assert!((metrics["tail_mass_ratio"] - 0.55).abs() < 0.1);
    }

    #[test]
    fn an_empty_tail_gives_ratio_zero_and_no_number_that_needs_events_there() {
        let low = Table::new(vec!["mass".into(), "angle".into()], vec![vec![1.0; 500], vec![0.0; 500]]).unwrap();
        let metrics = judged(&low);
        assert_eq!(metrics["tail_mass_ratio"].to_bits(), 0.0_f64.to_bits());
        assert!(!metrics.contains_key("tail_mass_ratio_sigma"));
        assert!(metrics["tail_w1"] > 0.5);
    }

    #[test]
    fn without_a_tail_there_are_no_tail_numbers_and_no_spectrum() {
        let (description, test) = (description(None), events(2000, 1.0, "test"));
        let judge = Judge::new(&description, &test, &events(2000, 1.0, "reference")).unwrap();
        let judged = judge.judge(&events(1000, 1.0, "generated")).unwrap();
        assert!(judged.metrics.keys().all(|name| !name.starts_with("tail") && !name.starts_with("qq")));
        let evaluation = judge.evaluation(Events { test: 2000, generated: 1000, floor: 2000 }, &judged, &[]);
        assert!(evaluation.tail.is_none() && evaluation.spectra.is_empty());
    }

    #[test]
    fn values_that_are_not_finite_are_left_out_and_counted() {
        let (description, test) = (description(Some(2.0)), events(2000, 1.0, "test"));
        let judge = Judge::new(&description, &test, &events(2000, 1.0, "reference")).unwrap();
        let broken =
            Table::new(vec!["mass".into(), "angle".into()], vec![vec![f32::NAN, 1.5], vec![0.1, 0.2]]).unwrap();
        let judged = judge.judge(&broken).unwrap();
        assert_eq!(judged.dropped, 1);
        assert!(judged.metrics.values().all(|value| value.is_finite()));
    }

    #[test]
    fn the_file_holds_every_event_of_open_bins() {
        let (description, test, reference) =
            (description(Some(2.0)), events(3000, 1.0, "test"), events(2500, 1.0, "reference"));
        let judge = Judge::new(&description, &test, &reference).unwrap();
        let (floor, model) = (judge.judge(&reference).unwrap(), judge.judge(&events(2000, 1.0, "generated")).unwrap());
        let evaluation = judge.evaluation(Events { test: 3000, generated: 2000, floor: 2500 }, &floor, &[model]);
        for histograms in &evaluation.observables {
            let sizes =
                [&histograms.test, &histograms.floor, &histograms.models[0]].map(|counts| counts.iter().sum::<u64>());
            assert_eq!(sizes, [3000, 2500, 2000], "{}", histograms.observable);
        }
        assert_eq!(evaluation.spectra[0].observable, "mass");
        assert_eq!(evaluation.spectra[0].floor.iter().sum::<u64>(), 2500);
    }

    #[test]
    fn a_dataset_without_test_events_cannot_judge() {
        let message = Judge::new(&description(None), &events(0, 1.0, "test"), &events(5, 1.0, "reference"))
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("split.test"), "{message}");
    }
}
