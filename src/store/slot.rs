//! The right to write the result of a key: a miss gives a slot, and committing consumes it.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{io::Errno, process::Pid};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tempfile::TempDir;

use super::{Found, Holder, Output, Provenance, Record, Store, StoreError, files, inventory};
use crate::{
    key::{CacheKey, KeyMaterial},
    stage::{ArtifactKind, Metrics},
};

/// The beginning of the name of the folder that a stage writes into. Its key follows, a word for the host, and the process.
const OUT: &str = "out-";
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
    /// The names of its files. Nothing else that lies in its folder is stored.
    pub files: Vec<String>,
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
        let held = match files::open(&path) {
            Ok(mut file) => match file.try_lock_shared() {
                Err(TryLockError::WouldBlock) => Some(Holder::named_in(&mut file)),
                _ => None,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound || files::is_foreign(&error) => None,
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
        let opened = files::open(&self.work_folder(key).join("lock"));
        opened.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    pub(super) fn slot(&self, key: CacheKey, lock: Option<File>, replaces: bool) -> Result<Slot, StoreError> {
        let (work, out) = (self.work_folder(key), self.new_out(key)?);
        files::clear_foreign_folder(&work.join(CHECKPOINTS)).map_err(StoreError::io("remove", &work))?;
        Ok(Slot { store: self.clone(), key, work, out, replaces, _lock: lock })
    }

    /// Makes the folder that a stage writes into. It is a new one each time: where locks do not work, two runs do not write into each
    /// other's files, and nothing of one attempt is there in the next.
    pub(super) fn new_out(&self, key: CacheKey) -> Result<TempDir, StoreError> {
        let tmp = self.tmp();
        self.ensure_folder(&tmp)?;
        tempfile::Builder::new()
            .prefix(&format!("{OUT}{key}-{}-{}-", Holder::this_process().host_word(), std::process::id()))
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(&tmp)
            .map_err(StoreError::io("create a folder in", &tmp))
    }

    /// Removes what stages have written whose runs on this host were killed.
    pub(super) fn remove_dead_outputs(&self) {
        for path in inventory::children(&self.tmp()).unwrap_or_default() {
            if OutFolder::of(&path).is_some_and(|folder| folder.is_dead() && !self.is_locked(folder.key)) {
                // Of another user, perhaps: it stays until that one or a collection removes it.
                let _ = fs::remove_dir_all(path);
            }
        }
    }

    /// Takes the lock of a key, or says who has it. `Ok(None)`: the file system has no locks, go on without.
    pub(super) fn lock(&self, key: CacheKey) -> Result<Result<Option<File>, Holder>, StoreError> {
        let folder = self.work_folder(key);
        let path = folder.join("lock");
        loop {
            self.ensure_folder(&folder)?;
            let mut file = match files::open_lock(&path) {
                Ok(file) => file,
                // A run that has just finished took the folder away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io("lock", &path)(error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Err(Holder::named_in(&mut file))),
                Err(TryLockError::Error(error)) if no_locks(&error) => return Ok(Ok(None)),
                Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path)(error)),
            }
            if is_same_file(&file, &path) {
                Holder::sign(&mut file).map_err(StoreError::io("write", &path))?;
                return Ok(Ok(Some(file)));
            }
        }
    }

    /// Takes away what a finished stage no longer needs, the lock last. Another run may be looking: nothing here must succeed.
    fn clear_work(&self, key: CacheKey) {
        let folder = self.work_folder(key);
        if !files::is_own_folder(&folder) {
            return;
        }
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
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    // A network file system without a lock server gives a reason that has no kind of its own.
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
        || error.raw_os_error() == Some(Errno::NOLCK.raw_os_error())
}

/// A folder of `tmp` that a stage writes into, by its name.
pub(super) struct OutFolder {
    pub(super) key: CacheKey,
    host: String,
    pid: Option<Pid>,
}

impl OutFolder {
    /// `None` if this is no such folder.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let mut words = path.file_name()?.to_str()?.strip_prefix(OUT)?.split('-');
        let (key, host) = (words.next()?.parse().ok()?, words.next().unwrap_or_default().to_owned());
        Some(Self { key, host, pid: words.next().and_then(|pid| Pid::from_raw(pid.parse().ok()?)) })
    }

    /// Returns whether it belongs to a process of this host that is gone.
    pub(super) fn is_dead(&self) -> bool {
        let is_gone = |pid| rustix::process::test_kill_process(pid) == Err(Errno::SRCH);
        self.host == Holder::this_process().host_word() && self.pid.is_some_and(is_gone)
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read_small(path).ok()??).ok()
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

    /// The names of all files in that folder.
    pub fn files(&self) -> Result<Vec<String>, StoreError> {
        let name = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            let reason = "its name is not UTF-8".to_owned();
            name.ok_or_else(|| StoreError::NotStorable { path: path.clone(), reason })
        };
        inventory::children(self.out())?.iter().map(name).collect()
    }

    /// Begins another attempt, in an empty folder.
    pub fn begin_anew(&mut self) -> Result<(), StoreError> {
        self.out = self.store.new_out(self.key)?;
        Ok(())
    }

    /// Where the log of the stage belongs.
    pub fn log(&self) -> PathBuf {
        self.work.join("log")
    }

    /// Makes the log, empty.
    pub fn create_log(&self) -> Result<File, StoreError> {
        let path = self.log();
        files::create(&path).map_err(StoreError::io("create", &path))
    }

    /// Where the checkpoints of the stage belong.
    pub fn checkpoints(&self) -> PathBuf {
        self.work.join(CHECKPOINTS)
    }

    /// Takes away what an earlier run left to go on from.
    pub fn forget_checkpoints(&self) -> Result<(), StoreError> {
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

    /// Stores the files that the outcome names, which lie in [`out`](Self::out), and, last of all, the record that names them.
    pub fn commit(self, outcome: Outcome) -> Result<Committed, StoreError> {
        let not_storable = |reason: String| StoreError::NotStorable { path: self.out().to_owned(), reason };
        if let Some((name, value)) = outcome.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(not_storable(format!("the metric `{name}` is {value}")));
        }
        let record = Record {
            key: self.key,
            material: outcome.material,
            produces: outcome.produces,
            outputs: self.put_outputs(&outcome.files)?,
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

    fn put_outputs(&self, names: &[String]) -> Result<BTreeMap<String, Output>, StoreError> {
        let mut outputs = BTreeMap::new();
        for name in names {
            let path = self.out().join(name);
            let not_storable = |reason: &str| StoreError::NotStorable { path: path.clone(), reason: reason.to_owned() };
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(not_storable("the name of a file must not lead elsewhere"));
            }
            if path.symlink_metadata().is_err() {
                return Err(not_storable("the stage has not written it"));
            }
            outputs.insert(name.clone(), self.store.put_file(&path)?);
        }
        Ok(outputs)
    }
}
