//! What a discriminator sees: encoded coordinates, and derived observables as differentiable functions of them.
//!
//! Jet-pair observables live in the correlations of the coordinates, where generators fail first (SCIENCE: "traps"). They are
//! logarithmic and standardised on the training events: ½ ln m², ½ ln(pT² + 25 GeV²), and η itself.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::data::{
    Coordinates, DataError, Description, Scratch, Values,
    coordinates::{ColumnMap, EDGE_LIMITS, EDGE_SCALES, ETA_SCALE, MASS_BOUNDS, MASS_OFFSET, PT_THRESHOLD},
};

/// The derived observables that a discriminator sees beside the coordinates, standardised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derived {
    /// Their names.
    pub names: Vec<String>,
    /// Training means of their differentiable forms; 0 for those that a symmetry negates.
    pub means: Vec<f64>,
    /// Training deviations about these means.
    pub deviations: Vec<f64>,
}

/// Rows of encoded events on the host with what a discriminator sees of them, `[events, width]`.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Row-major values.
    pub values: Values,
    /// Numbers in a row.
    pub width: usize,
}

impl Rows {
    /// Events.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[self.place(index)]
    }

    /// Says that these rows will be read in a moment.
    pub fn will_need(&self, rows: impl Iterator<Item = usize>) {
        self.values.will_need(rows.map(|row| self.place(row)));
    }

    fn place(&self, row: usize) -> std::ops::Range<usize> {
        row * self.width..(row + 1) * self.width
    }
}

