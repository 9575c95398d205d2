//! The normal distribution function in double precision, of operators that runtimes have for it: `Erf` is none of them.

use super::graph::Value;

/// P in erfc(x) = t exp(−x² + P(2t − 1)), t = 2 / (2 + x), for x ≥ 0: coefficients of its powers. The Chebyshev interpolant of
/// degree 23 (`scripts/reference/erfc.py`), off by 2e-15 at most.
pub(super) const ERFC: [f64; 24] = [
    -0.671_794_084_056_690_5,
    0.672_643_223_977_656_7,
    0.047_343_306_841_395_75,
    -0.046_895_610_231_183_45,
    -0.009_872_689_342_023_714,
    0.008_824_938_557_318_043,
    0.001_758_933_098_885_073_8,
    -0.002_345_812_502_920_638_4,
    -0.000_146_242_377_978_349_2,
    0.000_673_678_789_228_675_7,
    -9.376_103_922_042_785e-05,
    -0.000_174_302_677_741_572_9,
    7.149_729_347_132_242e-05,
    3.174_303_989_125_886e-05,
    -3.042_480_419_623_413_3e-05,
    1.467_189_256_557_357_4e-07,
    8.957_141_043_157_235e-06,
    -2.971_258_117_858_287_7e-06,
    -1.716_193_134_824_118_2e-06,
    1.288_941_465_629_518_7e-06,
    1.611_507_277_019_833e-07,
    -2.918_140_093_107_583e-07,
    5.453_996_235_874_533e-10,
    3.020_180_971_825_513e-08,
];

/// ln Φ(−|x|).
fn log_outer(x: Value<'_>) -> Value<'_> {
    let graph = x.graph();
    let x = x.abs() * std::f64::consts::FRAC_1_SQRT_2;
    let t = graph.doubles(&[], &[2.0]) / (x + 2.0);
    let powers: Vec<f64> = (0..ERFC.len()).map(|power| power as f64).collect();
    // [events, 1] to the powers [1, 24], times their coefficients [24, 1].
    let powers = (t * 2.0 - 1.0).with("Pow", graph.doubles(&[1, ERFC.len()], &powers));
    let fit = powers.with("MatMul", graph.doubles(&[ERFC.len(), 1], &ERFC));
    t.ln() - x.square() + fit - std::f64::consts::LN_2
}

/// Φ(x).
pub(super) fn cdf(x: Value<'_>) -> Value<'_> {
    let outer = log_outer(x).exp();
    x.less(0.0).choose(outer, -outer + 1.0)
}

/// ln Φ(x), which keeps its digits below.
pub(super) fn log_cdf(x: Value<'_>) -> Value<'_> {
    let outer = log_outer(x);
    x.less(0.0).choose(outer, (-outer.exp() + 1.0).ln())
}
