//! The spectrum of an observable with the ratio of each model to the test events below it.

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{
    super::evaluation::{Evaluation, Histograms},
    Area, Axis, BAND, Drawn, LABEL_SIZE, PlotError, Size, axis_label, bar, dashes, frame,
    legend::{Entry, Legend, Mark},
    strokes, text, ticks_of_x, ticks_of_y, unit, upright,
};

mod content;

use content::{Content, Curve};

/// Where the panels lie, in pixels.
#[derive(Clone, Copy)]
struct Panels {
    size: (u32, u32),
    left: i32,
    right: i32,
    top: i32,
    /// Where the upper panel ends.
    spectrum_end: i32,
    /// The upper and lower ends of the ratio panel.
    ratio: (i32, i32),
}

const FULL: Panels = Panels { size: (960, 840), left: 118, right: 930, top: 44, spectrum_end: 560, ratio: (588, 764) };
const COMPACT: Panels =
    Panels { size: (620, 600), left: 100, right: 596, top: 40, spectrum_end: 388, ratio: (408, 526) };

/// Pixels between the error bars of neighbouring models in the ratio panel.
const BESIDE: i32 = 5;

/// Draws an observable as an SVG document: test events as points with √N bars (and their bins, where these differ in width), each
/// model as a line scaled to the number of test events, and below them the ratios generated / test with √N bars on the grey band of
/// the test events' own error.
///
/// `names` are those of the models, in their order. Ratios beyond the panel are shown as triangles on its border.
pub fn ratio_plot(evaluation: &Evaluation, observable: &str, names: &[&str], size: Size) -> Result<String, PlotError> {
    let panels = if size == Size::Full { FULL } else { COMPACT };
    let Panels { left, right, top, spectrum_end, ratio: (ratio_top, ratio_end), .. } = panels;
    let histograms = evaluation.histograms(observable).ok_or_else(|| PlotError::NoObservable {
        name: observable.to_owned(),
        known: evaluation.observables.iter().map(|histograms| histograms.observable.clone()).collect(),
    })?;
    if names.len() != histograms.models.len() {
        return Err(PlotError::Names { models: histograms.models.len(), names: names.len() });
    }
    let content = Content::of(histograms, evaluation).ok_or_else(|| PlotError::Empty(observable.to_owned()))?;
    let cut = evaluation.tail.as_ref().filter(|tail| tail.observable == observable).map(|tail| tail.above);
    let cut = cut.filter(|&cut| content.x(0, 1).holds(cut));

    let mut entries = vec![Entry::new("test events", Mark::Points)];
    entries.extend(names.iter().zip(strokes()).map(|(name, stroke)| Entry::new(name, Mark::Line(stroke))));
    entries.extend(
        cut.map(|cut| Entry::new(&format!("tail above {}{}", rounded(cut), unit_after(observable)), Mark::Dashes)),
    );
    let panel = Axis { low: 0.0, high: 1.0, log: false, from: spectrum_end, to: top };
    let across = content.x(left, right);
    let (y, legend) = Legend::place(entries, (left, right), content.y(panel), |from, to| {
        let covered = (0..content.bins()).filter(|&bin| {
            let [start, end] = content.span(across, bin);
            end > from && start < to
        });
        content.highest(&covered)
    });

    let mut document = String::new();
    {
        let root = SVGBackend::with_string(&mut document, panels.size).into_drawing_area();
        root.fill(&WHITE)?;
        let x = content.x(left, right);
        let (low, high) = content.ratio_range();
        let ratio = Axis { low, high, log: false, from: ratio_end, to: ratio_top };
        draw_spectrum(&root, &content, x, y, cut)?;
        legend.draw(&root)?;
        draw_ratios(&root, &content, x, ratio, cut)?;
        for (panel, numbers, lowest) in [(y, 5, false), (ratio, 4, true)] {
            ticks_of_x(&root, x, panel, lowest)?;
            ticks_of_y(&root, x, panel, numbers)?;
            frame(&root, x, panel)?;
        }
        let sizes = format!(
            "{} test events, {} generated",
            thousands(evaluation.events.test),
            thousands(evaluation.events.generated)
        );
        text(&root, &sizes, 18, (right, top - 12), HPos::Right, VPos::Bottom)?;
        text(&root, &axis_label(observable), LABEL_SIZE, (right, ratio_end + 42), HPos::Right, VPos::Top)?;
        upright(&root, &content.y_label(unit(observable)), (left - 88, top), HPos::Right)?;
        upright(&root, "gen. / test", (left - 88, i32::midpoint(ratio_top, ratio_end)), HPos::Center)?;
        root.present()?;
    }
    Ok(document)
}

