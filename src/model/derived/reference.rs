//! The differentiable forms as burn's tensor operations, differentiated by its autodiff: what the others are held against.

use burn::tensor::Tensor;

use super::Derived;
use crate::{
    data::{
        Coordinates, DataError, Description,
        coordinates::{ColumnMap, EDGE_LIMITS, EDGE_SCALES, ETA_SCALE, MASS_BOUNDS, MASS_OFFSET, PT_THRESHOLD},
    },
    model::ModelError,
};

/// Encoded rows `[batch, width]` with the observables appended.
pub(super) fn append(
    derived: &Derived,
    description: &Description,
    encoded: Tensor<2>,
) -> Result<Tensor<2>, ModelError> {
    let forms = forms(&derived.names, description, &encoded)?;
    let mut columns = vec![encoded];
    for (column, (mean, deviation)) in forms.into_iter().zip(derived.means.iter().zip(&derived.deviations)) {
        columns.push((column - *mean) / *deviation);
    }
    Ok(Tensor::cat(columns, 1))
}

fn forms(names: &[String], description: &Description, encoded: &Tensor<2>) -> Result<Vec<Tensor<2>>, ModelError> {
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
