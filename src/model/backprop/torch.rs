//! The passes of any net with libtorch's operations, on its CPU and on GPUs.
//!
//! What burn makes of several operations is one here: a product with its bias, leaky ReLU, and its way back, which is read off the sign of
//! what it gave. Convolutions and batch normalisations go back by libtorch's autograd, each in a graph of its own, for their backward
//! operations are offered in no other way.

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
    /// All parameters, so that nobody changes them in place.
    _flat: Loan,
    /// Views of them, two for each layer that has some: `[rows, columns]` and `[columns]`, or both `[features]`.
    parameters: Vec<[Torch; 2]>,
    /// Running mean and variance of each batch normalisation, `[channels]`.
    running: Vec<[Torch; 2]>,
}

/// What a forward pass leaves behind for a backward one.
pub(super) struct Tape {
    steps: Vec<Step>,
    /// What went in and what came out, so that nobody changes them in place.
    _ends: [Loan; 2],
}

/// What a layer leaves behind.
enum Step {
    /// What it took, `[batch, inputs]`: of a layer whose way back is a product.
    Took(Torch),
    /// What it gave: of an activation.
    Gave(Torch),
    /// The factors it multiplied by.
    Factors(Torch),
    Graph(Graph),
    /// Of a layer that does nothing in this mode.
    Nothing,
}

/// A layer that libtorch's autograd takes back: what went in, its two parameters, and what came out.
struct Graph {
    leaves: [Torch; 3],
    output: Torch,
}

impl Graph {
    fn new(leaves: [&Torch; 3], of: impl FnOnce([&Torch; 3]) -> Torch) -> Self {
        let leaves = leaves.map(|tensor| tensor.detach().set_requires_grad(true));
        let output = of(leaves.each_ref());
        Self { leaves, output }
    }

    /// The gradients of Σ output · `slope` with respect to some of the leaves. The graph stays for another time.
    fn gradients(&self, slope: &Torch, leaves: &[Torch]) -> Vec<Torch> {
        Torch::run_backward(&[(&self.output * slope).sum(Kind::Float)], leaves, true, false)
    }
}

impl Net {
    pub(super) fn new(network: &Network) -> Self {
        let flat = lend(network.parameters());
        let running =
            network.running().iter().map(|pair| pair.each_ref().map(|row| lend(row.clone()).view(-1))).collect();
        let layers = network.layers().to_vec();
        let parameters = views(&layers, &flat);
        Self { layers, _flat: flat, parameters, running }
    }

    /// Evaluates the net, `[batch, inputs]` to `[batch, outputs]`.
    pub(super) fn evaluate(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        // What is lent stays so until the work is done.
        let x = lend(x);
        own(self.run(x.shallow_clone(), pass, None))
    }

    /// As [`evaluate`](Self::evaluate), and keeps what a backward pass needs.
    pub(super) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> (Tensor<2>, Tape) {
        let x = lend(x);
        let mut steps = Vec::with_capacity(self.layers.len());
        let output = Loan::of(self.run(x.shallow_clone(), pass, Some(&mut steps)));
        (give(output.clone()), Tape { steps, _ends: [x, output] })
    }

    fn run(&self, x: Torch, pass: &mut Pass<'_>, mut steps: Option<&mut Vec<Step>>) -> Torch {
        let mut x = x;
        let mut parameters = self.parameters.iter();
        let mut running = self.running.iter();
        for layer in &self.layers {
            // An iterator over the parameters of the layers that have some has as many items as there are such layers.
            let own = if layer.size() > 0 { parameters.next() } else { None };
            let traced = steps.is_some();
            let (y, step) = match (*layer, own) {
                (Layer::Linear { .. }, Some([weight, bias])) => (bias.addmm(&x, weight), Step::Took(x)),
                (Layer::Affine { .. }, Some([scale, shift])) => (shift.addcmul(&x, scale), Step::Took(x)),
                (Layer::LeakyRelu, _) => {
                    // libtorch's own forward operation is offered with its default slope only. This one gives x above 0 and x · slope
                    // below: its way back, for what went in.
                    let y = x.leaky_relu_backward(&x, LEAK, false);
                    (y.shallow_clone(), Step::Gave(y))
                }
                (Layer::Tanh, _) => {
                    let y = x.tanh();
                    (y.shallow_clone(), Step::Gave(y))
                }
                (Layer::Dropout { share }, _) => match pass.dropout() {
                    Some(rng) => {
                        let factors = mask(&x, share, rng);
                        (&x * &factors, Step::Factors(factors))
                    }
                    None => (x, Step::Nothing),
                },
                (Layer::Conv(c), Some([weight, bias])) => {
                    through(traced, [&x, weight, bias], |[x, weight, bias]| convolve(x, weight, Some(bias), c))
                }
                (Layer::ConvTranspose(c), Some([weight, bias])) => {
                    through(traced, [&x, weight, bias], |[x, weight, bias]| {
                        convolve_transposed(x, weight, Some(bias), c)
                    })
                }
                (Layer::BatchNorm { channels, spatial }, Some([scale, shift])) => {
                    let shape = [channels as i64, spatial as i64];
                    match running.next().filter(|_| !pass.is_training()) {
                        Some(moments) => through(traced, [&x, scale, shift], |own| normalise(own, moments, shape)),
                        None => {
                            let mut found = None;
                            let done = through(traced, [&x, scale, shift], |own| {
                                let (y, mean, deviation) = standardise(own, shape);
                                found = Some([mean, deviation]);
                                y
                            });
                            if let Some([mean, deviation]) = found {
                                // Copies: the graph needs its own.
                                let variance = deviation.detach().pow_tensor_scalar(-2) - NORM_EPSILON;
                                let row = |moment: Torch| self::own(moment.view([1, -1]));
                                pass.keep(row(mean.detach().copy()), row(variance));
                            }
                            done
                        }
                    }
                }
                (_, None) => (x, Step::Nothing),
            };
            x = y;
            if let Some(steps) = &mut steps {
                steps.push(step);
            }
        }
        x
    }

