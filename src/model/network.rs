//! A net: layers and their parameters, evaluated forward and, for gradient penalties, backward by hand.
//!
//! All parameters are one flat vector, so that an optimiser or a moving average is a handful of operations whatever the net.
//! burn's autodiff is first-order, so the gradient of a discriminator with respect to its input is written here as tensor
//! operations ([`Bound::input_gradient`]) that autodiff then differentiates with respect to the parameters.

use burn::tensor::{
    Device, Gradients, Tensor, TensorData,
    activation::leaky_relu,
    module::{conv_transpose2d, conv2d},
    ops::{ConvOptions, ConvTransposeOptions},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::layer::{Convolution, LEAK, Layer, NORM_EPSILON};

/// Share of the batch's statistics that enters the running ones at each step (Keras's momentum 0.99).
const NORM_UPDATE: f64 = 0.01;

/// A net on a device, outside of autodiff.
#[derive(Clone, Debug)]
pub struct Network {
    layers: Vec<Layer>,
    parameters: Tensor<1>,
    running: Vec<Running>,
}

/// Running mean and variance of one batch normalisation, each `[1, channels]`.
#[derive(Clone, Debug)]
struct Running {
    mean: Tensor<2>,
    variance: Tensor<2>,
}

/// The mode of a forward pass, and what it leaves behind: masks for [`Bound::input_gradient`], statistics for
/// [`Network::absorb`].
#[derive(Default)]
pub struct Pass<'a> {
    training: bool,
    /// Whether masks are kept outside of autodiff, too.
    recording: bool,
    dropout: Option<&'a mut ChaCha8Rng>,
    /// Factors of the activations and dropouts passed, outside of autodiff: `[batch, features]` each.
    masks: Vec<Tensor<2>>,
    statistics: Vec<(Tensor<2>, Tensor<2>)>,
}

impl<'a> Pass<'a> {
    /// A pass in training mode: batch statistics, and dropout with this randomness.
    pub fn training(dropout: &'a mut ChaCha8Rng) -> Self {
        Self { training: true, dropout: Some(dropout), ..Self::default() }
    }

    /// A pass in evaluation mode: running statistics, no dropout.
    pub fn evaluation() -> Self {
        Self::default()
    }

    /// A pass in evaluation mode that keeps the masks for [`Bound::input_gradient`].
    pub fn recording() -> Self {
        Self { recording: true, ..Self::default() }
    }

    /// The randomness of dropout, in training.
    pub(super) fn dropout(&mut self) -> Option<&mut ChaCha8Rng> {
        self.dropout.as_deref_mut()
    }

    /// Whether batch statistics are used and kept.
    pub(super) fn is_training(&self) -> bool {
        self.training
    }

    /// Keeps the statistics of a batch normalisation, `[1, channels]` each.
    pub(super) fn keep(&mut self, mean: Tensor<2>, variance: Tensor<2>) {
        self.statistics.push((mean, variance));
    }

    /// What some rows of the batch left behind, for the gradient at these rows only.
    #[must_use]
    pub fn rows(&self, range: std::ops::Range<usize>) -> Pass<'static> {
        let masks = self.masks.iter().map(|mask| mask.clone().slice(range.clone())).collect();
        Pass { training: self.training, masks, ..Pass::default() }
    }
}

/// A net whose parameters are bound for a computation.
pub struct Bound<'a> {
    network: &'a Network,
    tensors: Vec<Tensor<2>>,
    autodiff: bool,
}

/// The numbers of a net on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// The layers.
    pub layers: Vec<Layer>,
    /// All parameters, in the order of the layers.
    pub parameters: Vec<f32>,
    /// Running means and variances of the batch normalisations, in order.
    pub running: Vec<f32>,
}

impl Weights {
    /// Fresh weights.
    pub fn fresh(layers: Vec<Layer>, rng: &mut ChaCha8Rng) -> Self {
        let mut parameters = Vec::new();
        let mut running = Vec::new();
        for layer in &layers {
            layer.initialise(rng, &mut parameters);
            if let Layer::BatchNorm { channels, .. } = layer {
                running.extend(std::iter::repeat_n(0.0, *channels).chain(std::iter::repeat_n(1.0, *channels)));
            }
        }
        Self { layers, parameters, running }
    }

