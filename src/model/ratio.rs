//! Density ratios: a factor w(x) on a model's density, from a classifier between real events and the model's own.
//!
//! A model with ratios is m'(x) ∝ m(x) Π min(w(x), c): multiplicative boosting (Grover & Ermon 2018) by a classifier's ratio
//! w = D/(1 − D) (DCTR, Andreassen & Nachman 2020). It is sampled by rejection, so events carry no weights: an event of m is kept
//! with probability Π min(w, c)/c.

use burn::tensor::{Device, Tensor, TensorData};

use super::{Derived, Discriminator, ModelError, Network, Pass, derived::host};
use crate::data::Description;

/// Events whose ratio is evaluated at once.
const CHUNK: usize = 8192;

/// A ratio on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// The classifier; its logit is ln w up to the offset.
    pub classifier: Discriminator,
    /// Added to the logit, so that w averages to 1 over the model's events.
    pub offset: f64,
    /// ln c: a larger ln w is cut to this.
    pub ceiling: f64,
}

/// A ratio on a device.
pub(super) struct RatioNet {
    net: Network,
    derived: Derived,
    offset: f64,
    ceiling: f64,
}

impl RatioNet {
    pub(super) fn new(ratio: &Ratio, device: &Device) -> Self {
        let Ratio { classifier, offset, ceiling } = ratio;
        Self {
            net: Network::new(&classifier.net, device),
            derived: classifier.derived.clone(),
            offset: *offset,
            ceiling: *ceiling,
        }
    }

    /// The probabilities min(w, c)/c of keeping encoded events.
    pub(super) fn acceptance(&self, description: &Description, encoded: &[f32]) -> Result<Vec<f64>, ModelError> {
        let logits = log_ratios(&self.net, &self.derived, description, encoded)?;
        Ok(logits.into_iter().map(|logit| (f64::from(logit) + self.offset - self.ceiling).min(0.0).exp()).collect())
    }
}

/// Logits of a net that sees derived observables, for encoded events on the host; one an event.
pub fn log_ratios(
    net: &Network,
    derived: &Derived,
    description: &Description,
    encoded: &[f32],
) -> Result<Vec<f32>, ModelError> {
    let width = description.coordinates.width();
    let mut logits = Vec::with_capacity(encoded.len() / width.max(1));
    for chunk in encoded.chunks(width * CHUNK) {
        let rows = Tensor::<2>::from_data(TensorData::new(chunk.to_vec(), [chunk.len() / width, width]), &net.device());
        let seen = derived.forward(description, rows)?;
        logits.extend(host(net.plain().forward(seen, &mut Pass::evaluation()))?);
    }
    Ok(logits)
}
