//! Records: what a stage made, and how it came about.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{StoreError, files, sealed};
use crate::{
    credentials::read_arguments,
    digest::Digest,
    key::{CacheKey, KeyMaterial},
    printable::{acts, printable},
};

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
    /// The command line of the run, without what was secret in its addresses.
    #[serde(deserialize_with = "read_arguments")]
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
        artifact(&self.outputs)
    }

    /// The size of its files in bytes.
    pub fn size(&self) -> u64 {
        self.outputs.values().map(|output| output.size).sum()
    }
}

/// The digest of an artifact: of the names of its files and their content.
pub fn artifact(outputs: &BTreeMap<String, Output>) -> Digest {
    // The length keeps a name with a line break from posing as two files.
    let mut text = "artifact 1\n".to_owned();
    for (name, output) in outputs {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{} {name} {}", name.len(), output.digest);
    }
    Digest::of(text.as_bytes())
}

impl Record {
    /// The version of the record files that this program writes and reads.
    pub(crate) const VERSION: u32 = 1;

    /// The text of the record's file, which tells by itself whether it is as it was written.
    pub(super) fn to_text(&self) -> serde_json::Result<Vec<u8>> {
        sealed::seal(Self::VERSION, self)
    }

    /// Reads the text of a record's file; `None` if it is torn, altered, or of another version.
    pub fn from_text(text: &[u8]) -> Option<Self> {
        sealed::open(Self::VERSION, text)
    }

    /// Says why a record from elsewhere cannot be the one of this key. What this store wrote itself is not asked again: a run reads thousands
    /// of records.
    pub(crate) fn fault(&self, key: CacheKey) -> Option<String> {
        if self.key != key {
            return Some(format!("is of another key, {}", self.key.short()));
        }
        if self.material.key().ok() != Some(key) {
            return Some("is not made of what its key says".to_owned());
        }
        for (name, output) in &self.outputs {
            // As `Store::take_out` has it, and printable.
            let plain = Path::new(name).file_name() == Some(name.as_ref()) && name.len() <= LONGEST_NAME;
            if !plain || name.contains(acts) {
                let shown: String = name.chars().take(LONGEST_NAME).collect();
                return Some(format!("has a file of the name `{}`", printable(&shown)));
            }
            if output.size > i64::MAX as u64 {
                return Some(format!("has a file of {} bytes", output.size));
            }
        }
        if self.outputs.values().try_fold(0u64, |sum, output| sum.checked_add(output.size)).is_none() {
            return Some("has files of more bytes than there can be".to_owned());
        }
        let how = &self.provenance;
        let shown =
            [&how.stage, &how.pipeline, &how.version, &how.device, &how.host, &how.started, &self.material.kind];
        if shown.iter().any(|text| text.contains(acts)) {
            return Some("has control characters in its names".to_owned());
        }
        None
    }
}

/// The longest name that a file can have on the usual file systems, in bytes.
const LONGEST_NAME: usize = 255;

/// Reads a record file; `None` if there is none that is intact, of this version and of this key.
pub(super) fn read(path: &Path, key: CacheKey) -> Result<Option<Record>, StoreError> {
    match read_file(path) {
        Ok(record) => Ok(record.filter(|record| record.key == key)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || files::is_foreign(&error) => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

/// Returns whether a record was written by another version of this program.
pub(super) fn is_of_another_version(path: &Path) -> bool {
    let text = files::read_small(path).ok().flatten().unwrap_or_default();
    sealed::version(&text).is_some_and(|version| version != Record::VERSION)
}

/// Nearly all records fit.
const USUAL: usize = 8192;

/// Reads a record by one call of the system where that suffices: a run of many cached stages does little else.
fn read_file(path: &Path) -> io::Result<Option<Record>> {
    let mut file = files::open(path)?;
    let mut text = vec![0; USUAL];
    let read = file.read(&mut text)?;
    text.truncate(read);
    if let Some(record) = Record::from_text(&text) {
        return Ok(Some(record));
    }
    file.take(files::MAX_SMALL).read_to_end(&mut text)?;
    Ok(Record::from_text(&text))
}
