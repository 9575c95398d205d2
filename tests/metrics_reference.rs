//! The metrics against numpy and scipy: `scripts/reference/metrics.py` wrote the numbers.

use std::collections::BTreeMap;

use pgan_pipe::metrics::{Binning, chi2, kolmogorov, ks, sorted, tail, wasserstein};
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
