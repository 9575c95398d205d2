//! The passes fused over blocks of rows, on the CPU: bias and leaky ReLU follow a product while its block is in the cache, and
//! masks are read off the signs of the activations.

use super::{
    Shape,
    product::{Into, Matrix, product},
};
use crate::model::layer::LEAK;

/// Rows that go through all layers together.
pub(super) const BLOCK: usize = 256;

/// A net with its parameters on the host.
pub struct Net {
    layers: Vec<Shape>,
    /// Where each layer's weight and bias start.
    offsets: Vec<usize>,
    parameters: Vec<f32>,
}

/// What each linear layer took, `[batch, inputs]`.
pub struct Tape {
    rows: usize,
    inputs: Vec<Vec<f32>>,
}

impl Net {
    pub(super) fn new(layers: Vec<Shape>, parameters: Vec<f32>) -> Self {
        let mut offset = 0;
        let mut offsets = Vec::with_capacity(layers.len());
        for layer in &layers {
            offsets.push(offset);
            offset += (layer.inputs + 1) * layer.outputs;
        }
        Self { layers, offsets, parameters }
    }

    fn weight(&self, layer: usize) -> Matrix<'_> {
        let Shape { inputs, outputs, .. } = self.layers[layer];
        Matrix::new(&self.parameters[self.offsets[layer]..][..inputs * outputs], inputs, outputs)
    }

    fn bias(&self, layer: usize) -> &[f32] {
        let Shape { inputs, outputs, .. } = self.layers[layer];
        &self.parameters[self.offsets[layer] + inputs * outputs..][..outputs]
    }

    pub(super) fn forward(&self, x: Vec<f32>) -> (Vec<f32>, Tape) {
        let rows = x.len() / self.layers[0].inputs;
        let mut values = vec![x];
        values.extend(self.layers.iter().map(|layer| vec![0.0; rows * layer.outputs]));
        for (start, count) in blocks(rows) {
            for (index, layer) in self.layers.iter().enumerate() {
                let (before, after) = values.split_at_mut(index + 1);
                let input = &before[index][start * layer.inputs..][..count * layer.inputs];
                let output = &mut after[0][start * layer.outputs..][..count * layer.outputs];
                product(output, Matrix::new(input, count, layer.inputs), self.weight(index), Into::Replace);
                let bias = self.bias(index);
                for row in output.chunks_exact_mut(layer.outputs) {
                    if layer.leaky {
                        row.iter_mut().zip(bias).for_each(|(y, b)| *y = leaky(*y + b));
                    } else {
                        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                    }
                }
            }
        }
        let output = values.pop().unwrap_or_default();
        (output, Tape { rows, inputs: values })
    }

    /// The gradient of Σ output · `slope` with respect to the input.
    pub(super) fn input(&self, tape: &Tape, slope: &[f32]) -> Vec<f32> {
        let (width, outputs) = (self.layers[0].inputs, self.outputs());
        let mut gradient = vec![0.0; tape.rows * width];
        let mut chain = self.chain();
        for (start, count) in blocks(tape.rows) {
            chain.seed(&slope[start * outputs..][..count * outputs]);
            self.backward(tape, (start, count), &mut chain);
            self.to_input(&chain, count, &mut gradient[start * width..][..count * width]);
        }
        gradient
    }

    /// The flat gradient of Σ output · `slope`.
    pub(super) fn parameters(&self, tape: &Tape, slope: &[f32]) -> Vec<f32> {
        let outputs = self.outputs();
        let mut gradient = vec![0.0; self.parameters.len()];
        let mut chain = self.chain();
        for (start, count) in blocks(tape.rows) {
            chain.seed(&slope[start * outputs..][..count * outputs]);
            self.backward(tape, (start, count), &mut chain);
            for (index, layer) in self.layers.iter().enumerate() {
                let (weight, bias) = self.split(index, &mut gradient);
                let delta = &chain.deltas[index][..count * layer.outputs];
                let input = &tape.inputs[index][start * layer.inputs..][..count * layer.inputs];
                add_outer(weight, (input, layer.inputs), (delta, layer.outputs), count);
                for row in delta.chunks_exact(layer.outputs) {
                    bias.iter_mut().zip(row).for_each(|(b, d)| *b += d);
                }
            }
        }
        gradient
    }

    /// The flat gradient of Σ output · `slope` plus a penalty on the input gradient g, for one output. `penalty` takes a row and
    /// its |g|², and gives f with dP/dg = f g.
    pub(super) fn penalised(&self, tape: &Tape, slope: &[f32], penalty: impl Fn(usize, f32) -> f32) -> Vec<f32> {
        let width = self.layers[0].inputs;
        let mut gradient = vec![0.0; self.parameters.len()];
        let mut chain = self.chain();
        let widest = self.layers.iter().map(|layer| layer.inputs.max(layer.outputs)).max().unwrap_or(1);
        let [mut tangent, mut next, mut both] = [(); 3].map(|()| vec![0.0; BLOCK * widest]);
        for (start, count) in blocks(tape.rows) {
            chain.seed(&[1.0; BLOCK][..count]);
            self.backward(tape, (start, count), &mut chain);
            self.to_input(&chain, count, &mut tangent[..count * width]);
            for (row, values) in tangent[..count * width].chunks_exact_mut(width).enumerate() {
                let factor = penalty(start + row, values.iter().map(|g| g * g).sum());
                for g in values {
                    *g *= factor;
                }
            }
            let slope = &slope[start..][..count];
            for (index, layer) in self.layers.iter().enumerate() {
                let (inputs, outputs) = (layer.inputs, layer.outputs);
                let input = &tape.inputs[index][start * inputs..][..count * inputs];
                let delta = &chain.deltas[index][..count * outputs];
                let rows = both.chunks_exact_mut(inputs).zip(input.chunks_exact(inputs));
                for ((both, input), (tangent, &c)) in rows.zip(tangent.chunks_exact(inputs).zip(slope)) {
                    both.iter_mut().zip(input.iter().zip(tangent)).for_each(|(b, (h, u))| *b = c * h + u);
                }
                let (weight, bias) = self.split(index, &mut gradient);
                add_outer(weight, (&both, inputs), (delta, outputs), count);
                for (row, &c) in delta.chunks_exact(outputs).zip(slope) {
                    bias.iter_mut().zip(row).for_each(|(b, d)| *b += c * d);
                }
                if index + 1 < self.layers.len() {
                    let out = &mut next[..count * outputs];
                    product(out, Matrix::new(&tangent, count, inputs), self.weight(index), Into::Replace);
                    if layer.leaky {
                        mask(out, &tape.inputs[index + 1][start * outputs..][..count * outputs]);
                    }
                    std::mem::swap(&mut tangent, &mut next);
                }
            }
        }
        gradient
    }

    fn outputs(&self) -> usize {
        self.layers[self.layers.len() - 1].outputs
    }

    fn chain(&self) -> Chain {
        Chain { deltas: self.layers.iter().map(|layer| vec![0.0; BLOCK * layer.outputs]).collect() }
    }

    /// Takes the seed in the last layer's deltas back to the first layer's.
    fn backward(&self, tape: &Tape, (start, count): (usize, usize), chain: &mut Chain) {
        for index in (1..self.layers.len()).rev() {
            let layer = self.layers[index];
            let (before, after) = chain.deltas.split_at_mut(index);
            let delta = Matrix::new(&after[0], count, layer.outputs);
            let out = &mut before[index - 1][..count * layer.inputs];
            product(out, delta, self.weight(index).transposed(), Into::Replace);
            if self.layers[index - 1].leaky {
                mask(out, &tape.inputs[index][start * layer.inputs..][..count * layer.inputs]);
            }
        }
    }

    fn to_input(&self, chain: &Chain, count: usize, out: &mut [f32]) {
        let delta = Matrix::new(&chain.deltas[0], count, self.layers[0].outputs);
        product(out, delta, self.weight(0).transposed(), Into::Replace);
    }

    /// The parts of a flat gradient that belong to a layer's weight and bias.
    fn split<'g>(&self, layer: usize, gradient: &'g mut [f32]) -> (&'g mut [f32], &'g mut [f32]) {
        let Shape { inputs, outputs, .. } = self.layers[layer];
        gradient[self.offsets[layer]..][..(inputs + 1) * outputs].split_at_mut(inputs * outputs)
    }
}

/// Gradients with respect to what each layer gives before its mask, for one block.
struct Chain {
    deltas: Vec<Vec<f32>>,
}

impl Chain {
    fn seed(&mut self, slope: &[f32]) {
        if let Some(last) = self.deltas.last_mut() {
            last[..slope.len()].copy_from_slice(slope);
        }
    }
}

/// `weight` += inputᵀ delta over the rows of a block.
fn add_outer(weight: &mut [f32], (input, inputs): (&[f32], usize), (delta, outputs): (&[f32], usize), rows: usize) {
    let input = Matrix::new(input, rows, inputs).transposed();
    product(weight, input, Matrix::new(delta, rows, outputs), Into::Add);
}

fn leaky(y: f32) -> f32 {
    if y > 0.0 { y } else { LEAK as f32 * y }
}

/// Multiplies by the slope of leaky ReLU, which keeps signs, at activations that came out of it.
fn mask(values: &mut [f32], activations: &[f32]) {
    values.iter_mut().zip(activations).for_each(|(v, &h)| *v *= if h > 0.0 { 1.0 } else { LEAK as f32 });
}

/// Start and number of rows of each block.
fn blocks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(BLOCK).map(move |start| (start, BLOCK.min(rows - start)))
}
