//! Who tells the user what a run does: a live display on a terminal, plain lines elsewhere, JSON lines for programs.

use std::{collections::BTreeMap, io::IsTerminal};

use pgan_pipe::{pipeline::Pipeline, run::Event};

use super::failure::Failure;

mod json;
mod layout;
mod pace;
mod plain;
mod terminal;
mod transfer;

pub(in crate::cli) use transfer::Transfer;

/// Receives the events of a run.
pub(in crate::cli) trait Reporter {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Ends the report; fails if somebody could not be told what happened.
    fn end(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }
}

/// How much to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

/// The stages that take part in a run, with their kinds.
#[derive(Default)]
pub(in crate::cli) struct Members(BTreeMap<String, &'static str>);

impl Members {
    /// Those of a pipeline that these targets need, themselves included; all if no target is named.
    pub(in crate::cli) fn of(pipeline: &Pipeline, targets: &[String]) -> Self {
        let stages = &pipeline.stages;
        let mut found = BTreeMap::new();
        let mut wanted: Vec<usize> = match targets {
            [] => (0..stages.len()).collect(),
            targets => targets.iter().flat_map(|target| pipeline.select(target)).collect(),
        };
        let by_name: BTreeMap<&str, usize> = (0..).zip(stages).map(|(index, of)| (of.name.as_str(), index)).collect();
        while let Some(index) = wanted.pop() {
            let declared = &stages[index];
            if found.insert(declared.name.clone(), declared.stage.kind()).is_none() {
                wanted.extend(declared.stage.ports().iter().filter_map(|port| by_name.get(port.reference)));
            }
        }
        Self(found)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn kind(&self, stage: &str) -> &'static str {
        self.0.get(stage).copied().unwrap_or_default()
    }

    /// The width of the longest name, if that is known and not too long.
    fn name_width(&self) -> usize {
        self.0.keys().map(|name| name.chars().count()).max().map_or(24, |width| width.min(32))
    }
}

/// The reporter that fits: JSON adds to what is said to people. A terminal that cannot move its cursor gets lines.
pub(in crate::cli) fn reporter(verbosity: Verbosity, json: bool, members: Members) -> Box<dyn Reporter> {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let live = std::io::stderr().is_terminal() && !dumb && verbosity > Verbosity::Quiet && !json;
    let people: Box<dyn Reporter> = if live {
        Box::new(terminal::Terminal::new(verbosity, members))
    } else {
        Box::new(plain::Plain::new(verbosity))
    };
    if json { Box::new(json::Json::beside(people)) } else { people }
}

/// So many of the stages that took longest are named in the end.
const LONGEST: usize = 3;

/// What a finished run did, in a line, with the times of its stages.
fn finished(event: &Event, times: &BTreeMap<String, f64>) -> Option<String> {
    use super::text::{count, seconds as in_words};
    let Event::RunFinished { ran, cached, failed, cancelled, seconds } = event else { return None };
    let mut parts = vec![format!("{} ran", count(ran.len(), "stage")), format!("{} cached", cached.len())];
    parts.extend((!failed.is_empty()).then(|| format!("{} failed", failed.len())));
    parts.extend((!cancelled.is_empty()).then(|| format!("{} not started", cancelled.len())));
    let mut longest: Vec<(&String, f64)> = times.iter().map(|(stage, &took)| (stage, took)).collect();
    longest.sort_by(|a, b| b.1.total_cmp(&a.1));
    longest.truncate(LONGEST);
    let longest: Vec<String> = longest.into_iter().map(|(stage, took)| format!("{stage} {}", in_words(took))).collect();
    let longest = if times.len() > 1 { format!("; longest: {}", longest.join(", ")) } else { String::new() };
    Some(format!("{} in {}{longest}", parts.join(", "), in_words(*seconds)))
}

/// What a failed stage says, with the path of its log.
fn failure(event: &Event) -> Option<String> {
    let Event::StageFailed { stage, message, log } = event else { return None };
    let log = log.as_ref().map_or_else(String::new, |log| format!("\n  log: {}", log.display()));
    Some(format!("{stage}: failed: {message}{log}"))
}
