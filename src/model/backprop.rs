//! Backward passes by hand, outside of autodiff, for nets that are linear but for masks (linear layers, leaky ReLU, dropout).
//!
//! Two things are had for less than from an autodiff graph. The gradient of a discriminator with respect to its input and the
//! backward pass of its loss are the same chain of products, up to a factor for each row; and the second-order gradient of a
//! penalty on it is one forward pass more, since masks are constant almost everywhere ([`PiecewiseLinear::penalised`]). So a
//! discriminator's step takes four passes of products where first-order autodiff takes six. Nets with other layers go through
//! autodiff; [`Traced`] hides which.

use burn::tensor::Tensor;

use super::{
    Network, Pass,
    layer::{LEAK, Layer},
    network::{Bound, dropout_mask},
};

/// So steep that a clamp between the leak and 1 makes a step of any number that is not almost 0.
const STEEP: f64 = 1e30;

/// A net of linear layers with masks between them, bound for a computation.
#[derive(Clone, Debug)]
pub struct PiecewiseLinear<'a> {
    network: &'a Network,
    layers: Vec<Linear>,
}

/// x W + b, then an activation and dropout where there are any.
#[derive(Clone, Debug)]
struct Linear {
    weight: Tensor<2>,
    bias: Tensor<2>,
    leaky: bool,
    dropout: Option<f64>,
}

/// What a forward pass leaves behind: for each linear layer, what it took, `[batch, inputs]`, and the factor of the mask after
/// it, `[batch, outputs]`.
#[derive(Clone, Debug)]
pub struct Tape {
    inputs: Vec<Tensor<2>>,
    factors: Vec<Option<Tensor<2>>>,
}

impl<'a> PiecewiseLinear<'a> {
    /// The net, if it has no other layers than these.
    pub fn of(network: &'a Network) -> Option<Self> {
        let mut tensors = network.split().into_iter();
        let mut layers: Vec<Linear> = Vec::new();
        for layer in network.layers() {
            match *layer {
                Layer::Linear { .. } => {
                    let (weight, bias) = (tensors.next()?, tensors.next()?);
                    layers.push(Linear { weight, bias, leaky: false, dropout: None });
                }
                Layer::LeakyRelu => layers.last_mut().filter(|l| !l.leaky && l.dropout.is_none())?.leaky = true,
                Layer::Dropout { share } => layers.last_mut().filter(|l| l.dropout.is_none())?.dropout = Some(share),
                _ => return None,
            }
        }
        (!layers.is_empty()).then_some(Self { network, layers })
    }

