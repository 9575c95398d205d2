//! `worker`: one stage, run for an orchestrator over pipes. Hidden.

use std::{io, process::ExitCode};

use pgan_pipe::run::{WorkerEnd, worker};

use super::{Outcome, failure::STAGE};

pub(super) fn run() -> Outcome {
    Ok(match worker(io::stdin(), io::stdout()) {
        WorkerEnd::Finished => ExitCode::SUCCESS,
        WorkerEnd::Failed | WorkerEnd::Orphaned => ExitCode::from(STAGE),
    })
}
