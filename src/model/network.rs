//! A net: layers and their parameters on a device. How it is evaluated, forward and back, is in [`backprop`](super::backprop).
//!
//! All parameters are one flat vector, so that an optimiser or a moving average is a handful of operations whatever the net.

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{layer::Layer, transfer::lerp};

/// Share of the batch's statistics that enters the running ones at each step (Keras's momentum 0.99).
const NORM_UPDATE: f64 = 0.01;

/// A net on a device, outside of autodiff.
#[derive(Clone, Debug)]
pub struct Network {
    layers: Vec<Layer>,
    parameters: Tensor<1>,
    /// Mean and variance of each batch normalisation, `[1, channels]`.
    running: Vec<[Tensor<2>; 2]>,
}

/// The mode of a forward pass, and the statistics that it leaves behind for [`Network::absorb`].
#[derive(Default)]
pub struct Pass<'a> {
    training: bool,
    /// Whether nobody asks for the statistics.
    passing: bool,
    dropout: Option<&'a mut ChaCha8Rng>,
    statistics: Vec<[Tensor<2>; 2]>,
}

impl<'a> Pass<'a> {
    /// A pass in training mode: batch statistics, and dropout with this randomness.
    pub fn training(dropout: &'a mut ChaCha8Rng) -> Self {
        Self { training: true, dropout: Some(dropout), ..Self::default() }
    }

    /// As [`training`](Self::training), leaving no statistics behind.
    pub fn passing(dropout: &'a mut ChaCha8Rng) -> Self {
        Self { passing: true, ..Self::training(dropout) }
    }

    /// A pass in evaluation mode: running statistics, no dropout.
    pub fn evaluation() -> Self {
        Self::default()
    }

    /// The randomness of dropout, in training.
    pub(super) fn dropout(&mut self) -> Option<&mut ChaCha8Rng> {
        self.dropout.as_deref_mut()
    }

    /// Whether batch statistics are used and kept.
    pub(super) fn is_training(&self) -> bool {
        self.training
    }

    /// Whether somebody asks for the statistics of batches.
    pub(super) fn keeps_statistics(&self) -> bool {
        !self.passing
    }

    /// Keeps mean and variance of a batch in a batch normalisation, `[1, channels]` each.
    pub(super) fn keep(&mut self, mean: Tensor<2>, variance: Tensor<2>) {
        self.statistics.push([mean, variance]);
    }
}

/// The numbers of a net on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// The layers, each taking what the one before it makes.
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
                running.push([row(mean), row(variance)]);
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
        for row in self.running.iter().flatten() {
            running.extend(host(row.clone().reshape([-1]))?);
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

    /// Mean and variance of each batch normalisation, `[1, channels]`.
    #[cfg(any(test, feature = "libtorch"))]
    pub(super) fn running(&self) -> &[[Tensor<2>; 2]] {
        &self.running
    }

    /// All that changes in training: the flat parameters, and the running means and variances.
    pub fn state_mut(&mut self) -> (&mut Tensor<1>, impl Iterator<Item = &mut Tensor<2>>) {
        (&mut self.parameters, self.running.iter_mut().flatten())
    }

    /// Takes over the batch statistics that a training pass has seen.
    pub fn absorb(&mut self, pass: Pass<'_>) {
        for (running, new) in self.running.iter_mut().flatten().zip(pass.statistics.into_iter().flatten()) {
            *running = lerp(running.clone(), new, NORM_UPDATE);
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
}
