//! The reference as Markdown, a page for each stage kind.

use pgan_pipe::{
    metrics::{Against, METRICS},
    pipeline::schema::options::{self, Field, Options},
    stage::Stage,
};

const NOTE: &str =
    "<!-- Written by `pgan-pipe schema --reference docs/reference`; a test holds it to the types. -->\n\n";

/// All pages by their names.
pub(super) fn all() -> Vec<(String, String)> {
    let kinds = options::all().map(|(kind, options)| (format!("{kind}.md"), of_kind(kind, &options)));
    let others = [("README.md", index()), ("common.md", common()), ("metrics.md", metrics())];
    let others = others.map(|(name, text)| (name.to_owned(), text));
    others.into_iter().chain(kinds).map(|(name, text)| (name, format!("{NOTE}{text}"))).collect()
}

fn index() -> String {
    let kinds = options::all().map(|(kind, options)| {
        let summary = Stage::summary(kind).unwrap_or_default().trim_end_matches('.');
        format!("| [`{kind}`]({kind}.md) | {summary} | {} |\n", options.makes.unwrap_or_default())
    });
    format!(
        "# Reference\n\nThe stage kinds of a pipeline, made from the types that the program reads them into. `pgan-pipe schema KIND` prints \
         a page of it, `pgan-pipe schema` the JSON schema for editors; [PIPELINES.md](../PIPELINES.md) is about the rest of the file.\n\n\
         | kind | does | makes |\n|---|---|---|\n{}\n[Fields of all stages](common.md), [metrics](metrics.md). Examples take stages with \
         the names of [the README's pipeline](../../README.md#a-pipeline).\n",
        kinds.collect::<String>()
    )
}

fn of_kind(kind: &str, options: &Options) -> String {
    let makes = options.makes.map(|what| format!("\n\nMakes {what}.")).unwrap_or_default();
    let example = options.example.as_ref().map(|yaml| format!("\n```yaml\n{yaml}```\n")).unwrap_or_default();
    format!(
        "# `{kind}`\n\n{}{makes}\n{example}\n{}\nAnd [what any stage may have](common.md).\n",
        options.about,
        fields(options)
    )
}

fn common() -> String {
    format!(
        "# Fields of all stages\n\nBeside those of its kind. None but `seed` changes a result, and `matrix` only by the values that it puts \
         in.\n\n{}",
        fields(&options::common())
    )
}

fn fields(options: &Options) -> String {
    let row = |field: &Field| {
        let default = match &field.default {
            Some(default) => format!("`{default}`"),
            None if field.needed => "needed".to_owned(),
            None => String::new(),
        };
        format!("| `{}` | {} | {default} | {} |\n", field.path, cell(&field.takes), cell(&field.about))
    };
    let named = options.fields.iter().filter(|field| !field.choices.is_empty()).map(|field| {
        let choices = field.choices.iter().map(|(name, about)| format!("- `{name}`: {about}\n"));
        format!("\n`{}` is one of\n\n{}", field.path, choices.collect::<String>())
    });
    format!(
        "| field | takes | if left out | is |\n|---|---|---|---|\n{}{}",
        options.fields.iter().map(row).collect::<String>(),
        named.collect::<String>()
    )
}

/// A text in the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("\n\n", "<br>")
}

fn metrics() -> String {
    let sections = METRICS.iter().map(|metric| {
        let against = if metric.against == Against::Truth { " Its floor is the test events." } else { "" };
        let gives = metric.gives.iter().map(|(name, about)| format!("| `{name}` | {} |\n", cell(about)));
        format!(
            "\n## `{}`\n\n{}{against}\n\n| number | is |\n|---|---|\n{}",
            metric.name,
            metric.summary,
            gives.collect::<String>()
        )
    });
    format!(
        "# Metrics\n\nWhat [`evaluate`](evaluate.md) measures; its `metrics` takes these names. Numbers are named `MODEL.NUMBER`, and \
         `floor.NUMBER` for what a perfect model would score: as many training events as are generated, judged in a model's place. A \
         number that the events do not determine is absent. In the names `OBSERVABLE` is each observable, `U` a share of the events \
         and `EDGE` the edge of a bin.\n{}",
        sections.collect::<String>()
    )
}
