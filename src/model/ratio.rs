//! Density ratios: a factor w(x) on a model's density, from a classifier between real events and the model's own.
//!
//! A model with ratios is m'(x) ∝ m(x) Π min(w(x), c): multiplicative boosting (Grover & Ermon 2018) by a classifier's ratio
//! w = D/(1 − D) (DCTR, Andreassen & Nachman 2020). It is sampled by rejection, so events carry no weights: an event of m is kept
//! with probability Π min(w, c)/c.
//!
//! A classifier knows the mass of a thin tail only as well as its training settles. A factor that is constant in strata of an
//! observable gives each the mass that it has in the data: post-stratification (Holt & Smith 1979).

use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Derived, Discriminator, ModelError, Network, Pass, derived::host};
use crate::data::{DataError, Description};

/// Events whose ratio is evaluated at once.
const CHUNK: usize = 8192;

/// A ratio on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// ln w up to the offset.
    pub factor: Factor,
    /// Added to the factor's logarithm, so that w averages to 1 over the model's events.
    pub offset: f64,
    /// ln c: a larger ln w is cut to this.
    pub ceiling: f64,
}

/// What a ratio is a function of.
#[derive(Clone, Debug, PartialEq)]
pub enum Factor {
    /// A classifier's logit.
    Classifier(Discriminator),
    /// The stratum of an observable.
    Strata(StrataFactors),
}

/// A factor on w for each stratum of an observable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrataFactors {
    /// A feature or derived observable.
    pub observable: String,
    /// Edges between strata, ascending, in the observable's unit.
    pub edges: Vec<f64>,
    /// ln of the factor of each stratum, one more than there are edges.
    pub log_factors: Vec<f64>,
}

impl StrataFactors {
    /// ln of the factor of each encoded event.
    fn log_factors(
        &self,
        description: &Description,
        encoded: &[f32],
        signs: &mut ChaCha8Rng,
    ) -> Result<Vec<f64>, DataError> {
        let events = description.coordinates.decode(encoded, &description.features, signs)?;
        let values = description.observables.values(&events, &self.observable)?;
        Ok(values.into_iter().map(|value| self.log_factors[stratum(&self.edges, value)]).collect())
    }

    /// Whether the factors can be used on events of this description: what a file must hold.
    pub(super) fn is_sound(&self, description: &Description) -> bool {
        let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
        description.observable_names().contains(&self.observable)
            && self.edges.is_sorted()
            && finite(&self.edges)
            && finite(&self.log_factors)
            && self.log_factors.len() == self.edges.len() + 1
    }
}

/// The stratum of a value: an event on an edge belongs to the stratum above.
pub fn stratum(edges: &[f64], value: f64) -> usize {
    edges.partition_point(|&edge| edge <= value)
}

/// A ratio on a device.
pub(super) struct LoadedRatio {
    factor: LoadedFactor,
    offset: f64,
    ceiling: f64,
}

/// A factor on a device.
enum LoadedFactor {
    Classifier(Box<(Network, Derived)>),
    Strata(StrataFactors),
}

impl LoadedRatio {
    pub(super) fn new(ratio: &Ratio, device: &Device) -> Self {
        let factor = match &ratio.factor {
            Factor::Classifier(Discriminator { derived, net }) => {
                LoadedFactor::Classifier(Box::new((Network::new(net, device), derived.clone())))
            }
            Factor::Strata(strata) => LoadedFactor::Strata(strata.clone()),
        };
        Self { factor, offset: ratio.offset, ceiling: ratio.ceiling }
    }

    /// The probabilities min(w, c)/c of keeping encoded events. `signs` stand in for what the coordinates drop.
    pub(super) fn acceptance(
        &self,
        description: &Description,
        encoded: &[f32],
        signs: &mut ChaCha8Rng,
    ) -> Result<Vec<f64>, ModelError> {
        let logs: Vec<f64> = match &self.factor {
            LoadedFactor::Classifier(classifier) => {
                let (net, derived) = classifier.as_ref();
                log_ratios(net, derived, description, encoded)?.into_iter().map(f64::from).collect()
            }
            LoadedFactor::Strata(strata) => strata.log_factors(description, encoded, signs)?,
        };
        Ok(logs.into_iter().map(|log| (log + self.offset - self.ceiling).min(0.0).exp()).collect())
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
        logits.extend(host(net.forward(seen, &mut Pass::evaluation()))?);
    }
    Ok(logits)
}
