//! What a run tells while it runs.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{key::CacheKey, plan::Reason, stage::Metrics};

/// Where a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The remote.
    Remote,
}

/// Something that happened in a run: one JSON object a line with `--json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A worker starts on the stage.
    StageStarted {
        /// The stage's name.
        stage: String,
        /// Its kind.
        kind: String,
        /// Its key.
        key: CacheKey,
        /// Why it runs.
        why: Vec<Reason>,
    },
    /// The stage did a step of many.
    StageProgress {
        /// The stage's name.
        stage: String,
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Numbers worth watching.
        values: BTreeMap<String, f64>,
    },
    /// The stage's training goes on from a step that an earlier run had come to.
    StageResumed {
        /// The stage's name.
        stage: String,
        /// Steps done.
        step: u64,
        /// Steps in all.
        steps: u64,
    },
    /// The stage has something to say.
    StageNotice {
        /// The stage's name.
        stage: String,
        /// One sentence.
        message: String,
    },
    /// The run has something to say.
    RunNotice {
        /// One sentence.
        message: String,
    },
    /// Another run is at work on the stage; its result will be taken.
    StageWaiting {
        /// The stage's name.
        stage: String,
        /// Who is at work: process and host.
        holder: String,
    },
    /// The stage's result is in the store.
    StageCached {
        /// The stage's name.
        stage: String,
        /// Its key.
        key: CacheKey,
        /// Where it has just come from, if not from an earlier run here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Origin>,
    },
    /// The stage's result is being pulled from the remote.
    StagePulling {
        /// The stage's name.
        stage: String,
        /// Its key.
        key: CacheKey,
        /// The size of its files.
        bytes: u64,
    },
    /// The stage's result is on the remote.
    StagePushed {
        /// The stage's name.
        stage: String,
        /// Its key.
        key: CacheKey,
    },
    /// All stages are done, and results are still on their way to the remote.
    RemoteWaiting {
        /// How many.
        results: usize,
    },
    /// Something is wrong with the remote; the run goes on without it.
    RemoteTrouble {
        /// What, and what to do.
        message: String,
    },
    /// The stage ran and its result is stored.
    StageFinished {
        /// The stage's name.
        stage: String,
        /// Its key.
        key: CacheKey,
        /// How long it took.
        seconds: f64,
        /// Its metrics, under the names of the pipeline.
        metrics: Metrics,
    },
    /// The stage failed.
    StageFailed {
        /// The stage's name.
        stage: String,
        /// What went wrong and what to do.
        message: String,
        /// The worker's log, if it got that far.
        log: Option<PathBuf>,
    },
    /// The run is over.
    RunFinished {
        /// Stages that ran and whose results are stored.
        ran: Vec<String>,
        /// Stages whose results were in the store.
        cached: Vec<String>,
        /// Stages that failed.
        failed: Vec<String>,
        /// Stages that did not start because of a failure.
        cancelled: Vec<String>,
        /// How long it took.
        seconds: f64,
    },
}