impl Derived {
    /// Standardises the observables of these names on encoded training rows. They are computed twice, so that they need no room.
    pub fn fit(names: &[String], description: &Description, encoded: &[f32]) -> Result<Self, ModelError> {
        if names.is_empty() {
            return Ok(Self::default());
        }
        let count = (encoded.len() / description.coordinates.width().max(1)).max(1) as f64;
        let mean_over_events = |what: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; names.len()];
            for piece in pieces(description, encoded) {
                for event in raw_on_host(names, description, piece)?.chunks_exact(names.len()) {
                    for (column, (sum, &value)) in sums.iter_mut().zip(event).enumerate() {
                        *sum += what(column, f64::from(value));
                    }
                }
            }
            Ok::<Vec<f64>, ModelError>(sums.into_iter().map(|sum| sum / count).collect())
        };
        let mut means = mean_over_events(&|_, value| value)?;
        for (mean, _) in means.iter_mut().zip(names).filter(|(_, name)| *name == "jj_eta") {
            *mean = 0.0;
        }
        let variances = mean_over_events(&|column, value| (value - means[column]).powi(2))?;
        let deviations = variances.into_iter().map(|variance| variance.sqrt().max(1e-6)).collect();
        Ok(Self { names: names.to_vec(), means, deviations })
    }

    /// Encoded rows with the derived observables appended, on the host.
    pub fn append(&self, description: &Description, encoded: &[f32]) -> Result<Rows, ModelError> {
        let width = description.coordinates.width();
        if self.names.is_empty() {
            return Ok(Rows { values: encoded.to_vec().into(), width });
        }
        self.append_in(description, encoded, &Scratch::memory())
    }

    /// As [`append`](Self::append), for rows that may lie in a file.
    pub fn append_all(
        &self,
        description: &Description,
        encoded: &Values,
        scratch: &Scratch,
    ) -> Result<Rows, ModelError> {
        if self.names.is_empty() {
            return Ok(Rows { values: encoded.clone(), width: description.coordinates.width() });
        }
        self.append_in(description, encoded, scratch)
    }

    fn append_in(&self, description: &Description, encoded: &[f32], scratch: &Scratch) -> Result<Rows, ModelError> {
        let (width, derived) = (description.coordinates.width(), self.names.len());
        let mut collector = scratch.collector();
        let mut values = Vec::new();
        for piece in pieces(description, encoded) {
            values.clear();
            let raw = raw_on_host(&self.names, description, piece)?;
            for (row, extra) in piece.chunks_exact(width).zip(raw.chunks_exact(derived)) {
                values.extend_from_slice(row);
                let standard = extra.iter().zip(self.means.iter().zip(&self.deviations));
                values.extend(standard.map(|(&v, (mean, deviation))| ((f64::from(v) - mean) / deviation) as f32));
            }
            collector.extend(&values)?;
        }
        Ok(Rows { values: collector.finish()?, width: width + derived })
    }

    /// Encoded rows `[batch, width]` with the derived observables appended, differentiably.
    pub fn forward(&self, description: &Description, encoded: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        if self.names.is_empty() {
            return Ok(encoded);
        }
        let raw = raw(&self.names, description, &encoded)?;
        let mut columns = vec![encoded];
        for (column, (mean, deviation)) in raw.into_iter().zip(self.means.iter().zip(&self.deviations)) {
            columns.push((column - *mean) / *deviation);
        }
        Ok(Tensor::cat(columns, 1))
    }

    /// Takes a gradient with respect to [`forward`](Self::forward)'s rows back to one with respect to the encoded rows.
    pub fn backward(
        &self,
        description: &Description,
        encoded: Tensor<2>,
        gradient: Tensor<2>,
    ) -> Result<Tensor<2>, ModelError> {
        if self.names.is_empty() {
            return Ok(gradient);
        }
        let encoded = Tensor::from_inner(encoded).require_grad();
        let seen = self.forward(description, encoded.clone())?;
        let gradients = (seen * Tensor::from_inner(gradient)).sum().backward();
        Ok(encoded.grad(&gradients).unwrap_or_else(|| encoded.inner().zeros_like()))
    }

    /// The columns of a discriminator's input that change sign under each symmetry of the description.
    pub fn flips(&self, description: &Description) -> Vec<Vec<usize>> {
        let width = description.coordinates.width();
        let turns_eta = |set: &[usize]| match description.coordinates {
            Coordinates::Dijet { .. } => set.contains(&5) && set.contains(&6),
            Coordinates::Columns(_) => {
                let flipped =
                    |name: &str| description.features.iter().position(|f| f == name).is_some_and(|i| set.contains(&i));
                flipped("ljet1_eta") && flipped("ljet2_eta")
            }
        };
        let odd = |set: &Vec<usize>| {
            let mut set = set.clone();
            if turns_eta(&set) {
                set.extend(self.names.iter().enumerate().filter(|(_, name)| *name == "jj_eta").map(|(i, _)| width + i));
            }
            set
        };
        description.symmetries.iter().map(odd).collect()
    }
}

/// Encoded rows, some thousands at a time.
fn pieces<'a>(description: &Description, encoded: &'a [f32]) -> std::slice::Chunks<'a, f32> {
    encoded.chunks(description.coordinates.width().max(1) * 16_384)
}

/// The differentiable forms on the host, `[events, names]`; computed on the CPU so that every device sees the same numbers.
fn raw_on_host(names: &[String], description: &Description, encoded: &[f32]) -> Result<Vec<f32>, ModelError> {
    let width = description.coordinates.width();
    let tensor = TensorData::new(encoded.to_vec(), [encoded.len() / width.max(1), width]);
    let columns = raw(names, description, &Tensor::from_data(tensor, &Device::flex()))?;
    host(Tensor::cat(columns, 1))
}

/// Brings a tensor's numbers to the host, row-major.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ModelError> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| ModelError::Device(crate::device::DeviceError::Failed(error.to_string())))
}

fn raw(names: &[String], description: &Description, encoded: &Tensor<2>) -> Result<Vec<Tensor<2>>, ModelError> {
    let jets = Jets::decode(description, encoded)?;
    Ok(names.iter().map(|name| jets.observable(name)).collect())
}

