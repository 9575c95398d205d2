//! `dataset`: reads events from a file or a known density, splits them, and fits their coordinates.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ArtifactKind, Context, Metrics, Port, Source, StageError, StageKind};
use crate::{
    data::{CoordinatesChoice, Observables, coordinates::NamedCoordinates},
    value::{EventCount, Finite, Fraction, OpenProbability},
};

/// The YAML of a `dataset` stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Events in a parquet, CSV or npy file; this or `synthetic`.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// A separate file of test events; then nothing of `file` is kept for testing.
    #[serde(default)]
    pub test_file: Option<PathBuf>,
    /// Feature columns in order; all numeric columns if absent.
    #[serde(default)]
    pub features: Option<Vec<String>>,
    /// Keeps events inside all of these windows.
    #[serde(default)]
    pub filter: Vec<Window>,
    /// Keeps at most this many events of the file, the first ones.
    #[serde(default)]
    pub limit: Option<EventCount>,
    /// How columns are encoded for a generator.
    #[serde(default = "standard")]
    pub coordinates: CoordinatesChoice,
    /// Derived observables.
    #[serde(default)]
    pub observables: Observables,
    /// Sets of columns whose signs may be flipped together without changing the density, or `dijet`.
    #[serde(default)]
    pub symmetries: Symmetries,
    /// The tail.
    #[serde(default)]
    pub tail: Option<TailChoice>,
    /// Shares kept for validation and test.
    #[serde(default)]
    pub split: Split,
}

fn standard() -> CoordinatesChoice {
    CoordinatesChoice::Named(NamedCoordinates::Standard)
}

/// Keeps events whose observable lies in [above, below).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// A feature or derived observable.
    pub observable: String,
    /// The lower edge.
    #[serde(default)]
    pub above: Option<Finite>,
    /// The upper edge.
    #[serde(default)]
    pub below: Option<Finite>,
}

/// Exact symmetries as chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Symmetries {
    /// A ready set: `dijet` (η → −η of both jets; the sign of φ₂ is drawn on decoding) or `none`.
    Named(NamedSymmetries),
    /// Sets of columns.
    Flips(Vec<Vec<String>>),
}

/// Ready sets of symmetries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedSymmetries {
    /// No symmetry.
    None,
    /// Those of a jet pair.
    Dijet,
}

impl Default for Symmetries {
    fn default() -> Self {
        Self::Named(NamedSymmetries::None)
    }
}

/// The tail as chosen: above a value, or above a quantile of the training events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TailChoice {
    /// A feature or derived observable.
    pub observable: String,
    /// The cut, in the observable's unit; this or `quantile`.
    #[serde(default)]
    pub above: Option<Finite>,
    /// The share of training events below the cut.
    #[serde(default)]
    pub quantile: Option<OpenProbability>,
}

/// Shares of the file's events, drawn by the stage's seed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Kept for choosing by.
    #[serde(default = "tenth")]
    pub validation: Fraction,
    /// Kept for reporting on; 0 with a `test_file`. Absent: 0.2, or 0 with a `test_file`.
    #[serde(default)]
    pub test: Option<Fraction>,
}

fn tenth() -> Fraction {
    Fraction::try_from(0.1).unwrap_or_else(|_| unreachable!())
}

impl Default for Split {
    fn default() -> Self {
        Self { validation: tenth(), test: None }
    }
}

impl StageKind for Dataset {
    const VERSION: u32 = 1;
    const PRODUCES: ArtifactKind = ArtifactKind::Dataset;

    fn ports(&self) -> Vec<Port<'_>> {
        Vec::new()
    }

    fn sources(&self) -> Vec<Source<'_>> {
        [("file", &self.file), ("test_file", &self.test_file)]
            .into_iter()
            .filter_map(|(field, path)| Some(Source { field, path: path.as_deref()? }))
            .collect()
    }

    fn run(&self, _context: &mut Context<'_>) -> Result<Metrics, StageError> {
        todo!()
    }
}
