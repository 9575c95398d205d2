//! The differentiable forms with libtorch's operations: both jets side by side in `[batch, 2]`, so that there are few of them.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::{Device, Tensor};
use tch::{Kind, Tensor as Torch};

use super::{
    Derived,
    event::{LEAST_MASS, PT_OFFSET, columns},
};
use crate::{
    data::{
        Coordinates, DataError, Description,
        coordinates::{ColumnMap, EDGE_LIMITS, EDGE_SCALES, ETA_SCALE, MASS_BOUNDS, MASS_OFFSET, PT_THRESHOLD},
    },
    model::{
        torch::{Loan, give, lend, own},
        transfer::upload,
    },
};

/// What takes a gradient back: the encoded rows, and what came of them.
pub(super) struct Trace {
    ends: [Torch; 2],
    /// So that nobody changes in place what came out.
    _seen: Loan,
}

impl Trace {
    /// The gradient with respect to the encoded rows.
    pub(super) fn backward(self, gradient: Tensor<2>) -> Tensor<2> {
        let [encoded, seen] = self.ends;
        let loss = (seen * &*lend(gradient)).sum(Kind::Float);
        own(Torch::run_backward(&[loss], &[encoded], false, false).swap_remove(0))
    }
}

/// Encoded rows with the observables appended.
pub(super) fn forward(
    derived: &Derived,
    description: &Description,
    encoded: Tensor<2>,
) -> Result<Tensor<2>, DataError> {
    let device = encoded.device();
    Ok(own(append(derived, description, &lend(encoded), &device)?))
}

/// As [`forward`], with what takes a gradient back.
pub(super) fn traced(
    derived: &Derived,
    description: &Description,
    encoded: Tensor<2>,
) -> Result<(Tensor<2>, Trace), DataError> {
    let device = encoded.device();
    let encoded = lend(encoded).detach().copy().set_requires_grad(true);
    let seen = append(derived, description, &encoded, &device)?;
    let given = Loan::of(seen.detach());
    Ok((give(given.clone()), Trace { ends: [encoded, seen], _seen: given }))
}

fn append(derived: &Derived, description: &Description, encoded: &Torch, device: &Device) -> Result<Torch, DataError> {
    let jets = Jets::decode(description, encoded, device)?;
    let forms = Torch::cat(&derived.names.iter().map(|name| jets.form(name)).collect::<Vec<_>>(), 1);
    let rows = [&derived.means, &derived.deviations].map(|row| row.iter().map(|&x| x as f32));
    let names = derived.names.len();
    let numbers = lend(upload::<2>(rows.into_iter().flatten().collect(), [2, names], device));
    let standard = (forms - numbers.narrow(0, 0, 1)) / numbers.narrow(0, 1, 1);
    Ok(Torch::cat(&[encoded, &standard], 1))
}

/// Two jets in physical units, `[batch, 2]` each, jet 1 at φ = 0.
struct Jets {
    pt: Torch,
    eta: Torch,
    mass: Torch,
    /// Sine and cosine of φ₂, `[batch, 1]`.
    phi: [Torch; 2],
}

impl Jets {
    fn decode(description: &Description, encoded: &Torch, device: &Device) -> Result<Self, DataError> {
        Ok(match &description.coordinates {
            Coordinates::Dijet { means, deviations } => {
                let rows = [&means[..], &deviations[..], &EDGE_SCALES.map(|scale| -scale), &EDGE_LIMITS, &[0.0]];
                let numbers = rows.concat().into_iter().map(|x| x as f32).collect();
                let numbers = lend(upload::<2>(numbers, [3, 7], device));
                let raw = numbers.narrow(0, 0, 1).addcmul(encoded, &numbers.narrow(0, 1, 1));
                Self::from_dijet(&raw, &numbers.narrow(0, 2, 1))
            }
            Coordinates::Columns(maps) => {
                let [pt1, eta1, m1, pt2, eta2, phi, m2] = columns(description)?;
                let one = |column: usize| decode(&maps[column], &encoded.narrow(1, column as i64, 1));
                let two = |first, second| Torch::cat(&[one(first), one(second)], 1);
                let phi = one(phi);
                Self { pt: two(pt1, pt2), eta: two(eta1, eta2), mass: two(m1, m2), phi: [phi.sin(), phi.cos()] }
            }
        })
    }

    /// Inverts the dijet coordinates before standardisation; `edges` holds −scale of the three with an edge, then their limits.
    fn from_dijet(raw: &Torch, edges: &Torch) -> Self {
        let columns = |first, count| raw.narrow(1, first, count);
        let scores = Torch::cat(&[columns(0, 2), columns(4, 1)], 1);
        // −s ln Φ(−x).
        let edge = (scores.neg().special_log_ndtr() * edges.narrow(1, 0, 3)).minimum(&edges.narrow(1, 3, 3));
        let (above_threshold, above_second) = (edge.narrow(1, 0, 1), edge.narrow(1, 1, 1));
        let pt = Torch::cat(&[&(&above_threshold + above_second), &above_threshold], 1).exp() * PT_THRESHOLD;
        let mass = (columns(2, 2).clamp(MASS_BOUNDS.0, MASS_BOUNDS.1).exp() * &pt - MASS_OFFSET).relu();
        let (sum, difference) = (columns(5, 1), columns(6, 1));
        // η = bound · (2Φ(g) − 1) = bound · erf(g/√2).
        let scores = Torch::cat(&[&sum + &difference, sum - difference], 1);
        let eta = (scores * FRAC_1_SQRT_2).erf() * ETA_SCALE;
        // φ₂ = π − e.
        let below_pi = edge.narrow(1, 2, 1);
        Self { pt, eta, mass, phi: [below_pi.sin(), below_pi.cos().neg()] }
    }

    fn form(&self, name: &str) -> Torch {
        let sum = |both: Torch| both.sum_dim_intlist(1i64, true, Kind::Float);
        let (pt1, pt2) = (self.pt.narrow(1, 0, 1), self.pt.narrow(1, 1, 1));
        let [sin, cos] = &self.phi;
        let (x, y) = (pt1.addcmul(&pt2, cos), pt2 * sin);
        let pt_squared = x.square().addcmul(&y, &y);
        if name == "jj_pt" {
            return (pt_squared + PT_OFFSET).log() * 0.5;
        }
        let pz = sum(&self.pt * self.eta.sinh());
        if name == "jj_eta" {
            return (pz / (pt_squared + PT_OFFSET).sqrt()).asinh();
        }
        let energy = sum((&self.pt * self.eta.cosh()).hypot(&self.mass));
        let mass_squared = energy.square() - pz.square() - pt_squared;
        mass_squared.clamp_min(LEAST_MASS).log() * 0.5
    }
}

/// A physical quantity of a column that [`columns`] has looked at.
fn decode(map: &ColumnMap, column: &Torch) -> Torch {
    match *map {
        ColumnMap::Standard { mean, deviation } => column * deviation + mean,
        ColumnMap::Log { mean, deviation } => (column * deviation + mean).clamp_max(20.0).exp(),
        ColumnMap::MinMax { min, max } => (column + 1.0) * ((max - min) / 2.0) + min,
        ColumnMap::Quantile { .. } | ColumnMap::Gpd { .. } => unreachable!("such maps are refused"),
    }
}
