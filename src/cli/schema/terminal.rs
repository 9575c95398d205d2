//! The reference on a terminal.

use pgan_pipe::{
    metrics::METRICS,
    pipeline::schema::options::{Field, Options},
};

use crate::cli::text::wrapped;

/// Columns of text.
const WIDTH: usize = 100;

/// The fields of a stage kind.
pub(super) fn options(name: &str, summary: &str, options: &Options) -> String {
    let makes = options.makes.map(|what| format!("; it makes {what}")).unwrap_or_default();
    let mut text = wrapped(&format!("{name}: {}{makes}", summary.trim_end_matches('.')), WIDTH, "");
    if let Some(example) = &options.example {
        text.push('\n');
        text.extend(example.lines().map(|line| format!("  {line}\n")));
    }
    for field in &options.fields {
        text += &["\n", &headline(field), "\n"].concat();
        text += &wrapped(&field.about, WIDTH, "      ");
        for (choice, about) in &field.choices {
            text += &wrapped(&format!("{choice}: {about}"), WIDTH, "        ");
        }
    }
    text
}

fn headline(field: &Field) -> String {
    let default = match &field.default {
        Some(default) => format!("; {default} if left out"),
        None if field.needed => "; needed".to_owned(),
        None => String::new(),
    };
    format!("  {}: {}{default}", field.path, field.takes)
}

/// What `evaluate` measures.
pub(super) fn metrics() -> String {
    let mut text = wrapped(
        "metrics: what `evaluate` measures. Numbers are named MODEL.NUMBER, and floor.NUMBER for what a perfect model would score; \
         OBSERVABLE is each observable, U a share of the events, EDGE the edge of a bin.",
        WIDTH,
        "",
    );
    for metric in METRICS {
        text += &["\n  ", metric.name, "\n"].concat();
        text += &wrapped(metric.summary, WIDTH, "      ");
        for (name, about) in metric.gives {
            text += &wrapped(&format!("{name}: {about}"), WIDTH, "        ");
        }
    }
    text
}
