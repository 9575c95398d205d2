//! What an engine that queues jobs on a cluster must be able to do; one file an engine.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, time::Duration};

use super::slurm::Slurm;

/// An engine that queues jobs.
pub trait Engine {
    /// A job as it is handed over, for people to read.
    fn show(&self, job: &JobRequest) -> String;

    /// Queues a job, and gives the engine's name for it.
    fn submit(&self, job: &JobRequest) -> Result<String, EngineError>;

    /// Where jobs stand. One that is missing is not known to the engine any more.
    fn states(&self, ids: &[String]) -> Result<BTreeMap<String, JobState>, EngineError>;

    /// Cancels jobs, queued or running; those that have ended are passed over.
    fn cancel(&self, ids: &[String]) -> Result<(), EngineError>;

    /// The job that this process is, if it is one.
    fn this_job(&self) -> Option<String>;

    /// Puts this job back into the queue, to begin again.
    fn requeue(&self, id: &str) -> Result<(), EngineError>;
}

/// A job to be queued: one process on one node.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRequest {
    /// What people see in the queue: `pgan:PIPELINE:STAGE`.
    pub name: String,
    /// The program and its arguments. The number of threads that the engine gives is handed over as `--threads N`.
    pub command: Vec<String>,
    /// The jobs that must have succeeded before; should one fail, then this job is cancelled.
    pub after: Vec<String>,
    /// Threads.
    pub threads: usize,
    /// Memory in bytes; the engine's default if left out.
    pub memory: Option<u64>,
    /// Whole GPUs.
    pub gpus: u32,
    /// The longest that it may run; the engine's default if left out.
    pub time: Option<Duration>,
    /// Options of the engine's own, which give way to what is asked for above.
    pub options: Vec<String>,
    /// Options of the engine's own that go before all.
    pub own_options: Vec<String>,
    /// Where its output goes, behind what is there.
    pub log: PathBuf,
    /// Where it works if its machine shares no files with this one.
    pub apart: Option<Apart>,
}

/// Places on a machine that shares no files with the one that submits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The cache, in the words of the shell there. Handed over as `--cache DIR`.
    pub cache: String,
    /// The log, in the cache. Handed over as `--log FILE`.
    pub log: String,
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits.
    Pending {
        /// For what, in the engine's words.
        reason: String,
    },
    /// It runs, or is about to begin or end.
    Running {
        /// Where.
        node: String,
    },
    /// It ended well.
    Completed,
    /// It ended otherwise.
    Failed {
        /// How, in the engine's words.
        reason: String,
    },
    /// Somebody cancelled it, or it could not start any more.
    Cancelled,
}

impl JobState {
    /// Whether it has not ended.
    pub fn in_flight(&self) -> bool {
        matches!(self, Self::Pending { .. } | Self::Running { .. })
    }
}

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine is not installed here.
    #[error(
        "there is no program `{program}` on PATH: {engine} is not installed here; submit from a machine of the cluster, or run the pipeline with `pgan-pipe run`"
    )]
    Absent {
        /// The engine.
        engine: EngineName,
        /// The program that was looked for.
        program: &'static str,
    },
    /// The engine refused, or cannot be reached.
    #[error("{engine} refused: `{program}` said: {said}")]
    Refused {
        /// The engine.
        engine: EngineName,
        /// The program that was called.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// The engine's program did not answer.
    #[error("{engine} does not answer: `{program}` was given {} s", after.as_secs())]
    Silent {
        /// The engine.
        engine: EngineName,
        /// The program that was called.
        program: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The engine's program cannot be called or understood.
    #[error("cannot use {engine}'s `{program}`: {reason}")]
    Unusable {
        /// The engine.
        engine: EngineName,
        /// The program that was called.
        program: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// An engine by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineName {
    /// Slurm.
    Slurm,
}

impl EngineName {
    /// The engine of this name.
    pub fn engine(self) -> Box<dyn Engine> {
        match self {
            Self::Slurm => Box::new(Slurm),
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slurm => "slurm",
        })
    }
}

impl FromStr for EngineName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "slurm" => Ok(Self::Slurm),
            _ => Err(format!("there is no engine `{name}`: it is `slurm`")),
        }
    }
}
