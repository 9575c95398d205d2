//! The discriminator: its losses on weighted batches, its gradient penalties, and what it tells a generator.
//!
//! d is the logit, sp = softplus, w the weights of reals and fakes (mean 1 each):
//! - relativistic: L_D = E[w_r w_f sp(d_f − d_r)], L_G = E[w_r w_f sp(d_r − d_f)], with R1 and R2 (R3GAN, Huang et al. 2024);
//! - non-saturating: L_D = E[w_r sp(−d_r)] + E[w_f sp(d_f)], L_G = E[w_f sp(−d_f)] (Goodfellow et al. 2014), with R1;
//! - WGAN-GP: L_D = E[w_f d_f] − E[w_r d_r] + λ E(|∇D(x̂)| − 1)², L_G = −E[w_f d_f] (Gulrajani et al. 2017).
//!
//! R1 and R2 are γ/2 E[w |∇D|²] on reals and fakes (Mescheder et al. 2018). Gradients are taken with respect to all that the
//! discriminator sees, derived observables included, as if they were independent inputs.

use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    TrainError,
    config::{LossConfig, LossKind, OptimizerConfig},
    optimizer::Optimizer,
    reals::Batch,
    softplus,
};
use crate::{
    data::Description,
    model::{Derived, Discriminator, Network, Pass, Weights},
};

/// A loss with its numbers resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    kind: LossKind,
    r1: f64,
    r2: f64,
    penalty: f64,
    /// Discriminator steps for each generator step.
    pub critic_steps: usize,
}

impl Loss {
    /// Whether the discriminator is a Wasserstein critic, which compares measures of equal mass.
    pub fn is_wasserstein(self) -> bool {
        self.kind == LossKind::WganGp
    }
}

impl From<&LossConfig> for Loss {
    fn from(config: &LossConfig) -> Self {
        let (r1, r2, penalty, critic_steps) = match config.kind {
            LossKind::Relativistic => (0.1, 0.1, 0.0, 1),
            LossKind::NonSaturating => (0.1, 0.0, 0.0, 1),
            LossKind::WganGp => (0.0, 0.0, 10.0, 5),
        };
        Self {
            kind: config.kind,
            r1: config.r1.map_or(r1, crate::value::NonNegative::get),
            r2: config.r2.map_or(r2, crate::value::NonNegative::get),
            penalty: config.penalty.map_or(penalty, crate::value::NonNegative::get),
            critic_steps: config.critic_steps.map_or(critic_steps, crate::value::Width::get),
        }
    }
}

/// A discriminator in training.
pub struct Adversary {
    net: Network,
    derived: Derived,
    loss: Loss,
    optimizer: Optimizer,
    device: Device,
    dropout: ChaCha8Rng,
}

impl Adversary {
    /// Puts a discriminator on a device (without autodiff), with a fresh optimiser over this many of its own steps.
    pub fn new(
        discriminator: &Discriminator,
        loss: Loss,
        optimizer: &OptimizerConfig,
        generator_steps: u64,
        device: &Device,
        dropout: ChaCha8Rng,
    ) -> Self {
        Self {
            net: Network::new(&discriminator.net, device),
            derived: discriminator.derived.clone(),
            loss,
            optimizer: Optimizer::new(optimizer, generator_steps * loss.critic_steps as u64),
            device: device.clone(),
            dropout,
        }
    }

    /// Its weights and derived observables on the host.
    pub fn discriminator(&self) -> Option<Discriminator> {
        Some(Discriminator { derived: self.derived.clone(), net: self.net.weights()? })
    }

