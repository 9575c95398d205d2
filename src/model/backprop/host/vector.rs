//! Loops over slices, compiled for the widest vectors that the machine has.
//!
//! Each number is computed by itself, so the result is the same whatever the width.

use super::Act;
use crate::model::layer::LEAK;

/// Runs a loop in the best instruction set.
pub(super) fn wide<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// Adds a bias to each row, and applies leaky ReLU where asked for.
pub(super) fn add_bias(values: &mut [f32], bias: &[f32], leaky: bool) {
    wide(
        #[inline(always)]
        || {
            for row in values.chunks_exact_mut(bias.len()) {
                if leaky {
                    row.iter_mut().zip(bias).for_each(|(y, b)| *y = leak(*y + b));
                } else {
                    row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
                }
            }
        },
    );
}

/// Applies leaky ReLU.
pub(super) fn leaky(values: &mut [f32]) {
    wide(
        #[inline(always)]
        || values.iter_mut().for_each(|y| *y = leak(*y)),
    );
}

#[inline(always)]
fn leak(y: f32) -> f32 {
    if y > 0.0 { y } else { LEAK as f32 * y }
}

/// Multiplies by the slope of leaky ReLU and dropout at what came out of them. Both keep signs, and what was dropped is 0.
pub(super) fn mask(values: &mut [f32], out: &[f32], act: Act) {
    let keep = act.keep();
    let (above, below) = (keep, if act.leaky { LEAK as f32 * keep } else { keep });
    let at_zero = if act.dropout.is_some() { 0.0 } else { below };
    wide(
        #[inline(always)]
        || {
            for (value, &h) in values.iter_mut().zip(out) {
                *value *= if h > 0.0 {
                    above
                } else if h < 0.0 {
                    below
                } else {
                    at_zero
                };
            }
        },
    );
}

/// `out` = `factors` x + y by rows of this width, with a factor for each row.
pub(super) fn scaled_sum(out: &mut [f32], factors: &[f32], x: &[f32], y: &[f32], width: usize) {
    wide(
        #[inline(always)]
        || {
            let rows = x.chunks_exact(width).zip(y.chunks_exact(width));
            for ((out, (x, y)), &factor) in out.chunks_exact_mut(width).zip(rows).zip(factors) {
                out.iter_mut().zip(x.iter().zip(y)).for_each(|(out, (x, y))| *out = factor * x + y);
            }
        },
    );
}

/// Adds all rows to `sums`.
pub(super) fn add_rows(sums: &mut [f32], rows: &[f32]) {
    wide(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(sums.len()) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        },
    );
}

/// Adds all rows to `sums`, with a factor for each `group` of them.
pub(super) fn add_scaled_rows(sums: &mut [f32], rows: &[f32], factors: &[f32], group: usize) {
    wide(
        #[inline(always)]
        || {
            let width = sums.len();
            for (rows, &factor) in rows.chunks_exact(group * width).zip(factors) {
                for row in rows.chunks_exact(width) {
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
                }
            }
        },
    );
}
