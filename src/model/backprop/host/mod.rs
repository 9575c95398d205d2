//! The passes of any net on the CPU, fused over blocks of rows: bias and activation follow a product while its block is in the
//! cache, and masks are read off the signs of the activations.
//!
//! A net is a list of [`Unit`]s. Those that work on each row by itself go through a block together; batch normalisation in
//! training, which looks at all rows, stands between. Images have their channels last; what a net stores has them first.

use rand_chacha::ChaCha8Rng;

use self::{
    convolution::Kernel,
    norm::Moments,
    unit::{Act, Kind, Map, Unit},
};
use crate::model::layer::Layer;

mod convolution;
mod norm;
mod product;
mod unit;
mod vector;

/// Rows that go through the units together, at most.
pub(super) const BLOCK: usize = 256;
/// Numbers of the widest activation in a block, at most.
const BLOCK_SIZE: usize = 1 << 16;

/// A net with its parameters on the host.
pub(super) struct Net {
    units: Vec<Unit>,
    parameters: Vec<f32>,
    block: usize,
}

/// What each unit took, `[batch, inputs]`, and last what came out.
pub(super) struct Tape {
    rows: usize,
    values: Vec<Vec<f32>>,
    /// The moments that each batch normalisation used, in training.
    moments: Vec<Moments>,
    /// Whether dropout was at work.
    dropout: bool,
    training: bool,
}

impl Tape {
    /// Mean and variance of each batch normalisation in training, in order.
    pub(super) fn statistics(&self) -> impl Iterator<Item = [&[f32]; 2]> {
        self.moments.iter().map(|moments| [&moments.mean[..], &moments.variance[..]])
    }
}

/// The mode of a pass.
pub(super) struct Mode<'a> {
    pub(super) training: bool,
    pub(super) dropout: Option<&'a mut ChaCha8Rng>,
}

/// Gradients that a backward pass gives.
pub(super) struct Gradients {
    /// Flat, in the order of the parameters.
    pub(super) parameters: Vec<f32>,
    /// `[batch, inputs]`; empty if it was not asked for.
    pub(super) input: Vec<f32>,
}

/// What is asked of a backward pass.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) parameters: bool,
    pub(super) input: bool,
}

/// How the features of a row lie while units are made.
#[derive(Clone, Copy)]
struct Image {
    channels: usize,
    positions: usize,
}

