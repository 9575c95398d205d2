//! Synthetic events of a known density, to judge how well a tail is learnt when the truth is known exactly.
//!
//! The first coordinate x0 carries the tail and follows the chosen distribution F, with density f, exactly. Its normal score
//! g = Φ⁻¹(F(x0)) drives the others, with independent standard normal z:
//!
//! ```text
//! x_j = 0.6 g + 0.8 z_j,   j = 1, 2, …        joint density: f(x0) Π_j N(x_j; 0.6 g(x0), 0.8²)
//! ```
//!
//! So each of the others is standard normal, and the copula is Gaussian: correlation 0.6 between the score of x0 and each
//! other coordinate, 0.36 between any two of those.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{ChiSquared, Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use statrs::function::beta::beta_reg;

use super::{DataError, Table, normal, single};

/// The weight of x0's normal score in each other coordinate.
pub const CORRELATION: f64 = 0.6;

/// The density of x0: what a dataset of synthetic events knows to be true.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "density", rename_all = "snake_case", deny_unknown_fields)]
pub enum Truth {
    /// Standard normal.
    Normal,
    /// Student's t: both tails fall as a power, P(|x0| > x) ∝ x^−degrees.
    StudentT {
        /// Degrees of freedom, above 0.
        degrees: f64,
    },
    /// Pareto: P(x0 > x) = x^−index for x ≥ 1.
    Pareto {
        /// The tail index, above 0.
        index: f64,
    },
    /// ln x0 is normal with mean 0.
    LogNormal {
        /// The deviation of ln x0, above 0.
        sigma: f64,
    },
}

impl Truth {
    /// The quantile of x0 at p in [0, 1]: F⁻¹(p).
    pub fn quantile(&self, p: f64) -> f64 {
        match self {
            Self::LogNormal { sigma } => (sigma * normal::quantile(p)).exp(),
            Self::Normal | Self::StudentT { .. } if p < 0.5 => -self.upper_quantile(p),
            _ => self.upper_quantile(1.0 - p),
        }
    }

    /// The value that x0 exceeds with probability u: F⁻¹(1 − u), without the loss of digits near 1.
    pub fn upper_quantile(&self, u: f64) -> f64 {
        match self {
            Self::Normal => -normal::quantile(u),
            Self::StudentT { .. } if u > 0.5 => -self.upper_quantile(1.0 - u),
            Self::StudentT { .. } => self.bisect(u),
            Self::Pareto { index } => u.powf(-1.0 / index),
            Self::LogNormal { sigma } => (-sigma * normal::quantile(u)).exp(),
        }
    }

    /// P(x0 > x).
    pub fn survival(&self, x: f64) -> f64 {
        match self {
            Self::Normal => normal::cdf(-x),
            Self::StudentT { degrees } => {
                let half = beta_reg(degrees / 2.0, 0.5, degrees / (degrees + x * x)) / 2.0;
                if x < 0.0 { 1.0 - half } else { half }
            }
            Self::Pareto { index } => x.max(1.0).powf(-index),
            Self::LogNormal { sigma } if x > 0.0 => normal::cdf(-x.ln() / sigma),
            Self::LogNormal { .. } => 1.0,
        }
    }

    /// The point above 0 with this survival, by halving an interval of its logarithm.
    fn bisect(&self, u: f64) -> f64 {
        if u <= 0.0 {
            return f64::INFINITY;
        }
        let (mut low, mut high) = (-40.0_f64, 350.0_f64);
        for _ in 0..200 {
            let middle = f64::midpoint(low, high);
            if self.survival(middle.exp()) > u { low = middle } else { high = middle }
        }
        if self.survival(0.0) <= u { 0.0 } else { low.exp() }
    }

    /// One x0 and its normal score Φ⁻¹(F(x0)).
    fn draw(&self, rng: &mut ChaCha8Rng) -> (f64, f64) {
        let normal: f64 = StandardNormal.sample(rng);
        match self {
            Self::Normal => (normal, normal),
            Self::LogNormal { sigma } => ((sigma * normal).exp(), normal),
            Self::Pareto { .. } => (self.upper_quantile(normal::cdf(-normal)), normal),
            Self::StudentT { degrees } => {
                let scale = ChiSquared::new(*degrees).map_or(f64::NAN, |chi| chi.sample(rng) / degrees).sqrt();
                let size = (normal / scale).abs();
                let score = -normal::quantile(self.survival(size).clamp(f64::MIN_POSITIVE, 0.5));
                (size.copysign(normal), score.copysign(normal))
            }
        }
    }

