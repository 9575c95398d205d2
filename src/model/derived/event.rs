//! The differentiable forms of one event's observables, and their gradients, by hand and in double precision.

use std::f64::consts::PI;

use crate::data::{
    Coordinates, DataError, Description,
    coordinates::{ColumnMap, EDGE_LIMITS, EDGE_SCALES, ETA_SCALE, MASS_BOUNDS, MASS_OFFSET, PT_THRESHOLD},
    dijet::FEATURES,
    normal,
};

/// Added to a squared pT before its logarithm, in GeV².
pub(super) const PT_OFFSET: f64 = 25.0;
/// The least squared mass of a pair, in GeV².
pub(super) const LEAST_MASS: f64 = 1e4;

/// A form of an observable of the pair.
#[derive(Clone, Copy)]
enum Form {
    /// ½ ln(pT² + 25 GeV²).
    Pt,
    /// arsinh(pz / √(pT² + 25 GeV²)).
    Eta,
    /// ½ ln m².
    Mass,
}

impl Form {
    fn of(name: &str) -> Option<Self> {
        match name {
            "jj_pt" => Some(Self::Pt),
            "jj_eta" => Some(Self::Eta),
            "jj_M" => Some(Self::Mass),
            _ => None,
        }
    }
}

/// Whether there is a form of this observable.
pub(super) fn is_known(name: &str) -> bool {
    Form::of(name).is_some()
}

/// The forms that are wanted, of events in these coordinates.
pub(super) struct Forms<'a> {
    wanted: Vec<Form>,
    coordinates: Decoder<'a>,
}

