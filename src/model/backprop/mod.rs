//! Backward passes by hand, outside of autodiff, for nets that are linear but for masks (linear layers, leaky ReLU, dropout).
//!
//! Two things are had for less than from an autodiff graph. The gradient of a discriminator with respect to its input and the
//! backward pass of its loss are the same chain of products, up to a factor for each row; and the second-order gradient of a
//! penalty on it is one forward pass more, since masks are constant almost everywhere. So a discriminator's step takes four
//! passes of products where first-order autodiff takes six: with δ the chain of the input gradient g, h what a layer took, c the
//! slope of the loss in the output, and u the forward pass of dP/dg through weights and masks, the gradient of a layer's weights
//! is (c h + u)ᵀ δ.
//!
//! On the CPU the passes are fused over blocks of rows ([`host`]); elsewhere they are tensor operations ([`tensors`]). Nets with
//! other layers go through autodiff; [`Traced`] hides which.

use burn::tensor::{Device, Tensor, TensorData};

use super::{Network, Pass, layer::Layer, network::Bound};

mod host;
mod product;
mod tensors;

/// A net of linear layers with masks between them, bound for a computation.
pub enum PiecewiseLinear<'a> {
    /// Fused, on the CPU.
    Host(host::Net),
    /// As tensor operations, anywhere.
    Tensors(tensors::Net<'a>),
}

/// What a forward pass leaves behind for a backward one.
pub enum Tape {
    /// Of a fused pass.
    Host(host::Tape),
    /// Of tensor operations.
    Tensors(tensors::Tape),
}

/// A penalty on the input gradients g of a net with one output, by the rows of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Penalty<'a> {
    /// Σ ½ a |g|² with these a, `[batch, 1]`: zero-centred (R1, R2).
    Zero(&'a Tensor<2>),
    /// a Σ (|g| − 1)²: one-centred (WGAN-GP).
    One(f64),
}

/// Added to a squared norm before its root, whose slope at 0 is infinite.
pub const NORM_OFFSET: f64 = 1e-12;

/// Shape of a linear layer, and what follows it.
#[derive(Clone, Copy, Debug)]
struct Shape {
    inputs: usize,
    outputs: usize,
    leaky: bool,
    dropout: Option<f64>,
}

/// The layers of a net that has linear layers and masks only.
fn shapes(network: &Network) -> Option<Vec<Shape>> {
    let mut shapes: Vec<Shape> = Vec::new();
    for layer in network.layers() {
        match *layer {
            Layer::Linear { inputs, outputs } => shapes.push(Shape { inputs, outputs, leaky: false, dropout: None }),
            Layer::LeakyRelu => shapes.last_mut().filter(|l| !l.leaky && l.dropout.is_none())?.leaky = true,
            Layer::Dropout { share } => shapes.last_mut().filter(|l| l.dropout.is_none())?.dropout = Some(share),
            _ => return None,
        }
    }
    (!shapes.is_empty()).then_some(shapes)
}

impl<'a> PiecewiseLinear<'a> {
    /// The net, if it has no other layers than these.
    pub fn of(network: &'a Network) -> Option<Self> {
        let shapes = shapes(network)?;
        let plain = shapes.iter().all(|shape| shape.dropout.is_none()) && !shapes.last()?.leaky;
        if plain && network.device() == Device::flex() {
            return Some(Self::Host(host::Net::new(shapes, numbers(network.parameters()))));
        }
        Some(Self::Tensors(tensors::Net::new(network, shapes)))
    }

    /// Evaluates the net, `[batch, inputs]` to `[batch, outputs]`, and keeps what a backward pass needs.
    pub fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Tape) {
        match self {
            Self::Host(net) => {
                let (device, rows) = (x.device(), x.dims()[0]);
                let (output, tape) = net.forward(numbers(x));
                (matrix(output, rows, &device), Tape::Host(tape))
            }
            Self::Tensors(net) => {
                let (output, tape) = net.forward(x, pass);
                (output, Tape::Tensors(tape))
            }
        }
    }

    /// The flat gradient of Σ output · `slope` (`[batch, outputs]`) with respect to the parameters.
    pub fn parameters(&self, tape: &Tape, slope: Tensor<2>) -> Tensor<1> {
        match (self, tape) {
            (Self::Host(net), Tape::Host(tape)) => {
                let device = slope.device();
                vector(net.parameters(tape, &numbers(slope)), &device)
            }
            (Self::Tensors(net), Tape::Tensors(tape)) => net.parameters(tape, slope),
            // A tape belongs to the net that wrote it.
            _ => Tensor::zeros([0], &slope.device()),
        }
    }

    /// The gradient of Σ output · `slope` (`[batch, outputs]`) with respect to the input, `[batch, inputs]`.
    pub fn input(&self, tape: &Tape, slope: Tensor<2>) -> Tensor<2> {
        match (self, tape) {
            (Self::Host(net), Tape::Host(tape)) => {
                let (device, rows) = (slope.device(), slope.dims()[0]);
                matrix(net.input(tape, &numbers(slope)), rows, &device)
            }
            (Self::Tensors(net), Tape::Tensors(tape)) => net.backward(tape, slope).1,
            _ => slope,
        }
    }

    /// The flat gradient of Σ output · `slope` plus a penalty on the input gradient, for a net with one output; `slope` is
    /// `[batch, 1]`.
    pub fn penalised(&self, tape: &Tape, slope: Tensor<2>, penalty: Penalty<'_>) -> Tensor<1> {
        match (self, tape) {
            (Self::Host(net), Tape::Host(tape)) => {
                let device = slope.device();
                let slope = numbers(slope);
                let gradient = match penalty {
                    Penalty::Zero(weights) => {
                        let weights = numbers(weights.clone());
                        net.penalised(tape, &slope, |row, _| weights[row])
                    }
                    Penalty::One(weight) => net.penalised(tape, &slope, |_, squared| {
                        let norm = (f64::from(squared) + NORM_OFFSET).sqrt();
                        (2.0 * weight * (1.0 - 1.0 / norm)) as f32
                    }),
                };
                vector(gradient, &device)
            }
            (Self::Tensors(net), Tape::Tensors(tape)) => net.penalised(tape, &slope, penalty),
            _ => Tensor::zeros([0], &slope.device()),
        }
    }
}

