//! One step of a pass: a linear map with its bias and masks, an activation, a normalisation, or a change of order.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    convolution::Kernel,
    norm::Moments,
    product::{Into, Matrix, product},
    vector,
};

/// A step of a pass.
pub(super) struct Unit {
    pub(super) kind: Kind,
    /// Where its parameters start.
    pub(super) at: usize,
    /// Numbers in a row that comes in, and in one that goes out.
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

pub(super) enum Kind {
    /// A linear map with a bias for each output or channel, and what acts on the numbers after it.
    Map {
        map: Map,
        bias: usize,
        act: Act,
    },
    /// An activation by itself.
    Act(Act),
    Tanh,
    /// Batch normalisation, with its running moments.
    Norm {
        channels: usize,
        running: Moments,
    },
    /// Rows as matrices, transposed: `[rows, columns]` to `[columns, rows]`.
    Transpose {
        rows: usize,
        columns: usize,
    },
}

pub(super) enum Map {
    Dense,
    Scale,
    Kernel(Box<Kernel>),
}

/// Masks: leaky ReLU, dropout, both, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Act {
    pub(super) leaky: bool,
    pub(super) dropout: Option<f64>,
}

impl Act {
    /// By what dropout multiplies what it keeps.
    pub(super) fn keep(self) -> f32 {
        self.dropout.map_or(1.0, |share| 1.0 / (1.0 - share)) as f32
    }

    pub(super) fn is_identity(self) -> bool {
        self == Self::default()
    }
}

impl Kind {
    pub(super) fn map(map: Map, bias: usize) -> Self {
        Self::Map { map, bias, act: Act::default() }
    }
}

impl Unit {
    pub(super) fn transpose(rows: usize, columns: usize) -> Self {
        Self { kind: Kind::Transpose { rows, columns }, at: 0, inputs: rows * columns, outputs: rows * columns }
    }

    pub(super) fn act(&mut self) -> Option<&mut Act> {
        match &mut self.kind {
            Kind::Map { act, .. } | Kind::Act(act) => Some(act),
            _ => None,
        }
    }

    pub(super) fn norm(&self) -> Option<(usize, &Moments)> {
        match &self.kind {
            Kind::Norm { channels, running } => Some((*channels, running)),
            _ => None,
        }
    }

    pub(super) fn has_weight(&self) -> bool {
        matches!(self.kind, Kind::Map { .. })
    }

    /// Numbers in the weight of its map.
    pub(super) fn weights(&self, map: &Map) -> usize {
        match map {
            Map::Dense => self.inputs * self.outputs,
            Map::Scale => self.inputs,
            Map::Kernel(kernel) => kernel.weights(),
        }
    }

