//! A net in evaluation mode, in single precision.

use super::graph::{Graph, Value, float, integers};
use crate::model::{
    Weights,
    freeze::freeze,
    layer::{Convolution, LEAK, Layer},
};

/// What a net makes of rows. Its tensors are named by `prefix`, the number of the layer and what they are to it.
pub(super) fn forward<'g>(weights: &Weights, prefix: &str, x: Value<'g>) -> Value<'g> {
    // Without dropout, and with batch normalisation as the affine map that it is in evaluation.
    let frozen = freeze(weights);
    let graph = x.graph();
    let mut parameters = frozen.parameters.as_slice();
    let mut x = x;
    for (index, layer) in frozen.layers.iter().enumerate() {
        let (own, rest) = parameters.split_at(layer.size());
        parameters = rest;
        let [first, second] = layer.parameter_names().map(|name| format!("{prefix}.{index}.{name}"));
        x = match *layer {
            Layer::Linear { inputs, outputs } => {
                let (weight, bias) = own.split_at(inputs * outputs);
                let weight = graph.floats(first, &[inputs, outputs], weight);
                graph.node("Gemm", &[x, weight, graph.floats(second, &[outputs], bias)], Vec::new())
            }
            Layer::Affine { features } => {
                let (scale, shift) = own.split_at(features);
                x * graph.floats(first, &[1, features], scale) + graph.floats(second, &[1, features], shift)
            }
            Layer::Conv(c) => convolve(graph, "Conv", c, [c.outputs, c.inputs], x, own, [first, second]),
            Layer::ConvTranspose(c) => {
                convolve(graph, "ConvTranspose", c, [c.inputs, c.outputs], x, own, [first, second])
            }
            Layer::LeakyRelu => graph.node("LeakyRelu", &[x], vec![float("alpha", LEAK as f32)]),
            Layer::Tanh => x.tanh(),
            // Freezing has left none.
            Layer::BatchNorm { .. } | Layer::Dropout { .. } => x,
        };
    }
    x
}

/// A convolution of rows that hold images, channels first.
fn convolve<'g>(
    graph: &'g Graph,
    op: &str,
    c: Convolution,
    channels: [usize; 2],
    x: Value<'g>,
    parameters: &[f32],
    [weight, bias]: [String; 2],
) -> Value<'g> {
    let side = c.side as i64;
    let mut images = x.reshape(&[-1, c.inputs as i64, side, side]);
    if c.append > 0 {
        // Before and after each of the four dimensions.
        let append = c.append as i64;
        images = graph.node("Pad", &[images, graph.integers(&[0, 0, 0, 0, 0, 0, append, append])], Vec::new());
    }
    let (kernel, biases) = parameters.split_at(parameters.len() - c.outputs);
    let kernel = graph.floats(weight, &[channels[0], channels[1], c.kernel, c.kernel], kernel);
    let attributes =
        vec![integers("kernel_shape", vec![c.kernel as i64; 2]), integers("pads", vec![c.padding as i64; 4])];
    let images = graph.node(op, &[images, kernel, graph.floats(bias, &[c.outputs], biases)], attributes);
    graph.node("Flatten", &[images], Vec::new())
}
