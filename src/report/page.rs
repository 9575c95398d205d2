//! The report: one HTML page of a pipeline's results that needs nothing else. It is for screens of any width, light or dark, and for paper.
//!
//! Sections have files of their own; each takes records and files from the store, and gives markup. Figures are those of
//! [`plot`], drawn compactly and in the colours of the page.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Dag, EvaluationError, Mark,
    plot::{self, PlotError},
    text,
};
use crate::{
    digest::Digest,
    key::CacheKey,
    pipeline::{Declared, Pipeline},
    plan::{Plan, PlannedStage, StageState},
    store::{LoggedRun, Record, Store},
    train::history::{History, HistoryError},
};

mod correlations;
mod figure;
mod judgement;
mod metrics;
mod stages;
mod training;

use judgement::Judgement;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// So many stages are listed beside the graph.
const FEW: usize = 16;

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// What of it is in the store.
    pub plan: &'a Plan,
    /// The store.
    pub store: &'a Store,
    /// Its latest run, if it has left a log.
    pub run: Option<&'a LoggedRun>,
}

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file of the store cannot be read as what it should be.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// A figure cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A file of the store cannot be read as training curves.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// How a stage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    /// The latest run made its result.
    Ran,
    /// Its result was there before.
    Cached,
    /// It has no result, and failed in the latest run.
    Failed,
    /// It has no result as it stands now.
    Missing,
}

impl Status {
    const ALL: [Self; 4] = [Self::Ran, Self::Cached, Self::Failed, Self::Missing];

    /// A class of the style sheet.
    fn class(self) -> &'static str {
        match self {
            Self::Ran => "ran",
            Self::Cached => "cached",
            Self::Failed => "failed",
            Self::Missing => "missing",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Ran => "ran in the latest run",
            Self::Cached => "taken from the cache",
            Self::Failed => "failed",
            Self::Missing => "not run as it stands",
        }
    }
}

/// A stage with what is known of it.
struct Stage<'a> {
    declared: &'a Declared,
    status: Status,
    record: Option<&'a Arc<Record>>,
    /// Its inputs: the role, and the index of the stage.
    inputs: &'a [(&'static str, usize)],
}

impl Report<'_> {
    /// All stages in the order in which they can run, by their index in the pipeline.
    fn stages(&self) -> BTreeMap<usize, Stage<'_>> {
        self.plan.stages.iter().map(|planned| (planned.index, self.stage(planned))).collect()
    }

    fn stage<'a>(&'a self, planned: &'a PlannedStage) -> Stage<'a> {
        let (status, record) = match &planned.state {
            StageState::Cached { key, record } => (self.status_of(&planned.name, *key), Some(record)),
            _ if self.run.is_some_and(|run| run.failed.contains(&planned.name)) => (Status::Failed, None),
            _ => (Status::Missing, None),
        };
        let declared = &self.pipeline.stages[planned.index];
        Stage { declared, status, record, inputs: &planned.inputs }
    }

    /// Whether the latest run made this result.
    fn status_of(&self, stage: &str, key: CacheKey) -> Status {
        let made = self.run.filter(|run| run.ran.contains(stage)).and_then(|run| run.stages.get(stage));
        if made == Some(&key) { Status::Ran } else { Status::Cached }
    }

    /// Where a file of a record lies, if the record has it.
    fn file(&self, record: &Record, name: &str) -> Option<PathBuf> {
        record.outputs.get(name).map(|output| self.store.object(output.digest))
    }

    /// The objects that a page reads, with the stages that made them: whoever wants a page compares them with their digests first.
    pub fn sources(&self) -> Vec<(&str, Digest)> {
        let files = [super::Evaluation::FILE, History::FILE];
        let of = |planned: &PlannedStage| match &planned.state {
            StageState::Cached { record, .. } => {
                files.iter().filter_map(|file| Some(record.outputs.get(*file)?.digest)).collect()
            }
            _ => Vec::new(),
        };
        let stages = self.plan.stages.iter();
        stages.flat_map(|planned| of(planned).into_iter().map(|digest| (planned.name.as_str(), digest))).collect()
    }

    /// Renders the page. The same results give the same bytes.
    pub fn page(&self) -> Result<String, ReportError> {
        let stages = self.stages();
        let judgements = judgement::sections(self, &stages)?;
        let training = training::section(self, &stages)?;
        let name = &self.pipeline.name;
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content={ "pgan-pipe " (env!("CARGO_PKG_VERSION")) };
                    title { (name) }
                    link rel="icon" href="data:,";
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { (name) }
                        nav {
                            @for judgement in &judgements { a href={ "#" (judgement.anchor) } { (judgement.title) } }
                            @if training.is_some() { a href="#training" { "training" } }
                            a href="#stages" { "stages" }
                            a href="#provenance" { "provenance" }
                        }
                    }
                    main {
                        (self.overview(&stages, &judgements))
                        @for judgement in &judgements { (judgement.markup) }
                        @if let Some(training) = training { (training) }
                        (stages::section(self, &stages))
                        (stages::provenance(self))
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        Ok(page.into_string())
    }

    /// The graph, with the state of each stage, and what is concluded.
    fn overview(&self, stages: &BTreeMap<usize, Stage<'_>>, judgements: &[Judgement]) -> Markup {
        let dag = Dag::of(self.pipeline);
        let mark = |members: &[usize]| {
            let states = members.iter().filter_map(|member| stages.get(member)).map(|stage| stage.status);
            // What is worst of a family is what to look at; of a mixture of made and cached ones, that some were made.
            let status = states.clone().filter(|status| *status >= Status::Failed).max().or(states.min());
            let status = status.unwrap_or(Status::Missing);
            let first = members.first().copied().unwrap_or_default();
            Mark { class: status.class(), anchor: format!("stage-{first}"), title: status.in_words().to_owned() }
        };
        let marks: Vec<Mark> = dag.nodes.iter().map(|node| mark(&node.members)).collect();
        let present = |status: &Status| stages.values().any(|stage| stage.status == *status);
        let spent: f64 = stages.values().filter_map(|stage| Some(stage.record?.provenance.seconds)).sum();
        html! {
            section.overview id="graph" {
                div {
                    div.graph { (PreEscaped(figure::themed(&dag.svg(&marks)))) }
                    p.key {
                        @for status in Status::ALL.iter().filter(|status| present(status)) {
                            span class={ "swatch " (status.class()) } {}
                            (status.in_words()) " "
                        }
                    }
                }
                div {
                    @for judgement in judgements {
                        h2 { a href={ "#" (judgement.anchor) } { (judgement.title) } }
                        p.verdict { (prose(&judgement.said)) }
                    }
                    @if judgements.is_empty() { p.verdict { "Nothing has been evaluated as the pipeline stands." } }
                    p.note {
                        (stages.len()) " stages, " (text::seconds(spent)) " of computing in all."
                        @if let Some(run) = self.run { " Latest run: " (run.started) "." }
                    }
                    @if stages.len() <= FEW { (listed(stages)) }
                }
            }
        }
    }
}