/// Two jets in physical units as column tensors `[batch, 1]`, jet 1 at φ = 0.
struct Jets {
    pt: [Tensor<2>; 2],
    eta: [Tensor<2>; 2],
    mass: [Tensor<2>; 2],
    phi: Tensor<2>,
}

impl Jets {
    fn decode(description: &Description, encoded: &Tensor<2>) -> Result<Self, ModelError> {
        let column = |index: usize| encoded.clone().slice([0..encoded.dims()[0], index..index + 1]);
        match &description.coordinates {
            Coordinates::Dijet { means, deviations } => {
                Ok(Self::from_dijet(|index| column(index) * deviations[index] + means[index]))
            }
            Coordinates::Columns(maps) => {
                let feature = |name: &str| {
                    let missing = || DataError::NoColumn { name: name.to_owned(), known: description.features.clone() };
                    let index = description.features.iter().position(|feature| feature == name).ok_or_else(missing)?;
                    decode(&maps[index], column(index), name)
                };
                Ok(Self {
                    pt: [feature("ljet1_pt")?, feature("ljet2_pt")?],
                    eta: [feature("ljet1_eta")?, feature("ljet2_eta")?],
                    mass: [feature("ljet1_M")?, feature("ljet2_M")?],
                    phi: feature("ljet2_phi")?,
                })
            }
        }
    }

    /// Inverts the dijet coordinates; `raw(i)` is the i-th before standardisation.
    fn from_dijet(raw: impl Fn(usize) -> Tensor<2>) -> Self {
        // The three coordinates with an edge at once, `[batch, 3]`.
        let scores = from_edge_scores(Tensor::cat(vec![raw(0), raw(1), raw(4)], 1));
        let edge = |place: usize| {
            let score = scores.clone().slice([0..scores.dims()[0], place..place + 1]);
            (score * EDGE_SCALES[place]).clamp_max(EDGE_LIMITS[place])
        };
        let pt2 = edge(0).exp() * PT_THRESHOLD;
        let pt1 = edge(1).exp() * pt2.clone();
        let mass = |index: usize, pt: &Tensor<2>| {
            (raw(index).clamp(MASS_BOUNDS.0, MASS_BOUNDS.1).exp() * pt.clone() - MASS_OFFSET).clamp_min(0.0)
        };
        let phi = edge(2).neg() + std::f64::consts::PI;
        // η = bound · (2Φ(g) − 1) = bound · erf(g/√2).
        let eta = |g: Tensor<2>| (g * std::f64::consts::FRAC_1_SQRT_2).erf() * ETA_SCALE;
        let (sum, difference) = (raw(5), raw(6));
        Self {
            mass: [mass(2, &pt1), mass(3, &pt2)],
            eta: [eta(sum.clone() + difference.clone()), eta(sum - difference)],
            pt: [pt1, pt2],
            phi,
        }
    }

    fn observable(&self, name: &str) -> Tensor<2> {
        let [pt1, pt2] = &self.pt;
        let x = pt1.clone() + pt2.clone() * self.phi.clone().cos();
        let y = pt2.clone() * self.phi.clone().sin();
        let pt_squared = x.square() + y.square();
        if name == "jj_pt" {
            return (pt_squared + 25.0).log() * 0.5;
        }
        // sinh and cosh by one exponential each.
        let (grow, shrink): (Vec<_>, Vec<_>) =
            self.eta.iter().map(|eta| (eta.clone().exp(), eta.clone().neg().exp())).unzip();
        let z = |jet: usize| self.pt[jet].clone() * (grow[jet].clone() - shrink[jet].clone()) * 0.5;
        let pz = z(0) + z(1);
        if name == "jj_eta" {
            return (pz / (pt_squared + 25.0).sqrt()).asinh();
        }
        let energy = |jet: usize| {
            let momentum = self.pt[jet].clone() * (grow[jet].clone() + shrink[jet].clone()) * 0.5;
            (momentum.square() + self.mass[jet].clone().square()).sqrt()
        };
        let energy = energy(0) + energy(1);
        ((energy.square() - pz.square() - pt_squared).clamp_min(1e4)).log() * 0.5
    }
}

