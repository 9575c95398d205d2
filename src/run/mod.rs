//! Running a plan: the executor, the worker process and its protocol, and the events that both report.
//!
//! Each stage runs in a process of its own, so that a crash fails one stage and not the run. The executor owns the order,
//! the number of workers and the commit to the store; a worker only reads objects and writes files into its folder.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
};

use crate::{
    device::DeviceName,
    pipeline::{Pipeline, PipelineError},
    plan::PlanError,
    store::{Store, StoreError},
};

mod event;

pub use event::Event;

/// How to run a pipeline.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The stages to bring up to date, with all that they need; everything if empty.
    pub targets: Vec<String>,
    /// Stages that run even if cached.
    pub force: Vec<String>,
    /// After a failure, go on with the stages that do not need the failed one.
    pub keep_going: bool,
    /// Workers at once; 0 counts as 1.
    pub jobs: usize,
    /// Where tensors live.
    pub device: DeviceName,
    /// The program that runs a stage when called as `PROGRAM worker`.
    pub worker: PathBuf,
    /// The number of the signal that asks the run to stop; 0 for none.
    pub stop: Arc<AtomicUsize>,
    /// The command line, for the provenance.
    pub argv: Vec<String>,
}

/// What a run did, by names of stages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Stages that ran and whose results are stored.
    pub ran: Vec<String>,
    /// Stages whose results were in the store.
    pub cached: Vec<String>,
    /// Stages that failed; the exit code is 1 if there are any.
    pub failed: Vec<String>,
    /// Stages that did not start because of a failure.
    pub cancelled: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Why a run could not be carried to its end; a failed stage is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The sources do not fit the pipeline.
    #[error(transparent)]
    Invalid(#[from] PipelineError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The worker cannot be started.
    #[error("cannot start the worker {}: {source}; set `--worker` or PGAN_WORKER to a pgan-pipe program", path.display())]
    Worker {
        /// The program.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A signal stopped the run.
    #[error("stopped by signal {0}; what is finished is kept, run again to continue")]
    Stopped(usize),
}

/// Brings the targets up to date, and reports on the calling thread.
pub fn run(
    _pipeline: &Pipeline,
    _store: &Store,
    _options: &RunOptions,
    _on_event: &mut dyn FnMut(&Event),
) -> Result<Summary, RunError> {
    todo!()
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// The stage is done: exit code 0.
    Finished,
    /// The stage failed, and the executor was told why: exit code 1.
    Failed,
    /// The executor is gone; the process must end at once, for the stage may still be at work: exit code 1.
    Orphaned,
}

/// The body of `pgan-pipe worker`: reads a job from `stdin`, runs its stage, and reports in JSON lines on `stdout`.
/// Return from `main` at once afterwards: that ends what is left of the stage.
pub fn worker(_stdin: impl Read + Send + 'static, _stdout: impl Write + Send + 'static) -> WorkerEnd {
    todo!()
}
