//! The kernel physics distance of JetNet (Kansal et al., arXiv:2211.10295), on observables normalised as JetNet does: over the
//! largest absolute value among the real events.

use rand::Rng;

use super::{
    Comparison, Gives, Numbers,
    frechet::Estimate,
    matrix::{Rows, Scale},
    sorted,
    tail::quantile,
};

/// Batches, and events of a batch (all of a smaller sample); `jetnet.evaluation.kpd`'s defaults.
const BATCHES: usize = 10;
const EVENTS: usize = 5000;
/// Fewer events say nothing.
const LEAST: usize = 500;
/// More observables would make too many monomials.
const WIDEST: usize = 32;

/// The unbiased MMD² of two samples of events, `[events, width]` in row-major order, under the kernel (x·y/width + 1)⁴, as
/// `jetnet.evaluation.gen_metrics._mmd_poly_quadratic_unbiased`. `None` of fewer than two events or more than 32 columns.
pub fn squared_discrepancy(width: usize, one: &[f64], other: &[f64]) -> Option<f64> {
    let rows = [one, other].map(|events| Rows { width, values: events.to_vec() });
    let all = |rows: &Rows| (0..rows.len()).collect::<Vec<_>>();
    let enough = (1..=WIDEST).contains(&width) && rows.iter().all(|rows| rows.len() > 1);
    enough.then(|| discrepancy(&Monomials::of(&rows[0], &all(&rows[0])), &Monomials::of(&rows[1], &all(&rows[1]))))
}

/// A batch by its sums of monomials: with z = (1, x/√width), (z·z′)⁴ is the product of the fourth powers of z and z′ as tensors,
/// so sums over all pairs are products of sums. That is exact, and of the order of the events, not of their square.
struct Monomials {
    events: f64,
    /// Σ z_i z_j z_k z_l for i ≤ j ≤ k ≤ l.
    sums: Vec<f64>,
    /// How often each stands in the tensor.
    times: Vec<f64>,
    /// Σ (z·z)⁴.
    diagonal: f64,
}

impl Monomials {
    fn of(rows: &Rows, events: &[usize]) -> Self {
        let n = rows.width + 1;
        let times = multiplicities(n);
        let mut sums = vec![0.0; times.len()];
        let mut diagonal = 0.0;
        let scale = 1.0 / (rows.width as f64).sqrt();
        let mut z = vec![1.0; n];
        for &event in events {
            z[1..].iter_mut().zip(rows.row(event)).for_each(|(z, value)| *z = value * scale);
            diagonal += z.iter().map(|value| value * value).sum::<f64>().powi(4);
            let mut place = 0;
            for i in 0..n {
                for j in i..n {
                    for k in j..n {
                        let three = z[i] * z[j] * z[k];
                        let row = &mut sums[place..place + n - k];
                        row.iter_mut().zip(&z[k..]).for_each(|(sum, last)| *sum += three * last);
                        place += n - k;
                    }
                }
            }
        }
        Self { events: events.len() as f64, sums, times, diagonal }
    }

    /// The sum of the kernel over all pairs of an event here and one there.
    fn pairs(&self, other: &Self) -> f64 {
        self.sums.iter().zip(&other.sums).zip(&self.times).map(|((one, other), times)| times * one * other).sum()
    }
}

/// The number of orders of i ≤ j ≤ k ≤ l.
fn multiplicities(n: usize) -> Vec<f64> {
    let mut times = Vec::new();
    for i in 0..n {
        for j in i..n {
            for k in j..n {
                for l in k..n {
                    // 4! over the factorials of the lengths of runs of equal indices.
                    let runs = [i, j, k, l].chunk_by(|a, b| a == b).map(|run| (1..=run.len()).product::<usize>()).product::<usize>();
                    times.push(24.0 / runs as f64);
                }
            }
        }
    }
    times
}

fn discrepancy(one: &Monomials, other: &Monomials) -> f64 {
    let within = |batch: &Monomials| (batch.pairs(batch) - batch.diagonal) / (batch.events * (batch.events - 1.0));
    within(one) + within(other) - 2.0 * one.pairs(other) / (one.events * other.events)
}

/// The median of batches and half of their 16–84 % range, as `jetnet.evaluation.kpd` sums them up.
pub fn median(batches: &[f64]) -> Option<Estimate> {
    let ascending = sorted(batches);
    let at = |p: f64| quantile(&ascending, p);
    let error = (at(0.83725)? - at(0.16275)?) / 2.0;
    Some(Estimate { value: at(0.5)?, error })
}

/// KPD of two samples of normalised events, `[events, width]` in row-major order, as `jetnet.evaluation.kpd` estimates it.
/// `None` of fewer than 500 events or more than 32 columns.
pub fn kpd(width: usize, real: &[f64], generated: &[f64], rng: &mut impl Rng) -> Option<Estimate> {
    let [real, generated] = [real, generated].map(|events| Rows { width, values: events.to_vec() });
    estimate(&real, &generated, rng)
}

fn estimate(real: &Rows, generated: &Rows, rng: &mut impl Rng) -> Option<Estimate> {
    let fewest = real.len().min(generated.len());
    if fewest < LEAST || !(1..=WIDEST).contains(&real.width) {
        return None;
    }
    let mut batch = || {
        let [one, other] = [real, generated].map(|rows| Monomials::of(rows, &rows.draw(EVENTS.min(fewest), rng)));
        discrepancy(&one, &other)
    };
    median(&(0..BATCHES).map(|_| batch()).collect::<Vec<_>>())
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("kpd", "the distance, the median over batches"),
    ("kpd_error", "half of the range of the middle 68 % of batches"),
];

/// `kpd` and `kpd_error`.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    let scale = Scale::largest(&comparison.bench.test);
    let (real, generated) = (scale.all(&comparison.bench.test), scale.all(comparison.sample));
    let found = estimate(&real, &generated, &mut comparison.streams.stream("kernel"));
    numbers.put("kpd", found.map(|found| found.value));
    numbers.put("kpd_error", found.map(|found| found.error));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_monomials_are_sums_over_pairs() {
        let (one, other) = ([0.5, -1.0, 2.0, 0.25, 1.5, 1.0], [1.0, 0.0, -0.5, 3.0]);
        let kernel = |a: &[f64], b: &[f64]| (f64::midpoint(a[0] * b[0], a[1] * b[1]) + 1.0).powi(4);
        let mean = |a: &[f64], b: &[f64], same: bool| {
            let pairs = a.chunks(2).enumerate().flat_map(|(i, x)| b.chunks(2).enumerate().map(move |(j, y)| (i, x, j, y)));
            let kept: Vec<f64> = pairs.filter(|(i, _, j, _)| !same || i != j).map(|(_, x, _, y)| kernel(x, y)).collect();
            kept.iter().sum::<f64>() / kept.len() as f64
        };
        let expected = mean(&one, &one, true) + mean(&other, &other, true) - 2.0 * mean(&one, &other, false);
        let found = squared_discrepancy(2, &one, &other).unwrap();
        assert!((found - expected).abs() < 1e-12 * expected.abs(), "{found} for {expected}");
        assert_eq!(squared_discrepancy(2, &one, &other[..2]), None);
    }
}
