//! The sentence below the table: whether the last model beats the first one in the tail, and "no gain" where it does not.

use std::cmp::Ordering;

use super::table::{Column, Numbers, distance, mass_ratio};

/// One of the tail's numbers for the first and the last model.
struct Comparison {
    name: &'static str,
    /// Distance to the ideal of the first and of the last model.
    losses: (f64, f64),
    /// Differences below this are what two real samples show, too.
    noise: f64,
    details: String,
}

impl Comparison {
    /// `Less`: the last model is nearer to the ideal, by more than noise.
    fn ordering(&self) -> Ordering {
        let (first, last) = self.losses;
        if last < first - self.noise {
            Ordering::Less
        } else if last > first + self.noise {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }

    /// Tail W₁; its noise is the floor: what a perfect model would score.
    fn of_w1(numbers: Numbers<'_>, last: usize) -> Option<Self> {
        let get = |column| numbers.get(column, "tail_w1");
        let (first, last) = (get(Column::Model(0))?, get(Column::Model(last))?);
        let floor = get(Column::Floor);
        let beside = floor.map(|floor| format!(" (real vs real {})", distance(floor))).unwrap_or_default();
        Some(Self {
            name: "W1",
            losses: (first, last),
            noise: floor.unwrap_or(0.0),
            details: format!("W1 {} → {}{beside}", distance(first), distance(last)),
        })
    }

    /// Tail mass ratio, by its log; its noise is the larger deviation of the two.
    fn of_mass(numbers: Numbers<'_>, last: usize) -> Option<Self> {
        let get = |index| numbers.get(Column::Model(index), "tail_mass_ratio");
        let sigma = |index| numbers.get(Column::Model(index), "tail_mass_ratio_sigma");
        let (first, end) = (get(0)?, get(last)?);
        let noise = sigma(0).into_iter().chain(sigma(last)).fold(0.0, f64::max);
        let (from, to) = (mass_ratio(first, sigma(0)), mass_ratio(end, sigma(last)));
        Some(Self {
            name: "mass ratio",
            losses: (first.ln().abs(), end.ln().abs()),
            noise,
            details: format!("mass ratio {from} → {to}"),
        })
    }
}

/// Says whether the last model beats the first one in the tail.
///
/// A difference counts if it is larger than its noise: for W1 the real-vs-real floor, for the mass ratio its deviation. That is
/// on the careful side, and no more than one seed can carry.
pub(super) fn verdict(numbers: Numbers<'_>, names: &[String]) -> String {
    let [first, .., last] = names else {
        return "One model alone: there is nothing to compare it with but the real-vs-real floor.".to_owned();
    };
    let end = names.len() - 1;
    if same(numbers, end) {
        return format!(
            "No gain: `{last}` and `{first}` score the same in all numbers, as where boosting is declined."
        );
    }
    let comparisons: Vec<Comparison> =
        [Comparison::of_w1(numbers, end), Comparison::of_mass(numbers, end)].into_iter().flatten().collect();
    if comparisons.is_empty() {
        return "The dataset names no tail, so nothing can be said about it.".to_owned();
    }
    let that_are = |ordering| {
        let those = comparisons.iter().filter(|comparison| comparison.ordering() == ordering);
        those.map(|comparison| comparison.name).collect::<Vec<_>>().join(" and ")
    };
    let (gains, losses) = (that_are(Ordering::Less), that_are(Ordering::Greater));
    let said = match (gains.is_empty(), losses.is_empty()) {
        (false, true) => format!("`{last}` beats `{first}` in the tail by {gains}"),
        (false, false) => format!("Mixed: `{last}` beats `{first}` in the tail by {gains}, but loses by {losses}"),
        (true, false) => format!("No gain: `{last}` is worse than `{first}` in the tail by {losses}"),
        (true, true) => format!("No gain: `{last}` and `{first}` agree in the tail within the noise"),
    };
    let details: Vec<&str> = comparisons.iter().map(|comparison| comparison.details.as_str()).collect();
    format!("{said}: {}. One seed: a direction, not a result.", details.join(", "))
}

/// Whether the first and the last model agree in all numbers, to the last digit: samples are paired, so the models are one.
fn same(numbers: Numbers<'_>, last: usize) -> bool {
    let of = |index: usize| {
        let prefix = format!("models[{index}].");
        numbers.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(&prefix)?.to_owned(), *value)))
    };
    of(0).next().is_some() && of(0).eq(of(last))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The verdict on (W1, mass ratio) of two models, with a floor of 0.002 and a deviation of 0.03.
    fn said(first: (f64, f64), last: (f64, f64)) -> String {
        let mut metrics = BTreeMap::from([("floor.tail_w1".to_owned(), 0.002)]);
        for (index, (w1, mass)) in [first, last].into_iter().enumerate() {
            metrics.insert(format!("models[{index}].tail_w1"), w1);
            metrics.insert(format!("models[{index}].tail_mass_ratio"), mass);
            metrics.insert(format!("models[{index}].tail_mass_ratio_sigma"), 0.03);
        }
        verdict(Numbers(&metrics), &["frozen".into(), "boosted".into()])
    }

    #[test]
    fn a_gain_in_both_is_said_with_its_numbers() {
        assert_eq!(
            said((0.01, 0.8), (0.003, 0.99)),
            "`boosted` beats `frozen` in the tail by W1 and mass ratio: W1 0.0100 → 0.0030 (real vs real 0.0020), \
             mass ratio 0.80 ± 0.02 → 0.99 ± 0.03. One seed: a direction, not a result."
        );
    }

    #[test]
    fn a_gain_in_one_is_said_to_be_in_one() {
        assert!(said((0.01, 0.99), (0.003, 1.01)).starts_with("`boosted` beats `frozen` in the tail by W1:"));
    }

    #[test]
    fn a_difference_within_the_noise_is_no_gain() {
        assert!(said((0.0045, 0.97), (0.003, 0.99)).starts_with("No gain: `boosted` and `frozen` agree"));
    }

    #[test]
    fn a_loss_is_no_gain_and_a_loss_beside_a_gain_is_mixed() {
        assert!(
            said((0.003, 1.0), (0.01, 1.0)).starts_with("No gain: `boosted` is worse than `frozen` in the tail by W1:")
        );
        assert!(
            said((0.01, 1.0), (0.003, 1.3))
                .starts_with("Mixed: `boosted` beats `frozen` in the tail by W1, but loses by mass")
        );
    }

    #[test]
    fn a_model_without_any_tail_is_beaten_by_one_that_has_it() {
        assert!(said((0.01, 0.0), (0.01, 0.9)).starts_with("`boosted` beats `frozen` in the tail by mass ratio:"));
        assert!(said((0.01, 0.0), (0.011, 0.0)).starts_with("No gain: `boosted` and `frozen` agree"));
    }

    #[test]
    fn models_that_are_one_are_said_to_score_the_same() {
        assert_eq!(
            said((0.01, 0.9), (0.01, 0.9)),
            "No gain: `boosted` and `frozen` score the same in all numbers, as where boosting is declined."
        );
    }

    #[test]
    fn without_a_tail_or_a_second_model_nothing_is_claimed() {
        assert!(verdict(Numbers(&BTreeMap::new()), &["a".into(), "b".into()]).contains("no tail"));
        assert!(verdict(Numbers(&BTreeMap::new()), &["a".into()]).contains("One model alone"));
    }
}
