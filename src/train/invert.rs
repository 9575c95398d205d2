//! Inference of latent vectors: an encoder trained adversarially on pairs (ALI, Dumoulin et al. 2017; BiGAN, Donahue et al.
//! 2017).
//!
//! A discriminator tells (x, E(x, ε)) of real events from (g(z), z) of the frozen generator. g stays; E moves until the two
//! joint densities agree, so that E(x, ε) is distributed as the z that g sends to x. ε is noise, as wide as z: many z lead to
//! one x.

use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::{
    LOG_EVERY, TrainError,
    adversary::Adversary,
    archive::state,
    checkpoint::Session,
    config::OptimizerConfig,
    finite,
    gan::{Randomness, check},
    optimizer::{Average, Optimizer},
    reals::{Batch, Reals},
};
use crate::{
    data::Description,
    model::{
        Network, Pass, Traced, Weights,
        derived::host,
        noise,
        transfer::{normal, rows},
    },
    rng::Streams,
};

/// Events that are encoded at once.
const CHUNK: usize = 8192;

/// What the loop needs to know.
pub struct Inversion<'a> {
    /// What the events are.
    pub description: &'a Description,
    /// Real events, encoded and nothing else.
    pub reals: &'a Reals,
    /// g.
    pub generator: &'a Weights,
    /// Steps.
    pub steps: u64,
    /// Events in a batch.
    pub batch: usize,
    /// The encoder's optimiser.
    pub optimizer: &'a OptimizerConfig,
    /// Decay of the moving average of the encoder's weights.
    pub ema: f64,
    /// Where tensors live, without autodiff.
    pub device: &'a Device,
}

/// All that changes from step to step.
struct Inverting {
    random: Randomness,
    encoder_noise: ChaCha8Rng,
    net: Network,
    optimizer: Optimizer,
    average: Average,
    adversary: Adversary,
}

state!(Inverting { random, encoder_noise, net, optimizer, average, adversary });

/// Trains an encoder from `[coordinates + latent]` to `[latent]`; `adversary` sees `[coordinates + latent]`.
pub fn train(
    inversion: &Inversion<'_>,
    encoder: &Weights,
    adversary: Adversary,
    streams: &Streams,
    session: &mut Session<'_>,
) -> Result<Weights, TrainError> {
    let &Inversion { description, reals, steps, batch, device, .. } = inversion;
    let (coordinates, width) = (reals.rows().width, inversion.generator.inputs());
    let generator = Network::new(inversion.generator, device);
    let net = Network::new(encoder, device);
    let mut inverting = Inverting {
        random: Randomness::new(streams),
        encoder_noise: streams.stream("encoder noise"),
        optimizer: Optimizer::new(inversion.optimizer, steps),
        average: Average::new(&net, inversion.ema),
        net,
        adversary,
    };
    let ones = Tensor::<2>::ones([batch, 1], device);
    for step in session.resume("invert", steps, &mut inverting)? + 1..=steps {
        session.keep("invert", step - 1, &mut inverting);
        let Inverting { random, encoder_noise, net, optimizer, average, adversary } = &mut inverting;
        let real = reals.batch(&mut random.order, device);
        let z = normal([batch, width], &mut random.noise, device);
        let made = generator.forward(z.clone(), &mut Pass::evaluation());
        // In the places of the adversary's reals stand the generator's pairs: the encoder's must come to look like those.
        let generated = Batch { rows: Tensor::cat(vec![made, z], 1), weights: ones.clone() };
        let noisy = Tensor::cat(vec![real.rows.clone(), normal([batch, width], encoder_noise, device)], 1);
        let (encoded, traced) = Traced::forward(net, noisy, &mut Pass::passing(&mut random.dropout));
        let pairs = Tensor::cat(vec![real.rows.clone(), encoded], 1);
        let encoded = Batch { rows: pairs.clone(), weights: real.weights.clone() };
        let d_loss = adversary.learn(&generated, &encoded, &mut random.order)?;
        let (loss, slope) = adversary.judge(description, &generated, pairs, real.weights)?;
        let gradient = traced.parameters(slope.slice([0..batch, coordinates..coordinates + width]));
        optimizer.update(net, gradient);
        average.update(net);
        if step % LOG_EVERY == 0 || step == steps {
            let d_loss = finite(d_loss.number(), step, "discriminator's loss")?;
            let mut watched = vec![("d_loss", d_loss), ("e_loss", finite(loss.number(), step, "encoder's loss")?)];
            watched.extend(adversary.look(&generated, &encoded, &random.order)?);
            watched.push(("learning_rate", optimizer.learning_rate()));
            session.report(step, &watched);
        }
    }
    session.finish("invert", steps, &mut inverting);
    let unreadable = || TrainError::Diverged { step: steps, what: "set of weights on the device" };
    let encoder = inverting.average.network(&inverting.net).weights().ok_or_else(unreadable)?;
    check(&encoder, steps)?;
    Ok(encoder)
}

/// Latent vectors of encoded events, `[events × latent]`, with fresh noise for each.
pub fn encode(
    encoder: &Weights,
    events: &[f32],
    coordinates: usize,
    streams: &Streams,
    device: &Device,
) -> Result<Vec<f32>, TrainError> {
    let net = Network::new(encoder, device);
    let width = encoder.inputs() - coordinates;
    let mut rng = streams.stream("encoding");
    let mut encoded = Vec::with_capacity(events.len() / coordinates * width);
    for chunk in events.chunks(coordinates * CHUNK) {
        let count = chunk.len() / coordinates;
        let x = rows(chunk.to_vec(), coordinates, device);
        let noise = rows(noise(count * width, &mut rng), width, device);
        encoded.extend(host(net.forward(Tensor::cat(vec![x, noise], 1), &mut Pass::evaluation()))?);
    }
    Ok(encoded)
}
