//! The standard normal distribution: Φ and its inverse, the probit.

use std::f64::consts::SQRT_2;

use statrs::function::erf::{erfc, erfc_inv};

/// Φ(x), exact to the last digits in both tails.
pub fn cdf(x: f64) -> f64 {
    erfc(-x / SQRT_2) / 2.0
}

/// Φ⁻¹(p) for p in [0, 1]: the probit; ∓∞ at the ends.
pub fn quantile(p: f64) -> f64 {
    -SQRT_2 * erfc_inv(2.0 * p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probit_agrees_with_scipy_in_both_tails() {
        // scipy.stats.norm.ppf
        for (p, expected) in [
            (1e-12, -7.034_483_825_301_131),
            (1e-6, -4.753_424_308_822_899),
            (0.025, -1.959_963_984_540_054),
            (0.5, 0.0),
            (0.999_99, 4.264_890_793_923_841),
        ] {
            assert!((quantile(p) - expected).abs() < 1e-9, "{p}: {} for {expected}", quantile(p));
        }
    }

    #[test]
    fn phi_undoes_the_probit() {
        for step in -80..=80 {
            let x = f64::from(step) / 10.0;
            let back = -quantile(cdf(-x.abs()));
            assert!((back - x.abs()).abs() < 1e-9, "{x} came back as {back}");
        }
    }
}
