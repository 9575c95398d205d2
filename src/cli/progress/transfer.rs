//! How far a push or pull has come: a bar on a terminal, now and then a line elsewhere, JSON lines for programs.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use pgan_pipe::remote::Progress;
use serde_json::json;

use crate::cli::{
    output::{say, write_json},
    text::bytes,
};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(10);
/// Between two lines of JSON.
const OFTEN: Duration = Duration::from_secs(1);

/// Shows a transfer.
pub(in crate::cli) struct Transfer {
    verb: &'static str,
    shape: Shape,
    told: Instant,
}

enum Shape {
    Quiet,
    Bar(ProgressBar),
    Lines,
    Json,
}

impl Transfer {
    pub(in crate::cli) fn new(verb: &'static str, quiet: bool, json: bool) -> Self {
        let shape = match (json, quiet) {
            (true, _) => Shape::Json,
            (false, true) => Shape::Quiet,
            (false, false) if stderr().is_terminal() => {
                let bar = ProgressBar::new(0);
                let style = ProgressStyle::with_template(
                    "{percent:>8}% {msg} {bar:24} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left",
                );
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                Shape::Bar(bar)
            }
            (false, false) => Shape::Lines,
        };
        Self { verb, shape, told: Instant::now() }
    }

    pub(in crate::cli) fn show(&mut self, progress: &Progress) {
        let (done, all) = (progress.bytes() + progress.there_bytes(), progress.of_bytes());
        let (objects, of_objects) = (progress.objects() + progress.there(), progress.of_objects());
        match &self.shape {
            Shape::Bar(bar) => {
                bar.set_length(all);
                bar.set_position(done);
                bar.set_message(format!("{} {objects}/{of_objects}", self.verb));
            }
            Shape::Lines if self.told.elapsed() >= EVERY => {
                self.told = Instant::now();
                say(&format!("{} {objects} of {of_objects} objects, {} of {}", self.verb, bytes(done), bytes(all)));
            }
            Shape::Json if self.told.elapsed() >= OFTEN => {
                self.told = Instant::now();
                // The last line, which tells of all, fails as this one does.
                let _ = write_json([json!({
                    "event": "transfer_progress", "objects": objects, "of_objects": of_objects, "bytes": done, "of_bytes": all,
                })]);
            }
            Shape::Quiet | Shape::Lines | Shape::Json => {}
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Shape::Bar(bar) = &self.shape {
            bar.finish_and_clear();
        }
    }
}
