//! What the executor and a worker say to each other: one job on the worker's stdin, messages in JSON lines on its stdout.
//!
//! The executor keeps the worker's stdin open for as long as it lives: its end tells the worker that nobody waits any more.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    device::DeviceName,
    stage::{Artifact, Metrics},
    store::Stat,
};

/// A stage to run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    /// The version of this protocol.
    pub(super) protocol: u32,
    pub(super) kind: String,
    /// The version of the kind: another build of the worker may compute something else.
    pub(super) version: u32,
    /// The stage's fields.
    pub(super) stage: Value,
    pub(super) seed: u64,
    pub(super) device: DeviceName,
    pub(super) inputs: BTreeMap<String, Vec<Artifact>>,
    pub(super) sources: BTreeMap<String, PathBuf>,
    /// The state in which the worker must find each source, by its path.
    pub(super) states: BTreeMap<PathBuf, Stat>,
    /// The folder for the output files.
    pub(super) out: PathBuf,
    /// Bytes of memory that the stage may use.
    pub(super) memory: u64,
    /// The folder for checkpoints, and the seconds between two of them.
    pub(super) checkpoints: PathBuf,
    pub(super) checkpoint_seconds: f64,
    /// The folder for the state at the end, from which more steps go on; `None` where they cannot.
    pub(super) trajectory: Option<PathBuf>,
}

impl Job {
    pub(super) const PROTOCOL: u32 = 5;
}

/// What a worker says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "snake_case")]
pub(super) enum Message {
    Progress {
        step: u64,
        steps: u64,
        values: BTreeMap<String, f64>,
    },
    Resumed {
        step: u64,
        steps: u64,
    },
    Notice {
        message: String,
    },
    /// The stage is done; these are the files that it declares. A worker of another hand may leave that out: then it declares all that lies in
    /// the folder of this attempt.
    Finished {
        metrics: Metrics,
        #[serde(default)]
        files: Option<Vec<String>>,
    },
    Failed {
        message: String,
        kind: Failure,
    },
}

/// How a stage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Failure {
    /// It said so.
    Stage,
    /// A file could not be read or written, which may be otherwise in a moment.
    Io,
    /// The disk is full.
    Full,
    /// The GPU failed, or had too little memory, which may be otherwise in a moment.
    Device,
    /// It panicked: a defect of the program.
    Panic,
    /// The worker and the executor do not understand each other.
    Protocol,
}