    /// Evaluates the net, `[batch, inputs]` to `[batch, outputs]`, and keeps what a backward pass needs.
    pub fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Tape) {
        let mut tape = Tape { inputs: Vec::new(), factors: Vec::new() };
        let mut x = x;
        for layer in &self.layers {
            let y = x.clone().matmul(layer.weight.clone()) + layer.bias.clone();
            tape.inputs.push(x);
            // 1 above 0 and the leak below, without a comparison: both operations work in place on most devices.
            let leak = layer.leaky.then(|| (y.clone() * STEEP).clamp(LEAK, 1.0));
            let dropout = layer
                .dropout
                .and_then(|share| Some(dropout_mask(y.dims(), share, pass.dropout()?, &self.network.device())));
            let factor = match (leak, dropout) {
                (Some(leak), Some(dropout)) => Some(leak * dropout),
                (one, other) => one.or(other),
            };
            x = match &factor {
                Some(factor) => y * factor.clone(),
                None => y,
            };
            tape.factors.push(factor);
        }
        (x, tape)
    }

    /// The gradients of Σ output · `gradient` (`[batch, outputs]`): for what each linear layer gives before its mask, and for
    /// the input, `[batch, inputs]`.
    pub fn backward(&self, tape: &Tape, gradient: Tensor<2>) -> (Vec<Tensor<2>>, Tensor<2>) {
        let mut deltas = Vec::with_capacity(self.layers.len());
        let mut gradient = gradient;
        for (layer, factor) in self.layers.iter().zip(&tape.factors).rev() {
            let delta = match factor {
                Some(factor) => gradient * factor.clone(),
                None => gradient,
            };
            gradient = delta.clone().matmul(layer.weight.clone().transpose());
            deltas.push(delta);
        }
        deltas.reverse();
        (deltas, gradient)
    }

    /// The flat gradient of the parameters from what [`backward`](Self::backward) found.
    pub fn parameters(tape: &Tape, deltas: Vec<Tensor<2>>) -> Tensor<1> {
        let layers = tape.inputs.iter().zip(deltas);
        let gradients = layers.flat_map(|(input, delta)| {
            let bias = delta.clone().sum_dim(0);
            [flat(input.clone().transpose().matmul(delta)), flat(bias)]
        });
        Tensor::cat(gradients.collect(), 0)
    }

    /// The flat gradient of the parameters for a loss on the net's one output plus a penalty on its input gradient.
    ///
    /// `outputs` is dL/d(output), `[batch, 1]`. `penalty` gives dP/dg for the input gradients g, `[batch, inputs]` each. With δ
    /// the input gradient's own backward chain, h what a layer took and u the forward pass of dP/dg through the weights and
    /// masks, the gradient of a layer's weights is (outputs · h + u)ᵀ δ.
    pub fn penalised(&self, tape: &Tape, outputs: &Tensor<2>, penalty: Tensor<2>, deltas: Vec<Tensor<2>>) -> Tensor<1> {
        let mut tangent = penalty;
        let mut gradients = Vec::with_capacity(2 * self.layers.len());
        let last = self.layers.len() - 1;
        for (index, (layer, delta)) in self.layers.iter().zip(deltas).enumerate() {
            let bias = outputs.clone().transpose().matmul(delta.clone());
            let both = tape.inputs[index].clone() * outputs.clone() + tangent.clone();
            gradients.extend([flat(both.transpose().matmul(delta)), flat(bias)]);
            if index < last {
                tangent = tangent.matmul(layer.weight.clone());
                if let Some(factor) = &tape.factors[index] {
                    tangent = tangent * factor.clone();
                }
            }
        }
        Tensor::cat(gradients, 0)
    }
}

fn flat(tensor: Tensor<2>) -> Tensor<1> {
    tensor.reshape([-1])
}

/// A forward pass of any net that can be taken back once: by hand where the layers allow, else by autodiff.
pub enum Traced<'a> {
    /// By hand.
    Explicit(PiecewiseLinear<'a>, Tape),
    /// The input and the output inside of autodiff.
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
            return (output, Self::Explicit(net, tape));
        }
        let bound = network.tracked();
        let input = Tensor::from_inner(x).require_grad();
        let output = bound.forward(input.clone(), pass);
        (output.clone().inner(), Self::Autodiff { bound, ends: Box::new([input, output]) })
    }

    /// The flat gradient of Σ output · `gradient` with respect to the parameters.
    pub fn parameters(self, gradient: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Explicit(net, tape) => {
                let (deltas, _) = net.backward(&tape, gradient);
                PiecewiseLinear::parameters(&tape, deltas)
            }
            Self::Autodiff { bound, ends } => {
                let [_, output] = *ends;
                bound.gradient(&(output * Tensor::from_inner(gradient)).sum().backward())
            }
        }
    }

    /// The gradient of Σ output · `gradient` with respect to the input, `[batch, inputs]`.
    pub fn input(self, gradient: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Explicit(net, tape) => net.backward(&tape, gradient).1,
            Self::Autodiff { ends, .. } => {
                let [input, output] = *ends;
                let gradients = (output * Tensor::from_inner(gradient)).sum().backward();
                input.grad(&gradients).unwrap_or_else(|| input.inner().zeros_like())
            }
        }
    }
}
