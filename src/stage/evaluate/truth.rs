//! The YAML of a weighted truth, and how it is read.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Context, Problem, StageError, Upstream};
use crate::{
    data::{DataError, Description, read, read_table},
    metrics::{Binning, truth::WeightedTruth},
    stage::{Stage, dataset::unreadable},
    value::{Finite, NonNegative, Positive},
};

/// Where the path of the file stands in the stage.
pub(super) const FIELD: &str = "truth.file";

/// A weighted sample of the truth, whose weights are cross-sections.
///
/// `truth_chi2_ndf` is the χ² of the counts above the first edge against its expectation, with absolute normalisation: N events
/// stand for a luminosity of N over the cross-section of all events. `truth_w1` is W₁ of the logs over the truth's share above
/// the first edge, `truth_ratio.EDGE` found over expected from an edge on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TruthChoice {
    /// Weighted events in a parquet, CSV or npy file. They need only cover what lies above the first edge.
    pub file: PathBuf,
    /// The feature or derived observable that is compared; a column of the file, too.
    pub observable: String,
    /// The column of weights, in the unit of the cross-section.
    pub weight: String,
    /// Ascending edges of bins, in the unit of the observable; the last bin also takes what lies above. Bins are joined from the top until ten events are
    /// expected.
    pub edges: Vec<Finite>,
    /// The cross-section of all events of this kind, those below the first edge too, in the unit of the weights.
    pub cross_section: Positive,
    /// The relative error of the cross-section.
    #[serde(default = "exact")]
    pub normalisation: NonNegative,
}

fn exact() -> NonNegative {
    NonNegative::try_from(0.0).unwrap_or_else(|_| unreachable!())
}

impl TruthChoice {
    fn edges(&self) -> Vec<f64> {
        self.edges.iter().map(|edge| edge.get()).collect()
    }

    /// What is wrong with the fields as they stand.
    pub(super) fn problem(&self) -> Option<Problem> {
        let message = "the edges of bins must be at least two and ascend";
        Binning::new(self.edges()).is_none().then(|| Problem::new("truth.edges", message))
    }

    /// An observable that the dataset does not have.
    pub(super) fn mismatch(&self, upstream: &Upstream<'_>) -> Option<Problem> {
        let Some(Stage::Dataset(dataset)) = upstream.get("data")?.first() else { return None };
        let known = dataset.observable_names()?;
        let message = format!("`{}` is neither a feature nor a derived observable of the dataset", self.observable);
        let problem = Problem::new("truth.observable", message);
        (!known.contains(&self.observable)).then(|| problem.suggest(&self.observable, known.iter().map(String::as_str)))
    }

    /// The columns of the file that are read.
    fn columns(&self) -> [String; 2] {
        [self.observable.clone(), self.weight.clone()]
    }

    /// What is wrong with the file.
    pub(super) fn preflight(&self, path: &Path) -> Option<Problem> {
        if !path.exists() {
            return Some(Problem::new(FIELD, format!("there is no file {}", path.display())));
        }
        let columns = match read::columns(path, Some(&self.columns())) {
            Ok(columns) => columns,
            Err(error) => return Some(Problem::new(FIELD, error.to_string())),
        };
        [("truth.observable", &self.observable), ("truth.weight", &self.weight)]
            .into_iter()
            .find_map(|(field, name)| unreadable(path, &columns, name, field.to_owned()))
            .or_else(|| self.load(0, path).err().map(|error| Problem::new(FIELD, error.to_string())))
    }

    /// Reads the weighted events of a dataset's observable.
    pub(super) fn read(&self, description: &Description, context: &Context<'_>) -> Result<WeightedTruth, StageError> {
        let place = description.observable_names().iter().position(|name| *name == self.observable);
        let unknown = || {
            StageError::Unusable(format!("the dataset has no observable `{}`, which `truth` is of", self.observable))
        };
        let path = context.sources.get(FIELD);
        let missing = || StageError::Unusable("the source `truth.file` is not there".into());
        Ok(self.load(place.ok_or_else(unknown)?, path.ok_or_else(missing)?)?)
    }

    fn load(&self, observable: usize, path: &Path) -> Result<WeightedTruth, DataError> {
        let table = read_table(path, Some(&self.columns()))?;
        let column = |name: &str| Ok(table.column(name)?.iter().copied().map(f64::from).collect::<Vec<_>>());
        let (values, weights) = (column(&self.observable)?, column(&self.weight)?);
        let of_file = |message: String| DataError::Format { path: path.to_owned(), message };
        if let Some(row) = weights.iter().position(|&weight| weight < 0.0) {
            return Err(of_file(format!("the weight in row {} is negative", row + 1)));
        }
        let lowest = self.edges.first().map_or(f64::NEG_INFINITY, |edge| edge.get());
        let above: f64 =
            values.iter().zip(&weights).filter(|(value, _)| **value >= lowest).map(|(_, weight)| weight).sum();
        if above > 1.001 * self.cross_section.get() {
            return Err(of_file(format!(
                "the weights above {lowest} sum to {above:.4e}, more than the cross-section of all events, {:.4e}; give both in one unit",
                self.cross_section.get()
            )));
        }
        let truth = WeightedTruth::new(
            observable,
            (values, weights),
            self.edges(),
            self.cross_section.get(),
            self.normalisation.get(),
        );
        truth.ok_or_else(|| {
            of_file(format!("no weighted event has `{}` above {lowest}, the first of `edges`", self.observable))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(observable: &str, edges: &[f64]) -> TruthChoice {
        let fields = serde_json::json!({
            "file": "t.csv", "observable": observable, "weight": "w", "edges": edges, "cross_section": 5.0
        });
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn edges_that_do_not_ascend_are_a_problem() {
        assert_eq!(choice("m", &[2.0, 1.0]).problem().unwrap().field, "truth.edges");
        assert_eq!(choice("m", &[1.0, 2.0]).problem(), None);
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told_at_its_place_before_anything_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let said = |observable: &str, edges: &[f64]| choice(observable, edges).preflight(&path);
        assert_eq!(said("m", &[1.0, 2.0]).unwrap().field, FIELD);
        for (content, observable, edges, field, message) in [
            ("m,w\n1.5,1\n", "mm", [1.0, 2.0], "truth.observable", "the column `mm` is not among"),
            ("m,v\n1.5,1\n", "m", [1.0, 2.0], "truth.weight", "the column `w` is not among"),
            ("m,w\n1.5,-1\n", "m", [1.0, 2.0], FIELD, "the weight in row 1 is negative"),
            ("m,w\n1.5,4\n1.5,4\n", "m", [1.0, 2.0], FIELD, "give both in one unit"),
            ("m,w\n1.5,1\n", "m", [3.0, 4.0], FIELD, "no weighted event has `m` above 3"),
        ] {
            std::fs::write(&path, content).unwrap();
            let problem = said(observable, &edges).unwrap();
            assert!(problem.field == field && problem.message.contains(message), "{problem:?}");
        }
        std::fs::write(&path, "m,w\n1.5,1\n0.2,3\n").unwrap();
        assert_eq!(said("m", &[1.0, 2.0]), None);
    }
}
