//! Wasserstein-1 distances between two samples: of all events, and of the top share of each.

use super::sorted;

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
    if a.is_empty() || b.is_empty() || !(u > 0.0 && u <= 1.0) {
        return None;
    }
    let (a, b) = (sorted(a), sorted(b));
    let (mut from_a, mut from_b) = (a.iter().rev().zip(1u64..), b.iter().rev().zip(1u64..));
    let (mut at_a, mut at_b) = (from_a.next(), from_b.next());
    let (mut done, mut moved) = (0.0, 0.0);
    while let (Some((value_a, rank_a)), Some((value_b, rank_b))) = (at_a, at_b) {
        // Each event covers 1/n of the probability, counted from the top.
        let end_a = rank_a as f64 / a.len() as f64;
        let end_b = rank_b as f64 / b.len() as f64;
        let end = end_a.min(end_b).min(u);
        moved += (end - done) * (value_a - value_b).abs();
        done = end;
        if done >= u {
            break;
        }
        if end_a <= end {
            at_a = from_a.next();
        }
        if end_b <= end {
            at_b = from_b.next();
        }
    }
    Some(moved / u)
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
    fn shares_outside_the_unit_interval_are_refused() {
        assert_eq!(top_distance(&[1.0], &[1.0], 0.0), None);
        assert_eq!(top_distance(&[1.0], &[1.0], 1.5), None);
        assert_eq!(distance(&[], &[1.0]), None);
    }
}