    /// Features that the net takes.
    pub fn inputs(&self) -> usize {
        match self.layers.first() {
            Some(Layer::Linear { inputs, .. }) => *inputs,
            _ => 0,
        }
    }
}

impl Network {
    /// Puts weights on a device (without autodiff).
    pub fn new(weights: &Weights, device: &Device) -> Self {
        let row = |values: &[f32]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [1, values.len()]), device);
        let mut rest = weights.running.as_slice();
        let mut running = Vec::new();
        for layer in &weights.layers {
            if let Layer::BatchNorm { channels, .. } = *layer {
                let (mean, after) = rest.split_at(channels);
                let (variance, after) = after.split_at(channels);
                running.push(Running { mean: row(mean), variance: row(variance) });
                rest = after;
            }
        }
        let size = weights.parameters.len();
        let parameters = Tensor::from_data(TensorData::new(weights.parameters.clone(), [size]), device);
        Self { layers: weights.layers.clone(), parameters, running }
    }

    /// Brings the numbers to the host. `None` if the device fails to hand them over.
    pub fn weights(&self) -> Option<Weights> {
        let host = |tensor: Tensor<1>| tensor.try_into_vec_as::<f32>().ok();
        let mut running = Vec::new();
        for Running { mean, variance } in &self.running {
            running.extend(host(mean.clone().reshape([-1]))?);
            running.extend(host(variance.clone().reshape([-1]))?);
        }
        Some(Weights { layers: self.layers.clone(), parameters: host(self.parameters.clone())?, running })
    }

    /// The flat parameters, outside of autodiff.
    pub fn parameters(&self) -> Tensor<1> {
        self.parameters.clone()
    }

    /// Replaces the flat parameters.
    pub fn set_parameters(&mut self, parameters: Tensor<1>) {
        self.parameters = parameters;
    }

    /// All that changes in training: the flat parameters, and the running means and variances.
    pub fn state_mut(&mut self) -> (&mut Tensor<1>, impl Iterator<Item = &mut Tensor<2>>) {
        let running = self.running.iter_mut().flat_map(|Running { mean, variance }| [mean, variance]);
        (&mut self.parameters, running)
    }

    /// Binds for a computation outside of autodiff.
    pub fn plain(&self) -> Bound<'_> {
        Bound { network: self, tensors: self.split(), autodiff: false }
    }

    /// Binds for a computation through which gradients flow, but not into these parameters.
    pub fn constant(&self) -> Bound<'_> {
        let tensors = self.split().into_iter().map(Tensor::from_inner).collect();
        Bound { network: self, tensors, autodiff: true }
    }

    /// Binds for a computation that is differentiated with respect to these parameters.
    pub fn tracked(&self) -> Bound<'_> {
        let tensors = self.split().into_iter().map(|tensor| Tensor::from_inner(tensor).require_grad()).collect();
        Bound { network: self, tensors, autodiff: true }
    }

    /// Takes over the batch statistics that a training pass has seen.
    pub fn absorb(&mut self, pass: Pass<'_>) {
        for (running, (mean, variance)) in self.running.iter_mut().zip(pass.statistics) {
            let mix = |old: &Tensor<2>, new: Tensor<2>| old.clone() * (1.0 - NORM_UPDATE) + new * NORM_UPDATE;
            running.mean = mix(&running.mean, mean);
            running.variance = mix(&running.variance, variance);
        }
    }

    /// The layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.parameters.device()
    }

    /// The parameters of all layers in order, each `[rows, columns]`.
    pub(super) fn split(&self) -> Vec<Tensor<2>> {
        let mut start = 0;
        let shapes = self.layers.iter().flat_map(Layer::shapes);
        shapes
            .map(|[rows, columns]| {
                let end = start + rows * columns;
                let tensor = self.parameters.clone().slice(start..end).reshape([rows, columns]);
                start = end;
                tensor
            })
            .collect()
    }
}

