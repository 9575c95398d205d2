//! Choosing on validation events: how far a mixture's tail is from theirs, which weight brings it nearest, and whether that is
//! more than chance.
//!
//! The measure is W₁ between the top shares u on the log of the tail observable, u being the share of the validation events
//! in the tail: what `evaluate` reports of test events as `tail_w1`. A mixture is judged by a sample of each component with
//! the weight α_k/n_k an event, so that mixtures of the same components are compared on the same events.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 200;
/// Probability that a bootstrap interval leaves out on either side.
const OUTSIDE: f64 = 0.05;
/// Weights that a line search tries before it closes in on the best.
const GRID: usize = 40;
/// Golden sections of a line search.
const SECTIONS: usize = 24;

/// Judges mixtures of given components by validation events.
pub struct TailJudge {
    /// The observable of validation events on the log scale, descending.
    validation: Vec<f64>,
    /// The share of the validation events in the tail.
    share: f64,
    /// The cut on the log scale.
    cut: f64,
    /// The observable on the log scale and the component of generated events, descending.
    generated: Vec<(f64, u32)>,
    /// Events of each component.
    sizes: Vec<usize>,
}

/// A number with the ends of its 90 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A mixture against its base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// W₁ of the base.
    pub base: f64,
    /// W₁ of the mixture.
    pub mixture: f64,
    /// W₁ of the base minus that of the mixture: above 0 where the mixture is nearer to the data.
    pub gain: Estimate,
    /// The base's tail mass over that of the validation events.
    pub base_mass: f64,
    /// The mixture's tail mass over that of the validation events.
    pub mixture_mass: Estimate,
}

/// How often each of the topmost events counts in a bootstrap.
struct Counts {
    validation: Vec<f64>,
    generated: Vec<f64>,
}

