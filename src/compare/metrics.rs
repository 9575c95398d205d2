//! Metrics side by side, with the uncertainty that is recorded beside them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{report::study, stage::Metrics};

/// A normal deviate that 95 % of deviates do not exceed in size.
const Z95: f64 = 1.959_964;

/// A metric with its 95 % interval, where one is recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The number.
    pub value: f64,
    /// From where to where; of a study by Student's t over seeds, of an evaluation by resampling events, or 1.96 standard errors.
    pub interval: Option<(f64, f64)>,
}

/// A metric that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The stage.
    pub stage: String,
    /// The metric, under the names of models.
    pub metric: String,
    /// In one and in the other; absent where a side lacks it.
    pub values: [Option<Value>; 2],
    /// Whether the stage judges models: an evaluation or a study.
    pub judges: bool,
}

impl Change {
    /// Other minus one.
    pub fn difference(&self) -> Option<f64> {
        Some(self.values[1]?.value - self.values[0]?.value)
    }

    /// Half of the 95 % interval of the difference, were the two independent: the distances to the ends of their intervals that face
    /// each other, in quadrature. `None` unless both have one.
    pub fn uncertainty(&self) -> Option<f64> {
        let [one, other] = self.values;
        let (one, other) = (one?, other?);
        let (up, down) = if other.value >= one.value { (one, other) } else { (other, one) };
        Some((up.interval?.1 - up.value).max(0.0).hypot((down.value - down.interval?.0).max(0.0)))
    }

    /// Whether they differ by more than the uncertainty; `None` if it is not recorded.
    pub fn is_beyond(&self) -> Option<bool> {
        Some(self.difference()?.abs() > self.uncertainty()?)
    }

    /// What comes first in a list: what differs by more than its uncertainty, what both have, judgements, the tail.
    pub(super) fn order(&self) -> (bool, bool, bool, bool, &str, &str) {
        let is_of_tail = ["tail", "truth", "qq_"].iter().any(|word| self.metric.contains(word));
        let lacks = self.difference().is_none();
        (self.is_beyond() != Some(true), lacks, !self.judges, !is_of_tail, &self.stage, &self.metric)
    }
}

/// Metrics with their intervals: numbers that stand beside others are no metrics of their own.
pub(super) fn values(metrics: &Metrics) -> impl Iterator<Item = (&str, Value)> {
    let is_beside = |name: &String| study::stem(name).is_some_and(|stem| metrics.contains_key(&stem));
    let own = metrics.keys().filter(move |name| !is_beside(name));
    own.filter_map(|name| Some((name.as_str(), value(metrics, name)?)))
}

/// The metrics of a stage that differ.
pub(super) fn changes(stage: &str, kind: &str, sides: &[BTreeMap<String, Value>; 2]) -> Vec<Change> {
    if sides.iter().any(BTreeMap::is_empty) {
        return Vec::new();
    }
    let names: BTreeSet<&String> = sides.iter().flat_map(BTreeMap::keys).collect();
    let change = |name: &String| {
        let values = [0, 1].map(|side: usize| sides[side].get(name).copied());
        let differs = values[0].map(|value| value.value) != values[1].map(|value| value.value);
        let judges = matches!(kind, "evaluate" | "aggregate");
        differs.then(|| Change { stage: stage.to_owned(), metric: name.clone(), values, judges })
    };
    names.into_iter().filter_map(change).collect()
}

fn value(metrics: &Metrics, name: &str) -> Option<Value> {
    let value = *metrics.get(name)?;
    let beside = |ending: &str| metrics.get(&study::beside(name, ending)).copied();
    let normal = || {
        // The deviation of a ratio is that of its logarithm.
        if name.contains("_ratio") {
            let factor = (Z95 * beside("_sigma")?).exp();
            return Some((value / factor, value * factor));
        }
        let error = Z95 * beside("_sigma").or_else(|| beside("_error"))?;
        Some((value - error, value + error))
    };
    let interval = beside("_low").zip(beside("_high")).or_else(normal);
    Some(Value { value, interval })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(numbers: &[(&str, f64)]) -> BTreeMap<String, Value> {
        let numbers: Metrics = numbers.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        values(&numbers).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn change(one: &[(&str, f64)], other: &[(&str, f64)]) -> Vec<Change> {
        changes("evaluation", "evaluate", &[metrics(one), metrics(other)])
    }

    #[test]
    fn what_stands_beside_a_number_is_its_interval_and_no_row() {
        let found = change(
            &[("a.tail_w1", 2.0), ("a.tail_w1_low", 1.0), ("a.tail_w1_high", 2.3), ("same", 1.0)],
            &[("a.tail_w1", 3.0), ("a.tail_w1_low", 2.6), ("a.tail_w1_high", 9.0), ("same", 1.0)],
        );
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].metric.as_str(), found[0].difference()), ("a.tail_w1", Some(1.0)));
        // From 2.0 up to 2.3, and from 3.0 down to 2.6.
        assert!((found[0].uncertainty().unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(found[0].is_beyond(), Some(true));
    }

    #[test]
    fn a_difference_within_the_uncertainty_or_without_one_is_not_marked() {
        let sigma = |value: f64| [("a.tail_index_hill", value), ("a.tail_index_hill_sigma", 0.5)];
        assert_eq!(change(&sigma(2.0), &sigma(3.0))[0].is_beyond(), Some(false));
        assert_eq!(change(&sigma(2.0), &sigma(4.0))[0].is_beyond(), Some(true));
        assert_eq!(change(&sigma(2.0), &[("a.tail_index_hill", 9.0)])[0].is_beyond(), None);
        assert_eq!(change(&[("x", 1.0)], &[("y", 1.0)]).len(), 2);
        assert_eq!(change(&[("x", 1.0)], &[]), []);
    }

    #[test]
    fn the_deviation_of_a_ratio_is_one_of_its_logarithm() {
        let ratio = |value: f64| [("a.tail_mass_ratio", value), ("a.tail_mass_ratio_sigma", 0.1)];
        let found = change(&ratio(1.0), &ratio(2.0));
        let (low, high) = found[0].values[1].unwrap().interval.unwrap();
        assert!((high / 2.0 - (0.195_996_4_f64).exp()).abs() < 1e-6 && (low * high - 4.0).abs() < 1e-9);
    }

    #[test]
    fn what_differs_for_certain_and_the_tail_come_first() {
        let one =
            metrics(&[("a.ks.x", 1.0), ("a.tail_w1", 1.0), ("a.auc", 1.0), ("a.auc_low", 0.9), ("a.auc_high", 1.1)]);
        let other =
            metrics(&[("a.ks.x", 2.0), ("a.tail_w1", 2.0), ("a.auc", 2.0), ("a.auc_low", 1.9), ("a.auc_high", 2.1)]);
        let mut found = changes("evaluation", "evaluate", &[one, other]);
        found.sort_by(|one, other| one.order().cmp(&other.order()));
        let names: Vec<&str> = found.iter().map(|change| change.metric.as_str()).collect();
        assert_eq!(names, ["a.auc", "a.tail_w1", "a.ks.x"]);
    }
}
