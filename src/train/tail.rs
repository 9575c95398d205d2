//! The tail observable of generated events: encoded rows are decoded on the host, as events are everywhere else.

use rand_chacha::ChaCha8Rng;

use super::archive::{optional, state};
use crate::{
    data::{DataError, Description},
    rng::Streams,
};

/// Measures the tail observable of encoded rows.
pub struct TailGauge<'a> {
    description: &'a Description,
    observable: &'a str,
    /// The cut, in the observable's unit.
    pub above: f64,
    signs: ChaCha8Rng,
}

state!(TailGauge<'_> { signs });
optional!(TailGauge<'_>);

impl<'a> TailGauge<'a> {
    /// For the tail of this description, if it names one.
    pub fn new(description: &'a Description, streams: &Streams) -> Option<Self> {
        let tail = description.tail.as_ref()?;
        let signs = streams.stream("signs");
        Some(Self { description, observable: &tail.observable, above: tail.above, signs })
    }

    /// The observable of each of these encoded rows, `[events × width]`.
    pub fn values(&mut self, encoded: &[f32]) -> Result<Vec<f64>, DataError> {
        let Description { coordinates, features, observables, .. } = self.description;
        let events = coordinates.decode(encoded, features, &mut self.signs)?;
        observables.values(&events, self.observable)
    }

    /// The share of these encoded rows that lie in the tail.
    pub fn mass(&mut self, encoded: &[f32]) -> Result<f64, DataError> {
        self.share(encoded, None)
    }

    /// The share of the tail in these encoded rows with weights, if they are not all 1.
    pub fn share(&mut self, encoded: &[f32], weights: Option<&[f32]>) -> Result<f64, DataError> {
        let values = self.values(encoded)?;
        let weight = |event: usize| weights.map_or(1.0, |weights| f64::from(weights[event]));
        let in_tail = (0..values.len()).filter(|&event| values[event] > self.above).map(weight);
        Ok(in_tail.sum::<f64>() / (0..values.len()).map(weight).sum::<f64>().max(f64::MIN_POSITIVE))
    }
}
