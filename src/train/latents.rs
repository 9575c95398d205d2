//! Where a generator's latent vectors come from: N(0, I), or importance sampling of those that lead to the tail.
//!
//! - A proposal h, fitted by an `invert` stage: z ~ h with weights N(z)/h(z).
//! - Stratified: a pool of z ~ N is sorted by where the generator sends them, and a fixed share of a batch is taken from those
//!   that land in the tail, with the weights τ_G/ρ and (1 − τ_G)/(1 − ρ) by the running τ_G (SCIENCE, section 4).
//!
//! Either way the weighted batch stands for fakes of N(0, I), whatever becomes of the generator.

use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::{TrainError, archive::state, gaussians::Proposal, tail::TailGauge};
use crate::{
    data::Description,
    model::{
        Network, Pass,
        derived::host,
        noise,
        transfer::{normal, rows, upload},
    },
    rng::Streams,
};

/// Decay of the running τ_G.
const DECAY: f64 = 0.99;

/// How latent vectors are drawn.
#[derive(Clone, Copy, Debug)]
pub enum LatentSampling<'a> {
    /// From N(0, I).
    Normal,
    /// From a proposal.
    Proposal(&'a Proposal),
    /// From a pool that is stratified by the tail.
    Stratified {
        /// ρ: the share of a batch that lands in the tail.
        share: f64,
        /// Vectors in the pool for each one that is taken.
        pool: usize,
    },
}

/// A source of latent vectors.
pub(super) struct Latents<'a> {
    sampling: LatentSampling<'a>,
    gauge: Option<TailGauge<'a>>,
    width: usize,
    device: &'a Device,
    /// Running mean of the tail's share of the pools, and the sum of its weights.
    running: (f64, f64),
}

/// Latent vectors `[batch, latent]` with their importance weights, if they are not all 1.
pub(super) struct Drawn {
    pub(super) z: Tensor<2>,
    pub(super) weights: Option<Vec<f32>>,
}

state!(Latents<'_> { gauge, running });

impl<'a> Latents<'a> {
    /// For a generator of this latent width.
    pub(super) fn new(
        sampling: LatentSampling<'a>,
        width: usize,
        description: &'a Description,
        streams: &Streams,
        device: &'a Device,
    ) -> Result<Self, TrainError> {
        let gauge = TailGauge::new(description, streams);
        match sampling {
            LatentSampling::Proposal(proposal) if proposal.latent != width => {
                return Err(TrainError::Unusable(format!(
                    "the proposal is of latent vectors of {} numbers, but the generator takes {width}",
                    proposal.latent
                )));
            }
            LatentSampling::Stratified { .. } if gauge.is_none() => {
                return Err(TrainError::Unusable("stratified latent vectors need a dataset with a `tail`".into()));
            }
            _ => {}
        }
        Ok(Self { sampling, gauge, width, device, running: (0.0, 0.0) })
    }

    /// Draws for a batch of what `generator` makes.
    pub(super) fn draw(
        &mut self,
        batch: usize,
        generator: &Network,
        rng: &mut ChaCha8Rng,
    ) -> Result<Drawn, TrainError> {
        let Self { width, device, .. } = *self;
        let there = |z: Vec<f32>| rows(z, width, device);
        Ok(match (self.sampling, &mut self.gauge) {
            (LatentSampling::Proposal(proposal), _) => {
                let (z, weights) = proposal.draw(batch, rng);
                Drawn { z: there(z), weights: Some(weights) }
            }
            (LatentSampling::Stratified { share, pool }, Some(gauge)) => {
                let z = noise(batch * pool * width, rng);
                let made = host(generator.forward(there(z.clone()), &mut Pass::evaluation()))?;
                let in_tail: Vec<bool> = gauge.values(&made)?.into_iter().map(|value| value > gauge.above).collect();
                let (rows, weights) = stratify(&in_tail, batch, share, &mut self.running);
                let z = rows.into_iter().flat_map(|i| &z[i * width..(i + 1) * width]).copied().collect();
                Drawn { z: there(z), weights: Some(weights) }
            }
            _ => Drawn { z: normal([batch, width], rng, device), weights: None },
        })
    }
}

impl Drawn {
    /// The weights `[batch, 1]`, times a factor.
    pub(super) fn weights(&self, factor: f64, device: &Device) -> Tensor<2> {
        let size = self.z.dims()[0];
        match &self.weights {
            Some(weights) => upload(weights.clone(), [size, 1], device) * factor,
            None => Tensor::<2>::ones([size, 1], device) * factor,
        }
    }
}

/// Which of a pool make a batch, a share of them from the tail, and their weights. Where the pool has too few on either side,
/// those are taken more than once; where it has none, the other side fills the batch.
fn stratify(in_tail: &[bool], batch: usize, share: f64, running: &mut (f64, f64)) -> (Vec<usize>, Vec<f32>) {
    let side = |tail: bool| (0..in_tail.len()).filter(|&i| in_tail[i] == tail).collect::<Vec<_>>();
    let (tail, bulk) = (side(true), side(false));
    let found = tail.len() as f64 / in_tail.len().max(1) as f64;
    *running = (DECAY * running.0 + (1.0 - DECAY) * found, DECAY * running.1 + (1.0 - DECAY));
    let mass = running.0 / running.1;
    let from_tail = match (tail.is_empty(), bulk.is_empty()) {
        (true, _) => 0,
        (_, true) => batch,
        _ => ((share * batch as f64).round() as usize).clamp(1, batch.saturating_sub(1).max(1)),
    };
    if from_tail == 0 || from_tail == batch {
        let rows = if from_tail == 0 { bulk } else { tail };
        return (rows.into_iter().take(batch).collect(), vec![1.0; batch]);
    }
    let drawn = from_tail as f64 / batch as f64;
    let rows =
        tail.iter().cycle().take(from_tail).chain(bulk.iter().cycle().take(batch - from_tail)).copied().collect();
    let weights = std::iter::repeat_n((mass / drawn) as f32, from_tail)
        .chain(std::iter::repeat_n(((1.0 - mass) / (1.0 - drawn)) as f32, batch - from_tail));
    (rows, weights.collect())
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn a_stratified_batch_stands_for_the_pool() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut running = (0.0, 0.0);
        let (mut tail, mut all) = (0.0, 0.0);
        for _ in 0..400 {
            let pool: Vec<bool> = (0..256).map(|_| rng.random_bool(0.1)).collect();
            let (rows, weights) = stratify(&pool, 64, 0.5, &mut running);
            assert_eq!(rows.iter().filter(|&&i| pool[i]).count(), 32);
            tail += rows.iter().zip(&weights).filter(|(i, _)| pool[**i]).map(|(_, &w)| f64::from(w)).sum::<f64>();
            all += weights.iter().map(|&w| f64::from(w)).sum::<f64>();
        }
        assert!((all / 25_600.0 - 1.0).abs() < 1e-5, "weights average to 1");
        assert!((tail / all - 0.1).abs() < 0.01, "{}", tail / all);
    }

    #[test]
    fn a_pool_with_one_side_only_makes_a_plain_batch() {
        for tail in [true, false] {
            let (rows, weights) = stratify(&[tail; 128], 32, 0.5, &mut (0.0, 0.0));
            assert_eq!((rows.len(), weights), (32, vec![1.0; 32]));
        }
    }
}
