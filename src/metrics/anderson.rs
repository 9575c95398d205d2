//! The Anderson–Darling test of two samples, which weighs both tails, and its form that weighs the upper tail alone.

use super::{Comparison, Gives, Numbers};

/// `scipy.stats.anderson_ksamp([a, b], variant="midrank").statistic`: eq. (7) of Scholz and Stephens (1987), less its mean
/// and over its deviation under one distribution. About 0 ± 1 for two samples of one distribution, whatever their sizes.
///
/// Both samples ascend. `None` if a sample is empty, there are fewer than four events, or all are the same.
pub fn two_sample(a: &[f64], b: &[f64]) -> Option<f64> {
    let (n, m) = (a.len() as f64, b.len() as f64);
    let total = n + m;
    let ties = ties(a, b)?;
    let sum: f64 = ties
        .iter()
        .map(|tie| {
            let (here, below) = (tie.in_a + tie.in_b, tie.below_a + tie.below_b + f64::midpoint(tie.in_a, tie.in_b));
            let term = |events: f64, below_in: f64| (total * below_in - below * events).powi(2) / events;
            let squares = term(n, tie.below_a + tie.in_a / 2.0) + term(m, tie.below_b + tie.in_b / 2.0);
            here / total * squares / (below * (total - below) - total * here / 4.0)
        })
        .sum();
    let statistic = sum * (total - 1.0) / total;
    Some((statistic - 1.0) / variance(n, m)?.sqrt()).filter(|found| found.is_finite())
}

/// Its variance for two samples: eq. (4) of Scholz and Stephens.
fn variance(n: f64, m: f64) -> Option<f64> {
    let total = n + m;
    if total < 4.0 {
        return None;
    }
    let inverses = 1.0 / n + 1.0 / m;
    let (mut harmonic, mut g) = (0.0, 0.0);
    for i in 2..total as u64 {
        // Σ 1/(N − 1 … N − i + 1), over i: the double sum in one pass.
        harmonic += 1.0 / (total - i as f64 + 1.0);
        g += harmonic / i as f64;
    }
    let h = harmonic + 1.0;
    let a = 4.0 * g - 6.0 + (10.0 - 6.0 * g) * inverses;
    let b = (2.0 * g - 4.0) * 4.0 + 16.0 * h + (2.0 * g - 14.0 * h - 4.0) * inverses - 8.0 * h + 4.0 * g - 6.0;
    let c = (6.0 * h + 2.0 * g - 2.0) * 4.0 + (4.0 * h - 4.0 * g + 6.0) * 2.0 + (2.0 * h - 6.0) * inverses + 4.0 * h;
    let d = (2.0 * h + 6.0) * 4.0 - 8.0 * h;
    Some((((a * total + b) * total + c) * total + d) / ((total - 1.0) * (total - 2.0) * (total - 3.0)))
}

/// The upper-tail form: `nm/N ∫ (F − G)²/(1 − H) dH`, with H the distribution function of both samples together, after
/// Sinclair, Spurr and Ahmad (1990). Its expectation for two samples of one distribution is about 1/2.
///
/// Both samples ascend; ties step together, and the largest value, where all functions are 1, is left out. `None` if a sample
/// is empty or all events are the same.
pub fn upper_tail(a: &[f64], b: &[f64]) -> Option<f64> {
    let (n, m) = (a.len() as f64, b.len() as f64);
    let total = n + m;
    let ties = ties(a, b)?;
    let sum: f64 = ties[..ties.len() - 1]
        .iter()
        .map(|tie| {
            let (in_a, in_b) = (tie.below_a + tie.in_a, tie.below_b + tie.in_b);
            (tie.in_a + tie.in_b) / total * (in_a / n - in_b / m).powi(2) / (1.0 - (in_a + in_b) / total)
        })
        .sum();
    Some(n * m / total * sum).filter(|found| found.is_finite())
}

/// Events at one value, and below it.
struct Tie {
    in_a: f64,
    in_b: f64,
    below_a: f64,
    below_b: f64,
}

/// All values that occur, ascending; `None` if they are fewer than two, or a sample is empty.
fn ties(a: &[f64], b: &[f64]) -> Option<Vec<Tie>> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (mut i, mut j) = (0, 0);
    let mut ties = Vec::with_capacity(a.len() + b.len());
    while i < a.len() || j < b.len() {
        let next = |sample: &[f64], at: usize| sample.get(at).copied().unwrap_or(f64::INFINITY);
        let value = next(a, i).min(next(b, j));
        let equal = |sample: &[f64], at: usize| sample[at..].iter().take_while(|&&other| other <= value).count();
        let (in_a, in_b) = (equal(a, i), equal(b, j));
        if in_a + in_b == 0 {
            return None;
        }
        ties.push(Tie { in_a: in_a as f64, in_b: in_b as f64, below_a: i as f64, below_b: j as f64 });
        (i, j) = (i + in_a, j + in_b);
    }
    (ties.len() > 1).then_some(ties)
}

/// The numbers of this metric.
pub(super) const GIVES: &[Gives] = &[
    ("ad.OBSERVABLE", "Anderson–Darling statistic, standardised: about 0 ± 1 for two samples of one distribution"),
    ("ad_upper.OBSERVABLE", "its form that weighs the upper tail alone, standardised"),
];

/// `ad.OBSERVABLE` and `ad_upper.OBSERVABLE`.
pub(super) fn measure(comparison: &Comparison<'_>, numbers: &mut Numbers) {
    for (name, test, sample) in comparison.observables() {
        numbers.put(format!("ad.{name}"), two_sample(test, sample));
        numbers.put(format!("ad_upper.{name}"), upper_tail(test, sample));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_form_sees_a_difference_above_that_it_would_not_see_below() {
        let base: Vec<f64> = (0..1000).map(f64::from).collect();
        let above: Vec<f64> = base.iter().map(|&x| if x >= 950.0 { x + 100.0 } else { x }).collect();
        let below: Vec<f64> = base.iter().rev().map(|&x| if x < 50.0 { x - 100.0 } else { x }).collect();
        let below: Vec<f64> = below.into_iter().rev().collect();
        assert!(upper_tail(&base, &above).unwrap() > 5.0 * upper_tail(&base, &below).unwrap());
        assert!((two_sample(&base, &above).unwrap() - two_sample(&base, &below).unwrap()).abs() < 0.1);
    }

    #[test]
    fn samples_that_say_nothing_have_no_statistic() {
        for (a, b) in [(&[][..], &[1.0, 2.0][..]), (&[1.0; 5], &[1.0; 5]), (&[1.0], &[2.0])] {
            assert_eq!(two_sample(a, b), None);
        }
        assert_eq!(upper_tail(&[1.0; 5], &[1.0; 5]), None);
        assert!(upper_tail(&[1.0], &[2.0]).is_some());
    }
}
