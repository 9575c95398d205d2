//! Plain lines on standard error: at the start and the end of a stage, and now and then between.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, Instant},
};

use pgan_pipe::run::{Event, Origin};

use super::{Reporter, Verbosity, failure, finished};
use crate::cli::{
    output::say,
    plan::reasons,
    text::{bytes as in_words, count, number, seconds},
};

/// Less is pulled in a moment, in bytes.
const WORTH_A_WORD: u64 = 10_000_000;

pub(super) struct Plain {
    verbosity: Verbosity,
    pace: BTreeMap<String, Pace>,
}

/// When a stage last said something, and where its rate is counted from.
struct Pace {
    told: Instant,
    first: Option<(Instant, u64)>,
}

impl Plain {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, pace: BTreeMap::new() }
    }

    fn say(&self, line: &str) {
        if self.verbosity > Verbosity::Quiet {
            say(line);
        }
    }

    /// The line for a step, if it is time for one.
    fn step(&mut self, stage: &str, step: u64, steps: u64, values: &BTreeMap<String, f64>) -> Option<String> {
        let interval = Duration::from_secs(if self.verbosity == Verbosity::Verbose { 2 } else { 10 });
        let now = Instant::now();
        let pace = self.pace.get_mut(stage)?;
        let (since, from) = *pace.first.get_or_insert((now, step));
        if now - pace.told < interval {
            return None;
        }
        pace.told = now;
        let mut line = format!("{stage}: step {step} of {steps}");
        let rate = step.saturating_sub(from) as f64 / (now - since).as_secs_f64();
        if rate.is_finite() && rate > 0.0 {
            let left = seconds(steps.saturating_sub(step) as f64 / rate);
            let _ = write!(line, ", {}/s, {left} left", number(rate.round()));
        }
        Some(line + &values_in_words(values))
    }
}

/// `, d_loss 0.69, g_loss 0.7`.
pub(super) fn values_in_words(values: &BTreeMap<String, f64>) -> String {
    values.iter().fold(String::new(), |mut line, (name, value)| {
        let _ = write!(line, ", {name} {}", number(*value));
        line
    })
}

impl Reporter for Plain {
    fn event(&mut self, event: &Event) {
        match event {
            Event::StageStarted { stage, key, why, .. } => {
                let detail = match self.verbosity {
                    Verbosity::Verbose => format!(" (key {}; {})", key.digest().short(), reasons(why)),
                    _ => String::new(),
                };
                self.say(&format!("{stage}: started{detail}"));
                self.pace.insert(stage.clone(), Pace { told: Instant::now(), first: None });
            }
            Event::StageProgress { stage, step, steps, values } => {
                if let Some(line) = self.step(stage, *step, *steps, values) {
                    self.say(&line);
                }
            }
            Event::StageNotice { stage, message } => self.say(&format!("{stage}: {message}")),
            Event::StageResumed { stage, step, steps } => {
                self.say(&format!("{stage}: goes on from step {step} of {steps}"));
            }
            Event::StageWaiting { stage, holder } => self.say(&format!("{stage}: waiting for {holder}")),
            Event::StageCached { stage, from: None, .. } => self.say(&format!("{stage}: cached")),
            Event::StageCached { stage, from: Some(Origin::Remote), .. } => self.say(&format!("{stage}: pulled")),
            Event::StagePulling { stage, bytes, .. } if *bytes > WORTH_A_WORD => {
                self.say(&format!("{stage}: pulling {}", in_words(*bytes)));
            }
            Event::StagePushed { stage, .. } if self.verbosity == Verbosity::Verbose => {
                self.say(&format!("{stage}: pushed"));
            }
            Event::StagePulling { .. } | Event::StagePushed { .. } => {}
            Event::RemoteWaiting { results } => {
                self.say(&format!("waiting for {} to be pushed", count(*results, "result")));
            }
            Event::RemoteTrouble { message } => say(&format!("warning: {message}")),
            Event::StageFinished { stage, seconds: took, .. } => {
                self.say(&format!("{stage}: done in {}", seconds(*took)));
            }
            Event::StageFailed { .. } => failure(event).iter().for_each(|line| say(line)),
            Event::RunFinished { .. } => finished(event).iter().for_each(|line| self.say(line)),
        }
    }
}
