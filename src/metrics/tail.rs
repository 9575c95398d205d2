//! How much of a sample lies in the tail, and how far up its quantiles reach.

/// The tail mass of a generated sample over that of the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MassRatio {
    /// `(k_g/n_g) / (k_r/n_r)`, with k of n events in the tail.
    pub ratio: f64,
    /// Deviation of ln(ratio), `√(1/k_r + 1/k_g)`; `None` if no generated event lies in the tail.
    pub sigma: Option<f64>,
}

/// Events strictly above a cut.
pub fn above(sample: &[f64], cut: f64) -> usize {
    sample.iter().filter(|&&value| value > cut).count()
}

/// Compares the tail masses above a cut. `None` if the reference has no event there or the generated sample is empty.
pub fn mass_ratio(reference: &[f64], generated: &[f64], cut: f64) -> Option<MassRatio> {
    let (k_r, k_g) = (above(reference, cut) as f64, above(generated, cut) as f64);
    if k_r == 0.0 || generated.is_empty() {
        return None;
    }
    let ratio = (k_g / generated.len() as f64) / (k_r / reference.len() as f64);
    Some(MassRatio { ratio, sigma: (k_g > 0.0).then(|| (1.0 / k_r + 1.0 / k_g).sqrt()) })
}

/// The quantile at p of an ascending sample, as `numpy.quantile(sample, p)`: linear between order statistics.
/// `None` if the sample is empty or p is outside [0, 1].
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    if sorted.is_empty() || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = (sorted.len() - 1) as f64 * p;
    let below = (position.floor() as usize).min(sorted.len() - 1);
    let (low, high) = (sorted[below], sorted[(below + 1).min(sorted.len() - 1)]);
    let part = position - below as f64;
    // From the nearer side, so that the result never leaves [low, high].
    Some(if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) })
}

/// `Q_g(1 − u) / Q_r(1 − u) − 1` for ascending samples: how far the generated quantile strays, relative to the real one.
/// `None` if a sample is empty or the real quantile is 0.
pub fn quantile_deviation(reference: &[f64], generated: &[f64], u: f64) -> Option<f64> {
    let real = quantile(reference, 1.0 - u)?;
    let ratio = quantile(generated, 1.0 - u)? / real - 1.0;
    ratio.is_finite().then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masses_are_shares_of_their_samples() {
        let ratio = mass_ratio(&[1.0, 2.0, 3.0, 4.0], &[3.0, 5.0], 2.5).unwrap();
        assert!((ratio.ratio - 2.0).abs() < 1e-15);
        assert!((ratio.sigma.unwrap() - 1.0).abs() < 1e-15);
    }

    #[test]
    fn an_empty_generated_tail_has_ratio_zero_and_no_error() {
        assert_eq!(mass_ratio(&[3.0], &[1.0], 2.0), Some(MassRatio { ratio: 0.0, sigma: None }));
        assert_eq!(mass_ratio(&[1.0], &[3.0], 2.0), None);
        assert_eq!(mass_ratio(&[3.0], &[], 2.0), None);
    }

    #[test]
    fn quantiles_lie_between_order_statistics() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 1.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[1.0], 1.5), None);
    }

    #[test]
    fn a_stretched_tail_shows_as_its_stretch() {
        let real: Vec<f64> = (1..=1000).map(f64::from).collect();
        let stretched: Vec<f64> = real.iter().map(|value| 1.1 * value).collect();
        assert!((quantile_deviation(&real, &stretched, 1e-2).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(quantile_deviation(&[0.0], &[1.0], 0.5), None);
    }
}
