//! A dataset: split events with all that is needed to encode, decode and judge them.

use std::{borrow::Cow, fs::File, path::Path, sync::Arc};

use safetensors::{Dtype, SafeTensors, View, tensor::TensorInfo};
use serde::{Deserialize, Serialize};

use super::{
    Coordinates, DataError, Events, Observables, Table, Truth,
    values::{Bytes, Scratch, Values},
};
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
        self.are_in_tail(&Events::of(events)?)
    }

    /// As [`in_tail`](Self::in_tail), for events that may lie in a file.
    pub fn are_in_tail(&self, events: &Events) -> Result<Option<Vec<bool>>, DataError> {
        let Some(tail) = &self.tail else { return Ok(None) };
        let values = events.observable(self.observables, &tail.observable)?;
        Ok(Some(values.map(|value| value > tail.above).collect()))
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
    pub train: Events,
    /// Events to choose by.
    pub validation: Events,
    /// Events to report on.
    pub test: Events,
}

impl Dataset {
    /// The names of its files.
    pub const FILES: [&'static str; 2] = [DESCRIPTION, EVENTS];

    /// Reads a dataset artifact. Its events stay in their file if they are more than may be in memory.
    pub fn load(artifact: &Artifact, scratch: &Scratch) -> Result<Self, DataError> {
        let file = |name| artifact.file(name).map_err(|error| DataError::Unusable(error.to_string()));
        Self::read(file(DESCRIPTION)?, file(EVENTS)?, scratch)
    }

    /// Reads the two files of a dataset.
    fn read(description: &Path, events: &Path, scratch: &Scratch) -> Result<Self, DataError> {
        let json = std::fs::read(description).map_err(DataError::io(description))?;
        let described: Description =
            serde_json::from_slice(&json).map_err(|error| DataError::format(description, error.to_string()))?;
        described.check().map_err(|error| DataError::format(description, error.to_string()))?;
        let malformed = |reason: String| DataError::format(events, reason);
        let file = File::open(events).map_err(DataError::io(events))?;
        let file = Arc::new(Bytes::of(&file).map_err(DataError::io(events))?);
        let (header, metadata) = SafeTensors::read_metadata(&file).map_err(|error| malformed(error.to_string()))?;
        let in_memory = scratch.holds(file.len() as u64);
        let part = |name: &str| {
            let tensor = metadata.info(name).ok_or_else(|| malformed(format!("there is no tensor `{name}`")))?;
            let values = numbers(tensor, &file, header + HEADER_LENGTH, described.features.len());
            let values =
                values.ok_or_else(|| malformed(format!("`{name}` is not float32 of shape [events, features]")))?;
            let values = if in_memory { values.to_vec().into() } else { values };
            Events::new(described.features.clone(), values).map_err(|error| malformed(error.to_string()))
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
        let parts = [("train", &self.train), ("validation", &self.validation), ("test", &self.test)];
        let parts = parts.map(|(name, events)| (name, Part { shape: [events.len(), events.names().len()], events }));
        safetensors::serialize_to_file(parts, None, &path).map_err(|error| match error {
            safetensors::SafeTensorError::IoError(source) => DataError::Io { path: path.clone(), source },
            error => DataError::format(&path, error.to_string()),
        })
    }
}

/// Bytes before the header of a safetensors file, which hold its length.
const HEADER_LENGTH: usize = 8;

/// The numbers of a tensor of shape `[events, width]`, which lie from `start` on in a file; `None` if it is of another shape or type.
fn numbers(tensor: &TensorInfo, file: &Arc<Bytes>, start: usize, width: usize) -> Option<Values> {
    let &TensorInfo { dtype, ref shape, data_offsets: (from, to) } = tensor;
    if dtype != Dtype::F32 || shape.len() != 2 || shape[1] != width {
        return None;
    }
    let bytes = start.checked_add(from)?..start.checked_add(to)?;
    let misaligned = || {
        let (numbers, _) = file.get(bytes.clone())?.as_chunks::<4>();
        Some(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    };
    Values::of_file(file, bytes.clone()).or_else(misaligned)
}

/// A part of a dataset as safetensors writes it, without a copy.
struct Part<'a> {
    events: &'a Events,
    shape: [usize; 2],
}

impl View for Part<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.events.values().bytes().into()
    }

    fn data_len(&self) -> usize {
        self.events.values().bytes().len()
    }
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
        let part = |rows: &[f32]| Events::new(names.clone(), rows.to_vec().into()).unwrap();
        let train = part(&[1.0, 2.0, 3.0, 0.1, 5.0, 7.0]);
        let choice = CoordinatesChoice::Named(NamedCoordinates::Standard);
        let description = Description {
            features: names.clone(),
            coordinates: Coordinates::fit(&choice, &train, &["b".to_owned()], &Scratch::memory()).unwrap(),
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
        for scratch in [Scratch::memory(), Scratch::new(two.path(), 0)] {
            let loaded = Dataset::load(&artifact(one.path()), &scratch).unwrap();
            assert_eq!(loaded, dataset());
            assert_eq!(loaded.train.values().is_mapped(), !scratch.holds(1000));
            loaded.save(two.path()).unwrap();
            for name in [DESCRIPTION, EVENTS] {
                let bytes = [&one, &two].map(|folder| std::fs::read(folder.path().join(name)).unwrap());
                assert_eq!(bytes[0], bytes[1]);
            }
        }
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        dataset().save(folder.path()).unwrap();
        let events = folder.path().join(EVENTS);
        std::fs::write(&events, &std::fs::read(&events).unwrap()[..50]).unwrap();
        let message = Dataset::load(&artifact(folder.path()), &Scratch::memory()).unwrap_err().to_string();
        assert!(message.contains(EVENTS), "{message}");
        let description = folder.path().join(DESCRIPTION);
        let json = std::fs::read_to_string(&description).unwrap();
        std::fs::write(&description, json.replace("1\n", "9\n")).unwrap();
        let message = Dataset::load(&artifact(folder.path()), &Scratch::memory()).unwrap_err().to_string();
        assert!(message.contains(DESCRIPTION) && message.contains("symmetry"), "{message}");
    }

    #[test]
    fn the_tail_is_strictly_above_its_cut() {
        let dataset = dataset();
        assert_eq!(dataset.description.are_in_tail(&dataset.train).unwrap(), Some(vec![false, true, true]));
        let mut description = dataset.description;
        description.tail = Some(Tail { observable: "a".into(), above: 3.0 });
        assert_eq!(description.are_in_tail(&dataset.train).unwrap(), Some(vec![false, false, true]));
    }
}
