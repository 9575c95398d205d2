//! `worker`: one stage, run for an orchestrator over pipes. Hidden.

use std::{io, process::ExitCode};

use pgan_pipe::run::{WorkerEnd, worker};

use super::failure::STAGE;

pub(super) fn run() -> ExitCode {
    match worker(io::stdin(), io::stdout()) {
        WorkerEnd::Finished => ExitCode::SUCCESS,
        WorkerEnd::Failed | WorkerEnd::Orphaned => ExitCode::from(STAGE),
    }
}