/// Stages in a table: what they are, and how long they took.
fn listed(stages: &BTreeMap<usize, Stage<'_>>) -> Markup {
    html! {
        table.run {
            @for (index, stage) in stages {
                tr {
                    td { span class={ "swatch " (stage.status.class()) } {} a href={ "#stage-" (index) } { (stage.declared.name) } }
                    td.faint { (stage.declared.stage.kind()) }
                    td { @if let Some(record) = stage.record { (text::seconds(record.provenance.seconds)) } }
                }
            }
        }
    }
}

/// Text with what stands between backticks as code.
fn prose(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// The figures of an evaluation as documents, with the names of their files: for whoever wants them by themselves.
pub fn figures(
    evaluation: &super::Evaluation,
    names: &[String],
    size: plot::Size,
) -> Result<Vec<(String, String)>, PlotError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut figures = Vec::new();
    for histograms in &evaluation.observables {
        match plot::ratio_plot(evaluation, &histograms.observable, &names, size) {
            // A test sample may hold no event in an observable's usual bins: the others have their figures all the same.
            Err(PlotError::Empty(_)) => {}
            svg => figures.push((histograms.observable.clone(), svg?)),
        }
    }
    if let Some(quantiles) = &evaluation.quantiles
        && let Some(svg) = plot::quantile_plot(quantiles, &names, size)?
    {
        figures.push((format!("{}-quantiles", quantiles.observable), svg));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Evaluation,
            evaluation::{Events, Histograms},
        },
        *,
    };
    use crate::metrics::Binning;

    #[test]
    fn an_observable_without_test_events_in_its_bins_does_not_keep_the_others_from_being_drawn() {
        let histograms = |observable: &str, counts: [u64; 2]| Histograms {
            observable: observable.to_owned(),
            binning: Binning::uniform(2, 0.0, 2.0).unwrap(),
            test: counts.to_vec(),
            floor: counts.to_vec(),
            models: vec![counts.to_vec()],
        };
        let evaluation = Evaluation {
            format: Evaluation::FORMAT,
            events: Events { test: 10, generated: 10, floor: 10 },
            tail: None,
            observables: vec![histograms("outside", [0, 0]), histograms("inside", [4, 6])],
            spectra: Vec::new(),
            quantiles: None,
            joint: None,
        };
        let drawn = figures(&evaluation, &["model".to_owned()], plot::Size::Compact).unwrap();
        assert_eq!(drawn.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["inside"]);
    }
}