impl Bound<'_> {
    /// Evaluates the net: `[batch, inputs]` to `[batch, outputs]`.
    pub fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let mut x = x;
        let mut tensors = self.tensors.iter();
        let mut running = self.network.running.iter();
        let mut next = || tensors.next().cloned();
        for layer in &self.network.layers {
            x = match *layer {
                Layer::LeakyRelu if !self.autodiff && !pass.recording => leaky_relu(x, LEAK),
                Layer::LeakyRelu => {
                    // The mask is not differentiated, which is exact almost everywhere, and one operation in the graph.
                    let mask = self.outside(x.clone()).greater_elem(0.0).float() * (1.0 - LEAK) + LEAK;
                    pass.masks.push(mask.clone());
                    x * self.inside(mask)
                }
                Layer::Tanh => x.tanh(),
                Layer::Dropout { share } => match &mut pass.dropout {
                    Some(rng) => {
                        let mask = dropout_mask(x.dims(), share, rng, &self.network.parameters.device());
                        pass.masks.push(mask.clone());
                        x * self.inside(mask)
                    }
                    None => x,
                },
                _ => {
                    let (Some(weight), Some(bias)) = (next(), next()) else { return x };
                    match *layer {
                        Layer::Linear { .. } => x.matmul(weight) + bias,
                        Layer::Affine { .. } => x * weight + bias,
                        Layer::Conv(c) => image(convolve(image_in(x, c), weight, Some(bias), c)),
                        Layer::ConvTranspose(c) => image(convolve_transposed(image_in(x, c), weight, bias, c)),
                        Layer::BatchNorm { channels, spatial } => {
                            let running = running.next();
                            self.normalise(x, [channels, spatial], [weight, bias], running, pass)
                        }
                        Layer::LeakyRelu | Layer::Tanh | Layer::Dropout { .. } => x,
                    }
                }
            };
        }
        x
    }

    /// The gradient of a net with one output with respect to its input, for the rows of the pass whose masks are given:
    /// `[batch, inputs]`. Exact for piecewise linear nets (linear and convolution layers, leaky ReLU, dropout).
    pub fn input_gradient(&self, pass: &Pass<'_>) -> Tensor<2> {
        let mut masks = pass.masks.iter().rev();
        let mut tensors = self.tensors.iter().rev();
        let mut gradient: Option<Tensor<2>> = None;
        for layer in self.network.layers.iter().rev() {
            match *layer {
                Layer::Dropout { .. } if !pass.training => {}
                Layer::LeakyRelu | Layer::Dropout { .. } => {
                    let (Some(mask), Some(g)) = (masks.next(), gradient.take()) else { continue };
                    gradient = Some(g * self.inside(mask.clone()));
                }
                Layer::Tanh => {}
                _ => {
                    let (Some(_bias), Some(weight)) = (tensors.next(), tensors.next()) else { continue };
                    gradient = Some(match (*layer, gradient.take()) {
                        // The last layer: one row, the same for all events, until a mask tells them apart.
                        (Layer::Linear { .. }, None) => weight.clone().transpose(),
                        (Layer::Linear { .. }, Some(g)) => g.matmul(weight.clone().transpose()),
                        (Layer::Conv(c), Some(g)) => convolution_gradient(g, weight.clone(), c),
                        (_, g) => g.unwrap_or_else(|| weight.clone()),
                    });
                }
            }
        }
        gradient.unwrap_or_else(|| self.tensors[0].clone())
    }

    /// The flat gradient of the parameters, outside of autodiff; 0 where none arrived.
    pub fn gradient(&self, gradients: &Gradients) -> Tensor<1> {
        let flat = |tensor: &Tensor<2>| {
            let [rows, columns] = tensor.dims();
            match tensor.grad(gradients) {
                Some(gradient) => gradient.reshape([rows * columns]),
                None => Tensor::zeros([rows * columns], &self.network.parameters.device()),
            }
        };
        Tensor::cat(self.tensors.iter().map(flat).collect(), 0)
    }

    fn outside(&self, x: Tensor<2>) -> Tensor<2> {
        if self.autodiff { x.inner() } else { x }
    }

    fn inside(&self, x: Tensor<2>) -> Tensor<2> {
        if self.autodiff { Tensor::from_inner(x) } else { x }
    }

    /// Batch normalisation (Ioffe & Szegedy 2015): batch statistics in training, running ones in evaluation.
    fn normalise(
        &self,
        x: Tensor<2>,
        [channels, spatial]: [usize; 2],
        [scale, shift]: [Tensor<2>; 2],
        running: Option<&Running>,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        let batch = x.dims()[0];
        let x = x.reshape([batch, channels, spatial]);
        let (mean, variance) = if let (false, Some(running)) = (pass.training, running) {
            let row = |tensor: &Tensor<2>| self.inside(tensor.clone()).reshape([1, channels, 1]);
            (row(&running.mean), row(&running.variance))
        } else {
            let mean = x.clone().mean_dims(&[0, 2]);
            let variance = (x.clone() - mean.clone()).square().mean_dims(&[0, 2]);
            let flat = |tensor: &Tensor<3>| self.outside(tensor.clone().reshape([1, channels]));
            pass.statistics.push((flat(&mean), flat(&variance)));
            (mean, variance)
        };
        let scale = scale.reshape([1, channels, 1]) / (variance + NORM_EPSILON).sqrt();
        ((x - mean) * scale + shift.reshape([1, channels, 1])).reshape([batch, channels * spatial])
    }
}

