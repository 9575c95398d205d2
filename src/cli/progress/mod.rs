//! Who tells the user what a run does: a live display on a terminal, plain lines elsewhere, JSON lines for programs.

use std::io::IsTerminal;

use pgan_pipe::run::Event;

mod json;
mod plain;
mod terminal;
mod transfer;

pub(in crate::cli) use transfer::Transfer;

/// Receives the events of a run.
pub(in crate::cli) trait Reporter {
    /// Something happened.
    fn event(&mut self, event: &Event);
}

/// How much to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

/// The reporter that fits: JSON adds to what is said to people.
pub(in crate::cli) fn reporter(verbosity: Verbosity, json: bool) -> Box<dyn Reporter> {
    let live = std::io::stderr().is_terminal() && verbosity > Verbosity::Quiet && !json;
    let people: Box<dyn Reporter> =
        if live { Box::new(terminal::Terminal::new(verbosity)) } else { Box::new(plain::Plain::new(verbosity)) };
    if json { Box::new(json::Json::beside(people)) } else { people }
}

/// What a finished run did, in a line.
fn finished(event: &Event) -> Option<String> {
    use super::text::{count, seconds as in_words};
    let Event::RunFinished { ran, cached, failed, cancelled, seconds } = event else { return None };
    let mut parts = vec![format!("{} ran", count(ran.len(), "stage")), format!("{} cached", cached.len())];
    parts.extend((!failed.is_empty()).then(|| format!("{} failed", failed.len())));
    parts.extend((!cancelled.is_empty()).then(|| format!("{} not started", cancelled.len())));
    Some(format!("{} in {}", parts.join(", "), in_words(*seconds)))
}

/// What a failed stage says, with the path of its log.
fn failure(event: &Event) -> Option<String> {
    let Event::StageFailed { stage, message, log } = event else { return None };
    let log = log.as_ref().map_or_else(String::new, |log| format!("\n  log: {}", log.display()));
    Some(format!("{stage}: failed: {message}{log}"))
}
