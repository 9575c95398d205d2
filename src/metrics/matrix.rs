//! Standardised events, and the little linear algebra that distances between them need.

use rand::{Rng, RngExt};

use super::Sample;

/// Events as rows of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    /// Numbers of an event.
    pub(super) width: usize,
    /// `[events, width]`.
    pub(super) values: Vec<f64>,
}

impl Rows {
    /// Events.
    pub(super) fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// An event.
    pub(super) fn row(&self, event: usize) -> &[f64] {
        &self.values[event * self.width..][..self.width]
    }

    /// So many events, drawn with replacement.
    pub(super) fn draw(&self, events: usize, rng: &mut impl Rng) -> Vec<usize> {
        (0..events).map(|_| rng.random_range(0..self.len())).collect()
    }
}

/// A common scale for the observables of two samples, set by the test events. Observables without spread are left out.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    /// Observable, origin and unit.
    used: Vec<(usize, f64, f64)>,
}

impl Scale {
    /// Each observable of the test events has mean 0 and deviation 1.
    pub(super) fn standard(test: &Sample) -> Self {
        Self::of(test, |mean, deviation, _| (mean, deviation))
    }

    /// The largest absolute value of each observable of the test events is 1, as JetNet normalises.
    pub(super) fn largest(test: &Sample) -> Self {
        Self::of(test, |_, _, largest| (0.0, largest))
    }

    /// A scale whose origin and unit follow from mean, deviation and largest absolute value.
    fn of(test: &Sample, unit: fn(f64, f64, f64) -> (f64, f64)) -> Self {
        let events = test.events() as f64;
        let moments = (0..test.width()).filter_map(|i| {
            let values = || (0..test.events()).map(|row| f64::from(test.event(row)[i]));
            let mean = values().sum::<f64>() / events;
            let deviation = (values().map(|value| (value - mean).powi(2)).sum::<f64>() / events).sqrt();
            let (origin, unit) =
                unit(mean, deviation, values().fold(0.0, |largest, value| f64::max(largest, value.abs())));
            (deviation > 1e-12 * mean.abs() && deviation.is_finite()).then_some((i, origin, unit))
        });
        Self { used: moments.collect() }
    }

    /// All complete events of a sample.
    pub(super) fn all(&self, sample: &Sample) -> Rows {
        self.rows(sample, 0..sample.events())
    }

    /// Some complete events of a sample.
    pub(super) fn rows(&self, sample: &Sample, rows: impl IntoIterator<Item = usize>) -> Rows {
        let scaled = |row| {
            let event = sample.event(row);
            self.used.iter().map(move |&(i, origin, unit)| (f64::from(event[i]) - origin) / unit)
        };
        Rows { width: self.used.len(), values: rows.into_iter().flat_map(scaled).collect() }
    }
}

/// The lower factor L of a symmetric matrix `L Lᵀ`, row-major; directions without variance stay empty.
pub(super) fn cholesky(matrix: &[f64], n: usize) -> Vec<f64> {
    let mut factor = vec![0.0_f64; n * n];
    for j in 0..n {
        let taken: f64 = (0..j).map(|k| factor[j * n + k].powi(2)).sum();
        let left = matrix[j * n + j] - taken;
        if left <= 1e-13 * matrix[j * n + j].abs() {
            continue;
        }
        let pivot = left.sqrt();
        factor[j * n + j] = pivot;
        for i in j + 1..n {
            let taken: f64 = (0..j).map(|k| factor[i * n + k] * factor[j * n + k]).sum();
            factor[i * n + j] = (matrix[i * n + j] - taken) / pivot;
        }
    }
    factor
}

/// Eigenvalues of a symmetric matrix, by cyclic Jacobi rotations; unordered.
pub(super) fn eigenvalues(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    let size: f64 = matrix.iter().map(|value| value * value).sum();
    for _ in 0..60 {
        let off: f64 = (0..n).flat_map(|p| (0..p).map(move |q| (p, q))).map(|(p, q)| matrix[p * n + q].powi(2)).sum();
        if off <= 1e-30 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut matrix, n, p, q);
            }
        }
    }
    (0..n).map(|i| matrix[i * n + i]).collect()
}

/// Turns the plane of two axes until their product vanishes (Golub and Van Loan, 8.5).
fn rotate(matrix: &mut [f64], n: usize, p: usize, q: usize) {
    let between = matrix[p * n + q];
    if between == 0.0 {
        return;
    }
    let half = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * between);
    let tangent = half.signum() / (half.abs() + half.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for k in 0..n {
        let (a, b) = (matrix[k * n + p], matrix[k * n + q]);
        (matrix[k * n + p], matrix[k * n + q]) = (cosine * a - sine * b, sine * a + cosine * b);
    }
    for k in 0..n {
        let (a, b) = (matrix[p * n + k], matrix[q * n + k]);
        (matrix[p * n + k], matrix[q * n + k]) = (cosine * a - sine * b, sine * a + cosine * b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_times_its_transpose_is_the_matrix_even_if_it_is_singular() {
        // Rank 2: the third row is the sum of the others.
        let matrix = [4.0, 2.0, 6.0, 2.0, 5.0, 7.0, 6.0, 7.0, 13.0];
        let factor = cholesky(&matrix, 3);
        for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
            let product: f64 = (0..3).map(|k| factor[i * 3 + k] * factor[j * 3 + k]).sum();
            assert!((product - matrix[i * 3 + j]).abs() < 1e-12);
        }
    }

    #[test]
    fn eigenvalues_keep_trace_and_squares() {
        let matrix = vec![2.0, -1.0, 0.5, -1.0, 3.0, 0.25, 0.5, 0.25, 1.0];
        let mut found = eigenvalues(matrix.clone(), 3);
        found.sort_unstable_by(f64::total_cmp);
        assert!((found.iter().sum::<f64>() - 6.0).abs() < 1e-12);
        let squares: f64 = matrix.iter().map(|value| value * value).sum();
        assert!((found.iter().map(|value| value * value).sum::<f64>() - squares).abs() < 1e-12);
        assert_eq!(eigenvalues(vec![3.0, 0.0, 0.0, 1.0], 2), [3.0, 1.0]);
    }

    #[test]
    fn a_column_without_spread_is_left_out() {
        let sample = Sample::new(&[vec![1.0, 3.0], vec![7.0, 7.0]], None);
        let rows = Scale::standard(&sample).all(&sample);
        assert_eq!((rows.width, rows.values), (1, vec![-1.0, 1.0]));
        let rows = Scale::largest(&sample).all(&sample);
        assert_eq!((rows.width, rows.values), (1, vec![1.0 / 3.0, 1.0]));
    }
}