/// The numbers of a tensor on the CPU. NaN should they not be had: the next look at a loss then stops the training.
fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let count = tensor.dims().iter().product();
    tensor.try_into_vec_as::<f32>().unwrap_or_else(|_| vec![f32::NAN; count])
}

fn matrix(values: Vec<f32>, rows: usize, device: &Device) -> Tensor<2> {
    let columns = values.len() / rows.max(1);
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

fn vector(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let size = values.len();
    Tensor::from_data(TensorData::new(values, [size]), device)
}

/// A forward pass of any net that can be taken back once: by hand where the layers allow, else by autodiff.
pub enum Traced<'a> {
    /// By hand.
    Explicit(Box<PiecewiseLinear<'a>>, Tape),
    /// By autodiff.
    Autodiff {
        /// The net with its parameters tracked.
        bound: Bound<'a>,
        /// What went in, tracked, and what came out.
        ends: Box<[Tensor<2>; 2]>,
    },
}

impl<'a> Traced<'a> {
    /// Evaluates a net; everything that goes in and comes out is outside of autodiff.
    pub fn forward(network: &'a Network, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Self) {
        if let Some(net) = PiecewiseLinear::of(network) {
            let (output, tape) = net.forward(x, pass);
            return (output, Self::Explicit(Box::new(net), tape));
        }
        let bound = network.tracked();
        let input = Tensor::from_inner(x).require_grad();
        let output = bound.forward(input.clone(), pass);
        (output.clone().inner(), Self::Autodiff { bound, ends: Box::new([input, output]) })
    }

    /// The flat gradient of Σ output · `slope` with respect to the parameters.
    pub fn parameters(self, slope: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Explicit(net, tape) => net.parameters(&tape, slope),
            Self::Autodiff { bound, ends } => {
                let [_, output] = *ends;
                bound.gradient(&(output * Tensor::from_inner(slope)).sum().backward())
            }
        }
    }

    /// The gradient of Σ output · `slope` with respect to the input, `[batch, inputs]`.
    pub fn input(self, slope: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Explicit(net, tape) => net.input(&tape, slope),
            Self::Autodiff { ends, .. } => {
                let [input, output] = *ends;
                let gradients = (output * Tensor::from_inner(slope)).sum().backward();
                input.grad(&gradients).unwrap_or_else(|| input.inner().zeros_like())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::model::{Weights, architecture::mlp, noise};

    /// More rows than a block has, and no multiple of it.
    const ROWS: usize = host::BLOCK + 37;

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1e-6f32, |scale, value| scale.max(value.abs()));
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 2e-5 * scale, "{a} is not {b} (scale {scale})");
        }
    }

    #[test]
    fn fused_passes_do_what_tensor_operations_do() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut weights = Weights::fresh(mlp(5, &[24, 17], 1), &mut rng);
        weights.parameters.iter_mut().enumerate().for_each(|(i, w)| *w += 0.01 * (i as f32).sin());
        let device = Device::flex();
        let network = Network::new(&weights, &device);
        let fused = PiecewiseLinear::of(&network).unwrap();
        assert!(matches!(fused, PiecewiseLinear::Host(_)));
        let plain = PiecewiseLinear::Tensors(tensors::Net::new(&network, shapes(&network).unwrap()));
        let x = matrix(noise(ROWS * 5, &mut rng), ROWS, &device);
        let slope = matrix(noise(ROWS, &mut rng), ROWS, &device);
        let (one, one_tape) = fused.forward(x.clone(), &mut Pass::evaluation());
        let (other, other_tape) = plain.forward(x, &mut Pass::evaluation());
        close(&numbers(one), &numbers(other));
        close(&numbers(fused.input(&one_tape, slope.clone())), &numbers(plain.input(&other_tape, slope.clone())));
        close(
            &numbers(fused.parameters(&one_tape, slope.clone())),
            &numbers(plain.parameters(&other_tape, slope.clone())),
        );
        for penalty in [Penalty::Zero(&slope.clone().abs()), Penalty::One(0.3)] {
            close(
                &numbers(fused.penalised(&one_tape, slope.clone(), penalty)),
                &numbers(plain.penalised(&other_tape, slope.clone(), penalty)),
            );
        }
    }
}
