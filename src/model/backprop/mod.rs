//! Passes through nets and back, written by hand.
//!
//! On the CPU they are fused over blocks of rows ([`host`]), on libtorch's devices they are its own operations (`torch`); [`Traced`]
//! hides which. Of a net that is linear but for masks (linear layers and convolutions, leaky ReLU, dropout) two things are had for less than
//! from an autodiff graph. The gradient of a discriminator with respect to its input and the backward pass of its loss are the same chain of
//! products, up to a factor for each row; and the second-order gradient of a penalty on it is one forward pass more, since masks are
//! constant almost everywhere. So a discriminator's step takes four passes of products where first-order autodiff takes six: with δ the
//! chain of the input gradient g, h what a layer took, c the slope of the loss in the output, and u the forward pass of dP/dg through
//! weights and masks, the gradient of a layer's weights is (c h + u)ᵀ δ.

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use self::host::{Mode, Wanted};
#[cfg(feature = "libtorch")]
use super::transfer::is_host;
use super::{Network, Pass, layer};

mod host;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(feature = "libtorch")]
mod torch;

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

/// A net with its parameters where its device computes.
enum Bound {
    Host(host::Net),
    #[cfg(feature = "libtorch")]
    Torch(torch::Net),
}

/// What a forward pass leaves behind for a backward one.
enum Tape {
    Host(host::Tape),
    #[cfg(feature = "libtorch")]
    Torch(torch::Tape),
}

impl Bound {
    fn new(network: &Network) -> Self {
        #[cfg(feature = "libtorch")]
        if !is_host(&network.device()) {
            return Self::Torch(torch::Net::new(network));
        }
        let net = network.weights().and_then(|w| host::Net::new(&w.layers, w.parameters, &w.running));
        // Files of nets are read, and nets are made, with layers that lead from one to the next.
        Self::Host(net.unwrap_or_else(|| unreachable!("the layers of a net are a chain")))
    }

    /// Evaluates the net, keeping nothing for a way back.
    fn evaluate(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        match self {
            Self::Host(net) if pass.is_training() => pass_on_host(net, x, pass).0,
            Self::Host(net) => {
                let (device, rows) = (x.device(), x.dims()[0]);
                matrix(net.evaluate(&numbers(x)), rows, &device)
            }
            #[cfg(feature = "libtorch")]
            Self::Torch(net) => net.evaluate(x, pass),
        }
    }

    fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Tape) {
        match self {
            Self::Host(net) => {
                let (output, tape) = pass_on_host(net, x, pass);
                (output, Tape::Host(tape))
            }
            #[cfg(feature = "libtorch")]
            Self::Torch(net) => {
                let (output, tape) = net.forward(x, pass);
                (output, Tape::Torch(tape))
            }
        }
    }
}

/// A pass on the host, whose statistics go to `pass`.
fn pass_on_host(net: &host::Net, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, host::Tape) {
    let (device, rows) = (x.device(), x.dims()[0]);
    let training = pass.is_training();
    let tape = net.forward(numbers(x), Mode { training, dropout: pass.dropout() });
    if pass.keeps_statistics() {
        for [mean, variance] in tape.statistics() {
            let [mean, variance] = [mean, variance].map(|values| matrix(values.to_vec(), 1, &device));
            pass.keep(mean, variance);
        }
    }
    (matrix(host::Net::output(&tape), rows, &device), tape)
}

impl Network {
    /// Evaluates the net outside of autodiff: `[batch, inputs]` to `[batch, outputs]`.
    pub fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        Bound::new(self).evaluate(x, pass)
    }
}

/// A forward pass of a net that can be taken back.
pub struct Traced {
    net: Bound,
    tape: Tape,
    piecewise_linear: bool,
}

impl Traced {
    /// Evaluates a net, `[batch, inputs]` to `[batch, outputs]`; everything that goes in and comes out is outside of autodiff.
    pub fn forward(network: &Network, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Self) {
        let net = Bound::new(network);
        let (output, tape) = net.forward(x, pass);
        (output, Self { net, tape, piecewise_linear: layer::are_piecewise_linear(network.layers()) })
    }

    /// The flat gradient of Σ output · `slope` with respect to the parameters; `slope` is `[batch, outputs]`, as below.
    pub fn parameters(&self, slope: Tensor<2>) -> Tensor<1> {
        self.backward(slope, Wanted { parameters: true, input: false }).0
    }

    /// The gradient of Σ output · `slope` with respect to the input, `[batch, inputs]`.
    pub fn input(&self, slope: Tensor<2>) -> Tensor<2> {
        self.backward(slope, Wanted { parameters: false, input: true }).1
    }

    /// Both gradients.
    pub fn both(&self, slope: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        self.backward(slope, Wanted { parameters: true, input: true })
    }

    /// The gradients that are wanted; the other may be anything.
    fn backward(&self, slope: Tensor<2>, wanted: Wanted) -> (Tensor<1>, Tensor<2>) {
        match (&self.net, &self.tape) {
            (Bound::Host(net), Tape::Host(tape)) => {
                let (device, rows) = (slope.device(), slope.dims()[0]);
                let gradients = net.backward(tape, numbers(slope), wanted);
                (vector(gradients.parameters, &device), matrix(gradients.input, rows, &device))
            }
            #[cfg(feature = "libtorch")]
            (Bound::Torch(net), Tape::Torch(tape)) => net.gradients(tape, slope, wanted),
            #[cfg(feature = "libtorch")]
            _ => unreachable!("a tape belongs to the net that wrote it"),
        }
    }

    /// The flat gradient of Σ output · `slope` plus a penalty on the input gradient, for a net with one output; `slope` is
    /// `[batch, 1]`. `None` if the net is not piecewise linear.
    pub fn penalised(&self, slope: Tensor<2>, penalty: Penalty<'_>) -> Option<Tensor<1>> {
        if !self.piecewise_linear {
            return None;
        }
        Some(match (&self.net, &self.tape) {
            (Bound::Host(net), Tape::Host(tape)) => {
                let (device, slope) = (slope.device(), numbers(slope));
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
            #[cfg(feature = "libtorch")]
            (Bound::Torch(net), Tape::Torch(tape)) => net.penalised(tape, slope, penalty),
            #[cfg(feature = "libtorch")]
            _ => unreachable!("a tape belongs to the net that wrote it"),
        })
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
mod tests;
