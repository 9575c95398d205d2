//! The passes of any net with libtorch's operations, on its CPU and on GPUs.
//!
//! Nets of linear layers and masks go by hand: a product with its bias is one operation here, and so is leaky ReLU either way. Others go by
//! libtorch's autograd, for the backward operations of convolutions and batch normalisation are offered in no other way.

use burn::tensor::Tensor;
use tch::{Kind, Tensor as Torch};

use super::{NORM_OFFSET, Penalty, Wanted};
use crate::model::{
    Network, Pass,
    layer::{Convolution, LEAK, Layer, NORM_EPSILON},
    torch::{Loan, give, lend, mask, own},
};

/// A net with its parameters as libtorch's tensors.
pub(super) struct Net {
    layers: Vec<Layer>,
    /// All parameters.
    flat: Loan,
    /// Views of them.
    parameters: Vec<[Torch; 2]>,
    /// Running mean and variance of each batch normalisation, `[channels]`.
    running: Vec<[Torch; 2]>,
}

/// What a forward pass leaves behind for a backward one.
pub(super) struct Tape {
    trace: Trace,
    /// What went in and what came out, so that nobody changes them in place.
    _ends: [Loan; 2],
}

enum Trace {
    /// By hand.
    Steps(Vec<Step>),
    /// By autograd: what went in and the flat parameters, and what came out.
    Graph { leaves: [Torch; 2], output: Torch },
}

/// What a layer leaves behind.
enum Step {
    /// What it took, `[batch, inputs]`: of a linear layer.
    Took(Torch),
    /// What it gave: of leaky ReLU.
    Gave(Torch),
    /// The factors it multiplied by.
    Factors(Torch),
    /// Of a layer that does nothing in this mode.
    Nothing,
}

impl Net {
    pub(super) fn new(network: &Network) -> Self {
        let flat = lend(network.parameters());
        let moments = |pair: &[Tensor<2>; 2]| pair.each_ref().map(|row| lend(row.clone()).view(-1));
        let running = network.running().iter().map(moments).collect();
        let layers = network.layers().to_vec();
        let parameters = views(&layers, &flat);
        Self { layers, flat, parameters, running }
    }

    /// Whether all layers go by hand.
    fn is_simple(&self) -> bool {
        let simple = |layer: &Layer| matches!(layer, Layer::Linear { .. } | Layer::LeakyRelu | Layer::Dropout { .. });
        self.layers.iter().all(simple)
    }

    /// Evaluates the net, `[batch, inputs]` to `[batch, outputs]`.
    pub(super) fn evaluate(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        own(self.run(lend(x).shallow_clone(), &self.parameters, pass, |_| {}))
    }

