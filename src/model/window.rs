//! Windows on a component: the part of its events that a mixture takes from it.
//!
//! A spliced model takes the events of one generator below a cut and those of another above it. Events outside of their
//! component's windows are drawn again, so the component's density is its generator's, cut off and normalised.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::data::{DataError, Description};

/// The side of a cut that a component's events must lie on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// A feature or derived observable.
    pub observable: String,
    /// Above the cut, or not.
    pub side: Side,
    /// The cut, in the observable's unit.
    pub cut: f64,
}

/// A side of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Strictly above.
    Above,
    /// At the cut or below.
    Below,
}

impl Window {
    /// Whether a value of the observable lies inside.
    pub fn holds(&self, value: f64) -> bool {
        (value > self.cut) == (self.side == Side::Above)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Above { "above" } else { "up to" };
        write!(f, "{} {side} {}", self.observable, self.cut)
    }
}

/// Whether each of these encoded events lies inside of all windows.
pub fn inside(
    windows: &[Window],
    description: &Description,
    encoded: &[f32],
    signs: &mut ChaCha8Rng,
) -> Result<Vec<bool>, DataError> {
    let events = description.coordinates.decode(encoded, &description.features, signs)?;
    let mut inside = vec![true; events.len()];
    for window in windows {
        let values = description.observables.values(&events, &window.observable)?;
        inside.iter_mut().zip(values).for_each(|(inside, value)| *inside &= window.holds(value));
    }
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_on_the_cut_is_below_it() {
        let window = |side| Window { observable: "x".into(), side, cut: 1.0 };
        assert_eq!([0.5, 1.0, 1.5].map(|value| window(Side::Above).holds(value)), [false, false, true]);
        assert_eq!([0.5, 1.0, 1.5].map(|value| window(Side::Below).holds(value)), [true, true, false]);
    }
}
