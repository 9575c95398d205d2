//! The content-addressed store: immutable objects, records that name them, and the work of running stages.
//!
//! Owns `cache/v1`. Knows nothing of stages. The invariant: a record that exists is complete and its objects exist; everything
//! is written to `tmp`, synced, then renamed, and the record comes last.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    key::{CacheKey, KeyMaterial},
};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder of the store could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done: `write`, `read`, `create`.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A file of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// How a result came about; no part of the key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The stage's name in the pipeline that ran it.
    pub stage: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The program's version.
    pub version: String,
    /// The device it ran on.
    pub device: String,
    /// Operating system and processor family.
    pub host: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The command line of the run.
    pub argv: Vec<String>,
    /// What the inputs were called, by role.
    pub inputs: BTreeMap<String, Vec<String>>,
    /// What the sources were called, by field.
    pub sources: BTreeMap<String, PathBuf>,
}

/// The record of a stage that has run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its key.
    pub key: CacheKey,
    /// What the key was made of.
    pub material: KeyMaterial,
    /// What the stage makes.
    pub produces: crate::stage::ArtifactKind,
    /// Its files by name.
    pub outputs: BTreeMap<String, Output>,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
    /// Things the user was told while it ran.
    pub notices: Vec<String>,
    /// How it came about.
    pub provenance: Provenance,
}

impl Record {
    /// The digest of the artifact: of its output names and their content.
    pub fn artifact(&self) -> Digest {
        todo!()
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
}
