//! Plain lines on standard error: at the start and the end of a stage, and now and then between.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, Instant},
};

use pgan_pipe::run::{Event, Origin};

use super::{Reporter, Verbosity, failure, finished, layout::main_values, pace::Pace};
use crate::cli::{
    output::say,
    plan::reasons,
    text::{bytes as in_words, count, number, seconds, several},
};

/// Less is pulled in a moment, in bytes.
const WORTH_A_WORD: u64 = 10_000_000;

/// Between two lines of a stage that runs, at least; with `--verbose`, a fifth of that.
const EVERY: Duration = Duration::from_secs(10);
/// And at most.
const AT_MOST: Duration = Duration::from_mins(10);

pub(super) struct Plain {
    verbosity: Verbosity,
    told: BTreeMap<String, Told>,
    /// Stages that were cached and are not told yet.
    cached: Vec<String>,
    /// How long stages took.
    times: BTreeMap<String, f64>,
}

/// When a stage began and when it last said something, and how fast it is.
struct Told {
    began: Instant,
    last: Instant,
    pace: Pace,
}

impl Plain {
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, told: BTreeMap::new(), cached: Vec::new(), times: BTreeMap::new() }
    }

    fn say(&mut self, line: &str) {
        self.tell_cached();
        if self.verbosity > Verbosity::Quiet {
            say(line);
        }
    }

    /// Says which stages were cached, in a line.
    fn tell_cached(&mut self) {
        let cached = std::mem::take(&mut self.cached);
        if !cached.is_empty() && self.verbosity > Verbosity::Quiet {
            say(&format!("cached: {}", several(&cached)));
        }
    }

    /// The line for a step, if it is time for one: the longer a stage runs, the less often.
    fn step(&mut self, stage: &str, step: u64, steps: u64, values: &BTreeMap<String, f64>) -> Option<String> {
        let verbose = self.verbosity == Verbosity::Verbose;
        let told = self.told.get_mut(stage)?;
        let now = Instant::now();
        let pace = told.pace.at(now, step, steps);
        let pause = ((now - told.began) / 20).clamp(EVERY, AT_MOST) / if verbose { 5 } else { 1 };
        if now - told.last < pause {
            return None;
        }
        told.last = now;
        let mut line = format!("{stage}: step {step} of {steps}");
        if let Some((rate, left)) = pace {
            let _ = write!(line, ", {}/s, {} left", number(rate.round()), seconds(left));
        }
        let all = || values.iter().map(|(name, value)| format!("{name} {}", number(*value))).collect();
        let values: Vec<String> = if verbose { all() } else { main_values(values, false) };
        Some(values.iter().fold(line, |line, value| format!("{line}, {value}")))
    }
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
                let now = Instant::now();
                self.told.insert(stage.clone(), Told { began: now, last: now, pace: Pace::default() });
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
            Event::StageCached { stage, from: None, .. } => self.cached.push(stage.clone()),
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
            Event::RunNotice { message } => self.say(message),
            Event::RemoteTrouble { message } => say(&format!("warning: {message}")),
            Event::StageFinished { stage, seconds: took, .. } => {
                self.times.insert(stage.clone(), *took);
                self.say(&format!("{stage}: done in {}", seconds(*took)));
            }
            Event::StageFailed { .. } => {
                self.tell_cached();
                if let Some(line) = failure(event) {
                    say(&line);
                }
            }
            Event::RunFinished { .. } => {
                if let Some(line) = finished(event, &self.times) {
                    self.say(&line);
                }
            }
        }
    }
}
