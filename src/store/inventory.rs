//! What the store holds, and whether it is all intact.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use rayon::prelude::*;

use super::{Record, Store, StoreError, record};
use crate::{digest::Digest, key::CacheKey};

/// A stored result.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its record.
    pub record: Record,
    /// Time since it was stored.
    pub age: Duration,
}

/// An object that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The object's name.
    pub digest: Digest,
    /// Whether it is gone altogether, or has other content.
    pub missing: bool,
    /// The results that name it: the key, the stage's name, and the file's name in the artifact.
    pub used_by: Vec<(CacheKey, String, String)>,
}

/// What a full reading of the store found.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Objects that were read.
    pub objects: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Objects that are missing or corrupted.
    pub faults: Vec<Fault>,
    /// Record files that are torn, altered or of another version; they count as absent.
    pub unreadable: Vec<PathBuf>,
}

impl Store {
    /// All results, the newest first.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for path in files_in(&self.root.join("records"))? {
            let Some(record) = read_record(&path)? else { continue };
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            entries.push(Entry { record, age });
        }
        entries.sort_by_key(|entry| (entry.age, entry.record.key));
        Ok(entries)
    }

    /// Reads every object and compares it with its name, also those that no record names.
    pub fn verify(&self) -> Result<Verification, StoreError> {
        let mut unreadable = Vec::new();
        let mut objects: BTreeMap<Digest, Vec<(CacheKey, String, String)>> = BTreeMap::new();
        for path in files_in(&self.root.join("objects"))? {
            objects.extend(object_name(&path).map(|digest| (digest, Vec::new())));
        }
        for path in files_in(&self.root.join("records"))? {
            let Some(record) = read_record(&path)? else {
                unreadable.push(path);
                continue;
            };
            for (file, output) in record.outputs {
                let user = (record.key, record.provenance.stage.clone(), file);
                objects.entry(output.digest).or_default().push(user);
            }
        }
        let count = objects.len();
        let read: Vec<(u64, Option<Fault>)> = objects
            .into_par_iter()
            .map(|(digest, used_by)| {
                let size = fs::metadata(self.object(digest)).map_or(0, |metadata| metadata.len());
                Ok((size, self.fault(digest)?.map(|missing| Fault { digest, missing, used_by })))
            })
            .collect::<Result<_, StoreError>>()?;
        let bytes = read.iter().map(|(size, _)| size).sum();
        let faults = read.into_iter().filter_map(|(_, fault)| fault).collect();
        Ok(Verification { objects: count, bytes, faults, unreadable })
    }
}

/// The files in the folders of a folder, in order; none if the folder is not there.
pub(super) fn files_in(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for shard in children(folder)? {
        files.extend(children(&shard)?);
    }
    Ok(files)
}

pub(super) fn children(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(StoreError::io("read", folder)(error)),
    };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>().map_err(StoreError::io("read", folder))?;
    paths.sort_unstable();
    Ok(paths)
}

pub(super) fn object_name(path: &Path) -> Option<Digest> {
    let (shard, rest) = (path.parent()?.file_name()?.to_str()?, path.file_name()?.to_str()?);
    Digest::from_str(&format!("{shard}{rest}")).ok()
}

fn read_record(path: &Path) -> Result<Option<Record>, StoreError> {
    let key = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
    match key.and_then(|key| key.parse().ok()) {
        Some(key) => record::read(path, key),
        None => Ok(None),
    }
}
