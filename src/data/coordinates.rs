//! Coordinates: the invertible map from physical columns to numbers that suit a generator.
//!
//! A generator works on encoded rows: each coordinate has mean 0 and deviation 1 on the training events.

use std::{collections::BTreeMap, fmt};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{
    DataError, Events, Table, column, dijet, single,
    values::{Scratch, Values},
};

/// The threshold of both jets' pT, in GeV: the smallest pT that `dijet` coordinates can express.
pub const PT_THRESHOLD: f64 = 250.0;
/// Scales of ln(pT2/250), ln(pT1/pT2) and π − |φ2| (radians), near their means in QCD events above the threshold.
pub const EDGE_SCALES: [f64; 3] = [0.23, 0.11, 0.15];
/// The largest values of these three that decoding gives.
pub const EDGE_LIMITS: [f64; 3] = [4.05, 4.05, std::f64::consts::PI];
/// Added to a mass before its logarithm, in GeV.
pub const MASS_OFFSET: f64 = 1.0;
/// η is divided by this before the probit: a little above the edge at 2.5, so that every event is finite.
pub const ETA_SCALE: f64 = 2.5001;
/// The largest |η| that decoding gives: the last `f32` below 2.5.
pub const ETA_MAX: f64 = 2.499_999_761_581_421;
/// The largest |φ| that decoding gives: the last `f32` below π.
pub const PHI_MAX: f64 = 3.141_592_502_593_994;
/// The mass coordinates, 2 and 3, are kept in these bounds before decoding exponentiates them.
pub const MASS_BOUNDS: (f64, f64) = (-12.0, 1.0);
/// The most knots of a quantile map.
pub const QUANTILE_KNOTS: usize = 1001;
/// The share of training events above the threshold of a `gpd` map.
pub const GPD_SHARE: f64 = 0.05;
/// A quantile map squeezes the distribution function from [0, 1] to [margin, 1 − margin], so that its probit is finite.
pub const QUANTILE_MARGIN: f64 = 1e-6;

/// The coordinates as chosen in a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CoordinatesChoice {
    /// A ready set.
    Named(NamedCoordinates),
    /// A map for each column; columns that are not named are standardised.
    Columns(BTreeMap<String, MapChoice>),
}

/// Ready sets of coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedCoordinates {
    /// Standardise each column.
    Standard,
    /// The seven dijet columns: threshold and ordering of pT hold by construction, η through a probit map, |φ|.
    Dijet,
}

/// The map of one column as chosen in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MapChoice {
    /// (x − mean) / deviation.
    Standard,
    /// ln(x), standardised; for columns above 0.
    Log,
    /// Scaled to [−1, 1] by the training minimum and maximum.
    MinMax,
    /// Normal scores of the training quantiles; saturates at the largest training event.
    Quantile,
    /// Normal scores of the training quantiles, and of a generalised Pareto law in the top 5 %: for heavy tails. Saturates at the
    /// smallest training event, goes on above the largest one.
    Gpd,
}

/// Coordinates fitted on training events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coordinates {
    /// Each column by itself, in the order of the features.
    Columns(Vec<ColumnMap>),
    /// The dijet set: the seven raw coordinates of [`dijet`](Self::Dijet), standardised by these.
    Dijet {
        /// Mean of each raw coordinate on the training events; 0 for the two η coordinates, whose sign is a symmetry.
        means: [f64; 7],
        /// Deviation of each raw coordinate about its mean.
        deviations: [f64; 7],
    },
}

/// The fitted map of one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "map")]
pub enum ColumnMap {
    /// (x − mean) / deviation.
    Standard {
        /// Training mean (0 where a symmetry flips the sign).
        mean: f64,
        /// Training deviation.
        deviation: f64,
    },
    /// (ln x − mean) / deviation.
    Log {
        /// Training mean of ln x.
        mean: f64,
        /// Training deviation of ln x.
        deviation: f64,
    },
    /// 2 (x − min) / (max − min) − 1.
    MinMax {
        /// Training minimum.
        min: f64,
        /// Training maximum.
        max: f64,
    },
    /// Φ⁻¹ of the training distribution function, interpolated between knots.
    Quantile {
        /// Physical values at evenly spaced probabilities from 0 to 1, never falling.
        knots: Vec<f64>,
    },
    /// Φ⁻¹ of a distribution function that is interpolated between knots and ends in a generalised Pareto law.
    Gpd {
        /// Physical values at evenly spaced probabilities from 0 to that of the threshold, the last one, never falling.
        knots: Vec<f64>,
        /// ξ of the excesses over the threshold.
        shape: f64,
        /// Their σ.
        scale: f64,
    },
}

