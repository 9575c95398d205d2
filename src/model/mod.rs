//! Models: nets, mixtures of them, and their files.
//!
//! burn is known here, in `train` and in stage bodies only. A model carries the description of its events, so that a sample
//! comes out in physical units.

use std::path::PathBuf;

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{data::Description, device::DeviceName, stage::Artifact};

pub mod architecture;
pub mod artifact;
pub mod backprop;
pub mod derived;
pub mod device;
pub mod draws;
pub mod freeze;
pub mod layer;
pub mod network;
pub mod ratio;
mod sampling;
#[cfg(feature = "libtorch")]
pub(crate) mod torch;
pub mod transfer;
pub(crate) mod wide;
pub mod window;

pub use artifact::{Component, Discriminator, StoredModel};
pub use backprop::{Leaf, Traced};
pub use derived::{Derived, Rows};
pub use draws::{Draws, Uniform};
pub use network::{Network, Pass, Weights};
use ratio::LoadedRatio;
pub use ratio::{Factor, Ratio, StrataFactors, stratum};
pub use window::{Side, Window};

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
    /// The device is not there, or failed.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceError),
    /// Rejection sampling keeps next to nothing.
    #[error(
        "the density ratios of the model keep {kept} of {proposed} events: it is too far from the data to be mended by \
         reweighting; train the model longer, or lower `ceiling`"
    )]
    Rejecting {
        /// Events made.
        proposed: usize,
        /// Events kept.
        kept: usize,
    },
    /// The events do not fit.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A component makes next to no events inside of its windows.
    #[error(
        "component {component} of the model makes next to no events inside of its window ({window}): {found} of {drawn} drawn"
    )]
    Window {
        /// Its position, from 0.
        component: usize,
        /// Its windows in words.
        window: String,
        /// Events inside.
        found: usize,
        /// Events drawn.
        drawn: usize,
    },
}

/// A model that can be sampled: a mixture of generators with the description of their events.
pub struct Model {
    description: Description,
    components: Vec<Loaded>,
    ratios: Vec<LoadedRatio>,
    device: Device,
}

/// A component on the device.
struct Loaded {
    weight: f64,
    network: Network,
    latent: usize,
    windows: Vec<Window>,
}

impl Model {
    /// Reads a model, frozen model or candidate artifact.
    pub fn load(artifact: &Artifact, device: DeviceName) -> Result<Self, ModelError> {
        Self::new(&StoredModel::load(artifact)?, device)
    }

    /// Puts a stored model on a device.
    pub fn new(stored: &StoredModel, device: DeviceName) -> Result<Self, ModelError> {
        let device = device::open(device)?;
        let component = |component: &Component| Loaded {
            weight: component.weight,
            network: Network::new(&component.generator, &device),
            latent: component.generator.inputs(),
            windows: component.windows.clone(),
        };
        let components = stored.components.iter().map(component).collect();
        let ratios = stored.ratios.iter().map(|ratio| LoadedRatio::new(ratio, &device)).collect();
        Ok(Self { description: stored.description.clone(), components, ratios, device })
    }

    /// What the events are.
    pub fn description(&self) -> &Description {
        &self.description
    }
}

/// Standard normal numbers.
pub fn noise(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    StandardNormal.sample_iter(rng).take(count).collect()
}
