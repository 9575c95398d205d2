//! The right to write the result of a key: a miss gives a slot, and committing consumes it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tempfile::TempDir;

use super::{Found, Provenance, Record, Store, StoreError, files};
use crate::{
    key::{CacheKey, KeyMaterial},
    stage::{ArtifactKind, Metrics},
};

/// What the name of the folder that a stage writes into begins with; its key follows.
pub(super) const OUT: &str = "out-";
/// The folder of a key's checkpoints, in its work folder.
const CHECKPOINTS: &str = "checkpoints";

/// What there is for a key.
#[derive(Debug)]
pub enum Lookup {
    /// The result is there.
    Hit(Arc<Record>),
    /// There is no result, and this is the right to make it.
    Miss(Slot),
    /// Another run is at work on it; look again later.
    Busy(Holder),
}

/// Who is at work on a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The machine that it runs on.
    pub host: String,
}

impl Holder {
    fn this_process() -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
        let host = host.map_or_else(|_| "an unnamed host".to_owned(), |name| name.trim().to_owned());
        Self { pid: std::process::id(), host }
    }

    fn unknown() -> Self {
        Self { pid: 0, host: "an unknown host".to_owned() }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => write!(f, "a process on {}", self.host),
            pid => write!(f, "process {pid} on {}", self.host),
        }
    }
}

/// How far a stage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
}

/// What goes on for a key that has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Idle,
    /// A run is at work on it.
    Running(Holder, Option<Mark>),
    /// A run was at work on it and was cut off here.
    Interrupted(Mark),
}

/// What a stage gives to be stored beside its files.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the key was made of.
    pub material: KeyMaterial,
    /// What the stage makes.
    pub produces: ArtifactKind,
    /// Its metrics, all finite.
    pub metrics: Metrics,
    /// What it told the user.
    pub notices: Vec<String>,
    /// How it came about.
    pub provenance: Provenance,
}

/// A stored result.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The record that is now in the store.
    pub record: Record,
    /// Whether the store held other bytes for this key: the stage is not reproducible here. The first record is kept,
    /// unless the slot was [claimed](Store::claim).
    pub differed: bool,
}

/// The right to write the result of a key, and the folder to write it into. Dropped without a commit, nothing is stored.
#[derive(Debug)]
pub struct Slot {
    store: Store,
    key: CacheKey,
    work: PathBuf,
    out: TempDir,
    replaces: bool,
    /// Held for as long as the slot lives; `None` on a file system without locks.
    _lock: Option<File>,
}

impl Store {
    /// Looks up a key, and takes the right to write if there is nothing.
    pub fn lookup(&self, key: CacheKey) -> Result<Lookup, StoreError> {
        if let Found::Complete(record) = self.find(key)? {
            return Ok(Lookup::Hit(record));
        }
        let lock = match self.lock(key)? {
            Ok(lock) => lock,
            Err(holder) => return Ok(Lookup::Busy(holder)),
        };
        // Whoever held the lock a moment ago may have stored the result.
        match self.find(key)? {
            Found::Complete(record) => {
                self.clear_work(key);
                Ok(Lookup::Hit(record))
            }
            _ => Ok(Lookup::Miss(self.slot(key, lock, false)?)),
        }
    }

    /// Takes the right to write even if there is a result, which a commit then replaces.
    pub fn claim(&self, key: CacheKey) -> Result<Lookup, StoreError> {
        match self.lock(key)? {
            Ok(lock) => Ok(Lookup::Miss(self.slot(key, lock, true)?)),
            Err(holder) => Ok(Lookup::Busy(holder)),
        }
    }

