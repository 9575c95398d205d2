//! The content-addressed store: immutable objects, records that name them, and the work of running stages.
//!
//! Owns `cache/v1`. Knows nothing of stages. The invariant: a record that exists is complete and its objects exist; everything
//! is written to `tmp`, synced, then renamed, and the record comes last. Correctness rests on rename; locks only save
//! work that would be done twice.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{digest::Digest, key::CacheKey};

mod advice;
mod collect;
mod evicted;
pub(crate) mod files;
mod holder;
mod inventory;
mod record;
mod runs;
pub(crate) mod sealed;
mod slot;
mod sources;
mod submissions;
mod tags;
mod take_in;
mod take_out;

pub use collect::{Collected, Keep};
pub use holder::{Holder, Waiting};
pub use inventory::{Entry, FaultyObject, Verification};
pub use record::{Output, Provenance, Record, artifact};
pub use runs::{LoggedRun, RunLog};
pub use slot::{Committed, Lookup, Mark, Outcome, Slot, Work};
pub(crate) use sources::Stat;
pub use submissions::{Job, JobEnd, JobOutcome, Submission, Submitted};
pub use tags::Tag;
pub use take_out::Copying;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder of the store could not be read or written.
    #[error("cannot {action} {}: {source}{}", path.display(), advice::advice(action, path, source))]
    Io {
        /// What was being done: `write`, `read`, `create`.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A stage left something that cannot be stored.
    #[error("cannot store {}: {reason}", path.display())]
    NotStorable {
        /// What it left.
        path: PathBuf,
        /// Its fault.
        reason: String,
    },
}

impl StoreError {
    /// Wraps an I/O error with what was being done, and where.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// The advice for a full disk.
pub(crate) const FULL: &str =
    "free some space (`pgan-pipe cache gc`) or choose another cache with `--cache`; what is stored stays valid";

/// Returns whether a disk, or this user's part of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What a look at a key finds, without the right to write.
#[derive(Clone, Debug)]
pub enum Found {
    /// A record whose objects are all there, at their sizes.
    Complete(Arc<Record>),
    /// A record whose objects are not all there.
    Damaged(Arc<Record>, Vec<Damage>),
    /// No record that this program can read.
    Absent,
}

/// A file of an artifact that is not as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file's name in the artifact.
    pub file: String,
    /// Its digest when it was stored.
    pub digest: Digest,
    /// The object's fault.
    pub fault: Fault,
}

/// A fault of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The object is gone.
    Missing,
    /// The object has other content than its name says, or is no file.
    Corrupted,
    /// The object cannot be read, for this reason of the system.
    Unreadable(String),
}

impl Fault {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ if files::is_foreign(error) => Self::Corrupted,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Corrupted => f.write_str("corrupted"),
            Self::Unreadable(reason) => write!(f, "unreadable ({reason})"),
        }
    }
}

/// A store on disk.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in a cache folder; nothing is created before something is written.
    pub fn at(cache: &Path) -> Self {
        Self { root: cache.join("v1") }
    }

    /// The folder that holds it all.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the object of this digest lies, if it is there.
    pub fn object(&self, digest: Digest) -> PathBuf {
        let digits = digest.to_string();
        self.root.join("objects").join(&digits[..2]).join(&digits[2..])
    }

    /// Where the record of this key lies, if it is there.
    pub fn record(&self, key: CacheKey) -> PathBuf {
        let digits = key.to_string();
        self.root.join("records").join(&digits[..2]).join(format!("{digits}.json"))
    }

    /// The log of a stage that is running, was interrupted or failed; gone once its result is stored.
    pub fn log(&self, key: CacheKey) -> PathBuf {
        self.work_folder(key).join("log")
    }

    /// Where trainings that differ in their steps alone leave the states that they ended in.
    pub fn trajectory(&self, key: CacheKey) -> PathBuf {
        self.root.join("trajectories").join(key.to_string())
    }

    fn work_folder(&self, key: CacheKey) -> PathBuf {
        self.root.join("work").join(key.to_string())
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Looks for the result of a key. Cheap: reads the record, and compares the sizes of its objects. A record that is torn,
    /// altered or of another version counts as absent.
    pub fn find(&self, key: CacheKey) -> Result<Found, StoreError> {
        let Some(record) = record::read(&self.record(key), key)? else { return Ok(Found::Absent) };
        let mut damage = Vec::new();
        for (file, output) in &record.outputs {
            let path = self.object(output.digest);
            let fault = match std::fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() && metadata.len() == output.size => {
                    files::widen(&path, &metadata);
                    continue;
                }
                Ok(_) => Fault::Corrupted,
                Err(error) => Fault::of(&error),
            };
            damage.push(Damage { file: file.clone(), digest: output.digest, fault });
        }
        let record = Arc::new(record);
        Ok(if damage.is_empty() { Found::Complete(record) } else { Found::Damaged(record, damage) })
    }

    /// Reads the objects of a record in full and compares them with their digests.
    pub fn inspect(&self, record: &Record) -> Vec<Damage> {
        let damage = |(file, output): (&String, &Output)| {
            let fault = self.fault(output.digest)?;
            Some(Damage { file: file.clone(), digest: output.digest, fault })
        };
        record.outputs.iter().filter_map(damage).collect()
    }

    /// Takes an object that is not what it should be out of use, so that its stage runs again; it is kept in `tmp` for whoever wants to look.
    pub fn set_aside(&self, digest: Digest) -> Result<(), StoreError> {
        self.put_aside(&self.object(digest), &digest.to_string())
    }

    /// Whether the object is there and what its name says, by reading all of it.
    pub fn is_intact(&self, digest: Digest) -> bool {
        self.fault(digest).is_none()
    }

    /// Reads an object in full, and returns what is wrong with it.
    fn fault(&self, digest: Digest) -> Option<Fault> {
        let path = self.object(digest);
        let read = files::open(&path).and_then(|file| {
            files::widen(&path, &file.metadata()?);
            Digest::of_open_file(&file)
        });
        match read {
            Ok(found) if found == digest => None,
            Ok(_) => Some(Fault::Corrupted),
            Err(error) => Some(Fault::of(&error)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
