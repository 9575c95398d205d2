//! Wasserstein-1 distances between two samples: of all events, and of the top share of each.

use super::{Comparison, Gives, Numbers, sorted};

/// `W₁ = ∫₀¹ |Q_a(p) − Q_b(p)| dp` in the unit of the values, as `scipy.stats.wasserstein_distance`.
/// `None` if a sample is empty.
pub fn distance(a: &[f64], b: &[f64]) -> Option<f64> {
    top_distance(a, b, 1.0)
}

/// W₁ between the top shares u of two samples: `(1/u) ∫ |Q_a(p) − Q_b(p)| dp` from 1 − u to 1, in the unit of the values.
///
/// It is the mean distance that an event of the top share must be moved, so values at different u compare. Exact for the
/// step quantile functions of the samples: an event that straddles 1 − u enters with its part above. On the log of an
/// observable it reads as a relative shift. `None` if a sample is empty or u is outside (0, 1].
pub fn top_distance(a: &[f64], b: &[f64], u: f64) -> Option<f64> {
    let (a, b) = (sorted(a), sorted(b));
    from_the_top(steps(a.iter().rev().copied(), a.len()), steps(b.iter().rev().copied(), b.len()), u)
}

/// [`top_distance`] of a sample to one of weighted events, whose whole distribution has this total weight.
///
/// Weighted events need only cover the top share; their order does not matter. At u = 1 and with Σw for the total it is
/// `scipy.stats.wasserstein_distance(a, b, v_weights=w)`. `None` also if a weight is negative or the total is not positive.
pub fn top_distance_weighted(a: &[f64], b: &[f64], weights: &[f64], total: f64, u: f64) -> Option<f64> {
    if b.len() != weights.len() || weights.iter().any(|&weight| weight.is_nan() || weight < 0.0) || total.is_nan() || total <= 0.0 {
        return None;
    }
    let a = sorted(a);
    let weighted = weighted_steps(b.iter().copied().zip(weights.iter().copied()), total);
    from_the_top(steps(a.iter().rev().copied(), a.len()), weighted.into_iter(), u)
}

/// A sample's quantile function from the top: values that descend, each with the probability down to and with it.
pub(super) fn steps(descending: impl Iterator<Item = f64>, size: usize) -> impl Iterator<Item = (f64, f64)> {
    descending.zip(1u64..).map(move |(value, rank)| (value, rank as f64 / size as f64))
}

/// [`steps`] of weighted events in any order.
pub(super) fn weighted_steps(events: impl Iterator<Item = (f64, f64)>, total: f64) -> Vec<(f64, f64)> {
    let mut events: Vec<(f64, f64)> = events.collect();
    events.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
    let mut above = 0.0;
    for (_, weight) in &mut events {
        above += *weight;
        *weight = above / total;
    }
    events
}

/// The mean of |Q_a − Q_b| over the top share u, or over as much of it as both cover; `None` if one covers nothing.
pub(super) fn from_the_top(
    mut a: impl Iterator<Item = (f64, f64)>,
    mut b: impl Iterator<Item = (f64, f64)>,
    u: f64,
) -> Option<f64> {
    if !(u > 0.0 && u <= 1.0) {
        return None;
    }
    let (mut at_a, mut at_b) = (Some(a.next()?), Some(b.next()?));
    let (mut done, mut moved) = (0.0, 0.0);
    while let (Some((value_a, end_a)), Some((value_b, end_b))) = (at_a, at_b) {
        let end = f64::min(end_a, end_b).min(u);
        moved += (end - done) * (value_a - value_b).abs();
        done = end;
        if done >= u {
            break;
        }
        if end_a <= end {
            at_a = a.next();
        }
        if end_b <= end {
            at_b = b.next();
        }
    }
    (done > 0.0).then(|| moved / done)
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("w1.OBSERVABLE", "Wasserstein-1 distance, in the unit of the observable"),
];

/// `w1.OBSERVABLE`, in its unit.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    for (name, test, sample) in comparison.observables() {
        numbers.put(format!("w1.{name}"), distance(test, sample));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_its_own_distance() {
        let shifted = distance(&[0.0, 1.0, 2.0], &[0.5, 1.5, 2.5]).unwrap();
        assert!((shifted - 0.5).abs() < 1e-15);
    }

    #[test]
    fn the_top_share_ignores_the_bulk() {
        let (a, b) = ([0.0, 1.0, 2.0, 10.0], [-5.0, -4.0, 7.0, 13.0]);
        assert!((top_distance(&a, &b, 0.25).unwrap() - 3.0).abs() < 1e-15);
        assert!((top_distance(&a, &b, 0.5).unwrap() - 4.0).abs() < 1e-15);
    }

    #[test]
    fn an_event_across_the_cut_enters_in_part() {
        // The top 3/8 of four events: one whole and half of the next.
        let value = top_distance(&[0.0, 0.0, 0.0, 1.0], &[0.0, 0.0, 0.0, 4.0], 0.375).unwrap();
        assert!((value - 3.0 * 0.25 / 0.375).abs() < 1e-15);
    }

    #[test]
    fn a_weight_counts_as_so_many_events_and_weights_need_not_cover_the_bulk() {
        let copies = top_distance(&[1.0, 5.0, 7.0, 9.0], &[2.0, 6.0, 6.0, 8.0], 0.5).unwrap();
        let weighted = top_distance_weighted(&[1.0, 5.0, 7.0, 9.0], &[8.0, 6.0], &[1.0, 2.0], 4.0, 0.5).unwrap();
        assert!((copies - weighted).abs() < 1e-15);
        assert_eq!(top_distance_weighted(&[1.0], &[1.0], &[-1.0], 1.0, 0.5), None);
        assert_eq!(top_distance_weighted(&[1.0], &[1.0], &[1.0], 0.0, 0.5), None);
        assert_eq!(top_distance_weighted(&[1.0], &[1.0], &[0.0], 1.0, 0.5), None);
    }

    #[test]
    fn shares_outside_the_unit_interval_are_refused() {
        assert_eq!(top_distance(&[1.0], &[1.0], 0.0), None);
        assert_eq!(top_distance(&[1.0], &[1.0], 1.5), None);
        assert_eq!(distance(&[], &[1.0]), None);
    }
}
