//! Drawing events from a model: the mixture, its windows, its symmetries, its density ratios.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Draws, Loaded, Model, ModelError, Pass, Uniform, derived, draws::Proposal, noise, window};
use crate::data::{Description, Table};

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

impl Model {
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
        self.draw_parts(events, rng, false, |part, _| take(part))
    }

    /// As [`sample`](Self::sample), with the numbers that the events were made of; all of them are held in memory.
    pub fn sample_with_draws(&self, events: usize, rng: &mut ChaCha8Rng) -> Result<(Table, Draws), ModelError> {
        let (mut parts, mut draws) = (Vec::new(), self.no_draws());
        self.draw_parts(events, rng, true, |part, of_chunks| {
            parts.push(part);
            for chunk in of_chunks {
                draws.append(chunk);
            }
            Ok::<_, ModelError>(())
        })?;
        Ok((Table::concat(&self.description.features, &parts)?, draws))
    }

    /// Draws events in parts, with the draws of their chunks if they are recorded.
    fn draw_parts<E: From<ModelError>>(
        &self,
        events: usize,
        rng: &mut ChaCha8Rng,
        recording: bool,
        mut take: impl FnMut(Table, Vec<Draws>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Description { features: names, coordinates, .. } = &self.description;
        // Chunks have streams of their own, so that they can be made side by side.
        let chunk = |(count, mut rng): (usize, ChaCha8Rng)| -> Result<(Table, Option<Draws>), ModelError> {
            let mut draws = recording.then(|| self.no_draws());
            let rows = self.draw_encoded(count, &mut rng, draws.as_mut())?;
            if let Some(draws) = &mut draws {
                draws.set_signs(&coordinates.signs(count, &mut rng.clone()));
            }
            Ok((coordinates.decode(&rows, names, &mut rng)?, draws))
        };
        let mut rest = events;
        while rest > 0 {
            let part = rest.min(PART);
            rest -= part;
            let chunks: Vec<(usize, ChaCha8Rng)> =
                (0..part).step_by(CHUNK).map(|start| (CHUNK.min(part - start), ChaCha8Rng::from_rng(rng))).collect();
            let drawn: Result<Vec<(Table, Option<Draws>)>, ModelError> = if self.device == Device::flex() {
                chunks.into_par_iter().map(chunk).collect()
            } else {
                chunks.into_iter().map(chunk).collect()
            };
            let (tables, draws): (Vec<Table>, Vec<Option<Draws>>) = drawn?.into_iter().unzip();
            take(Table::concat(names, &tables).map_err(ModelError::from)?, draws.into_iter().flatten().collect())?;
        }
        Ok(())
    }

    /// Draws encoded rows, `[events × width]`: those of the mixture, thinned by its density ratios.
    ///
    /// # Errors
    ///
    /// Beside a device's failure: the ratios keep next to nothing of what the mixture makes.
    pub fn sample_encoded(&self, events: usize, rng: &mut ChaCha8Rng) -> Result<Vec<f32>, ModelError> {
        self.draw_encoded(events, rng, None)
    }

    /// As [`sample_encoded`](Self::sample_encoded), recording the draws.
    fn draw_encoded(
        &self,
        events: usize,
        rng: &mut ChaCha8Rng,
        mut draws: Option<&mut Draws>,
    ) -> Result<Vec<f32>, ModelError> {
        let mut proposal = draws.is_some().then(Proposal::default);
        if self.ratios.is_empty() {
            let rows = self.propose(events, rng, proposal.as_mut())?;
            if let (Some(draws), Some(proposal)) = (draws, &proposal) {
                draws.take(proposal, std::iter::repeat_n((0.0, true), events));
            }
            return Ok(rows);
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
            let candidates = self.propose(count.clamp(CHUNK / 16, CHUNK), rng, proposal.as_mut())?;
            let mut acceptance = vec![1.0; candidates.len() / width];
            for ratio in &self.ratios {
                let factors = ratio.acceptance(&self.description, &candidates, &mut signs)?;
                acceptance.iter_mut().zip(factors).for_each(|(product, factor)| *product *= factor);
            }
            let mut fates = Vec::new();
            for (row, probability) in candidates.chunks_exact(width).zip(acceptance) {
                let uniform = rng.random::<f64>();
                let is_kept = uniform < probability;
                if kept < events {
                    fates.push((uniform, is_kept));
                    if is_kept {
                        rows.extend_from_slice(row);
                        kept += 1;
                    }
                }
                proposed += 1;
            }
            if let (Some(draws), Some(proposal)) = (draws.as_deref_mut(), &proposal) {
                draws.take(proposal, fates);
            }
            if proposed > LEAST_ACCEPTED * (kept + 100) {
                return Err(ModelError::Rejecting { proposed, kept });
            }
        }
        Ok(rows)
    }

    /// Draws encoded rows of the mixture, `[events × width]`.
    fn propose(
        &self,
        events: usize,
        rng: &mut ChaCha8Rng,
        mut proposal: Option<&mut Proposal>,
    ) -> Result<Vec<f32>, ModelError> {
        let width = self.description.coordinates.width();
        let latent = self.latent();
        // What is drawn again comes from a stream beside, so that models with and without windows stay paired.
        let mut again = rng.clone();
        again.set_stream(again.get_stream() + 1);
        let noise = noise(events * latent, rng);
        let choice: Vec<f64> = (0..events).map(|_| rng.random()).collect();
        if let Some(proposal) = proposal.as_deref_mut() {
            proposal.begin(latent, &noise, &choice);
        }
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
                self.bring_inside(index, &mut generated, &mut again, |event, z| {
                    if let Some(proposal) = proposal.as_deref_mut() {
                        proposal.redraw(chosen[event], z);
                    }
                })?;
            }
            for (&event, row) in chosen.iter().zip(generated.chunks_exact(width)) {
                rows[event * width..(event + 1) * width].copy_from_slice(row);
            }
        }
        self.symmetrise(&mut rows, &mut again, proposal);
        Ok(rows)
    }

    /// Negates the coordinates of each exact symmetry with probability one half: what a generator has learnt that is odd under it is
    /// noise, and averages out.
    fn symmetrise(&self, rows: &mut [f32], rng: &mut ChaCha8Rng, mut proposal: Option<&mut Proposal>) {
        let symmetries = &self.description.symmetries;
        for row in rows.chunks_exact_mut(self.description.coordinates.width()) {
            for set in symmetries {
                let negated = rng.random::<bool>();
                if let Some(proposal) = proposal.as_deref_mut() {
                    proposal.flip(negated);
                }
                if negated {
                    for &column in set {
                        row[column] = -row[column];
                    }
                }
            }
        }
    }

    /// Numbers in the longest latent vector of a component.
    fn latent(&self) -> usize {
        self.components.iter().map(|component| component.latent).max().unwrap_or(0)
    }

    fn no_draws(&self) -> Draws {
        let uniforms = Uniform::of(&self.description, self.components.len(), !self.ratios.is_empty());
        Draws::new(self.latent(), uniforms)
    }

    /// What a component makes of latent vectors, `[events × width]`.
    fn generate(&self, component: &Loaded, z: Vec<f32>) -> Result<Vec<f32>, ModelError> {
        let shape = [z.len() / component.latent.max(1), component.latent];
        let z = Tensor::<2>::from_data(TensorData::new(z, shape), &self.device);
        derived::host(component.network.forward(z, &mut Pass::evaluation()))
    }

    /// Draws the rows of a component again that lie outside of its windows, until none does; tells of which latent vectors.
    fn bring_inside(
        &self,
        index: usize,
        rows: &mut [f32],
        rng: &mut ChaCha8Rng,
        mut tell: impl FnMut(usize, &[f32]),
    ) -> Result<(), ModelError> {
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
            let z = noise(count * component.latent, rng);
            let made = self.generate(component, z.clone())?;
            drawn += count;
            let inside = is_inside(&made, rng)?;
            for ((row, z), inside) in made.chunks_exact(width).zip(z.chunks_exact(component.latent.max(1))).zip(inside)
            {
                if inside && let Some(event) = outside.pop() {
                    rows[event * width..(event + 1) * width].copy_from_slice(row);
                    tell(event, z);
                    found += 1;
                }
            }
        }
        Ok(())
    }
}
