//! A dataset: split events with all that is needed to encode, decode and judge them.

use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

use super::{Coordinates, DataError, Observables, Table, Truth};
use crate::stage::Artifact;

/// The file of the description.
const DESCRIPTION: &str = "dataset.json";
/// The file of the events: tensors `train`, `validation` and `test` of shape `[events, features]`.
const EVENTS: &str = "events.safetensors";

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
    /// The true density of the first feature, where the events are synthetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<Truth>,
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

    /// Whether each event lies in the tail; `None` if no tail is named.
    pub fn in_tail(&self, events: &Table) -> Result<Option<Vec<bool>>, DataError> {
        let Some(tail) = &self.tail else { return Ok(None) };
        let values = self.observables.values(events, &tail.observable)?;
        Ok(Some(values.into_iter().map(|value| value > tail.above).collect()))
    }

    /// Checks that the parts fit each other and the coordinates can be inverted: what a file must hold to be used.
    pub fn check(&self) -> Result<(), DataError> {
        let bad = |what: &str| Err(DataError::Unusable(format!("the description of the events is malformed: {what}")));
        let width = self.coordinates.width();
        if self.features.is_empty() || width != self.features.len() {
            return bad("the coordinates do not fit the features");
        }
        if (1..self.features.len()).any(|i| self.features[..i].contains(&self.features[i])) {
            return bad("a feature occurs twice");
        }
        if !self.coordinates.is_sound() {
            return bad("the coordinates cannot be inverted");
        }
        if self.symmetries.iter().flatten().any(|&index| index >= width) {
            return bad("a symmetry names a coordinate that is not there");
        }
        match &self.tail {
            Some(tail) if !tail.above.is_finite() || !self.observable_names().contains(&tail.observable) => {
                bad("the tail is not of a known observable")
            }
            _ => Ok(()),
        }
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
    pub fn load(artifact: &Artifact) -> Result<Self, DataError> {
        let file = |name| artifact.file(name).map_err(|error| DataError::Unusable(error.to_string()));
        Self::read(file(DESCRIPTION)?, file(EVENTS)?)
    }

    /// Reads the two files of a dataset.
    fn read(description: &Path, events: &Path) -> Result<Self, DataError> {
        let json = std::fs::read(description).map_err(DataError::io(description))?;
        let described: Description =
            serde_json::from_slice(&json).map_err(|error| DataError::format(description, error.to_string()))?;
        described.check().map_err(|error| DataError::format(description, error.to_string()))?;
        let bytes = std::fs::read(events).map_err(DataError::io(events))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| DataError::format(events, error.to_string()))?;
        let part = |name: &str| {
            let tensor = tensors.tensor(name).map_err(|error| DataError::format(events, error.to_string()))?;
            table(&tensor, &described.features).ok_or_else(|| {
                DataError::format(events, format!("`{name}` is not float32 of shape [events, features]"))
            })
        };
        let (train, validation, test) = (part("train")?, part("validation")?, part("test")?);
        Ok(Self { description: described, train, validation, test })
    }

    /// Writes the files of a dataset artifact into a folder; the same dataset gives the same bytes.
    pub fn save(&self, folder: &Path) -> Result<(), DataError> {
        let path = folder.join(DESCRIPTION);
        let mut json = serde_json::to_vec_pretty(&self.description)
            .map_err(|error| DataError::format(&path, error.to_string()))?;
        json.push(b'\n');
        std::fs::write(&path, json).map_err(DataError::io(&path))?;

        let path = folder.join(EVENTS);
        let bad = |error: safetensors::SafeTensorError| DataError::format(&path, error.to_string());
        let parts =
            [("train", &self.train), ("validation", &self.validation), ("test", &self.test)].map(|(name, part)| {
                let bytes: Vec<u8> = part.to_rows().into_iter().flat_map(f32::to_le_bytes).collect();
                (name, vec![part.len(), part.names().len()], bytes)
            });
        let views = parts
            .iter()
            .map(|(name, shape, bytes)| TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (*name, view)));
        let views = views.collect::<Result<Vec<_>, _>>().map_err(bad)?;
        let bytes = safetensors::serialize(views, None).map_err(bad)?;
        std::fs::write(&path, bytes).map_err(DataError::io(&path))
    }
}

/// A tensor of shape `[events, features]` as a table; `None` if it is of another shape or type.
fn table(tensor: &TensorView<'_>, features: &[String]) -> Option<Table> {
    if tensor.dtype() != Dtype::F32 || tensor.shape().len() != 2 || tensor.shape()[1] != features.len() {
        return None;
    }
    let (numbers, _) = tensor.data().as_chunks::<4>();
    let rows: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    Table::from_rows(features.to_vec(), &rows).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        data::coordinates::{CoordinatesChoice, NamedCoordinates},
        stage::ArtifactKind,
    };

    fn dataset() -> Dataset {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let part = |rows: &[f32]| Table::from_rows(names.clone(), rows).unwrap();
        let train = part(&[1.0, 2.0, 3.0, 0.1, 5.0, 7.0]);
        let choice = CoordinatesChoice::Named(NamedCoordinates::Standard);
        let description = Description {
            features: names.clone(),
            coordinates: Coordinates::fit(&choice, &train, &["b".to_owned()]).unwrap(),
            observables: Observables::None,
            symmetries: vec![vec![1]],
            tail: Some(Tail { observable: "a".into(), above: 2.5 }),
            truth: Some(Truth::Pareto { index: 2.0 }),
        };
        Dataset { description, train, validation: part(&[]), test: part(&[f32::MAX, -0.0]) }
    }

    fn artifact(folder: &Path) -> Artifact {
        let files = [DESCRIPTION, EVENTS].map(|name| (name.to_owned(), folder.join(name)));
        Artifact { kind: ArtifactKind::Dataset, files: BTreeMap::from(files) }
    }

    #[test]
    fn a_saved_dataset_loads_as_it_was_and_saves_to_the_same_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        dataset().save(one.path()).unwrap();
        let loaded = Dataset::load(&artifact(one.path())).unwrap();
        assert_eq!(loaded, dataset());
        loaded.save(two.path()).unwrap();
        for name in [DESCRIPTION, EVENTS] {
            assert_eq!(std::fs::read(one.path().join(name)).unwrap(), std::fs::read(two.path().join(name)).unwrap());
        }
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        dataset().save(folder.path()).unwrap();
        let events = folder.path().join(EVENTS);
        std::fs::write(&events, &std::fs::read(&events).unwrap()[..50]).unwrap();
        let message = Dataset::load(&artifact(folder.path())).unwrap_err().to_string();
        assert!(message.contains(EVENTS), "{message}");
        let description = folder.path().join(DESCRIPTION);
        let json = std::fs::read_to_string(&description).unwrap();
        std::fs::write(&description, json.replace("1\n", "9\n")).unwrap();
        let message = Dataset::load(&artifact(folder.path())).unwrap_err().to_string();
        assert!(message.contains(DESCRIPTION) && message.contains("symmetry"), "{message}");
    }

    #[test]
    fn the_tail_is_strictly_above_its_cut() {
        let dataset = dataset();
        assert_eq!(dataset.description.in_tail(&dataset.train).unwrap(), Some(vec![false, true, true]));
        let mut description = dataset.description;
        description.tail = Some(Tail { observable: "a".into(), above: 3.0 });
        assert_eq!(description.in_tail(&dataset.train).unwrap(), Some(vec![false, false, true]));
    }
}
