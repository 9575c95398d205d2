//! Lock files: what each stage of a pipeline was made of and what it gave, so that another machine can tell whether it does the same.
//!
//! A lock is JSON with sorted keys, a stage after the other, and holds no times, paths or names of machines: locks of one pipeline made
//! at two places differ in what differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Made, Plan, PlanError, Reason, StageState, changes, declared_material};
use crate::{
    digest::Digest,
    files,
    key::{CacheKey, KeyMaterial},
    pipeline::{Declared, Pipeline},
    stage::{Metrics, nearest},
    store::{Output, Provenance, Record, Store, artifact},
    user_file,
};

/// The version of the lock files that this program writes and reads.
const VERSION: u32 = 1;

/// At most so many metrics are listed of a result that differs.
const LISTED: usize = 5;

/// What a pipeline's stages were made of and what they gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// The `--set`s that it was run with, as `k=v`.
    pub set: Vec<String>,
    /// Its stages by name.
    pub stages: BTreeMap<String, Locked>,
}

/// A stage in a lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Its key.
    pub key: CacheKey,
    /// The version of the program that made the result.
    pub program: String,
    /// The device that it was made on.
    pub device: String,
    /// Operating system and processor family.
    pub host: String,
    /// What the key was made of: parameters, seed, digests of inputs and sources, versions.
    pub material: KeyMaterial,
    /// What the inputs were called, by role.
    pub inputs: BTreeMap<String, Vec<String>>,
    /// What the sources were called, by field.
    pub sources: BTreeMap<String, PathBuf>,
    /// Its files by name.
    pub outputs: BTreeMap<String, Output>,
    /// Its metrics.
    pub metrics: Metrics,
}

/// Why there is no lock to go by.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file is not there.
    #[error("there is no {}: `pgan-pipe run {} --lock` writes it after a run", path.display(), pipeline.display())]
    Absent {
        /// The lock file.
        path: PathBuf,
        /// The pipeline file.
        pipeline: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot {action} the lock {}: {source}", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no lock, or of another version.
    #[error("{}{place}: this is no lock that this program can read: {reason}", path.display())]
    Invalid {
        /// The lock file.
        path: PathBuf,
        /// `:line:column`, where there is one.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Stages have no result to be locked.
    #[error("nothing is locked, for these stages are not cached: `{}`", stages.join("`, `"))]
    NotCached {
        /// Their names.
        stages: Vec<String>,
    },
}

/// What differs between a lock and the pipeline as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The stage.
    pub stage: String,
    /// What differs; empty if only one of the two has the stage.
    pub why: Vec<Reason>,
    /// What else to say.
    pub note: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why: Vec<String> = self.why.iter().map(ToString::to_string).chain(self.note.clone()).collect();
        write!(f, "{}: {}", self.stage, why.join("; "))
    }
}

impl Lock {
    /// Where the lock of a pipeline file lies: `dijet.lock` beside `dijet.yaml`.
    pub fn path(pipeline: &Path) -> PathBuf {
        pipeline.with_extension("lock")
    }

    /// The lock of a pipeline whose stages are all cached.
    pub fn of(pipeline: &Pipeline, plan: &Plan) -> Result<Self, LockError> {
        let (mut stages, mut missing) = (BTreeMap::new(), Vec::new());
        for stage in &plan.stages {
            match &stage.state {
                StageState::Cached { record, .. } => {
                    stages.insert(stage.name.clone(), Locked::of(record, &pipeline.stages[stage.index]));
                }
                _ => missing.push(stage.name.clone()),
            }
        }
        let (version, name, set) = (VERSION, pipeline.name.clone(), pipeline.overrides().to_vec());
        if missing.is_empty() {
            Ok(Self { version, pipeline: name, set, stages })
        } else {
            Err(LockError::NotCached { stages: missing })
        }
    }

