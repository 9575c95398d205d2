//! A live display: a line for each running stage, with its steps, rate, time left and losses, and below them how far the run has come.
//! What is over stands above, a line for each stage; cached ones share a line.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use pgan_pipe::run::Event;

use super::{
    Members, Reporter, Verbosity, failure, finished,
    layout::{self, Training, fit, whole},
    pace::Pace,
};
use crate::cli::{
    output::{self, Styled},
    plan::reasons,
    text::{bytes as in_words, count, seconds, several},
};

/// The width of what stands beside the name of a stage that is over.
const BESIDE: usize = 32;

const DIM: u8 = 2;
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;

pub(super) struct Terminal {
    verbosity: Verbosity,
    members: Members,
    color: bool,
    display: MultiProgress,
    running: BTreeMap<String, Running>,
    /// The last line, where there are several stages.
    total: Option<ProgressBar>,
    /// Stages that were cached and are not told yet.
    cached: Vec<String>,
    /// How long stages took.
    times: BTreeMap<String, f64>,
    done: usize,
    failed: usize,
}

/// A stage that runs, or is waited for.
struct Running {
    bar: ProgressBar,
    pace: Pace,
    trains: bool,
}

impl Terminal {
    pub(super) fn new(verbosity: Verbosity, members: Members) -> Self {
        let display = MultiProgress::new();
        let total = (members.len() > 1).then(|| {
            let bar = display.add(ProgressBar::new_spinner());
            bar.set_style(style("{msg}, {time}"));
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        let terminal = Self {
            verbosity,
            members,
            color: output::color(),
            display,
            running: BTreeMap::new(),
            total,
            cached: Vec::new(),
            times: BTreeMap::new(),
            done: 0,
            failed: 0,
        };
        terminal.count();
        terminal
    }

    /// The width of names beside a bar.
    fn names(&self) -> usize {
        self.members.name_width().min(usize::from(width()) / 3)
    }

    /// A line above the running stages, with a sign in a colour.
    fn line(&mut self, sign: &str, ansi: u8, rest: &str) {
        self.tell_cached();
        self.print(Styled::painted(sign, ansi, self.color) + " " + rest);
    }

    fn print(&self, line: Styled) {
        // The display refuses only if standard error is closed.
        let _ = self.display.println(line.into_string());
    }

    /// A line of a stage that is over.
    fn over(&mut self, sign: &str, ansi: u8, stage: &str, how: &str) {
        let names = self.members.name_width().min(usize::from(width()).saturating_sub(BESIDE));
        let line = format!("{}  {:<13}  {how}", fit(stage, names), self.members.kind(stage));
        self.line(sign, ansi, &line);
    }

    /// Says which stages were cached, in a line.
    fn tell_cached(&mut self) {
        if !self.cached.is_empty() {
            let cached = std::mem::take(&mut self.cached);
            let text = format!("· cached: {}", several(&cached));
            self.print(Styled::painted(&text, DIM, self.color));
        }
    }

    /// Says how far the run has come.
    fn count(&self) {
        let Some(total) = &self.total else { return };
        let mut text = Styled::plain(&format!("  {} of {}", self.done, count(self.members.len(), "stage")));
        if !self.running.is_empty() {
            text += &*format!(", {} running", self.running.len());
        }
        if self.failed > 0 {
            text = text + ", " + Styled::painted(&format!("{} failed", self.failed), RED, self.color);
        }
        total.set_message(text.into_string());
    }

    /// Shows a stage that is at work, and how.
    fn begin(&mut self, stage: &str, how: &str) {
        self.remove(stage);
        let text = Styled::plain(&fit(stage, self.names())) + "  " + how;
        let bar = ProgressBar::new_spinner().with_message(text.into_string());
        bar.set_style(style("{spinner} {msg}  {time}"));
        let bar = match &self.total {
            Some(total) => self.display.insert_before(total, bar),
            None => self.display.add(bar),
        };
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running.insert(stage.to_owned(), Running { bar, pace: Pace::default(), trains: false });
        self.count();
    }

    fn remove(&mut self, stage: &str) {
        if let Some(running) = self.running.remove(stage) {
            running.bar.finish_and_clear();
            self.display.remove(&running.bar);
        }
    }

    fn step(&mut self, stage: &str, step: u64, steps: u64, values: &BTreeMap<String, f64>) {
        let names = self.names();
        let Some(running) = self.running.get_mut(stage) else { return };
        if !running.trains {
            running.trains = true;
            running.bar.set_style(style("{spinner} {wide_msg}"));
        }
        let pace = running.pace.at(Instant::now(), step, steps);
        let training = Training { name: stage, step, steps, pace, values };
        let width = usize::from(width()).saturating_sub(3);
        running.bar.set_message(layout::training(&training, names, width, self.color).into_string());
    }
}

fn width() -> u16 {
    Term::stderr().size().1
}

fn style(template: &str) -> ProgressStyle {
    let time = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = write!(out, "{}", whole(state.elapsed().as_secs_f64().floor()));
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("time", time)
}

impl Reporter for Terminal {
    fn event(&mut self, event: &Event) {
        match event {
            Event::StageStarted { stage, kind, key, why } => {
                if self.verbosity == Verbosity::Verbose {
                    self.line("→", CYAN, &format!("{stage} {} ({})", key.digest().short(), reasons(why)));
                }
                self.begin(stage, kind);
            }
            Event::StageProgress { stage, step, steps, values } => self.step(stage, *step, *steps, values),
            Event::StageNotice { stage, message } => self.line("!", YELLOW, &format!("{stage}: {message}")),
            Event::StageResumed { stage, step, steps } => {
                self.line("!", YELLOW, &format!("{stage}: goes on from step {step} of {steps}"));
            }
            Event::StageWaiting { stage, holder } => self.begin(stage, &format!("waiting for {holder}")),
            Event::StagePulling { stage, bytes, .. } => self.begin(stage, &format!("pulling {}", in_words(*bytes))),
            Event::StageCached { stage, from, .. } => {
                self.remove(stage);
                self.done += 1;
                match from {
                    Some(_) => self.over("↓", CYAN, stage, "pulled"),
                    None => self.cached.push(stage.clone()),
                }
                self.count();
            }
            Event::StagePushed { stage, .. } => {
                if self.verbosity == Verbosity::Verbose {
                    self.over("↑", CYAN, stage, "pushed");
                }
            }
            Event::RemoteWaiting { results } => {
                self.line("↑", CYAN, &format!("waiting for {} to be pushed", count(*results, "result")));
            }
            Event::RunNotice { message } => self.line("·", CYAN, message),
            Event::RemoteTrouble { message } => self.line("!", YELLOW, &format!("warning: {message}")),
            Event::StageFinished { stage, seconds: took, .. } => {
                self.remove(stage);
                self.done += 1;
                self.times.insert(stage.clone(), *took);
                self.over("✓", GREEN, stage, &format!("{:>11}", seconds(*took)));
                self.count();
            }
            Event::StageFailed { stage, .. } => {
                self.remove(stage);
                self.failed += 1;
                self.line("✗", RED, &failure(event).unwrap_or_default());
                self.count();
            }
            Event::RunFinished { .. } => {
                self.tell_cached();
                // What is left belongs to stages that were stopped.
                for stage in self.running.keys().cloned().collect::<Vec<_>>() {
                    self.remove(&stage);
                }
                if let Some(total) = self.total.take() {
                    total.finish_and_clear();
                }
                self.print(Styled::plain(&finished(event, &self.times).unwrap_or_default()));
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for running in self.running.values() {
            running.bar.finish_and_clear();
        }
        if let Some(total) = &self.total {
            total.finish_and_clear();
        }
    }
}