pub(super) fn dropout_mask(
    [batch, features]: [usize; 2],
    share: f64,
    rng: &mut ChaCha8Rng,
    device: &Device,
) -> Tensor<2> {
    let keep = (1.0 / (1.0 - share)) as f32;
    let values: Vec<f32> = (0..batch * features).map(|_| if rng.random_bool(share) { 0.0 } else { keep }).collect();
    Tensor::from_data(TensorData::new(values, [batch, features]), device)
}

fn image_in(x: Tensor<2>, c: Convolution) -> Tensor<4> {
    let x = x.reshape([-1, c.inputs as i32, c.side as i32, c.side as i32]);
    if c.append > 0 { x.pad((0, c.append, 0, c.append), 0.0) } else { x }
}

fn image(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels * height * width])
}

fn convolve(x: Tensor<4>, weight: Tensor<2>, bias: Option<Tensor<2>>, c: Convolution) -> Tensor<4> {
    let weight = weight.reshape([c.outputs, c.inputs, c.kernel, c.kernel]);
    let bias = bias.map(|bias| bias.reshape([c.outputs]));
    conv2d(x, weight, bias, ConvOptions::new([1, 1], [c.padding, c.padding], [1, 1], 1))
}

fn convolve_transposed(x: Tensor<4>, weight: Tensor<2>, bias: Tensor<2>, c: Convolution) -> Tensor<4> {
    let weight = weight.reshape([c.inputs, c.outputs, c.kernel, c.kernel]);
    let options = ConvTransposeOptions::new([1, 1], [c.padding, c.padding], [0, 0], [1, 1], 1);
    conv_transpose2d(x, weight, Some(bias.reshape([c.outputs])), options)
}

