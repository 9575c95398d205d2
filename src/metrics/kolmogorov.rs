//! The distribution of Kolmogorov's two-sided statistic at a finite sample size.
//!
//! Three methods, chosen by region as in Simard and L'Ecuyer, J. Stat. Softw. 39(11), 2011, and in scipy's `kstwo`: Durbin's
//! matrix for small n or small statistics, twice Smirnov's one-sided sum far out, and Pelz and Good's expansion between.

use std::f64::consts::PI;

use statrs::function::gamma::ln_gamma;

/// P(Dₙ ≥ x): the chance that n events stray this far from their distribution function.
///
/// Agrees with `scipy.stats.kstwo.sf(x, n)` to 10⁻⁹. For n = 0 every distance is likely: 1.
pub fn survival(n: u64, x: f64) -> f64 {
    let size = n as f64;
    let squared = size * x * x;
    let probability = if size * x <= 0.5 {
        1.0
    } else if x >= 1.0 || squared >= 370.0 {
        0.0
    } else if x >= 0.5 || squared >= if n <= 140 { 4.0 } else { 2.2 } {
        2.0 * smirnov_survival(n, x)
    } else if n <= 140 || (n <= 100_000 && size * x.powf(1.5) <= 1.4) {
        1.0 - durbin(n, x)
    } else {
        1.0 - pelz_good(size, x)
    };
    probability.clamp(0.0, 1.0)
}

/// P(Dₙ⁺ ≥ x) = x Σⱼ C(n, j) (x + j/n)^(j−1) (1 − x − j/n)^(n−j), over j ≤ n(1 − x): Smirnov's one-sided law, exact.
fn smirnov_survival(n: u64, x: f64) -> f64 {
    let size = n as f64;
    let last = (size * (1.0 - x)).floor() as u64;
    let factorial = ln_gamma(size + 1.0);
    let term = |j: u64| {
        let j = j as f64;
        let choose = factorial - ln_gamma(j + 1.0) - ln_gamma(size - j + 1.0);
        let rest = (1.0 - x - j / size).max(0.0);
        (choose + (j - 1.0) * (x + j / size).ln() + (size - j) * rest.ln()).exp()
    };
    x * (0..=last.min(n - 1)).map(term).sum::<f64>()
}

/// P(Dₙ ≤ x) as an element of the n-th power of Durbin's matrix (Marsaglia, Tsang and Wang, J. Stat. Softw. 8(18), 2003).
fn durbin(n: u64, x: f64) -> f64 {
    let size = n as f64;
    let k = (size * x).ceil();
    let h = k - size * x;
    let centre = k as usize - 1;
    let order = 2 * centre + 1;

    // 1 / i!
    let inverse: Vec<f64> = (1..=order)
        .scan(1.0, |factorial, i| {
            *factorial *= i as f64;
            Some(1.0 / *factorial)
        })
        .collect();
    let mut matrix = Scaled { order, values: vec![0.0; order * order], exponent: 0 };
    for row in 0..order {
        for column in 0..=(row + 1).min(order - 1) {
            matrix.values[row * order + column] = if row + 1 == column { 1.0 } else { inverse[row - column] };
        }
    }
    // hⁱ, from i = 1 on
    let mut power = 1.0;
    for (i, inverse) in inverse.iter().enumerate() {
        power *= h;
        let edge = (1.0 - power) * inverse;
        matrix.values[i * order] = edge;
        matrix.values[(order - 1) * order + order - 1 - i] = edge;
    }
    matrix.values[(order - 1) * order] =
        (1.0 - 2.0 * power + (2.0 * h - 1.0).max(0.0).powf(order as f64)) * inverse[order - 1];

    let raised = matrix.power(n);
    let mut probability = raised.values[centre * order + centre];
    let mut exponent = raised.exponent;
    for i in 1..=n {
        probability *= i as f64 / size;
        if probability < 1.0 / SCALE {
            probability *= SCALE;
            exponent -= 1;
        }
    }
    probability * SCALE.powi(exponent)
}

/// 2¹²⁸: what large powers are scaled by, so that they stay within range and exact.
const SCALE: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;

/// A square matrix times `SCALE` to the `exponent`.
#[derive(Clone)]
struct Scaled {
    order: usize,
    values: Vec<f64>,
    exponent: i32,
}

