//! Freezing: batch normalisation becomes a fixed affine map, folded into the linear layer that follows it where there is one.

use super::{
    layer::{Layer, NORM_EPSILON},
    network::Weights,
};

/// The net that computes in evaluation mode what this one does, without normalisation and dropout.
pub fn freeze(weights: &Weights) -> Weights {
    let mut frozen = Weights { layers: Vec::new(), parameters: Vec::new(), running: Vec::new() };
    let mut parameters = weights.parameters.as_slice();
    let mut running = weights.running.as_slice();
    let mut pending: Option<(Vec<f64>, Vec<f64>)> = None;
    for layer in &weights.layers {
        let (own, rest) = parameters.split_at(layer.size());
        parameters = rest;
        match *layer {
            Layer::Dropout { .. } => {}
            Layer::BatchNorm { channels, spatial } => {
                let (statistics, rest) = running.split_at(2 * channels);
                running = rest;
                pending = Some(affine(own, statistics, channels, spatial));
            }
            Layer::Linear { inputs, outputs } => {
                let own = match pending.take() {
                    Some((scale, shift)) => fold(own, &scale, &shift, inputs, outputs),
                    None => own.to_vec(),
                };
                push(&mut frozen, *layer, own);
            }
            _ => {
                if let Some((scale, shift)) = pending.take() {
                    let numbers = scale.iter().chain(&shift).map(|&value| value as f32).collect();
                    push(&mut frozen, Layer::Affine { features: scale.len() }, numbers);
                }
                push(&mut frozen, *layer, own.to_vec());
            }
        }
    }
    frozen
}

fn push(weights: &mut Weights, layer: Layer, parameters: Vec<f32>) {
    weights.layers.push(layer);
    weights.parameters.extend(parameters);
}

/// γ (x − μ)/√(σ² + ε) + β as scale and shift of each feature.
fn affine(own: &[f32], statistics: &[f32], channels: usize, spatial: usize) -> (Vec<f64>, Vec<f64>) {
    let channel = |c: usize| {
        let scale = f64::from(own[c]) / (f64::from(statistics[channels + c]) + NORM_EPSILON).sqrt();
        (scale, f64::from(own[channels + c]) - f64::from(statistics[c]) * scale)
    };
    (0..channels).flat_map(|c| std::iter::repeat_n(channel(c), spatial)).unzip()
}

/// (x·s + t) W + b = x (s W) + (t W + b).
fn fold(own: &[f32], scale: &[f64], shift: &[f64], inputs: usize, outputs: usize) -> Vec<f32> {
    let (weight, bias) = own.split_at(inputs * outputs);
    let mut folded = Vec::with_capacity(own.len());
    let mut offset: Vec<f64> = bias.iter().map(|&b| f64::from(b)).collect();
    for (row, (s, t)) in weight.chunks_exact(outputs).zip(scale.iter().zip(shift)) {
        for (column, &w) in row.iter().enumerate() {
            folded.push((f64::from(w) * s) as f32);
            offset[column] += t * f64::from(w);
        }
    }
    folded.extend(offset.iter().map(|&b| b as f32));
    folded
}
