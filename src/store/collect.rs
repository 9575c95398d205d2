//! Collection: takes away results that nothing needs any more, and what interrupted runs have left behind.
//!
//! A result is needed by the pipelines that are named, by tags, by a run that is going on or jobs that are under way, and by whatever was
//! made or used within the last days. No object goes that a record left behind still names, nor one that may belong to a record to come.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Entry, Store, StoreError, files,
    holder::{self, Hold, Waiting},
    inventory,
    slot::OutFolder,
};
use crate::{digest::Digest, key::CacheKey};

/// A file without a record may belong to one that is about to be written: younger ones stay.
const GRACE: Duration = Duration::from_hours(1);

/// A folder that a stage of another host writes into is touched at the stage's end and maybe not before, and not every file system has
/// the locks that tell whether the stage is still at work.
const ABANDONED: Duration = Duration::from_hours(7 * 24);

/// What is to be kept.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Results that are needed in any case.
    pub keys: BTreeSet<CacheKey>,
    /// What was made or used within this time is needed.
    pub used_within: Duration,
    /// What is not needed stays all the same as long as objects are no larger than this in all, in bytes; 0: it goes.
    pub max_size: u64,
}

/// What a collection takes away, or would.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// Results that go, those out of use for longest first.
    pub removed: Vec<Entry>,
    /// Results that stay.
    pub kept: usize,
    /// Bytes that are freed: objects that no result names any more, and leftovers.
    pub freed: u64,
    /// Bytes of the objects that stay.
    pub left: u64,
    /// Files and folders of interrupted runs that go.
    pub leftovers: usize,
    /// Bytes that no result names any more, but that stay for now: they are too young to be told from those of a result to come.
    pub young: u64,
}

/// An object in the store.
struct Object {
    size: u64,
    age: Duration,
    users: usize,
}

impl Store {
    /// Deletes what need not be kept; nothing if it is only `tried`. Runs that are going on lose nothing: those that plan are waited for, and
    /// later ones wait. `None` if the collection is not to wait on.
    pub fn collect(
        &self,
        keep: &Keep,
        tried: bool,
        waiting: &mut Waiting<'_>,
    ) -> Result<Option<Collected>, StoreError> {
        // Held to the end. Where the file system has no locks, a run that loses a result makes it again.
        let mut lock = self.open_collection_lock();
        let mut locked = false;
        if let Some(lock) = &mut lock {
            match holder::wait(lock, Hold::Alone, &|_| self.planning_run(), waiting) {
                Ok(false) => return Ok(None),
                held => locked = held.is_ok(),
            }
        }
        self.collect_locked(keep, tried, locked).map(Some)
    }

    /// Does the work of a collection, which may hold its lock.
    fn collect_locked(&self, keep: &Keep, tried: bool, locked: bool) -> Result<Collected, StoreError> {
        let entries = self.list()?;
        let mut objects = self.objects()?;
        // No result is about to come whose object could be among those that lose their last one here.
        let nobody_writes = locked && !self.is_anyone_at_work()?;
        for output in entries.iter().flat_map(|entry| entry.record.outputs.values()) {
            if let Some(object) = objects.get_mut(&output.digest) {
                object.users += 1;
            }
        }
        for source in self.needed_by_jobs(ABANDONED)?.1 {
            if let Some(object) = objects.get_mut(&source) {
                object.users += 1;
            }
        }
        let mut left: u64 = objects.values().map(|object| object.size).sum();
        let mut collected = Collected::default();
        for (&digest, object) in objects.iter().filter(|(_, object)| object.users == 0) {
            left -= object.size;
            self.drop_object(digest, object, GRACE, tried, &mut collected)?;
        }

        let needed = self.needed(keep)?;
        let unused = unused(entries, &needed, keep.used_within, &mut collected.kept);
        for entry in unused {
            if keep.max_size > 0 && left <= keep.max_size {
                collected.kept += 1;
                continue;
            }
            // The record first: one that exists is complete.
            if !tried {
                remove_file(&self.record(entry.record.key))?;
            }
            for output in entry.record.outputs.values() {
                let Some(object) = objects.get_mut(&output.digest) else { continue };
                object.users -= 1;
                if object.users == 0 {
                    left -= object.size;
                    let grace = if nobody_writes { Duration::ZERO } else { GRACE };
                    self.drop_object(output.digest, object, grace, tried, &mut collected)?;
                }
            }
            collected.removed.push(entry);
        }
        if !tried && !collected.removed.is_empty() {
            self.remember_evicted(&collected.removed.iter().map(|entry| entry.record.key).collect());
        }
        collected.left = left;
        for path in self.leftovers(keep.used_within)? {
            let size = size_of(&path);
            if tried || self.remove_leftover(&path)? {
                collected.freed += size;
                collected.leftovers += 1;
            }
        }
        Ok(collected)
    }

    /// Returns whether a run goes on, or a stage is at work.
    fn is_anyone_at_work(&self) -> Result<bool, StoreError> {
        let mut keys = inventory::children(&self.root.join("work"))?.into_iter().filter_map(|path| key_of(&path));
        Ok(self.past_runs().iter().any(|run| run.alive) || keys.any(|key| self.is_locked(key)))
    }