impl Scaled {
    fn times(&self, other: &Self) -> Self {
        let order = self.order;
        let mut values = vec![0.0; order * order];
        for (row, out) in self.values.chunks_exact(order).zip(values.chunks_exact_mut(order)) {
            for (&factor, from) in row.iter().zip(other.values.chunks_exact(order)) {
                out.iter_mut().zip(from).for_each(|(sum, &value)| *sum += factor * value);
            }
        }
        let mut exponent = self.exponent + other.exponent;
        if values[(order / 2) * (order + 1)] > SCALE {
            for value in &mut values {
                *value /= SCALE;
            }
            exponent += 1;
        }
        Self { order, values, exponent }
    }

    fn power(&self, n: u64) -> Self {
        if n <= 1 {
            return self.clone();
        }
        let half = self.power(n / 2);
        let square = half.times(&half);
        if n % 2 == 1 { square.times(self) } else { square }
    }
}

/// P(Dₙ ≤ x) ≈ K₀(z) + K₁(z)/√n + K₂(z)/n + K₃(z)/n^(3/2) with z = x√n (Pelz and Good, J. R. Stat. Soc. B 38, 1976).
fn pelz_good(n: f64, x: f64) -> f64 {
    let z = x * n.sqrt();
    let z2 = z * z;
    let (z4, z6) = (z2 * z2, z2 * z2 * z2);
    let (pi2, pi4, pi6) = (PI.powi(2), PI.powi(4), PI.powi(6));
    let terms = (16.0 * z / PI).ceil() as u64;
    let mut k = [0.0; 4];
    for i in 1..=terms {
        // Half-integers: m = 1/2, 3/2, …
        let m2 = (i as f64 - 0.5).powi(2);
        let (m4, m6) = (m2 * m2, m2 * m2 * m2);
        let decay = (-pi2 * m2 / (2.0 * z2)).exp();
        k[0] += decay;
        k[1] += decay * (pi2 * m2 - z2);
        k[2] += decay * (6.0 * z6 + 2.0 * z4 + (2.0 * z4 - 5.0 * z2) * pi2 * m2 + (1.0 - 2.0 * z2) * pi4 * m4);
        k[3] += decay
            * (-30.0 * z6 - 90.0 * z4 * z4
                + (135.0 * z4 - 96.0 * z6) * pi2 * m2
                + (212.0 * z4 - 60.0 * z2) * pi4 * m4
                + (5.0 - 30.0 * z2) * pi6 * m6);
    }
    k[0] /= z;
    k[1] /= 6.0 * z4;
    k[2] /= 72.0 * z6 * z;
    k[3] /= 6480.0 * z6 * z4;
    for i in 1..=terms {
        let i2 = (i * i) as f64;
        let decay = i2 * (-pi2 * i2 / (2.0 * z2)).exp();
        k[2] -= decay * pi2 / (36.0 * z2 * z);
        k[3] += decay * pi2 * (3.0 * z2 - pi2 * i2) / (216.0 * z6);
    }
    let root = n.sqrt();
    (2.0 * PI).sqrt() * (k[0] + k[1] / root + k[2] / n + k[3] / (n * root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_strays_uniformly() {
        // D₁ = max(U, 1 − U), so P(D₁ ≥ x) = 2(1 − x).
        for x in [0.55, 0.7, 0.99] {
            assert!((survival(1, x) - 2.0 * (1.0 - x)).abs() < 1e-14);
        }
        assert!((survival(1, 0.3) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn the_methods_agree_where_they_meet() {
        let (n, x) = (200, 0.1);
        let exact = 1.0 - durbin(n, x);
        assert!((exact - (1.0 - pelz_good(200.0, x))).abs() < 1e-6);
        assert!((exact - 2.0 * smirnov_survival(n, x)).abs() < 1e-6);
    }

    #[test]
    fn no_event_and_no_distance_are_no_evidence() {
        assert!((survival(0, 1.0) - 1.0).abs() < 1e-15);
        assert!((survival(1_000_000, 0.0) - 1.0).abs() < 1e-15);
        assert!(survival(1_000_000, 0.5) < 1e-300);
    }
}
