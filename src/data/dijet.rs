//! Two jets: the raw coordinates that suit a generator, their inverse, and the observables of the pair.
//!
//! Raw coordinates of an event with pT₁ ≥ pT₂ ≥ 250 GeV, |η| < 2.5 and jet 1 at φ = 0, with g = Φ⁻¹((η / 2.5001 + 1) / 2) and
//! e(v, s) = −Φ⁻¹(exp(−v / s)), the normal score of a number v ≥ 0 that is about exponential with mean s:
//!
//! ```text
//! c0 = e(ln(pT2 / 250), 0.23)    c2 = ln((M1 + 1) / pT1)    c4 = e(π − |φ2|, 0.15)
//! c1 = e(ln(pT1 / pT2), 0.11)    c3 = ln((M2 + 1) / pT2)    c5 = (g1 + g2) / 2,  c6 = (g1 − g2) / 2
//! ```
//!
//! Threshold and ordering of pT hold by construction. The densities do not vanish at these edges, nor at φ₂ = π and |η| = 2.5: in
//! coordinates that end there a generator smears them, and events pile up on the edge. Normal scores have no edge, and their
//! tails are those of a generator's latent vector on both sides. The sign of φ₂, an exact symmetry, is left out.

use std::f64::consts::PI;

use super::{
    DataError, Table,
    coordinates::{EDGE_LIMITS, EDGE_SCALES, ETA_MAX, ETA_SCALE, MASS_BOUNDS, MASS_OFFSET, PHI_MAX, PT_THRESHOLD},
    normal, single,
};

/// The seven columns of a dijet event, in the order of the arrays here: GeV and radians, φ₂ relative to jet 1.
pub const FEATURES: [&str; 7] = ["ljet1_pt", "ljet1_eta", "ljet1_M", "ljet2_pt", "ljet2_eta", "ljet2_phi", "ljet2_M"];

/// The raw coordinates whose sign is a symmetry, together.
pub const FLIPPED: [usize; 2] = [5, 6];

/// What each raw coordinate is made from, for messages.
const MADE_FROM: [&str; 7] = [
    "ljet2_pt",
    "ljet1_pt / ljet2_pt",
    "ljet1_M",
    "ljet2_M",
    "ljet2_phi",
    "ljet1_eta + ljet2_eta",
    "ljet1_eta − ljet2_eta",
];

/// The seven columns of a table, found by name.
pub(super) struct Columns<'a>([&'a [f32]; 7]);

impl<'a> Columns<'a> {
    pub(super) fn of(events: &'a Table) -> Result<Self, DataError> {
        let mut columns = [&[] as &[f32]; 7];
        for (slot, name) in columns.iter_mut().zip(FEATURES) {
            *slot = events.column(name)?;
        }
        Ok(Self(columns))
    }

    /// An event in the order of [`FEATURES`].
    pub(super) fn event(&self, index: usize) -> [f64; 7] {
        self.0.map(|column| f64::from(column[index]))
    }
}

/// Refuses events that the coordinates cannot express; `rows` are their numbers for the message, from 0.
pub(super) fn check(events: &Table, rows: Option<&[usize]>) -> Result<(), DataError> {
    if events.names().len() != FEATURES.len() || FEATURES.iter().any(|name| events.column(name).is_err()) {
        let message = format!(
            "`coordinates: dijet` takes exactly the features {}; these events have {}",
            FEATURES.join(", "),
            events.names().join(", ")
        );
        return Err(DataError::Unusable(message));
    }
    let columns = Columns::of(events)?;
    for index in 0..events.len() {
        if let Some((name, value, needed)) = violation(columns.event(index)) {
            let row = rows.map_or(index, |rows| rows[index]) + 1;
            return Err(DataError::Unusable(format!(
                "row {row}: `{name}` is {value}, but `coordinates: dijet` needs {needed}; keep such events out with \
                 `filter`, or choose other coordinates"
            )));
        }
    }
    Ok(())
}

/// The first feature outside the domain. Rounding of a source (φ = ±π in single precision, M a little below 0) is allowed.
fn violation([pt1, eta1, m1, pt2, eta2, phi2, m2]: [f64; 7]) -> Option<(&'static str, f64, &'static str)> {
    let finite = |x: f64, holds: bool| x.is_finite() && holds;
    [
        ("ljet2_pt", pt2, finite(pt2, pt2 >= PT_THRESHOLD), "at least 250 (GeV)"),
        ("ljet1_pt", pt1, finite(pt1, pt1 >= pt2), "at least `ljet2_pt`: jet 1 leads"),
        ("ljet1_M", m1, finite(m1, m1 > -0.1), "a mass of at least 0"),
        ("ljet2_M", m2, finite(m2, m2 > -0.1), "a mass of at least 0"),
        ("ljet2_phi", phi2, finite(phi2, phi2.abs() < PI + 1e-6), "an angle in [−π, π] relative to jet 1"),
        ("ljet1_eta", eta1, finite(eta1, eta1.abs() < ETA_SCALE), "|η| below 2.5"),
        ("ljet2_eta", eta2, finite(eta2, eta2.abs() < ETA_SCALE), "|η| below 2.5"),
    ]
    .into_iter()
    .find_map(|(name, value, holds, needed)| (!holds).then_some((name, value, needed)))
}

/// A number nearer to its edge than this is as good as at it: single precision resolves no more.
const EDGE_RESOLUTION: f64 = 1e-6;

