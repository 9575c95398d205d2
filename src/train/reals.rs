//! Real examples in batches: importance sampling by strata, and the exact symmetries.

use burn::tensor::{Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    TrainError,
    config::{StrataConfig, Weights},
};
use crate::model::{Rows, stratum, transfer::upload};

/// Events in a batch with their importance weights, outside of autodiff.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, width]`.
    pub rows: Tensor<2>,
    /// `[batch, 1]`.
    pub weights: Tensor<2>,
}

/// Real training events as a discriminator sees them.
#[derive(Debug)]
pub struct Reals {
    rows: Rows,
    flips: Vec<Vec<usize>>,
    strata: Strata,
}

/// Fixed numbers of events from each stratum, with analytic weights (SCIENCE, section 1).
#[derive(Clone, Debug, PartialEq)]
pub struct Strata {
    members: Vec<Members>,
    counts: Vec<usize>,
    weights: Vec<f32>,
    edges: Vec<f64>,
    /// s of each stratum, where fakes weigh it too.
    tempers: Option<Vec<f32>>,
    /// Sums of the weights that single events are drawn by; empty where all events of a stratum are alike.
    cumulative: Vec<f64>,
}

/// The events of a stratum.
#[derive(Clone, Debug, PartialEq)]
enum Members {
    /// So many, the first ones.
    First(usize),
    Listed(Vec<u32>),
}

impl Members {
    fn len(&self) -> usize {
        match self {
            Self::First(count) => *count,
            Self::Listed(events) => events.len(),
        }
    }

    fn get(&self, index: usize) -> usize {
        match self {
            Self::First(_) => index,
            Self::Listed(events) => events[index] as usize,
        }
    }
}

impl Strata {
    /// One stratum with all events.
    pub fn all(events: usize, batch: usize) -> Self {
        Self {
            members: vec![Members::First(events)],
            counts: vec![batch],
            weights: vec![1.0],
            edges: Vec::new(),
            tempers: None,
            cumulative: Vec::new(),
        }
    }

    /// One stratum whose events are drawn in proportion to these weights: batches of another distribution, not importance
    /// sampling of this one.
    pub fn weighted(weights: &[f64], batch: usize) -> Self {
        let mut sum = 0.0;
        let cumulative = weights.iter().map(|weight| {
            sum += weight;
            sum
        });
        Self { cumulative: cumulative.collect(), ..Self::all(weights.len(), batch) }
    }

    /// Strata between the edges of an observable. An event on an edge belongs to the stratum above.
    ///
    /// `observable` has a value for each event, of which there are fewer than 2³².
    pub fn new(
        config: &StrataConfig,
        observable: impl IntoIterator<Item = f64>,
        cut: f64,
        batch: usize,
    ) -> Result<Self, TrainError> {
        let edges: Vec<f64> =
            if config.edges.is_empty() { vec![cut] } else { config.edges.iter().map(|edge| edge.get()).collect() };
        let mut members = vec![Vec::new(); edges.len() + 1];
        for (event, value) in (0..).zip(observable) {
            members[stratum(&edges, value)].push(event);
        }
        let events: usize = members.iter().map(Vec::len).sum();
        if let Some(empty) = members.iter().position(Vec::is_empty) {
            return Err(TrainError::Unusable(format!(
                "stratum {empty} of `strata` holds no training events; move its edges ({edges:?}) into the data"
            )));
        }
        let shares: Vec<f64> = config.shares.iter().map(|share| share.get()).collect();
        let counts = apportion(&shares, batch).ok_or_else(|| {
            TrainError::Unusable(format!("a batch of {batch} has no event for some of {} strata", shares.len()))
        })?;
        let share = |&count: &usize| count as f64 / batch as f64;
        let population = members.iter().map(|members| members.len() as f64 / events as f64);
        let exact: Vec<f64> = population.zip(&counts).map(|(population, count)| population / share(count)).collect();
        let (weights, tempers) = match config.weights {
            Weights::Exact => (exact, None),
            Weights::None => (vec![1.0; counts.len()], None),
            Weights::Tempered => {
                let power = config.power.get();
                // The weights of reals average to 1, and so do those of fakes when they are distributed as the reals.
                let sum: f64 = exact.iter().zip(&counts).map(|(w, count)| share(count) * w.powf(power)).sum();
                let tempers = exact.iter().map(|w| (w.powf(power - 1.0) / sum) as f32).collect();
                (exact.iter().map(|w| w.powf(power) / sum).collect(), Some(tempers))
            }
        };
        let weights = weights.into_iter().map(|weight| weight as f32).collect();
        let members = members.into_iter().map(Members::Listed).collect();
        Ok(Self { members, counts, weights, edges, tempers, cumulative: Vec::new() })
    }

