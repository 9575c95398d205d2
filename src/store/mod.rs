//! The content-addressed store: immutable objects, records that name them, and the work of running stages.
//!
//! Owns `cache/v1`. Knows nothing of stages. The invariant: a record that exists is complete and its objects exist; everything
//! is written to `tmp`, synced, then renamed, and the record comes last. Correctness rests on rename; locks only save
//! work that would be done twice.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{digest::Digest, key::CacheKey};

mod advice;
mod collect;
mod evicted;
mod files;
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
pub use inventory::{Entry, Fault, Verification};
pub use record::{Output, Provenance, Record, artifact};
pub use runs::{LoggedRun, RunLog};
pub use slot::{Committed, Holder, Lookup, Mark, Outcome, Slot, Work};
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
        /// What is wrong with it.
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
    /// Whether the object is gone altogether, or has other content.
    pub missing: bool,
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
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() && metadata.len() == output.size => {}
                Ok(_) => damage.push(Damage { file: file.clone(), digest: output.digest, missing: false }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    damage.push(Damage { file: file.clone(), digest: output.digest, missing: true });
                }
                Err(error) => return Err(StoreError::io("read", &path)(error)),
            }
        }
        let record = Arc::new(record);
        Ok(if damage.is_empty() { Found::Complete(record) } else { Found::Damaged(record, damage) })
    }

    /// Reads the objects of a record in full and compares them with their digests.
    pub fn inspect(&self, record: &Record) -> Result<Vec<Damage>, StoreError> {
        let mut damage = Vec::new();
        for (file, output) in &record.outputs {
            if let Some(missing) = self.fault(output.digest)? {
                damage.push(Damage { file: file.clone(), digest: output.digest, missing });
            }
        }
        Ok(damage)
    }

    /// Takes a corrupted object out of use, so that its stage runs again; it is kept in `tmp` for whoever wants to look.
    pub fn set_aside(&self, digest: Digest) -> Result<(), StoreError> {
        let object = self.object(digest);
        files::ensure_folder(&self.tmp())?;
        match std::fs::rename(&object, self.tmp().join(format!("corrupt-{digest}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("set aside", &object)(error)),
            _ => Ok(()),
        }
    }

    /// Whether the object is there and what its name says, by reading all of it.
    pub fn is_intact(&self, digest: Digest) -> Result<bool, StoreError> {
        Ok(self.fault(digest)?.is_none())
    }

    /// `None` if the object is what its name says; otherwise whether it is missing (or else corrupted).
    fn fault(&self, digest: Digest) -> Result<Option<bool>, StoreError> {
        let path = self.object(digest);
        match Digest::of_file(&path) {
            Ok(found) if found == digest => Ok(None),
            Ok(_) => Ok(Some(false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(true)),
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