/// Written out because serde's `untagged` would lose positions and the names that are expected.
impl<'de> Deserialize<'de> for CoordinatesChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Choice;

        impl<'de> Visitor<'de> for Choice {
            type Value = CoordinatesChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`standard`, `dijet`, or a map for each column: { NAME: standard, log, min_max, quantile or gpd }",
                )
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                NamedCoordinates::deserialize(name.into_deserializer()).map(CoordinatesChoice::Named)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(CoordinatesChoice::Columns)
            }
        }

        from.deserialize_any(Choice)
    }
}

impl CoordinatesChoice {
    /// The map of a column; `None` if the whole set is `dijet`.
    pub fn map(&self, column: &str) -> Option<MapChoice> {
        match self {
            Self::Named(NamedCoordinates::Dijet) => None,
            Self::Named(NamedCoordinates::Standard) => Some(MapChoice::Standard),
            Self::Columns(maps) => Some(maps.get(column).copied().unwrap_or(MapChoice::Standard)),
        }
    }

    /// Refuses events that these coordinates cannot express: a logarithm of 0, a jet below the threshold.
    /// `rows` are the events' numbers in their source, from 0, for the message.
    pub fn check(&self, events: &Table, rows: Option<&[usize]>) -> Result<(), DataError> {
        match self {
            Self::Named(NamedCoordinates::Standard) => Ok(()),
            Self::Named(NamedCoordinates::Dijet) => dijet::check(events, rows),
            Self::Columns(maps) => maps.iter().try_for_each(|(name, map)| {
                let values = events.column(name)?;
                if *map == MapChoice::Log { column::check_positive(name, values, rows) } else { Ok(()) }
            }),
        }
    }
}

impl Coordinates {
    /// Fits the chosen coordinates on training events. `flipped` names the columns whose sign is a symmetry.
    pub fn fit(
        choice: &CoordinatesChoice,
        train: &Events,
        flipped: &[String],
        scratch: &Scratch,
    ) -> Result<Self, DataError> {
        if train.is_empty() {
            return Err(DataError::Unusable("there are no training events to fit the coordinates on".into()));
        }
        train.chunks().try_for_each(|events| choice.check(&events?, None))?;
        if let CoordinatesChoice::Named(NamedCoordinates::Dijet) = choice {
            // All columns are there, as `check` has seen: no piece fails.
            let raw =
                || train.chunks().flat_map(|events| events.and_then(|events| raw_dijet(&events)).unwrap_or_default());
            let (means, deviations) = dijet::standardisation(raw)?;
            return Ok(Self::Dijet { means, deviations });
        }
        let columns = train.names().iter().enumerate().map(|(place, name)| {
            let map = choice.map(name).unwrap_or(MapChoice::Standard);
            ColumnMap::fit(map, name, &train.column(place, scratch)?, flipped.contains(name))
        });
        columns.collect::<Result<_, _>>().map(Self::Columns)
    }

    /// Encodes events that may lie in a file; see [`encode`](Self::encode).
    pub fn encode_all(&self, events: &Events, scratch: &Scratch) -> Result<Values, DataError> {
        let mut collector = scratch.collector();
        for events in events.chunks() {
            collector.extend(&self.encode(&events?)?)?;
        }
        collector.finish()
    }

    /// Encodes events to rows, `[events × width]` in row-major order.
    ///
    /// The columns of `Columns` coordinates are taken by position, those of `Dijet` by name.
    pub fn encode(&self, events: &Table) -> Result<Vec<f32>, DataError> {
        match self {
            Self::Columns(maps) => {
                self.check_width(events.names().len())?;
                for ((map, name), values) in maps.iter().zip(events.names()).zip(events.columns()) {
                    if matches!(map, ColumnMap::Log { .. }) {
                        column::check_positive(name, values, None)?;
                    }
                }
                let mut rows = vec![0.0; events.len() * maps.len()];
                rows.par_chunks_mut(maps.len().max(1)).enumerate().for_each(|(event, row)| {
                    for ((slot, map), values) in row.iter_mut().zip(maps).zip(events.columns()) {
                        *slot = single(map.encode(f64::from(values[event])));
                    }
                });
                Ok(rows)
            }
            Self::Dijet { means, deviations } => {
                dijet::check(events, None)?;
                let mut rows = vec![0.0; events.len() * 7];
                rows.par_chunks_mut(7).zip(raw_dijet(events)?).for_each(|(row, raw)| {
                    for (i, slot) in row.iter_mut().enumerate() {
                        *slot = single((raw[i] - means[i]) / deviations[i]);
                    }
                });
                Ok(rows)
            }
        }
    }

