//! Passes outside of autodiff: every net on the CPU, and nets that are linear but for masks (linear layers, leaky ReLU, dropout)
//! anywhere.
//!
//! Of the latter two things are had for less than from an autodiff graph. The gradient of a discriminator with respect to its input and the
//! backward pass of its loss are the same chain of products, up to a factor for each row; and the second-order gradient of a
//! penalty on it is one forward pass more, since masks are constant almost everywhere. So a discriminator's step takes four
//! passes of products where first-order autodiff takes six: with δ the chain of the input gradient g, h what a layer took, c the
//! slope of the loss in the output, and u the forward pass of dP/dg through weights and masks, the gradient of a layer's weights
//! is (c h + u)ᵀ δ.
//!
//! On the CPU the passes are fused over blocks of rows ([`host`]); elsewhere they are tensor operations ([`tensors`]), and nets with
//! other layers go through autodiff; [`Traced`] hides which.

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use self::host::{Mode, Wanted};
use super::{Network, Pass, layer::Layer, network::Bound};

mod host;
mod tensors;

/// A net of linear layers or convolutions with masks between them, bound for a computation.
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

/// What follows a linear layer.
#[derive(Clone, Copy, Debug)]
struct Masks {
    leaky: bool,
    dropout: Option<f64>,
}

/// The masks after each linear layer of a net that has no other layers.
fn masks(network: &Network) -> Option<Vec<Masks>> {
    let mut masks: Vec<Masks> = Vec::new();
    for layer in network.layers() {
        match *layer {
            Layer::Linear { .. } => masks.push(Masks { leaky: false, dropout: None }),
            Layer::LeakyRelu => masks.last_mut().filter(|l| !l.leaky && l.dropout.is_none())?.leaky = true,
            Layer::Dropout { share } => masks.last_mut().filter(|l| l.dropout.is_none())?.dropout = Some(share),
            _ => return None,
        }
    }
    (!masks.is_empty()).then_some(masks)
}

/// A net on the host, if that is where its device computes.
fn on_host(network: &Network) -> Option<host::Net> {
    if network.device() != Device::flex() {
        return None;
    }
    let weights = network.weights()?;
    host::Net::new(&weights.layers, weights.parameters, &weights.running)
}

/// A pass on the host, whose statistics go to `pass`.
fn pass_on_host(net: &host::Net, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, host::Tape) {
    let (device, rows) = (x.device(), x.dims()[0]);
    let training = pass.is_training();
    let tape = net.forward(numbers(x), Mode { training, dropout: pass.dropout() });
    for [mean, variance] in tape.statistics() {
        let [mean, variance] = [mean, variance].map(|values| matrix(values.to_vec(), 1, &device));
        pass.keep(mean, variance);
    }
    (matrix(host::Net::output(&tape), rows, &device), tape)
}

impl Network {
    /// Evaluates the net outside of autodiff: `[batch, inputs]` to `[batch, outputs]`.
    pub fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let Some(net) = on_host(self) else { return self.plain().forward(x, pass) };
        if pass.is_training() {
            return pass_on_host(&net, x, pass).0;
        }
        let (device, rows) = (x.device(), x.dims()[0]);
        matrix(net.evaluate(&numbers(x)), rows, &device)
    }
}

impl<'a> PiecewiseLinear<'a> {
    /// The net, if it has no other layers than these.
    pub fn of(network: &'a Network) -> Option<Self> {
        if let Some(net) = on_host(network) {
            return net.is_piecewise_linear().then_some(Self::Host(net));
        }
        Some(Self::Tensors(tensors::Net::new(network, masks(network)?)))
    }

