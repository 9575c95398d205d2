//! The file of an evaluation: test events, the real-vs-real floor and each model in bins, for tables and plots.
//!
//! Models stand by position: their names are the pipeline's and no part of a result.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{data::Tail, metrics::Binning};

/// Histograms of models against test events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The version of this layout.
    pub format: u32,
    /// How many events each histogram was filled from.
    pub events: Events,
    /// The tail, if the dataset names one.
    pub tail: Option<Tail>,
    /// The histograms whose χ² is reported, one an observable.
    pub observables: Vec<Histograms>,
    /// Finer histograms to look at; so far, of the tail observable in bins of equal ratio.
    pub spectra: Vec<Histograms>,
    /// Upper quantiles of the tail observable, if the dataset names a tail.
    pub quantiles: Option<Quantiles>,
    /// Observables two by two, if there are several.
    pub joint: Option<Joint>,
}

/// Sizes of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Test events.
    pub test: usize,
    /// Events generated from each model.
    pub generated: usize,
    /// Training events that stand in for a perfect model.
    pub floor: usize,
}

/// Histograms of one observable in the same bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histograms {
    /// The feature or derived observable.
    pub observable: String,
    /// The bins.
    pub binning: Binning,
    /// Test events in each bin.
    pub test: Vec<u64>,
    /// Training events in each bin.
    pub floor: Vec<u64>,
    /// Generated events in each bin, by model.
    pub models: Vec<Vec<u64>>,
}

/// What an observable exceeds in given shares of the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// The observable.
    pub observable: String,
    /// Shares of the events that lie above, descending.
    pub shares: Vec<f64>,
    /// The quantiles of the test events.
    pub test: Vec<f64>,
    /// The lower and upper ends of their 95 % intervals, from the order statistics of a binomial count.
    pub test_interval: [Vec<f64>; 2],
    /// Those of the training events.
    pub floor: Vec<f64>,
    /// Those of each model; none of a model without events.
    pub models: Vec<Vec<f64>>,
}

/// How observables go together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joint {
    /// The observables.
    pub observables: Vec<String>,
    /// Spearman's rank correlations, in the order of [`pairs`](crate::metrics::correlation::pairs).
    pub correlations: Correlations,
    /// The bins of each observable in the densities; none for one without spread.
    pub binnings: Vec<Option<Binning>>,
    /// Events in the bins of two observables, of as many pairs as the file has room for.
    pub densities: Vec<Density>,
}

/// Rank correlations; `None` where an observable has no spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correlations {
    /// Of the test events.
    pub test: Vec<Option<f64>>,
    /// Of the training events.
    pub floor: Vec<Option<f64>>,
    /// Of each model.
    pub models: Vec<Vec<Option<f64>>>,
}

/// Events in the bins of two observables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Density {
    /// The observable that counts fastest, by its position.
    pub x: usize,
    /// The other.
    pub y: usize,
    /// Test events, a row of `x` for each bin of `y`.
    pub test: Vec<u32>,
    /// Generated events, by model.
    pub models: Vec<Vec<u32>>,
}

/// Why an evaluation cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The content is not an evaluation of this version.
    #[error("{}: {message}; run the evaluation again with this version", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl Evaluation {
    /// The layout that this build writes and reads.
    pub const FORMAT: u32 = 2;
    /// The name of the file in an evaluation artifact.
    pub const FILE: &'static str = "evaluation.json";

    /// Reads an evaluation, and refuses one whose histograms do not fit their bins.
    pub fn load(path: &Path) -> Result<Self, EvaluationError> {
        let bytes = fs::read(path).map_err(|source| EvaluationError::Io { path: path.to_owned(), source })?;
        let format = |message: String| EvaluationError::Format { path: path.to_owned(), message };
        let evaluation: Self = serde_json::from_slice(&bytes).map_err(|error| format(error.to_string()))?;
        if evaluation.format != Self::FORMAT {
            return Err(format(format!("this is format {}, not {}", evaluation.format, Self::FORMAT)));
        }
        if let Some(wrong) = evaluation.observables.iter().chain(&evaluation.spectra).find(|one| !one.fit()) {
            return Err(format(format!("the histograms of `{}` do not fit their bins", wrong.observable)));
        }
        if evaluation.quantiles.as_ref().is_some_and(|quantiles| !quantiles.fit()) {
            return Err(format("the quantiles do not fit their shares".into()));
        }
        if evaluation.joint.as_ref().is_some_and(|joint| !joint.fit()) {
            return Err(format("the correlations do not fit their observables".into()));
        }
        Ok(evaluation)
    }

    /// Writes the file into a folder; the same evaluation gives the same bytes.
    pub fn save(&self, folder: &Path) -> Result<(), EvaluationError> {
        let path = folder.join(Self::FILE);
        let written = serde_json::to_vec(self).map_err(io::Error::from).and_then(|bytes| fs::write(&path, bytes));
        written.map_err(|source| EvaluationError::Io { path, source })
    }

    /// The histograms to draw for an observable: the finer ones where there are any.
    pub fn histograms(&self, observable: &str) -> Option<&Histograms> {
        self.spectra.iter().chain(&self.observables).find(|histograms| histograms.observable == observable)
    }
}

