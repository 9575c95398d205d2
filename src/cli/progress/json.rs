//! JSON lines on standard output.

use std::io;

use pgan_pipe::run::Event;

use super::Reporter;
use crate::cli::{failure::Failure, output::write_json};

/// Writes each event as it comes, and hands it on. Once standard output cannot be written to it is silent; the run goes on.
pub(super) struct Json {
    people: Box<dyn Reporter>,
    told: io::Result<()>,
}

impl Json {
    pub(super) fn beside(people: Box<dyn Reporter>) -> Self {
        Self { people, told: Ok(()) }
    }
}

impl Reporter for Json {
    fn event(&mut self, event: &Event) {
        if self.told.is_ok() {
            self.told = write_json([event]);
        }
        self.people.event(event);
    }

    fn end(self: Box<Self>) -> Result<(), Failure> {
        let Self { people, told } = *self;
        people.end()?;
        match told {
            // Whoever closed the pipe has heard enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::unprinted(error)),
            _ => Ok(()),
        }
    }
}
