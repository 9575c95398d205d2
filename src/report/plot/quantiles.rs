//! Q-Q in the tail: by how much upper quantiles of generated events stray from those of the test events.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{
    super::evaluation::Quantiles,
    Area, Axis, BAND, DASHES, Drawn, LABEL_SIZE, PlotError, Size, TICK_SIZE,
    axis::power_of_ten,
    axis_label, bar, frame,
    legend::{Entry, Legend, Mark},
    strokes, text, ticks_of_x, ticks_of_y, upright,
};

/// Size of the document, and the left, right, upper and lower end of the panel.
type Panel = ((u32, u32), [i32; 4]);
const FULL: Panel = ((960, 640), [118, 930, 70, 560]);
const COMPACT: Panel = ((620, 480), [100, 596, 66, 406]);

/// How quantiles compare: by their ratio, or where some are not positive by their difference.
struct Deviations {
    x: Vec<f64>,
    ratio: bool,
    band: [Vec<f64>; 2],
    floor: Vec<f64>,
    models: Vec<Vec<f64>>,
}

impl Deviations {
    fn of(quantiles: &Quantiles) -> Self {
        let ratio = quantiles.test.iter().all(|&test| test > 0.0);
        let compare = |values: &Vec<f64>| {
            let pair = |(&value, &test): (&f64, &f64)| if ratio { value / test } else { value - test };
            values.iter().zip(&quantiles.test).map(pair).collect::<Vec<f64>>()
        };
        Self {
            x: quantiles.test.clone(),
            ratio,
            band: quantiles.test_interval.each_ref().map(compare),
            floor: compare(&quantiles.floor),
            models: quantiles.models.iter().map(compare).collect(),
        }
    }

    /// The values of a perfect model.
    fn ideal(&self) -> f64 {
        if self.ratio { 1.0 } else { 0.0 }
    }

    /// An axis around the ideal that holds the band and nine tenths of the models' points.
    fn y(&self, from: i32, to: i32) -> Axis {
        let off = |values: &Vec<f64>| values.iter().map(|value| (value - self.ideal()).abs()).collect::<Vec<f64>>();
        let mut models: Vec<f64> = self.models.iter().flat_map(off).collect();
        models.sort_by(f64::total_cmp);
        let most = models.get(models.len() * 9 / 10).copied().unwrap_or(0.0);
        let band = self.band.iter().flat_map(off).fold(0.0, f64::max);
        let reach = 1.2 * most.max(band).max(if self.ratio { 0.02 } else { f64::MIN_POSITIVE });
        let reach = if self.ratio { reach.min(1.0) } else { reach };
        Axis { low: self.ideal() - reach, high: self.ideal() + reach, log: false, from, to }
    }
}

/// Draws upper quantiles of each model over those of the test events, as an SVG document, against the latter; on top the share of the
/// events that lies above. The grey band is the 95 % interval of the test events' own quantiles, the dashed line another real sample.
///
/// `None` where there are fewer than two quantiles to draw, or the observable has but one value in its tail.
pub fn quantile_plot(quantiles: &Quantiles, names: &[&str], size: Size) -> Result<Option<String>, PlotError> {
    if names.len() != quantiles.models.len() {
        return Err(PlotError::Names { models: quantiles.models.len(), names: names.len() });
    }
    let (&[first, .., last], true) = (&quantiles.test[..], quantiles.test.is_sorted()) else { return Ok(None) };
    if first >= last {
        return Ok(None);
    }
    let (size, [left, right, top, bottom]) = if size == Size::Full { FULL } else { COMPACT };
    let deviations = Deviations::of(quantiles);
    let x = Axis { low: first, high: last, log: first > 0.0 && last > 5.0 * first, from: left, to: right };
    let mut entries = vec![Entry::new("test events, 95 %", Mark::Band)];
    entries.push(Entry::new("real vs real", Mark::Dashes));
    entries.extend(names.iter().zip(strokes()).map(|(name, stroke)| Entry::new(name, Mark::Line(stroke))));
    let (y, legend) = Legend::place(entries, (left, right), deviations.y(bottom, top), |from, to| {
        let curves = deviations.models.iter().chain(&deviations.band).chain([&deviations.floor]);
        let points = curves.flat_map(|curve| deviations.x.iter().zip(curve));
        let covered = points.filter(|(at, _)| (from..=to).contains(&x.at(**at))).map(|(_, value)| *value);
        covered.fold(f64::NEG_INFINITY, f64::max)
    });

    let mut document = String::new();
    {
        let root = SVGBackend::with_string(&mut document, size).into_drawing_area();
        root.fill(&WHITE)?;
        draw(&root, &deviations, x, y)?;
        legend.draw(&root)?;
        ticks_of_x(&root, x, y, true)?;
        ticks_of_y(&root, x, y, 5)?;
        frame(&root, x, y)?;
        shares(&root, quantiles, x, y)?;
        text(&root, &axis_label(&quantiles.observable), LABEL_SIZE, (right, bottom + 42), HPos::Right, VPos::Top)?;
        let label = if deviations.ratio { "quantile gen. / test" } else { "quantile gen. − test" };
        upright(&root, label, (left - 88, top), HPos::Right)?;
        root.present()?;
    }
    Ok(Some(document))
}

