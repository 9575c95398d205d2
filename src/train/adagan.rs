//! Weights of training events for a component that is to be added to a model: AdaGAN's and the residual's.
//!
//! The best component to add with weight β to a model of density g is q* = (λ* r − (1 − β) g)_+ / β, with λ* such that it is a
//! density (Tolstikhin et al. 2017, theorem 1). Over N training events of weight 1/N that is
//! w_i = (λ* − (1 − β) h_i)_+ / (βN) with h = g/r, as a classifier estimates it: h(d) = (1 − d)/d (their section 2.4).
//! The residual (r − (1 − β) g)_+ is the same with λ = 1, normalised: it leaves out all events that g has enough of.

/// Weights of training events, which sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct EventWeights {
    /// One an event.
    pub weights: Vec<f64>,
    /// λ* of AdaGAN; 1 of the residual.
    pub lambda: f64,
}

/// AdaGAN's weights for a component of weight β, h being g(x)/r(x) at each training event.
pub fn adagan(h: &[f64], beta: f64) -> EventWeights {
    let events = h.len().max(1) as f64;
    let mut ascending = h.to_vec();
    ascending.sort_by(f64::total_cmp);
    // λ(I) = (β + (1 − β) Σ_{i ≤ I} p_i h_i) / Σ_{i ≤ I} p_i gives the I events with the least h all of the weight; the first I
    // whose next event would get none is the right one (their algorithm 2).
    let mut lambda = 1.0;
    let mut sum = 0.0;
    for (index, value) in ascending.iter().enumerate() {
        sum += value;
        lambda = (beta * events + (1.0 - beta) * sum) / (index + 1) as f64;
        if ascending.get(index + 1).is_none_or(|next| (1.0 - beta) * next >= lambda) {
            break;
        }
    }
    let weights = h.iter().map(|h| (lambda - (1.0 - beta) * h).max(0.0) / (beta * events)).collect();
    EventWeights { weights, lambda }
}

/// The residual's weights for a component of weight q; `None` where the model has enough of every event.
pub fn residual(h: &[f64], q: f64) -> Option<EventWeights> {
    let excess: Vec<f64> = h.iter().map(|h| (1.0 - (1.0 - q) * h).max(0.0)).collect();
    let sum: f64 = excess.iter().sum();
    (sum > 0.0).then(|| EventWeights { weights: excess.into_iter().map(|w| w / sum).collect(), lambda: 1.0 })
}

impl EventWeights {
    /// Effective sample size over the number of events.
    pub fn effective_share(&self) -> f64 {
        1.0 / (self.weights.len() as f64 * self.weights.iter().map(|w| w * w).sum::<f64>())
    }

    /// Share of the events that have a weight.
    pub fn kept_share(&self) -> f64 {
        self.weights.iter().filter(|&&w| w > 0.0).count() as f64 / self.weights.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_perfect_model_leaves_the_data_as_they_are() {
        let found = adagan(&[1.0; 50], 0.3);
        assert!((found.lambda - 1.0).abs() < 1e-12);
        assert!(found.weights.iter().all(|w| (w - 0.02).abs() < 1e-12));
        assert!((found.effective_share() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_model_that_misses_a_mode_gets_that_mode() {
        // G covers half of the data twice over; a component of weight 1/2 must be the other half.
        let h: Vec<f64> = (0..100).map(|i| if i < 50 { 2.0 } else { 0.0 }).collect();
        let found = adagan(&h, 0.5);
        assert!((found.lambda - 1.0).abs() < 1e-12);
        assert!(found.weights[..50].iter().all(|&w| w == 0.0));
        assert!(found.weights[50..].iter().all(|w| (w - 0.02).abs() < 1e-12));
        assert_eq!(found.weights, residual(&h, 0.5).unwrap().weights);
        assert!((found.kept_share() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn there_is_no_residual_where_the_model_has_enough_of_all() {
        assert_eq!(residual(&[1.5, 2.0], 0.1), None);
    }

    proptest! {
        #[test]
        fn adagans_weights_are_a_distribution_and_fall_with_h(
            h in prop::collection::vec(0.0f64..20.0, 1..200), beta in 0.01f64..0.99
        ) {
            let EventWeights { weights, lambda } = adagan(&h, beta);
            prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            // Theorem 1: (1 − β) h < λ* exactly where there is weight.
            for (h, w) in h.iter().zip(&weights) {
                prop_assert_eq!(*w > 0.0, (1.0 - beta) * h < lambda);
            }
        }
    }
}
