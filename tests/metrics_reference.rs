//! The metrics of one observable against numpy and scipy: `scripts/reference/metrics.py` and `metrics_tail.py` wrote the numbers.

use std::collections::BTreeMap;

use pgan_pipe::{
    metrics::{
        Binning, anderson,
        bootstrap::{self, Top},
        chi2, kolmogorov, ks, sorted, tail, tail_index,
        truth::WeightedTruth,
        wasserstein,
    },
    rng::Streams,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    kolmogorov: Vec<Survival>,
    pairs: BTreeMap<String, Pair>,
    histograms: Vec<Histograms>,
    dijet_edges: BTreeMap<String, Vec<f64>>,
}

#[derive(Deserialize)]
struct Survival {
    n: u64,
    x: f64,
    #[serde(rename = "survival")]
    p: f64,
}

#[derive(Deserialize)]
struct Pair {
    a: Vec<f64>,
    b: Vec<f64>,
    a_weights: Vec<f64>,
    b_weights: Vec<f64>,
    ks: Ks,
    weighted_ks: Ks,
    anderson: f64,
    anderson_upper: f64,
    weighted_w1: f64,
    weighted_top_w1: Vec<At>,
    w1: f64,
    top_w1: Vec<At>,
    quantiles: Vec<At>,
    cut: f64,
    above: [usize; 2],
}

#[derive(Deserialize)]
struct Ks {
    statistic: f64,
    p: f64,
}

#[derive(Deserialize)]
struct At {
    #[serde(alias = "u", alias = "p")]
    at: f64,
    value: f64,
}

#[derive(Deserialize)]
struct Histograms {
    a: Vec<f64>,
    b: Vec<f64>,
    a_weights: Vec<f64>,
    b_weights: Vec<f64>,
    edges: Vec<f64>,
    n: Vec<f64>,
    m: Vec<f64>,
    two_sample: Chi2,
    generated_as_expectation: Chi2,
    weighted: Chi2,
    weighted_merged: Chi2,
}

#[derive(Deserialize)]
struct Chi2 {
    #[serde(rename = "chi2")]
    sum: f64,
    ndf: usize,
    p: f64,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference/metrics.json")).unwrap()
}

#[track_caller]
fn assert_close(ours: f64, theirs: f64, what: &str) {
    let tolerance = 1e-9 * theirs.abs().max(1.0);
    assert!((ours - theirs).abs() <= tolerance, "{what}: {ours} is not {theirs}");
}

#[track_caller]
fn assert_chi2(ours: Option<chi2::ChiSquare>, theirs: &Chi2) {
    let ours = ours.unwrap();
    assert_close(ours.chi2, theirs.sum, "χ²");
    assert_close(ours.p, theirs.p, "its p");
    assert_eq!(ours.ndf, theirs.ndf);
}

#[test]
fn the_law_of_the_kolmogorov_statistic_is_that_of_scipy() {
    for Survival { n, x, p: survival } in reference().kolmogorov {
        let ours = kolmogorov::survival(n, x);
        assert_close(ours, survival, &format!("P(D ≥ {x}) at n = {n}"));
        // Far out, where p is tiny, a relative bound: powers of 10 matter there.
        let tiny = survival < 1e-6 && survival > 1e-300;
        assert!(!tiny || (ours / survival - 1.0).abs() < 1e-6, "P(D ≥ {x}) at n = {n}: {ours} is not {survival}");
    }
}

#[test]
fn kolmogorov_smirnov_is_that_of_scipy_with_and_without_weights() {
    for (name, pair) in reference().pairs {
        let ours = ks::two_sample(&pair.a, &pair.b).unwrap();
        assert_close(ours.statistic, pair.ks.statistic, &name);
        assert_close(ours.p, pair.ks.p, &name);
        let ours = ks::two_sample_weighted(&pair.a, &pair.a_weights, &pair.b, &pair.b_weights).unwrap();
        assert_close(ours.statistic, pair.weighted_ks.statistic, &name);
        assert_close(ours.p, pair.weighted_ks.p, &name);
    }
}

#[test]
fn wasserstein_distances_are_those_of_scipy_and_of_an_integral_by_parts() {
    for (name, pair) in reference().pairs {
        assert_close(wasserstein::distance(&pair.a, &pair.b).unwrap(), pair.w1, &name);
        for At { at: u, value } in pair.top_w1 {
            let ours = wasserstein::top_distance(&pair.a, &pair.b, u).unwrap();
            assert_close(ours, value, &format!("{name}, top {u}"));
        }
        let total = pair.b_weights.iter().sum();
        let weighted = |u| wasserstein::top_distance_weighted(&pair.a, &pair.b, &pair.b_weights, total, u).unwrap();
        assert_close(weighted(1.0), pair.weighted_w1, &name);
        for At { at: u, value } in pair.weighted_top_w1 {
            assert_close(weighted(u), value, &format!("{name}, weighted top {u}"));
        }
    }
}

#[test]
fn anderson_darling_is_that_of_scipy_and_its_upper_form_that_of_a_sum_over_values() {
    for (name, pair) in reference().pairs {
        let (a, b) = (sorted(&pair.a), sorted(&pair.b));
        assert_close(anderson::two_sample(&a, &b).unwrap(), pair.anderson, &name);
        assert_close(anderson::upper_tail(&a, &b).unwrap(), pair.anderson_upper, &name);
    }
}