    /// The derived observables that it sees.
    pub fn derived(&self) -> &Derived {
        &self.derived
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// What it sees of generated rows, with or without autodiff.
    pub fn see(&self, description: &Description, rows: Tensor<2>) -> Result<Tensor<2>, TrainError> {
        Ok(self.derived.forward(description, rows)?)
    }

    /// Logits outside of autodiff and dropout.
    pub fn logits(&self, rows: Tensor<2>) -> Tensor<2> {
        self.net.plain().forward(rows, &mut Pass::evaluation())
    }

    /// One step on as many reals as fakes; returns the loss.
    pub fn learn(&mut self, real: &Batch, fake: &Batch, rng: &mut ChaCha8Rng) -> Tensor<1> {
        let size = real.rows.dims()[0];
        let (loss, gradient) = {
            let bound = self.net.tracked();
            let mut pass = Pass::training(&mut self.dropout);
            let both = Tensor::cat(vec![real.rows.clone(), fake.rows.clone()], 0);
            let logits = bound.forward(Tensor::from_inner(both), &mut pass);
            let (d_real, d_fake) = (logits.clone().slice(0..size), logits.slice(size..2 * size));
            let (w_real, w_fake) = (Tensor::from_inner(real.weights.clone()), Tensor::from_inner(fake.weights.clone()));
            let loss = match self.loss.kind {
                LossKind::Relativistic => (softplus(d_fake - d_real) * w_real * w_fake).mean(),
                LossKind::NonSaturating => {
                    (softplus(d_real.neg()) * w_real).mean() + (softplus(d_fake) * w_fake).mean()
                }
                LossKind::WganGp => (d_fake * w_fake).mean() - (d_real * w_real).mean(),
            };
            let squared = |gradient: Tensor<2>| gradient.square().sum_dim(1);
            let mean_over = |weighted: Tensor<2>| weighted.sum() / size as f64;
            let mut penalised = loss.clone();
            if self.loss.r1 > 0.0 && self.loss.r2 > 0.0 {
                let weights =
                    [real.weights.clone() * (self.loss.r1 / 2.0), fake.weights.clone() * (self.loss.r2 / 2.0)];
                let weights = Tensor::from_inner(Tensor::cat(weights.to_vec(), 0));
                penalised = penalised + mean_over(squared(bound.input_gradient(&pass)) * weights);
            } else if self.loss.r1 > 0.0 || self.loss.r2 > 0.0 {
                let (range, batch, gamma) = if self.loss.r1 > 0.0 {
                    (0..size, real, self.loss.r1)
                } else {
                    (size..2 * size, fake, self.loss.r2)
                };
                let weights = Tensor::from_inner(batch.weights.clone() * (gamma / 2.0));
                penalised = penalised + mean_over(squared(bound.input_gradient(&pass.rows(range))) * weights);
            }
            if self.loss.penalty > 0.0 {
                let between = interpolate(real, fake, rng, &self.device);
                let mut pass = Pass::evaluation();
                self.net.plain().forward(between, &mut pass);
                let norm = (squared(bound.input_gradient(&pass)) + 1e-12).sqrt();
                penalised = penalised + (norm - 1.0).square().mean() * self.loss.penalty;
            }
            let gradients = penalised.backward();
            (loss.inner(), bound.gradient(&gradients))
        };
        self.optimizer.update(&mut self.net, gradient);
        loss
    }

    /// The loss of a generator on what it made (`seen`, inside of autodiff) with weights `[batch, 1]`; its gradient reaches
    /// the generator and not the discriminator. `real` gives the partners of relativistic pairs.
    pub fn generator_loss(&mut self, real: &Batch, seen: Tensor<2>, weights: Tensor<2>) -> Tensor<1> {
        let mut pass = Pass::training(&mut self.dropout);
        let d_fake = self.net.constant().forward(seen, &mut pass);
        let weights = Tensor::from_inner(weights);
        match self.loss.kind {
            LossKind::Relativistic => {
                let d_real = Tensor::from_inner(self.net.plain().forward(real.rows.clone(), &mut pass));
                (softplus(d_real - d_fake) * Tensor::from_inner(real.weights.clone()) * weights).mean()
            }
            LossKind::NonSaturating => (softplus(d_fake.neg()) * weights).mean(),
            LossKind::WganGp => (d_fake * weights).mean().neg(),
        }
    }

    /// f of the mixture weight's gradient dL/da = p q (E_G1 f − E_G f), averaged over fakes with these logits.
    pub fn weight_signal(&self, d_fake: Tensor<2>, d_real: Tensor<2>) -> Tensor<1> {
        match self.loss.kind {
            LossKind::Relativistic => softplus(d_real.mean().reshape([1, 1]) - d_fake).mean(),
            LossKind::NonSaturating => softplus(d_fake.neg()).mean(),
            LossKind::WganGp => d_fake.mean().neg(),
        }
    }
}

/// Points on the lines between pairs of a real and a fake.
fn interpolate(real: &Batch, fake: &Batch, rng: &mut ChaCha8Rng, device: &Device) -> Tensor<2> {
    let size = real.rows.dims()[0];
    let share: Vec<f32> = (0..size).map(|_| rng.random()).collect();
    let share = Tensor::<2>::from_data(TensorData::new(share, [size, 1]), device);
    fake.rows.clone() + (real.rows.clone() - fake.rows.clone()) * share
}

/// A fresh discriminator of these layers.
pub fn fresh(layers: Vec<crate::model::layer::Layer>, derived: Derived, rng: &mut ChaCha8Rng) -> Discriminator {
    Discriminator { derived, net: Weights::fresh(layers, rng) }
}
