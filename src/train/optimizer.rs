//! Optimisers over a net's flat parameters: a handful of tensor operations a step, whatever the net.

use burn::tensor::Tensor;

use super::{
    archive::state,
    config::{OptimizerConfig, OptimizerKind, Schedule},
};
use crate::model::Network;

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
        let decays = (self.config.beta1.get(), self.config.beta2.get());
        let epsilon = self.config.epsilon.get();
        let time = i32::try_from(self.step).unwrap_or(i32::MAX);
        let change = match self.config.kind {
            OptimizerKind::Adam => {
                let correction = (1.0 - decays.0.powi(time), 1.0 - decays.1.powi(time));
                let second = average(&mut self.second, gradient.clone().square(), decays.1);
                let first = average(&mut self.first, gradient, decays.0);
                let scale = (second / correction.1).sqrt() + epsilon;
                first / scale * (rate / correction.0)
            }
            OptimizerKind::Rmsprop => {
                let second = average(&mut self.second, gradient.clone().square(), decays.1);
                momentum(&mut self.first, gradient / (second.sqrt() + epsilon), decays.0) * rate
            }
            OptimizerKind::Sgd => momentum(&mut self.first, gradient, decays.0) * rate,
        };
        network.set_parameters(network.parameters() - change);
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

/// Exponential average from 0: s ← β s + (1 − β) x.
fn average(state: &mut Option<Tensor<1>>, x: Tensor<1>, decay: f64) -> Tensor<1> {
    if decay == 0.0 {
        return x;
    }
    let new = x * (1.0 - decay);
    let next = match state.take() {
        Some(old) => old * decay + new,
        None => new,
    };
    *state = Some(next.clone());
    next
}

/// Momentum: s ← β s + x.
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
        self.parameters = if self.decay == 0.0 {
            network.parameters()
        } else {
            self.parameters.clone() * decay + network.parameters() * (1.0 - decay)
        };
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
    use crate::model::{Weights, layer::Layer};

    fn config(json: &str) -> OptimizerConfig {
        serde_json::from_str(json).unwrap()
    }

    /// Minimises Σ a_i x_i² from (1, −2, 3) for 20 steps, as scripts/reference/optimizers.py does in PyTorch.
    fn minimise(json: &str) -> Vec<f32> {
        let device = Device::flex();
        let layers = vec![Layer::Linear { inputs: 2, outputs: 1 }];
        let weights = Weights { layers, parameters: vec![1.0, -2.0, 3.0], running: Vec::new() };
        let mut network = Network::new(&weights, &device);
        let curvature = Tensor::<1>::from_floats([0.5, 1.0, 2.0], &device);
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
        close(&minimise(&constant(r#""beta1": 0.5, "beta2": 0.9"#)), reference["adam"]);
        close(&minimise(&constant(r#""kind": "rmsprop", "beta1": 0.3, "beta2": 0.9"#)), reference["rmsprop"]);
        close(&minimise(&constant(r#""kind": "sgd", "beta1": 0.9"#)), reference["sgd"]);
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