impl TailJudge {
    /// Of the tail observable of validation events and of a sample of each component. `None` where no validation event lies
    /// above the cut, or a sample is empty.
    pub fn new(validation: &[f64], components: &[Vec<f64>], cut: f64) -> Option<Self> {
        let scale = |value: f64| if cut > 0.0 { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let above = validation.iter().filter(|&&value| value > cut).count();
        if above == 0 || components.is_empty() || components.iter().any(Vec::is_empty) {
            return None;
        }
        let mut sorted: Vec<f64> = validation.iter().copied().map(scale).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let tagged = components.iter().zip(0..).flat_map(|(values, k)| values.iter().map(move |&v| (scale(v), k)));
        let mut generated: Vec<(f64, u32)> = tagged.collect();
        generated.sort_by(|a, b| b.0.total_cmp(&a.0));
        let share = above as f64 / validation.len() as f64;
        let sizes = components.iter().map(Vec::len).collect();
        Some(Self { validation: sorted, share, cut: scale(cut), generated, sizes })
    }

    /// Validation events.
    pub fn events(&self) -> usize {
        self.validation.len()
    }

    /// W₁ of the mixture with these component weights.
    pub fn w1(&self, weights: &[f64]) -> f64 {
        self.distance(weights, None)
    }

    /// The mixture's tail mass over that of the validation events.
    pub fn mass_ratio(&self, weights: &[f64]) -> f64 {
        self.mass(weights, None)
    }

    /// The weight q in [0, max] of the last component that brings the mixture nearest to the validation events, with the
    /// others at 1 − q times their weights in `base`: the best of a grid, then golden sections around it.
    pub fn line_search(&self, base: &[f64], max: f64) -> f64 {
        let at = |q: f64| self.w1(&mixed(base, q));
        // Even in √q, since weights are mostly small.
        let grid = |i: usize| max * (i as f64 / GRID as f64).powi(2);
        let best = (0..=GRID).map(|i| (at(grid(i)), i)).min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, i)| i);
        let (mut low, mut high) = (grid(best.saturating_sub(1)), grid((best + 1).min(GRID)));
        let golden = 0.5 * (5f64.sqrt() - 1.0);
        let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
        let (mut at_a, mut at_b) = (at(a), at(b));
        for _ in 0..SECTIONS {
            if at_a < at_b {
                (high, b, at_b) = (b, a, at_a);
                a = high - golden * (high - low);
                at_a = at(a);
            } else {
                (low, a, at_a) = (a, b, at_b);
                b = low + golden * (high - low);
                at_b = at(b);
            }
        }
        let refined = 0.5 * (low + high);
        if at(refined) < at(grid(best)) { refined } else { grid(best) }
    }

    /// Compares the mixture with these weights with the base, with bootstrap intervals over validation and generated events.
    pub fn gain(&self, base: &[f64], mixture: &[f64], rng: &mut ChaCha8Rng) -> Gain {
        let (w1_base, w1_mixture) = (self.w1(base), self.w1(mixture));
        let depth = self.depth([base, mixture]);
        let mut gains = Vec::with_capacity(RESAMPLES);
        let mut masses = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            let counts = Self::resample(depth, rng);
            gains.push(self.distance(base, Some(&counts)) - self.distance(mixture, Some(&counts)));
            masses.push(self.mass(mixture, Some(&counts)));
        }
        Gain {
            base: w1_base,
            mixture: w1_mixture,
            gain: Estimate::of(w1_base - w1_mixture, gains),
            base_mass: self.mass_ratio(base),
            mixture_mass: Estimate::of(self.mass_ratio(mixture), masses),
        }
    }

    /// How many of the topmost validation and generated events a bootstrap must draw: those above the cut, and twice the top
    /// share of either mixture.
    fn depth(&self, mixtures: [&[f64]; 2]) -> [usize; 2] {
        let real = (2.0 * self.share * self.validation.len() as f64).ceil() as usize;
        let above = self.generated.iter().take_while(|(value, _)| *value > self.cut).count();
        let reach = |weights: &[f64]| {
            let each = self.event_weights(weights);
            let mut sum = 0.0;
            let within = |(_, k): &&(f64, u32)| {
                sum += each[*k as usize];
                sum < 2.0 * self.share
            };
            self.generated.iter().take_while(within).count() + 1
        };
        let generated = mixtures.map(reach).into_iter().fold(above, usize::max);
        [real.min(self.validation.len()), generated.min(self.generated.len())]
    }

    /// Poisson bootstrap: each event counts as often as a Poisson number of mean 1 says, so that the size of the sample varies
    /// as well.
    fn resample(depth: [usize; 2], rng: &mut ChaCha8Rng) -> Counts {
        let mut draw = |n: usize| (0..n).map(|_| poisson(rng.random())).collect();
        Counts { validation: draw(depth[0]), generated: draw(depth[1]) }
    }

    /// Weight of an event of each component.
    fn event_weights(&self, weights: &[f64]) -> Vec<f64> {
        self.sizes.iter().zip(weights).map(|(&size, weight)| weight / size as f64).collect()
    }

    fn distance(&self, weights: &[f64], counts: Option<&Counts>) -> f64 {
        let each = self.event_weights(weights);
        let one = 1.0 / self.validation.len() as f64;
        let real = self.validation.iter().map(|&value| (value, one));
        let generated = self.generated.iter().map(|&(value, k)| (value, each[k as usize]));
        match counts {
            None => top_distance(real, generated, self.share),
            Some(counts) => top_distance(
                real.zip(&counts.validation).map(|((value, weight), count)| (value, weight * count)),
                generated.zip(&counts.generated).map(|((value, weight), count)| (value, weight * count)),
                self.share,
            ),
        }
    }

    fn mass(&self, weights: &[f64], counts: Option<&Counts>) -> f64 {
        let each = self.event_weights(weights);
        let generated =
            self.generated.iter().take_while(|(value, _)| *value > self.cut).map(|&(_, k)| each[k as usize]);
        let Some(counts) = counts else { return generated.sum::<f64>() / self.share };
        let real = self.validation.iter().zip(&counts.validation).take_while(|(value, _)| **value > self.cut);
        let real = real.map(|(_, count)| count).sum::<f64>().max(1.0) / self.validation.len() as f64;
        generated.zip(&counts.generated).map(|(weight, count)| weight * count).sum::<f64>() / real
    }
}

impl Estimate {
    fn of(value: f64, mut resampled: Vec<f64>) -> Self {
        resampled.sort_by(f64::total_cmp);
        let at = |p: f64| resampled[((resampled.len() - 1) as f64 * p).round() as usize];
        Self { value, low: at(OUTSIDE), high: at(1.0 - OUTSIDE) }
    }
}

/// The weights of a base's components times 1 − q, then q.
pub fn mixed(base: &[f64], q: f64) -> Vec<f64> {
    base.iter().map(|weight| weight * (1.0 - q)).chain(std::iter::once(q)).collect()
}

