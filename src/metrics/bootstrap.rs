//! Bootstrap intervals of numbers that depend on the top of a sample alone.
//!
//! A replica draws as many events as the sample has, with replacement. Of those only the ones that fall among the m largest
//! are made: their number is binomial, (n, m/n), and they are uniform among the m. That is the multinomial bootstrap, exactly,
//! at the price of the tail.

use rand::{Rng, RngExt};
use rand_distr::{Binomial, Distribution};

use super::tail::{quantile, quantile_of};

/// The share of the replicas inside an interval.
pub const LEVEL: f64 = 0.95;

/// Below this many replicas there is no interval.
const LEAST_REPLICAS: usize = 20;

/// The largest values of a sample, descending, and its size.
#[derive(Clone, Debug, PartialEq)]
pub struct Top {
    values: Vec<f64>,
    size: usize,
}

impl Top {
    /// The top of an ascending sample, with so much to spare that replicas cover the top share, too.
    pub fn of(ascending: &[f64], share: f64) -> Self {
        let expected = share * ascending.len() as f64;
        // Eight deviations of a Poisson number.
        let kept = (expected + 8.0 * expected.sqrt() + 10.0).ceil() as usize;
        Self { values: ascending.iter().rev().take(kept).copied().collect(), size: ascending.len() }
    }

    /// A bootstrap replica of the sample, as far as it falls into this top.
    pub fn replica(&self, rng: &mut impl Rng) -> Self {
        let share = self.values.len() as f64 / self.size.max(1) as f64;
        let drawn = Binomial::new(self.size as u64, share.min(1.0)).map_or(0, |law| law.sample(rng));
        let mut times = vec![0u32; self.values.len()];
        (0..drawn).for_each(|_| times[rng.random_range(0..self.values.len())] += 1);
        let repeated = self.values.iter().zip(times);
        let values = repeated.flat_map(|(&value, times)| std::iter::repeat_n(value, times as usize)).collect();
        Self { values, size: self.size }
    }

    /// The values that are known, descending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Events of the whole sample.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The quantile at p of the whole sample, as `numpy.quantile`; `None` below the values that are known.
    pub fn quantile(&self, p: f64) -> Option<f64> {
        quantile_of(self.size, p, |rank| self.values.get(self.size - 1 - rank).copied())
    }
}

/// A bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The middle [`LEVEL`] of the replicas, as `scipy.stats.bootstrap(method="percentile")`. `None` from too few of them.
pub fn percentile(mut replicas: Vec<f64>) -> Option<Interval> {
    replicas.retain(|value| value.is_finite());
    if replicas.len() < LEAST_REPLICAS {
        return None;
    }
    replicas.sort_unstable_by(f64::total_cmp);
    let outside = (1.0 - LEVEL) / 2.0;
    Some(Interval { low: quantile(&replicas, outside)?, high: quantile(&replicas, 1.0 - outside)? })
}

/// The percentile interval mirrored at the number itself, as `scipy.stats.bootstrap(method="basic")`, cut off at 0: for
/// distances, which noise only lengthens. Replicas are noisier than the sample, so their percentiles would lie too high; the
/// mirror takes that excess off.
pub fn basic(value: f64, replicas: Vec<f64>) -> Option<Interval> {
    let Interval { low, high } = percentile(replicas)?;
    Some(Interval { low: (2.0 * value - high).max(0.0), high: (2.0 * value - low).max(0.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Streams;

    fn ascending(size: u32) -> Vec<f64> {
        (0..size).map(f64::from).collect()
    }

    #[test]
    fn a_top_knows_the_upper_quantiles_of_its_whole_sample() {
        let sample = ascending(10_000);
        let top = Top::of(&sample, 0.01);
        assert_eq!(top.values().len(), 190);
        assert_eq!(top.quantile(0.99), quantile(&sample, 0.99));
        assert_eq!(top.quantile(0.5), None);
        assert_eq!(Top::of(&[], 0.1).quantile(0.5), None);
    }

    #[test]
    fn replicas_of_the_top_scatter_as_those_of_the_whole_sample_do() {
        // The bootstrap deviation of a quantile of uniform values is √(p(1 − p)/n).
        let sample = ascending(10_000);
        let mut rng = Streams::new(3, "test").stream("bootstrap");
        let top = Top::of(&sample, 0.1);
        let found: Vec<f64> = (0..2000).map(|_| top.replica(&mut rng).quantile(0.9).unwrap() / 1e4).collect();
        let mean = found.iter().sum::<f64>() / 2000.0;
        let deviation = (found.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 2000.0).sqrt();
        assert!((mean - 0.9).abs() < 3e-4, "{mean}");
        assert!((deviation / (0.09_f64 / 1e4).sqrt() - 1.0).abs() < 0.08, "{deviation}");
    }

    #[test]
    fn a_top_that_is_the_whole_sample_draws_exactly_its_size() {
        let top = Top::of(&[1.0, 2.0, 3.0], 1.0);
        let replica = top.replica(&mut Streams::new(3, "test").stream("bootstrap"));
        assert_eq!((replica.values().len(), replica.size()), (3, 3));
        let none = Top::of(&[], 1.0).replica(&mut Streams::new(3, "test").stream("bootstrap"));
        assert_eq!(none.values(), [0.0; 0]);
    }

    #[test]
    fn the_basic_interval_mirrors_the_percentiles_and_stays_above_zero() {
        let replicas: Vec<f64> = (0..=1000).map(|i| f64::from(i) / 1000.0).collect();
        let middle = percentile(replicas.clone()).unwrap();
        assert!((middle.low - 0.025).abs() < 1e-12 && (middle.high - 0.975).abs() < 1e-12);
        let mirrored = basic(0.4, replicas).unwrap();
        assert!(mirrored.low == 0.0 && (mirrored.high - 0.775).abs() < 1e-12);
        assert_eq!(percentile(vec![f64::NAN; 100]), None);
    }
}
