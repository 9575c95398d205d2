//! The discriminator: its losses on weighted batches, its gradient penalties, and what it tells a generator.
//!
//! d is the logit, sp = softplus, w the weights of reals and fakes (mean 1 each):
//! - relativistic: L_D = E[w_r w_f sp(d_f − d_r)], L_G = E[w_r w_f sp(d_r − d_f)], with R1 and R2 (R3GAN, Huang et al. 2024);
//! - non-saturating: L_D = E[w_r sp(−d_r)] + E[w_f sp(d_f)], L_G = E[w_f sp(−d_f)] (Goodfellow et al. 2014), with R1;
//! - WGAN-GP: L_D = E[w_f d_f] − E[w_r d_r] + λ E(|∇D(x̂)| − 1)², L_G = −E[w_f d_f] (Gulrajani et al. 2017).
//!
//! R1 and R2 are γ/2 E[w |∇D|²] on reals and fakes (Mescheder et al. 2018). Gradients are taken with respect to all that the
//! discriminator sees, derived observables included, as if they were independent inputs.

use burn::tensor::{Device, Tensor, activation::sigmoid};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    TrainError,
    archive::state,
    config::{LossConfig, LossKind, OptimizerConfig},
    optimizer::Optimizer,
    reals::Batch,
    softplus,
};
use crate::{
    data::Description,
    model::{
        Derived, Discriminator, Network, Pass, Traced, Weights,
        backprop::{NORM_OFFSET, Penalty},
        derived::host,
        transfer::upload,
    },
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

/// A loss that is worked out where somebody asks for it: Σ E[w f(x)] over terms of x and w, `[batch, 1]` each.
pub struct LossValue {
    /// Whether f is softplus; else it is x itself.
    softplus: bool,
    terms: Vec<[Tensor<2>; 2]>,
}

impl LossValue {
    fn of(loss: Loss, terms: Vec<[Tensor<2>; 2]>) -> Self {
        Self { softplus: !loss.is_wasserstein(), terms }
    }

    /// Its number, on the device.
    pub fn number(&self) -> Tensor<1> {
        let term = |[x, weights]: &[Tensor<2>; 2]| {
            let value = if self.softplus { softplus(x.clone()) } else { x.clone() };
            (value * weights.clone()).mean()
        };
        self.terms.iter().map(term).reduce(|sum, term| sum + term).unwrap_or_else(|| unreachable!("a loss has terms"))
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

state!(Adversary { net, optimizer, dropout });

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

    /// The net as it stands.
    pub fn network(&self) -> &Network {
        &self.net
    }

    /// The learning rate of its last step.
    pub fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate()
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
        self.net.forward(rows, &mut Pass::evaluation())
    }

    /// One step on as many reals as fakes; returns the loss.
    pub fn learn(&mut self, real: &Batch, fake: &Batch, rng: &mut ChaCha8Rng) -> Result<LossValue, TrainError> {
        let between = (self.loss.penalty > 0.0).then(|| interpolate(real, fake, rng, &self.device));
        let mut pass = Pass::training(&mut self.dropout);
        let (loss, gradient) = discriminate(&self.net, self.loss, real, fake, between, &mut pass)?;
        self.optimizer.update(&mut self.net, gradient);
        Ok(loss)
    }

    /// What it makes of a batch as it stands, without dropout: the means of its weighted logits, `d_real` and `d_fake`, and, where the
    /// loss has gradient penalties, their sum, `penalty`. No draw is taken from `rng`, but from a copy of it.
    pub fn look(&self, real: &Batch, fake: &Batch, rng: &ChaCha8Rng) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let Loss { r1, r2, penalty, .. } = self.loss;
        let judged = |rows: Tensor<2>| {
            let (logits, traced) = Traced::forward(&self.net, rows, &mut Pass::evaluation());
            let slope = logits.ones_like();
            (logits, traced.input(slope).square().sum_dim(1))
        };
        let mean = |values: Tensor<2>, batch: &Batch| (values * batch.weights.clone()).mean();
        let ((d_real, of_real), (d_fake, of_fake)) = (judged(real.rows.clone()), judged(fake.rows.clone()));
        let mut sum = mean(of_real, real) * (r1 / 2.0) + mean(of_fake, fake) * (r2 / 2.0);
        if penalty > 0.0 {
            let (_, squared) = judged(interpolate(real, fake, &mut rng.clone(), &self.device));
            sum = sum + ((squared + NORM_OFFSET).sqrt() - 1.0).square().mean() * penalty;
        }
        let values = host(Tensor::cat(vec![mean(d_real, real), mean(d_fake, fake), sum], 0))?;
        let looked = ["d_real", "d_fake", "penalty"].into_iter().zip(values.into_iter().map(f64::from));
        Ok(looked.take(if r1 + r2 + penalty > 0.0 { 3 } else { 2 }).collect())
    }

    /// The loss of a generator on encoded events that it `made`, with weights `[batch, 1]`, and the gradient of the loss with
    /// respect to these events. `real` gives the partners of relativistic pairs.
    pub fn judge(
        &mut self,
        description: &Description,
        real: &Batch,
        made: Tensor<2>,
        weights: Tensor<2>,
    ) -> Result<(LossValue, Tensor<2>), TrainError> {
        let (seen, appended) = self.derived.traced(description, made)?;
        let (loss, slope) = self.generator_loss(real, seen, weights);
        Ok((loss, appended.backward(slope)))
    }

    /// The loss of a generator on what is seen of its events, and its gradient with respect to that.
    fn generator_loss(&mut self, real: &Batch, seen: Tensor<2>, weights: Tensor<2>) -> (LossValue, Tensor<2>) {
        let mut pass = Pass::training(&mut self.dropout);
        let (d_fake, traced) = Traced::forward(&self.net, seen, &mut pass);
        let size = d_fake.dims()[0] as f64;
        let (x, weights) = match self.loss.kind {
            LossKind::Relativistic => {
                let d_real = self.net.forward(real.rows.clone(), &mut pass);
                (d_real - d_fake, real.weights.clone() * weights)
            }
            LossKind::NonSaturating | LossKind::WganGp => (d_fake.neg(), weights),
        };
        let slope = if self.loss.is_wasserstein() { weights.clone() } else { sigmoid(x.clone()) * weights.clone() };
        (LossValue::of(self.loss, vec![[x, weights]]), traced.input(slope / -size))
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

/// The loss on reals and fakes and its flat gradient with the penalties'.
fn discriminate(
    net: &Network,
    loss: Loss,
    real: &Batch,
    fake: &Batch,
    between: Option<Tensor<2>>,
    pass: &mut Pass<'_>,
) -> Result<(LossValue, Tensor<1>), TrainError> {
    let size = real.rows.dims()[0];
    let both = |real: Tensor<2>, fake: Tensor<2>| Tensor::cat(vec![real, fake], 0);
    let (logits, traced) = Traced::forward(net, both(real.rows.clone(), fake.rows.clone()), pass);
    let (d_real, d_fake) = (logits.clone().slice(0..size), logits.slice(size..2 * size));
    let (w_real, w_fake) = (real.weights.clone(), fake.weights.clone());
    let (terms, outputs) = match loss.kind {
        LossKind::Relativistic => {
            let (x, weights) = (d_fake - d_real, w_real * w_fake);
            let slope = sigmoid(x.clone()) * weights.clone();
            (vec![[x, weights]], both(slope.clone().neg(), slope))
        }
        LossKind::NonSaturating => {
            let x = d_real.neg();
            let slopes = both(sigmoid(x.clone()).neg() * w_real.clone(), sigmoid(d_fake.clone()) * w_fake.clone());
            (vec![[x, w_real], [d_fake, w_fake]], slopes)
        }
        LossKind::WganGp => {
            let slopes = both(w_real.clone().neg(), w_fake.clone());
            (vec![[d_fake, w_fake], [d_real.neg(), w_real]], slopes)
        }
    };
    let outputs = outputs / size as f64;
    let mut gradient = if loss.r1 > 0.0 || loss.r2 > 0.0 {
        let weights = both(real.weights.clone() * loss.r1, fake.weights.clone() * loss.r2) / size as f64;
        penalised(&traced, outputs, Penalty::Zero(&weights))?
    } else {
        traced.parameters(outputs)
    };
    if let Some(between) = between {
        let (logits, traced) = Traced::forward(net, between, &mut Pass::evaluation());
        let weight = loss.penalty / size as f64;
        gradient = gradient + penalised(&traced, logits.zeros_like(), Penalty::One(weight))?;
    }
    Ok((LossValue::of(loss, terms), gradient))
}

/// The flat gradient of Σ output · `slope` and a penalty.
fn penalised(traced: &Traced, slope: Tensor<2>, penalty: Penalty<'_>) -> Result<Tensor<1>, TrainError> {
    let unusable =
        || TrainError::Unusable("gradient penalties need a discriminator that is linear but for masks".into());
    traced.penalised(slope, penalty).ok_or_else(unusable)
}

/// Points on the lines between pairs of a real and a fake.
fn interpolate(real: &Batch, fake: &Batch, rng: &mut ChaCha8Rng, device: &Device) -> Tensor<2> {
    let size = real.rows.dims()[0];
    let share: Vec<f32> = (0..size).map(|_| rng.random()).collect();
    let share = upload(share, [size, 1], device);
    fake.rows.clone() + (real.rows.clone() - fake.rows.clone()) * share
}

/// A fresh discriminator of these layers.
pub fn fresh(layers: Vec<crate::model::layer::Layer>, derived: Derived, rng: &mut ChaCha8Rng) -> Discriminator {
    Discriminator { derived, net: Weights::fresh(layers, rng) }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use rand::SeedableRng;

    use super::*;
    use crate::{
        model::{
            architecture::{discriminator, mlp},
            backprop::{numbers, reference::Bound},
            device::here,
            layer::Layer,
            noise,
            transfer::is_host,
        },
        train::config::{Architecture, DiscriminatorConfig},
    };

    /// A batch of `[16, 5]` around a mean, with weights that differ.
    fn batch(mean: f64, rng: &mut ChaCha8Rng) -> Batch {
        let device = Device::flex();
        let rows = Tensor::<2>::from_data(TensorData::new(noise(80, rng), [16, 5]), &device) + mean;
        let weights = Tensor::<2>::from_data(TensorData::new(noise(16, rng), [16, 1]), &device).abs() + 0.1;
        Batch { rows, weights }
    }

    #[test]
    fn a_look_gives_the_means_of_logits_and_the_penalties_and_draws_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let layers = vec![Layer::Linear { inputs: 5, outputs: 1 }];
        // Its gradient is the same everywhere, of norm 5.
        let net = Weights { layers, parameters: vec![3.0, 0.0, 0.0, 4.0, 0.0, 0.5], running: Vec::new() };
        let discriminator = Discriminator { derived: Derived::default(), net };
        let (real, fake) = (batch(0.5, &mut rng), batch(-0.5, &mut rng));
        let mean = |tensor: Tensor<2>| f64::from(tensor.mean().into_scalar::<f32>());
        for (kind, r1, r2, penalty) in [
            (LossKind::Relativistic, 0.2, 0.6, 0.0),
            (LossKind::NonSaturating, 0.0, 0.0, 0.0),
            (LossKind::WganGp, 0.0, 0.0, 10.0),
        ] {
            let loss = Loss { kind, r1, r2, penalty, critic_steps: 1 };
            let config = OptimizerConfig::default();
            let adversary = Adversary::new(&discriminator, loss, &config, 10, &Device::flex(), rng.clone());
            let looked: std::collections::BTreeMap<_, _> =
                adversary.look(&real, &fake, &rng).unwrap().into_iter().collect();
            for (name, batch) in [("d_real", &real), ("d_fake", &fake)] {
                let logits = adversary.logits(batch.rows.clone());
                assert!((looked[name] - mean(logits * batch.weights.clone())).abs() < 1e-5, "{looked:?}");
            }
            let zero_centred = 25.0 / 2.0 * (r1 * mean(real.weights.clone()) + r2 * mean(fake.weights.clone()));
            let expected = zero_centred + penalty * 16.0;
            match looked.get("penalty") {
                Some(found) => assert!((found - expected).abs() < 1e-4 * expected, "{found} is not {expected}"),
                None => assert_eq!(expected, 0.0),
            }
        }
    }

    /// As [`discriminate`], on the CPU and by autodiff.
    fn by_autodiff(
        net: &Network,
        loss: Loss,
        real: &Batch,
        fake: &Batch,
        between: Option<Tensor<2>>,
        pass: &mut Pass<'_>,
    ) -> (Tensor<1>, Tensor<1>) {
        let size = real.rows.dims()[0];
        let bound = Bound::new(net);
        let both = Tensor::cat(vec![real.rows.clone(), fake.rows.clone()], 0);
        let (logits, masks) = bound.forward(Tensor::from_inner(both), pass);
        let (d_real, d_fake) = (logits.clone().slice(0..size), logits.slice(size..2 * size));
        let (w_real, w_fake) = (Tensor::from_inner(real.weights.clone()), Tensor::from_inner(fake.weights.clone()));
        let value = match loss.kind {
            LossKind::Relativistic => (softplus(d_fake - d_real) * w_real * w_fake).mean(),
            LossKind::NonSaturating => (softplus(d_real.neg()) * w_real).mean() + (softplus(d_fake) * w_fake).mean(),
            LossKind::WganGp => (d_fake * w_fake).mean() - (d_real * w_real).mean(),
        };
        let squared = |gradient: Tensor<2>| gradient.square().sum_dim(1);
        let mut penalised = value.clone();
        if loss.r1 > 0.0 || loss.r2 > 0.0 {
            let weights = [real.weights.clone() * (loss.r1 / 2.0), fake.weights.clone() * (loss.r2 / 2.0)];
            let weights = Tensor::from_inner(Tensor::cat(weights.to_vec(), 0));
            penalised = penalised + (squared(bound.input_gradient(&masks)) * weights).sum() / size as f64;
        }
        if let Some(between) = between {
            let (_, masks) = bound.forward(Tensor::from_inner(between), &mut Pass::evaluation());
            let norm = (squared(bound.input_gradient(&masks)) + NORM_OFFSET).sqrt();
            penalised = penalised + (norm - 1.0).square().mean() * loss.penalty;
        }
        let gradients = penalised.backward();
        (value.inner(), bound.gradient(&gradients))
    }

    #[test]
    fn the_gradient_by_hand_is_that_of_autodiff_for_every_loss() {
        let losses = [
            (LossKind::Relativistic, 0.3, 0.7, 0.0),
            (LossKind::NonSaturating, 0.5, 0.0, 0.0),
            (LossKind::NonSaturating, 0.0, 0.0, 0.0),
            (LossKind::WganGp, 0.0, 0.0, 10.0),
        ];
        for (device, convolutional) in here().into_iter().flat_map(|device| [(device.clone(), false), (device, true)]) {
            for (kind, r1, r2, penalty) in losses {
                let loss = Loss { kind, r1, r2, penalty, critic_steps: 1 };
                let mut rng = ChaCha8Rng::seed_from_u64(4);
                let layers = if convolutional {
                    let architecture = Architecture::PreciseganCnn;
                    discriminator(&DiscriminatorConfig { architecture, ..DiscriminatorConfig::default() }, 5)
                } else {
                    let mut layers = mlp(5, &[12, 8], 1);
                    if is_host(&device) {
                        layers.insert(2, Layer::Dropout { share: 0.3 });
                    }
                    layers
                };
                let mut weights = Weights::fresh(layers, &mut rng);
                weights.parameters.iter_mut().enumerate().for_each(|(i, w)| *w += 0.01 * (i as f32).sin());
                let (real, fake) = (batch(0.5, &mut rng), batch(-0.5, &mut rng));
                let between = (penalty > 0.0).then(|| interpolate(&real, &fake, &mut rng, &Device::flex()));
                let same_dropout = || ChaCha8Rng::seed_from_u64(9);
                let (mut one, mut other) = (same_dropout(), same_dropout());
                let net = Network::new(&weights, &Device::flex());
                let auto = by_autodiff(&net, loss, &real, &fake, between.clone(), &mut Pass::training(&mut other));
                let there = |batch: &Batch| {
                    let [rows, weights] = [&batch.rows, &batch.weights].map(|tensor| tensor.clone().to_device(&device));
                    Batch { rows, weights }
                };
                let between = between.map(|tensor| tensor.to_device(&device));
                let net = Network::new(&weights, &device);
                let pass = &mut Pass::training(&mut one);
                let hand = discriminate(&net, loss, &there(&real), &there(&fake), between, pass).unwrap();
                assert!((numbers(hand.0.number())[0] - numbers(auto.0)[0]).abs() < 1e-5);
                let (hand, auto) = (numbers(hand.1), numbers(auto.1));
                let scale = auto.iter().fold(0f32, |scale, g| scale.max(g.abs()));
                for (a, b) in hand.iter().zip(&auto) {
                    assert!((a - b).abs() < 2e-5 * scale, "{kind:?}: {a} is not {b}");
                }
            }
        }
    }
}
