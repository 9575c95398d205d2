//! The file of an evaluation: histograms of test events, the real-vs-real floor and each model, for tables and plots.
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
    pub const FORMAT: u32 = 1;
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
        match evaluation.observables.iter().chain(&evaluation.spectra).find(|histograms| !histograms.fit()) {
            Some(wrong) => Err(format(format!("the histograms of `{}` do not fit their bins", wrong.observable))),
            None => Ok(evaluation),
        }
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
        let events = Events { test: 11, generated: 11, floor: 11 };
        let tail = Some(Tail { observable: "x".into(), above: 1.5 });
        Evaluation { format: Evaluation::FORMAT, events, tail, observables: vec![histograms], spectra }
    }

    #[test]
    fn an_evaluation_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        evaluation().save(folder.path()).unwrap();
        assert_eq!(Evaluation::load(&folder.path().join(Evaluation::FILE)).unwrap(), evaluation());
    }

    #[test]
    fn histograms_that_do_not_fit_their_bins_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut wrong = evaluation();
        wrong.observables[0].models[0].push(1);
        wrong.save(folder.path()).unwrap();
        let message = Evaluation::load(&folder.path().join(Evaluation::FILE)).unwrap_err().to_string();
        assert!(message.contains("the histograms of `x` do not fit their bins"), "{message}");
    }

    #[test]
    fn edges_that_do_not_ascend_and_other_formats_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.json");
        let good = serde_json::to_string(&evaluation()).unwrap();
        for (old, new, said) in
            [("[0.0,1.0,2.0]", "[0.0,1.0,1.0]", "ascend"), ("\"format\":1", "\"format\":7", "format 7")]
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
