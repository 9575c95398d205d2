//! Two observables at once, as small images: a pixel a bin.

use resvg::tiny_skia::{Pixmap, PremultipliedColorU8};

use super::{COLORS, PlotError};

/// A pull of so many deviations has the full colour.
const FULL_PULL: f64 = 5.0;

/// Counts as a PNG with a pixel for each bin, the first row of `y` at the bottom: from clear to opaque by the logarithm of the count, so
/// that it is legible on any ground.
pub fn density_image(counts: &[u32], columns: usize) -> Result<Vec<u8>, PlotError> {
    let most = f64::from(counts.iter().copied().max().unwrap_or(0)).ln_1p();
    let (red, green, blue) = rgb(0);
    // The rarest bins are still to be seen.
    let strength = |&count: &u32| match count {
        0 => (red, green, blue, 0.0),
        count => (red, green, blue, 0.12 + 0.88 * f64::from(count).ln_1p() / most.max(f64::MIN_POSITIVE)),
    };
    image(counts.iter().map(strength), columns)
}

/// Where generated events differ from test events as a PNG with a pixel for each bin: orange where there are too many, blue where there
/// are too few, opaque at five deviations of the difference of two Poisson counts (with the totals of `events` made equal).
pub fn pull_image(
    generated: &[u32],
    test: &[u32],
    events: &super::super::evaluation::Events,
    columns: usize,
) -> Result<Vec<u8>, PlotError> {
    let scale = events.test as f64 / events.generated.max(1) as f64;
    let pull = |(&generated, &test): (&u32, &u32)| {
        let difference = scale * f64::from(generated) - f64::from(test);
        // Variances of both counts, that of an empty one as if it were 1.
        let variance = scale * scale * f64::from(generated.max(1)) + f64::from(test.max(1));
        let pull = if generated + test == 0 { 0.0 } else { difference / variance.sqrt() };
        let (red, green, blue) = rgb(usize::from(pull > 0.0));
        (red, green, blue, (pull.abs() / FULL_PULL).min(1.0))
    };
    image(generated.iter().zip(test).map(pull), columns)
}

fn rgb(color: usize) -> (u8, u8, u8) {
    let color = COLORS[color];
    (color.0, color.1, color.2)
}

/// Pixels row by row from the bottom, as colours with an opacity from 0 to 1.
fn image(pixels: impl Iterator<Item = (u8, u8, u8, f64)>, columns: usize) -> Result<Vec<u8>, PlotError> {
    let premultiplied = |(red, green, blue, alpha): (u8, u8, u8, f64)| {
        let part = |color: u8| (f64::from(color) * alpha).floor() as u8;
        let opaque = (255.0 * alpha).ceil() as u8;
        PremultipliedColorU8::from_rgba(part(red), part(green), part(blue), opaque)
    };
    let empty = || PlotError::Drawing("it has no bins".to_owned());
    let pixels: Vec<_> = pixels.map(premultiplied).collect::<Option<_>>().ok_or_else(empty)?;
    let rows = pixels.len() / columns.max(1);
    let mut pixmap = Pixmap::new(columns as u32, rows as u32).ok_or_else(empty)?;
    for (to, from) in pixmap.pixels_mut().chunks_mut(columns).rev().zip(pixels.chunks(columns)) {
        to.copy_from_slice(&from[..to.len()]);
    }
    pixmap.encode_png().map_err(|error| PlotError::Drawing(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::evaluation::Events;

    fn pixels(png: &[u8]) -> Vec<[u8; 4]> {
        let pixmap = Pixmap::decode_png(png).unwrap();
        let plain = pixmap.pixels().iter().map(PremultipliedColorU8::demultiply);
        plain.map(|pixel| [pixel.red(), pixel.green(), pixel.blue(), pixel.alpha()]).collect()
    }

    #[test]
    fn the_first_row_lies_at_the_bottom_and_empty_bins_are_clear() {
        let found = pixels(&density_image(&[0, 100, 1, 0], 2).unwrap());
        let alpha: Vec<u8> = found.iter().map(|pixel| pixel[3]).collect();
        assert!(alpha[0] > 30 && alpha[0] < 80 && alpha[1] == 0 && alpha[2] == 0 && alpha[3] == 255, "{alpha:?}");
        assert!(pixels(&density_image(&[0, 0], 1).unwrap()).iter().all(|pixel| pixel[3] == 0));
        assert!(density_image(&[], 0).is_err());
    }

    #[test]
    fn too_many_are_orange_too_few_are_blue_and_as_many_are_clear() {
        let events = Events { test: 1000, generated: 2000, floor: 10 };
        let found = pixels(&pull_image(&[400, 0, 200, 0], &[100, 100, 100, 0], &events, 4).unwrap());
        assert!(found[0][3] == 255 && found[0][0] > found[0][2], "{found:?}");
        assert!(found[1][3] == 255 && found[1][0] < found[1][2], "{found:?}");
        assert_eq!([found[2][3], found[3][3]], [0, 0]);
    }
}
