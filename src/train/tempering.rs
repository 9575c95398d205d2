//! Weights of fakes by the stratum that they fall into, for `tempered` strata.
//!
//! Both terms of the discriminator's loss carry the same s(x) > 0: E_r[s sp(−d)] + E_m[s sp(d)]. The optimal discriminator for
//! any mixture m is r/(r + m) whatever s is, and m = r stays the fixed point (SCIENCE, section 1). Reals are weighted where
//! they are drawn; here fakes are, by the tail observable of the event that each decodes to.

use burn::tensor::{Device, Tensor};

use super::{
    TrainError,
    archive::{optional, state},
    latents::Drawn,
    reals::Strata,
    tail::TailGauge,
};
use crate::{
    data::Description,
    model::{derived::host, stratum, transfer::upload},
    rng::Streams,
};

/// Looks up s(x) of generated events.
pub(super) struct Tempering<'a> {
    gauge: TailGauge<'a>,
    edges: &'a [f64],
    tempers: &'a [f32],
    /// A Wasserstein critic compares measures of equal mass, so a batch is brought to mean 1: m̃ = sm/E_m[s] is r̃ only if m = r.
    normalised: bool,
}

state!(Tempering<'_> { gauge });
optional!(Tempering<'_>);

impl<'a> Tempering<'a> {
    /// For these strata; `None` where fakes weigh nothing of their own.
    pub(super) fn new(
        strata: &'a Strata,
        description: &'a Description,
        normalised: bool,
        streams: &Streams,
    ) -> Option<Self> {
        let gauge = TailGauge::new(description, streams)?;
        Some(Self { gauge, edges: strata.edges(), tempers: strata.tempers()?, normalised })
    }

    /// s of each of these encoded rows `[batch, width]`.
    pub(super) fn weights(&mut self, encoded: &Tensor<2>) -> Result<Vec<f32>, TrainError> {
        let values = self.gauge.values(&host(encoded.clone())?)?;
        let mut weights: Vec<f32> = values.into_iter().map(|value| self.tempers[stratum(self.edges, value)]).collect();
        if self.normalised {
            let mean = weights.iter().sum::<f32>() / weights.len().max(1) as f32;
            for weight in &mut weights {
                *weight /= mean;
            }
        }
        Ok(weights)
    }
}

/// Weights `[batch, 1]` of fakes: those of their latent vectors, times s.
pub(super) fn fake_weights(
    tempering: Option<&mut Tempering<'_>>,
    encoded: &Tensor<2>,
    drawn: &Drawn,
    device: &Device,
) -> Result<Tensor<2>, TrainError> {
    let size = encoded.dims()[0];
    let weights = drawn.weights(1.0, device);
    Ok(match tempering {
        Some(tempering) => weights * upload(tempering.weights(encoded)?, [size, 1], device),
        None => weights,
    })
}
