//! Times the steps of a GAN's training: `scripts/bench-torch` runs it beside PyTorch.
//!
//! `time_training NET BATCH LOSS DEVICE SECONDS` with NET one of `mlp`, `fc`, `cnn`, and LOSS one of `relativistic`,
//! `non_saturating`, `wgan_gp`, trains on 65,536 events of seven normal features for about that long, after a warm-up, and prints
//! milliseconds per generator step.

use std::time::{Duration, Instant};

use anyhow::Context;
use burn::tensor::Device;
use pgan_pipe::{
    data::{Coordinates, Description, Observables, coordinates::ColumnMap},
    device::DeviceName,
    model::{Derived, Discriminator, Rows, Weights, architecture, device, noise},
    rng::Streams,
    train::{
        adversary::{Adversary, Loss},
        checkpoint::{Checkpoints, Session, Watcher},
        config::{DiscriminatorConfig, GeneratorConfig, LossConfig, OptimizerConfig},
        gan::{self, GanTraining},
        history::Recorder,
        latents::LatentSampling,
        reals::{Reals, Strata},
    },
};
use serde_json::{from_value, json};

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: usize = 65_536;
const WIDTH: usize = 7;

/// Hears nothing.
struct Silent;

impl Watcher for Silent {
    fn step(&mut self, _: u64, _: &[(&'static str, f64)]) {}
    fn resumed(&mut self, _: u64) {}
    fn warn(&mut self, _: String) {}
}

struct Bench {
    generator: Weights,
    discriminator: Discriminator,
    loss: Loss,
    optimizer: OptimizerConfig,
    description: Description,
    reals: Reals,
    batch: usize,
    ema: f64,
    device: Device,
}

impl Bench {
    fn new(net: &str, batch: usize, loss: &str, device: &str) -> anyhow::Result<Self> {
        let (architecture, latent, ema) = match net {
            "fc" => ("precisegan_fc", Some(128), 0.0),
            "cnn" => ("precisegan_cnn", Some(128), 0.0),
            _ => ("mlp", None, 0.999),
        };
        let mut config = json!({ "architecture": architecture });
        let discriminator: DiscriminatorConfig = from_value(config.clone())?;
        if let Some(latent) = latent {
            config["latent"] = latent.into();
        }
        let generator: GeneratorConfig = from_value(config)?;
        // PreciseGAN's own loss has no penalty.
        let loss = if loss == "non_saturating" { json!({ "kind": loss, "r1": 0.0 }) } else { json!({ "kind": loss }) };
        let loss: LossConfig = from_value(loss)?;
        let streams = Streams::new(1, "time_training");
        let mut rng = streams.stream("weights");
        let rows = Rows { values: noise(EVENTS * WIDTH, &mut streams.stream("events")).into(), width: WIDTH };
        let standard = ColumnMap::Standard { mean: 0.0, deviation: 1.0 };
        Ok(Self {
            generator: Weights::fresh(architecture::generator(&generator, WIDTH), &mut rng),
            discriminator: Discriminator {
                derived: Derived::default(),
                net: Weights::fresh(architecture::discriminator(&discriminator, WIDTH), &mut rng),
            },
            loss: Loss::from(&loss),
            optimizer: from_value(json!({ "schedule": "constant" }))?,
            description: Description {
                features: (0..WIDTH).map(|i| format!("x{i}")).collect(),
                coordinates: Coordinates::Columns(vec![standard; WIDTH]),
                observables: Observables::None,
                symmetries: Vec::new(),
                tail: None,
                truth: None,
            },
            reals: Reals::new(rows, Vec::new(), Strata::all(EVENTS, batch)),
            batch,
            ema,
            device: device::open(device.parse::<DeviceName>()?)?,
        })
    }

    fn run(&self, steps: u64) -> anyhow::Result<Duration> {
        let streams = Streams::new(2, "time_training");
        let dropout = streams.stream("dropout");
        let adversary = Adversary::new(&self.discriminator, self.loss, &self.optimizer, steps, &self.device, dropout);
        let training = GanTraining {
            description: &self.description,
            reals: &self.reals,
            steps,
            batch: self.batch,
            optimizer: &self.optimizer,
            ema: self.ema,
            latents: LatentSampling::Normal,
            device: &self.device,
        };
        let (mut checkpoints, mut recorder) = (Checkpoints::none(), Recorder::default());
        let mut session = Session::new(Silent, &mut checkpoints, &mut recorder, &self.device);
        let start = Instant::now();
        gan::train(&training, &self.generator, adversary, &streams, &mut session)?;
        Ok(start.elapsed())
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [net, batch, loss, device, seconds] = &arguments[..] else {
        anyhow::bail!("usage: time_training NET BATCH LOSS DEVICE SECONDS");
    };
    let bench = Bench::new(net, batch.parse().context("BATCH")?, loss, device)?;
    let seconds: f64 = seconds.parse().context("SECONDS")?;
    bench.run(2)?;
    let warm = bench.run(5)?.as_secs_f64() / 5.0;
    let steps = (seconds / warm).ceil().clamp(3.0, 1e5);
    let took = bench.run(steps as u64)?.as_secs_f64();
    #[expect(clippy::print_stdout, reason = "the result of a program")]
    {
        println!("{:.4}", 1e3 * took / steps);
    }
    Ok(())
}
