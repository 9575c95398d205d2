//! The map of one column: fitted on training values, encoded, decoded.

use super::{
    DataError,
    coordinates::{ColumnMap, GPD_SHARE, MapChoice, QUANTILE_KNOTS, QUANTILE_MARGIN},
    normal,
    pareto::{GeneralisedPareto, LEAST},
};

impl ColumnMap {
    /// Fits a map on training values; a `flipped` column keeps mean 0.
    pub(super) fn fit(choice: MapChoice, name: &str, values: &[f32], flipped: bool) -> Result<Self, DataError> {
        if flipped && choice != MapChoice::Standard {
            return Err(DataError::Unusable(format!(
                "the sign of `{name}` is a symmetry, so its map must be `standard`: no other keeps the symmetry"
            )));
        }
        let (min, max) = range(name, values)?;
        Ok(match choice {
            MapChoice::Standard => {
                let (mean, deviation) = moments(values.iter().copied().map(f64::from), flipped);
                Self::Standard { mean, deviation: positive(name, deviation)? }
            }
            MapChoice::Log => {
                check_positive(name, values, None)?;
                let (mean, deviation) = moments(values.iter().map(|&x| f64::from(x).ln()), false);
                Self::Log { mean, deviation: positive(name, deviation)? }
            }
            MapChoice::MinMax => Self::MinMax { min, max },
            MapChoice::Quantile => Self::Quantile { knots: knots(&ascending(values), 1.0) },
            MapChoice::Gpd => {
                let sorted = ascending(values);
                let knots = knots(&sorted, 1.0 - GPD_SHARE);
                let threshold = knots.last().copied().unwrap_or(max);
                let excesses: Vec<f64> = sorted.iter().filter(|&&x| x > threshold).map(|x| x - threshold).collect();
                let GeneralisedPareto { shape, scale } =
                    GeneralisedPareto::fit(&excesses).ok_or_else(|| no_tail(name, excesses.len(), threshold))?;
                Self::Gpd { knots, shape, scale }
            }
        })
    }

    /// A physical value to a coordinate.
    pub fn encode(&self, x: f64) -> f64 {
        match self {
            Self::Standard { mean, deviation } => (x - mean) / deviation,
            Self::Log { mean, deviation } => (x.max(f64::from(f32::MIN_POSITIVE)).ln() - mean) / deviation,
            Self::MinMax { min, max } => 2.0 * (x - min) / (max - min) - 1.0,
            Self::Quantile { knots } => {
                normal::quantile(QUANTILE_MARGIN + (1.0 - 2.0 * QUANTILE_MARGIN) * distribution(knots, x))
            }
            Self::Gpd { knots, shape, scale } => {
                let excess = x - knots.last().copied().unwrap_or_default();
                if excess > 0.0 {
                    let law = GeneralisedPareto { shape: *shape, scale: *scale };
                    return -normal::quantile((GPD_SHARE * law.survival(excess)).max(f64::MIN_POSITIVE));
                }
                let p = QUANTILE_MARGIN + (1.0 - GPD_SHARE - QUANTILE_MARGIN) * distribution(knots, x);
                normal::quantile(p.min(1.0 - GPD_SHARE))
            }
        }
    }

    /// A coordinate to a physical value.
    pub fn decode(&self, y: f64) -> f64 {
        match self {
            Self::Standard { mean, deviation } => y * deviation + mean,
            // Positive in single precision too, and finite.
            Self::Log { mean, deviation } => {
                (y * deviation + mean).exp().clamp(f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX))
            }
            Self::MinMax { min, max } => min + f64::midpoint(y, 1.0) * (max - min),
            Self::Quantile { knots } => {
                let p = (normal::cdf(y) - QUANTILE_MARGIN) / (1.0 - 2.0 * QUANTILE_MARGIN);
                interpolate(knots, p.clamp(0.0, 1.0))
            }
            Self::Gpd { knots, shape, scale } => {
                let above = normal::cdf(-y);
                if above < GPD_SHARE {
                    let law = GeneralisedPareto { shape: *shape, scale: *scale };
                    let excess = law.upper_quantile((above / GPD_SHARE).max(f64::MIN_POSITIVE));
                    return (knots.last().copied().unwrap_or_default() + excess).min(f64::from(f32::MAX));
                }
                let p = (1.0 - above - QUANTILE_MARGIN) / (1.0 - GPD_SHARE - QUANTILE_MARGIN);
                interpolate(knots, p.clamp(0.0, 1.0))
            }
        }
    }

    /// Whether the numbers make an invertible map: what a file must hold.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Standard { mean, deviation } | Self::Log { mean, deviation } => {
                mean.is_finite() && deviation.is_finite() && *deviation > 0.0
            }
            Self::MinMax { min, max } => min.is_finite() && max.is_finite() && min < max,
            Self::Quantile { knots } => {
                knots.len() >= 2 && knots.iter().all(|knot| knot.is_finite()) && knots.is_sorted()
            }
            Self::Gpd { knots, shape, scale } => {
                let knots = Self::Quantile { knots: knots.clone() };
                knots.is_sound() && shape.is_finite() && scale.is_finite() && *scale > 0.0
            }
        }
    }
}

