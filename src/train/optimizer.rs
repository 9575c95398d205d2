//! Optimisers over a net's flat parameters: one loop a step on the CPU, and elsewhere a handful of tensor operations.

use burn::tensor::{Tensor, TensorData};

use super::{
    archive::state,
    config::{OptimizerConfig, OptimizerKind, Schedule},
};
use crate::model::{Network, backprop::numbers, wide::wide};
#[cfg(feature = "libtorch")]
use crate::model::{torch, transfer::is_host};

/// An optimiser with its state.
#[derive(Clone, Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    steps: u64,
    step: u64,
    first: Option<Tensor<1>>,
    second: Option<Tensor<1>>,
}

state!(Optimizer { step, first, second });

impl Optimizer {
    /// An optimiser at its start, scheduled over this many steps.
    pub fn new(config: &OptimizerConfig, steps: u64) -> Self {
        Self { config: config.clone(), steps, step: 0, first: None, second: None }
    }

    /// Moves a net's parameters against a gradient.
    pub fn update(&mut self, network: &mut Network, gradient: Tensor<1>) {
        let rate = self.rate(self.step);
        self.step += 1;
        let time = i32::try_from(self.step).unwrap_or(i32::MAX);
        let (beta1, beta2) = (self.config.beta1.get(), self.config.beta2.get());
        let step = Step {
            kind: self.config.kind,
            decays: (beta1, beta2),
            epsilon: self.config.epsilon.get(),
            rate,
            corrections: (1.0 - beta1.powi(time), 1.0 - beta2.powi(time)),
        };
        let state = [&mut self.first, &mut self.second];
        network.set_parameters(step.take(network.parameters(), gradient, state));
    }

    /// The learning rate of the last step.
    pub fn learning_rate(&self) -> f64 {
        self.rate(self.step.saturating_sub(1))
    }

    /// The learning rate of a step, counted from 0.
    fn rate(&self, step: u64) -> f64 {
        let peak = self.config.rate.get();
        if step < self.config.warmup {
            return peak * (step + 1) as f64 / self.config.warmup as f64;
        }
        let span = self.steps.saturating_sub(self.config.warmup).max(1);
        let progress = ((step - self.config.warmup) as f64 / span as f64).min(1.0);
        let share = match self.config.schedule {
            Schedule::Constant => return peak,
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        let last = self.config.final_share.get();
        peak * (last + (1.0 - last) * share)
    }
}

/// The numbers of one step.
#[derive(Clone, Copy)]
struct Step {
    kind: OptimizerKind,
    decays: (f64, f64),
    epsilon: f64,
    rate: f64,
    /// 1 − βᵗ of both decays.
    corrections: (f64, f64),
}

impl Step {
    /// The new parameters.
    fn take(self, parameters: Tensor<1>, gradient: Tensor<1>, state: [&mut Option<Tensor<1>>; 2]) -> Tensor<1> {
        #[cfg(feature = "libtorch")]
        if !is_host(&parameters.device()) {
            return self.on_device(parameters, gradient, state);
        }
        self.on_host(parameters, gradient, state)
    }

    /// The new parameters, by libtorch's operations on whole tensors.
    #[cfg(feature = "libtorch")]
    fn on_device(
        self,
        parameters: Tensor<1>,
        gradient: Tensor<1>,
        [first, second]: [&mut Option<Tensor<1>>; 2],
    ) -> Tensor<1> {
        let Self { decays, epsilon, rate, corrections, .. } = self;
        match self.kind {
            OptimizerKind::Adam => {
                let second = average(second, gradient.clone().square(), decays.1);
                let first = average(first, gradient, decays.0);
                // With the correction of the second moment on both sides of the quotient, for one operation less.
                let root = corrections.1.sqrt();
                let scale = second.sqrt() + epsilon * root;
                torch::add_quotient(parameters, first * (-rate / corrections.0 * root), scale)
            }
            OptimizerKind::Rmsprop => {
                let second = average(second, gradient.clone().square(), decays.1);
                parameters - momentum(first, gradient / (second.sqrt() + epsilon), decays.0) * rate
            }
            OptimizerKind::Sgd => parameters - momentum(first, gradient, decays.0) * rate,
        }
    }

