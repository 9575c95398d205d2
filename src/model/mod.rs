//! Models: nets, mixtures of them, and their files.
//!
//! burn is known here, in `train` and in stage bodies only. A model carries the description of its events, so that a sample
//! comes out in physical units.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::{
    data::{Description, Table},
    device::DeviceName,
    stage::Artifact,
};

pub mod architecture;
pub mod artifact;
pub mod backprop;
pub mod derived;
pub mod device;
pub mod freeze;
pub mod layer;
pub mod network;
pub mod ratio;
pub(crate) mod wide;
pub mod window;

pub use artifact::{Component, Discriminator, StoredModel};
pub use backprop::{Leaf, PiecewiseLinear, Traced};
pub use derived::{Derived, Rows};
pub use network::{Network, Pass, Weights};
use ratio::LoadedRatio;
pub use ratio::{Factor, Ratio, StrataFactors, stratum};
pub use window::{Side, Window};

/// Events that are generated at once.
const CHUNK: usize = 8192;
/// Events that are handed over at once.
const PART: usize = 1 << 18;
/// Events of a component that are drawn in vain for each one inside of its windows, on average, before it is given up.
const REDRAWS: usize = 1000;
/// As [`REDRAWS`], in all, however few are wanted.
const REDRAWS_AT_LEAST: usize = 20_000;

