//! A dataset: split events with all that is needed to encode, decode and judge them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Coordinates, DataError, Observables, Table};
use crate::stage::Artifact;

/// What is known of the events: the part of a dataset that a model carries with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Names of the feature columns, in order.
    pub features: Vec<String>,
    /// The fitted coordinates.
    pub coordinates: Coordinates,
    /// Derived observables.
    pub observables: Observables,
    /// Exact symmetries of the encoded rows: the coordinates of each set may be negated together without changing the density.
    pub symmetries: Vec<Vec<usize>>,
    /// The tail, if one is named.
    pub tail: Option<Tail>,
}

/// The tail set T: events whose observable lies above a cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// A feature or derived observable.
    pub observable: String,
    /// The cut, in the observable's unit.
    pub above: f64,
}

impl Description {
    /// Names of all observables: features, then derived ones.
    pub fn observable_names(&self) -> Vec<String> {
        self.features.iter().cloned().chain(self.observables.names().iter().map(|&name| name.to_owned())).collect()
    }
}

/// Split events. Its artifact is `dataset.json` (the [`Description`]) and `events.safetensors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// What the columns are.
    pub description: Description,
    /// Events to train on.
    pub train: Table,
    /// Events to choose by.
    pub validation: Table,
    /// Events to report on.
    pub test: Table,
}

impl Dataset {
    /// Reads a dataset artifact.
    pub fn load(_artifact: &Artifact) -> Result<Self, DataError> {
        todo!()
    }

    /// Writes the files of a dataset artifact into a folder; the same dataset gives the same bytes.
    pub fn save(&self, _folder: &Path) -> Result<(), DataError> {
        todo!()
    }
}
