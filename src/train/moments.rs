//! Moment matching: a generator is moved until a statistic of its events is that of the given ones.

use burn::tensor::Tensor;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    LOG_EVERY, Pretraining, TrainError,
    archive::state,
    checkpoint::Session,
    finite,
    gan::{Randomness, check},
    optimizer::Optimizer,
};
use crate::{
    model::{Leaf, Network, Pass, Rows, Traced, Weights, transfer::normal},
    rng::Streams,
};

/// Bandwidths of the kernels, in medians of the distance between events.
const BANDWIDTHS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];
/// Pairs of events that the median distance is taken over.
const MEDIAN_PAIRS: usize = 4096;

/// The statistic that is brought to agreement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// |Δμ|² + ‖ΔΣ‖²_F.
    Crude,
    /// Unbiased MMD² (Gretton et al. 2012, eq. 3) with a sum of RBF kernels around this median distance.
    Mmd {
        /// The median distance between events.
        median: f64,
    },
}

impl Statistic {
    /// MMD with the bandwidths that suit these events.
    pub fn mmd(rows: &Rows, rng: &mut ChaCha8Rng) -> Self {
        let mut distance = || {
            let (a, b) = (rng.random_range(0..rows.len()), rng.random_range(0..rows.len()));
            let squares = rows.row(a).iter().zip(rows.row(b)).map(|(x, y)| f64::from(x - y).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let mut distances: Vec<f64> = (0..MEDIAN_PAIRS).map(|_| distance()).filter(|&d| d > 0.0).collect();
        distances.sort_by(f64::total_cmp);
        Self::Mmd { median: distances.get(distances.len() / 2).copied().unwrap_or(1.0) }
    }

    /// The statistic between generated `x` and real `y`, `[events, width]` each.
    pub fn between(self, x: Tensor<2>, y: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Crude => {
                let (mean_x, covariance_x) = moments(x);
                let (mean_y, covariance_y) = moments(y);
                (mean_x - mean_y).square().sum() + (covariance_x - covariance_y).square().sum()
            }
            Self::Mmd { median } => {
                let within = |x: Tensor<2>| {
                    let n = x.dims()[0] as f64;
                    // The diagonal holds n times k(x, x) = one a kernel.
                    (kernel(x.clone(), x, median).sum() - n * BANDWIDTHS.len() as f64) / (n * (n - 1.0))
                };
                within(x.clone()) + within(y.clone()) - kernel(x, y, median).mean() * 2.0
            }
        }
    }
}

/// Mean `[1, width]` and covariance `[width, width]` (divided by the number of events).
fn moments(x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let n = x.dims()[0] as f64;
    let mean = x.clone().mean_dim(0);
    let centred = x - mean.clone();
    (mean, centred.clone().transpose().matmul(centred) / n)
}

/// Σ over bandwidths σ of exp(−|x − y|²/2σ²), `[events of x, events of y]`.
fn kernel(x: Tensor<2>, y: Tensor<2>, median: f64) -> Tensor<2> {
    let squares = |x: &Tensor<2>| x.clone().square().sum_dim(1);
    let distance = (squares(&x) + squares(&y).transpose() - x.matmul(y.transpose()) * 2.0).clamp_min(0.0);
    // The widest kernel first: each narrower one is the fourth power of the one before.
    let widest = median * BANDWIDTHS[BANDWIDTHS.len() - 1];
    let mut power = (distance * (-0.5 / (widest * widest))).exp();
    let mut sum = power.clone();
    for _ in 1..BANDWIDTHS.len() {
        power = power.square().square();
        sum = sum + power.clone();
    }
    sum
}

/// All that changes from step to step.
struct Matching {
    random: Randomness,
    net: Network,
    optimizer: Optimizer,
}

state!(Matching { random, net, optimizer });

/// Trains a generator on the events of `reals` for these steps.
pub fn train(
    statistic: Statistic,
    pretraining: &Pretraining<'_>,
    generator: &Weights,
    streams: &Streams,
    session: &mut Session<'_>,
) -> Result<Weights, TrainError> {
    let &Pretraining { reals, steps, batch, device, .. } = pretraining;
    let mut matching = Matching {
        random: Randomness::new(streams),
        net: Network::new(generator, device),
        optimizer: Optimizer::new(pretraining.optimizer, steps),
    };
    for step in session.resume("moments", steps, &mut matching)? + 1..=steps {
        session.keep("moments", step - 1, &mut matching);
        let Matching { random, net, optimizer } = &mut matching;
        let real = reals.batch(&mut random.order, device).rows;
        let z = normal([batch, generator.inputs()], &mut random.noise, device);
        let (loss, gradient) = {
            let (made, traced) = Traced::forward(net, z, &mut Pass::passing(&mut random.dropout));
            let made = Leaf::new(made);
            let loss = statistic.between(made.tensor(), Tensor::from_inner(real));
            let gradient = traced.parameters(made.slope(&loss.backward()));
            (loss.inner(), gradient)
        };
        optimizer.update(net, gradient);
        if step % LOG_EVERY == 0 || step == steps {
            let loss = finite(loss, step, "loss")?;
            session.report(step, &[("loss", loss), ("learning_rate", optimizer.learning_rate())]);
        }
    }
    session.finish("moments", steps, &mut matching);
    let unreadable = || TrainError::Diverged { step: steps, what: "set of weights on the device" };
    let weights = matching.net.weights().ok_or_else(unreadable)?;
    check(&weights, steps)?;
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// Two samples, bandwidth and values of scripts/reference/moments.py.
    #[derive(serde::Deserialize)]
    struct Reference {
        x: Vec<Vec<f64>>,
        y: Vec<Vec<f64>>,
        median: f64,
        mmd: f64,
        crude: f64,
    }

    #[test]
    fn statistics_agree_with_numpy() {
        let reference: Reference = serde_json::from_str(include_str!("../../tests/reference/moments.json")).unwrap();
        let tensor = |rows: &[Vec<f64>]| {
            let values: Vec<f32> = rows.iter().flatten().map(|&v| v as f32).collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows.len(), rows[0].len()]), &Device::flex())
        };
        let found = |s: Statistic| s.between(tensor(&reference.x), tensor(&reference.y)).into_scalar::<f32>();
        let mmd = found(Statistic::Mmd { median: reference.median });
        assert!((f64::from(mmd) - reference.mmd).abs() < 1e-5, "{mmd} is not {}", reference.mmd);
        let crude = found(Statistic::Crude);
        assert!((f64::from(crude) / reference.crude - 1.0).abs() < 1e-5, "{crude} is not {}", reference.crude);
    }
}
