//! A section for each evaluation, or for the study that brings several together: what is concluded, the table, and the figures.

use std::collections::{BTreeMap, HashSet};

use maud::{Markup, html};

use super::{
    super::{Evaluation, plot, study, table},
    Report, ReportError, Stage, correlations,
    figure::figure,
    metrics, prose,
};
use crate::stage::Stage as Kind;

/// A section with its place in the page.
pub(super) struct Judgement {
    pub(super) title: String,
    pub(super) anchor: String,
    pub(super) markup: Markup,
}

/// The sections of all evaluations that have run and are in no study, and of all studies.
pub(super) fn sections(
    report: &Report<'_>,
    stages: &BTreeMap<usize, Stage<'_>>,
) -> Result<Vec<Judgement>, ReportError> {
    let studies = || stages.values().filter(|stage| matches!(stage.declared.stage, Kind::Aggregate(_)));
    let done = studies().filter(|stage| stage.record.is_some());
    let in_study: HashSet<usize> = done.flat_map(|stage| stage.inputs.iter().map(|(_, index)| *index)).collect();
    let shown = stages.iter().filter(|(index, _)| !in_study.contains(index));
    shown.filter_map(|(&index, stage)| section(report, index, stage).transpose()).collect()
}

fn section(report: &Report<'_>, index: usize, stage: &Stage<'_>) -> Result<Option<Judgement>, ReportError> {
    let (Some(record), declared) = (stage.record, stage.declared) else { return Ok(None) };
    let (names, found) = (&declared.models, &record.metrics);
    let (said, comparisons, paired) = match &declared.stage {
        Kind::Evaluate(_) => (table::conclusion(found, names), Vec::new(), None),
        Kind::Aggregate(study) => {
            let (primary, margin) = (study.primary, study.margin.get());
            let said = study::conclusion(found, names, primary, margin);
            (said, study::comparisons(found, names, primary), plot::paired_plot(found, names, primary, margin)?)
        }
        _ => return Ok(None),
    };
    let evaluation = report.file(record, Evaluation::FILE).map(|path| Evaluation::load(&path)).transpose()?;
    let anchor = format!("judged-{index}");
    let markup = html! {
        section id=(anchor) {
            h2 { (declared.name) }
            p.verdict { (prose(&said)) }
            (metrics::table(found, names))
            @if !comparisons.is_empty() { (paired_table(&comparisons)) }
            @if let Some(svg) = &paired { div.wide { (figure(svg, "")) } }
            @if let Some(evaluation) = &evaluation { (figures(evaluation, names, index)?) }
        }
    };
    Ok(Some(Judgement { title: declared.name.clone(), anchor, markup }))
}

fn figures(evaluation: &Evaluation, names: &[String], index: usize) -> Result<Markup, ReportError> {
    let short: Vec<&str> = names.iter().map(String::as_str).collect();
    // What the tail is cut in comes first.
    let tail = evaluation.tail.as_ref().map(|tail| tail.observable.as_str());
    let mut observables: Vec<&str> = evaluation.observables.iter().map(|one| one.observable.as_str()).collect();
    observables.sort_by_key(|name| Some(*name) != tail);
    let quantiles = match &evaluation.quantiles {
        Some(quantiles) => plot::quantile_plot(quantiles, &short, plot::Size::Compact)?,
        None => None,
    };
    let mut drawn: Vec<Markup> = Vec::new();
    for observable in observables {
        // A test sample may hold no event in an observable's usual bins.
        match plot::ratio_plot(evaluation, observable, &short, plot::Size::Compact) {
            Ok(svg) => drawn.push(figure(&svg, observable)),
            Err(plot::PlotError::Empty(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if Some(observable) == tail
            && let Some(svg) = &quantiles
        {
            drawn.push(figure(svg, &format!("{observable}: quantiles of the tail")));
        }
    }
    let joint = evaluation.joint.as_ref();
    let joint = joint.map(|joint| correlations::markup(joint, &evaluation.events, names, tail, index)).transpose()?;
    Ok(html! {
        h3 { "Observables" }
        div.figures { @for figure in drawn { (figure) } }
        @if let Some(joint) = joint { (joint) }
    })
}

fn paired_table(rows: &[[String; 5]]) -> Markup {
    html! {
        h3 { "Paired by seed" }
        div.scroll {
            table.metrics {
                @for (at, row) in rows.iter().enumerate() {
                    tr {
                        @for (column, cell) in row.iter().enumerate() {
                            @if at == 0 || column < 2 { th { (cell) } } @else { td { (cell) } }
                        }
                    }
                }
            }
        }
        p.note { "Ratios are geometric means; among many, some differ by chance: the primary one decides." }
    }
}