    /// The new parameters, by one loop.
    fn on_host(
        self,
        parameters: Tensor<1>,
        gradient: Tensor<1>,
        [first, second]: [&mut Option<Tensor<1>>; 2],
    ) -> Tensor<1> {
        let device = parameters.device();
        let size = parameters.dims()[0];
        let take = |state: &mut Option<Tensor<1>>| state.take().map_or_else(|| vec![0.0; size], numbers);
        let (mut p, g) = (numbers(parameters), numbers(gradient));
        let (mut m, mut v) = (take(first), take(second));
        let decays = (self.decays.0 as f32, self.decays.1 as f32);
        let mixes = ((1.0 - self.decays.0) as f32, (1.0 - self.decays.1) as f32);
        let (epsilon, rate, correction) = (self.epsilon as f32, self.rate as f32, self.corrections.1 as f32);
        let corrected = (self.rate / self.corrections.0) as f32;
        match self.kind {
            OptimizerKind::Adam => {
                adam(&mut p, &g, &mut m, &mut v, decays, mixes, epsilon, correction, corrected);
            }
            OptimizerKind::Rmsprop => rmsprop(&mut p, &g, &mut m, &mut v, decays, mixes.1, epsilon, rate),
            OptimizerKind::Sgd => sgd(&mut p, &g, &mut m, decays.0, rate),
        }
        let tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [size]), &device);
        *first = Some(tensor(m));
        if self.kind != OptimizerKind::Sgd {
            *second = Some(tensor(v));
        }
        tensor(p)
    }
}

wide! {
    #[expect(clippy::too_many_arguments, reason = "slices and numbers of one loop")]
    fn adam(
        p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], decays: (f32, f32), mixes: (f32, f32), epsilon: f32,
        correction: f32, rate: f32,
    ) {
        for ((p, &g), (m, v)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
            *v = *v * decays.1 + g * g * mixes.1;
            *m = *m * decays.0 + g * mixes.0;
            *p -= *m / ((*v / correction).sqrt() + epsilon) * rate;
        }
    }

    #[expect(clippy::too_many_arguments, reason = "slices and numbers of one loop")]
    fn rmsprop(
        p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], decays: (f32, f32), mix: f32, epsilon: f32, rate: f32,
    ) {
        for ((p, &g), (m, v)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
            *v = *v * decays.1 + g * g * mix;
            *m = *m * decays.0 + g / (v.sqrt() + epsilon);
            *p -= *m * rate;
        }
    }

    fn sgd(p: &mut [f32], g: &[f32], m: &mut [f32], decay: f32, rate: f32) {
        for ((p, &g), m) in p.iter_mut().zip(g).zip(m) {
            *m = *m * decay + g;
            *p -= *m * rate;
        }
    }

    /// `average` ← `average` · `keep` + x · `mix`.
    fn mix_in(average: &mut [f32], x: &[f32], keep: f32, mix: f32) {
        average.iter_mut().zip(x).for_each(|(average, x)| *average = *average * keep + x * mix);
    }
}

/// Exponential average from 0: s ← β s + (1 − β) x.
#[cfg(feature = "libtorch")]
fn average(state: &mut Option<Tensor<1>>, x: Tensor<1>, decay: f64) -> Tensor<1> {
    if decay == 0.0 {
        return x;
    }
    let next = match state.take() {
        Some(old) => torch::lerp(old, x, 1.0 - decay),
        None => x * (1.0 - decay),
    };
    *state = Some(next.clone());
    next
}

/// Momentum: s ← β s + x.
#[cfg(feature = "libtorch")]
fn momentum(state: &mut Option<Tensor<1>>, x: Tensor<1>, decay: f64) -> Tensor<1> {
    if decay == 0.0 {
        return x;
    }
    let next = match state.take() {
        Some(old) => old * decay + x,
        None => x,
    };
    *state = Some(next.clone());
    next
}

/// A moving average of a net's parameters, with a shorter memory at the start: decay min(d, (1 + t)/(10 + t)).
#[derive(Clone, Debug)]
pub struct Average {
    parameters: Tensor<1>,
    decay: f64,
    step: u64,
}

