//! The random numbers that events are made of, so that others can make the same events of them.
//!
//! A candidate is made of a latent vector and a few uniform numbers. What a mixture rejects is recorded too: a reader sees that it
//! rejects the same.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensorError, tensor::TensorView};

use crate::data::{Coordinates, Description};

/// What a uniform number in [0, 1) decides, in the order in which a candidate's numbers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uniform {
    /// The component, whose weights are laid along [0, 1) in their order. Absent where there is one.
    Component,
    /// Below ½: the coordinates of this symmetry are negated.
    Symmetry(usize),
    /// Below the probability of the density ratios: the candidate is kept. Absent where there are none.
    Accept,
    /// Below ½: φ of jet 2, whose sign `dijet` coordinates leave out, is negative.
    Sign,
}

impl Uniform {
    /// The numbers of a model with so many components, thinned by ratios or not.
    pub fn of(description: &Description, components: usize, thinned: bool) -> Vec<Self> {
        let symmetries = (0..description.symmetries.len()).map(Self::Symmetry);
        let signed = matches!(description.coordinates, Coordinates::Dijet { .. });
        let component = (components > 1).then_some(Self::Component);
        component
            .into_iter()
            .chain(symmetries)
            .chain(thinned.then_some(Self::Accept))
            .chain(signed.then_some(Self::Sign))
            .collect()
    }

    /// Its name in files.
    pub fn name(self) -> String {
        match self {
            Self::Component => "component".into(),
            Self::Symmetry(index) => format!("symmetry_{index}"),
            Self::Accept => "accept".into(),
            Self::Sign => "sign".into(),
        }
    }
}

/// A coin as a uniform number: whether it is below ½ is all that is known.
fn coin(below: bool) -> f64 {
    if below { 0.25 } else { 0.75 }
}

/// The numbers of candidates, a row for each, in the order in which events came of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Draws {
    latent: usize,
    uniforms: Vec<Uniform>,
    z: Vec<f32>,
    u: Vec<f64>,
    accepted: Vec<bool>,
}

impl Draws {
    pub(super) fn new(latent: usize, uniforms: Vec<Uniform>) -> Self {
        Self { latent, uniforms, z: Vec::new(), u: Vec::new(), accepted: Vec::new() }
    }

    /// Numbers in a latent vector.
    pub fn latent(&self) -> usize {
        self.latent
    }

    /// What the columns of [`u`](Self::u) decide.
    pub fn uniforms(&self) -> &[Uniform] {
        &self.uniforms
    }

    /// Latent vectors, standard normal, `[candidates × latent]`.
    pub fn z(&self) -> &[f32] {
        &self.z
    }

    /// Uniform numbers, `[candidates × uniforms]`.
    pub fn u(&self) -> &[f64] {
        &self.u
    }

    /// Which candidates became events.
    pub fn accepted(&self) -> &[bool] {
        &self.accepted
    }

    /// Appends others of the same model.
    pub fn append(&mut self, mut other: Self) {
        self.z.append(&mut other.z);
        self.u.append(&mut other.u);
        self.accepted.append(&mut other.accepted);
    }

    /// Takes in the candidates of a proposal: the uniform number that each was held against, and whether it was kept.
    pub(super) fn take(&mut self, proposal: &Proposal, fates: impl IntoIterator<Item = (f64, bool)>) {
        for (event, (accept, kept)) in fates.into_iter().enumerate() {
            let own = event * self.latent..(event + 1) * self.latent;
            if let Some(z) = proposal.outside.get(&event) {
                self.push(proposal, event, z, (accept, false));
            }
            self.push(proposal, event, &proposal.z[own], (accept, kept));
        }
    }

    fn push(&mut self, proposal: &Proposal, event: usize, z: &[f32], (accept, kept): (f64, bool)) {
        let sets = proposal.flips.len() / proposal.choice.len().max(1);
        self.z.extend(z);
        self.u.extend(self.uniforms.iter().map(|uniform| match uniform {
            Uniform::Component => proposal.choice[event],
            Uniform::Symmetry(set) => coin(proposal.flips[event * sets + set]),
            Uniform::Accept => accept,
            Uniform::Sign => coin(false),
        }));
        self.accepted.push(kept);
    }

    /// Sets the signs of the events, in order.
    pub(super) fn set_signs(&mut self, signs: &[bool]) {
        let Some(column) = self.uniforms.iter().position(|uniform| *uniform == Uniform::Sign) else { return };
        let rows = self.u.chunks_exact_mut(self.uniforms.len());
        let kept = rows.zip(&self.accepted).filter(|(_, accepted)| **accepted).map(|(row, _)| row);
        kept.zip(signs).for_each(|(row, &negative)| row[column] = coin(negative));
    }

    /// As a safetensors file: `z` (f32), `u` (f64; absent where there are no columns) and `accepted` (bool), a row for each candidate.
    /// The same draws give the same bytes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, SafeTensorError> {
        let rows = self.accepted.len();
        let z: Vec<u8> = self.z.iter().flat_map(|number| number.to_le_bytes()).collect();
        let u: Vec<u8> = self.u.iter().flat_map(|number| number.to_le_bytes()).collect();
        let accepted: Vec<u8> = self.accepted.iter().copied().map(u8::from).collect();
        let mut tensors = vec![
            ("z", TensorView::new(Dtype::F32, vec![rows, self.latent], &z)?),
            ("accepted", TensorView::new(Dtype::BOOL, vec![rows], &accepted)?),
        ];
        if !self.uniforms.is_empty() {
            tensors.push(("u", TensorView::new(Dtype::F64, vec![rows, self.uniforms.len()], &u)?));
        }
        safetensors::serialize(tensors, None)
    }
}

/// What the candidates of one proposal were made of.
#[derive(Default)]
pub(super) struct Proposal {
    latent: usize,
    /// `[candidates × latent]`.
    z: Vec<f32>,
    /// A number for each candidate.
    choice: Vec<f64>,
    /// `[candidates × symmetries]`.
    flips: Vec<bool>,
    /// The first latent vectors of candidates that were drawn again, for they lay outside of their windows.
    outside: BTreeMap<usize, Vec<f32>>,
}

impl Proposal {
    pub(super) fn begin(&mut self, latent: usize, z: &[f32], choice: &[f64]) {
        *self = Self { latent, z: z.to_vec(), choice: choice.to_vec(), ..Self::default() };
    }

    /// A candidate was drawn again, from this latent vector.
    pub(super) fn redraw(&mut self, event: usize, z: &[f32]) {
        let own = &mut self.z[event * self.latent..(event + 1) * self.latent];
        self.outside.entry(event).or_insert_with(|| own.to_vec());
        own.fill(0.0);
        own[..z.len()].copy_from_slice(z);
    }

    pub(super) fn flip(&mut self, negated: bool) {
        self.flips.push(negated);
    }
}
