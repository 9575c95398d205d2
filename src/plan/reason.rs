//! Why a stage runs, in terms of what its user can see and change.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One reason why a stage has no result that still holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// No stage of this name and kind has run in this pipeline.
    NeverRan,
    /// A parameter differs from the last run.
    Parameter {
        /// The parameter, dotted: `loss.r1`.
        name: String,
        /// Its value in the last run, if it was there.
        old: Option<Value>,
        /// Its value now, if it is there.
        new: Option<Value>,
    },
    /// The seed differs from the last run.
    Seed {
        /// The seed of the last run.
        old: u64,
        /// The seed now.
        new: u64,
    },
    /// An input is another, or has other content.
    Input {
        /// The role of the input.
        role: String,
        /// The stage that makes it.
        stage: String,
    },
    /// A source file has other content.
    Source {
        /// The field that names it.
        field: String,
        /// The file, as written in the pipeline.
        path: PathBuf,
    },
    /// The stage kind computes something else than before.
    Version {
        /// The version of the last run.
        old: u32,
        /// The version of this program.
        new: u32,
    },
    /// A collection took the result away.
    Evicted,
    /// A file of the result is no longer in the store.
    Missing {
        /// The file's name in the artifact.
        file: String,
    },
    /// A file of the result is not what was stored.
    Corrupted {
        /// The file's name in the artifact.
        file: String,
    },
    /// A file of the result cannot be read.
    Unreadable {
        /// The file's name in the artifact.
        file: String,
        /// The system's reason.
        #[serde(rename = "error")]
        reason: String,
    },
    /// The user asked for it.
    Forced,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRan => f.write_str("never ran"),
            Self::Parameter { name, old: Some(old), new: Some(new) } => write!(f, "`{name}` {old} → {new}"),
            Self::Parameter { name, old: None, new: Some(new) } => write!(f, "`{name}` is new: {new}"),
            Self::Parameter { name, old: Some(old), .. } => write!(f, "`{name}` is gone, was {old}"),
            Self::Parameter { name, .. } => write!(f, "`{name}` changed"),
            Self::Seed { old, new } => write!(f, "seed {old} → {new}"),
            Self::Input { role, stage } => write!(f, "input `{role}` (stage `{stage}`) changed"),
            Self::Source { path, .. } => write!(f, "source file {} changed", path.display()),
            Self::Version { old, new } => write!(f, "stage version {old} → {new}"),
            Self::Evicted => f.write_str("its result was taken away by `cache gc`"),
            Self::Missing { file } => write!(f, "`{file}` is missing from the cache"),
            Self::Corrupted { file } => write!(f, "`{file}` is corrupted in the cache"),
            Self::Unreadable { file, reason } => write!(f, "`{file}` is unreadable in the cache ({reason})"),
            Self::Forced => f.write_str("forced"),
        }
    }
}
