//! The layers that nets are made of, as data: their parameters' shapes, and how they start.
//!
//! Activations are rows `[batch, features]` throughout; a convolution's features are its channels × height × width.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use serde::{Deserialize, Serialize};

/// Slope of leaky ReLU below 0.
pub const LEAK: f64 = 0.2;
/// Added to the variance in batch normalisation (PreciseGAN's value).
pub const NORM_EPSILON: f64 = 1e-3;

/// One layer of a net.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "layer", deny_unknown_fields)]
pub enum Layer {
    /// x W + b, W of shape `[inputs, outputs]`.
    Linear {
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
    },
    /// max(x, 0.2 x).
    LeakyRelu,
    /// tanh.
    Tanh,
    /// Batch normalisation over the batch and the `spatial` positions of each channel, with an affine map after it.
    BatchNorm {
        /// Channels.
        channels: usize,
        /// Positions in a channel; 1 after a linear layer.
        spatial: usize,
    },
    /// x · scale + shift by feature: a batch normalisation that has been frozen.
    Affine {
        /// Features.
        features: usize,
    },
    /// Inverted dropout in training, nothing in evaluation.
    Dropout {
        /// The share of features that is dropped.
        share: f64,
    },
    /// 2-D convolution, stride 1.
    Conv(Convolution),
    /// 2-D transposed convolution, stride 1.
    ConvTranspose(Convolution),
}

/// The shape of a convolution on square images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convolution {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Side of the image that comes in.
    pub side: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Padding on every side (convolution), or crop (transposed).
    pub padding: usize,
    /// Zeros appended to the right and the bottom before the layer.
    pub append: usize,
}

/// How many features layers in this order make of this many; `None` if one does not take what the one before it makes, one has no
/// features, or the first is not linear.
pub fn chained(layers: &[Layer], features: usize) -> Option<usize> {
    let Some(Layer::Linear { .. }) = layers.first() else { return None };
    let some = |features: &usize| *features > 0;
    layers.iter().try_fold(features, |features, layer| layer.outputs(features).filter(some)).filter(|_| some(&features))
}

/// Whether a net of these layers is linear but for masks, which are constant almost everywhere.
pub fn are_piecewise_linear(layers: &[Layer]) -> bool {
    !layers.iter().any(|layer| matches!(layer, Layer::Tanh | Layer::BatchNorm { .. }))
}

impl Convolution {
    /// No image is larger, nor a kernel, nor a padding: sums and products of a few of them stay within a word.
    const LARGEST: usize = 1 << 12;

    /// Features of the image that comes in.
    fn features(self) -> Option<usize> {
        self.inputs.checked_mul(self.side.checked_mul(self.side)?)
    }

    /// Features of the image that goes out, its side being this of the appended one that comes in.
    fn image(self, side: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        if [self.side, self.kernel, self.padding, self.append].into_iter().any(|size| size > Self::LARGEST)
            || self.kernel == 0
        {
            return None;
        }
        let side = side(self.side + self.append).filter(|side| *side > 0)?;
        self.outputs.checked_mul(side * side)
    }
}

impl Layer {
    /// Shapes of the layer's parameters, each `[rows, columns]`: weight, then bias (or scale, then shift).
    pub fn shapes(&self) -> Vec<[usize; 2]> {
        match *self {
            Self::Linear { inputs, outputs } => vec![[inputs, outputs], [1, outputs]],
            Self::BatchNorm { channels: n, .. } | Self::Affine { features: n } => vec![[1, n], [1, n]],
            Self::Conv(c) => vec![[c.outputs, c.inputs * c.kernel * c.kernel], [1, c.outputs]],
            Self::ConvTranspose(c) => vec![[c.inputs, c.outputs * c.kernel * c.kernel], [1, c.outputs]],
            Self::LeakyRelu | Self::Tanh | Self::Dropout { .. } => Vec::new(),
        }
    }

    /// Names of the parameters, in the order of [`shapes`](Self::shapes).
    pub fn parameter_names(&self) -> [&'static str; 2] {
        match self {
            Self::BatchNorm { .. } | Self::Affine { .. } => ["scale", "shift"],
            _ => ["weight", "bias"],
        }
    }

