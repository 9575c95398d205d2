//! The metrics of whole events against JetNet, prdc and scikit-learn: `scripts/reference/metrics_joint.py` wrote the numbers.

use std::{collections::BTreeMap, path::Path};

use pgan_pipe::{
    data::{dijet, read_table},
    metrics::{
        classifier,
        frechet::{self, Moments},
        gbdt::{Classifier, Config, Labelled},
        kernel, neighbours, sorted,
    },
    rng::Streams,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    small: Vec<Small>,
    lines: Vec<Line>,
    whole: Vec<Whole>,
    area: Area,
}

#[derive(Deserialize)]
struct Small {
    width: usize,
    real: Vec<f64>,
    generated: Vec<f64>,
    frechet: f64,
    kernel: f64,
    overlap: BTreeMap<usize, Overlap>,
}

#[derive(Deserialize)]
struct Overlap {
    precision: f64,
    recall: f64,
    density: f64,
    coverage: f64,
}

#[derive(Deserialize)]
struct Line {
    sizes: Vec<f64>,
    values: Vec<f64>,
    value: f64,
    error: f64,
}

#[derive(Deserialize)]
struct Whole {
    deformation: String,
    fpd: [f64; 2],
    kpd: [f64; 2],
    auc: f64,
}

#[derive(Deserialize)]
struct Area {
    scores: Vec<f64>,
    classes: Vec<bool>,
    area: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference/metrics_joint.json")).unwrap()
}

#[track_caller]
fn assert_close(ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance * theirs.abs().max(1.0), "{ours} is not {theirs}");
}

#[test]
fn frechet_distances_of_moments_are_those_of_jetnet() {
    for case in reference().small {
        let [real, made] = [&case.real, &case.generated].map(|events| Moments::of_events(case.width, events));
        assert_close(frechet::distance(&real, &made), case.frechet, 1e-9);
    }
}

#[test]
fn lines_are_extrapolated_as_by_the_bounded_fit_of_scipy() {
    for case in reference().lines {
        let ours = frechet::extrapolated(&case.sizes, &case.values).unwrap();
        // The fit is iterative and stays a little inside its bounds.
        assert!((ours.value - case.value).abs() < 1e-3 * case.error, "{ours:?} is not {}", case.value);
        assert_close(ours.error / case.error, 1.0, 1e-3);
    }
}

#[test]
fn discrepancies_under_the_polynomial_kernel_are_those_of_jetnet() {
    for case in reference().small {
        let ours = kernel::squared_discrepancy(case.width, &case.real, &case.generated).unwrap();
        assert_close(ours, case.kernel, 1e-9);
    }
}

#[test]
fn precision_recall_density_and_coverage_are_those_of_prdc() {
    for case in reference().small {
        for (k, theirs) in case.overlap {
            let ours = neighbours::overlap(case.width, &case.real, &case.generated, k).unwrap();
            let pairs = [
                (ours.precision, theirs.precision),
                (ours.recall, theirs.recall),
                (ours.density, theirs.density),
                (ours.coverage, theirs.coverage),
            ];
            pairs.into_iter().for_each(|(ours, theirs)| assert_close(ours, theirs, 1e-12));
        }
    }
}

#[test]
fn the_area_under_the_roc_curve_is_that_of_scikit_learn() {
    let Area { scores, classes, area } = reference().area;
    assert_close(classifier::area(&scores, &classes).unwrap(), area, 1e-12);
}

/// The columns of a table of `examples/dijet`, deformed as by the script.
fn dijets(file: &str, deformation: &str) -> Vec<Vec<f32>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/dijet").join(file);
    let events = read_table(&path, None).unwrap();
    let width = match deformation {
        "none" => 0.0,
        "slight" => 0.2,
        "plain" => 0.5,
        _ => 1.0,
    };
    let noise = |i: usize, step: f64| (i as f64 * step) % 1.0 - 0.5;
    let deformed = |name: &str, i: usize, value: f64| match name {
        "ljet1_M" => value * (1.0 + width * noise(i, 0.618_033_988_749_894_9)),
        "ljet2_pt" => value * (1.0 + width / 10.0 * noise(i, 0.414_213_562_373_095_1)),
        "ljet1_eta" if deformation == "strong" => value * 0.9,
        _ => value,
    };
    let column = |name: &str| {
        let values = events.column(name).unwrap().iter().enumerate();
        values.map(|(i, &value)| deformed(name, i, f64::from(value)) as f32).collect()
    };
    dijet::FEATURES.into_iter().map(column).collect()
}

