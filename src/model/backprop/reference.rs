//! Nets as burn's tensor operations, differentiated by its autodiff: what the passes by hand are held against.
//!
//! Autodiff is first-order, so the gradient with respect to the input is written as operations that it then differentiates.

use burn::tensor::{
    Gradients, Tensor, TensorData,
    module::{conv_transpose2d, conv2d},
    ops::{ConvOptions, ConvTransposeOptions},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::model::{
    Network, Pass,
    layer::{Convolution, LEAK, Layer, NORM_EPSILON},
};

/// A net whose parameters are tracked.
pub(crate) struct Bound<'a> {
    network: &'a Network,
    tensors: Vec<Tensor<2>>,
}

/// The factors of each activation and dropout, `[batch, features]`; `None` for one that does nothing.
pub(crate) type Masks = Vec<Option<Tensor<2>>>;

impl<'a> Bound<'a> {
    pub(crate) fn new(network: &'a Network) -> Self {
        let mut start = 0;
        let tensors = network.layers().iter().flat_map(Layer::shapes).map(|[rows, columns]| {
            let part = network.parameters().slice(start..start + rows * columns).reshape([rows, columns]);
            start += rows * columns;
            Tensor::from_inner(part).require_grad()
        });
        Self { network, tensors: tensors.collect() }
    }

    /// Evaluates the net: `[batch, inputs]` to `[batch, outputs]`.
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Masks) {
        let mut x = x;
        let mut tensors = self.tensors.iter().cloned();
        let mut next = || tensors.next().unwrap();
        let mut running = self.network.running().iter();
        let mut masks = Vec::new();
        for layer in self.network.layers() {
            x = match *layer {
                Layer::LeakyRelu => {
                    let mask = x.clone().inner().greater_elem(0.0).float() * (1.0 - LEAK) + LEAK;
                    masks.push(Some(mask.clone()));
                    x * Tensor::from_inner(mask)
                }
                Layer::Tanh => x.tanh(),
                Layer::Dropout { share } => {
                    let mask = pass.dropout().map(|rng| dropout_mask(&x, share, rng));
                    masks.push(mask.clone());
                    match mask {
                        Some(mask) => x * Tensor::from_inner(mask),
                        None => x,
                    }
                }
                Layer::Linear { .. } => x.matmul(next()) + next(),
                Layer::Affine { .. } => x * next() + next(),
                Layer::Conv(c) => image(convolve(image_in(x, c), next(), next(), c)),
                Layer::ConvTranspose(c) => image(convolve_transposed(image_in(x, c), next(), Some(next()), c)),
                Layer::BatchNorm { channels, spatial } => {
                    let moments = running.next().filter(|_| !pass.is_training());
                    normalise(x, [channels, spatial], [next(), next()], moments, pass)
                }
            };
        }
        (x, masks)
    }

    /// The gradient of a piecewise linear net with one output with respect to its input, of a pass with these masks:
    /// `[batch, inputs]`.
    pub(crate) fn input_gradient(&self, masks: &[Option<Tensor<2>>]) -> Tensor<2> {
        let mut masks = masks.iter().rev();
        let mut tensors = self.tensors.iter().rev();
        let mut gradient: Option<Tensor<2>> = None;
        for layer in self.network.layers().iter().rev() {
            gradient = match (*layer, gradient) {
                (Layer::LeakyRelu | Layer::Dropout { .. }, Some(gradient)) => match masks.next().unwrap() {
                    Some(mask) => Some(gradient * Tensor::from_inner(mask.clone())),
                    None => Some(gradient),
                },
                (Layer::Linear { .. } | Layer::Conv(_), gradient) => {
                    let (_bias, weight) = (tensors.next(), tensors.next().unwrap().clone());
                    match (*layer, gradient) {
                        (Layer::Conv(c), Some(gradient)) => Some(convolution_gradient(gradient, weight, c)),
                        // The last layer: one row, the same for all events, until a mask tells them apart.
                        (_, None) => Some(weight.transpose()),
                        (_, Some(gradient)) => Some(gradient.matmul(weight.transpose())),
                    }
                }
                (layer, _) => panic!("{layer:?} is not piecewise linear"),
            };
        }
        gradient.unwrap()
    }

    /// The flat gradient of the parameters, outside of autodiff; 0 where none arrived.
    pub(crate) fn gradient(&self, gradients: &Gradients) -> Tensor<1> {
        let flat = |tensor: &Tensor<2>| match tensor.grad(gradients) {
            Some(gradient) => gradient.reshape([-1]),
            None => tensor.clone().inner().zeros_like().reshape([-1]),
        };
        Tensor::cat(self.tensors.iter().map(flat).collect(), 0)
    }
}

