//! Precision, recall, density and coverage by balls around events (Kynkäänniemi et al. 2019; Naeem et al., arXiv:2002.09797).

use rand::seq::index;

use super::{
    Comparison, Gives, Numbers, Sample,
    matrix::{Rows, Scale},
};

/// A ball reaches to its event's k-th neighbour.
const NEAREST: usize = 5;

/// What balls around real and generated events hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// The share of generated events inside a ball of a real one.
    pub precision: f64,
    /// The share of real events inside a ball of a generated one.
    pub recall: f64,
    /// Balls of real events that a generated one lies in, on average, over k.
    pub density: f64,
    /// The share of real events with a generated one in their ball.
    pub coverage: f64,
}

/// The overlap of two samples, `[events, width]` in row-major order, as `prdc.compute_prdc(real, generated, nearest_k=k)`.
/// `None` if a sample does not hold more than k events.
pub fn overlap(width: usize, real: &[f64], generated: &[f64], k: usize) -> Option<Overlap> {
    let [real, generated] = [real, generated].map(|events| Rows { width, values: events.to_vec() });
    between(&real, &generated, k)
}

fn between(real: &Rows, generated: &Rows, k: usize) -> Option<Overlap> {
    if real.width == 0 || k == 0 || real.len().min(generated.len()) <= k {
        return None;
    }
    let (real_columns, made_columns) = (columns(real), columns(generated));
    let (real_radii, made_radii) = (radii(real, &real_columns, k), radii(generated, &made_columns, k));
    let mut hits = vec![0u32; generated.len()];
    let (mut recalled, mut covered) = (0u32, 0u32);
    let mut squares = vec![0.0; generated.len()];
    for (event, &radius) in real_radii.iter().enumerate() {
        distances(real.row(event), &made_columns, &mut squares);
        let (mut inside, mut nearest) = (false, f64::INFINITY);
        for ((&square, hits), &made_radius) in squares.iter().zip(&mut hits).zip(&made_radii) {
            *hits += u32::from(square < radius);
            inside |= square < made_radius;
            nearest = nearest.min(square);
        }
        recalled += u32::from(inside);
        covered += u32::from(nearest < radius);
    }
    let (reals, made) = (real.len() as f64, generated.len() as f64);
    Some(Overlap {
        precision: hits.iter().filter(|&&hits| hits > 0).count() as f64 / made,
        recall: f64::from(recalled) / reals,
        density: hits.iter().map(|&hits| f64::from(hits)).sum::<f64>() / made / k as f64,
        coverage: f64::from(covered) / reals,
    })
}

fn columns(rows: &Rows) -> Vec<Vec<f64>> {
    (0..rows.width).map(|i| (0..rows.len()).map(|event| rows.row(event)[i]).collect()).collect()
}

/// Squared distances of a point to all events, which come as columns.
fn distances(point: &[f64], columns: &[Vec<f64>], squares: &mut [f64]) {
    squares.fill(0.0);
    for (&at, column) in point.iter().zip(columns) {
        squares.iter_mut().zip(column).for_each(|(square, value)| *square += (at - value) * (at - value));
    }
}

/// Squared distances to the k-th neighbours, an event itself not counted.
fn radii(rows: &Rows, columns: &[Vec<f64>], k: usize) -> Vec<f64> {
    let mut squares = vec![0.0; rows.len()];
    let radius = |event| {
        distances(rows.row(event), columns, &mut squares);
        *squares.select_nth_unstable_by(k, f64::total_cmp).1
    };
    (0..rows.len()).map(radius).collect()
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("precision", "share of generated events in a ball around a real one"),
    ("recall", "share of real events in a ball around a generated one"),
    ("density", "mean number of balls around real events that a generated one lies in, over what is expected"),
    ("coverage", "share of real events whose ball holds a generated one"),
];

/// `precision`, `recall`, `density` and `coverage` at k = 5, of a draw of standardised events.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let scale = Scale::standard(&comparison.bench.test);
    let draw = |sample: &Sample, purpose: &str| {
        let mut rng = comparison.streams.stream(purpose);
        let most = sample.events().min(comparison.effort.neighbour_events);
        scale.rows(sample, index::sample(&mut rng, sample.events(), most))
    };
    let (real, made) = (draw(&comparison.bench.test, "neighbours test"), draw(comparison.sample, "neighbours sample"));
    let Some(found) = between(&real, &made, NEAREST) else { return };
    numbers.put("precision", found.precision);
    numbers.put("recall", found.recall);
    numbers.put("density", found.density);
    numbers.put("coverage", found.coverage);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_events_at_one_place_are_precise_and_cover_little() {
        let real: Vec<f64> = (0..20).map(f64::from).collect();
        let collapsed: Vec<f64> = (0..20).map(|i| 10.0 + f64::from(i) * 1e-3).collect();
        let found = overlap(1, &real, &collapsed, 2).unwrap();
        assert!(found.precision == 1.0 && found.density > 0.9);
        assert!(found.recall < 0.11 && found.coverage < 0.3, "{found:?}");
    }

    #[test]
    fn samples_without_more_than_k_events_have_no_balls() {
        assert_eq!(overlap(1, &[1.0, 2.0], &[1.0, 2.0, 3.0], 2), None);
        assert_eq!(overlap(0, &[], &[], 2), None);
    }
}