/// −Φ⁻¹(exp(−v / s)) of a number above its edge at 0.
fn edge_score(value: f64, scale: f64) -> f64 {
    let ratio = value.max(EDGE_RESOLUTION) / scale;
    // Each tail from the side that keeps its digits.
    if ratio < std::f64::consts::LN_2 {
        normal::quantile(-(-ratio).exp_m1())
    } else {
        -normal::quantile((-ratio).exp())
    }
}

/// v = −s ln Φ(−x), at least 0; +∞ for scores beyond all numbers.
fn from_edge_score(score: f64, scale: f64) -> f64 {
    let below = normal::cdf(score);
    -scale * if below < 0.5 { (-below).ln_1p() } else { normal::cdf(-score).ln() }
}

/// Physical features to raw coordinates; the event has passed [`check`].
pub(super) fn raw([pt1, eta1, m1, pt2, eta2, phi2, m2]: [f64; 7]) -> [f64; 7] {
    let probit = |eta: f64| normal::quantile(f64::midpoint(eta / ETA_SCALE, 1.0));
    let (g1, g2) = (probit(eta1), probit(eta2));
    [
        edge_score((pt2 / PT_THRESHOLD).ln(), EDGE_SCALES[0]),
        edge_score((pt1 / pt2).ln(), EDGE_SCALES[1]),
        ((m1.max(0.0) + MASS_OFFSET) / pt1).ln(),
        ((m2.max(0.0) + MASS_OFFSET) / pt2).ln(),
        edge_score(PI - phi2.abs(), EDGE_SCALES[2]),
        f64::midpoint(g1, g2),
        (g1 - g2) / 2.0,
    ]
}

/// Raw coordinates to physical features, whatever finite numbers come; `negative` is the sign of φ₂.
pub(super) fn physical(raw: [f64; 7], negative: bool) -> [f32; 7] {
    let edge = |place: usize, index: usize| from_edge_score(raw[index], EDGE_SCALES[place]).min(EDGE_LIMITS[place]);
    let pt2 = PT_THRESHOLD * edge(0, 0).exp();
    let pt1 = pt2 * edge(1, 1).exp();
    let mass =
        |index: usize, pt: f64| (raw[index].clamp(MASS_BOUNDS.0, MASS_BOUNDS.1).exp() * pt - MASS_OFFSET).max(0.0);
    let (m1, m2) = (mass(2, pt1), mass(3, pt2));
    let phi2 = (PI - edge(2, 4)).clamp(0.0, PHI_MAX);
    let eta = |g: f64| (ETA_SCALE * (2.0 * normal::cdf(g) - 1.0)).clamp(-ETA_MAX, ETA_MAX);
    let phi2 = if negative { -phi2 } else { phi2 };
    [pt1, eta(raw[5] + raw[6]), m1, pt2, eta(raw[5] - raw[6]), phi2, m2].map(single)
}

/// Means and deviations of the raw coordinates; the means of the flipped ones are 0.
///
/// The events are gone through twice, in order: the sums do not depend on threads.
pub(super) fn standardisation<I: Iterator<Item = [f64; 7]>>(
    raw: impl Fn() -> I,
) -> Result<([f64; 7], [f64; 7]), DataError> {
    let (mut min, mut max) = ([f64::INFINITY; 7], [f64::NEG_INFINITY; 7]);
    let (mut means, mut squares, mut count) = ([0.0; 7], [0.0; 7], 0.0);
    for event in raw() {
        count += 1.0;
        for (index, x) in event.into_iter().enumerate() {
            (min[index], max[index]) = (min[index].min(x), max[index].max(x));
            means[index] += x;
        }
    }
    if let Some(same) = (0..7).find(|&index| min[index] >= max[index]) {
        return Err(DataError::Unusable(format!(
            "all training events have the same {}; `coordinates: dijet` needs events that vary",
            MADE_FROM[same]
        )));
    }
    for (index, mean) in means.iter_mut().enumerate() {
        *mean = if FLIPPED.contains(&index) { 0.0 } else { *mean / count };
    }
    for event in raw() {
        for (index, x) in event.into_iter().enumerate() {
            squares[index] += (x - means[index]).powi(2);
        }
    }
    Ok((means, squares.map(|sum: f64| (sum / count).sqrt())))
}

/// pT, η and mass of the jet pair, jet 1 at φ = 0:
/// p⃗ = (pT cos φ, pT sin φ, pT sinh η), E = √(|p⃗|² + M²), and η of the pair is arsinh of its z momentum over its pT.
///
/// Finite for every finite event: |η| of a jet counts as at most 20, and pT of the pair as at least 10⁻⁹ GeV in its η.
pub(super) fn pair([pt1, eta1, m1, pt2, eta2, phi2, m2]: [f64; 7]) -> [f64; 3] {
    let (z1, z2) = (pt1 * eta1.clamp(-20.0, 20.0).sinh(), pt2 * eta2.clamp(-20.0, 20.0).sinh());
    let (x, y, z) = (pt1 + pt2 * phi2.cos(), pt2 * phi2.sin(), z1 + z2);
    let energy = (pt1 * pt1 + z1 * z1 + m1 * m1).sqrt() + (pt2 * pt2 + z2 * z2 + m2 * m2).sqrt();
    let pt = x.hypot(y);
    [pt, (z / pt.max(1e-9)).asinh(), (energy * energy - pt * pt - z * z).max(0.0).sqrt()]
}