fn dropout_mask(x: &Tensor<2>, share: f64, rng: &mut ChaCha8Rng) -> Tensor<2> {
    let keep = (1.0 / (1.0 - share)) as f32;
    let [batch, features] = x.dims();
    let values: Vec<f32> = (0..batch * features).map(|_| if rng.random_bool(share) { 0.0 } else { keep }).collect();
    Tensor::from_data(TensorData::new(values, [batch, features]), &x.clone().inner().device())
}

/// Batch normalisation (Ioffe & Szegedy 2015): with these moments, or the batch's own.
fn normalise(
    x: Tensor<2>,
    [channels, spatial]: [usize; 2],
    [scale, shift]: [Tensor<2>; 2],
    running: Option<&[Tensor<2>; 2]>,
    pass: &mut Pass<'_>,
) -> Tensor<2> {
    let batch = x.dims()[0];
    let x = x.reshape([batch, channels, spatial]);
    let [mean, variance] = if let Some(moments) = running {
        moments.clone().map(|row| Tensor::from_inner(row).reshape([1, channels, 1]))
    } else {
        let mean = x.clone().mean_dims(&[0, 2]);
        let variance = (x.clone() - mean.clone()).square().mean_dims(&[0, 2]);
        let flat = |tensor: &Tensor<3>| tensor.clone().inner().reshape([1, channels]);
        pass.keep(flat(&mean), flat(&variance));
        [mean, variance]
    };
    let scale = scale.reshape([1, channels, 1]) / (variance + NORM_EPSILON).sqrt();
    ((x - mean) * scale + shift.reshape([1, channels, 1])).reshape([batch, channels * spatial])
}

fn image_in(x: Tensor<2>, c: Convolution) -> Tensor<4> {
    let x = x.reshape([-1, c.inputs as i32, c.side as i32, c.side as i32]);
    if c.append > 0 { x.pad((0, c.append, 0, c.append), 0.0) } else { x }
}

fn image(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels * height * width])
}

fn convolve(x: Tensor<4>, weight: Tensor<2>, bias: Tensor<2>, c: Convolution) -> Tensor<4> {
    let weight = weight.reshape([c.outputs, c.inputs, c.kernel, c.kernel]);
    let bias = Some(bias.reshape([c.outputs]));
    conv2d(x, weight, bias, ConvOptions::new([1, 1], [c.padding, c.padding], [1, 1], 1))
}

fn convolve_transposed(x: Tensor<4>, weight: Tensor<2>, bias: Option<Tensor<2>>, c: Convolution) -> Tensor<4> {
    let weight = weight.reshape([c.inputs, c.outputs, c.kernel, c.kernel]);
    let options = ConvTransposeOptions::new([1, 1], [c.padding, c.padding], [0, 0], [1, 1], 1);
    conv_transpose2d(x, weight, bias.map(|bias| bias.reshape([c.outputs])), options)
}