state!(Average { parameters, step });

impl Average {
    /// Starts at the net's parameters.
    pub fn new(network: &Network, decay: f64) -> Self {
        Self { parameters: network.parameters(), decay, step: 0 }
    }

    /// Takes the net's parameters in.
    pub fn update(&mut self, network: &Network) {
        self.step += 1;
        let decay = self.decay.min((1 + self.step) as f64 / (10 + self.step) as f64);
        self.parameters = if self.decay == 0.0 { network.parameters() } else { self.mixed(network, decay) };
    }

    fn mixed(&mut self, network: &Network, decay: f64) -> Tensor<1> {
        let device = network.device();
        let old = std::mem::replace(&mut self.parameters, Tensor::empty([0], &device));
        #[cfg(feature = "libtorch")]
        if !is_host(&device) {
            return torch::lerp(old, network.parameters(), 1.0 - decay);
        }
        let mut average = numbers(old);
        mix_in(&mut average, &numbers(network.parameters()), decay as f32, (1.0 - decay) as f32);
        let size = average.len();
        Tensor::from_data(TensorData::new(average, [size]), &device)
    }

    /// The net with the averaged parameters.
    pub fn network(&self, network: &Network) -> Network {
        let mut averaged = network.clone();
        averaged.set_parameters(self.parameters.clone());
        averaged
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::{Weights, device::here, layer::Layer};

    fn config(json: &str) -> OptimizerConfig {
        serde_json::from_str(json).unwrap()
    }

    /// Minimises Σ a_i x_i² from (1, −2, 3) for 20 steps, as scripts/reference/optimizers.py does in PyTorch.
    fn minimise(json: &str, device: &Device) -> Vec<f32> {
        let layers = vec![Layer::Linear { inputs: 2, outputs: 1 }];
        let weights = Weights { layers, parameters: vec![1.0, -2.0, 3.0], running: Vec::new() };
        let mut network = Network::new(&weights, device);
        let curvature = Tensor::<1>::from_floats([0.5, 1.0, 2.0], device);
        let mut optimizer = Optimizer::new(&config(json), 20);
        for _ in 0..20 {
            let gradient = network.parameters() * curvature.clone() * 2.0;
            optimizer.update(&mut network, gradient);
        }
        network.parameters().try_into_vec_as::<f32>().unwrap()
    }

    fn close(found: &[f32], reference: [f32; 3]) {
        for (x, y) in found.iter().zip(reference) {
            assert!((x - y).abs() < 2e-5, "{found:?} is not {reference:?}");
        }
    }

    #[test]
    fn adam_rmsprop_and_sgd_step_as_in_pytorch() {
        let reference: std::collections::BTreeMap<String, [f32; 3]> =
            serde_json::from_str(include_str!("../../tests/reference/optimizers.json")).unwrap();
        let constant = |rest: &str| format!(r#"{{"schedule": "constant", "rate": 0.05, {rest}}}"#);
        for device in here() {
            let minimise = |rest: &str| minimise(&constant(rest), &device);
            close(&minimise(r#""beta1": 0.5, "beta2": 0.9"#), reference["adam"]);
            close(&minimise(r#""kind": "rmsprop", "beta1": 0.3, "beta2": 0.9"#), reference["rmsprop"]);
            close(&minimise(r#""kind": "sgd", "beta1": 0.9"#), reference["sgd"]);
        }
    }

    #[test]
    fn schedules_start_at_the_rate_and_end_at_the_final_share() {
        for schedule in ["cosine", "linear"] {
            let text = format!(r#"{{"schedule": "{schedule}", "rate": 0.1, "final_share": 0.1, "warmup": 10}}"#);
            let optimizer = Optimizer::new(&config(&text), 110);
            assert!((optimizer.rate(0) - 0.01).abs() < 1e-12);
            assert!((optimizer.rate(10) - 0.1).abs() < 1e-12);
            assert!((optimizer.rate(60) - 0.055).abs() < 1e-12);
            assert!((optimizer.rate(110) - 0.01).abs() < 1e-12);
        }
    }
}
