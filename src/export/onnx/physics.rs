//! Encoded rows to physical columns and derived observables, in double precision: the formulas of `data::{column, dijet}` and
//! `model::derived`.

use std::f64::consts::PI;

use super::{
    graph::{Graph, Value},
    normal::{cdf, log_cdf},
    proto::DataType,
};
use crate::{
    data::{
        Coordinates, Description,
        coordinates::{
            ColumnMap, EDGE_LIMITS, EDGE_SCALES, ETA_MAX, ETA_SCALE, GPD_SHARE, MASS_BOUNDS, MASS_OFFSET, PHI_MAX,
            PT_THRESHOLD, QUANTILE_MARGIN,
        },
        dijet,
        pareto::EXPONENTIAL,
    },
    model::Derived,
};

const LARGEST: f64 = f32::MAX as f64;

/// Physical columns of events, `[events, 1]` each: in single precision, as samples have them, held in double.
pub(super) struct Events<'a, 'g> {
    description: &'a Description,
    columns: Vec<Value<'g>>,
}

impl<'a, 'g> Events<'a, 'g> {
    /// Decodes rows in double precision. `negative` is the sign of φ₂ where the coordinates leave it out; without it φ₂ ≥ 0.
    pub(super) fn decode(description: &'a Description, rows: Value<'g>, negative: Option<Value<'g>>) -> Self {
        let columns: Vec<Value<'g>> = match &description.coordinates {
            Coordinates::Columns(maps) => {
                maps.iter().enumerate().map(|(index, map)| decode(map, rows.column(index))).collect()
            }
            Coordinates::Dijet { means, deviations } => {
                let raw = |index: usize| rows.column(index) * deviations[index] + means[index];
                let jets = Jets::decode(raw);
                let phi = jets.phi.clamp(0.0, PHI_MAX);
                let phi = negative.map_or(phi, |negative| negative.choose(-phi, phi));
                let [eta1, eta2] = jets.eta.map(|eta| eta.clamp(-ETA_MAX, ETA_MAX));
                let ([pt1, pt2], [m1, m2]) = (jets.pt, jets.mass);
                let physical = [pt1, eta1, m1, pt2, eta2, phi, m2];
                let place = |name: &String| dijet::FEATURES.iter().position(|known| known == name);
                description.features.iter().filter_map(place).map(|place| physical[place]).collect()
            }
        };
        let single = |x: Value<'g>| x.clamp(-LARGEST, LARGEST).cast(DataType::Float).cast(DataType::Double);
        Self { description, columns: columns.into_iter().map(single).collect() }
    }

    /// A feature or derived observable.
    pub(super) fn observable(&self, name: &str) -> Option<Value<'g>> {
        let feature = |name: &str| self.description.features.iter().position(|feature| feature == name);
        if let Some(index) = feature(name) {
            return self.columns.get(index).copied();
        }
        let jets = dijet::FEATURES.map(|name| feature(name).and_then(|index| self.columns.get(index).copied()));
        let [Some(pt1), Some(eta1), Some(m1), Some(pt2), Some(eta2), Some(phi), Some(m2)] = jets else { return None };
        let eta = [eta1, eta2].map(|eta| eta.clamp(-20.0, 20.0));
        let pair = Jets { pt: [pt1, pt2], eta, mass: [m1, m2], phi };
        let ([x, y], z) = (pair.transverse(), pair.longitudinal());
        let pt = (x.square() + y.square()).sqrt();
        match name {
            "jj_pt" => Some(pt),
            "jj_eta" => Some(asinh(z / pt.max(1e-9))),
            "jj_M" => Some((pair.energy().square() - x.square() - y.square() - z.square()).max(0.0).sqrt()),
            _ => None,
        }
    }
}

/// What a discriminator sees of encoded rows of single precision: the rows, and derived observables.
pub(super) fn seen<'g>(derived: &Derived, description: &Description, rows: Value<'g>) -> Option<Value<'g>> {
    let mut columns = vec![rows];
    let doubles = rows.cast(DataType::Double);
    for (name, (mean, deviation)) in derived.names.iter().zip(derived.means.iter().zip(&derived.deviations)) {
        let form = Jets::differentiable(description, doubles)?.form(name);
        columns.push(((form - *mean) / *deviation).cast(DataType::Float));
    }
    Some(if let [rows] = columns[..] { rows } else { rows.graph().concat(&columns) })
}

