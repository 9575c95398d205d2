//! Statistics over seeds against scipy: `scripts/reference/paired.py` wrote the numbers.

use std::collections::BTreeMap;

use pgan_pipe::{metrics::paired, rng::Streams};
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    values: Vec<f64>,
    mean: f64,
    sd: f64,
    low: f64,
    high: f64,
    wilcoxon_p: f64,
    bootstrap: (f64, f64),
}

fn reference() -> BTreeMap<String, Case> {
    serde_json::from_str(include_str!("reference/paired.json")).unwrap()
}

fn close(name: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{name}: {found} is not {expected}");
}

#[test]
fn means_and_students_intervals_agree_with_scipy() {
    for (name, case) in reference() {
        let found = paired::mean(&case.values).unwrap();
        for (found, expected) in
            [(found.mean, case.mean), (found.sd, case.sd), (found.low, case.low), (found.high, case.high)]
        {
            close(&name, found, expected, 1e-9);
        }
    }
}

#[test]
fn wilcoxons_exact_p_agrees_with_scipy_and_with_all_signs_where_there_are_ties_and_zeros() {
    for (name, case) in reference() {
        close(&name, paired::wilcoxon(&case.values).unwrap(), case.wilcoxon_p, 1e-12);
    }
}

#[test]
fn bootstrap_intervals_agree_with_scipy_within_the_noise_of_resampling() {
    for (name, case) in reference() {
        let mut rng = Streams::new(1, "test").stream("bootstrap");
        let (low, high) = paired::bootstrap(&case.values, 200_000, &mut rng).unwrap();
        let width = case.bootstrap.1 - case.bootstrap.0;
        assert!((low - case.bootstrap.0).abs() < 0.015 * width, "{name}: {low}, not {}", case.bootstrap.0);
        assert!((high - case.bootstrap.1).abs() < 0.015 * width, "{name}: {high}, not {}", case.bootstrap.1);
    }
}

/// Why the intervals that decide are Student's.
#[test]
fn over_five_seeds_students_interval_covers_what_it_says_and_the_bootstraps_does_not() {
    let (mut rng, trials) = (Streams::new(2, "test").stream("coverage"), 4000);
    let (mut student, mut bootstrap) = (0, 0);
    for _ in 0..trials {
        let seeds: [f64; 5] = std::array::from_fn(|_| StandardNormal.sample(&mut rng));
        let mean = paired::mean(&seeds).unwrap();
        let (low, high) = paired::bootstrap(&seeds, 1000, &mut rng).unwrap();
        student += usize::from(mean.low < 0.0 && mean.high > 0.0);
        bootstrap += usize::from(low < 0.0 && high > 0.0);
    }
    let share = |hits: usize| hits as f64 / f64::from(trials);
    assert!((share(student) - 0.95).abs() < 0.015, "{}", share(student));
    assert!((share(bootstrap) - 0.83).abs() < 0.02, "{}", share(bootstrap));
}