/// Refuses a column with a value that has no logarithm; `rows` are the numbers of the events for the message, from 0.
pub(super) fn check_positive(name: &str, values: &[f32], rows: Option<&[usize]>) -> Result<(), DataError> {
    let Some(index) = values.iter().position(|&x| x.is_nan() || x <= 0.0) else { return Ok(()) };
    let row = rows.map_or(index, |rows| rows[index]) + 1;
    Err(DataError::Unusable(format!(
        "row {row}: `{name}` is {}, but the map `log` needs values above 0; choose `standard` or `quantile` for this column, \
         or keep such events out with `filter`",
        values[index]
    )))
}

/// The smallest and largest value; a column that does not vary is refused.
fn range(name: &str, values: &[f32]) -> Result<(f64, f64), DataError> {
    let (min, max) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    if values.is_empty() {
        return Err(DataError::Unusable("there are no training events to fit the coordinates on".into()));
    }
    if min >= max {
        return Err(DataError::Unusable(format!(
            "`{name}` is {min} in all {} training events, in single precision; leave it out of the features",
            values.len()
        )));
    }
    Ok((f64::from(min), f64::from(max)))
}

/// Mean (0 if `flipped`) and deviation about it, summed in order so that the result does not depend on threads.
fn moments(values: impl Iterator<Item = f64> + Clone, flipped: bool) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = if flipped { 0.0 } else { values.clone().sum::<f64>() / count };
    let squares = values.map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, (squares / count).sqrt())
}

fn positive(name: &str, deviation: f64) -> Result<f64, DataError> {
    if deviation > 0.0 && deviation.is_finite() {
        return Ok(deviation);
    }
    Err(DataError::Unusable(format!("`{name}` varies too little or too much to be standardised; leave it out")))
}

fn no_tail(name: &str, excesses: usize, threshold: f64) -> DataError {
    DataError::Unusable(format!(
        "only {excesses} training events have `{name}` above {threshold}, where its map `gpd` fits a tail; it needs \
         {LEAST}: choose `log` or `quantile` for this column"
    ))
}

