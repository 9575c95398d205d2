//! JSON lines on standard output.

use std::io::{self, Write};

use pgan_pipe::run::Event;

use super::Reporter;

/// Writes each event as it comes, and hands it on. A closed pipe silences it; the run goes on.
pub(super) struct Json {
    people: Box<dyn Reporter>,
    open: bool,
}

impl Json {
    pub(super) fn beside(people: Box<dyn Reporter>) -> Self {
        Self { people, open: true }
    }
}

impl Reporter for Json {
    fn event(&mut self, event: &Event) {
        if self.open
            && let Ok(line) = serde_json::to_string(event)
        {
            let mut out = io::stdout().lock();
            self.open = writeln!(out, "{line}").and_then(|()| out.flush()).is_ok();
        }
        self.people.event(event);
    }
}