    /// The gradients of Σ output · `slope` that are wanted; the other is empty.
    pub(super) fn gradients(&self, tape: &Tape, slope: Tensor<2>, wanted: Wanted) -> (Tensor<1>, Tensor<2>) {
        let slope = lend(slope);
        let device = slope.device();
        let empty = |count| Torch::empty([count], (Kind::Float, device));
        let flat = empty(if wanted.parameters { self.size() } else { 0 });
        let into = if wanted.parameters { views(&self.layers, &flat) } else { Vec::new() };
        let ones = slope.slice(1, 0, 1, 1).ones_like();
        let input = self.backward(tape, &slope, wanted.input, |index, step, delta| {
            if let Some([weight, bias]) = into.get(index) {
                self.parameter_gradients(index, step, delta, &ones, [weight, bias]);
            }
        });
        let input = if wanted.input { input } else { empty(0).view([0, 0]) };
        (own(flat), own(input))
    }

    /// Takes a slope back through the layers. Each layer with parameters is visited with its place among them, and the slope in what it
    /// gave, whose gradient in what the first layer took is returned if it is wanted.
    fn backward(
        &self,
        tape: &Tape,
        slope: &Torch,
        to_input: bool,
        mut visit: impl FnMut(usize, &Step, &Torch),
    ) -> Torch {
        let mut delta = slope.shallow_clone();
        let mut index = self.parameters.len();
        for (place, (layer, step)) in self.layers.iter().zip(&tape.steps).enumerate().rev() {
            if layer.size() > 0 {
                index -= 1;
                visit(index, step, &delta);
                if place == 0 && !to_input {
                    break;
                }
            }
            delta = self.back(*layer, index, step, delta);
        }
        delta
    }

    /// The slope in what a layer took, of that in what it gave.
    fn back(&self, layer: Layer, index: usize, step: &Step, delta: Torch) -> Torch {
        match (layer, step) {
            (Layer::Linear { .. }, _) => delta.mm(&self.parameters[index][0].tr()),
            (Layer::Affine { .. }, _) => delta * &self.parameters[index][0],
            (Layer::LeakyRelu, Step::Gave(y)) => y.leaky_relu_backward(&delta, LEAK, true),
            (Layer::Tanh, Step::Gave(y)) => Torch::tanh_backward(&delta, y),
            (_, Step::Factors(factors)) => delta * factors,
            (_, Step::Graph(graph)) => graph.gradients(&delta, &graph.leaves[..1]).swap_remove(0),
            _ => delta,
        }
    }

    /// Writes the gradients of a layer's parameters, of the slope in what it gave. With `ones` of shape `[batch, 1]`, whose products are
    /// sums.
    fn parameter_gradients(&self, index: usize, step: &Step, delta: &Torch, ones: &Torch, [weight, bias]: [&Torch; 2]) {
        match step {
            Step::Took(x) => {
                if self.parameters[index][0].dim() == 2 {
                    multiply(x, delta, weight);
                } else {
                    multiply(ones, &(x * delta), &weight.view([1, -1]));
                }
                multiply(ones, delta, &bias.view([1, -1]));
            }
            Step::Graph(graph) => {
                let found = graph.gradients(delta, &graph.leaves[1..]);
                copy([&found[0], &found[1]], [weight, bias]);
            }
            Step::Gave(_) | Step::Factors(_) | Step::Nothing => {}
        }
    }

