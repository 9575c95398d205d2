//! What is known of each stage, and where all of it comes from: keys, inputs, parameters, files, texts of the pipeline.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;

use super::{
    super::text::{bytes, number, seconds},
    Report, Stage,
};
use crate::{digest::Digest, plan::named_metrics, store::Record};

/// A card for each stage, closed until it is asked for.
pub(super) fn section(report: &Report<'_>, stages: &BTreeMap<usize, Stage<'_>>) -> Markup {
    let names: Vec<&str> = report.pipeline.stages.iter().map(|declared| declared.name.as_str()).collect();
    html! {
        section id="stages" {
            h2 { "Stages" }
            @for (index, stage) in stages {
                details class={ "stage " (stage.status.class()) } id={ "stage-" (index) } {
                    summary {
                        span class={ "swatch " (stage.status.class()) } {}
                        strong { (stage.declared.name) } " "
                        span.faint {
                            (stage.declared.stage.kind()) ", " (stage.status.in_words())
                            @if let Some(record) = stage.record { ", " (seconds(record.provenance.seconds)) }
                        }
                    }
                    @if !stage.inputs.is_empty() {
                        p { "Takes "
                            @for (at, (role, from)) in stage.inputs.iter().enumerate() {
                                @if at > 0 { ", " }
                                (role) ": " a href={ "#stage-" (from) } { (names[*from]) }
                            }
                        }
                    }
                    @if let Some(record) = stage.record { (card(record, stage)) }
                    @else { p { "It has no result as it stands." } }
                }
            }
        }
    }
}

fn card(record: &Record, stage: &Stage<'_>) -> Markup {
    let how = &record.provenance;
    let sources = how.sources.iter().map(|(field, path)| {
        let digest = record.material.sources.get(field).map_or_else(String::new, Digest::to_string);
        (format!("source {field}"), path.display().to_string(), digest)
    });
    let files = record.outputs.iter().map(|(name, output)| {
        ("file".to_owned(), format!("{name}, {}", bytes(output.size)), output.digest.to_string())
    });
    html! {
        dl {
            dt { "key" } dd { code { (record.key) } }
            dt { "made" } dd { (how.started) " in " (seconds(how.seconds)) ", on " (how.device) " (" (how.host) ")" }
            dt { "by" } dd { "pgan-pipe " (how.version) ", version " (record.material.version) " of its kind, seed " (record.material.seed) }
            @for (what, name, digest) in sources.chain(files) {
                dt { (what) } dd { (name) " " code.digest { (digest) } }
            }
            @for notice in &record.notices { dt { "notice" } dd { (notice) } }
        }
        div.columns {
            (parameters(&record.material.parameters))
            (numbers(&named_metrics(&stage.declared.models, &record.metrics)))
        }
    }
}

/// Parameters, those within others with their path.
fn parameters(parameters: &Value) -> Markup {
    let mut rows = Vec::new();
    let mut left = vec![(String::new(), parameters)];
    while let Some((path, value)) = left.pop() {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let below = |(name, value)| {
                    (if path.is_empty() { String::clone(name) } else { format!("{path}.{name}") }, value)
                };
                left.extend(fields.iter().rev().map(below));
            }
            Value::Null => {}
            Value::String(text) => rows.push((path, text.clone())),
            value => rows.push((path, value.to_string())),
        }
    }
    table("Parameters, with defaults", &rows)
}

fn numbers(metrics: &BTreeMap<String, f64>) -> Markup {
    let rows: Vec<(String, String)> = metrics.iter().map(|(name, value)| (name.clone(), number(*value))).collect();
    table("Numbers", &rows)
}

fn table(title: &str, rows: &[(String, String)]) -> Markup {
    html! {
        @if !rows.is_empty() {
            div.scroll.tall {
                table.plain {
                    caption { (title) }
                    @for (name, value) in rows { tr { th scope="row" { (name) } td { (value) } } }
                }
            }
        }
    }
}

/// The latest run, and the texts that the pipeline was read from.
pub(super) fn provenance(report: &Report<'_>) -> Markup {
    html! {
        section id="provenance" {
            h2 { "Provenance" }
            dl {
                @if let Some(run) = report.run {
                    dt { "latest run" } dd { (run.started) " " code { (run.id) } }
                    dt { "command" } dd { code { (run.argv.join(" ")) } }
                }
                @if !report.pipeline.overrides().is_empty() {
                    dt { "with" } dd { @for set in report.pipeline.overrides() { code { "--set " (set) } " " } }
                }
                dt { "page by" } dd { "pgan-pipe " (env!("CARGO_PKG_VERSION")) }
            }
            @for (path, text) in report.pipeline.files() {
                details {
                    summary { (path.display()) }
                    pre { (text) }
                }
            }
        }
    }
}
