//! Loops over the rows of a block.

use super::unit::Act;
use crate::model::{layer::LEAK, wide::wide};

#[inline]
fn leak(y: f32) -> f32 {
    if y > 0.0 { y } else { LEAK as f32 * y }
}

/// Multiplies by the slope of leaky ReLU and dropout at what came out of them. Both keep signs, and what was dropped is 0.
pub(super) fn mask(values: &mut [f32], out: &[f32], act: Act) {
    let keep = act.keep();
    let below = if act.leaky { LEAK as f32 * keep } else { keep };
    if act.dropout.is_some() {
        mask_dropped(values, out, keep, below);
    } else {
        mask_signs(values, out, keep, below);
    }
}

wide! {
    /// Adds a bias to each row.
    pub(super) fn add_bias(values: &mut [f32], bias: &[f32]) {
        for row in values.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }

    /// Adds a bias to each row, and applies leaky ReLU.
    pub(super) fn add_bias_leaky(values: &mut [f32], bias: &[f32]) {
        for row in values.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y = leak(*y + b));
        }
    }

    /// Applies leaky ReLU.
    pub(super) fn leaky(values: &mut [f32]) {
        for y in values {
            *y = leak(*y);
        }
    }

    fn mask_signs(values: &mut [f32], out: &[f32], above: f32, below: f32) {
        values.iter_mut().zip(out).for_each(|(value, &h)| *value *= if h > 0.0 { above } else { below });
    }

    fn mask_dropped(values: &mut [f32], out: &[f32], above: f32, below: f32) {
        for (value, &h) in values.iter_mut().zip(out) {
            let slope = if h > 0.0 { above } else { below };
            *value *= if h == 0.0 { 0.0 } else { slope };
        }
    }

    /// `out` = `factors` x + y by rows of this width, with a factor for each row.
    pub(super) fn scaled_sum(out: &mut [f32], factors: &[f32], x: &[f32], y: &[f32], width: usize) {
        let rows = x.chunks_exact(width).zip(y.chunks_exact(width));
        for ((out, (x, y)), &factor) in out.chunks_exact_mut(width).zip(rows).zip(factors) {
            out.iter_mut().zip(x.iter().zip(y)).for_each(|(out, (x, y))| *out = factor * x + y);
        }
    }

    /// Adds all rows to `sums`.
    pub(super) fn add_rows(sums: &mut [f32], rows: &[f32]) {
        for row in rows.chunks_exact(sums.len()) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }

    /// Adds all rows to `sums`, with a factor for each `group` of them.
    pub(super) fn add_scaled_rows(sums: &mut [f32], rows: &[f32], factors: &[f32], group: usize) {
        let width = sums.len();
        for (rows, &factor) in rows.chunks_exact(group * width).zip(factors) {
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
            }
        }
    }

    /// `out` = x · `scale` + `shift` by rows.
    pub(super) fn scale_shift(out: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32]) {
        let width = scale.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            for (out, (x, (scale, shift))) in out.iter_mut().zip(x.iter().zip(scale.iter().zip(shift))) {
                *out = x * scale + shift;
            }
        }
    }
}