/// The gradient of a convolution with respect to its input: the transposed convolution with the same kernel.
fn convolution_gradient(gradient: Tensor<2>, weight: Tensor<2>, c: Convolution) -> Tensor<2> {
    let side = c.side + c.append + 2 * c.padding + 1 - c.kernel;
    let gradient = gradient.reshape([-1, c.outputs as i32, side as i32, side as i32]);
    let back = Convolution { inputs: c.outputs, outputs: c.inputs, ..c };
    image(convolve_transposed(gradient, weight, None, back))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use rand::SeedableRng;

    use super::*;
    use crate::{
        model::{
            Weights,
            architecture::{self, mlp},
            backprop::numbers,
            noise,
        },
        train::config::{Architecture, DiscriminatorConfig},
    };

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(11)
    }

    fn rows(batch: usize, width: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(noise(batch * width, &mut rng()), [batch, width]), &Device::flex())
    }

    fn network(layers: Vec<Layer>) -> Network {
        let mut weights = Weights::fresh(layers, &mut rng());
        // Biases off 0, so that they take part.
        weights.parameters.iter_mut().enumerate().for_each(|(i, w)| *w += 0.01 * (i as f32).sin());
        Network::new(&weights, &Device::flex())
    }

    #[test]
    fn the_input_gradient_is_that_of_autodiff_for_every_discriminator() {
        for architecture in [Architecture::Mlp, Architecture::PreciseganFc, Architecture::PreciseganCnn] {
            for dropout in [0.0, 0.3] {
                let dropout = dropout.try_into().unwrap();
                let config = DiscriminatorConfig { architecture, dropout, ..DiscriminatorConfig::default() };
                let net = network(architecture::discriminator(&config, 9));
                let x = Tensor::from_inner(rows(5, 9)).require_grad();
                let bound = Bound::new(&net);
                let (logits, masks) = bound.forward(x.clone(), &mut Pass::training(&mut rng()));
                let by_hand = numbers(bound.input_gradient(&masks).inner());
                let by_autodiff = numbers(x.grad(&logits.sum().backward()).unwrap());
                for (a, b) in by_hand.iter().zip(&by_autodiff) {
                    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
                }
            }
        }
    }

    #[test]
    fn the_gradient_penalty_differentiates_to_finite_differences() {
        let net = network(mlp(9, &[12, 8], 1));
        let penalty = |net: &Network| {
            let bound = Bound::new(net);
            let (_, masks) = bound.forward(Tensor::from_inner(rows(5, 9)), &mut Pass::evaluation());
            let loss = bound.input_gradient(&masks).square().sum_dim(1).mean();
            let gradient = bound.gradient(&loss.clone().backward());
            (numbers(loss.inner())[0], numbers(gradient))
        };
        let (_, gradient) = penalty(&net);
        let parameters = numbers(net.parameters());
        let largest = (0..parameters.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
        let shifted = |by: f32| {
            let mut moved = parameters.clone();
            moved[largest] += by;
            let mut net = net.clone();
            net.set_parameters(Tensor::from_data(TensorData::new(moved, [parameters.len()]), &Device::flex()));
            penalty(&net).0
        };
        let difference = (shifted(1e-3) - shifted(-1e-3)) / 2e-3;
        assert!((difference / gradient[largest] - 1.0).abs() < 1e-2, "{difference} is not {}", gradient[largest]);
    }

    #[test]
    fn batch_normalisation_in_training_standardises_the_batch() {
        let layers = vec![Layer::BatchNorm { channels: 2, spatial: 3 }];
        let net = Network::new(&Weights::fresh(layers, &mut rng()), &Device::flex());
        let x = Tensor::from_inner(rows(50, 6) * 3.0 + 2.0);
        let y = numbers(Bound::new(&net).forward(x, &mut Pass::training(&mut rng())).0.inner());
        for channel in 0..2 {
            let values: Vec<f32> =
                y.chunks_exact(6).flat_map(|row| row[channel * 3..channel * 3 + 3].to_vec()).collect();
            let mean = values.iter().sum::<f32>() / 150.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 150.0;
            assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
        }
    }
}
