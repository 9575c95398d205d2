//! The comparisons of a study: ratios of losses of two models, paired by seed, with their intervals.

use std::collections::BTreeMap;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, VPos},
};

use super::{
    super::{
        study::{Ratio, pairs},
        table::{Numbers, shortened},
    },
    Area, Axis, COLORS, Drawn, PlotError, TICK_SIZE, bar, dashes, frame, text, ticks_of_x,
};
use crate::metrics::paired::Loss;

const WIDTH: i32 = 960;
/// Where the panels lie, from left to right.
const LEFT: i32 = 330;
const RIGHT: i32 = 930;
const GAP: i32 = 36;
const TOP: i32 = 62;
/// The height of a comparison.
const ROW: i32 = 36;
/// Space below the panels.
const BELOW: i32 = 84;
/// Longer names lose their middle.
const LONGEST: usize = 13;
/// An axis reaches this far to both sides of 1 at least, and at most.
const REACH: (f64, f64) = (2.0, 20.0);

/// A loss, and the ratio beyond which the bulk is said to suffer.
struct Panel {
    loss: Loss,
    ratios: Vec<Option<Ratio>>,
    margin: Option<f64>,
}

/// Draws the comparisons of a study as an SVG document: for the `primary` loss and, beside it, the mean χ²/NDF of all observables, the
/// ratio of each later model's loss to the first one's, and of the last one's to each, on a log axis with 95 % intervals. Blue ones
/// are below 1, red ones above it, and grey ones include it; triangles lie beyond the axis. The dashed line is the `margin` of the bulk, on the log of its ratio.
///
/// `None` where no two models can be compared, as in a study of one.
pub fn paired_plot(
    metrics: &BTreeMap<String, f64>,
    names: &[String],
    primary: Loss,
    margin: f64,
) -> Result<Option<String>, PlotError> {
    let pairs = pairs(names.len());
    let panel = |loss: Loss| {
        let ratios: Vec<_> = pairs.iter().map(|&pair| Ratio::of(Numbers(metrics), pair, loss)).collect();
        let margin = (loss == Loss::Chi2NdfMean).then(|| margin.exp());
        ratios.iter().any(Option::is_some).then_some(Panel { loss, ratios, margin })
    };
    let losses = [Some(primary), Some(Loss::Chi2NdfMean).filter(|bulk| *bulk != primary)];
    let panels: Vec<Panel> = losses.into_iter().flatten().filter_map(panel).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let bottom = TOP + ROW * pairs.len() as i32;
    let mut document = String::new();
    {
        let size = (WIDTH as u32, (bottom + BELOW) as u32);
        let root = SVGBackend::with_string(&mut document, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (row, &(model, other)) in (0..).zip(&pairs) {
            let [model, other] = [model, other].map(|index| shortened(&names[index], LONGEST));
            text(&root, &format!("{model} / {other}"), TICK_SIZE, (LEFT - 18, middle(row)), HPos::Right, VPos::Center)?;
        }
        let count = panels.len() as i32;
        let width = (RIGHT - LEFT - GAP * (count - 1)) / count;
        for (panel, at) in panels.iter().zip(0..) {
            let from = LEFT + (width + GAP) * at;
            panel.draw(&root, (from, from + width), bottom)?;
        }
        let note = "ratio, paired by seed, with its 95 % interval: below 1 the first of the two is better";
        text(&root, note, 18, (RIGHT, bottom + 50), HPos::Right, VPos::Top)?;
        root.present()?;
    }
    Ok(Some(document))
}

/// The height of a comparison's middle.
fn middle(row: i32) -> i32 {
    TOP + ROW * row + ROW / 2
}

impl Panel {
    /// The axis of the ratios: 1 in its middle, so that panels can be compared by eye.
    fn axis(&self, (from, to): (i32, i32)) -> Axis {
        let farthest = |ratio: &Ratio| ratio.low.abs().max(ratio.high.abs()).exp();
        let reach = self.ratios.iter().flatten().map(farthest).chain(self.margin).fold(0.0, f64::max);
        let reach = (1.1 * reach).clamp(REACH.0, REACH.1);
        Axis { low: 1.0 / reach, high: reach, log: true, from, to }
    }

    fn draw(&self, root: &Area<'_>, (from, to): (i32, i32), bottom: i32) -> Drawn {
        let (x, y) = (self.axis((from, to)), Axis { low: 0.0, high: 1.0, log: false, from: bottom, to: TOP });
        bar(root, x.at(1.0), (TOP, bottom), RGBColor(90, 90, 90).stroke_width(1))?;
        dashes(root, x, y, self.margin)?;
        for (row, ratio) in (0..).zip(&self.ratios) {
            let Some(ratio) = ratio else { continue };
            let color = match ratio {
                Ratio { high, .. } if *high < 0.0 => COLORS[0],
                Ratio { low, .. } if *low > 0.0 => COLORS[1],
                _ => RGBColor(110, 110, 110),
            };
            let [low, at, high] = [ratio.low, ratio.mean, ratio.high].map(|log| x.at(log.exp()));
            root.draw(&PathElement::new(vec![(low, middle(row)), (high, middle(row))], color.stroke_width(3)))?;
            // An interval that goes on beyond the panel has no end in it.
            for end in [ratio.low, ratio.high].map(f64::exp).into_iter().filter(|end| x.holds(*end)) {
                bar(root, x.at(end), (middle(row) - 6, middle(row) + 6), color.stroke_width(3))?;
            }
            if x.holds(ratio.mean.exp()) {
                root.draw(&Circle::new((at, middle(row)), 6, color.filled()))?;
            } else {
                let (tip, base) = if ratio.mean > 0.0 { (to - 3, to - 14) } else { (from + 3, from + 14) };
                let corners = vec![(tip, middle(row)), (base, middle(row) - 7), (base, middle(row) + 7)];
                root.draw(&Polygon::new(corners, color.filled()))?;
            }
        }
        ticks_of_x(root, x, y, true)?;
        frame(root, x, y)?;
        text(root, self.loss.in_words(), TICK_SIZE, (i32::midpoint(from, to), TOP - 14), HPos::Center, VPos::Bottom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::{beside, log_ratio};

    /// A study of three models whose log-ratios of a loss are these, with intervals of ± 0.1.
    fn study(loss: Loss, ratios: [f64; 3]) -> BTreeMap<String, f64> {
        let numbers = pairs(3).into_iter().zip(ratios).flat_map(|((model, other), ratio)| {
            let name = log_ratio(model, other, loss);
            [(beside(&name, "_low"), ratio - 0.1), (beside(&name, "_high"), ratio + 0.1), (name, ratio)]
        });
        numbers.collect()
    }

    fn names() -> Vec<String> {
        ["frozen", "longer", "boosted"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_figure_names_its_pairs_and_losses_and_colours_what_is_decided() {
        let mut metrics = study(Loss::TailW1, [0.0, -0.5, 0.5]);
        metrics.extend(study(Loss::Chi2NdfMean, [0.0, 0.0, 0.0]));
        let svg = paired_plot(&metrics, &names(), Loss::TailW1, 0.1).unwrap().unwrap();
        for words in ["longer / frozen", "boosted / frozen", "boosted / longer", "tail W1", "mean χ²/NDF"] {
            assert!(svg.contains(words), "{words} is missing");
        }
        let circles =
            |color: &str| svg.matches("<circle").count().min(svg.matches(&format!("fill=\"{color}\"")).count());
        assert_eq!((circles("#0072B2"), circles("#D55E00")), (1, 1), "one better, one worse");
        assert_eq!(paired_plot(&metrics, &names(), Loss::TailW1, 0.1).unwrap(), Some(svg), "the same bytes");
    }

    #[test]
    fn without_a_pair_there_is_no_figure_and_without_a_bulk_one_panel() {
        let metrics = study(Loss::TailW1, [0.0, 9.0, -9.0]);
        assert_eq!(paired_plot(&metrics, &names()[..1], Loss::TailW1, 0.1).unwrap(), None);
        assert_eq!(paired_plot(&BTreeMap::new(), &names(), Loss::TailW1, 0.1).unwrap(), None);
        let svg = paired_plot(&metrics, &names(), Loss::TailW1, 0.1).unwrap().unwrap();
        assert!(!svg.contains("mean χ²/NDF"), "{svg}");
        let marks = (svg.matches("<circle").count(), svg.matches("<polygon").count());
        assert_eq!(marks, (1, 2), "ratios beyond the panel point out of it");
    }
}