enum Decoder<'a> {
    Dijet {
        means: &'a [f64; 7],
        deviations: &'a [f64; 7],
    },
    /// The column of each of [`FEATURES`], and its map.
    Columns(Box<[(usize, &'a ColumnMap); 7]>),
}

/// An event on its way to its observables.
pub(super) struct Event<'a> {
    forms: &'a Forms<'a>,
    slopes: Slopes,
    pair: Pair,
}

/// The derivatives of the physical quantities, in the order of [`FEATURES`].
enum Slopes {
    /// ln pT₂ by c₀; ln pT₁/pT₂ by c₁; M by c₂ and c₃, and by the jet's pT; φ₂ by c₄; η by c₅ and c₆, of each jet.
    Dijet { pt: [f64; 2], mass: [[f64; 2]; 2], phi: f64, eta: [f64; 2] },
    /// Each by its own column.
    Columns([f64; 7]),
}

impl<'a> Forms<'a> {
    /// # Errors
    ///
    /// An observable is not known, or a column that they need is not there or has no useful gradient.
    pub(super) fn new(names: &[String], description: &'a Description) -> Result<Self, DataError> {
        let form = |name: &String| {
            let unknown =
                || DataError::Unusable(format!("a discriminator cannot see `{name}`, only jj_M, jj_pt and jj_eta"));
            Form::of(name).ok_or_else(unknown)
        };
        let coordinates = match &description.coordinates {
            Coordinates::Dijet { means, deviations } => Decoder::Dijet { means, deviations },
            Coordinates::Columns(maps) => {
                Decoder::Columns(Box::new(columns(description)?.map(|column| (column, &maps[column]))))
            }
        };
        Ok(Self { wanted: names.iter().map(form).collect::<Result<_, _>>()?, coordinates })
    }

    /// An event of an encoded row.
    pub(super) fn of(&'a self, row: &[f32]) -> Event<'a> {
        let (physical, slopes) = match &self.coordinates {
            Decoder::Dijet { means, deviations } => {
                dijet(std::array::from_fn(|i| f64::from(row[i]) * deviations[i] + means[i]))
            }
            Decoder::Columns(columns) => {
                let mut slopes = [0.0; 7];
                let mut physical = [0.0; 7];
                for (place, (column, map)) in columns.iter().enumerate() {
                    (physical[place], slopes[place]) = decode(map, f64::from(row[*column]));
                }
                (physical, Slopes::Columns(slopes))
            }
        };
        Event { forms: self, slopes, pair: Pair::of(physical) }
    }
}

/// The columns of [`FEATURES`] in coordinates that map each column by itself.
///
/// # Errors
///
/// One is not there, or has no useful gradient.
pub(super) fn columns(description: &Description) -> Result<[usize; 7], DataError> {
    let maps = match &description.coordinates {
        Coordinates::Columns(maps) => &maps[..],
        Coordinates::Dijet { .. } => &[],
    };
    let mut columns = [0; 7];
    for (column, name) in columns.iter_mut().zip(FEATURES) {
        let missing = || DataError::NoColumn { name: name.to_owned(), known: description.features.clone() };
        *column = description.features.iter().position(|feature| feature == name).ok_or_else(missing)?;
        match maps.get(*column) {
            Some(ColumnMap::Quantile { .. } | ColumnMap::Gpd { .. }) => {
                return Err(DataError::Unusable(format!(
                    "the derived observables need `{name}`, whose map by quantiles has no useful gradient; use `log` or `standard`"
                )));
            }
            Some(_) => {}
            None => return Err(missing()),
        }
    }
    Ok(columns)
}

impl Event<'_> {
    /// The form of the n-th observable.
    pub(super) fn value(&self, n: usize) -> f64 {
        self.pair.form(self.forms.wanted[n])
    }

    /// Adds the gradient of the n-th form with respect to the row, times a weight.
    pub(super) fn gradient(&self, n: usize, weight: f64, into: &mut [f32]) {
        let [pt1, eta1, m1, pt2, eta2, phi, m2] = self.pair.gradient(self.forms.wanted[n]);
        let mut add = |column: usize, slope: f64| into[column] += (slope * weight) as f32;
        match (&self.slopes, &self.forms.coordinates) {
            (Slopes::Dijet { pt, mass, phi: of_phi, eta }, Decoder::Dijet { deviations, .. }) => {
                let [m1_by_pt, m2_by_pt] = [mass[0][1], mass[1][1]];
                // All that follows ln pT₁, and ln pT₂.
                let of_pt1 = (pt1 + m1 * m1_by_pt) * self.pair.pt[0];
                let of_pt2 = (pt2 + m2 * m2_by_pt) * self.pair.pt[1];
                let slopes = [
                    (of_pt1 + of_pt2) * pt[0],
                    of_pt1 * pt[1],
                    m1 * mass[0][0],
                    m2 * mass[1][0],
                    phi * of_phi,
                    eta1 * eta[0] + eta2 * eta[1],
                    eta1 * eta[0] - eta2 * eta[1],
                ];
                slopes.iter().zip(*deviations).enumerate().for_each(|(column, (slope, by))| add(column, slope * by));
            }
            (Slopes::Columns(slopes), Decoder::Columns(columns)) => {
                for (((column, _), slope), by) in columns.iter().zip([pt1, eta1, m1, pt2, eta2, phi, m2]).zip(slopes) {
                    add(*column, slope * by);
                }
            }
            _ => {}
        }
    }
}

/// Physical quantities of raw dijet coordinates, as [`crate::data::dijet`] has them but for the sign of φ₂.
fn dijet(raw: [f64; 7]) -> ([f64; 7], Slopes) {
    let edge = |place: usize, index: usize| {
        let (value, slope) = edge_score(raw[index]);
        let (value, slope) = (value * EDGE_SCALES[place], slope * EDGE_SCALES[place]);
        if value < EDGE_LIMITS[place] { (value, slope) } else { (EDGE_LIMITS[place], 0.0) }
    };
    let ((e0, by0), (e1, by1), (e2, by4)) = (edge(0, 0), edge(1, 1), edge(2, 4));
    let pt2 = PT_THRESHOLD * e0.exp();
    let pt1 = pt2 * e1.exp();
    let mass = |index: usize, pt: f64| {
        let inside = (MASS_BOUNDS.0..=MASS_BOUNDS.1).contains(&raw[index]);
        let ratio = raw[index].clamp(MASS_BOUNDS.0, MASS_BOUNDS.1).exp();
        let mass = ratio * pt - MASS_OFFSET;
        let slopes = if mass > 0.0 { [if inside { ratio * pt } else { 0.0 }, ratio] } else { [0.0; 2] };
        (mass.max(0.0), slopes)
    };
    let ((m1, by_m1), (m2, by_m2)) = (mass(2, pt1), mass(3, pt2));
    // η = bound · (2Φ(g) − 1).
    let eta = |g: f64| (ETA_SCALE * (2.0 * normal::cdf(g) - 1.0), 2.0 * ETA_SCALE * density(g));
    let ((eta1, by_eta1), (eta2, by_eta2)) = (eta(raw[5] + raw[6]), eta(raw[5] - raw[6]));
    let slopes = Slopes::Dijet { pt: [by0, by1], mass: [by_m1, by_m2], phi: -by4, eta: [by_eta1, by_eta2] };
    ([pt1, eta1, m1, pt2, eta2, PI - e2, m2], slopes)
}

/// The density of the standard normal distribution.
fn density(x: f64) -> f64 {
    const NORM: f64 = 0.398_942_280_401_432_7;
    NORM * (-0.5 * x * x).exp()
}

/// −ln Φ(−x), and its derivative.
fn edge_score(x: f64) -> (f64, f64) {
    let above = if x < 0.0 { 1.0 - normal::cdf(x) } else { normal::cdf(-x) };
    let value = if x < 0.0 { -(-normal::cdf(x)).ln_1p() } else { -above.ln() };
    (value, if above > 0.0 { density(x) / above } else { 0.0 })
}

/// A physical quantity of an encoded one, and its derivative; the map is one that [`columns`] has looked at.
fn decode(map: &ColumnMap, x: f64) -> (f64, f64) {
    match *map {
        ColumnMap::Standard { mean, deviation } => (x * deviation + mean, deviation),
        ColumnMap::Log { mean, deviation } => {
            let exponent = x * deviation + mean;
            let value = exponent.min(20.0).exp();
            (value, if exponent < 20.0 { value * deviation } else { 0.0 })
        }
        ColumnMap::MinMax { min, max } => ((x + 1.0) * ((max - min) / 2.0) + min, (max - min) / 2.0),
        ColumnMap::Quantile { .. } | ColumnMap::Gpd { .. } => unreachable!("such maps are refused"),
    }
}

/// Two jets, jet 1 at φ = 0, and what their observables are made of.
struct Pair {
    pt: [f64; 2],
    mass: [f64; 2],
    sinh: [f64; 2],
    cosh: [f64; 2],
    /// Sine and cosine of φ₂.
    phi: (f64, f64),
    pt_squared: f64,
    pz: f64,
    energies: [f64; 2],
}

impl Pair {
    fn of([pt1, eta1, m1, pt2, eta2, phi, m2]: [f64; 7]) -> Self {
        let (pt, mass) = ([pt1, pt2], [m1, m2]);
        let grown = [eta1.exp(), eta2.exp()];
        let (sinh, cosh) = (grown.map(|e| 0.5 * (e - 1.0 / e)), grown.map(|e| 0.5 * (e + 1.0 / e)));
        let (sin, cos) = phi.sin_cos();
        let (x, y) = (pt1 + pt2 * cos, pt2 * sin);
        let energy = |jet: usize| (pt[jet] * cosh[jet]).hypot(mass[jet]);
        Self {
            pt,
            mass,
            sinh,
            cosh,
            phi: (sin, cos),
            pt_squared: x * x + y * y,
            pz: pt1 * sinh[0] + pt2 * sinh[1],
            energies: [energy(0), energy(1)],
        }
    }

    fn mass_squared(&self) -> f64 {
        let energy = self.energies[0] + self.energies[1];
        energy * energy - self.pz * self.pz - self.pt_squared
    }

    fn form(&self, form: Form) -> f64 {
        match form {
            Form::Pt => 0.5 * (self.pt_squared + PT_OFFSET).ln(),
            Form::Eta => (self.pz / (self.pt_squared + PT_OFFSET).sqrt()).asinh(),
            Form::Mass => 0.5 * self.mass_squared().max(LEAST_MASS).ln(),
        }
    }

    /// With respect to the quantities in the order of [`FEATURES`].
    fn gradient(&self, form: Form) -> [f64; 7] {
        let offset = self.pt_squared + PT_OFFSET;
        match form {
            Form::Pt => self.combine(0.5 / offset, 0.0, 0.0),
            Form::Eta => {
                let ratio = self.pz / offset.sqrt();
                let slope = 1.0 / ratio.hypot(1.0);
                self.combine(-0.5 * slope * ratio / offset, slope / offset.sqrt(), 0.0)
            }
            Form::Mass => {
                let squared = self.mass_squared();
                let half = if squared > LEAST_MASS { 0.5 / squared } else { 0.0 };
                self.combine(-half, -2.0 * half * self.pz, 2.0 * half * (self.energies[0] + self.energies[1]))
            }
        }
    }

    /// The gradient of something with these slopes in pT², pz and the energy of the pair.
    fn combine(&self, by_pt_squared: f64, by_pz: f64, by_energy: f64) -> [f64; 7] {
        let ([pt1, pt2], (sin, cos)) = (self.pt, self.phi);
        let jet = |jet: usize| {
            let (pt, sinh, cosh, mass) = (self.pt[jet], self.sinh[jet], self.cosh[jet], self.mass[jet]);
            // A jet of no energy has no direction.
            let by_energy = if self.energies[jet] > 0.0 { by_energy / self.energies[jet] } else { 0.0 };
            [
                by_pz * sinh + by_energy * pt * cosh * cosh,
                by_pz * pt * cosh + by_energy * pt * pt * cosh * sinh,
                by_energy * mass,
            ]
        };
        let ([of_pt1, eta1, m1], [of_pt2, eta2, m2]) = (jet(0), jet(1));
        let by = 2.0 * by_pt_squared;
        [of_pt1 + by * (pt1 + pt2 * cos), eta1, m1, of_pt2 + by * (pt2 + pt1 * cos), eta2, -by * pt1 * pt2 * sin, m2]
    }
}
