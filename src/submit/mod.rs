//! Submission: a plan as jobs of a cluster's engine, one a stage, each after those whose results it takes.
//!
//! The store is the shared file system, or machines share nothing but a remote ([`apart`], [`node`]). A job is this program again (`pgan-pipe job`): it takes its pipeline from the submission in the
//! store, never from the file, finds what other jobs made in the store, and runs its stage as any run does. So what the engine does
//! with jobs, killing, requeueing or starting them twice, costs time and never a result.
//!
//! Stages in flight are known by their recipes ([`crate::plan::recipes`]): a stage is not queued twice, whatever file names it.

use std::path::PathBuf;

use crate::{
    key::CacheKey,
    pipeline::PipelineError,
    plan::PlanError,
    remote::RemoteError,
    run::RunError,
    store::{Holder, Job, StoreError},
};

mod apart;
mod call;
mod cancel;
mod engine;
mod follow;
mod job;
mod lookup;
mod node;
mod options;
mod queue;
mod slurm;
mod standing;
mod word;

pub use cancel::cancel;
pub use engine::{Apart, Engine, EngineError, EngineName, JobRequest, JobState};
pub use follow::{Ended, follow};
pub use job::{JobOptions, perform};
pub use lookup::{Found, lookup};
pub use node::NodeOptions;
pub use options::EngineOption;
pub use queue::{Queued, SubmitOptions, requests, submit};
pub use standing::{Standing, Tracked, track};

/// What happens while a pipeline is submitted and followed.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The stage's result is in the store, under this key.
    Cached(String, CacheKey),
    /// Another process submits to the same cache and is waited for.
    Waiting(Holder),
    /// A job for the stage is queued.
    Submitted(Job),
    /// A job for the stage was queued or running already.
    InFlight(Job, Standing),
    /// A job has come to stand otherwise.
    Stands(Job, Standing),
    /// The engine could not be asked; it is asked again.
    Unanswered(String),
}

/// Why a pipeline is not submitted, or a job cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The pipeline cannot be submitted as it is.
    #[error(transparent)]
    Invalid(#[from] PipelineError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine took some jobs and then no more.
    #[error("the job of `{stage}` could not be queued, {undone}: {source}")]
    Halfway {
        /// The stage.
        stage: String,
        /// What became of the jobs before it.
        undone: String,
        /// What went wrong.
        source: Box<SubmitError>,
    },
    /// An option names a stage that is not there.
    #[error("the engine option `{option}` is for a stage `{stage}`, which this pipeline does not have")]
    NoSuchStage {
        /// The option.
        option: String,
        /// The stage.
        stage: String,
    },
    /// A stage was never submitted.
    #[error("no job for a stage `{stage}` was submitted from this file with these `--set`s{}", did_you_mean(near.as_deref()))]
    NeverSubmitted {
        /// The stage.
        stage: String,
        /// One with a name like it.
        near: Option<String>,
    },
    /// The program that is to run stages is not there.
    #[error("there is no program {}: set `--worker` or PGAN_WORKER to a pgan-pipe program", .0.display())]
    NoWorker(PathBuf),
    /// A path cannot be handed over.
    #[error("{} cannot be submitted: its name is not UTF-8", .0.display())]
    NotText(PathBuf),
    /// The submission is not in the store.
    #[error("there is no submission `{id}` in {}, or it was altered: submit the pipeline again", place.display())]
    NoSubmission {
        /// Its name.
        id: String,
        /// The store, or the remote in its place.
        place: PathBuf,
    },
    /// What the stage is made of is not what was submitted.
    #[error(
        "`{stage}` is no longer what was submitted: a source file or the program itself has changed; submit the pipeline again"
    )]
    Changed {
        /// The stage.
        stage: String,
    },
    /// The remote cannot be used.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Machines with caches of their own share nothing.
    #[error("machines with caches of their own share results by a remote, and none is named: give `--remote URL`")]
    NoRemote,
    /// Jobs may not give their results to the only place that they have.
    #[error("jobs give their results to the remote, which `push = false` in pgan.toml forbids")]
    NoPush,
    /// The remote holds another result than the store.
    #[error(
        "{remote} holds another result of `{stage}` under the same key, so what jobs make of it would not be found here; mend one of          them: `pgan-pipe cache push FILE {stage} --overwrite`, or `run --force {stage}`"
    )]
    Differs {
        /// The stage.
        stage: String,
        /// The remote.
        remote: String,
    },
    /// The cache belongs to somebody else.
    #[error("{} belongs to another user: choose another `--node-cache`", .0.display())]
    NotOurs(PathBuf),
    /// The job's run could not be carried to its end.
    #[error(transparent)]
    Run(#[from] RunError),
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}