    /// Draws events with the columns x0, x1, …; finite in single precision.
    pub fn events(&self, events: usize, dimensions: usize, rng: &mut ChaCha8Rng) -> Result<Table, DataError> {
        let mut columns = vec![Vec::with_capacity(events); dimensions];
        let rest = (1.0 - CORRELATION * CORRELATION).sqrt();
        for _ in 0..events {
            let (x, score) = self.draw(rng);
            for (j, column) in columns.iter_mut().enumerate() {
                let value = if j == 0 { x } else { CORRELATION * score + rest * normal_draw(rng) };
                column.push(single(value));
            }
        }
        if columns.iter().flatten().any(|x| !x.is_finite()) {
            return Err(DataError::Unusable(format!(
                "{self:?} gives numbers that are not finite; choose a lighter tail"
            )));
        }
        Table::new(names(dimensions), columns)
    }
}

fn normal_draw(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// The columns of synthetic events: x0, x1, …
pub fn names(dimensions: usize) -> Vec<String> {
    (0..dimensions).map(|j| format!("x{j}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    const ALL: [Truth; 5] = [
        Truth::Normal,
        Truth::StudentT { degrees: 3.0 },
        Truth::StudentT { degrees: 0.7 },
        Truth::Pareto { index: 2.5 },
        Truth::LogNormal { sigma: 1.5 },
    ];

    #[test]
    fn quantiles_and_survival_agree_with_scipy() {
        let text = include_str!("../../tests/reference/data_quantiles.csv");
        let mut compared = 0;
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let [parameter, u, expected] = [1, 2, 3].map(|i| fields[i].parse::<f64>().unwrap());
            let truth = match fields[0] {
                "normal" => Truth::Normal,
                "student_t" => Truth::StudentT { degrees: parameter },
                "pareto" => Truth::Pareto { index: parameter },
                "log_normal" => Truth::LogNormal { sigma: parameter },
                other => panic!("unknown density {other}"),
            };
            let value = truth.upper_quantile(u);
            assert!((value - expected).abs() <= 1e-8 * (1.0 + expected.abs()), "{line}: {value}");
            let survival = truth.survival(expected);
            assert!((survival / u - 1.0).abs() < 1e-7, "{line}: {survival}");
            if u > 1e-4 {
                let same = truth.quantile(1.0 - u);
                assert!((same - expected).abs() <= 1e-7 * (1.0 + expected.abs()), "{line}: {same}");
            }
            compared += 1;
        }
        assert!(compared >= 50, "{compared}");
    }

    #[test]
    fn draws_follow_their_density_in_bulk_and_tail() {
        for truth in ALL {
            let mut rng = Streams::new(3, "dataset").stream("synthetic");
            let events = truth.events(100_000, 1, &mut rng).unwrap();
            for u in [0.9, 0.5, 0.1, 0.01, 0.001] {
                let cut = truth.upper_quantile(u);
                let above = events.columns()[0].iter().filter(|&&x| f64::from(x) > cut).count() as f64;
                let (expected, deviation) = (1e5 * u, (1e5 * u * (1.0 - u)).sqrt());
                assert!((above - expected).abs() < 4.0 * deviation, "{truth:?} at {u}: {above} for {expected}");
            }
        }
    }

    #[test]
    fn the_other_coordinates_are_normal_and_correlate_as_documented() {
        for truth in ALL {
            let mut rng = Streams::new(4, "dataset").stream("synthetic");
            let events = truth.events(50_000, 3, &mut rng).unwrap();
            let score = |x: f32| -normal::quantile(truth.survival(f64::from(x)).clamp(1e-300, 1.0 - 1e-16));
            let scores: Vec<f64> = events.columns()[0].iter().map(|&x| score(x)).collect();
            let of = |j: usize| events.columns()[j].iter().map(|&x| f64::from(x));
            let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / 5e4;
            assert!(mean(&mut of(1)).abs() < 0.02);
            assert!((mean(&mut of(1).map(|x| x * x)) - 1.0).abs() < 0.03);
            assert!((mean(&mut of(1).zip(&scores).map(|(x, g)| x * g)) - 0.6).abs() < 0.02, "{truth:?}");
            assert!((mean(&mut of(1).zip(of(2)).map(|(x, y)| x * y)) - 0.36).abs() < 0.02, "{truth:?}");
        }
    }

    #[test]
    fn the_truth_is_written_with_its_density_first() {
        let json = serde_json::to_string(&Truth::StudentT { degrees: 3.0 }).unwrap();
        assert_eq!(json, r#"{"density":"student_t","degrees":3.0}"#);
        assert_eq!(serde_json::from_str::<Truth>(&json).unwrap(), Truth::StudentT { degrees: 3.0 });
    }
}