    /// What goes on for a key that has no result.
    pub fn work(&self, key: CacheKey) -> Result<Work, StoreError> {
        let folder = self.work_folder(key);
        let mark = read_json(&folder.join("progress.json"));
        let path = folder.join("lock");
        let held = match File::open(&path) {
            Ok(mut file) => match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => Some(holder_in(&mut file)),
                _ => None,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        Ok(match (held, mark) {
            (Some(holder), mark) => Work::Running(holder, mark),
            (None, Some(mark)) => Work::Interrupted(mark),
            (None, None) => Work::Idle,
        })
    }

    /// Whether a run is at work on a key.
    pub(super) fn is_locked(&self, key: CacheKey) -> bool {
        let opened = File::open(self.work_folder(key).join("lock"));
        opened.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    pub(super) fn slot(&self, key: CacheKey, lock: Option<File>, replaces: bool) -> Result<Slot, StoreError> {
        let tmp = self.tmp();
        files::ensure_folder(&tmp)?;
        // A folder of its own, so that where locks do not work two runs do not write into each other's files.
        let out = TempDir::with_prefix_in(format!("{OUT}{key}-"), &tmp)
            .map_err(StoreError::io("create a folder in", &tmp))?;
        Ok(Slot { store: self.clone(), key, work: self.work_folder(key), out, replaces, _lock: lock })
    }

    /// Takes the lock of a key, or says who has it. `Ok(None)`: the file system has no locks, go on without.
    pub(super) fn lock(&self, key: CacheKey) -> Result<Result<Option<File>, Holder>, StoreError> {
        let folder = self.work_folder(key);
        let path = folder.join("lock");
        loop {
            files::ensure_folder(&folder)?;
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = match opened {
                Ok(file) => file,
                // A run that has just finished took the folder away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io("lock", &path)(error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Err(holder_in(&mut file))),
                Err(TryLockError::Error(error)) if no_locks(&error) => return Ok(Ok(None)),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
            }
            if is_same_file(&file, &path) {
                let holder = serde_json::to_vec(&Holder::this_process()).unwrap_or_default();
                let written = file.set_len(0).and_then(|()| file.write_all(&holder));
                written.map_err(StoreError::io("write", &path))?;
                return Ok(Ok(Some(file)));
            }
        }
    }

    /// Takes away what a finished stage no longer needs, the lock last. Another run may be looking: nothing here must succeed.
    fn clear_work(&self, key: CacheKey) {
        let folder = self.work_folder(key);
        let _ = fs::remove_dir_all(folder.join(CHECKPOINTS));
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name() != "lock" {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_file(folder.join("lock"));
        let _ = fs::remove_dir(&folder);
    }
}

fn no_locks(error: &io::Error) -> bool {
    // ENOLCK (37) is what a network file system without a lock server says; it has no kind of its own.
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(37)
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

fn holder_in(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_else(Holder::unknown)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

impl Slot {
    /// The key.
    pub fn key(&self) -> CacheKey {
        self.key
    }

    /// The folder that the stage writes its files into.
    pub fn out(&self) -> &Path {
        self.out.path()
    }

    /// Where the log of the stage belongs.
    pub fn log(&self) -> PathBuf {
        self.work.join("log")
    }

    /// Makes the log, empty.
    pub fn create_log(&self) -> Result<File, StoreError> {
        let path = self.log();
        File::create(&path).map_err(StoreError::io("create", &path))
    }

    /// Where the checkpoints of the stage belong.
    pub fn checkpoints(&self) -> PathBuf {
        self.work.join(CHECKPOINTS)
    }

    /// Takes away what an earlier run left to go on from.
    pub fn start_anew(&self) -> Result<(), StoreError> {
        let path = self.checkpoints();
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Notes how far the stage has come, for `status` and for after an interruption.
    pub fn progress(&self, mark: Mark) -> Result<(), StoreError> {
        let text = serde_json::to_vec(&mark).unwrap_or_default();
        self.store.put_note(&self.work.join("progress.json"), &text)
    }

    /// Gives the right back unused. What an earlier run left to go on from stays.
    pub fn release(self) {
        if !self.checkpoints().exists() {
            self.store.clear_work(self.key);
        }
    }

    /// Gives the right back because the result has come from elsewhere. What an earlier run left to go on from goes.
    pub fn settle(self) {
        self.store.clear_work(self.key);
    }

    /// Gives up: the stage failed. The log stays, the progress goes.
    pub fn abandon(self) {
        let _ = fs::remove_file(self.work.join("progress.json"));
    }

    /// Stores the files in [`out`](Self::out) and, last of all, the record that names them.
    pub fn commit(self, outcome: Outcome) -> Result<Committed, StoreError> {
        let not_storable = |reason: String| StoreError::NotStorable { path: self.out().to_owned(), reason };
        if let Some((name, value)) = outcome.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(not_storable(format!("the metric `{name}` is {value}")));
        }
        let record = Record {
            key: self.key,
            material: outcome.material,
            produces: outcome.produces,
            outputs: self.put_outputs()?,
            metrics: outcome.metrics,
            notices: outcome.notices,
            provenance: outcome.provenance,
        };
        let (kept, differed) = match self.store.find(self.key)? {
            Found::Complete(first) => {
                let differed = first.outputs != record.outputs;
                ((!self.replaces).then(|| Arc::unwrap_or_clone(first)), differed)
            }
            _ => (None, false),
        };
        let record = if let Some(first) = kept {
            first
        } else {
            let text = record.to_text().map_err(|error| not_storable(error.to_string()))?;
            self.store.put_text(&self.store.record(self.key), &text)?;
            record
        };
        self.store.clear_work(self.key);
        Ok(Committed { record, differed })
    }

    fn put_outputs(&self) -> Result<BTreeMap<String, super::Output>, StoreError> {
        let folder = self.out();
        let mut outputs = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(StoreError::io("read", folder))? {
            let entry = entry.map_err(StoreError::io("read", folder))?;
            let name = entry.file_name().into_string().map_err(|_| StoreError::NotStorable {
                path: entry.path(),
                reason: "its name is not UTF-8".to_owned(),
            })?;
            outputs.insert(name, self.store.put_file(&entry.path())?);
        }
        Ok(outputs)
    }
}