    /// The edges between strata, ascending.
    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    /// s of each stratum, which multiplies the terms of reals and fakes alike; `None` where only reals are weighted.
    pub fn tempers(&self) -> Option<&[f32]> {
        self.tempers.as_deref()
    }

    /// Effective sample size of a batch over its size: (Σw)² / (n Σw²).
    pub fn effective_share(&self) -> f64 {
        let sum = |power: i32| -> f64 {
            self.counts.iter().zip(&self.weights).map(|(&count, &w)| count as f64 * f64::from(w).powi(power)).sum()
        };
        sum(1).powi(2) / (sum(0) * sum(2))
    }

    fn draw<'a>(&'a self, rng: &'a mut ChaCha8Rng) -> impl Iterator<Item = (usize, f32)> + 'a {
        let slots = self.members.iter().zip(&self.counts).zip(&self.weights);
        let slots = slots.flat_map(|((members, &count), &weight)| std::iter::repeat_n((members, weight), count));
        slots.map(|(members, weight)| (self.pick(members, rng), weight))
    }

    fn pick(&self, members: &Members, rng: &mut ChaCha8Rng) -> usize {
        match self.cumulative.last() {
            Some(total) => {
                let at = rng.random::<f64>() * total;
                self.cumulative.partition_point(|&sum| sum <= at).min(self.cumulative.len() - 1)
            }
            None => members.get(rng.random_range(0..members.len())),
        }
    }
}

