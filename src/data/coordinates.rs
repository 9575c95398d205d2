//! Coordinates: the invertible map from physical columns to numbers that suit a generator.
//!
//! A generator works on encoded rows: each coordinate has mean 0 and deviation 1 on the training events.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{DataError, Table};

pub const PT_THRESHOLD: f64 = 250.0;
pub const LOG_OFFSET: f64 = 0.01;
pub const MASS_OFFSET: f64 = 1.0;
pub const ETA_SCALE: f64 = 2.5001;
pub const RAW_BOUNDS: [(f64, f64); 5] = [(-9.0, 1.4), (-9.0, 1.4), (-9.0, 1.0), (-9.0, 1.0), (-9.0, 1.2)];

/// The coordinates as chosen in a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CoordinatesChoice {
    /// A ready set by name: `dijet`, `standard`.
    Named(NamedCoordinates),
    /// A map for each column; columns that are not named are standardised.
    Columns(BTreeMap<String, MapChoice>),
}

/// Ready sets of coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedCoordinates {
    /// Standardise each column.
    Standard,
    /// The seven dijet columns: threshold and ordering of pT hold by construction, η through a probit map, |φ|.
    Dijet,
}

/// The map of one column as chosen in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        /// Physical values at evenly spaced probabilities.
        knots: Vec<f64>,
    },
}

impl Coordinates {
    /// Fits the chosen coordinates on training events. `flipped` names the columns whose sign is a symmetry.
    pub fn fit(_choice: &CoordinatesChoice, _train: &Table, _flipped: &[String]) -> Result<Self, DataError> {
        todo!()
    }

    /// Encodes events to rows, `[events × width]` in row-major order.
    pub fn encode(&self, _events: &Table) -> Result<Vec<f32>, DataError> {
        todo!()
    }

    /// Decodes rows to events in physical units with these column names. Signs that the coordinates drop come from `rng`.
    /// Always finite, whatever finite numbers the rows hold.
    pub fn decode(&self, _rows: &[f32], _names: &[String], _rng: &mut ChaCha8Rng) -> Result<Table, DataError> {
        todo!()
    }

    /// Numbers in an encoded row.
    pub fn width(&self) -> usize {
        match self {
            Self::Columns(columns) => columns.len(),
            Self::Dijet { .. } => 7,
        }
    }
}
