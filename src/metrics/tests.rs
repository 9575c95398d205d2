//! Whatever the samples hold, every metric of the registry ends in finite numbers or none.

use proptest::prelude::*;

use super::*;
use crate::{data::Truth, metrics::truth::WeightedTruth, rng::Streams};

/// Runs the whole registry on a sample before test events of two observables, the first with a tail above the cut.
fn numbers(test: &[Vec<f64>], sample: &[Vec<f64>], cut: f64) -> std::collections::BTreeMap<String, f64> {
    let names = vec!["x0".to_owned(), "jj_M".to_owned()];
    let mut bench = Bench::new(names, test, test, Some((0, cut)));
    bench.density = Some((0, Truth::Pareto { index: 2.0 }));
    let weighted = (vec![1.0, 2.0, 3.0, 4.0], vec![4.0, 2.0, 1.0, 0.5]);
    bench.truth = WeightedTruth::new(0, weighted, vec![1.5, 2.5, 5.0], 10.0, 0.01);
    let (sample, streams) = (bench.sample(sample), Streams::new(3, "test"));
    let effort = Effort { classifier_events: 1000, neighbour_events: 100, replicas: 30 };
    let comparison = Comparison { bench: &bench, sample: &sample, streams: &streams, effort };
    let mut numbers = Numbers::default();
    for metric in METRICS {
        (metric.measure)(&comparison, &mut numbers);
    }
    numbers.into_map()
}

/// Numbers that break formulas: equal ones, infinities, none at all, the ends of the range.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -2.0..6.0,
        2 => Just(1.0),
        1 => prop::sample::select(vec![
            0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1e-300, 3e38, f64::MIN_POSITIVE, 5e-324
        ]),
    ]
}

fn events() -> impl Strategy<Value = Vec<Vec<f64>>> {
    // Sizes on either side of the least of every metric.
    prop_oneof![Just(0usize), 1usize..4, 10usize..60, 450usize..700]
        .prop_flat_map(|size| prop::collection::vec(prop::collection::vec(value(), size), 2))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_sample_gives_a_number_that_is_not_finite(test in events(), sample in events(), cut in value()) {
        for (name, value) in numbers(&test, &sample, cut) {
            prop_assert!(value.is_finite(), "{name} is {value}");
        }
    }
}

#[test]
fn constant_columns_and_equal_events_end_quickly_and_give_no_shape() {
    let constant = vec![vec![2.0; 3000], vec![700.0; 3000]];
    let found = numbers(&constant, &constant, 1.0);
    assert!(found.values().all(|value| value.is_finite()));
    assert_eq!(found["ks.x0"].to_bits(), 0.0_f64.to_bits());
    for absent in ["ad.x0", "fpd", "kpd", "precision", "tail_index_gpd", "in_tail_chi2_ndf.x0"] {
        assert!(!found.contains_key(absent), "{absent}");
    }
}

#[test]
fn a_sample_without_a_tail_has_no_numbers_that_need_events_there() {
    let spread = |scale: f64| vec![(0..1000).map(|i| scale * f64::from(i) / 1000.0).collect::<Vec<_>>(); 2];
    let found = numbers(&spread(4.0), &spread(1.0), 2.0);
    for absent in ["tail_mass_ratio_sigma", "auc_tail", "in_tail_ks.x0", "tail_index_hill"] {
        assert!(!found.contains_key(absent), "{absent}");
    }
    assert_eq!(found["tail_mass_ratio"].to_bits(), 0.0_f64.to_bits());
    assert!(found["tail_w1"] > 0.5 && found["auc"] > 0.7);
}

#[test]
fn the_same_streams_give_the_same_numbers_to_the_last_bit() {
    let wave = |step: f64| vec![(0..900).map(|i| 3.0 + (f64::from(i) * step).sin()).collect::<Vec<_>>(); 2];
    assert_eq!(numbers(&wave(0.7), &wave(1.1), 3.5), numbers(&wave(0.7), &wave(1.1), 3.5));
}

#[test]
fn names_of_metrics_are_distinct() {
    let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METRICS.len());
}

#[test]
fn a_metric_gives_what_it_says_and_nothing_else() {
    let wave = |step: f64, scale: f64| {
        let value = |i: u32| scale * (1.0 + (f64::from(i) * step).sin()).powi(4);
        vec![(0..120_000).map(value).collect::<Vec<_>>(), (0..120_000).map(|i| 900.0 + 100.0 * value(i)).collect()]
    };
    let found = numbers(&wave(0.7, 1.0), &wave(1.1, 1.01), 1.5);
    let stands_for = |pattern: &str, name: &str| {
        let (before, after) =
            ["OBSERVABLE", "EDGE", "U"].iter().find_map(|any| pattern.split_once(any)).unwrap_or((pattern, ""));
        let middle = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        middle.is_some_and(|middle| {
            (middle.is_empty() == (before == pattern)) && !middle.contains('_') || middle == "jj_M"
        })
    };
    let given: Vec<&str> = METRICS.iter().flat_map(|metric| metric.gives).map(|(name, _)| *name).collect();
    for name in found.keys() {
        assert_eq!(given.iter().filter(|pattern| stands_for(pattern, name)).count(), 1, "{name}");
    }
    for pattern in given {
        assert!(found.keys().any(|name| stands_for(pattern, name)), "{pattern}");
    }
}
