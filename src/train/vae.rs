//! A β-VAE on given events, whose decoder becomes a generator.
//!
//! A decoder that outputs a mean under-disperses. Here part of the decoder's latent vector is noise of its own, drawn afresh for
//! each pass, and the reconstruction term is the energy score (Gneiting & Raftery 2007, eq. 22)
//! ½|x − a| + ½|x − b| − ½|a − b| of two decodings a and b: a proper score, least when the decodings of x are distributed as the
//! events that share its code. The loss is that plus β KL(q(z|x) ‖ N(0, I)) (Kingma & Welling 2014; Higgins et al. 2017), over
//! the width of a row.

use burn::tensor::Tensor;
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
    model::{Leaf, Network, Pass, Traced, Weights, architecture::mlp, transfer::normal},
    rng::Streams,
};

/// Numbers of the latent vector that are the decoder's own noise: a quarter, at least one.
fn noise_width(latent: usize) -> usize {
    (latent / 4).max(1).min(latent.saturating_sub(1))
}

/// All that changes from step to step: the encoder's and the decoder's.
struct Autoencoder {
    random: Randomness,
    nets: [Network; 2],
    optimizers: [Optimizer; 2],
}

state!(Autoencoder { random, nets, optimizers });

/// Trains encoder and decoder for these steps; returns the decoder.
pub fn train(
    beta: f64,
    pretraining: &Pretraining<'_>,
    decoder: &Weights,
    streams: &Streams,
    session: &mut Session<'_>,
) -> Result<Weights, TrainError> {
    let width = decoder.inputs();
    if width < 2 {
        return Err(TrainError::Unusable("`vae` needs a generator with a latent vector of at least 2 numbers".into()));
    }
    let noise = noise_width(width);
    let code = width - noise;
    let row = pretraining.reals.rows().width;
    let &Pretraining { reals, steps, batch, device, .. } = pretraining;
    let fresh = Weights::fresh(mlp(row, &[128, 128], 2 * code), &mut streams.stream("encoder"));
    let mut autoencoder = Autoencoder {
        random: Randomness::new(streams),
        nets: [&fresh, decoder].map(|weights| Network::new(weights, device)),
        optimizers: std::array::from_fn(|_| Optimizer::new(pretraining.optimizer, steps)),
    };
    for step in session.resume("vae", steps, &mut autoencoder)? + 1..=steps {
        session.keep("vae", step - 1, &mut autoencoder);
        let Autoencoder { random, nets, optimizers } = &mut autoencoder;
        let x = reals.batch(&mut random.order, device).rows;
        let draw = |width: usize, rng: &mut ChaCha8Rng| normal([batch, width], rng, device);
        let (loss, divergence, gradients) = {
            let (encoded, encoder) = Traced::forward(&nets[0], x.clone(), &mut Pass::evaluation());
            let codes = Leaf::new(encoded);
            let mean = codes.tensor().slice([0..batch, 0..code]);
            let log_variance = codes.tensor().slice([0..batch, code..2 * code]).clamp(-12.0, 6.0);
            let z =
                mean.clone() + (log_variance.clone() * 0.5).exp() * Tensor::from_inner(draw(code, &mut random.noise));
            // Both decodings at once: a batch of twice the rows.
            let codes_twice = z.clone().inner().repeat_dim(0, 2);
            let input = Tensor::cat(vec![codes_twice, normal([2 * batch, noise], &mut random.noise, device)], 1);
            let (decoded, decoder) = Traced::forward(&nets[1], input, &mut Pass::passing(&mut random.dropout));
            let events = Leaf::new(decoded);
            let (a, b) = (events.tensor().slice(0..batch), events.tensor().slice(batch..2 * batch));
            let distance = |a: &Tensor<2>, b: &Tensor<2>| ((a.clone() - b.clone()).square().sum_dim(1) + 1e-8).sqrt();
            let x = Tensor::from_inner(x);
            let score = ((distance(&x, &a) + distance(&x, &b) - distance(&a, &b)) * 0.5).mean();
            let score_value = score.clone().inner();
            let (of_decoder, to_input) = decoder.both(events.slope(&score.backward()));
            let to_codes = to_input.slice([0..2 * batch, 0..code]);
            let to_codes = to_codes.clone().slice(0..batch) + to_codes.slice(batch..2 * batch);
            let divergence = (mean.square() + log_variance.clone().exp() - log_variance - 1.0).sum_dim(1) * 0.5;
            let divergence = divergence.mean() * (beta / row as f64);
            let divergence_value = divergence.clone().inner();
            let loss = score_value + divergence_value.clone();
            let through = (z * Tensor::from_inner(to_codes)).sum() + divergence.sum();
            let of_encoder = encoder.parameters(codes.slope(&through.backward()));
            (loss, divergence_value, [of_encoder, of_decoder])
        };
        for ((net, optimizer), gradient) in nets.iter_mut().zip(&mut *optimizers).zip(gradients) {
            optimizer.update(net, gradient);
        }
        if step % LOG_EVERY == 0 || step == steps {
            let loss = finite(loss, step, "loss")?;
            let divergence = finite(divergence, step, "divergence")?;
            let rate = optimizers[1].learning_rate();
            session.report(step, &[("loss", loss), ("divergence", divergence), ("learning_rate", rate)]);
        }
    }
    session.finish("vae", steps, &mut autoencoder);
    let weights = autoencoder.nets[1]
        .weights()
        .ok_or(TrainError::Diverged { step: steps, what: "set of weights on the device" })?;
    check(&weights, steps)?;
    Ok(weights)
}