    /// The flat gradient of Σ output · `slope`, `[batch, 1]`, plus a penalty on the input gradient, for a piecewise linear net with one
    /// output.
    pub(super) fn penalised(&self, tape: &Tape, slope: Tensor<2>, penalty: Penalty<'_>) -> Tensor<1> {
        let slope = lend(slope);
        let slope: &Torch = &slope;
        let mut deltas = Vec::with_capacity(self.parameters.len());
        let gradient = self.backward(tape, &slope.ones_like(), true, |_, _, delta| deltas.push(delta.shallow_clone()));
        let mut tangent = match penalty {
            Penalty::Zero(weights) => gradient * &*lend(weights.clone()),
            Penalty::One(weight) => {
                let norm = (gradient.square().sum_dim_intlist(1i64, true, Kind::Float) + NORM_OFFSET).sqrt();
                gradient * ((norm.reciprocal().neg() + 1.0) * (2.0 * weight))
            }
        };
        let flat = Torch::empty([self.size()], (Kind::Float, slope.device()));
        let mut layers = views(&self.layers, &flat).into_iter().zip(&self.parameters);
        for (layer, step) in self.layers.iter().zip(&tape.steps) {
            tangent = match (*layer, step) {
                (Layer::Linear { .. }, Step::Took(x)) => {
                    let (Some((into, [weight, _])), Some(delta)) = (layers.next(), deltas.pop()) else { break };
                    multiply(&tangent.addcmul(x, slope), &delta, &into[0]);
                    multiply(slope, &delta, &into[1].view([1, -1]));
                    if deltas.is_empty() {
                        break;
                    }
                    tangent.mm(weight)
                }
                (Layer::Conv(c), Step::Graph(graph)) => {
                    let (Some((into, [weight, bias])), Some(delta)) = (layers.next(), deltas.pop()) else { break };
                    let of_loss = graph.gradients(&(&delta * slope), &graph.leaves[1..]);
                    let next = Graph::new([&tangent, weight, bias], |[x, weight, _]| convolve(x, weight, None, c));
                    let of_penalty = next.gradients(&delta, &next.leaves[1..2]);
                    copy([&(&of_loss[0] + &of_penalty[0]), &of_loss[1]], [&into[0], &into[1]]);
                    next.output.detach()
                }
                (Layer::LeakyRelu, Step::Gave(y)) => y.leaky_relu_backward(&tangent, LEAK, true),
                (_, Step::Factors(factors)) => tangent * factors,
                _ => tangent,
            };
        }
        own(flat)
    }

    /// Numbers in all parameters.
    fn size(&self) -> i64 {
        self.layers.iter().map(Layer::size).sum::<usize>() as i64
    }
}

/// Runs a layer, in a graph if it is to be taken back.
fn through(traced: bool, own: [&Torch; 3], of: impl FnOnce([&Torch; 3]) -> Torch) -> (Torch, Step) {
    if !traced {
        return (of(own), Step::Nothing);
    }
    let graph = Graph::new(own, of);
    (graph.output.detach(), Step::Graph(graph))
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

fn copy(from: [&Torch; 2], into: [&Torch; 2]) {
    for (from, into) in from.into_iter().zip(into) {
        // A shallow clone is another handle of the same memory.
        into.shallow_clone().copy_(&from.view_as(into));
    }
}

/// `[batch, features]` as images, with zeros appended to the right and the bottom.
fn image_in(x: &Torch, c: Convolution) -> Torch {
    let side = c.side as i64;
    let x = x.view([-1, c.inputs as i64, side, side]);
    if c.append > 0 { x.constant_pad_nd([0, c.append as i64, 0, c.append as i64]) } else { x }
}

fn convolve(x: &Torch, weight: &Torch, bias: Option<&Torch>, c: Convolution) -> Torch {
    let [inputs, outputs, kernel, padding] = [c.inputs, c.outputs, c.kernel, c.padding].map(|size| size as i64);
    let weight = weight.view([outputs, inputs, kernel, kernel]);
    image_in(x, c).conv2d(&weight, bias, 1, padding, 1, 1).flatten(1, -1)
}

fn convolve_transposed(x: &Torch, weight: &Torch, bias: Option<&Torch>, c: Convolution) -> Torch {
    let [inputs, outputs, kernel, padding] = [c.inputs, c.outputs, c.kernel, c.padding].map(|size| size as i64);
    let weight = weight.view([inputs, outputs, kernel, kernel]);
    image_in(x, c).conv_transpose2d(&weight, bias, 1, padding, 0, 1, 1).flatten(1, -1)
}

/// Batch normalisation with the batch's own statistics; and its mean, and one over its standard deviation, `[channels]`.
fn standardise([x, scale, shift]: [&Torch; 3], [channels, spatial]: [i64; 2]) -> (Torch, Torch, Torch) {
    let images = x.view([-1, channels, spatial]);
    let (y, mean, deviation) =
        images.internal_native_batch_norm_legit_no_stats(Some(scale), Some(shift), true, 0.0, NORM_EPSILON);
    (y.view_as(x), mean, deviation)
}

/// Batch normalisation with running statistics.
fn normalise([x, scale, shift]: [&Torch; 3], [mean, variance]: &[Torch; 2], [channels, spatial]: [i64; 2]) -> Torch {
    let column = |row: &Torch| row.view([channels, 1]);
    let scale = column(&(scale / (variance + NORM_EPSILON).sqrt()));
    ((x.view([-1, channels, spatial]) - column(mean)) * scale + column(shift)).view_as(x)
}
