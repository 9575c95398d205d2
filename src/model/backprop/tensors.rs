//! The passes as tensor operations, for any device and with dropout.

use burn::tensor::Tensor;

use super::{Masks, NORM_OFFSET, Penalty};
use crate::model::{Network, Pass, layer::LEAK, network::dropout_mask};

/// So steep that a clamp between the leak and 1 makes a step of any number that is not almost 0.
const STEEP: f64 = 1e30;

/// A net with its parameters as tensors.
pub struct Net<'a> {
    network: &'a Network,
    masks: Vec<Masks>,
    /// Weight and bias of each layer.
    layers: Vec<[Tensor<2>; 2]>,
}

/// For each linear layer, what it took, `[batch, inputs]`, and the factor of the mask after it, `[batch, outputs]`.
pub struct Tape {
    inputs: Vec<Tensor<2>>,
    factors: Vec<Option<Tensor<2>>>,
}

impl<'a> Net<'a> {
    pub(super) fn new(network: &'a Network, masks: Vec<Masks>) -> Self {
        let mut tensors = network.split().into_iter();
        let layers = std::iter::from_fn(|| Some([tensors.next()?, tensors.next()?])).collect();
        Self { network, masks, layers }
    }

    pub(super) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Tape) {
        let mut tape = Tape { inputs: Vec::new(), factors: Vec::new() };
        let mut x = x;
        for (masks, [weight, bias]) in self.masks.iter().zip(&self.layers) {
            let y = x.clone().matmul(weight.clone()) + bias.clone();
            tape.inputs.push(x);
            // 1 above 0 and the leak below, without a comparison: both operations work in place on most devices.
            let leak = masks.leaky.then(|| (y.clone() * STEEP).clamp(LEAK, 1.0));
            let dropout = masks
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

    /// The gradients of Σ output · `slope`: for what each linear layer gives before its mask, and for the input.
    fn backward(&self, tape: &Tape, slope: Tensor<2>) -> (Vec<Tensor<2>>, Tensor<2>) {
        let mut deltas = Vec::with_capacity(self.layers.len());
        let mut gradient = slope;
        for ([weight, _], factor) in self.layers.iter().zip(&tape.factors).rev() {
            let delta = match factor {
                Some(factor) => gradient * factor.clone(),
                None => gradient,
            };
            gradient = delta.clone().matmul(weight.clone().transpose());
            deltas.push(delta);
        }
        deltas.reverse();
        (deltas, gradient)
    }

    pub(super) fn parameters(&self, tape: &Tape, slope: Tensor<2>) -> Tensor<1> {
        self.gradients(tape, slope).0
    }

    /// The flat gradient of Σ output · `slope`, and that with respect to the input.
    pub(super) fn gradients(&self, tape: &Tape, slope: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (deltas, input) = self.backward(tape, slope);
        let layers = tape.inputs.iter().zip(deltas);
        let gradients = layers.flat_map(|(input, delta)| {
            let bias = delta.clone().sum_dim(0);
            [flat(input.clone().transpose().matmul(delta)), flat(bias)]
        });
        (Tensor::cat(gradients.collect(), 0), input)
    }

    pub(super) fn penalised(&self, tape: &Tape, slope: &Tensor<2>, penalty: Penalty<'_>) -> Tensor<1> {
        let (deltas, gradient) = self.backward(tape, slope.ones_like());
        let mut tangent = match penalty {
            Penalty::Zero(weights) => gradient * weights.clone(),
            Penalty::One(weight) => {
                let norm = (gradient.clone().square().sum_dim(1) + NORM_OFFSET).sqrt();
                gradient * ((norm.recip().neg() + 1.0) * (2.0 * weight))
            }
        };
        let mut gradients = Vec::with_capacity(2 * self.layers.len());
        let last = self.layers.len() - 1;
        for (index, ([weight, _], delta)) in self.layers.iter().zip(deltas).enumerate() {
            let bias = slope.clone().transpose().matmul(delta.clone());
            let both = tape.inputs[index].clone() * slope.clone() + tangent.clone();
            gradients.extend([flat(both.transpose().matmul(delta)), flat(bias)]);
            if index < last {
                tangent = tangent.matmul(weight.clone());
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
