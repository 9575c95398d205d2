//! What a discriminator sees: encoded coordinates, and derived observables as differentiable functions of them.
//!
//! Jet-pair observables live in the correlations of the coordinates, where generators fail first (SCIENCE: "traps"). They are
//! logarithmic and standardised on the training events: ½ ln m², ½ ln(pT² + 25 GeV²), and η itself.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use self::event::Forms;
use super::{ModelError, backprop::numbers, transfer::is_host};
use crate::data::{Coordinates, Description, Scratch, Values};

mod event;
#[cfg(test)]
mod reference;
#[cfg(feature = "libtorch")]
mod torch;

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

/// What takes a gradient with respect to rows with their observables back to the encoded rows.
pub struct Appended(Way);

enum Way {
    /// There are no observables.
    Nothing,
    /// Gradients of the observables, `[batch, names, width]`, and the width.
    Host(Vec<f32>, usize),
    /// A graph of libtorch's autograd.
    #[cfg(feature = "libtorch")]
    Torch(Box<torch::Trace>),
}

impl Appended {
    /// The gradient with respect to the encoded rows `[batch, width]`, of that with respect to all that a discriminator sees.
    pub fn backward(self, gradient: Tensor<2>) -> Tensor<2> {
        match self.0 {
            Way::Nothing => gradient,
            Way::Host(gradients, width) => {
                let (device, [batch, seen]) = (gradient.device(), gradient.dims());
                let of_event = (seen - width) * width;
                let slopes = numbers(gradient);
                let mut back = Vec::with_capacity(batch * width);
                for (slopes, gradients) in slopes.chunks_exact(seen).zip(gradients.chunks_exact(of_event)) {
                    let start = back.len();
                    back.extend_from_slice(&slopes[..width]);
                    for (slope, gradient) in slopes[width..].iter().zip(gradients.chunks_exact(width)) {
                        back[start..].iter_mut().zip(gradient).for_each(|(back, gradient)| *back += slope * gradient);
                    }
                }
                Tensor::from_data(TensorData::new(back, [batch, width]), &device)
            }
            #[cfg(feature = "libtorch")]
            Way::Torch(trace) => trace.backward(gradient),
        }
    }
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
                        *sum += what(column, value);
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
                values.extend(standard.map(|(v, (mean, deviation))| ((v - mean) / deviation) as f32));
            }
            collector.extend(&values)?;
        }
        Ok(Rows { values: collector.finish()?, width: width + derived })
    }

    /// Encoded rows `[batch, width]` with the derived observables appended.
    pub fn forward(&self, description: &Description, encoded: Tensor<2>) -> Result<Tensor<2>, ModelError> {
        if self.names.is_empty() {
            return Ok(encoded);
        }
        if is_host(&encoded.device()) {
            return Ok(self.on_host(description, encoded, false)?.0);
        }
        #[cfg(feature = "libtorch")]
        return Ok(torch::forward(self, description, encoded)?);
        #[cfg(not(feature = "libtorch"))]
        unreachable!("this build has no other device than the host")
    }

    /// As [`forward`](Self::forward), with what takes a gradient back.
    pub fn traced(&self, description: &Description, encoded: Tensor<2>) -> Result<(Tensor<2>, Appended), ModelError> {
        if self.names.is_empty() {
            return Ok((encoded, Appended(Way::Nothing)));
        }
        if is_host(&encoded.device()) {
            let width = encoded.dims()[1];
            let (seen, gradients) = self.on_host(description, encoded, true)?;
            return Ok((seen, Appended(Way::Host(gradients, width))));
        }
        #[cfg(feature = "libtorch")]
        {
            let (seen, trace) = torch::traced(self, description, encoded)?;
            Ok((seen, Appended(Way::Torch(Box::new(trace)))))
        }
        #[cfg(not(feature = "libtorch"))]
        unreachable!("this build has no other device than the host")
    }

    /// The rows, and the gradients of their standardised observables, `[batch, names, width]`, if they are wanted.
    fn on_host(
        &self,
        description: &Description,
        encoded: Tensor<2>,
        with_gradients: bool,
    ) -> Result<(Tensor<2>, Vec<f32>), ModelError> {
        let forms = Forms::new(&self.names, description)?;
        let (device, [batch, width]) = (encoded.device(), encoded.dims());
        let values = numbers(encoded);
        let seen = width + self.names.len();
        let mut rows = Vec::with_capacity(batch * seen);
        let mut gradients = Vec::with_capacity(if with_gradients { batch * self.names.len() * width } else { 0 });
        let standard = |column: usize, form: f64| ((form - self.means[column]) / self.deviations[column]) as f32;
        for row in values.chunks_exact(width) {
            rows.extend_from_slice(row);
            let event = forms.of(row);
            for column in 0..self.names.len() {
                rows.push(standard(column, event.value(column)));
                if with_gradients {
                    let start = gradients.len();
                    gradients.resize(start + width, 0.0);
                    event.gradient(column, 1.0 / self.deviations[column], &mut gradients[start..]);
                }
            }
        }
        Ok((Tensor::from_data(TensorData::new(rows, [batch, seen]), &device), gradients))
    }

    /// Whether each observable is known and has a mean and a deviation of use.
    pub(super) fn is_sound(&self) -> bool {
        let of_use = |deviation: &f64| deviation.is_finite() && *deviation > 0.0;
        [self.means.len(), self.deviations.len()] == [self.names.len(); 2]
            && self.names.iter().all(|name| event::is_known(name))
            && self.means.iter().all(|mean| mean.is_finite())
            && self.deviations.iter().all(of_use)
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

/// The differentiable forms on the host, `[events, names]`; whatever the device, so that all see the same numbers.
fn raw_on_host(names: &[String], description: &Description, encoded: &[f32]) -> Result<Vec<f64>, ModelError> {
    let forms = Forms::new(names, description)?;
    let rows = encoded.chunks_exact(description.coordinates.width().max(1));
    Ok(rows
        .map(|row| forms.of(row))
        .flat_map(|event| (0..names.len()).map(move |column| event.value(column)))
        .collect())
}

/// Brings a tensor's numbers to the host, row-major.
pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ModelError> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| ModelError::Device(crate::device::DeviceError::Failed(error.to_string())))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{
        data::{Coordinates, CoordinatesChoice, Events, Observables, Table, read_table},
        model::device::here,
        rng::Streams,
    };

    const NAMES: [&str; 3] = ["jj_M", "jj_pt", "jj_eta"];

    /// The embedded events in these coordinates: what they are, the events and their rows.
    fn events(coordinates: &str) -> (Description, Table, Vec<f32>) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dijet/train.parquet");
        let events = read_table(path.as_ref(), None).unwrap();
        let choice: CoordinatesChoice = serde_json::from_str(coordinates).unwrap();
        let description = Description {
            features: events.names().to_vec(),
            coordinates: Coordinates::fit(&choice, &Events::of(&events).unwrap(), &[], &Scratch::memory()).unwrap(),
            observables: Observables::Dijet,
            symmetries: Vec::new(),
            tail: None,
            truth: None,
        };
        let encoded = description.coordinates.encode(&events).unwrap();
        (description, events, encoded)
    }

    /// Coordinates of both sorts.
    const COORDINATES: [&str; 2] = [r#""dijet""#, r#"{"ljet1_pt": "log", "ljet2_pt": "min_max"}"#];

    #[test]
    fn observables_of_no_use_are_refused() {
        let sound = Derived { names: vec!["jj_M".to_owned()], means: vec![6.0], deviations: vec![0.5] };
        assert!(sound.is_sound() && Derived::default().is_sound());
        for wrong in [
            Derived { names: vec!["jj_X".to_owned()], ..sound.clone() },
            Derived { means: Vec::new(), ..sound.clone() },
            Derived { means: vec![f64::NAN], ..sound.clone() },
            Derived { deviations: vec![0.0], ..sound.clone() },
            Derived { deviations: vec![0.5, 0.5], ..sound },
        ] {
            assert!(!wrong.is_sound(), "{wrong:?}");
        }
        let (description, _, _) = events(COORDINATES[0]);
        let error = Forms::new(&["jj_X".to_owned()], &description).err().unwrap().to_string();
        assert!(error.contains("cannot see `jj_X`"), "{error}");
    }

    #[test]
    fn forms_are_those_of_the_decoded_events() {
        for coordinates in COORDINATES {
            let (description, _, encoded) = events(coordinates);
            let raw = raw_on_host(&NAMES.map(str::to_owned), &description, &encoded).unwrap();
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
                    assert!((found - expected).abs() < 2e-4, "event {i}: {row:?} is not {:?}", forms(i));
                }
            }
        }
    }

    #[test]
    fn rows_and_gradients_are_those_of_autodiff() {
        for (coordinates, device) in COORDINATES.into_iter().flat_map(|c| here().into_iter().map(move |d| (c, d))) {
            let (description, _, encoded) = events(coordinates);
            let derived = Derived::fit(&NAMES.map(str::to_owned), &description, &encoded).unwrap();
            let (width, batch) = (description.coordinates.width(), 4000);
            let rows = |values: &[f32], device: &Device| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [batch, values.len() / batch]), device)
            };
            let x = &encoded[..batch * width];
            let slope: Vec<f32> = (0..batch * (width + 3)).map(|i| (i as f32).sin()).collect();
            let (seen, appended) = derived.traced(&description, rows(x, &device)).unwrap();
            assert_eq!(numbers(derived.forward(&description, rows(x, &device)).unwrap()), numbers(seen.clone()));
            let input = Tensor::from_inner(rows(x, &Device::flex())).require_grad();
            let expected = reference::append(&derived, &description, input.clone()).unwrap();
            let gradients = (expected.clone() * Tensor::from_inner(rows(&slope, &Device::flex()))).sum().backward();
            for (a, b) in [
                (numbers(seen), numbers(expected.inner())),
                (numbers(appended.backward(rows(&slope, &device))), numbers(input.grad(&gradients).unwrap())),
            ] {
                let differs = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-3 * (1.0 + b.abs());
                let wrong = a.iter().zip(&b).filter(|pair| differs(*pair)).count();
                // Where a pair's pT or mass nearly cancels, single precision has few digits left.
                assert!(wrong <= a.len() / 5000, "{wrong} of {}", a.len());
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences_out_to_the_edges() {
        let (description, _, encoded) = events(COORDINATES[0]);
        let names = NAMES.map(str::to_owned);
        let forms = Forms::new(&names, &description).unwrap();
        let mut checked = 0;
        for (event, scale) in encoded.chunks_exact(7).step_by(97).zip([1.0f32, 2.0, 4.0].into_iter().cycle()) {
            let row: Vec<f32> = event.iter().map(|x| x * scale).collect();
            for n in 0..3 {
                let mut gradient = vec![0.0; 7];
                forms.of(&row).gradient(n, 1.0, &mut gradient);
                for (column, &slope) in gradient.iter().enumerate() {
                    let at = |by: f32| {
                        let mut row = row.clone();
                        row[column] += by;
                        (f64::from(row[column]), forms.of(&row).value(n))
                    };
                    let ((x1, low), (x2, high)) = (at(-1e-3), at(1e-3));
                    let difference = (high - low) / (x2 - x1);
                    // A bound may lie between the two.
                    let close = (difference - f64::from(slope)).abs() < 1e-3 * (1.0 + difference.abs());
                    checked += usize::from(close);
                    assert!(slope.is_finite());
                }
            }
        }
        let all = encoded.chunks_exact(7).step_by(97).count() * 21;
        assert!(checked * 1000 >= all * 995, "{checked} of {all}");
    }
}