    /// Evaluates the net, `[batch, inputs]` to `[batch, outputs]`, and keeps what a backward pass needs.
    pub fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Tape) {
        match self {
            Self::Host(net) => {
                let (output, tape) = pass_on_host(net, x, pass);
                (output, Tape::Host(tape))
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
                let wanted = Wanted { parameters: true, input: false };
                vector(net.backward(tape, numbers(slope), wanted).parameters, &device)
            }
            (Self::Tensors(net), Tape::Tensors(tape)) => net.parameters(tape, slope),
            // A tape belongs to the net that wrote it.
            _ => Tensor::zeros([0], &slope.device()),
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
pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
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
    /// By hand, on the CPU.
    Host(Box<(host::Net, host::Tape)>),
    /// By hand, as tensor operations.
    Tensors(Box<(tensors::Net<'a>, tensors::Tape)>),
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
        if let Some(net) = on_host(network) {
            let (output, tape) = pass_on_host(&net, x, pass);
            return (output, Self::Host(Box::new((net, tape))));
        }
        if let Some(masks) = masks(network) {
            let net = tensors::Net::new(network, masks);
            let (output, tape) = net.forward(x, pass);
            return (output, Self::Tensors(Box::new((net, tape))));
        }
        let bound = network.tracked();
        let input = Tensor::from_inner(x).require_grad();
        let output = bound.forward(input.clone(), pass);
        (output.clone().inner(), Self::Autodiff { bound, ends: Box::new([input, output]) })
    }

    /// The flat gradient of Σ output · `slope` with respect to the parameters.
    pub fn parameters(self, slope: Tensor<2>) -> Tensor<1> {
        self.backward(slope, Wanted { parameters: true, input: false }).0
    }

    /// The gradient of Σ output · `slope` with respect to the input, `[batch, inputs]`.
    pub fn input(self, slope: Tensor<2>) -> Tensor<2> {
        self.backward(slope, Wanted { parameters: false, input: true }).1
    }

    /// Both gradients.
    pub fn both(self, slope: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        self.backward(slope, Wanted { parameters: true, input: true })
    }

    /// The gradients that are wanted; the other may be anything.
    fn backward(self, slope: Tensor<2>, wanted: Wanted) -> (Tensor<1>, Tensor<2>) {
        match self {
            Self::Host(traced) => {
                let (net, tape) = *traced;
                let (device, rows) = (slope.device(), slope.dims()[0]);
                let gradients = net.backward(&tape, numbers(slope), wanted);
                (vector(gradients.parameters, &device), matrix(gradients.input, rows, &device))
            }
            Self::Tensors(traced) => traced.0.gradients(&traced.1, slope),
            Self::Autodiff { bound, ends } => {
                let [input, output] = *ends;
                let gradients = (output * Tensor::from_inner(slope)).sum().backward();
                let to_input = input.grad(&gradients).unwrap_or_else(|| input.inner().zeros_like());
                (bound.gradient(&gradients), to_input)
            }
        }
    }
}

/// What came out of a net, as the start of an autodiff graph: of a loss, say, whose slope there goes back through [`Traced`].
pub struct Leaf(Tensor<2>);

impl Leaf {
    /// Of a tensor outside of autodiff.
    pub fn new(tensor: Tensor<2>) -> Self {
        Self(Tensor::from_inner(tensor).require_grad())
    }

    /// The tensor inside of autodiff.
    pub fn tensor(&self) -> Tensor<2> {
        self.0.clone()
    }

    /// The gradient with respect to it, outside of autodiff; 0 where none arrived.
    pub fn slope(&self, gradients: &Gradients) -> Tensor<2> {
        self.0.grad(gradients).unwrap_or_else(|| self.tensor().inner().zeros_like())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{
        model::{
            Weights,
            architecture::{self, mlp},
            freeze::freeze,
            noise,
        },
        train::config::{Architecture, DiscriminatorConfig, GeneratorConfig},
        value::Fraction,
    };

    /// More rows than a block has, and no multiple of it.
    const ROWS: usize = host::BLOCK + 37;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(8)
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1e-6f32, |scale, value| scale.max(value.abs()));
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 4e-5 * scale, "{a} is not {b} (scale {scale})");
        }
    }

    /// Fresh weights of these layers, with biases that are not 0.
    fn weights(layers: Vec<Layer>) -> Weights {
        let mut weights = Weights::fresh(layers, &mut rng());
        weights.parameters.iter_mut().enumerate().for_each(|(i, w)| *w += 0.01 * (i as f32).sin());
        weights
    }

    /// Compares the passes on the host, in training or not, with tensor operations and autodiff.
    fn compare(weights: &Weights, rows: usize, training: bool) {
        let network = Network::new(weights, &Device::flex());
        let (mut one, mut other) = (rng(), rng());
        let [mut on_host, mut by_autodiff] = if training {
            [Pass::training(&mut one), Pass::training(&mut other)]
        } else {
            [Pass::evaluation(), Pass::evaluation()]
        };
        let x = matrix(noise(rows * weights.inputs(), &mut rng()), rows, &Device::flex());
        let (output, traced) = Traced::forward(&network, x.clone(), &mut on_host);
        assert!(matches!(traced, Traced::Host(_)));

        let bound = network.tracked();
        let input = Tensor::from_inner(x.clone()).require_grad();
        let expected = bound.forward(input.clone(), &mut by_autodiff);
        let values = numbers(output.clone());
        close(&values, &numbers(expected.clone().inner()));
        if !training {
            assert_eq!(numbers(network.forward(x, &mut Pass::evaluation())), values, "with and without a tape");
        }
        let slope = matrix(noise(values.len(), &mut rng()), rows, &Device::flex());
        let gradients = (expected * Tensor::from_inner(slope.clone())).sum().backward();
        let (parameters, to_input) = traced.both(slope);
        close(&numbers(parameters), &numbers(bound.gradient(&gradients)));
        close(&numbers(to_input), &numbers(input.grad(&gradients).unwrap()));

        let (mut one, mut other) = (network.clone(), network.clone());
        one.absorb(on_host);
        other.absorb(by_autodiff);
        close(&one.weights().unwrap().running, &other.weights().unwrap().running);
    }

    #[test]
    fn passes_on_the_host_are_those_of_autodiff_for_every_net() {
        for architecture in [Architecture::Mlp, Architecture::PreciseganFc, Architecture::PreciseganCnn] {
            let rows = if architecture == Architecture::PreciseganCnn { 21 } else { ROWS };
            let config = GeneratorConfig { architecture, ..GeneratorConfig::default() };
            let generator = weights(architecture::generator(&config, 7));
            let dropout = Fraction::try_from(0.3).unwrap();
            let config = DiscriminatorConfig { architecture, dropout, ..DiscriminatorConfig::default() };
            let discriminator = weights(architecture::discriminator(&config, 9));
            for training in [false, true] {
                compare(&generator, rows, training);
                // Dropout draws in the order of memory, where images have their channels last.
                if !training || architecture != Architecture::PreciseganCnn {
                    compare(&discriminator, rows, training);
                }
            }
            compare(&freeze(&generator), rows, false);
        }
    }

    #[test]
    fn penalties_on_the_host_are_those_of_tensor_operations() {
        let network = Network::new(&weights(mlp(5, &[24, 17], 1)), &Device::flex());
        let fused = PiecewiseLinear::of(&network).unwrap();
        assert!(matches!(fused, PiecewiseLinear::Host(_)));
        let plain = PiecewiseLinear::Tensors(tensors::Net::new(&network, masks(&network).unwrap()));
        let x = matrix(noise(ROWS * 5, &mut rng()), ROWS, &Device::flex());
        let slope = matrix(noise(ROWS, &mut rng()), ROWS, &Device::flex());
        let (one, one_tape) = fused.forward(x.clone(), &mut Pass::evaluation());
        let (other, other_tape) = plain.forward(x, &mut Pass::evaluation());
        close(&numbers(one), &numbers(other));
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