fn unit_after(observable: &str) -> String {
    unit(observable).map(|unit| format!(" {unit}")).unwrap_or_default()
}

/// A number in at most four digits before and after its point together, as far as those before it leave some.
fn rounded(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        return format!("{number:.2e}");
    }
    let decimals = (3 - size.max(1e-3).log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{number:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// 12345 as `12,345`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn draw_spectrum(root: &Area<'_>, content: &Content, x: Axis, y: Axis, cut: Option<f64>) -> Drawn {
    dashes(root, x, y, cut)?;
    for (curve, stroke) in content.models.iter().zip(strokes()) {
        let steps = (0..content.bins()).flat_map(|bin| {
            let height = y.at(curve.values[bin]);
            content.span(x, bin).map(|at| (at, height))
        });
        root.draw(&PathElement::new(steps.collect::<Vec<_>>(), stroke))?;
    }
    for (bin, (&value, &error)) in content.test.values.iter().zip(&content.test.errors).enumerate() {
        if value > 0.0 {
            let at = content.centre(x, bin);
            bar(root, at, (y.at(value - error), y.at(value + error)), BLACK.stroke_width(2))?;
            if content.is_uneven() {
                let across = content.span(x, bin).map(|at| (at, y.at(value)));
                root.draw(&PathElement::new(across.to_vec(), BLACK.stroke_width(1)))?;
            }
            root.draw(&Circle::new((at, y.at(value)), 4, BLACK.filled()))?;
        }
    }
    Ok(())
}

fn draw_ratios(root: &Area<'_>, content: &Content, x: Axis, y: Axis, cut: Option<f64>) -> Drawn {
    for (bin, (&value, &error)) in content.test.values.iter().zip(&content.test.errors).enumerate() {
        if value > 0.0 {
            let [left, right] = content.span(x, bin);
            let (top, bottom) = (y.at(1.0 + error / value), y.at(1.0 - error / value));
            root.draw(&Rectangle::new([(left, top), (right, bottom)], BAND.filled()))?;
        }
    }
    dashes(root, x, y, cut)?;
    root.draw(&PathElement::new(vec![(x.from, y.at(1.0)), (x.to, y.at(1.0))], RGBColor(90, 90, 90).stroke_width(1)))?;
    // Side by side, so that the bars of one bin do not hide each other.
    let middle = content.models.iter().skip(1).map(|_| BESIDE).sum::<i32>() / 2;
    for ((curve, stroke), model) in content.models.iter().zip(strokes()).zip(0..) {
        draw_ratio(root, content, curve, (x, y), stroke, BESIDE * model - middle)?;
    }
    Ok(())
}

fn draw_ratio(
    root: &Area<'_>,
    content: &Content,
    curve: &Curve,
    (x, y): (Axis, Axis),
    stroke: ShapeStyle,
    shift: i32,
) -> Drawn {
    let thin = stroke.color.stroke_width(1);
    let ratios = content.test.values.iter().zip(&curve.values).zip(&curve.errors);
    let ratios: Vec<_> =
        ratios.map(|((&test, &value), &error)| (test > 0.0).then(|| (value / test, error / test))).collect();
    for (bin, ratio) in ratios.iter().enumerate() {
        let Some((ratio, error)) = *ratio else { continue };
        let [left, right] = content.span(x, bin);
        if y.holds(ratio) {
            root.draw(&PathElement::new(vec![(left, y.at(ratio)), (right, y.at(ratio))], stroke))?;
        }
        if let Some(Some((next, _))) = ratios.get(bin + 1) {
            root.draw(&PathElement::new(vec![(right, y.at(ratio)), (right, y.at(*next))], thin))?;
        }
        let at = content.centre(x, bin) + shift;
        if y.holds(ratio) {
            bar(root, at, (y.at(ratio - error), y.at(ratio + error)), thin)?;
        } else {
            let (tip, base) = if ratio > y.high { (y.to + 2, y.to + 12) } else { (y.from - 2, y.from - 12) };
            root.draw(&Polygon::new(vec![(at, tip), (at - 6, base), (at + 6, base)], stroke.color.filled()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::Tail,
        metrics::Binning,
        report::evaluation::{Events, Histograms},
    };

    fn evaluation() -> Evaluation {
        let histograms = |observable: &str, binning, test: Vec<u64>| Histograms {
            observable: observable.into(),
            binning,
            floor: test.clone(),
            models: vec![test.iter().map(|count| 3 * count).collect(), vec![0; test.len()]],
            test,
        };
        Evaluation {
            format: Evaluation::FORMAT,
            events: Events { test: 1000, generated: 2000, floor: 1000 },
            tail: Some(Tail { observable: "jj_M".into(), above: 1500.0 }),
            observables: vec![
                histograms("ljet1_eta", Binning::uniform(4, -2.0, 2.0).unwrap(), vec![200, 300, 300, 200]),
                histograms("x", Binning::new(vec![0.0, 1.0, 3.0]).unwrap().open(), vec![0, 0]),
            ],
            spectra: vec![histograms("jj_M", Binning::logarithmic(3, 500.0, 4000.0).unwrap(), vec![900, 90, 10])],
            quantiles: None,
            joint: None,
        }
    }

    #[test]
    fn the_figure_names_its_axes_its_models_and_the_cut() {
        let svg = ratio_plot(&evaluation(), "jj_M", &["frozen", "a < b"], Size::Full).unwrap();
        for words in [
            "mⱼⱼ [GeV]",
            "Events / bin",
            "gen. / test",
            "test events",
            "frozen",
            "a &lt; b",
            "tail above 1500 GeV",
            "10²",
        ] {
            assert!(svg.contains(words), "{words} is missing");
        }
        assert!(svg.contains("font-family=\"DejaVu Sans, ") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn a_figure_of_another_observable_has_no_cut_and_its_own_unit() {
        let svg = ratio_plot(&evaluation(), "ljet1_eta", &["a", "b"], Size::Full).unwrap();
        assert!(svg.contains("leading jet η") && svg.contains("Events / 1<") | svg.contains("Events / 1\n"));
        assert!(!svg.contains("tail above"));
    }

    #[test]
    fn a_cut_is_written_in_few_digits() {
        for (cut, words) in [
            (1500.0, "1500"),
            (4.469_389_681_816_102, "4.469"),
            (0.0123, "0.0123"),
            (12_345.6, "12346"),
            (-20.0, "-20"),
            (0.0, "0"),
            (1.25e9, "1.25e9"),
        ] {
            assert_eq!(rounded(cut), words);
        }
    }

    #[test]
    fn the_same_evaluation_gives_the_same_bytes() {
        let draw = || ratio_plot(&evaluation(), "jj_M", &["a", "b"], Size::Full).unwrap();
        assert_eq!(draw(), draw());
    }

    #[test]
    fn generated_events_are_scaled_to_the_test_events() {
        // Three times the counts from twice the events: a ratio of 1.5.
        let evaluation = evaluation();
        let content = Content::of(&evaluation.spectra[0], &evaluation).unwrap();
        assert!((content.models[0].values[0] / content.test.values[0] - 1.5).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let said = |observable, names: &[&str]| {
            ratio_plot(&evaluation(), observable, names, Size::Compact).unwrap_err().to_string()
        };
        assert_eq!(said("jj_pt", &["a", "b"]), "the evaluation has no histogram of `jj_pt`; it has ljet1_eta, x");
        assert!(said("jj_M", &["a"]).contains("2 models, not 1"));
        assert!(said("x", &["a", "b"]).contains("no test event"));
    }

    #[test]
    fn sizes_are_grouped_by_thousands() {
        assert_eq!([7, 1000, 1_234_567].map(thousands), ["7", "1,000", "1,234,567"]);
    }
}