/// Whole numbers in proportion to the shares that sum to `total`, each at least 1 (largest remainder).
fn apportion(shares: &[f64], total: usize) -> Option<Vec<usize>> {
    let exact: Vec<f64> = shares.iter().map(|share| share * total as f64).collect();
    let mut counts: Vec<usize> = exact.iter().map(|x| x.floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = total.checked_sub(counts.iter().sum())?;
    for &index in order.iter().cycle().take(missing) {
        counts[index] += 1;
    }
    counts.iter().all(|&count| count > 0).then_some(counts)
}

impl Reals {
    /// Events to draw from. Each set of `flips` is negated with probability one half.
    pub fn new(rows: Rows, flips: Vec<Vec<usize>>, strata: Strata) -> Self {
        Self { rows, flips, strata }
    }

    /// The strata.
    pub fn strata(&self) -> &Strata {
        &self.strata
    }

    /// The events.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Draws a batch in random order within strata.
    pub fn batch(&self, rng: &mut ChaCha8Rng, device: &Device) -> Batch {
        let drawn: Vec<(usize, f32)> = self.strata.draw(rng).collect();
        self.rows.will_need(drawn.iter().map(|&(event, _)| event));
        let mut values = Vec::with_capacity(drawn.len() * self.rows.width);
        for &(event, _) in &drawn {
            let start = values.len();
            values.extend_from_slice(self.rows.row(event));
            for set in &self.flips {
                if rng.random::<bool>() {
                    for &column in set {
                        values[start + column] = -values[start + column];
                    }
                }
            }
        }
        let weights: Vec<f32> = drawn.iter().map(|&(_, weight)| weight).collect();
        let size = drawn.len();
        Batch { rows: upload(values, [size, self.rows.width], device), weights: upload(weights, [size, 1], device) }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn config(json: &str) -> StrataConfig {
        serde_json::from_str(json).unwrap()
    }

    /// 90 events at 1, 10 at 3.
    fn observable() -> Vec<f64> {
        (0..100).map(|i| if i % 10 == 0 { 3.0 } else { 1.0 }).collect()
    }

    #[test]
    fn exact_weights_are_population_share_over_drawn_share_and_average_to_one() {
        let strata = Strata::new(&config(r#"{"shares": [0.5, 0.5]}"#), observable(), 2.0, 64).unwrap();
        assert_eq!(strata.counts, [32, 32]);
        assert!((strata.weights[0] - 1.8).abs() < 1e-6 && (strata.weights[1] - 0.2).abs() < 1e-6);
        let mean = (strata.weights[0] * 32.0 + strata.weights[1] * 32.0) / 64.0;
        assert!((mean - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_effective_share_is_the_formula_of_the_specification() {
        let strata = Strata::new(&config(r#"{"shares": [0.5, 0.5]}"#), observable(), 2.0, 64).unwrap();
        let (pi, rho) = (0.1f64, 0.5f64);
        let formula = 1.0 / (pi * pi / rho + (1.0 - pi).powi(2) / (1.0 - rho));
        assert!((strata.effective_share() - formula).abs() < 1e-6);
    }

    #[test]
    fn the_weighted_mean_over_stratified_batches_is_the_population_mean() {
        let strata = Strata::new(&config(r#"{"shares": [0.3, 0.7]}"#), observable(), 2.0, 100).unwrap();
        let values = observable();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let sum: f64 = (0..50)
            .flat_map(|_| strata.draw(&mut rng).collect::<Vec<_>>())
            .map(|(i, w)| values[i] * f64::from(w))
            .sum();
        assert!((sum / 5000.0 - 1.2).abs() < 1e-5, "{}", sum / 5000.0);
    }

    #[test]
    fn weights_none_multiplies_the_tail() {
        let strata =
            Strata::new(&config(r#"{"shares": [0.5, 0.5], "weights": "none"}"#), observable(), 2.0, 64).unwrap();
        assert_eq!(strata.weights, [1.0, 1.0]);
    }

    #[test]
    fn tempered_weights_multiply_reals_and_fakes_alike_so_the_discriminator_keeps_its_optimum() {
        let text = r#"{"edges": [1.5, 2.0], "shares": [0.5, 0.3, 0.2], "weights": "tempered", "power": 0.25}"#;
        let values: Vec<f64> = (0..100).map(|i| if i < 80 { 1.0 } else { 1.5 + f64::from(i / 95) }).collect();
        let strata = Strata::new(&config(text), values, 2.0, 100).unwrap();
        let tempers = strata.tempers().unwrap();
        let population = [0.8, 0.15, 0.05];
        for k in 0..3 {
            // With a logit of its own in each stratum, L_D is least at d = ln(ρ_k W_k / μ_k s_k) for shares μ of the fakes;
            // D* = r/(r + m) asks for ln(π_k / μ_k).
            let drawn = strata.counts[k] as f64 / 100.0 * f64::from(strata.weights[k]);
            assert!((drawn / f64::from(tempers[k]) - population[k]).abs() < 1e-6);
        }
        // W ∝ w^0.25 between strata, with w = π/ρ.
        let ratio = (0.8f64 / 0.5 / (0.05 / 0.2)).powf(0.25);
        assert!((f64::from(strata.weights[0] / strata.weights[2]) - ratio).abs() < 1e-6);
        let mean = |weights: &[f32], shares: [f64; 3]| -> f64 {
            weights.iter().zip(shares).map(|(&w, share)| f64::from(w) * share).sum()
        };
        assert!((mean(&strata.weights, [0.5, 0.3, 0.2]) - 1.0).abs() < 1e-6);
        assert!((mean(tempers, population) - 1.0).abs() < 1e-6);
        assert!(tempers[2] > tempers[1] && tempers[1] > tempers[0], "the tail counts for more");
    }

    #[test]
    fn tempering_with_power_one_is_exact() {
        let of = |rest: &str| {
            let text = format!(r#"{{"shares": [0.5, 0.5], {rest}}}"#);
            Strata::new(&config(&text), observable(), 2.0, 64).unwrap()
        };
        let tempered = of(r#""weights": "tempered", "power": 1.0"#);
        assert_eq!(tempered.weights, of(r#""weights": "exact""#).weights);
        assert_eq!(tempered.tempers().unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn weighted_events_are_drawn_in_proportion_and_those_of_weight_zero_never() {
        let strata = Strata::weighted(&[0.0, 0.3, 0.0, 0.1, 0.0], 400);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut drawn = [0usize; 5];
        (0..100).for_each(|_| strata.draw(&mut rng).for_each(|(event, _)| drawn[event] += 1));
        assert_eq!((drawn[0], drawn[2], drawn[4]), (0, 0, 0));
        assert!((drawn[1] as f64 / 40_000.0 - 0.75).abs() < 0.01, "{drawn:?}");
    }

    #[test]
    fn an_empty_stratum_is_refused() {
        let error =
            Strata::new(&config(r#"{"edges": [5.0], "shares": [0.5, 0.5]}"#), observable(), 2.0, 64).unwrap_err();
        assert!(error.to_string().contains("holds no training events"), "{error}");
    }

    #[test]
    fn apportioned_counts_sum_to_the_batch() {
        for batch in [3, 10, 511, 512] {
            let counts = apportion(&[0.5, 0.3, 0.2], batch);
            assert!(counts.is_none_or(|counts| counts.iter().sum::<usize>() == batch && counts.iter().all(|&c| c > 0)));
        }
        assert_eq!(apportion(&[0.5, 0.3, 0.2], 512), Some(vec![256, 154, 102]));
        assert_eq!(apportion(&[0.98, 0.01, 0.01], 4), None);
    }
}