/// Events as rows, over the largest absolute values of the real ones.
fn normalised(columns: &[Vec<f32>], real: &[Vec<f32>]) -> Vec<f64> {
    let largest = |column: &Vec<f32>| column.iter().map(|value| f64::from(value.abs())).fold(0.0, f64::max);
    let units: Vec<f64> = real.iter().map(largest).collect();
    let row = |i: usize| columns.iter().zip(&units).map(move |(column, unit)| f64::from(column[i]) / unit);
    (0..columns[0].len()).flat_map(row).collect()
}

#[test]
fn the_physics_distances_of_dijets_are_those_of_jetnet_within_their_error() {
    let real = dijets("test.parquet", "none");
    for case in reference().whole {
        let made = normalised(&dijets("train.parquet", &case.deformation), &real);
        let judge = normalised(&real, &real);
        let mut rng = Streams::new(11, "test").stream("batches");
        let fpd = frechet::fpd(7, &judge, &made, &mut rng).unwrap();
        let kpd = kernel::kpd(7, &judge, &made, &mut rng).unwrap();
        for (ours, [value, error]) in [(fpd, case.fpd), (kpd, case.kpd)] {
            let noise = ours.error.hypot(error);
            assert!(
                (ours.value - value).abs() < 4.0 * noise,
                "{}: {ours:?} is not {value} ± {error}",
                case.deformation
            );
        }
    }
}

#[test]
fn trees_tell_deformed_dijets_from_real_ones_as_well_as_those_of_scikit_learn() {
    let real = dijets("test.parquet", "none");
    for case in reference().whole {
        let made = dijets("train.parquet", &case.deformation);
        let classes: Vec<bool> = (0..real[0].len() + made[0].len()).map(|i| i >= real[0].len()).collect();
        // Even events train, odd ones judge; the first of the odd ones stand in for validation, which decides nothing here.
        let half = |odd: usize| {
            let of = |(real, made): (&Vec<f32>, &Vec<f32>)| -> Vec<f32> {
                real.iter().chain(made).copied().skip(odd).step_by(2).collect()
            };
            let columns: Vec<Vec<f32>> = real.iter().zip(&made).map(of).collect();
            (columns, classes.iter().copied().skip(odd).step_by(2).collect::<Vec<bool>>())
        };
        let (train, judge) = (half(0), half(1));
        let labelled = |part: &'static str| match part {
            "train" => Labelled { columns: &train.0, classes: &train.1 },
            _ => Labelled { columns: &judge.0, classes: &judge.1 },
        };
        let all = Config { trees: 60, patience: 60, ..Config::default() };
        let fitted = Classifier::fit(labelled("train"), labelled("judge"), all).unwrap();
        let area = classifier::area(&fitted.scores(&judge.0), &judge.1).unwrap();
        assert!((area - case.auc).abs() < 0.005, "{}: {area} is not {}", case.deformation, case.auc);
    }
}

#[test]
fn medians_and_their_errors_are_those_of_scipy() {
    // numpy.median and half of scipy.stats.iqr(rng=(16.275, 83.725)) of 0 … 10: 5 and (8.3725 − 1.6275)/2.
    let batches: Vec<f64> = (0..=10).rev().map(f64::from).collect();
    let found = kernel::median(&batches).unwrap();
    assert_close(found.value, 5.0, 1e-12);
    assert_close(found.error, 3.3725, 1e-12);
    assert_eq!(sorted(&batches)[10], 10.0);
    assert!(kernel::median(&[]).is_none());
}
