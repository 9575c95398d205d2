//! Numbers of a training over its steps.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{
    Axis, LABEL_SIZE, PlotError, Size, frame,
    legend::{Entry, Legend, Mark},
    strokes, text, ticks_of_x, ticks_of_y,
};

const FULL: ((u32, u32), [i32; 4]) = ((960, 560), [118, 930, 24, 480]);
const COMPACT: ((u32, u32), [i32; 4]) = ((620, 420), [100, 594, 20, 346]);

/// A line of a figure: a value for each step.
#[derive(Clone, Copy, Debug)]
pub struct Curve<'a> {
    /// What it is.
    pub name: &'a str,
    /// Steps, ascending, with their values.
    pub points: &'a [(u64, f64)],
}

impl Curve<'_> {
    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().map(|&(step, value)| (step as f64, value)).filter(|(_, value)| value.is_finite())
    }
}

/// Draws curves in one panel as an SVG document; on a log axis where all values are positive and span more than a factor of 100.
/// `None` where no curve has two points.
pub fn curves_plot(curves: &[Curve<'_>], size: Size) -> Result<Option<String>, PlotError> {
    let points = || curves.iter().flat_map(Curve::points);
    let range = |of: fn((f64, f64)) -> f64| {
        points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)))
    };
    let ((first, last), (low, high)) = (range(|(step, _)| step), range(|(_, value)| value));
    if first >= last || !curves.iter().any(|curve| curve.points().count() > 1) {
        return Ok(None);
    }
    let (size, [left, right, top, bottom]) = if size == Size::Full { FULL } else { COMPACT };
    let x = Axis { low: 0.0, high: last, log: false, from: left, to: right };
    let log = low > 0.0 && high > 100.0 * low;
    // A constant needs room on both sides.
    let room = if high > low { 0.06 * (high - low) } else { 0.1 * high.abs().max(1e-3) };
    let (low, high) = if log { (low / 1.3, 1.3 * high) } else { (low - room, high + room) };
    let y = Axis { low, high, log, from: bottom, to: top };
    let entries = curves.iter().zip(strokes()).map(|(curve, stroke)| Entry::new(curve.name, Mark::Line(stroke)));
    let (y, legend) = Legend::place(entries.collect(), (left, right), y, |from, to| {
        let covered = points().filter(|(step, _)| (from..=to).contains(&x.at(*step)));
        covered.map(|(_, value)| value).fold(f64::NEG_INFINITY, f64::max)
    });

    let mut document = String::new();
    {
        let root = SVGBackend::with_string(&mut document, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (curve, stroke) in curves.iter().zip(strokes()) {
            let line: Vec<(i32, i32)> = curve.points().map(|(step, value)| (x.at(step), y.at(value))).collect();
            root.draw(&PathElement::new(line, stroke.color.stroke_width(2)))?;
        }
        legend.draw(&root)?;
        ticks_of_x(&root, x, y, true)?;
        ticks_of_y(&root, x, y, 5)?;
        frame(&root, x, y)?;
        text(&root, "step", LABEL_SIZE, (right, bottom + 40), HPos::Right, VPos::Top)?;
        root.present()?;
    }
    Ok(Some(document))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_stand_in_one_panel_with_their_names() {
        let curves = [
            Curve { name: "generator_loss", points: &[(50, -1.0), (100, 0.5), (150, 2.0)] },
            Curve { name: "q", points: &[(50, 0.5), (100, f64::NAN), (150, 0.5)] },
        ];
        let svg = curves_plot(&curves, Size::Compact).unwrap().unwrap();
        assert!(svg.contains("generator_loss") && svg.contains("step") && !svg.contains("NaN"));
        assert!(svg.contains("#0072B2") && svg.contains("#D55E00"));
    }

    #[test]
    fn a_constant_has_an_axis_and_a_single_point_no_figure() {
        let flat = Curve { name: "q", points: &[(0, 0.0), (100, 0.0)] };
        assert!(curves_plot(&[flat], Size::Full).unwrap().is_some_and(|svg| !svg.contains("NaN")));
        let point = Curve { name: "q", points: &[(100, 0.0)] };
        assert_eq!(curves_plot(&[point], Size::Full).unwrap(), None);
        assert_eq!(curves_plot(&[], Size::Full).unwrap(), None);
    }
}