#[test]
fn quantiles_and_tail_counts_are_those_of_numpy() {
    for (name, pair) in reference().pairs {
        let ascending = sorted(&pair.a);
        for At { at: p, value } in pair.quantiles {
            assert_close(tail::quantile(&ascending, p).unwrap(), value, &format!("{name} at {p}"));
        }
        assert_eq!([tail::above(&pair.a, pair.cut), tail::above(&pair.b, pair.cut)], pair.above, "{name}");
    }
}

#[test]
fn chi_squares_are_those_of_scipy_down_to_the_degrees_of_freedom() {
    for case in reference().histograms {
        let bins = Binning::new(case.edges).unwrap();
        let as_floats = |counts: Vec<u64>| counts.into_iter().map(|count| count as f64).collect::<Vec<_>>();
        assert_eq!(as_floats(bins.counts(&case.a)), case.n);
        assert_eq!(as_floats(bins.counts(&case.b)), case.m);
        assert_chi2(chi2::two_sample(&case.n, &case.m), &case.two_sample);
        assert_chi2(chi2::generated_as_expectation(&case.n, &case.m), &case.generated_as_expectation);
        let (n, n2) = bins.weighted_counts(&case.a, &case.a_weights);
        let (m, m2) = bins.weighted_counts(&case.b, &case.b_weights);
        assert_chi2(chi2::two_sample_weighted(&n, &n2, &m, &m2), &case.weighted);
        assert_chi2(chi2::two_sample_weighted_merged(&n, &n2, &m, &m2), &case.weighted_merged);
    }
}

#[test]
fn dijet_bins_have_the_edges_of_numpy() {
    for (observable, edges) in reference().dijet_edges {
        let ours = Binning::dijet(&observable).unwrap();
        assert_eq!(ours.edges().len(), edges.len(), "{observable}");
        ours.edges().iter().zip(&edges).for_each(|(ours, theirs)| assert_close(*ours, *theirs, &observable));
    }
}

#[derive(Deserialize)]
struct TailReference {
    indices: BTreeMap<String, Index>,
    bootstrap: Bootstrap,
    truth: Vec<Truth>,
}

#[derive(Deserialize)]
struct Index {
    sample: Vec<f64>,
    cut: f64,
    gpd: f64,
    hill: f64,
}

#[derive(Deserialize)]
struct Bootstrap {
    sample: Vec<f64>,
    cases: Vec<Intervals>,
}

#[derive(Deserialize)]
struct Intervals {
    u: f64,
    value: f64,
    deviation: f64,
    percentile: [f64; 2],
    basic: [f64; 2],
}

#[derive(Deserialize)]
struct Truth {
    values: Vec<f64>,
    weights: Vec<f64>,
    edges: Vec<f64>,
    cross_section: f64,
    normalisation: f64,
    sample: Vec<f64>,
    #[serde(flatten)]
    score: Chi2,
}

fn tail_reference() -> TailReference {
    serde_json::from_str(include_str!("reference/metrics_tail.json")).unwrap()
}

#[test]
fn tail_indices_are_the_mean_log_and_the_fit_of_scipy() {
    for (name, case) in tail_reference().indices {
        assert_close(tail_index::hill(&case.sample, case.cut).unwrap().index, case.hill, &name);
        // Both search for a maximum, which is flat: its place is known to the root of the precision of its height.
        let gpd = tail_index::generalised_pareto(&case.sample, case.cut).unwrap().index;
        assert!((gpd - case.gpd).abs() < 1e-6, "{name}: {gpd} is not {}", case.gpd);
    }
}

#[test]
fn bootstrap_intervals_of_upper_quantiles_are_those_of_scipy_within_their_noise() {
    let Bootstrap { sample, cases } = tail_reference().bootstrap;
    let sample = sorted(&sample);
    for case in cases {
        let top = Top::of(&sample, case.u);
        assert_close(top.quantile(1.0 - case.u).unwrap(), case.value, "the quantile itself");
        let mut rng = Streams::new(5, "test").stream("bootstrap");
        let replicas: Vec<f64> = (0..4000).map(|_| top.replica(&mut rng).quantile(1.0 - case.u).unwrap()).collect();
        let (percentile, basic) =
            (bootstrap::percentile(replicas.clone()).unwrap(), bootstrap::basic(case.value, replicas).unwrap());
        for (ours, theirs) in [(percentile, case.percentile), (basic, case.basic)] {
            for (ours, theirs) in [(ours.low, theirs[0]), (ours.high, theirs[1])] {
                // An end of an interval of 4000 replicas is known to about 0.04 deviations; steps between events are wider.
                assert!((ours - theirs).abs() < 0.3 * case.deviation, "top {}: {ours} is not {theirs}", case.u);
            }
        }
    }
}

#[test]
fn the_chi_square_against_a_weighted_truth_is_that_of_its_covariance_matrix() {
    for case in tail_reference().truth {
        let events = (case.values, case.weights);
        let truth = WeightedTruth::new(0, events, case.edges, case.cross_section, case.normalisation).unwrap();
        assert_chi2(truth.chi2(&case.sample), &case.score);
    }
}
