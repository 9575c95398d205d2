//! Learning a density ratio: a classifier between real events and a model's, with importance sampling on both sides.
//!
//! The loss is the discriminator's of a non-saturating GAN, E_r[w sp(−d)] + E_m[w sp(d)], whose optimum is d = ln r/m (Sugiyama et
//! al. 2012); the model stays as it is. What is kept is the moving average of the weights that did best on events held out.

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use super::{
    LOG_EVERY, TrainError,
    adversary::{Adversary, Loss},
    archive::state,
    checkpoint::Session,
    config::{LossConfig, LossKind, OptimizerConfig},
    finite,
    optimizer::Average,
    reals::Reals,
};
use crate::{
    model::{Discriminator, Network, Pass, Rows, Weights, derived::host},
    rng::Streams,
    value::NonNegative,
};

/// Looks at the held-out loss in a whole training.
const LOOKS: u64 = 40;

/// What the loop needs to know.
pub struct RatioTraining<'a> {
    /// Real training events as the classifier sees them.
    pub reals: &'a Reals,
    /// Events of the model.
    pub fakes: &'a Reals,
    /// Real events and the model's that are held out.
    pub held_out: [&'a Rows; 2],
    /// γ of the zero-centred gradient penalty on both sides.
    pub penalty: NonNegative,
    /// Steps.
    pub steps: u64,
    /// The optimiser.
    pub optimizer: &'a OptimizerConfig,
    /// Decay of the moving average of the classifier's weights.
    pub ema: f64,
    /// Where tensors live, without autodiff.
    pub device: &'a Device,
}

/// A classifier that has been trained.
pub struct Trained {
    /// Its averaged weights where they did best.
    pub weights: Weights,
    /// The step at which that was; 0 if it never did better than to call all events equal.
    pub step: u64,
    /// The held-out loss there, in nats; 2 ln 2 is that of knowing nothing.
    pub loss: f64,
}

state!(Trained { weights, step, loss });

/// All that changes from step to step.
struct Learning {
    adversary: Adversary,
    average: Average,
    order: ChaCha8Rng,
    best: Trained,
}

state!(Learning { adversary, average, order, best });

/// Trains a classifier.
pub fn train(
    training: &RatioTraining<'_>,
    classifier: &Discriminator,
    streams: &Streams,
    session: &mut Session<'_>,
) -> Result<Trained, TrainError> {
    let &RatioTraining { reals, fakes, held_out, steps, device, .. } = training;
    let loss = LossConfig {
        kind: LossKind::NonSaturating,
        r1: Some(training.penalty),
        r2: Some(training.penalty),
        ..LossConfig::default()
    };
    let dropout = streams.stream("classifier dropout");
    let adversary = Adversary::new(classifier, Loss::from(&loss), training.optimizer, steps, device, dropout);
    let mut learning = Learning {
        average: Average::new(adversary.network(), training.ema),
        adversary,
        order: streams.stream("order"),
        best: Trained { weights: classifier.net.clone(), step: 0, loss: 2.0 * std::f64::consts::LN_2 },
    };
    let held_out = held_out.map(|rows| on_device(rows, device));
    let every = steps.div_ceil(LOOKS);
    for step in session.resume("ratio", steps, &mut learning)? + 1..=steps {
        session.keep("ratio", step - 1, &mut learning);
        let Learning { adversary, average, order, best } = &mut learning;
        let (real, fake) = (reals.batch(order, device), fakes.batch(order, device));
        let loss = adversary.learn(&real, &fake, order)?;
        average.update(adversary.network());
        let mut values = Vec::new();
        if step % LOG_EVERY == 0 || step == steps {
            values.push(("loss", finite(loss.number(), step, "classifier's loss")?));
            values.extend(adversary.look(&real, &fake, order)?);
            values.push(("learning_rate", adversary.learning_rate()));
        }
        if step % every == 0 || step == steps {
            let averaged = average.network(adversary.network());
            let loss = held_out_loss(&averaged, &held_out)?;
            if !loss.is_finite() {
                return Err(TrainError::Diverged { step, what: "classifier's held-out loss" });
            }
            if loss < best.loss {
                let unreadable = TrainError::Diverged { step, what: "set of weights on the device" };
                *best = Trained { weights: averaged.weights().ok_or(unreadable)?, step, loss };
            }
            values.push(("held_out", loss));
        }
        if !values.is_empty() {
            session.report(step, &values);
        }
    }
    session.hand_on("ratio", steps, &mut learning);
    Ok(learning.best)
}

fn on_device(rows: &Rows, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(rows.values.to_vec(), [rows.len(), rows.width]), device)
}

/// Mean sp(−d) over real events plus mean sp(d) over the model's.
fn held_out_loss(net: &Network, [real, fake]: &[Tensor<2>; 2]) -> Result<f64, TrainError> {
    let mean = |rows: &Tensor<2>, sign: f64| -> Result<f64, TrainError> {
        let logits = host(net.forward(rows.clone(), &mut Pass::evaluation()))?;
        let softplus = |&logit: &f32| {
            let x = sign * f64::from(logit);
            x.max(0.0) + (-x.abs()).exp().ln_1p()
        };
        Ok(logits.iter().map(softplus).sum::<f64>() / logits.len().max(1) as f64)
    };
    Ok(mean(real, -1.0)? + mean(fake, 1.0)?)
}