/// The gradient of a convolution with respect to its input: the transposed convolution with the same kernel.
fn convolution_gradient(gradient: Tensor<2>, weight: Tensor<2>, c: Convolution) -> Tensor<2> {
    let side = c.side + c.append + 2 * c.padding + 1 - c.kernel;
    let gradient = gradient.reshape([-1, c.outputs as i32, side as i32, side as i32]);
    let weight = weight.reshape([c.outputs, c.inputs, c.kernel, c.kernel]);
    let options = ConvTransposeOptions::new([1, 1], [c.padding, c.padding], [0, 0], [1, 1], 1);
    image(conv_transpose2d(gradient, weight, None, options))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::{
        model::{architecture, freeze::freeze, noise},
        train::config::{Architecture, DiscriminatorConfig, GeneratorConfig},
    };

    const ARCHITECTURES: [Architecture; 3] =
        [Architecture::Mlp, Architecture::PreciseganFc, Architecture::PreciseganCnn];

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(11)
    }

    fn rows(batch: usize, width: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(noise(batch * width, &mut rng()), [batch, width]), &Device::flex())
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.try_into_vec_as::<f32>().unwrap()
    }

    fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1e-3f32, |scale, value| scale.max(value.abs()));
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < tolerance * scale, "{a} is not {b} (scale {scale})");
        }
    }

    fn discriminator(architecture: Architecture, dropout: f64) -> Network {
        let config = DiscriminatorConfig {
            architecture,
            dropout: dropout.try_into().unwrap(),
            ..DiscriminatorConfig::default()
        };
        let mut weights = Weights::fresh(architecture::discriminator(&config, 9), &mut rng());
        // Biases off 0, so that they take part.
        weights.parameters.iter_mut().enumerate().for_each(|(i, w)| *w += 0.01 * (i as f32).sin());
        Network::new(&weights, &Device::flex())
    }

    #[test]
    fn the_input_gradient_by_hand_is_that_of_autodiff_for_every_discriminator() {
        for architecture in ARCHITECTURES {
            for dropout in [0.0, 0.3] {
                let net = discriminator(architecture, dropout);
                let x = Tensor::from_inner(rows(5, 9)).require_grad();
                let mut dropout_rng = rng();
                let mut pass = Pass::training(&mut dropout_rng);
                let bound = net.tracked();
                let logits = bound.forward(x.clone(), &mut pass);
                let by_hand = numbers(bound.input_gradient(&pass).inner());
                let by_autodiff = numbers(x.grad(&logits.sum().backward()).unwrap());
                assert_close(&by_hand, &by_autodiff, 1e-5);
            }
        }
    }

    #[test]
    fn the_gradient_penalty_differentiates_to_finite_differences() {
        let net = discriminator(Architecture::Mlp, 0.0);
        let penalty = |net: &Network| {
            let bound = net.tracked();
            let mut pass = Pass::evaluation();
            bound.forward(Tensor::from_inner(rows(5, 9)), &mut pass);
            let loss = bound.input_gradient(&pass).square().sum_dim(1).mean();
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
    fn a_frozen_generator_computes_what_it_did_in_evaluation_mode() {
        for architecture in ARCHITECTURES {
            let config = GeneratorConfig { architecture, ..GeneratorConfig::default() };
            let weights = Weights::fresh(architecture::generator(&config, 7), &mut rng());
            let mut net = Network::new(&weights, &Device::flex());
            for _ in 0..3 {
                let mut dropout = rng();
                let mut pass = Pass::training(&mut dropout);
                net.plain().forward(rows(32, 16), &mut pass);
                net.absorb(pass);
            }
            let trained = net.weights().unwrap();
            let frozen = freeze(&trained);
            assert!(frozen.running.is_empty());
            let evaluate = |weights: &Weights| {
                numbers(Network::new(weights, &Device::flex()).plain().forward(rows(6, 16), &mut Pass::evaluation()))
            };
            assert_close(&evaluate(&frozen), &evaluate(&trained), 1e-5);
            assert_eq!(freeze(&frozen), frozen, "freezing twice changes nothing");
        }
    }

    #[test]
    fn batch_normalisation_in_training_standardises_the_batch() {
        let layers = vec![Layer::BatchNorm { channels: 2, spatial: 3 }];
        let net = Network::new(&Weights::fresh(layers, &mut rng()), &Device::flex());
        let x = rows(50, 6) * 3.0 + 2.0;
        let mut dropout = rng();
        let y = numbers(net.plain().forward(x, &mut Pass::training(&mut dropout)));
        for channel in 0..2 {
            let values: Vec<f32> =
                y.chunks_exact(6).flat_map(|row| row[channel * 3..channel * 3 + 3].to_vec()).collect();
            let mean = values.iter().sum::<f32>() / 150.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 150.0;
            assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
        }
    }
}