    /// Reads the lock of a pipeline file.
    pub fn read(pipeline: &Path) -> Result<Self, LockError> {
        let path = Self::path(pipeline);
        let text = match files::read(&path, files::MAX_TEXT) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LockError::Absent { path, pipeline: pipeline.to_owned() });
            }
            Err(source) => return Err(LockError::Io { action: "read", path, source }),
        };
        let invalid = |place: String, reason: String| LockError::Invalid { path: path.clone(), place, reason };
        if let Some(line) = conflict(&text) {
            let reason = "it holds conflict marks of a merge; write it anew with `run --lock`".to_owned();
            return Err(invalid(format!(":{line}"), reason));
        }
        let lock: Self = serde_json::from_slice(&text)
            .map_err(|error| invalid(format!(":{}:{}", error.line(), error.column()), error.to_string()))?;
        if lock.version != VERSION {
            return Err(invalid(String::new(), format!("its version is {}, not {VERSION}", lock.version)));
        }
        let altered = lock.stages.iter().find(|(_, locked)| locked.material.key().ok() != Some(locked.key));
        match altered {
            Some((name, _)) => Err(invalid(
                String::new(),
                format!("the key of `{name}` does not fit what it is made of; write it anew with `run --lock`"),
            )),
            None => Ok(lock),
        }
    }

    /// The text of the lock's file.
    pub fn to_text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Writes the lock beside its pipeline file, in full or not at all. Says whether it was another before.
    pub fn write(&self, pipeline: &Path) -> Result<bool, LockError> {
        let path = Self::path(pipeline);
        let io = |source| LockError::Io { action: "write", path: path.clone(), source };
        let text = self.to_text().map_err(|error| io(error.into()))?;
        if files::read(&path, files::MAX_TEXT).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(false);
        }
        user_file::write_plain(&path, text.as_bytes()).map_err(io)?;
        Ok(true)
    }

    /// What of the pipeline and its sources is not as the lock says, in the order of the pipeline. Inputs count as the lock has them: a
    /// stage is told for what differs in itself.
    pub fn differences(&self, pipeline: &Pipeline, store: &Store) -> Result<Vec<Difference>, PlanError> {
        let mut found = Vec::new();
        for declared in &pipeline.stages {
            let Some(locked) = self.stages.get(&declared.name) else {
                let note = Some("is not in the lock".to_owned());
                found.push(Difference { stage: declared.name.clone(), why: Vec::new(), note });
                continue;
            };
            let mut inputs: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
            for port in declared.stage.ports() {
                let producer = self.stages.get(port.reference).map(Locked::artifact);
                inputs.entry(port.role.to_owned()).or_default().extend(producer);
            }
            let now = declared_material(pipeline, store, declared, inputs)?;
            let then = &locked.material;
            let (mut why, note) = if then.kind == now.kind {
                let note = (then.format != now.format)
                    .then(|| format!("keys are made by format {}, locked is format {}", now.format, then.format));
                let (inputs, sources) = (declared.input_names(), declared.source_paths());
                let now = Made { material: &now, inputs: &inputs, sources: &sources };
                (changes(Some(locked.made()), now, false), note)
            } else {
                (Vec::new(), Some(format!("its kind is `{}`, locked is `{}`", now.kind, then.kind)))
            };
            // A producer that is not in the lock is told by itself.
            why.retain(|reason| match reason {
                Reason::Input { stage, .. } => self.stages.contains_key(stage),
                _ => true,
            });
            if !why.is_empty() || note.is_some() {
                found.push(Difference { stage: declared.name.clone(), why, note });
            }
        }
        let names: BTreeSet<&str> = pipeline.stages.iter().map(|declared| declared.name.as_str()).collect();
        for name in self.stages.keys().filter(|name| !names.contains(name.as_str())) {
            let meant = nearest(name, &names.iter().copied().collect::<Vec<_>>());
            let note = meant.map_or_else(String::new, |meant| format!("; is it `{meant}` now?"));
            let note = Some(format!("is in the lock alone{note}"));
            found.push(Difference { stage: name.clone(), why: Vec::new(), note });
        }
        Ok(found)
    }

    /// What to say of a result that is not the one that the lock has; `None` if it is.
    pub fn contradicts(&self, declared: &Declared, record: &Record) -> Option<String> {
        let locked = self.stages.get(&declared.name)?;
        if locked.outputs == record.outputs {
            return None;
        }
        let names: BTreeSet<&String> = locked.outputs.keys().chain(record.outputs.keys()).collect();
        let short = |output: Option<&Output>| output.map_or("none".to_owned(), |output| output.digest.short());
        let files = names.into_iter().filter_map(|name| {
            let (old, new) = (locked.outputs.get(name), record.outputs.get(name));
            (old != new).then(|| format!("`{name}` is {}, locked is {}", short(new), short(old)))
        });
        let files = files.collect::<Vec<_>>().join(", ");
        let changed = locked.metrics.iter().filter_map(|(name, old)| {
            let new = record.metrics.get(name).filter(|new| *new != old)?;
            Some(format!("  {name} {old} → {new}"))
        });
        let mut lines: Vec<String> = changed.collect();
        if lines.len() > LISTED {
            let more = lines.split_off(LISTED).len();
            lines.push(format!("  and {more} more metrics"));
        }
        let Provenance { version, device, host, .. } = &record.provenance;
        lines.push(if (version, device, host) == (&locked.program, &locked.device, &locked.host) {
            "program, device and kind of machine are the same: is the device deterministic?".to_owned()
        } else {
            let Locked { program, device: on, host: of, .. } = locked;
            format!("locked by pgan-pipe {program} on {on}, {of}; this is {version} on {device}, {host}")
        });
        let lines = lines.join("\n");
        Some(format!(
            "it gave another result than the lock has: {files}\n{lines}\nit stays in the cache: a run without `--locked` goes on with it"
        ))
    }
}

/// Finds the line, from 1, of the first mark that git leaves where two sides of a merge differ.
fn conflict(text: &[u8]) -> Option<usize> {
    let is_mark =
        |line: &[u8]| [&b"<<<<<<<"[..], b"|||||||", b"=======", b">>>>>>>"].iter().any(|mark| line.starts_with(mark));
    text.split(|&byte| byte == b'\n').position(is_mark).map(|line| line + 1)
}

impl Locked {
    fn of(record: &Record, declared: &Declared) -> Self {
        let how = &record.provenance;
        Self {
            key: record.key,
            program: how.version.clone(),
            device: how.device.clone(),
            host: how.host.clone(),
            material: record.material.clone(),
            // What this pipeline calls them: the record may have been made by another.
            inputs: declared.input_names(),
            sources: declared.source_paths(),
            outputs: record.outputs.clone(),
            metrics: record.metrics.clone(),
        }
    }

    /// The digest of the artifact.
    pub fn artifact(&self) -> Digest {
        artifact(&self.outputs)
    }

    pub(crate) fn made(&self) -> Made<'_> {
        Made { material: &self.material, inputs: &self.inputs, sources: &self.sources }
    }
}
