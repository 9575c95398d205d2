//! A section for each evaluation, or for the study that brings several together: what is concluded, the table, and the figures.

use std::collections::{BTreeMap, HashSet};

use maud::{Markup, html};

use super::{
    super::{
        Evaluation,
        plot::{self, PlotError},
        study, table,
    },
    Report, ReportError, Stage, correlations,
    figure::figure,
    metrics, prose,
};
use crate::stage::Stage as Kind;

/// A section with its place in the page.
pub(super) struct Judgement {
    pub(super) title: String,
    pub(super) anchor: String,
    /// Whether the last model beats the first one, in words.
    pub(super) said: String,
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
    let figures = evaluation.as_ref().map(|evaluation| Figures::of(evaluation, names)).transpose()?.unwrap_or_default();
    let joint = evaluation.as_ref().and_then(|evaluation| Some((evaluation, evaluation.joint.as_ref()?)));
    let joint = joint.map(|(evaluation, joint)| correlations::markup(joint, evaluation, names, index)).transpose()?;
    let anchor = format!("judged-{index}");
    let markup = html! {
        section id=(anchor) {
            h2 { (declared.name) }
            p.verdict { (prose(&said)) }
            p.note { "From the stage " a href={ "#stage-" (index) } { (declared.name) } ", key " code { (record.key.short()) } "." }
            div.judged {
                div { (metrics::table(found, names)) }
                div.figures.tail { @for figure in figures.tail { (figure) } }
            }
            @if !comparisons.is_empty() { (paired_table(&comparisons)) }
            @if let Some(svg) = &paired { div.wide { (figure(svg, "")) } }
            @if !figures.others.is_empty() {
                h3 { "Observables" }
                div.figures { @for figure in figures.others { (figure) } }
            }
            @if let Some(joint) = joint { (joint) }
        }
    };
    Ok(Some(Judgement { title: declared.name.clone(), anchor, said, markup }))
}

/// The figures of an evaluation.
#[derive(Default)]
struct Figures {
    /// Of the observable that the tail is cut in.
    tail: Vec<Markup>,
    others: Vec<Markup>,
}

impl Figures {
    fn of(evaluation: &Evaluation, names: &[String]) -> Result<Self, PlotError> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tail = evaluation.tail.as_ref().map(|tail| tail.observable.as_str());
        let mut figures = Self::default();
        for histograms in &evaluation.observables {
            let observable = histograms.observable.as_str();
            let kept = if Some(observable) == tail { &mut figures.tail } else { &mut figures.others };
            // A test sample may hold no event in an observable's usual bins.
            match plot::ratio_plot(evaluation, observable, &names, plot::Size::Compact) {
                Err(PlotError::Empty(_)) => {}
                svg => kept.push(figure(&svg?, observable)),
            }
        }
        if let Some(quantiles) = &evaluation.quantiles
            && let Some(svg) = plot::quantile_plot(quantiles, &names, plot::Size::Compact)?
        {
            figures.tail.push(figure(&svg, &format!("{}: quantiles of the tail", quantiles.observable)));
        }
        Ok(figures)
    }
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