/// W₁ between the top shares u of two weighted samples in descending order whose weights sum to 1 each.
fn top_distance(a: impl Iterator<Item = (f64, f64)>, b: impl Iterator<Item = (f64, f64)>, u: f64) -> f64 {
    let (mut a, mut b) = (a.filter(|(_, w)| *w > 0.0), b.filter(|(_, w)| *w > 0.0));
    let (mut at_a, mut at_b) = (a.next(), b.next());
    let (mut done, mut moved) = (0.0, 0.0);
    while let (Some((value_a, left_a)), Some((value_b, left_b))) = (at_a, at_b) {
        let step = left_a.min(left_b).min(u - done);
        moved += step * (value_a - value_b).abs();
        done += step;
        if done >= u * (1.0 - 1e-12) {
            break;
        }
        at_a = if left_a > left_b { Some((value_a, left_a - step)) } else { a.next() };
        at_b = if left_b > left_a { Some((value_b, left_b - step)) } else { b.next() };
    }
    moved / u
}

/// The quantile at p of a Poisson number of mean 1.
fn poisson(p: f64) -> f64 {
    let (mut number, mut density) = (0.0, (-1f64).exp());
    let mut below = density;
    while p > below && number < 12.0 {
        number += 1.0;
        density /= number;
        below += density;
    }
    number
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use crate::metrics::wasserstein;

    fn normal(n: usize, mean: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
        (0..n)
            .map(|_| {
                let z: f64 = StandardNormal.sample(rng);
                z + mean
            })
            .collect()
    }

    /// r = 0.9 N(0, 1) + 0.1 N(3, 1), G = N(0, 1), G1 = N(3, 1), on the line itself (the cut is below 0 for no log).
    fn toy(events: usize) -> TailJudge {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut validation = normal(events * 9 / 10, 0.0, &mut rng);
        validation.extend(normal(events / 10, 3.0, &mut rng));
        let components = [normal(events, 0.0, &mut rng), normal(events, 3.0, &mut rng)];
        TailJudge::new(&validation, &components, -0.5).unwrap()
    }

    #[test]
    fn the_distance_is_that_of_the_metric_for_equal_weights() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let (real, made) = (normal(700, 0.0, &mut rng), normal(450, 0.3, &mut rng));
        let (real, made): (Vec<_>, Vec<_>) =
            (real.iter().map(|x| x.exp()).collect(), made.iter().map(|x| x.exp()).collect());
        let judge = TailJudge::new(&real, std::slice::from_ref(&made), 2.0).unwrap();
        let logs = |values: &[f64]| values.iter().map(|v| v.ln()).collect::<Vec<_>>();
        let u = real.iter().filter(|&&x| x > 2.0).count() as f64 / 700.0;
        let expected = wasserstein::top_distance(&logs(&real), &logs(&made), u).unwrap();
        assert!((judge.w1(&[1.0]) - expected).abs() < 1e-9);
    }

    #[test]
    fn a_line_search_finds_the_weight_of_a_known_mixture() {
        let q = toy(40_000).line_search(&[1.0], 0.5);
        assert!((q - 0.1).abs() < 0.01, "{q}");
    }

    #[test]
    fn a_line_search_returns_zero_where_the_new_component_only_harms() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let real = normal(5000, 0.0, &mut rng);
        let components = [real.clone(), normal(5000, 6.0, &mut rng)];
        let judge = TailJudge::new(&real, &components, -0.5).unwrap();
        assert_eq!(judge.line_search(&[1.0], 0.5), 0.0);
    }

    #[test]
    fn a_gain_that_is_real_lies_above_its_interval_around_nothing_and_one_by_chance_does_not() {
        let judge = toy(20_000);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let real = judge.gain(&[1.0, 0.0], &[0.9, 0.1], &mut rng);
        assert!(real.gain.low > 0.0 && real.gain.low < real.gain.value && real.gain.value < real.gain.high, "{real:?}");
        assert!(real.mixture_mass.low < 1.0 && real.mixture_mass.high > 1.0, "{real:?}");
        let nothing = judge.gain(&[0.9, 0.1], &[0.899, 0.101], &mut rng);
        assert!(nothing.gain.low < 0.0 && nothing.gain.high > 0.0, "{nothing:?}");
        let harm = judge.gain(&[0.9, 0.1], &[0.5, 0.5], &mut rng);
        assert!(harm.gain.high < 0.0, "{harm:?}");
    }

    #[test]
    fn poisson_numbers_have_mean_and_variance_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let drawn: Vec<f64> = (0..100_000).map(|_| poisson(rng.random())).collect();
        let mean = drawn.iter().sum::<f64>() / 1e5;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
