//! Tests of the judge on samples whose differences are known.

use rand::RngExt;

use super::*;
use crate::{
    data::{Coordinates, Observables, Tail, Truth},
    metrics::METRICS,
};

fn description(tail: Option<f64>) -> Description {
    Description {
        features: vec!["mass".into(), "angle".into()],
        coordinates: Coordinates::Columns(Vec::new()),
        observables: Observables::None,
        symmetries: Vec::new(),
        tail: tail.map(|above| Tail { observable: "mass".into(), above }),
        truth: None,
    }
}

/// Events with a falling mass spectrum, mass = scale · u^(−1/4), and a flat angle.
fn events(number: usize, scale: f32, purpose: &str) -> Table {
    let mut rng = Streams::new(7, "test").stream(purpose);
    let mass = (0..number).map(|_| scale * (1.0 - rng.random::<f32>()).powf(-0.25)).collect();
    let angle = (0..number).map(|_| rng.random::<f32>() - 0.5).collect();
    Table::new(vec!["mass".into(), "angle".into()], vec![mass, angle]).unwrap()
}

/// Judges with all metrics.
fn judging<T>(description: &Description, test: &Table, reference: &Table, judging: impl FnOnce(&Judge<'_>) -> T) -> T {
    let (streams, effort) = (Streams::new(7, "evaluate"), Effort { neighbour_events: 500, ..Effort::default() });
    judging(&Judge::new(description, test, reference, METRICS.iter().collect(), effort, &streams, 1).unwrap())
}

fn judged(generated: &Table) -> Metrics {
    let (description, test, reference) =
        (description(Some(2.0)), events(20_000, 1.0, "test"), events(20_000, 1.0, "reference"));
    judging(&description, &test, &reference, |judge| judge.judge(generated).unwrap().metrics)
}

#[test]
fn a_perfect_model_scores_what_another_real_sample_does() {
    let metrics = judged(&events(20_000, 1.0, "generated"));
    for name in ["chi2_ndf.mass", "chi2_ndf.angle", "chi2_ndf_mean", "tail_chi2_ndf"] {
        assert!((0.4..1.8).contains(&metrics[name]), "{name}: {}", metrics[name]);
    }
    assert!(metrics["ks.mass"] < 0.02 && metrics["w1.angle"] < 0.02);
    assert!((metrics["tail_mass_ratio"].ln() / metrics["tail_mass_ratio_sigma"]).abs() < 3.0);
    assert!(metrics["tail_w1"] < 0.03);
}

#[test]
fn a_model_that_scales_the_mass_shows_it_in_every_number_of_the_mass() {
    let metrics = judged(&events(20_000, 1.1, "generated"));
    assert!(metrics["chi2_ndf.mass"] > 20.0 && metrics["chi2_ndf.angle"] < 1.8);
    // Mass above the cut grows as the fourth power, and each quantile by the scale.
    assert!((metrics["tail_mass_ratio"] / 1.1_f64.powi(4) - 1.0).abs() < 4.0 * metrics["tail_mass_ratio_sigma"]);
    assert!((metrics["qq_0.01"] - 0.1).abs() < 0.05 && (metrics["qq_0.001"] - 0.1).abs() < 0.2);
    assert!((metrics["tail_w1"] - 1.1_f64.ln()).abs() < 0.03);
    assert!(metrics["tail_chi2_ndf"] > 3.0);
    assert!(!metrics.contains_key("qq_0.0001"), "two events above a quantile say nothing");
}

#[test]
fn the_tail_score_sees_a_wrong_normalisation_of_a_right_shape() {
    // Half of the events, all below the cut, are doubled: the tail's shape stays, its mass halves.
    let real = events(40_000, 1.0, "generated");
    let mass = real.column("mass").unwrap();
    let bulk: Vec<usize> = (0..real.len()).filter(|&i| mass[i] < 2.0).collect();
    let thinned: Vec<usize> = (0..real.len() / 2).chain(bulk[..real.len() / 2].iter().copied()).collect();
    let metrics = judged(&real.rows(&thinned));
    assert!(metrics["tail_chi2_ndf"] > 5.0, "{}", metrics["tail_chi2_ndf"]);
    assert!((metrics["tail_mass_ratio"] - 0.55).abs() < 0.1);
}

#[test]
fn an_empty_tail_gives_ratio_zero_and_no_number_that_needs_events_there() {
    let low = Table::new(vec!["mass".into(), "angle".into()], vec![vec![1.0; 500], vec![0.0; 500]]).unwrap();
    let metrics = judged(&low);
    assert_eq!(metrics["tail_mass_ratio"].to_bits(), 0.0_f64.to_bits());
    assert!(!metrics.contains_key("tail_mass_ratio_sigma"));
    assert!(metrics["tail_w1"] > 0.5);
}

#[test]
fn without_a_tail_there_are_no_tail_numbers_and_no_spectrum() {
    let (description, test) = (description(None), events(2000, 1.0, "test"));
    judging(&description, &test, &events(2000, 1.0, "reference"), |judge| {
        let judged = judge.judge(&events(1000, 1.0, "generated")).unwrap();
        assert!(judged.metrics.keys().all(|name| !name.contains("tail") && !name.starts_with("qq")));
        let evaluation = judge.evaluation(Events { test: 2000, generated: 1000, floor: 2000 }, &judged, &[]);
        assert!(evaluation.tail.is_none() && evaluation.spectra.is_empty());
    });
}

#[test]
fn against_the_truth_a_sample_is_scored_by_its_own_quantiles_where_it_has_the_events() {
    let truth = Truth::Pareto { index: 4.0 };
    // The exact quantiles at the middles of equal shares, stretched.
    let exact = |number: u32, scale: f64| {
        let quantile = |i| (scale * truth.upper_quantile((f64::from(i) + 0.5) / f64::from(number))) as f32;
        Table::new(vec!["x0".into()], vec![(0..number).map(quantile).collect()]).unwrap()
    };
    let description = Description { features: vec!["x0".into()], truth: Some(truth), tail: None, ..description(None) };
    let (test, reference) = (exact(5000, 1.0), exact(600, 3.0));
    let (model, floor) =
        judging(&description, &test, &reference, |judge| (judge.judge(&exact(60_000, 1.2)).unwrap(), judge.floor()));
    for (metrics, scale) in [(&model.metrics, 1.2), (&floor.metrics, 1.0)] {
        for share in ["0.01", "0.001"] {
            let ratio = metrics[&format!("truth_quantile_ratio_{share}")];
            assert!((ratio / scale - 1.0).abs() < 0.03, "{share}: {ratio} for {scale}");
        }
    }
    assert!(model.metrics.contains_key("truth_quantile_ratio_0.0001"), "six events above");
    assert!(!floor.metrics.contains_key("truth_quantile_ratio_0.0001"), "half an event above");
}

#[test]
fn values_that_are_not_finite_are_left_out_and_counted() {
    let (description, test) = (description(Some(2.0)), events(2000, 1.0, "test"));
    let broken = Table::new(vec!["mass".into(), "angle".into()], vec![vec![f32::NAN, 1.5], vec![0.1, 0.2]]).unwrap();
    let judged = judging(&description, &test, &events(2000, 1.0, "reference"), |judge| judge.judge(&broken).unwrap());
    assert_eq!(judged.dropped, 1);
    assert!(judged.metrics.values().all(|value| value.is_finite()));
}

#[test]
fn the_file_holds_every_event_of_open_bins() {
    let (description, test, reference) =
        (description(Some(2.0)), events(3000, 1.0, "test"), events(2500, 1.0, "reference"));
    let evaluation = judging(&description, &test, &reference, |judge| {
        let model = judge.judge(&events(2000, 1.0, "generated")).unwrap();
        judge.evaluation(Events { test: 3000, generated: 2000, floor: 2500 }, &judge.floor(), &[model])
    });
    for histograms in &evaluation.observables {
        let sizes =
            [&histograms.test, &histograms.floor, &histograms.models[0]].map(|counts| counts.iter().sum::<u64>());
        assert_eq!(sizes, [3000, 2500, 2000], "{}", histograms.observable);
    }
    assert_eq!(evaluation.spectra[0].observable, "mass");
    assert_eq!(evaluation.spectra[0].floor.iter().sum::<u64>(), 2500);
}

#[test]
fn a_dataset_without_test_events_cannot_judge() {
    let (streams, description) = (Streams::new(7, "evaluate"), description(None));
    let (test, reference) = (events(0, 1.0, "test"), events(5, 1.0, "reference"));
    let judge = Judge::new(&description, &test, &reference, Vec::new(), Effort::default(), &streams, 1);
    let message = judge.err().unwrap().to_string();
    assert!(message.contains("split.test"), "{message}");
}