    /// Decodes rows to events in physical units with these column names. Signs that the coordinates drop come from `rng`.
    /// Always finite, whatever finite numbers the rows hold; rows with other numbers are refused.
    pub fn decode(&self, rows: &[f32], names: &[String], rng: &mut ChaCha8Rng) -> Result<Table, DataError> {
        let width = self.width();
        self.check_width(names.len())?;
        if width == 0 || !rows.len().is_multiple_of(width) {
            return Err(DataError::Unusable(format!("{} numbers do not make rows of {width}", rows.len())));
        }
        if let Some(index) = rows.iter().position(|y| !y.is_finite()) {
            return Err(DataError::Unusable(format!(
                "the generator gave {} in coordinate {} of event {}; its training diverged",
                rows[index],
                index % width,
                index / width
            )));
        }
        match self {
            Self::Columns(maps) => {
                let columns = maps.par_iter().enumerate().map(|(i, map)| {
                    rows.iter().skip(i).step_by(width).map(|&y| single(map.decode(f64::from(y)))).collect()
                });
                Table::new(names.to_vec(), columns.collect())
            }
            Self::Dijet { means, deviations } => {
                let order = places(names)?;
                let signs = self.signs(rows.len() / 7, rng);
                let events: Vec<[f32; 7]> = (rows.par_chunks_exact(7).zip(signs))
                    .map(|(row, negative)| {
                        let raw = std::array::from_fn(|i| f64::from(row[i]) * deviations[i] + means[i]);
                        dijet::physical(raw, negative)
                    })
                    .collect();
                let columns = order.iter().map(|&place| events.iter().map(|event| event[place]).collect());
                Table::new(names.to_vec(), columns.collect())
            }
        }
    }

    /// The signs that [`decode`](Self::decode) draws for so many events, `true` for negative; none where the coordinates keep all signs.
    pub(crate) fn signs(&self, events: usize, rng: &mut ChaCha8Rng) -> Vec<bool> {
        match self {
            Self::Columns(_) => Vec::new(),
            Self::Dijet { .. } => (0..events).map(|_| rng.next_u32() >> 31 == 1).collect(),
        }
    }

    /// Numbers in an encoded row.
    pub fn width(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.len(),
            Self::Dijet { .. } => 7,
        }
    }

    /// Whether the numbers make an invertible map: what a file must hold.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Columns(maps) => !maps.is_empty() && maps.iter().all(ColumnMap::is_sound),
            Self::Dijet { means, deviations } => {
                means.iter().all(|mean| mean.is_finite()) && deviations.iter().all(|d| d.is_finite() && *d > 0.0)
            }
        }
    }

    fn check_width(&self, columns: usize) -> Result<(), DataError> {
        if columns == self.width() {
            return Ok(());
        }
        Err(DataError::Unusable(format!("the coordinates are of {} columns, the events have {columns}", self.width())))
    }
}

/// The raw coordinates of each event.
fn raw_dijet(events: &Table) -> Result<Vec<[f64; 7]>, DataError> {
    let columns = dijet::Columns::of(events)?;
    Ok((0..events.len()).into_par_iter().map(|event| dijet::raw(columns.event(event))).collect())
}

/// Where each of these columns stands among the dijet features.
fn places(names: &[String]) -> Result<Vec<usize>, DataError> {
    let place = |name: &String| {
        dijet::FEATURES.iter().position(|known| known == name).ok_or_else(|| DataError::NoColumn {
            name: name.clone(),
            known: dijet::FEATURES.map(str::to_owned).to_vec(),
        })
    };
    names.iter().map(place).collect()
}

#[cfg(test)]
mod tests;