impl Net {
    /// With `running` the means and variances of all batch normalisations in order. `None` if the layers are no chain that begins
    /// with a linear one, or one of them has no features.
    pub(super) fn new(layers: &[Layer], parameters: Vec<f32>, running: &[f32]) -> Option<Self> {
        let mut units: Vec<Unit> = Vec::new();
        let (mut at, mut running) = (0, running);
        let &Layer::Linear { inputs: mut width, .. } = layers.first()? else { return None };
        // Channels last, where it makes a difference.
        let mut image: Option<Image> = None;
        for layer in layers {
            let needs = match *layer {
                Layer::Conv(c) | Layer::ConvTranspose(c) => {
                    Some(Image { channels: c.inputs, positions: c.side * c.side })
                }
                Layer::BatchNorm { channels, spatial } if spatial > 1 => Some(Image { channels, positions: spatial }),
                Layer::LeakyRelu | Layer::Tanh | Layer::Dropout { .. } => image,
                _ => None,
            };
            match (image, needs) {
                (None, Some(Image { channels, positions })) => units.push(Unit::transpose(channels, positions)),
                (Some(Image { channels, positions }), None) => units.push(Unit::transpose(positions, channels)),
                _ => {}
            }
            image = needs;
            let outputs = layer.outputs(width).filter(|&outputs| width > 0 && outputs > 0)?;
            let unit = |kind| Unit { kind, at, inputs: width, outputs };
            match *layer {
                Layer::Linear { .. } => units.push(unit(Kind::map(Map::Dense, outputs))),
                Layer::Affine { .. } => units.push(unit(Kind::map(Map::Scale, outputs))),
                Layer::Conv(c) | Layer::ConvTranspose(c) => {
                    let transposed = matches!(layer, Layer::ConvTranspose(_));
                    let [[rows, columns], _] = layer.shapes()[..] else { return None };
                    let kernel = Kernel::new(c, transposed, parameters.get(at..at + rows * columns)?);
                    image = Some(Image { channels: c.outputs, positions: kernel.positions() });
                    units.push(unit(Kind::map(Map::Kernel(Box::new(kernel)), c.outputs)));
                }
                Layer::BatchNorm { channels, .. } => {
                    let (mean, rest) = running.split_at_checked(channels)?;
                    let (variance, rest) = rest.split_at_checked(channels)?;
                    running = rest;
                    let running = Moments { mean: mean.to_vec(), variance: variance.to_vec() };
                    units.push(unit(Kind::Norm { channels, running }));
                }
                Layer::Tanh => units.push(unit(Kind::Tanh)),
                Layer::LeakyRelu => match units.last_mut().and_then(Unit::act) {
                    Some(act) if act.is_identity() => act.leaky = true,
                    _ => units.push(unit(Kind::Act(Act { leaky: true, dropout: None }))),
                },
                Layer::Dropout { share } => match units.last_mut().and_then(Unit::act) {
                    Some(act) if act.dropout.is_none() => act.dropout = Some(share),
                    _ => units.push(unit(Kind::Act(Act { leaky: false, dropout: Some(share) }))),
                },
            }
            at += layer.size();
            width = outputs;
        }
        if let Some(Image { channels, positions }) = image {
            units.push(Unit::transpose(positions, channels));
        }
        let widest = units.iter().map(|unit| unit.inputs.max(unit.outputs)).max()?;
        (parameters.len() == at).then(|| Self { units, parameters, block: (BLOCK_SIZE / widest).clamp(1, BLOCK) })
    }