    fn weight<'p>(&self, parameters: &'p [f32]) -> Matrix<'p> {
        Matrix::new(&parameters[self.at..][..self.inputs * self.outputs], self.inputs, self.outputs)
    }

    /// Forward, batch normalisation by its running moments.
    pub(super) fn forward(
        &self,
        parameters: &[f32],
        out: &mut [f32],
        x: &[f32],
        count: usize,
        dropout: &mut Option<&mut ChaCha8Rng>,
        scratch: &mut Vec<f32>,
    ) {
        match &self.kind {
            Kind::Map { map, bias, act } => {
                self.apply(parameters, out, x, count, scratch);
                let at = self.at + self.weights(map);
                let add_bias = if act.leaky { vector::add_bias_leaky } else { vector::add_bias };
                add_bias(out, &parameters[at..][..*bias]);
                drop_out(out, *act, dropout);
            }
            Kind::Act(act) => {
                out.copy_from_slice(x);
                if act.leaky {
                    vector::leaky(out);
                }
                drop_out(out, *act, dropout);
            }
            Kind::Tanh => out.iter_mut().zip(x).for_each(|(out, x)| *out = x.tanh()),
            Kind::Norm { channels, running } => {
                let [gamma, beta] = [self.at, self.at + channels].map(|at| &parameters[at..][..*channels]);
                running.normalise(out, x, [gamma, beta]);
            }
            Kind::Transpose { .. } => self.apply(parameters, out, x, count, scratch),
        }
    }

    /// The linear part: `out` = x W.
    pub(super) fn apply(&self, parameters: &[f32], out: &mut [f32], x: &[f32], count: usize, scratch: &mut Vec<f32>) {
        match &self.kind {
            Kind::Map { map: Map::Dense, .. } => {
                product(out, Matrix::new(x, count, self.inputs), self.weight(parameters), Into::Replace);
            }
            Kind::Map { map: Map::Scale, .. } => self.scale(parameters, out, x),
            Kind::Map { map: Map::Kernel(kernel), .. } => kernel.apply(out, x, count, scratch),
            Kind::Transpose { rows, columns } => transpose(out, x, *rows, *columns),
            Kind::Act(_) | Kind::Tanh | Kind::Norm { .. } => out[..x.len()].copy_from_slice(x),
        }
    }

    /// The linear part backward: `out` = δ Wᵀ, δ being what its output's mask has left.
    pub(super) fn transposed(
        &self,
        parameters: &[f32],
        out: &mut [f32],
        delta: &[f32],
        count: usize,
        scratch: &mut Vec<f32>,
    ) {
        let (out, delta) = (&mut out[..count * self.inputs], &delta[..count * self.outputs]);
        match &self.kind {
            Kind::Map { map: Map::Dense, .. } => {
                let delta = Matrix::new(delta, count, self.outputs);
                product(out, delta, self.weight(parameters).transposed(), Into::Replace);
            }
            Kind::Map { map: Map::Scale, .. } => self.scale(parameters, out, delta),
            Kind::Map { map: Map::Kernel(kernel), .. } => kernel.transposed(out, delta, count, scratch),
            Kind::Transpose { rows, columns } => transpose(out, delta, *columns, *rows),
            Kind::Act(_) | Kind::Tanh | Kind::Norm { .. } => out.copy_from_slice(delta),
        }
    }

    fn scale(&self, parameters: &[f32], out: &mut [f32], x: &[f32]) {
        let scale = &parameters[self.at..][..self.inputs];
        for (out, x) in out.chunks_exact_mut(self.inputs).zip(x.chunks_exact(self.inputs)) {
            out.iter_mut().zip(x.iter().zip(scale)).for_each(|(out, (x, scale))| *out = x * scale);
        }
    }

    /// Multiplies a gradient by the slope of the activation where it gave `out`, with dropout or without.
    pub(super) fn mask(&self, delta: &mut [f32], out: &[f32], dropout: bool) {
        match &self.kind {
            Kind::Map { act, .. } | Kind::Act(act) => {
                let act = Act { dropout: act.dropout.filter(|_| dropout), ..*act };
                if !act.is_identity() {
                    vector::mask(delta, out, act);
                }
            }
            Kind::Tanh => delta.iter_mut().zip(out).for_each(|(delta, h)| *delta *= 1.0 - h * h),
            Kind::Norm { .. } | Kind::Transpose { .. } => {}
        }
    }

    /// The gradient of the weight: += xᵀ δ.
    pub(super) fn accumulate(
        &self,
        gradient: &mut [f32],
        x: &[f32],
        delta: &[f32],
        count: usize,
        scratch: &mut Vec<f32>,
    ) {
        let Kind::Map { map, .. } = &self.kind else { return };
        let gradient = &mut gradient[self.at..][..self.weights(map)];
        let delta = &delta[..count * self.outputs];
        match map {
            Map::Dense => {
                let x = Matrix::new(x, count, self.inputs).transposed();
                product(gradient, x, Matrix::new(delta, count, self.outputs), Into::Add);
            }
            Map::Scale => {
                for (x, delta) in x.chunks_exact(self.inputs).zip(delta.chunks_exact(self.inputs)) {
                    gradient.iter_mut().zip(x.iter().zip(delta)).for_each(|(g, (x, delta))| *g += x * delta);
                }
            }
            Map::Kernel(kernel) => kernel.accumulate(gradient, x, delta, count, scratch),
        }
    }

    /// The gradient of the bias: += Σ δ, with a factor for each row if there are some.
    pub(super) fn accumulate_bias(&self, gradient: &mut [f32], delta: &[f32], count: usize, factors: Option<&[f32]>) {
        let Kind::Map { map, bias, .. } = &self.kind else { return };
        let sums = &mut gradient[self.at + self.weights(map)..][..*bias];
        let delta = &delta[..count * self.outputs];
        match factors {
            Some(factors) => vector::add_scaled_rows(sums, delta, factors, self.outputs / bias),
            None => vector::add_rows(sums, delta),
        }
    }
}

/// Inverted dropout, row by row.
fn drop_out(values: &mut [f32], act: Act, rng: &mut Option<&mut ChaCha8Rng>) {
    if let (Some(share), Some(rng)) = (act.dropout, rng) {
        let keep = act.keep();
        for value in values {
            *value *= if rng.random_bool(share) { 0.0 } else { keep };
        }
    }
}

/// Each row as a matrix of this many rows and columns, transposed.
fn transpose(out: &mut [f32], x: &[f32], rows: usize, columns: usize) {
    let size = rows * columns;
    for (out, x) in out.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
        for (column, out) in out.chunks_exact_mut(rows).enumerate() {
            out.iter_mut().zip(x[column..].iter().step_by(columns)).for_each(|(out, x)| *out = *x);
        }
    }
}