impl Histograms {
    fn fit(&self) -> bool {
        let bins = self.binning.edges().len() - 1;
        [&self.test, &self.floor].into_iter().chain(&self.models).all(|counts| counts.len() == bins)
    }
}

impl Quantiles {
    fn fit(&self) -> bool {
        let real = [&self.test, &self.floor].into_iter().chain(&self.test_interval);
        let size = self.shares.len();
        real.into_iter().all(|values| values.len() == size)
            && self.models.iter().all(|values| values.is_empty() || values.len() == size)
    }
}

impl Joint {
    fn fit(&self) -> bool {
        let observables = self.observables.len();
        let pairs = observables * observables.saturating_sub(1) / 2;
        let Correlations { test, floor, models } = &self.correlations;
        let bins = |at: usize| Some(self.binnings.get(at)?.as_ref()?.edges().len() - 1);
        let fits = |density: &Density| {
            let size = bins(density.x).zip(bins(density.y)).map(|(x, y)| x * y);
            [&density.test].into_iter().chain(&density.models).all(|counts| Some(counts.len()) == size)
        };
        self.binnings.len() == observables
            && [test, floor].into_iter().chain(models).all(|values| values.len() == pairs)
            && self.densities.iter().all(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        let histograms = Histograms {
            observable: "x".into(),
            binning: Binning::uniform(2, 0.0, 2.0).unwrap().open(),
            test: vec![5, 6],
            floor: vec![6, 5],
            models: vec![vec![4, 7]],
        };
        let spectra = vec![Histograms { test: vec![1, 2], ..histograms.clone() }];
        let quantiles = Quantiles {
            observable: "x".into(),
            shares: vec![0.1],
            test: vec![1.8],
            test_interval: [vec![1.7], vec![1.9]],
            floor: vec![1.8],
            models: vec![vec![1.6]],
        };
        let bins = Binning::uniform(1, 0.0, 2.0);
        let of_pairs = || vec![Some(0.5)];
        let joint = Joint {
            observables: vec!["x".into(), "y".into()],
            correlations: Correlations { test: of_pairs(), floor: of_pairs(), models: vec![of_pairs()] },
            binnings: vec![bins.clone(), bins],
            densities: vec![Density { x: 0, y: 1, test: vec![11], models: vec![vec![11]] }],
        };
        let events = Events { test: 11, generated: 11, floor: 11 };
        let tail = Some(Tail { observable: "x".into(), above: 1.5 });
        Evaluation {
            format: Evaluation::FORMAT,
            events,
            tail,
            observables: vec![histograms],
            spectra,
            quantiles: Some(quantiles),
            joint: Some(joint),
        }
    }

    #[test]
    fn an_evaluation_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        evaluation().save(folder.path()).unwrap();
        assert_eq!(Evaluation::load(&folder.path().join(Evaluation::FILE)).unwrap(), evaluation());
    }

    #[test]
    fn histograms_that_do_not_fit_their_bins_are_refused() {
        let mut wrong = evaluation();
        wrong.observables[0].models[0].push(1);
        let message = refused(&wrong);
        assert!(message.contains("the histograms of `x` do not fit their bins"), "{message}");
        let mut wrong = evaluation();
        wrong.quantiles.as_mut().unwrap().floor.clear();
        assert!(refused(&wrong).contains("the quantiles do not fit"));
        for spoil in [
            |joint: &mut Joint| joint.densities[0].models[0].push(1),
            |joint: &mut Joint| joint.densities[0].y = 7,
            |joint: &mut Joint| joint.correlations.floor.clear(),
            |joint: &mut Joint| joint.binnings[0] = None,
        ] {
            let mut wrong = evaluation();
            spoil(wrong.joint.as_mut().unwrap());
            assert!(refused(&wrong).contains("the correlations do not fit"));
        }
    }

    /// What is said when a file with this content is read.
    fn refused(evaluation: &Evaluation) -> String {
        let folder = tempfile::tempdir().unwrap();
        evaluation.save(folder.path()).unwrap();
        Evaluation::load(&folder.path().join(Evaluation::FILE)).unwrap_err().to_string()
    }

    #[test]
    fn edges_that_do_not_ascend_and_other_formats_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.json");
        let good = serde_json::to_string(&evaluation()).unwrap();
        for (old, new, said) in
            [("[0.0,1.0,2.0]", "[0.0,1.0,1.0]", "ascend"), ("\"format\":2", "\"format\":7", "format 7")]
        {
            assert!(good.contains(old));
            fs::write(&path, good.replace(old, new)).unwrap();
            let message = Evaluation::load(&path).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn the_finer_histograms_are_the_ones_to_draw() {
        assert_eq!(evaluation().histograms("x").unwrap().test, [1, 2]);
        assert!(evaluation().histograms("y").is_none());
    }
}
