//! Models: nets, mixtures of them, and their files.

use std::path::PathBuf;

use rand_chacha::ChaCha8Rng;

use crate::{
    data::{Description, Table},
    device::DeviceName,
    stage::Artifact,
};

/// Why a model cannot be read, built or used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file could not be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file's content is not a model of this version.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The device is not there.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// The events do not fit.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
}

/// A model that can be sampled: a mixture of generators with the description of their events.
pub struct Model {
    description: Description,
}

impl Model {
    /// Reads a model, frozen model or candidate artifact.
    pub fn load(_artifact: &Artifact, _device: DeviceName) -> Result<Self, ModelError> {
        todo!()
    }

    /// What the events are.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Draws events in physical units, feature columns only; the same `rng` gives the same events.
    pub fn sample(&self, _events: usize, _rng: &mut ChaCha8Rng) -> Result<Table, ModelError> {
        todo!()
    }
}
