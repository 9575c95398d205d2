//! `worker`: one stage, run for an orchestrator over pipes. Hidden.

use std::{io, process::ExitCode};

use pgan_pipe::run::{WorkerEnd, worker};

use super::failure::STAGE;

pub(super) fn run() -> ExitCode {
    // It was started by the image of the process that runs the pipeline, which `ps` and `top` would call by another name.
    let _ = std::fs::write("/proc/self/comm", env!("CARGO_PKG_NAME"));
    match worker(io::stdin(), io::stdout()) {
        WorkerEnd::Finished => ExitCode::SUCCESS,
        WorkerEnd::Failed | WorkerEnd::Orphaned => ExitCode::from(STAGE),
    }
}