    /// How many features it makes of this many, if it takes as many.
    pub fn outputs(&self, features: usize) -> Option<usize> {
        let fits = |takes: Option<usize>, makes: Option<usize>| makes.filter(|_| takes == Some(features));
        match *self {
            Self::Linear { inputs, outputs } => fits(Some(inputs), Some(outputs)),
            Self::BatchNorm { channels, spatial } => fits(channels.checked_mul(spatial), Some(features)),
            Self::Affine { features: own } => fits(Some(own), Some(features)),
            Self::LeakyRelu | Self::Tanh => Some(features),
            Self::Dropout { share } => (0.0..1.0).contains(&share).then_some(features),
            Self::Conv(c) => fits(c.features(), c.image(|side| (side + 2 * c.padding + 1).checked_sub(c.kernel))),
            Self::ConvTranspose(c) => {
                fits(c.features(), c.image(|side| (side + c.kernel).checked_sub(2 * c.padding + 1)))
            }
        }
    }

    /// Numbers in all parameters.
    pub fn size(&self) -> usize {
        self.shapes().iter().map(|[rows, columns]| rows * columns).sum()
    }

    /// Appends fresh parameters: weights normal with variance 2 / fan-in (He et al. 2015), biases 0, scales 1.
    pub fn initialise(&self, rng: &mut ChaCha8Rng, parameters: &mut Vec<f32>) {
        let fan_in = match *self {
            Self::Linear { inputs, .. } => inputs,
            // With stride 1, each output position of either convolution sums this many products.
            Self::Conv(c) | Self::ConvTranspose(c) => c.inputs * c.kernel * c.kernel,
            Self::BatchNorm { channels: n, .. } | Self::Affine { features: n } => {
                parameters.extend(std::iter::repeat_n(1.0, n).chain(std::iter::repeat_n(0.0, n)));
                return;
            }
            Self::LeakyRelu | Self::Tanh | Self::Dropout { .. } => return,
        };
        let [[rows, columns], [_, biases]] = self.shapes()[..] else { return };
        let Ok(normal) = Normal::new(0.0f32, (2.0 / fan_in as f32).sqrt()) else { return };
        parameters.extend(normal.sample_iter(rng).take(rows * columns));
        parameters.extend(std::iter::repeat_n(0.0, biases));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::architecture,
        train::config::{Architecture, DiscriminatorConfig, GeneratorConfig},
    };

    #[test]
    fn every_architecture_is_a_chain_and_one_with_a_layer_less_is_none() {
        for architecture in [Architecture::Mlp, Architecture::PreciseganFc, Architecture::PreciseganCnn] {
            let generator = GeneratorConfig { architecture, ..GeneratorConfig::default() };
            let layers = architecture::generator(&generator, 7);
            assert_eq!(chained(&layers, generator.latent.get()), Some(7));
            let discriminator = DiscriminatorConfig { architecture, ..DiscriminatorConfig::default() };
            let mut layers = architecture::discriminator(&discriminator, 9);
            assert_eq!(chained(&layers, 9), Some(1));
            assert_eq!(chained(&layers, 8), None);
            layers.remove(0);
            assert_eq!(chained(&layers, 9), None);
        }
    }

    #[test]
    fn a_chain_begins_with_a_linear_layer_and_each_takes_what_comes() {
        let linear = |inputs, outputs| Layer::Linear { inputs, outputs };
        assert_eq!(chained(&[linear(3, 4), Layer::Tanh, linear(4, 2)], 3), Some(2));
        assert_eq!(chained(&[linear(3, 4), Layer::Tanh, linear(5, 2)], 3), None);
        assert_eq!(chained(&[Layer::LeakyRelu, linear(3, 4)], 3), None);
        assert_eq!(chained(&[linear(3, 0), linear(0, 2)], 3), None);
        assert_eq!(chained(&[], 3), None);
    }

    #[test]
    fn absurd_sizes_are_no_chain() {
        let huge = Convolution { inputs: usize::MAX, outputs: 1, side: 2, kernel: 1, padding: 0, append: 0 };
        for layer in [
            Layer::Conv(huge),
            Layer::Conv(Convolution { inputs: 1, side: usize::MAX, ..huge }),
            Layer::ConvTranspose(Convolution { inputs: 1, padding: usize::MAX, ..huge }),
            Layer::Conv(Convolution { inputs: 1, kernel: 4, ..huge }),
            Layer::BatchNorm { channels: usize::MAX, spatial: 2 },
            Layer::Dropout { share: f64::NAN },
        ] {
            assert_eq!(layer.outputs(4), None, "{layer:?}");
        }
    }
}
