//! The architectures: each a list of layers that reads like its paper.

use super::layer::{Convolution, Layer};
use crate::train::config::{Architecture, DiscriminatorConfig, GeneratorConfig};

/// Layers of a generator from a latent vector to `width` coordinates.
pub fn generator(config: &GeneratorConfig, width: usize) -> Vec<Layer> {
    let latent = config.latent.get();
    match config.architecture {
        Architecture::Mlp => {
            let hidden: Vec<usize> = config.layers.iter().map(|width| width.get()).collect();
            mlp(latent, &hidden, width)
        }
        Architecture::PreciseganFc => precisegan_fc_generator(latent, width),
        Architecture::PreciseganCnn => precisegan_cnn_generator(latent, width),
    }
}

/// Layers of a discriminator from `inputs` features to one logit.
pub fn discriminator(config: &DiscriminatorConfig, inputs: usize) -> Vec<Layer> {
    let mut layers = match config.architecture {
        Architecture::Mlp => {
            let hidden: Vec<usize> = config.layers.iter().map(|width| width.get()).collect();
            mlp(inputs, &hidden, 1)
        }
        Architecture::PreciseganFc => precisegan_fc_discriminator(inputs),
        Architecture::PreciseganCnn => precisegan_cnn_discriminator(inputs),
    };
    if config.dropout.get() > 0.0 {
        layers.insert(layers.len() - 1, Layer::Dropout { share: config.dropout.get() });
    }
    layers
}

/// Fully connected layers with leaky ReLU between them, and a linear output.
pub fn mlp(inputs: usize, hidden: &[usize], outputs: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut width = inputs;
    for &next in hidden {
        layers.extend([Layer::Linear { inputs: width, outputs: next }, Layer::LeakyRelu]);
        width = next;
    }
    layers.push(Layer::Linear { inputs: width, outputs });
    layers
}

fn norm(channels: usize, spatial: usize) -> Layer {
    Layer::BatchNorm { channels, spatial }
}

/// PreciseGAN's fully connected generator: 64–128–64, leaky ReLU, then batch normalisation; tanh output.
fn precisegan_fc_generator(latent: usize, width: usize) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut inputs = latent;
    for outputs in [64, 128, 64] {
        layers.extend([Layer::Linear { inputs, outputs }, Layer::LeakyRelu, norm(outputs, 1)]);
        inputs = outputs;
    }
    layers.extend([Layer::Linear { inputs, outputs: width }, Layer::Tanh]);
    layers
}

/// PreciseGAN's fully connected discriminator; the last hidden layer has no activation.
fn precisegan_fc_discriminator(inputs: usize) -> Vec<Layer> {
    let mut layers = mlp(inputs, &[64, 64, 128, 64, 64], 32);
    layers.push(Layer::Linear { inputs: 32, outputs: 1 });
    layers
}

/// PreciseGAN's convolutional generator: 2 × 8 × 8, two transposed convolutions to 32 and 16 channels; tanh output.
fn precisegan_cnn_generator(latent: usize, width: usize) -> Vec<Layer> {
    let first = Convolution { inputs: 2, outputs: 32, side: 8, kernel: 2, padding: 1, append: 1 };
    let second = Convolution { inputs: 32, outputs: 16, side: 8, kernel: 3, padding: 1, append: 0 };
    vec![
        Layer::Linear { inputs: latent, outputs: 128 },
        Layer::LeakyRelu,
        norm(128, 1),
        Layer::ConvTranspose(first),
        Layer::LeakyRelu,
        norm(32, 64),
        Layer::ConvTranspose(second),
        Layer::LeakyRelu,
        norm(16, 64),
        Layer::Linear { inputs: 1024, outputs: width },
        Layer::Tanh,
    ]
}

/// PreciseGAN's convolutional discriminator: 2 × 8 × 8, three convolutions to 64, 32 and 16 channels.
fn precisegan_cnn_discriminator(inputs: usize) -> Vec<Layer> {
    let conv =
        |inputs, outputs| Layer::Conv(Convolution { inputs, outputs, side: 8, kernel: 3, padding: 1, append: 0 });
    vec![
        Layer::Linear { inputs, outputs: 128 },
        Layer::LeakyRelu,
        conv(2, 64),
        Layer::LeakyRelu,
        conv(64, 32),
        Layer::LeakyRelu,
        conv(32, 16),
        Layer::LeakyRelu,
        Layer::Linear { inputs: 1024, outputs: 1 },
    ]
}