    /// As [`evaluate`](Self::evaluate), and keeps what a backward pass needs.
    pub(super) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Tape) {
        let x = lend(x);
        let (output, trace) = if self.is_simple() {
            let mut steps = Vec::with_capacity(self.layers.len());
            let output = self.run(x.shallow_clone(), &self.parameters, pass, |step| steps.push(step));
            (output, Trace::Steps(steps))
        } else {
            let leaves = [&x, &self.flat].map(|tensor| tensor.detach().set_requires_grad(true));
            let parameters = views(&self.layers, &leaves[1]);
            let output = self.run(leaves[0].shallow_clone(), &parameters, pass, |_| {});
            (output.detach(), Trace::Graph { leaves, output })
        };
        let output = Loan::of(output);
        (give(output.clone()), Tape { trace, _ends: [x, output] })
    }

    fn run(&self, x: Torch, parameters: &[[Torch; 2]], pass: &mut Pass<'_>, mut keep: impl FnMut(Step)) -> Torch {
        let mut x = x;
        let mut parameters = parameters.iter();
        let mut running = self.running.iter();
        for layer in &self.layers {
            // Layers with parameters find theirs, which are made of the same list.
            let own = if layer.size() > 0 { parameters.next() } else { None };
            let (y, step) = match (*layer, own) {
                (Layer::Linear { .. }, Some([weight, bias])) => (bias.addmm(&x, weight), Step::Took(x)),
                (Layer::LeakyRelu, _) => {
                    // libtorch's own operation is offered with its default slope only. This is its way back, which gives a slope where
                    // a number is above 0 and `LEAK` of it below: for the number itself.
                    let y = if x.requires_grad() { x.detach() } else { x.shallow_clone() };
                    let y = y.leaky_relu_backward(&x, LEAK, false);
                    (y.shallow_clone(), Step::Gave(y))
                }
                (Layer::Dropout { share }, _) => match pass.dropout() {
                    Some(rng) => {
                        let factors = mask(&x, share, rng);
                        (&x * &factors, Step::Factors(factors))
                    }
                    None => (x, Step::Nothing),
                },
                (Layer::Tanh, _) => (x.tanh(), Step::Nothing),
                (Layer::Affine { .. }, Some([scale, shift])) => (shift.addcmul(&x, scale), Step::Nothing),
                (Layer::Conv(c), Some(own)) => (convolve(&x, own, c), Step::Nothing),
                (Layer::ConvTranspose(c), Some(own)) => (convolve_transposed(&x, own, c), Step::Nothing),
                (Layer::BatchNorm { channels, spatial }, Some(own)) => {
                    let shape = [channels as i64, spatial as i64];
                    let y = match running.next().filter(|_| !pass.is_training()) {
                        Some(moments) => normalise(&x, own, moments, shape),
                        None => standardise(&x, own, shape, pass),
                    };
                    (y, Step::Nothing)
                }
                (_, None) => (x, Step::Nothing),
            };
            x = y;
            keep(step);
        }
        x
    }

    /// The gradients of Σ output · `slope` that are wanted; the other is empty.
    pub(super) fn gradients(&self, tape: &Tape, slope: Tensor<2>, wanted: Wanted) -> (Tensor<1>, Tensor<2>) {
        let slope = lend(slope);
        let empty = |size: &[i64]| Torch::empty(size, (Kind::Float, slope.device()));
        let (input, parameters) = match &tape.trace {
            Trace::Steps(steps) => {
                let flat = wanted.parameters.then(|| empty(&[self.size()]));
                let into = flat.as_ref().map_or(Vec::new(), |flat| views(&self.layers, flat));
                let ones = slope.slice(1, 0, 1, 1).ones_like();
                let input = self.backward(steps, &slope, wanted.input, |index, x, delta| {
                    if let Some([weight, bias]) = into.get(index) {
                        multiply(x, delta, weight);
                        multiply(&ones, delta, &bias.view([1, -1]));
                    }
                });
                (wanted.input.then_some(input), flat)
            }
            Trace::Graph { leaves, output } => {
                let of = usize::from(!wanted.input)..1 + usize::from(wanted.parameters);
                let loss = (output * &*slope).sum(Kind::Float);
                let mut found = Torch::run_backward(&[loss], &leaves[of], true, false);
                let parameters = if wanted.parameters { found.pop() } else { None };
                (found.pop(), parameters)
            }
        };
        (own(parameters.unwrap_or_else(|| empty(&[0]))), own(input.unwrap_or_else(|| empty(&[0, 0]))))
    }

    /// Takes a slope back through layers that go by hand. Each linear one is visited, with its place among them, what it took, and the
    /// slope in what it gave; the slope in what the first took is returned if it is wanted.
    fn backward(
        &self,
        steps: &[Step],
        slope: &Torch,
        to_input: bool,
        mut visit: impl FnMut(usize, &Torch, &Torch),
    ) -> Torch {
        let mut delta = slope.shallow_clone();
        let mut index = self.parameters.len();
        for step in steps.iter().rev() {
            delta = match step {
                Step::Took(x) => {
                    index -= 1;
                    visit(index, x, &delta);
                    if index > 0 || to_input { delta.mm(&self.parameters[index][0].tr()) } else { delta }
                }
                Step::Gave(y) => y.leaky_relu_backward(&delta, LEAK, true),
                Step::Factors(factors) => delta * factors,
                Step::Nothing => delta,
            };
        }
        delta
    }

    /// The flat gradient of Σ output · `slope`, `[batch, 1]`, plus a penalty on the input gradient, for a piecewise linear net with one
    /// output.
    pub(super) fn penalised(&self, tape: &Tape, slope: Tensor<2>, penalty: Penalty<'_>) -> Tensor<1> {
        let slope = lend(slope);
        let slope: &Torch = &slope;
        let steps = match &tape.trace {
            Trace::Steps(steps) => steps,
            Trace::Graph { leaves: [input, flat], output } => {
                let sum = output.sum(Kind::Float);
                let gradient = Torch::run_backward(&[sum], &[input], true, true).swap_remove(0);
                let loss = (output * slope).sum(Kind::Float) + cost(&gradient, penalty);
                return own(Torch::run_backward(&[loss], &[flat], true, false).swap_remove(0));
            }
        };
        let mut deltas = Vec::with_capacity(self.parameters.len());
        let ones = slope.ones_like();
        let gradient = self.backward(steps, &ones, true, |_, _, delta| deltas.push(delta.shallow_clone()));
        let mut tangent = gradient_of_cost(gradient, penalty);
        let flat = Torch::empty([self.size()], (Kind::Float, slope.device()));
        let mut layers = views(&self.layers, &flat).into_iter().zip(&self.parameters);
        for step in steps {
            tangent = match step {
                Step::Took(x) => {
                    let (Some(([of_weight, of_bias], [weight, _])), Some(delta)) = (layers.next(), deltas.pop()) else {
                        break;
                    };
                    multiply(&tangent.addcmul(x, slope), &delta, &of_weight);
                    multiply(slope, &delta, &of_bias.view([1, -1]));
                    if deltas.is_empty() {
                        break;
                    }
                    tangent.mm(weight)
                }
                Step::Gave(y) => y.leaky_relu_backward(&tangent, LEAK, true),
                Step::Factors(factors) => tangent * factors,
                Step::Nothing => tangent,
            };
        }
        own(flat)
    }

    /// Numbers in all parameters.
    fn size(&self) -> i64 {
        self.layers.iter().map(Layer::size).sum::<usize>() as i64
    }
}

