//! What is watched while boosting: whether the discriminator tells reals from fakes in the tail as in the bulk, and what the
//! second generator adds to the tail.

use burn::tensor::{Device, Tensor, TensorData};

use super::{
    TrainError,
    adversary::Adversary,
    archive::{optional, state},
    reals::Reals,
    tail::TailGauge,
};
use crate::{
    data::Description,
    model::{Rows, derived::host},
    rng::Streams,
};

/// Real events of each side that logits are averaged over.
const PROBES: usize = 1024;

/// Looks at a discriminator and at fakes on both sides of the cut.
pub(super) struct Guard<'a> {
    gauge: TailGauge<'a>,
    description: &'a Description,
    bulk: Tensor<2>,
    tail: Tensor<2>,
}

state!(Guard<'_> { gauge });
optional!(Guard<'_>);

/// A batch of fakes, the first `from_base` of which are G's.
pub(super) struct Fakes<'a> {
    pub(super) encoded: Tensor<2>,
    /// Importance weights of components and latent vectors.
    pub(super) weights: &'a [f32],
    pub(super) from_base: usize,
}

impl<'a> Guard<'a> {
    /// With real events of these; `None` where no tail is named, or either side of the cut is empty among the sample.
    pub(super) fn new(
        description: &'a Description,
        reals: &Reals,
        sample: &[usize],
        streams: &Streams,
        device: &Device,
    ) -> Result<Option<Self>, TrainError> {
        let Some(mut gauge) = TailGauge::new(description, streams) else { return Ok(None) };
        let width = description.coordinates.width();
        let rows: &Rows = reals.rows();
        let encoded: Vec<f32> = sample.iter().flat_map(|&i| &rows.row(i)[..width]).copied().collect();
        let in_tail: Vec<bool> = gauge.values(&encoded)?.into_iter().map(|value| value > gauge.above).collect();
        let side = |tail: bool| {
            let chosen = sample.iter().zip(&in_tail).filter(|(_, is)| **is == tail).take(PROBES);
            let values: Vec<f32> = chosen.flat_map(|(&i, _)| rows.row(i)).copied().collect();
            let events = values.len() / rows.width.max(1);
            (events > 0).then(|| Tensor::from_data(TensorData::new(values, [events, rows.width]), device))
        };
        Ok(match (side(false), side(true)) {
            (Some(bulk), Some(tail)) => Some(Self { gauge, description, bulk, tail }),
            _ => None,
        })
    }

    /// Mean logits of reals and fakes in bulk and tail, the mixture's and G1's tail mass, and G1's share inside of T. A mean over no
    /// event is left out.
    pub(super) fn look(
        &mut self,
        adversary: &Adversary,
        fakes: &Fakes<'_>,
    ) -> Result<Vec<(&'static str, f64)>, TrainError> {
        let values = self.gauge.values(&host(fakes.encoded.clone())?)?;
        let seen = adversary.see(self.description, fakes.encoded.clone())?;
        let logits = host(adversary.logits(seen))?;
        let above = self.gauge.above;
        let of = |tail: bool| {
            let events =
                values.iter().zip(fakes.weights.iter().zip(&logits)).filter(move |(v, _)| (**v > above) == tail);
            events.map(|(_, (&w, &d))| (f64::from(w), f64::from(d)))
        };
        let mean = |events: &mut dyn Iterator<Item = (f64, f64)>| {
            let (sum, weight) = events.fold((0.0, 0.0), |(sum, weight), (w, d)| (sum + w * d, weight + w));
            sum / weight
        };
        let reals = |rows: &Tensor<2>| -> Result<f64, TrainError> {
            let logits = host(adversary.logits(rows.clone()))?;
            Ok(mean(&mut logits.into_iter().map(|d| (1.0, f64::from(d)))))
        };
        let tail: f64 = of(true).map(|(w, _)| w).sum();
        let of_candidate = || values.iter().zip(fakes.weights).skip(fakes.from_base).map(|(&v, &w)| (v, f64::from(w)));
        let weight: f64 = of_candidate().map(|(_, weight)| weight).sum();
        let in_tail: f64 = of_candidate().filter(|(value, _)| *value > above).map(|(_, weight)| weight).sum();
        let all = [
            ("d_real_bulk", reals(&self.bulk)?),
            ("d_real_tail", reals(&self.tail)?),
            ("d_fake_bulk", mean(&mut of(false))),
            ("d_fake_tail", mean(&mut of(true))),
            ("tail_share", tail / fakes.weights.iter().map(|&w| f64::from(w)).sum::<f64>()),
            ("candidate_tail_mass", in_tail / weight),
            ("candidate_share_of_tail", in_tail / tail),
        ];
        Ok(all.into_iter().filter(|(_, value)| value.is_finite()).collect())
    }
}