/// −ln Φ(−x) for |x| ≤ 9, to seven digits: by the fit to ln erfc of Press et al., Numerical Recipes (erfcc), whose relative error
/// in erfc is below 1.2e-7 everywhere.
fn from_edge_scores(scores: Tensor<2>) -> Tensor<2> {
    const FIT: [f64; 10] = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let scores = scores.clamp(-9.0, 9.0);
    let z = scores.clone().abs() * std::f64::consts::FRAC_1_SQRT_2;
    let t = (z.clone() * 0.5 + 1.0).recip();
    let mut fit = t.clone() * FIT[9] + FIT[8];
    for coefficient in FIT[..8].iter().rev() {
        fit = fit * t.clone() + *coefficient;
    }
    // ln Φ(−|x|).
    let outer = t.log() - z.square() + fit - std::f64::consts::LN_2;
    let inner = outer.clone().exp().neg().log1p();
    let positive = scores.greater_elem(0.0).float();
    (inner.clone() + (outer - inner) * positive).neg()
}

fn decode(map: &ColumnMap, column: Tensor<2>, name: &str) -> Result<Tensor<2>, DataError> {
    Ok(match *map {
        ColumnMap::Standard { mean, deviation } => column * deviation + mean,
        ColumnMap::Log { mean, deviation } => (column * deviation + mean).clamp_max(20.0).exp(),
        ColumnMap::MinMax { min, max } => (column + 1.0) * ((max - min) / 2.0) + min,
        ColumnMap::Quantile { .. } | ColumnMap::Gpd { .. } => {
            return Err(DataError::Unusable(format!(
                "the derived observables need `{name}`, whose map by quantiles has no useful gradient; use `log` or `standard`"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Coordinates, CoordinatesChoice, Events, Observables, coordinates::NamedCoordinates, read_table},
        rng::Streams,
    };

    /// The differentiable forms of the embedded events' observables, by tensors in single precision and on the host in double.
    #[test]
    fn observables_on_tensors_are_those_of_the_decoded_events() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dijet/train.parquet");
        let events = read_table(path.as_ref(), None).unwrap();
        let choice = CoordinatesChoice::Named(NamedCoordinates::Dijet);
        let description = Description {
            features: events.names().to_vec(),
            coordinates: Coordinates::fit(&choice, &Events::of(&events).unwrap(), &[], &Scratch::memory()).unwrap(),
            observables: Observables::Dijet,
            symmetries: Vec::new(),
            tail: None,
            truth: None,
        };
        let encoded = description.coordinates.encode(&events).unwrap();
        let names = ["jj_M", "jj_pt", "jj_eta"].map(str::to_owned);
        let raw = raw_on_host(&names, &description, &encoded).unwrap();
        // Decoded again, so that both sides see the same single-precision rows.
        let mut signs = Streams::new(1, "test").stream("signs");
        let decoded = description.coordinates.decode(&encoded, &description.features, &mut signs).unwrap();
        let of = |name: &str| description.observables.values(&decoded, name).unwrap();
        let (mass, pt, eta) = (of("jj_M"), of("jj_pt"), of("jj_eta"));
        let forms = |i: usize| {
            let offset = (pt[i] * pt[i] + 25.0).sqrt();
            [mass[i].ln(), offset.ln(), (eta[i].sinh() * pt[i] / offset).asinh()]
        };
        for (i, row) in raw.chunks_exact(3).enumerate() {
            for (&found, expected) in row.iter().zip(forms(i)) {
                assert!((f64::from(found) - expected).abs() < 2e-3, "event {i}: {row:?} is not {:?}", forms(i));
            }
        }
    }
}