fn ascending(values: &[f32]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().map(f64::from).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Quantiles of sorted values at evenly spaced probabilities from 0 to `last`, linearly interpolated.
fn knots(sorted: &[f64], last: f64) -> Vec<f64> {
    let count = QUANTILE_KNOTS.min(sorted.len()).max(2);
    let mut knots: Vec<f64> = (0..count).map(|k| interpolate(sorted, last * k as f64 / (count - 1) as f64)).collect();
    // Rounding must not break the order.
    for k in 1..count {
        knots[k] = knots[k].max(knots[k - 1]);
    }
    knots
}

/// The quantile at p in [0, 1] of sorted values, linearly interpolated (numpy's default).
pub(crate) fn interpolate(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = p * last as f64;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// The distribution function between knots; the middle of the step where knots coincide.
fn distribution(knots: &[f64], x: f64) -> f64 {
    let Some(last) = knots.len().checked_sub(1).filter(|&last| last > 0) else { return 0.5 };
    let lower = knots.partition_point(|&knot| knot < x);
    let upper = knots.partition_point(|&knot| knot <= x);
    let position = if lower < upper {
        (lower + upper - 1) as f64 / 2.0
    } else if lower == 0 {
        0.0
    } else if lower > last {
        last as f64
    } else {
        (lower - 1) as f64 + (x - knots[lower - 1]) / (knots[lower] - knots[lower - 1])
    };
    position / last as f64
}

#[cfg(test)]
mod tests {
    // Exact on purpose: these numbers are copied or representable.
    #![allow(clippy::float_cmp)]

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::data::single;

    const ALL: [MapChoice; 4] = [MapChoice::Standard, MapChoice::Log, MapChoice::MinMax, MapChoice::Quantile];

    /// Values above 0 over five decades that are not all the same.
    fn values() -> impl Strategy<Value = Vec<f32>> {
        vec(0.1f32..1e4, 2..300).prop_filter("varies", |values| values.iter().any(|x| *x != values[0]))
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(values in values(), choice in prop::sample::select(&ALL)) {
            let map = ColumnMap::fit(choice, "x", &values, false).unwrap();
            let (min, max) = range("x", &values).unwrap();
            for &x in &values {
                let x = f64::from(x);
                let back = map.decode(f64::from(single(map.encode(x))));
                let tolerance = 1e-5 * x.abs() + 1e-4 * (max - min);
                prop_assert!((back - x).abs() <= tolerance, "{choice:?}: {x} came back as {back}");
            }
        }

        #[test]
        fn decoding_any_number_is_finite(values in values(), choice in prop::sample::select(&ALL), y: f32) {
            prop_assume!(y.is_finite());
            let map = ColumnMap::fit(choice, "x", &values, false).unwrap();
            prop_assert!(single(map.decode(f64::from(y))).is_finite());
        }

        #[test]
        fn quantile_knots_never_fall_and_encoding_never_reverses(values in values(), a in 0.0f64..2e4, b in 0.0f64..2e4) {
            let map = ColumnMap::fit(MapChoice::Quantile, "x", &values, false).unwrap();
            prop_assert!(map.is_sound());
            prop_assert!(map.encode(a.min(b)) <= map.encode(a.max(b)));
        }
    }

    #[test]
    fn encoded_training_values_have_mean_zero_and_deviation_one() {
        let values: Vec<f32> = (1..2000).map(|i| (i as f32).powi(2)).collect();
        for choice in [MapChoice::Standard, MapChoice::Log, MapChoice::Quantile] {
            let map = ColumnMap::fit(choice, "x", &values, false).unwrap();
            let (mean, deviation) = moments(values.iter().map(|&x| map.encode(f64::from(x))), false);
            assert!(mean.abs() < 1e-3 && (deviation - 1.0).abs() < 0.02, "{choice:?}: {mean} ± {deviation}");
        }
    }

    #[test]
    fn a_gpd_map_goes_on_above_the_largest_training_event() {
        // P(x > v) = v^−3: the tail above any threshold is a generalised Pareto law with ξ = 1/3.
        let quantile = |u: f64| u.powf(-1.0 / 3.0);
        let values: Vec<f32> = (0..20_000).map(|i| quantile((f64::from(i) + 0.5) / 20_000.0) as f32).collect();
        let map = ColumnMap::fit(MapChoice::Gpd, "x", &values, false).unwrap();
        assert!(map.is_sound());
        for u in [0.5, 0.06, 0.04, 1e-2, 1e-4, 1e-6] {
            let x = map.decode(-normal::quantile(u));
            assert!((x / quantile(u) - 1.0).abs() < 0.02, "{u}: {x} for {}", quantile(u));
            assert!((map.decode(map.encode(x)) / x - 1.0).abs() < 1e-6, "{u}");
        }
        for y in [-1e9, -40.0, 40.0, 1e9] {
            assert!(single(map.decode(y)).is_finite());
        }
        let scores: Vec<f64> = (1..400).map(|i| map.encode(1.0 + 0.01 * f64::from(i))).collect();
        assert!(scores.is_sorted());
    }

    #[test]
    fn a_gpd_map_needs_events_in_its_tail() {
        let values: Vec<f32> = (0..100).map(|i| i as f32).collect();
        let message = ColumnMap::fit(MapChoice::Gpd, "x", &values, false).unwrap_err().to_string();
        assert!(message.contains("only 5 training events have `x` above"), "{message}");
    }

    #[test]
    fn a_flipped_column_keeps_mean_zero_and_takes_no_map_but_standard() {
        let map = ColumnMap::fit(MapChoice::Standard, "eta", &[1.0, 2.0], true).unwrap();
        assert_eq!(map, ColumnMap::Standard { mean: 0.0, deviation: 2.5f64.sqrt() });
        assert!(ColumnMap::fit(MapChoice::MinMax, "eta", &[1.0, 2.0], true).is_err());
    }

    #[test]
    fn tied_values_encode_to_the_middle_of_their_step_and_come_back() {
        let values = [vec![0.0; 600], (0..400).map(|i| i as f32).collect()].concat();
        let map = ColumnMap::fit(MapChoice::Quantile, "x", &values, false).unwrap();
        assert!((map.encode(0.0) - normal::quantile(0.3)).abs() < 0.01);
        assert_eq!(map.decode(map.encode(0.0)), 0.0);
    }

    #[test]
    fn a_constant_column_and_a_logarithm_of_zero_are_errors_that_name_the_column() {
        let constant = ColumnMap::fit(MapChoice::Quantile, "weight", &[1.0, 1.0], false).unwrap_err().to_string();
        assert!(constant.contains("`weight` is 1 in all 2 training events"), "{constant}");
        let zero = check_positive("mass", &[1.0, 0.0], Some(&[4, 9])).unwrap_err().to_string();
        assert!(zero.contains("row 10: `mass` is 0"), "{zero}");
    }

    #[test]
    fn quantiles_are_interpolated_as_numpy_does() {
        // numpy.quantile([1, 2, 4, 8], [0.1, 0.5, 0.99])
        for (p, expected) in [(0.1, 1.3), (0.5, 3.0), (0.99, 7.88)] {
            assert!((interpolate(&[1.0, 2.0, 4.0, 8.0], p) - expected).abs() < 1e-12);
        }
    }
}