/// A penalty on input gradients.
fn cost(gradient: &Torch, penalty: Penalty<'_>) -> Torch {
    let squared = gradient.square().sum_dim_intlist(1i64, true, Kind::Float);
    match penalty {
        Penalty::Zero(weights) => (squared * &*lend(weights.clone())).sum(Kind::Float) * 0.5,
        Penalty::One(weight) => ((squared + NORM_OFFSET).sqrt() - 1.0).square().sum(Kind::Float) * weight,
    }
}

/// The gradient of [`cost`].
fn gradient_of_cost(gradient: Torch, penalty: Penalty<'_>) -> Torch {
    match penalty {
        Penalty::Zero(weights) => gradient * &*lend(weights.clone()),
        Penalty::One(weight) => {
            let norm = (gradient.square().sum_dim_intlist(1i64, true, Kind::Float) + NORM_OFFSET).sqrt();
            gradient * ((norm.reciprocal().neg() + 1.0) * (2.0 * weight))
        }
    }
}

/// The parameters of each layer that has some, as views of a flat vector: products take `[rows, columns]`, all else is `[columns]`.
fn views(layers: &[Layer], flat: &Torch) -> Vec<[Torch; 2]> {
    let layers = layers.iter().filter(|layer| layer.size() > 0);
    let sizes = layers.clone().flat_map(Layer::shapes).map(|[rows, columns]| (rows * columns) as i64);
    let mut parts = flat.split_with_sizes(sizes.collect::<Vec<_>>(), 0).into_iter();
    let pair = |layer: &Layer| {
        let (first, second) = (parts.next()?, parts.next()?);
        let first = match *layer {
            Layer::Linear { inputs, outputs } => first.view([inputs as i64, outputs as i64]),
            _ => first,
        };
        Some([first, second])
    };
    layers.map_while(pair).collect()
}

/// Writes aᵀ b into a tensor.
fn multiply(a: &Torch, b: &Torch, into: &Torch) {
    let _same = a.tr().mm_out(into, b);
}

/// `[batch, features]` as images, with zeros appended to the right and the bottom.
fn image_in(x: &Torch, c: Convolution) -> Torch {
    let side = c.side as i64;
    let x = x.view([-1, c.inputs as i64, side, side]);
    if c.append > 0 { x.constant_pad_nd([0, c.append as i64, 0, c.append as i64]) } else { x }
}

fn convolve(x: &Torch, [weight, bias]: &[Torch; 2], c: Convolution) -> Torch {
    let [inputs, outputs, kernel, padding] = [c.inputs, c.outputs, c.kernel, c.padding].map(|size| size as i64);
    let (x, weight) = (image_in(x, c), weight.view([outputs, inputs, kernel, kernel]));
    if x.device().is_cuda() {
        return unfolded(&x, &weight, bias, padding);
    }
    x.conv2d(&weight, Some(bias), 1, padding, 1, 1).flatten(1, -1)
}

