//! The generalised Pareto law of the excesses over a threshold: the shape that every tail takes far enough out (Pickands 1975).

/// Fewer excesses give no fit.
pub const LEAST: usize = 20;
/// The lowest shape that the fit tries: the likelihood has no maximum below −1 and no normal law below −1/2.
const LOWEST: f64 = -0.9;
/// Below this |ξ| the law is taken for exponential.
pub(crate) const EXPONENTIAL: f64 = 1e-9;

/// P(excess > y) = (1 + ξ y/σ)^(−1/ξ); exp(−y/σ) for ξ = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GeneralisedPareto {
    /// ξ: above 0 the tail falls as a power, below 0 it ends.
    pub shape: f64,
    /// σ, in the unit of the excesses.
    pub scale: f64,
}

impl GeneralisedPareto {
    /// By maximum likelihood, as `scipy.stats.genpareto.fit(excesses, floc=0)`; the shape is −0.9 at least. `None` for fewer than
    /// twenty excesses, or where all lie at one place.
    pub fn fit(excesses: &[f64]) -> Option<Self> {
        let range = |(low, high): (f64, f64), &y: &f64| (low.min(y), high.max(y));
        let (least, largest) = excesses.iter().fold((f64::INFINITY, 0.0), range);
        if excesses.len() < LEAST || least >= largest || !largest.is_finite() {
            return None;
        }
        let k = excesses.len() as f64;
        let mean = excesses.iter().sum::<f64>() / k;
        // Grimshaw (1993): with θ = ξ/σ, the likelihood is greatest at ξ(θ) = mean ln(1 + θy), which leaves one dimension.
        let shape = |theta: f64| excesses.iter().map(|y| (theta * y).ln_1p()).sum::<f64>() / k;
        // σ = ξ/θ, which tends to the mean for θ → 0.
        let scale = |theta: f64, xi: f64| if theta.abs() * mean < EXPONENTIAL { mean } else { xi / theta };
        let loss = |theta: f64| {
            let xi = shape(theta);
            // −(log-likelihood)/k = ln σ + ξ + 1.
            let scale = scale(theta, xi);
            if xi < LOWEST || scale <= 0.0 { f64::INFINITY } else { scale.ln() + xi + 1.0 }
        };
        // The variable s: θ·mean = eˢ − mean/max, so that θ > −1/max always, and θ = 0 is an inner point.
        let theta = |s: f64| s.exp() / mean - 1.0 / largest;
        let (from, to, points) = ((mean / largest).ln() - 12.0, (mean / largest).ln().max(0.0) + 12.0, 64);
        let at = |i: usize| from + (to - from) * i as f64 / points as f64;
        let best = (0..=points).map(|i| (loss(theta(at(i))), i)).min_by(|one, other| one.0.total_cmp(&other.0))?.1;
        let theta = theta(golden(|s| loss(theta(s)), at(best.saturating_sub(1)), at((best + 1).min(points))));
        let shape = shape(theta);
        let found = Self { shape, scale: scale(theta, shape) };
        (found.shape.is_finite() && found.scale.is_finite() && found.scale > 0.0).then_some(found)
    }

    /// P(excess > y), for y ≥ 0.
    pub fn survival(&self, y: f64) -> f64 {
        let Self { shape, scale } = self;
        if shape.abs() < EXPONENTIAL {
            return (-y / scale).exp();
        }
        let inside = (shape * y / scale).max(-1.0);
        (-inside.ln_1p() / shape).exp()
    }

    /// The excess that is exceeded with probability u in (0, 1].
    pub fn upper_quantile(&self, u: f64) -> f64 {
        let Self { shape, scale } = self;
        if shape.abs() < EXPONENTIAL {
            return -scale * u.ln();
        }
        scale * (-shape * u.ln()).exp_m1() / shape
    }
}

/// The lowest point of a function between two others, by golden section.
fn golden(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let part = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut one, mut other) = (high - part * (high - low), low + part * (high - low));
    let (mut f_one, mut f_other) = (f(one), f(other));
    for _ in 0..60 {
        if f_one <= f_other {
            (high, other, f_other) = (other, one, f_one);
            one = high - part * (high - low);
            f_one = f(one);
        } else {
            (low, one, f_one) = (one, other, f_other);
            other = low + part * (high - low);
            f_other = f(other);
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_agree_with_scipy_and_survival_undoes_them() {
        // scipy.stats.genpareto(shape, scale=2).isf(u)
        for (shape, u, expected) in [
            (0.3, 1e-4, 98.992_879_497_407_56),
            (0.0, 1e-4, 18.420_680_743_952_367),
            (-0.25, 1e-4, 7.2),
            (0.3, 0.5, 1.540_962_755_632_775_4),
        ] {
            let law = GeneralisedPareto { shape, scale: 2.0 };
            let y = law.upper_quantile(u);
            assert!((y / expected - 1.0).abs() < 1e-9, "{shape} {u}: {y}");
            assert!((law.survival(y) / u - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_bounded_law_holds_nothing_beyond_its_end() {
        let law = GeneralisedPareto { shape: -0.25, scale: 2.0 };
        assert!(law.survival(8.0).abs() < 1e-12 && law.survival(9.0).abs() < 1e-12);
    }

    #[test]
    fn the_fit_finds_shape_and_scale() {
        let law = GeneralisedPareto { shape: 0.3, scale: 2.0 };
        let excesses: Vec<f64> = (0..50_000).map(|i| law.upper_quantile((f64::from(i) + 0.5) / 50_000.0)).collect();
        let found = GeneralisedPareto::fit(&excesses).unwrap();
        assert!((found.shape - 0.3).abs() < 2e-3 && (found.scale / 2.0 - 1.0).abs() < 2e-3, "{found:?}");
    }
}