    /// Evaluates the net without dropout and by the running moments, keeping nothing.
    pub(super) fn evaluate(&self, x: &[f32]) -> Vec<f32> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let rows = x.len() / inputs;
        let mut out = vec![0.0; rows * outputs];
        let mut scratch = Vec::new();
        let [mut value, mut next] = [(); 2].map(|()| vec![0.0; self.block * self.widest()]);
        for (start, count) in self.blocks(rows) {
            value[..count * inputs].copy_from_slice(&x[start * inputs..][..count * inputs]);
            for unit in &self.units {
                let input = &value[..count * unit.inputs];
                unit.forward(
                    &self.parameters,
                    &mut next[..count * unit.outputs],
                    input,
                    count,
                    &mut None,
                    &mut scratch,
                );
                std::mem::swap(&mut value, &mut next);
            }
            out[start * outputs..][..count * outputs].copy_from_slice(&value[..count * outputs]);
        }
        out
    }

    /// Evaluates the net, `[batch, inputs]` to `[batch, outputs]`.
    pub(super) fn forward(&self, x: Vec<f32>, mode: Mode<'_>) -> Tape {
        let rows = x.len() / self.inputs();
        let Mode { training, mut dropout } = mode;
        let mut tape = Tape { rows, values: vec![x], moments: Vec::new(), dropout: dropout.is_some(), training };
        tape.values.extend(self.units.iter().map(|unit| vec![0.0; rows * unit.outputs]));
        let mut scratch = Vec::new();
        for segment in self.segments() {
            if let Some((channels, _)) = self.units[segment.start].norm().filter(|_| training) {
                let (x, out) = around(&mut tape.values, segment.start);
                let moments = Moments::of(x, channels);
                moments.normalise(out, x, self.affine(segment.start));
                tape.moments.push(moments);
                continue;
            }
            for (start, count) in self.blocks(rows) {
                for index in segment.clone() {
                    let unit = &self.units[index];
                    let (x, out) = around(&mut tape.values, index);
                    let x = &x[start * unit.inputs..][..count * unit.inputs];
                    let out = &mut out[start * unit.outputs..][..count * unit.outputs];
                    unit.forward(&self.parameters, out, x, count, &mut dropout, &mut scratch);
                }
            }
        }
        tape
    }

    /// What a pass gave, `[batch, outputs]`.
    pub(super) fn output(tape: &Tape) -> Vec<f32> {
        tape.values.last().cloned().unwrap_or_default()
    }

    /// The gradients of Σ output · `slope`.
    pub(super) fn backward(&self, tape: &Tape, slope: Vec<f32>, wanted: Wanted) -> Gradients {
        let mut parameters = if wanted.parameters { vec![0.0; self.parameters.len()] } else { Vec::new() };
        let mut delta = slope;
        let mut moments = tape.moments.iter().rev();
        let mut work = Work::new(self);
        let segments: Vec<_> = self.segments().collect();
        for segment in segments.into_iter().rev() {
            let first = &self.units[segment.start];
            if let Some((channels, running)) = first.norm() {
                let of_batch = if tape.training { moments.next() } else { None };
                let gamma = &self.parameters[first.at..][..channels];
                let x = &tape.values[segment.start];
                let gradients = of_batch.unwrap_or(running).backward(&mut delta, x, gamma, of_batch.is_some());
                if wanted.parameters {
                    parameters[first.at..][..2 * channels].copy_from_slice(&gradients.concat());
                }
                continue;
            }
            let goes_on = segment.start > 0 || wanted.input;
            let mut before = vec![0.0; if goes_on { tape.rows * first.inputs } else { 0 }];
            let outputs = self.units[segment.end - 1].outputs;
            for (start, count) in self.blocks(tape.rows) {
                work.delta[..count * outputs].copy_from_slice(&delta[start * outputs..][..count * outputs]);
                for index in segment.clone().rev() {
                    let unit = &self.units[index];
                    unit.mask(
                        &mut work.delta[..count * unit.outputs],
                        self.given(tape, index, (start, count)),
                        tape.dropout,
                    );
                    if wanted.parameters {
                        let x = &tape.values[index][start * unit.inputs..][..count * unit.inputs];
                        unit.accumulate(&mut parameters, x, &work.delta, count, &mut work.scratch);
                        unit.accumulate_bias(&mut parameters, &work.delta, count, None);
                    }
                    if index > segment.start || goes_on {
                        unit.transposed(&self.parameters, &mut work.next, &work.delta, count, &mut work.scratch);
                        std::mem::swap(&mut work.delta, &mut work.next);
                    }
                }
                if goes_on {
                    let width = count * first.inputs;
                    before[start * first.inputs..][..width].copy_from_slice(&work.delta[..width]);
                }
            }
            delta = before;
        }
        self.restore(&mut parameters);
        Gradients { parameters, input: delta }
    }

    /// The flat gradient of Σ output · `slope` plus a penalty on the input gradient g, for a piecewise linear net with one output.
    /// `penalty` takes a row and its |g|², and gives f with dP/dg = f g.
    pub(super) fn penalised(&self, tape: &Tape, slope: &[f32], penalty: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let width = self.inputs();
        let mut gradient = vec![0.0; self.parameters.len()];
        let mut deltas: Vec<Vec<f32>> = self.units.iter().map(|unit| vec![0.0; self.block * unit.outputs]).collect();
        let mut work = Work::new(self);
        let mut both = vec![0.0; self.block * self.widest()];
        for (start, count) in self.blocks(tape.rows) {
            if let Some(last) = deltas.last_mut() {
                last[..count].fill(1.0);
            }
            for index in (0..self.units.len()).rev() {
                let unit = &self.units[index];
                let (before, delta) = deltas.split_at_mut(index);
                let delta = &mut delta[0][..count * unit.outputs];
                unit.mask(delta, self.given(tape, index, (start, count)), tape.dropout);
                let out = before.last_mut().unwrap_or(&mut work.next);
                unit.transposed(&self.parameters, out, delta, count, &mut work.scratch);
            }
            // The forward pass of dP/dg through weights and masks.
            let Work { delta: next, next: tangent, scratch } = &mut work;
            for (row, values) in tangent[..count * width].chunks_exact_mut(width).enumerate() {
                let factor = penalty(start + row, values.iter().map(|g| g * g).sum());
                for g in values {
                    *g *= factor;
                }
            }
            let slope = &slope[start..][..count];
            for (index, unit) in self.units.iter().enumerate() {
                let (inputs, outputs) = (count * unit.inputs, count * unit.outputs);
                let input = &tape.values[index][start * unit.inputs..][..inputs];
                if unit.has_weight() {
                    vector::scaled_sum(&mut both[..inputs], slope, input, &tangent[..inputs], unit.inputs);
                    unit.accumulate(&mut gradient, &both[..inputs], &deltas[index], count, scratch);
                    unit.accumulate_bias(&mut gradient, &deltas[index], count, Some(slope));
                }
                if index + 1 < self.units.len() {
                    unit.apply(&self.parameters, &mut next[..outputs], &tangent[..inputs], count, scratch);
                    unit.mask(&mut next[..outputs], self.given(tape, index, (start, count)), tape.dropout);
                    std::mem::swap(tangent, next);
                }
            }
        }
        self.restore(&mut gradient);
        gradient
    }

    fn inputs(&self) -> usize {
        self.units[0].inputs
    }

    pub(super) fn outputs(&self) -> usize {
        self.units[self.units.len() - 1].outputs
    }

    fn widest(&self) -> usize {
        self.units.iter().map(|unit| unit.inputs.max(unit.outputs)).max().unwrap_or(1)
    }

    /// Start and number of rows of each block.
    fn blocks(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let block = self.block;
        (0..rows).step_by(block).map(move |start| (start, block.min(rows - start)))
    }

    /// What a unit gave for the rows of a block.
    fn given<'t>(&self, tape: &'t Tape, index: usize, (start, count): (usize, usize)) -> &'t [f32] {
        let width = self.units[index].outputs;
        &tape.values[index + 1][start * width..][..count * width]
    }

    /// Units that go through a block together; a batch normalisation is alone.
    fn segments(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let mut start = 0;
        std::iter::from_fn(move || {
            let rest = self.units.get(start..).filter(|rest| !rest.is_empty())?;
            let length = match rest.iter().position(|unit| unit.norm().is_some()) {
                Some(0) => 1,
                Some(norm) => norm,
                None => rest.len(),
            };
            let segment = start..start + length;
            start += length;
            Some(segment)
        })
    }

    /// γ and β of a batch normalisation.
    fn affine(&self, index: usize) -> [&[f32]; 2] {
        let unit = &self.units[index];
        let channels = unit.norm().map_or(0, |(channels, _)| channels);
        [&self.parameters[unit.at..][..channels], &self.parameters[unit.at + channels..][..channels]]
    }

    /// Puts the gradients of kernels in the order in which the net stores them.
    fn restore(&self, gradient: &mut [f32]) {
        if gradient.is_empty() {
            return;
        }
        for unit in &self.units {
            if let Kind::Map { map: map @ Map::Kernel(kernel), .. } = &unit.kind {
                kernel.restore(&mut gradient[unit.at..][..unit.weights(map)]);
            }
        }
    }
}

/// Room for a block on its way back.
struct Work {
    delta: Vec<f32>,
    next: Vec<f32>,
    scratch: Vec<f32>,
}

impl Work {
    fn new(net: &Net) -> Self {
        let [delta, next] = [(); 2].map(|()| vec![0.0; net.block * net.widest()]);
        Self { delta, next, scratch: Vec::new() }
    }
}

/// What a unit takes, and where its output goes.
fn around(values: &mut [Vec<f32>], unit: usize) -> (&[f32], &mut [f32]) {
    let (before, after) = values.split_at_mut(unit + 1);
    (&before[unit], &mut after[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_without_features_make_no_net() {
        for (inputs, outputs) in [(0, 3), (3, 0)] {
            let size = (inputs + 1) * outputs;
            assert!(Net::new(&[Layer::Linear { inputs, outputs }], vec![0.0; size], &[]).is_none());
        }
        assert!(Net::new(&[Layer::Linear { inputs: 3, outputs: 2 }], vec![0.0; 8], &[]).is_some());
    }
}