fn convolve_transposed(x: &Torch, [weight, bias]: &[Torch; 2], c: Convolution) -> Torch {
    let [inputs, outputs, kernel, padding] = [c.inputs, c.outputs, c.kernel, c.padding].map(|size| size as i64);
    let (x, weight) = (image_in(x, c), weight.view([inputs, outputs, kernel, kernel]));
    if x.device().is_cuda() {
        return unfolded(&x, &turned(&weight), bias, kernel - 1 - padding);
    }
    x.conv_transpose2d(&weight, Some(bias), 1, padding, 0, 1, 1).flatten(1, -1)
}

/// The kernel of the convolution that a transposed one is.
fn turned(weight: &Torch) -> Torch {
    weight.flip([2, 3]).transpose(0, 1)
}

/// A convolution as a product with the pixels under the kernel. cuDNN's own ways back may add in any order, and what this program makes
/// on a device is the same each time.
fn unfolded(x: &Torch, weight: &Torch, bias: &Torch, padding: i64) -> Torch {
    let (images, kernel) = (x.size()[0], weight.size()[2]);
    let pixels = x.im2col([kernel, kernel], [1, 1], [padding, padding], [1, 1]);
    let weight = weight.flatten(1, -1).unsqueeze(0).expand([images, -1, -1], false);
    bias.view([1, -1, 1]).baddbmm(&weight, &pixels, 1, 1).flatten(1, -1)
}

/// Batch normalisation with the batch's own moments, which go to `pass`.
fn standardise(x: &Torch, [scale, shift]: &[Torch; 2], [channels, spatial]: [i64; 2], pass: &mut Pass<'_>) -> Torch {
    let images = x.view([-1, channels, spatial]);
    let (y, mean, deviation) =
        images.internal_native_batch_norm_legit_no_stats(Some(scale), Some(shift), true, 0.0, NORM_EPSILON);
    if pass.keeps_statistics() {
        // One over the standard deviation, ε included. A copy, for a graph needs its own.
        let variance = deviation.detach().pow_tensor_scalar(-2) - NORM_EPSILON;
        let mean = if mean.requires_grad() { mean.detach().copy() } else { mean };
        pass.keep(own(mean.view([1, -1])), own(variance.view([1, -1])));
    }
    y.view_as(x)
}

/// Batch normalisation with running moments.
fn normalise(
    x: &Torch,
    [scale, shift]: &[Torch; 2],
    [mean, variance]: &[Torch; 2],
    [channels, spatial]: [i64; 2],
) -> Torch {
    let column = |row: &Torch| row.view([channels, 1]);
    let scale = column(&(scale / (variance + NORM_EPSILON).sqrt()));
    ((x.view([-1, channels, spatial]) - column(mean)) * scale + column(shift)).view_as(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a CPU both ways can be had.
    #[test]
    fn convolutions_by_products_are_those_of_libtorch_forward_and_back() {
        let random = |size: &[i64]| Torch::randn(size, (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        let close = |a: &Torch, b: &Torch| assert!((a - b).abs().max().double_value(&[]) < 1e-4);
        for (kernel, padding) in [(3, 1), (2, 1), (1, 0), (3, 0)] {
            let (x, bias) = (random(&[5, 4, 6, 6]), random(&[7]));
            let weight = random(&[7, 4, kernel, kernel]);
            let expected = x.conv2d(&weight, Some(&bias), 1, padding, 1, 1).flatten(1, -1);
            compare(&expected, &unfolded(&x, &weight, &bias, padding), [&x, &weight, &bias], close);
            let weight = random(&[4, 7, kernel, kernel]);
            let expected = x.conv_transpose2d(&weight, Some(&bias), 1, padding, 0, 1, 1).flatten(1, -1);
            let found = unfolded(&x, &turned(&weight), &bias, kernel - 1 - padding);
            compare(&expected, &found, [&x, &weight, &bias], close);
        }
    }

    fn compare(expected: &Torch, found: &Torch, leaves: [&Torch; 3], close: impl Fn(&Torch, &Torch)) {
        close(found, expected);
        let slope = expected.detach().sin();
        let back = |y: &Torch| Torch::run_backward(&[(y * &slope).sum(Kind::Float)], &leaves, false, false);
        back(found).iter().zip(&back(expected)).for_each(|(a, b)| close(a, b));
    }
}
