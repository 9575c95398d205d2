//! A live display: a line for each running stage, with its steps, rate, time left and losses.

use std::{collections::BTreeMap, fmt, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use pgan_pipe::run::Event;

use super::{Reporter, Verbosity, failure, finished, plain::values_in_words};
use crate::cli::{
    output,
    plan::reasons,
    text::{bytes as in_words, count, seconds},
};

pub(super) struct Terminal {
    verbosity: Verbosity,
    color: bool,
    display: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
}

impl Terminal {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, color: output::color(), display: MultiProgress::new(), bars: BTreeMap::new() }
    }

    /// A line above the running stages, with its first word in a colour.
    fn line(&self, word: &str, ansi: u8, rest: &str) {
        let word = if self.color { format!("\x1b[{ansi}m{word:>9}\x1b[0m") } else { format!("{word:>9}") };
        // The display refuses only if standard error is closed.
        let _ = self.display.println(format!("{word} {rest}"));
    }

    fn remove(&mut self, stage: &str) {
        if let Some(bar) = self.bars.remove(stage) {
            bar.finish_and_clear();
            self.display.remove(&bar);
        }
    }

    fn waiting(stage: &str, message: String) -> ProgressBar {
        let bar = ProgressBar::new_spinner().with_prefix(stage.to_owned()).with_message(message);
        bar.set_style(style("{spinner:>9} {prefix} {elapsed} {wide_msg}"));
        bar
    }
}

fn style(template: &str) -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let rate = state.per_sec();
        let decimals = usize::from(rate < 10.0);
        let _ = write!(out, "{rate:.decimals$}/s");
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("rate", rate)
}

impl Reporter for Terminal {
    fn event(&mut self, event: &Event) {
        match event {
            Event::StageStarted { stage, key, why, .. } => {
                self.remove(stage);
                if self.verbosity == Verbosity::Verbose {
                    self.line("start", 36, &format!("{stage} {} ({})", key.digest().short(), reasons(why)));
                }
                let bar = self.display.add(Self::waiting(stage, String::new()));
                bar.enable_steady_tick(Duration::from_millis(120));
                self.bars.insert(stage.clone(), bar);
            }
            Event::StageProgress { stage, step, steps, values } => {
                let Some(bar) = self.bars.get(stage) else { return };
                if bar.length() != Some(*steps) {
                    bar.set_length(*steps);
                    bar.set_style(style("{percent:>8}% {prefix} {bar:24} {pos}/{len} {rate} {eta} left{wide_msg}"));
                }
                bar.set_position(*step);
                bar.set_message(values_in_words(values));
            }
            Event::StageNotice { stage, message } => self.line("note", 33, &format!("{stage}: {message}")),
            Event::StageResumed { stage, step, steps } => {
                self.line("note", 33, &format!("{stage}: goes on from step {step} of {steps}"));
            }
            Event::StageWaiting { stage, holder } => {
                self.remove(stage);
                let bar = self.display.add(Self::waiting(stage, format!("waiting for {holder}")));
                bar.enable_steady_tick(Duration::from_millis(120));
                self.bars.insert(stage.clone(), bar);
            }
            Event::StageCached { stage, from, .. } => {
                self.remove(stage);
                self.line(if from.is_some() { "pulled" } else { "cached" }, 2, stage);
            }
            Event::StagePulling { stage, bytes, .. } => {
                self.remove(stage);
                let bar = self.display.add(Self::waiting(stage, format!("pulling {}", in_words(*bytes))));
                bar.enable_steady_tick(Duration::from_millis(120));
                self.bars.insert(stage.clone(), bar);
            }
            Event::StagePushed { stage, .. } => {
                if self.verbosity == Verbosity::Verbose {
                    self.line("pushed", 2, stage);
                }
            }
            Event::RemoteWaiting { results } => {
                self.line("pushing", 36, &format!("{} to the remote", count(*results, "result")));
            }
            Event::RemoteTrouble { message } => self.line("warning", 33, message),
            Event::StageFinished { stage, seconds: took, .. } => {
                self.remove(stage);
                self.line("done", 32, &format!("{stage} in {}", seconds(*took)));
            }
            Event::StageFailed { stage, .. } => {
                self.remove(stage);
                self.line("failed", 31, &failure(event).unwrap_or_default());
            }
            Event::RunFinished { .. } => {
                // What is left belongs to stages that were stopped.
                for stage in self.bars.keys().cloned().collect::<Vec<_>>() {
                    self.remove(&stage);
                }
                self.line("finished", 1, &finished(event).unwrap_or_default());
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
    }
}
