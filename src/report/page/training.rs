//! The training curves of each stage that trains: losses in one figure, a discriminator's mean logits in one, and one for each other number.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::{
    super::plot::{Curve, Size, curves_plot},
    Report, ReportError, Stage,
    figure::figure,
};
use crate::train::history::{History, Series};

/// So many stages are shown at once; of more, each on demand.
const OPEN: usize = 4;

/// The section, if any stage of the first replica has curves.
pub(super) fn section(report: &Report<'_>, stages: &BTreeMap<usize, Stage<'_>>) -> Result<Option<Markup>, ReportError> {
    let mut trained: Vec<(&str, Vec<Markup>)> = Vec::new();
    for stage in stages.values().filter(|stage| stage.declared.replica == 1) {
        let Some(path) = stage.record.and_then(|record| report.file(record, History::FILE)) else { continue };
        let history = History::load(&path)?;
        let mut figures = Vec::new();
        for series in &history.series {
            figures.extend(curves(series, history.series.len() > 1)?);
        }
        if !figures.is_empty() {
            trained.push((&stage.declared.name, figures));
        }
    }
    if trained.is_empty() {
        return Ok(None);
    }
    let open = trained.len() <= OPEN;
    Ok(Some(html! {
        section id="training" {
            h2 { "Training" }
            p.note { "Means over the steps since the point before. Of replicas, the first." }
            @for (name, figures) in trained {
                details open[open] {
                    summary { (name) }
                    div.figures.small { @for figure in figures { (figure) } }
                }
            }
        }
    }))
}

/// The figures of a loop.
fn curves(series: &Series, several: bool) -> Result<Vec<Markup>, ReportError> {
    let (losses, others): (Vec<&String>, Vec<&String>) = series.values.keys().partition(|name| name.ends_with("loss"));
    let (logits, others): (Vec<&String>, Vec<&String>) =
        others.into_iter().partition(|name| name.starts_with("d_real") || name.starts_with("d_fake"));
    let groups = [losses, logits].into_iter().chain(others.into_iter().map(|name| vec![name]));
    let mut figures = Vec::new();
    for group in groups {
        let points: Vec<Vec<(u64, f64)>> = group.iter().map(|name| series.points(name).collect()).collect();
        let named = group.iter().zip(&points);
        let curves: Vec<Curve<'_>> = named.map(|(name, points)| Curve { name, points }).collect();
        if let Some(svg) = curves_plot(&curves, Size::Compact)? {
            figures.push(figure(&svg, if several { &series.name } else { "" }));
        }
    }
    Ok(figures)
}
