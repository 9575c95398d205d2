//! Why a stage runs, in terms of what its user can see and change.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A difference from the last run in something that a stage refers to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It has other content.
    #[default]
    Content,
    /// The stage did not refer to it before.
    New,
    /// The stage does not refer to it any more.
    Gone,
}

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
        /// The difference.
        #[serde(default)]
        change: Change,
    },
    /// A source file is another, or has other content.
    Source {
        /// The field that names it.
        field: String,
        /// The file, as written in the pipeline.
        path: PathBuf,
        /// The difference.
        #[serde(default)]
        change: Change,
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
            Self::Parameter { name, old: Some(Value::Object(_) | Value::Array(_)), new: Some(Value::Null) } => {
                write!(f, "`{name}` is gone")
            }
            Self::Parameter { name, old: Some(Value::Null), new: Some(new @ (Value::Object(_) | Value::Array(_))) } => {
                write!(f, "`{name}` is new: {new}")
            }
            Self::Parameter { name, old: Some(old), new: Some(new) } => write!(f, "`{name}` {old} → {new}"),
            Self::Parameter { name, old: None, new: Some(new) } => write!(f, "`{name}` is new: {new}"),
            Self::Parameter { name, old: Some(old), .. } => write!(f, "`{name}` is gone, was {old}"),
            Self::Parameter { name, .. } => write!(f, "`{name}` changed"),
            Self::Seed { old, new } => write!(f, "seed {old} → {new}"),
            Self::Input { role, stage, change } => match change {
                Change::Content => write!(f, "input `{role}` (stage `{stage}`) changed"),
                Change::New => write!(f, "input `{role}` is new (stage `{stage}`)"),
                Change::Gone => write!(f, "input `{role}` is gone (stage `{stage}`)"),
            },
            Self::Source { field, path, change } => match change {
                Change::Content => write!(f, "source file {} changed", path.display()),
                Change::New => write!(f, "source `{field}` is new ({})", path.display()),
                // Not every record says what it was called.
                Change::Gone if path.as_os_str().is_empty() => write!(f, "source `{field}` is gone"),
                Change::Gone => write!(f, "source `{field}` is gone ({})", path.display()),
            },
            Self::Version { old, new } => write!(f, "stage version {old} → {new}"),
            Self::Evicted => f.write_str("its result was taken away by `cache gc`"),
            Self::Missing { file } => write!(f, "`{file}` is missing from the cache"),
            Self::Corrupted { file } => write!(f, "`{file}` is corrupted in the cache"),
            Self::Unreadable { file, reason } => write!(f, "`{file}` is unreadable in the cache ({reason})"),
            Self::Forced => f.write_str("forced"),
        }
    }
}