/// A model whose ratios keep less than one event in so many cannot be sampled.
const LEAST_ACCEPTED: usize = 1000;

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

    /// Draws events in physical units, feature columns only; the same `rng` gives the same events. Two models with a
    /// component in common draw the same latent vectors for it, so that their samples are paired.
    pub fn sample(&self, events: usize, rng: &mut ChaCha8Rng) -> Result<Table, ModelError> {
        let mut parts = Vec::new();
        self.sample_parts(events, rng, |part| {
            parts.push(part);
            Ok::<_, ModelError>(())
        })?;
        Ok(Table::concat(&self.description.features, &parts)?)
    }

    /// As [`sample`](Self::sample), but hands the events over in parts of 2¹⁸ at most, so that the memory does not grow with them.
    pub fn sample_parts<E: From<ModelError>>(
        &self,
        events: usize,
        rng: &mut ChaCha8Rng,
        mut take: impl FnMut(Table) -> Result<(), E>,
    ) -> Result<(), E> {
        let names = &self.description.features;
        // Chunks have streams of their own, so that they can be made side by side.
        let chunk = |(count, mut rng): (usize, ChaCha8Rng)| -> Result<Table, ModelError> {
            let rows = self.sample_encoded(count, &mut rng)?;
            Ok(self.description.coordinates.decode(&rows, names, &mut rng)?)
        };
        let mut rest = events;
        while rest > 0 {
            let part = rest.min(PART);
            rest -= part;
            let chunks: Vec<(usize, ChaCha8Rng)> =
                (0..part).step_by(CHUNK).map(|start| (CHUNK.min(part - start), ChaCha8Rng::from_rng(rng))).collect();
            let tables: Result<Vec<Table>, ModelError> = if self.device == Device::flex() {
                chunks.into_par_iter().map(chunk).collect()
            } else {
                chunks.into_iter().map(chunk).collect()
            };
            take(Table::concat(names, &tables?).map_err(ModelError::from)?)?;
        }
        Ok(())
    }

    /// Draws encoded rows, `[events × width]`: those of the mixture, thinned by its density ratios.
    ///
    /// # Errors
    ///
    /// Beside a device's failure: the ratios keep next to nothing of what the mixture makes.
    pub fn sample_encoded(&self, events: usize, rng: &mut ChaCha8Rng) -> Result<Vec<f32>, ModelError> {
        if self.ratios.is_empty() {
            return self.propose(events, rng);
        }
        let width = self.description.coordinates.width();
        let mut rows = Vec::with_capacity(events * width);
        let (mut proposed, mut kept) = (0usize, 0usize);
        let mut signs = rng.clone();
        signs.set_stream(signs.get_stream() + 2);
        while kept < events {
            // As many as are missing by the share kept so far, and a few more.
            let share = (kept + 1) as f64 / (proposed + 2) as f64;
            let count = (1.05 * (events - kept) as f64 / share) as usize;
            let candidates = self.propose(count.clamp(CHUNK / 16, CHUNK), rng)?;
            let mut acceptance = vec![1.0; candidates.len() / width];
            for ratio in &self.ratios {
                let factors = ratio.acceptance(&self.description, &candidates, &mut signs)?;
                acceptance.iter_mut().zip(factors).for_each(|(product, factor)| *product *= factor);
            }
            for (row, probability) in candidates.chunks_exact(width).zip(acceptance) {
                if rng.random::<f64>() < probability && kept < events {
                    rows.extend_from_slice(row);
                    kept += 1;
                }
                proposed += 1;
            }
            if proposed > LEAST_ACCEPTED * (kept + 100) {
                return Err(ModelError::Rejecting { proposed, kept });
            }
        }
        Ok(rows)
    }

    /// Draws encoded rows of the mixture, `[events × width]`.
    fn propose(&self, events: usize, rng: &mut ChaCha8Rng) -> Result<Vec<f32>, ModelError> {
        let width = self.description.coordinates.width();
        let latent = self.components.iter().map(|component| component.latent).max().unwrap_or(0);
        // What is drawn again comes from a stream beside, so that models with and without windows stay paired.
        let mut again = rng.clone();
        again.set_stream(again.get_stream() + 1);
        let noise = noise(events * latent, rng);
        let choice: Vec<f64> = (0..events).map(|_| rng.random()).collect();
        let mut rows = vec![0f32; events * width];
        let mut below = 0.0;
        for (index, component) in self.components.iter().enumerate() {
            let last = index + 1 == self.components.len();
            let above = if last { f64::INFINITY } else { below + component.weight };
            let chosen: Vec<usize> = (0..events).filter(|&i| (below..above).contains(&choice[i])).collect();
            below += component.weight;
            if chosen.is_empty() {
                continue;
            }
            let z = chosen.iter().flat_map(|&i| &noise[i * latent..i * latent + component.latent]).copied().collect();
            let mut generated = self.generate(component, z)?;
            if !component.windows.is_empty() {
                self.bring_inside(index, &mut generated, &mut again)?;
            }
            for (&event, row) in chosen.iter().zip(generated.chunks_exact(width)) {
                rows[event * width..(event + 1) * width].copy_from_slice(row);
            }
        }
        self.symmetrise(&mut rows, &mut again);
        Ok(rows)
    }

    /// Negates the coordinates of each exact symmetry with probability one half: what a generator has learnt that is odd under it is
    /// noise, and averages out.
    fn symmetrise(&self, rows: &mut [f32], rng: &mut ChaCha8Rng) {
        let symmetries = &self.description.symmetries;
        for row in rows.chunks_exact_mut(self.description.coordinates.width()) {
            for set in symmetries {
                if rng.random::<bool>() {
                    for &column in set {
                        row[column] = -row[column];
                    }
                }
            }
        }
    }

    /// What a component makes of latent vectors, `[events × width]`.
    fn generate(&self, component: &Loaded, z: Vec<f32>) -> Result<Vec<f32>, ModelError> {
        let shape = [z.len() / component.latent.max(1), component.latent];
        let z = Tensor::<2>::from_data(TensorData::new(z, shape), &self.device);
        derived::host(component.network.forward(z, &mut Pass::evaluation()))
    }

    /// Draws the rows of a component again that lie outside of its windows, until none does.
    fn bring_inside(&self, index: usize, rows: &mut [f32], rng: &mut ChaCha8Rng) -> Result<(), ModelError> {
        let component = &self.components[index];
        let width = self.description.coordinates.width();
        let is_inside =
            |rows: &[f32], rng: &mut ChaCha8Rng| window::inside(&component.windows, &self.description, rows, rng);
        let outside = is_inside(rows, rng)?.into_iter().enumerate().filter(|(_, inside)| !inside).map(|(i, _)| i);
        let mut outside: Vec<usize> = outside.collect();
        let allowed = outside.len() * REDRAWS + REDRAWS_AT_LEAST;
        let (mut drawn, mut found) = (0, 0);
        while !outside.is_empty() {
            if drawn > allowed {
                let windows = component.windows.iter().map(|window| format!("{window}"));
                let window = windows.collect::<Vec<_>>().join(", ");
                return Err(ModelError::Window { component: index, window, found, drawn });
            }
            let count = outside.len().clamp(256, CHUNK);
            let made = self.generate(component, noise(count * component.latent, rng))?;
            drawn += count;
            for (row, inside) in made.chunks_exact(width).zip(is_inside(&made, rng)?) {
                if inside && let Some(event) = outside.pop() {
                    rows[event * width..(event + 1) * width].copy_from_slice(row);
                    found += 1;
                }
            }
        }
        Ok(())
    }
}

/// Standard normal numbers.
pub fn noise(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    StandardNormal.sample_iter(rng).take(count).collect()
}