fn draw(root: &Area<'_>, deviations: &Deviations, x: Axis, y: Axis) -> Drawn {
    let points =
        |values: &[f64]| deviations.x.iter().zip(values).map(|(&at, &value)| (x.at(at), y.at(value))).collect();
    let [mut lower, upper]: [Vec<(i32, i32)>; 2] = deviations.band.each_ref().map(|values| points(values));
    lower.extend(upper.into_iter().rev());
    root.draw(&Polygon::new(lower, BAND.filled()))?;
    let ideal = vec![(x.from, y.at(deviations.ideal())), (x.to, y.at(deviations.ideal()))];
    root.draw(&PathElement::new(ideal, DASHES.stroke_width(1)))?;
    for pair in points(&deviations.floor).chunks(2) {
        root.draw(&PathElement::new(pair.to_vec(), DASHES.stroke_width(2)))?;
    }
    for (values, stroke) in deviations.models.iter().zip(strokes()) {
        root.draw(&PathElement::new(points(values), stroke))?;
    }
    Ok(())
}

/// The shares of the events above, on the upper side.
fn shares(root: &Area<'_>, quantiles: &Quantiles, x: Axis, y: Axis) -> Drawn {
    text(root, "events above:", TICK_SIZE, (x.from, y.to - 34), HPos::Left, VPos::Bottom)?;
    for decade in 1..=8 {
        let share = 0.1_f64.powi(decade);
        // Between the two quantiles around it, on the scale of the share's logarithm.
        let Some(after) = quantiles.shares.iter().position(|&other| other <= share).filter(|&at| at > 0) else {
            continue;
        };
        let [(high, from), (low, to)] = [after - 1, after].map(|at| (quantiles.shares[at].ln(), quantiles.test[at]));
        let at = x.at(from + (to - from) * (share.ln() - high) / (low - high));
        bar(root, at, (y.to - 8, y.to), BLACK.stroke_width(2))?;
        text(root, &power_of_ten(-decade), TICK_SIZE, (at, y.to - 12), HPos::Center, VPos::Bottom)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantiles(shift: f64) -> Quantiles {
        let shares: Vec<f64> = (0..9).map(|i| 0.2 * 0.5_f64.powi(i)).collect();
        let test: Vec<f64> = shares.iter().map(|share| share.powf(-0.25) - shift).collect();
        let scaled = |scale: f64| test.iter().map(|value| scale * value).collect::<Vec<f64>>();
        Quantiles {
            observable: "jj_M".into(),
            test_interval: [scaled(0.98), scaled(1.02)],
            floor: scaled(1.01),
            models: vec![scaled(0.9), Vec::new()],
            shares,
            test,
        }
    }

    #[test]
    fn the_figure_shows_ratios_with_the_shares_above_them() {
        let svg = quantile_plot(&quantiles(0.0), &["frozen", "boosted"], Size::Compact).unwrap().unwrap();
        for words in ["quantile gen. / test", "10⁻¹", "10⁻²", "frozen", "real vs real", "mⱼⱼ [GeV]"] {
            assert!(svg.contains(words), "{words} is missing");
        }
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn quantiles_that_are_not_positive_are_compared_by_their_difference() {
        let svg = quantile_plot(&quantiles(3.0), &["a", "b"], Size::Full).unwrap().unwrap();
        assert!(svg.contains("quantile gen. − test") && !svg.contains("NaN"));
    }

    #[test]
    fn a_tail_of_one_value_has_no_figure_and_names_must_fit() {
        let mut flat = quantiles(0.0);
        flat.test.fill(2.0);
        assert_eq!(quantile_plot(&flat, &["a", "b"], Size::Full).unwrap(), None);
        assert!(matches!(quantile_plot(&flat, &["a"], Size::Full), Err(PlotError::Names { models: 2, names: 1 })));
    }
}