    /// Deletes an object that no result names, unless it is too young.
    fn drop_object(
        &self,
        digest: Digest,
        object: &Object,
        grace: Duration,
        tried: bool,
        collected: &mut Collected,
    ) -> Result<(), StoreError> {
        if object.age < grace {
            collected.young += object.size;
            return Ok(());
        }
        collected.freed += object.size;
        if tried { Ok(()) } else { remove_file(&self.object(digest)) }
    }

    /// Takes a leftover away, unless it is the work of a stage that a run has just taken up.
    fn remove_leftover(&self, path: &Path) -> Result<bool, StoreError> {
        let held =
            match key_of(path).filter(|&key| self.work_folder(key) == path).map(|key| self.lock(key)).transpose()? {
                Some(Err(_)) => return Ok(false),
                Some(Ok(lock)) => lock,
                None => None,
            };
        remove_all(path)?;
        drop(held);
        Ok(true)
    }

    /// What the pipelines, tags and runs that are going on need, and when else a result was last used.
    fn needed(&self, keep: &Keep) -> Result<BTreeMap<CacheKey, Duration>, StoreError> {
        let tagged = self.tags()?.into_iter().flat_map(|tag| tag.keys);
        let queued = self.needed_by_jobs(ABANDONED)?.0;
        let mut used: BTreeMap<CacheKey, Duration> =
            keep.keys.iter().copied().chain(tagged).chain(queued).map(|key| (key, Duration::ZERO)).collect();
        for run in self.past_runs() {
            let age = if run.alive { Duration::ZERO } else { run.age };
            for key in run.keys {
                used.entry(key).and_modify(|known| *known = age.min(*known)).or_insert(age);
            }
        }
        Ok(used)
    }

    fn objects(&self) -> Result<BTreeMap<Digest, Object>, StoreError> {
        let mut objects = BTreeMap::new();
        for path in inventory::files_in(&self.root.join("objects"), &mut Err)? {
            let (Some(digest), Ok(metadata)) = (inventory::object_name(&path), fs::symlink_metadata(&path)) else {
                continue;
            };
            objects.insert(digest, Object { size: metadata.len(), age: age_of(&path), users: 0 });
        }
        Ok(objects)
    }

    /// Unfinished files, objects that were set aside, logs and checkpoints of runs that are over, if they are old enough; and the
    /// work of stages whose result is there.
    fn leftovers(&self, within: Duration) -> Result<Vec<PathBuf>, StoreError> {
        let old = |path: &PathBuf, least: Duration| newest_in(path) >= least;
        let mut found = inventory::children(&self.tmp())?;
        found.retain(|path| match OutFolder::of(path) {
            Some(folder) => !self.is_locked(folder.key) && (folder.is_dead() || old(path, ABANDONED)),
            None => old(path, GRACE),
        });
        // Copies to another disk that were cut off, and objects set aside there.
        let strays = inventory::files_in(&self.root.join("objects"), &mut Err)?.into_iter();
        found.extend(strays.filter(|path| files::is_leftover(path) && old(path, GRACE)));
        found.extend(
            self.past_runs().into_iter().filter(|run| !run.alive && run.age >= within.max(GRACE)).map(|run| run.path),
        );
        found.extend(
            inventory::children(&self.root.join("trajectories"))?
                .into_iter()
                .filter(|path| old(path, within.max(GRACE))),
        );
        let submissions = self.submission_folders()?.into_iter();
        found.extend(submissions.filter(|path| old(path, within.max(ABANDONED))));
        for folder in inventory::children(&self.root.join("work"))? {
            let key = key_of(&folder);
            let done = key.is_some_and(|key| self.record(key).is_file());
            let least = if done { GRACE } else { within.max(GRACE) };
            if newest_in(&folder) >= least && key.is_some_and(|key| !self.is_locked(key)) {
                found.push(folder);
            }
        }
        Ok(found)
    }
}

/// The results that are not needed, those out of use for longest first; counts the others.
fn unused(entries: Vec<Entry>, used: &BTreeMap<CacheKey, Duration>, within: Duration, kept: &mut usize) -> Vec<Entry> {
    let idle = |entry: &Entry| used.get(&entry.record.key).map_or(entry.age, |&used| used.min(entry.age));
    let (mut unused, needed): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|entry| {
        let idle = idle(entry);
        idle > Duration::ZERO && idle >= within
    });
    *kept += needed.len();
    unused.sort_by_key(|entry| (std::cmp::Reverse(idle(entry)), entry.record.key));
    unused
}

fn age_of(path: &Path) -> Duration {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default()
}

/// The key that a folder is named by.
fn key_of(path: &Path) -> Option<CacheKey> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Time since a file, or anything in a folder, changed.
pub(super) fn newest_in(path: &Path) -> Duration {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let entries = is_folder.then(|| fs::read_dir(path).ok()).flatten().into_iter().flatten().flatten();
    entries.map(|entry| newest_in(&entry.path())).fold(age_of(path), Duration::min)
}

/// The size of a file, or of all files in a folder.
fn size_of(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
        }
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    gone(fs::remove_file(path), path)
}

fn remove_all(path: &Path) -> Result<(), StoreError> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    gone(if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }, path)
}

/// Another may have taken it away, or have put something into a folder just now.
fn gone(result: io::Result<()>, path: &Path) -> Result<(), StoreError> {
    match result.map_err(|error| (error.kind(), error)) {
        Ok(()) | Err((io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty, _)) => Ok(()),
        Err((_, error)) => Err(StoreError::io("remove", path)(error)),
    }
}

#[cfg(test)]
mod tests;