/// Two jets as columns, jet 1 at φ = 0.
struct Jets<'g> {
    pt: [Value<'g>; 2],
    eta: [Value<'g>; 2],
    mass: [Value<'g>; 2],
    phi: Value<'g>,
}

impl<'g> Jets<'g> {
    /// Of the raw dijet coordinates; not yet held within the last numbers below their edges.
    fn decode(raw: impl Fn(usize) -> Value<'g>) -> Self {
        let edge = |place: usize, index: usize| (log_cdf(-raw(index)) * -EDGE_SCALES[place]).min(EDGE_LIMITS[place]);
        let pt2 = edge(0, 0).exp() * PT_THRESHOLD;
        let pt1 = edge(1, 1).exp() * pt2;
        let mass = |index: usize, pt: Value<'g>| {
            (raw(index).clamp(MASS_BOUNDS.0, MASS_BOUNDS.1).exp() * pt - MASS_OFFSET).max(0.0)
        };
        let eta = |g: Value<'g>| (cdf(g) * 2.0 - 1.0) * ETA_SCALE;
        let (sum, difference) = (raw(5), raw(6));
        Self {
            pt: [pt1, pt2],
            eta: [eta(sum + difference), eta(sum - difference)],
            mass: [mass(2, pt1), mass(3, pt2)],
            phi: -edge(2, 4) + PI,
        }
    }

    /// As a discriminator decodes encoded rows.
    fn differentiable(description: &Description, rows: Value<'g>) -> Option<Self> {
        let maps = match &description.coordinates {
            Coordinates::Dijet { means, deviations } => {
                return Some(Self::decode(|index| rows.column(index) * deviations[index] + means[index]));
            }
            Coordinates::Columns(maps) => maps,
        };
        let feature = |name: &str| {
            let index = description.features.iter().position(|feature| feature == name)?;
            let x = rows.column(index);
            match maps.get(index)? {
                ColumnMap::Log { mean, deviation } => Some((x * *deviation + *mean).min(20.0).exp()),
                map @ (ColumnMap::Standard { .. } | ColumnMap::MinMax { .. }) => Some(decode(map, x)),
                ColumnMap::Quantile { .. } | ColumnMap::Gpd { .. } => None,
            }
        };
        Some(Self {
            pt: [feature("ljet1_pt")?, feature("ljet2_pt")?],
            eta: [feature("ljet1_eta")?, feature("ljet2_eta")?],
            mass: [feature("ljet1_M")?, feature("ljet2_M")?],
            phi: feature("ljet2_phi")?,
        })
    }

    fn transverse(&self) -> [Value<'g>; 2] {
        let [pt1, pt2] = self.pt;
        [pt1 + pt2 * self.phi.cos(), pt2 * self.phi.sin()]
    }

    fn longitudinal(&self) -> Value<'g> {
        let z = |jet: usize| self.pt[jet] * (self.eta[jet].exp() - (-self.eta[jet]).exp()) * 0.5;
        z(0) + z(1)
    }

    fn energy(&self) -> Value<'g> {
        let energy = |jet: usize| {
            let momentum = self.pt[jet] * (self.eta[jet].exp() + (-self.eta[jet]).exp()) * 0.5;
            (momentum.square() + self.mass[jet].square()).sqrt()
        };
        energy(0) + energy(1)
    }

    /// The differentiable form of an observable.
    fn form(&self, name: &str) -> Value<'g> {
        let ([x, y], z) = (self.transverse(), self.longitudinal());
        let pt_squared = x.square() + y.square();
        match name {
            "jj_pt" => (pt_squared + 25.0).ln() * 0.5,
            "jj_eta" => asinh(z / (pt_squared + 25.0).sqrt()),
            _ => (self.energy().square() - z.square() - pt_squared).max(1e4).ln() * 0.5,
        }
    }
}

/// The inverse of sinh; runtimes lack it in double precision.
fn asinh(x: Value<'_>) -> Value<'_> {
    let size = x.abs();
    let value = (size + (size.square() + 1.0).sqrt()).ln();
    x.less(0.0).choose(-value, value)
}

/// A coordinate to a physical value.
fn decode<'g>(map: &ColumnMap, y: Value<'g>) -> Value<'g> {
    let graph = y.graph();
    match map {
        ColumnMap::Standard { mean, deviation } => y * *deviation + *mean,
        ColumnMap::Log { mean, deviation } => {
            (y * *deviation + *mean).exp().clamp(f64::from(f32::MIN_POSITIVE), LARGEST)
        }
        ColumnMap::MinMax { min, max } => (y + 1.0) * 0.5 * (max - min) + *min,
        ColumnMap::Quantile { knots } => {
            interpolate(graph, knots, (cdf(y) - QUANTILE_MARGIN) / (1.0 - 2.0 * QUANTILE_MARGIN))
        }
        ColumnMap::Gpd { knots, shape, scale } => {
            let threshold = knots.last().copied().unwrap_or_default();
            let below = 1.0 - GPD_SHARE - QUANTILE_MARGIN;
            let bulk = interpolate(graph, knots, (cdf(y) - QUANTILE_MARGIN) / below);
            // ln of the probability above, in units of the tail's.
            let log = log_cdf(-y) - GPD_SHARE.ln();
            let bounded = log.max(f64::MIN_POSITIVE.ln());
            let excess = if shape.abs() < EXPONENTIAL {
                bounded * -scale
            } else {
                ((bounded * -shape).exp() - 1.0) * (scale / shape)
            };
            log.less(0.0).choose((excess + threshold).min(LARGEST), bulk)
        }
    }
}

/// Between knots at evenly spaced places of [0, 1].
fn interpolate<'g>(graph: &'g Graph, knots: &[f64], p: Value<'g>) -> Value<'g> {
    let last = knots.len().saturating_sub(1);
    let position = p.clamp(0.0, 1.0) * last as f64;
    // The last interval holds its upper end.
    let below = position.min(last.saturating_sub(1) as f64).cast(DataType::Int64);
    let from = graph.doubles(&[last], &knots[..last]).with("Gather", below);
    let steps: Vec<f64> = knots.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let step = graph.doubles(&[last], &steps).with("Gather", below);
    from + (position - below.cast(DataType::Double)) * step
}
