//! What the store holds, and whether it is all intact.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use rayon::prelude::*;

use super::{Fault, Record, Store, StoreError, files, record};
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
pub struct FaultyObject {
    /// The object's name.
    pub digest: Digest,
    /// Its fault.
    pub fault: Fault,
    /// The results that name it: the key, the stage's name, and the file's name in the artifact.
    pub used_by: Vec<(CacheKey, String, String)>,
}

/// What a full reading of the store found.
#[derive(Debug, Default)]
pub struct Verification {
    /// Objects that were read.
    pub objects: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Objects that are missing, corrupted or unreadable.
    pub faults: Vec<FaultyObject>,
    /// Records that are torn, altered or no files; they count as absent.
    pub unreadable: Vec<PathBuf>,
    /// Folders that cannot be read: nothing is known of what lies there.
    pub closed: Vec<StoreError>,
    /// Files among records and objects that are neither, and records of other versions of this program. They do no harm.
    pub strays: Vec<PathBuf>,
}

impl Store {
    /// All results, the newest first.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for path in files_in(&self.root.join("records"), &mut Err)? {
            let Ok(Some(record)) = read_record(&path) else { continue };
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            entries.push(Entry { record, age });
        }
        entries.sort_by_key(|entry| (entry.age, entry.record.key));
        Ok(entries)
    }

    /// Reads every object and compares it with its name, also those that no record names. What cannot be read is listed with the rest.
    pub fn verify(&self) -> Verification {
        let mut found = Verification::default();
        let mut closed = Vec::new();
        let mut list = |folder: &str| {
            let mut note = |error: StoreError| {
                closed.push(error);
                Ok(())
            };
            files_in(&self.root.join(folder), &mut note).unwrap_or_default()
        };
        let mut objects: BTreeMap<Digest, Vec<(CacheKey, String, String)>> = BTreeMap::new();
        for path in list("objects") {
            match object_name(&path) {
                Some(digest) => drop(objects.insert(digest, Vec::new())),
                None => found.strays.push(path),
            }
        }
        for path in list("records") {
            match read_record(&path) {
                Ok(Some(record)) => {
                    for (file, output) in record.outputs {
                        let user = (record.key, record.provenance.stage.clone(), file);
                        objects.entry(output.digest).or_default().push(user);
                    }
                }
                Ok(None) if record_name(&path).is_none() || record::is_of_another_version(&path) => {
                    found.strays.push(path);
                }
                _ => found.unreadable.push(path),
            }
        }
        found.closed = closed;
        found.objects = objects.len();
        let read: Vec<(u64, Option<FaultyObject>)> = objects
            .into_par_iter()
            .map(|(digest, used_by)| {
                let size = fs::symlink_metadata(self.object(digest)).map_or(0, |metadata| metadata.len());
                (size, self.fault(digest).map(|fault| FaultyObject { digest, fault, used_by }))
            })
            .collect();
        found.bytes = read.iter().map(|(size, _)| size).sum();
        found.faults = read.into_iter().filter_map(|(_, fault)| fault).collect();
        found
    }

    /// Takes a record out of use that cannot be read, so that its stage runs again; it is kept in `tmp` for whoever wants to look.
    pub fn set_record_aside(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.put_aside(path, &name)
    }
}

/// The decision about a folder that cannot be read: `Err` gives up, `Ok` goes on without.
type Failed<'a> = dyn FnMut(StoreError) -> Result<(), StoreError> + 'a;

/// The files in the folders of a folder, in order; none if the folder is not there.
pub(super) fn files_in(folder: &Path, failed: &mut Failed<'_>) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for shard in children(folder).or_else(|error| failed(error).map(|()| Vec::new()))? {
        if files::is_own_folder(&shard) {
            files.extend(children(&shard).or_else(|error| failed(error).map(|()| Vec::new()))?);
        } else {
            files.push(shard);
        }
    }
    Ok(files)
}

/// Returns the entries of a folder, in order; none if the folder is not there.
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

/// The key that the name of a record tells.
fn record_name(path: &Path) -> Option<CacheKey> {
    let (shard, name) = (path.parent()?.file_name()?.to_str()?, path.file_name()?.to_str()?);
    name.strip_suffix(".json").filter(|key| key.starts_with(shard))?.parse().ok()
}

fn read_record(path: &Path) -> Result<Option<Record>, StoreError> {
    record_name(path).map_or(Ok(None), |key| record::read(path, key))
}
