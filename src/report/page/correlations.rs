//! Observables two by two: rank correlations of the test events, by how much each model's stray, and the density of any pair.

use maud::{Markup, html};

use super::{
    super::{
        evaluation::{Density, Evaluation, Events, Joint},
        plot::{PlotError, axis_label, density_image, pull_image},
    },
    figure::inline,
};
use crate::metrics::{Binning, correlation::pairs};

/// A matrix of more observables is no longer legible.
const MOST: usize = 24;
/// Differences of rank correlations are shown on a scale of at least this.
const LEAST_SCALE: f64 = 0.02;

/// Renders correlations and densities of the evaluation with this index in the page.
pub(super) fn markup(
    joint: &Joint,
    evaluation: &Evaluation,
    names: &[String],
    index: usize,
) -> Result<Markup, PlotError> {
    let tail = evaluation.tail.as_ref().map(|tail| tail.observable.as_str());
    let correlations = &joint.correlations;
    let differences = |of: &[Option<f64>]| {
        of.iter().zip(&correlations.test).map(|(of, test)| Some((*of)? - (*test)?)).collect::<Vec<_>>()
    };
    let floor = differences(&correlations.floor);
    let models: Vec<Vec<Option<f64>>> = correlations.models.iter().map(|of| differences(of)).collect();
    let scale = models.iter().flatten().flatten().map(|difference| difference.abs()).fold(LEAST_SCALE, f64::max);
    let is_first = |density: &Density| {
        tail.is_none_or(|tail| [density.x, density.y].iter().any(|&at| joint.observables[at] == tail))
    };
    let first = joint.densities.iter().position(is_first).unwrap_or(0);
    let shown = joint.observables.len().min(MOST);
    let matrix = |title: &str, values: &[Option<f64>], scale: f64, floor: Option<&[Option<f64>]>| {
        matrix(joint, index, title, values, scale, floor)
    };
    let mut viewer = Vec::new();
    for (at, density) in joint.densities.iter().enumerate() {
        viewer.push(pair(joint, density, &evaluation.events, names, &format!("pair-{index}-{at}"), at == first)?);
    }
    Ok(html! {
        h3 { "Correlations" }
        p.note {
            "Spearman's rank correlations of the test events, and by how much those of each model differ: orange above, blue below, "
            (format!("in full colour at {scale:.2}")) ". Choose a pair to see its density."
            @if shown < joint.observables.len() { (format!(" The first {MOST} of {} observables.", joint.observables.len())) }
        }
        div.matrices {
            (matrix("test events", &correlations.test, 1.0, None))
            @for (name, values) in names.iter().zip(&models) { (matrix(name, values, scale, Some(&floor))) }
        }
        div.pairs { @for pair in viewer { (pair) } }
    })
}

fn matrix(
    joint: &Joint,
    index: usize,
    title: &str,
    values: &[Option<f64>],
    scale: f64,
    floor: Option<&[Option<f64>]>,
) -> Markup {
    let count = joint.observables.len();
    let order: Vec<(usize, usize)> = pairs(count).collect();
    let at = |x: usize, y: usize| order.iter().position(|&pair| pair == (x.min(y), x.max(y)));
    let density =
        |x: usize, y: usize| joint.densities.iter().position(|density| (density.x, density.y) == (x.min(y), x.max(y)));
    let shown = count.min(MOST);
    let cell = |x: usize, y: usize| {
        let Some((place, value)) = at(x, y).and_then(|place| Some((place, values[place]?))) else {
            return html! { td {} };
        };
        let beside = floor.and_then(|floor| floor[place]).map(|floor| format!(" (real vs real {floor:+.3})"));
        let title =
            format!("{}, {}: {value:+.3}{}", joint.observables[x], joint.observables[y], beside.unwrap_or_default());
        let strength = (value.abs() / scale).min(1.0);
        let class = if value > 0.0 { "over" } else { "under" };
        html! {
            td class=(class) style=(format!("--s:{strength:.2}")) title=(title) {
                @if let Some(pair) = density(x, y) { a href={ "#pair-" (index) "-" (pair) } aria-label=(title) {} }
            }
        }
    };
    html! {
        figure {
            table.matrix {
                @for y in 0..shown {
                    tr {
                        th { (joint.observables[y]) " " (y + 1) }
                        @for x in 0..shown { @if x == y { td.diagonal {} } @else { (cell(x, y)) } }
                    }
                }
                tr { th {} @for x in 0..shown { th { (x + 1) } } }
            }
            figcaption { (title) @if floor.is_some() { " − test events" } }
        }
    }
}

/// The densities of a pair: of the test events and each model, and where the latter stray.
fn pair(
    joint: &Joint,
    density: &Density,
    events: &Events,
    names: &[String],
    anchor: &str,
    shown: bool,
) -> Result<Markup, PlotError> {
    let bins = |at: usize| joint.binnings.get(at).and_then(Option::as_ref);
    let (Some(across), Some(up)) = (bins(density.x), bins(density.y)) else { return Ok(html! {}) };
    let columns = across.edges().len() - 1;
    let (x, y) = (axis_label(&joint.observables[density.x]), axis_label(&joint.observables[density.y]));
    let panel = |caption: &str, image: String| {
        html! {
            figure.density {
                div.up { (ends(up).1) span { (y) } (ends(up).0) }
                img src=(image) alt=(format!("{caption}: {x} and {y}"));
                div.across { (ends(across).0) span { (x) } (ends(across).1) }
                figcaption { (caption) }
            }
        }
    };
    let mut panels = vec![panel("test events", inline(density_image(&density.test, columns))?)];
    for (name, counts) in names.iter().zip(&density.models) {
        panels.push(panel(name, inline(density_image(counts, columns))?));
        panels.push(panel(
            &format!("{name} − test events, in σ up to 5"),
            inline(pull_image(counts, &density.test, events, columns))?,
        ));
    }
    Ok(html! { div.pair.shown[shown] id=(anchor) { @for panel in panels { (panel) } } })
}

/// The ends of an axis, as they are written beside it.
fn ends(binning: &Binning) -> (String, String) {
    let edges = binning.edges();
    let number = |value: f64| {
        let size = value.abs();
        let text = if size >= 100.0 {
            format!("{value:.0}")
        } else if size >= 1.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.2}")
        };
        text.replace('-', "−")
    };
    (number(edges[0]), number(edges[edges.len() - 1]))
}
