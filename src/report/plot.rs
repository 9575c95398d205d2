//! Figures: what all of them share. Each kind has a file of its own.

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use self::axis::Axis;

mod axis;
mod curves;
mod density;
mod legend;
mod paired;
mod quantiles;
mod raster;
mod ratio;

pub use curves::{Curve, curves_plot};
pub use density::{density_image, pull_image};
pub use paired::paired_plot;
pub use quantiles::quantile_plot;
pub use raster::png;
pub use ratio::ratio_plot;

/// How much room a figure is made for; its letters are as large in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A page's or a slide's width.
    Full,
    /// One of several beside each other, or a phone's width.
    Compact,
}

/// Why a figure cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The evaluation has no such observable.
    #[error("the evaluation has no histogram of `{name}`; it has {}", known.join(", "))]
    NoObservable {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// Names and models do not match.
    #[error("the evaluation has {models} models, not {names}; name each of them once, in order")]
    Names {
        /// Models of the evaluation.
        models: usize,
        /// Names given.
        names: usize,
    },
    /// The histogram holds no test event.
    #[error("the histogram of `{0}` holds no test event; check the dataset's test split")]
    Empty(String),
    /// The figure could not be written.
    #[error("the figure could not be drawn: {0}")]
    Drawing(String),
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self::Drawing(error.to_string())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), PlotError>;

/// Named fonts first: a figure must look alike wherever it is opened.
const FONT: &str = "DejaVu Sans, Helvetica, Arial, sans-serif";
/// The ground of what is uncertain.
const BAND: RGBColor = RGBColor(222, 222, 222);
/// The colour of dashed lines.
const DASHES: RGBColor = RGBColor(120, 120, 120);
const TICK_SIZE: i32 = 20;
const LABEL_SIZE: i32 = 23;
/// Okabe and Ito's colours that stay apart for the colour-blind, strongest first.
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
/// Widths of the lines of the models: a later one does not hide an earlier one that it agrees with.
const WIDTHS: [u32; 3] = [5, 3, 2];

/// What an axis of this observable is called, with its unit: `mⱼⱼ [GeV]`.
pub fn axis_label(observable: &str) -> String {
    let (jet, quantity) = match observable.split_once('_') {
        Some(("ljet1", quantity)) => ("leading jet ", quantity),
        Some(("ljet2", quantity)) => ("second jet ", quantity),
        Some(("jj", "M")) => return "mⱼⱼ [GeV]".to_owned(),
        Some(("jj", quantity)) => ("dijet ", quantity),
        _ => return observable.to_owned(),
    };
    match quantity {
        "pt" => format!("{jet}pT [GeV]"),
        "M" => format!("{jet}mass [GeV]"),
        "E" => format!("{jet}energy [GeV]"),
        "eta" => format!("{jet}η"),
        "phi" => format!("{jet}φ [rad]"),
        _ => observable.to_owned(),
    }
}

/// The lines of the models, in their order.
fn strokes() -> impl Iterator<Item = ShapeStyle> {
    let widths = WIDTHS.into_iter().chain(std::iter::repeat(WIDTHS[WIDTHS.len() - 1]));
    COLORS.iter().cycle().zip(widths).map(|(color, width)| color.stroke_width(width))
}

fn unit(observable: &str) -> Option<&'static str> {
    let label = axis_label(observable);
    ["GeV", "rad"].into_iter().find(|unit| label.ends_with(&format!("[{unit}]")))
}

fn bar(root: &Area<'_>, at: i32, (low, high): (i32, i32), style: ShapeStyle) -> Drawn {
    Ok(root.draw(&PathElement::new(vec![(at, low), (at, high)], style))?)
}

/// A dashed upright line through a panel, where there is a value to mark.
fn dashes(root: &Area<'_>, x: Axis, y: Axis, value: Option<f64>) -> Drawn {
    let Some(at) = value.map(|value| x.at(value)) else { return Ok(()) };
    for top in (y.to..y.from).step_by(14) {
        bar(root, at, (top, (top + 8).min(y.from)), DASHES.stroke_width(2))?;
    }
    Ok(())
}

/// The frame of a panel.
fn frame(root: &Area<'_>, x: Axis, y: Axis) -> Drawn {
    // A path: the SVG of a rectangle would lose its line's width.
    let corners = [(x.from, y.to), (x.to, y.to), (x.to, y.from), (x.from, y.from), (x.from, y.to)];
    Ok(root.draw(&PathElement::new(corners.to_vec(), BLACK.stroke_width(2)))?)
}

/// Ticks inward at the lower and upper side of a panel, with numbers below it if they are wanted.
fn ticks_of_x(root: &Area<'_>, x: Axis, y: Axis, numbers: bool) -> Drawn {
    let line = BLACK.stroke_width(2);
    for tick in x.ticks(6) {
        let (at, length) = (x.at(tick.value), if tick.label.is_some() { 12 } else { 6 });
        bar(root, at, (y.from, y.from - length), line)?;
        bar(root, at, (y.to, y.to + length), line)?;
        if let Some(label) = tick.label.filter(|_| numbers) {
            text(root, &label, TICK_SIZE, (at, y.from + 10), HPos::Center, VPos::Top)?;
        }
    }
    Ok(())
}

/// Ticks inward at the left and right side of a panel, about `wanted` of them with numbers on the left.
fn ticks_of_y(root: &Area<'_>, x: Axis, y: Axis, wanted: usize) -> Drawn {
    let line = BLACK.stroke_width(2);
    for tick in y.ticks(wanted) {
        let (at, length) = (y.at(tick.value), if tick.label.is_some() { 12 } else { 6 });
        root.draw(&PathElement::new(vec![(x.from, at), (x.from + length, at)], line))?;
        root.draw(&PathElement::new(vec![(x.to, at), (x.to - length, at)], line))?;
        if let Some(label) = tick.label {
            text(root, &label, TICK_SIZE, (x.from - 10, at + 1), HPos::Right, VPos::Center)?;
        }
    }
    Ok(())
}

fn font(size: i32) -> TextStyle<'static> {
    // plotters divides by 1.24 on the way to SVG.
    TextStyle::from((FONT, 1.24 * f64::from(size)).into_font())
}

fn text(root: &Area<'_>, words: &str, size: i32, at: (i32, i32), h: HPos, v: VPos) -> Drawn {
    Ok(root.draw_text(words, &font(size).pos(Pos::new(h, v)), at)?)
}

/// Text that reads upwards.
fn upright(root: &Area<'_>, words: &str, at: (i32, i32), along: HPos) -> Drawn {
    let style = font(LABEL_SIZE).transform(FontTransform::Rotate270).pos(Pos::new(along, VPos::Center));
    Ok(root.draw_text(words, &style, at)?)
}
