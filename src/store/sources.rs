//! The memory of source digests: a file that has not changed since it was hashed is not hashed again.
//!
//! A file counts as unchanged if its path, size, times of modification and of change, and inode are as they were, and if it
//! was at rest when it was hashed: a file touched within the clock's granularity of its hashing could change once more
//! without a trace (git's racy-clean rule), so its digest is not relied on.

use std::{
    fs::Metadata,
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{Store, files, sealed};
use crate::digest::Digest;

/// Coarser than the clock of any file system in use (FAT: two seconds).
const REST: Duration = Duration::from_secs(2);

/// The state of a file as the file system tells it. A file that has it as before was not written to since, unless it was not
/// [at rest](Stat::at_rest) then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stat {
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    device: u64,
    inode: u64,
}

impl Stat {
    /// The state of a regular file, or of the one that a link leads to.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::in_metadata(&crate::files::metadata(path)?))
    }

    /// The state that this metadata tells.
    pub(crate) fn in_metadata(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size: metadata.len(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Whether the file had been left alone for a while at this time.
    fn at_rest(&self, now_ns: i64) -> bool {
        self.mtime_ns.max(self.ctime_ns).saturating_add(REST.as_nanos() as i64) < now_ns
    }
}

/// The version of the memories that this program writes and reads.
const VERSION: u32 = 1;

/// What is remembered of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    path: String,
    stat: Stat,
    digest: Digest,
}

fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

impl Store {
    /// The digest of a source file, from memory if the file has not changed since.
    pub fn source(&self, path: &Path) -> io::Result<Digest> {
        Ok(self.source_with_stat(path)?.0)
    }

    /// The digest of a source file, and the state that the file had before it was read.
    pub(crate) fn source_with_stat(&self, path: &Path) -> io::Result<(Digest, Stat)> {
        self.source_at(path, now_ns())
    }

    fn source_at(&self, path: &Path, now_ns: i64) -> io::Result<(Digest, Stat)> {
        let before = Stat::of(path)?;
        let note = self.note(path);
        let memory = files::read_small(&note).ok().flatten().and_then(|text| sealed::open::<Memory>(VERSION, &text));
        if let Some(memory) = memory.filter(|memory| memory.stat == before && memory.path == path.to_string_lossy()) {
            return Ok((memory.digest, before));
        }
        let digest = Digest::of_file(path)?;
        if before.at_rest(now_ns) && Stat::of(path)? == before {
            let memory = Memory { path: path.to_string_lossy().into_owned(), stat: before, digest };
            // A memory that cannot be kept costs time, nothing else.
            let _ = sealed::seal(VERSION, &memory).map(|text| self.remember(&note, &text));
        }
        Ok((digest, before))
    }

    fn remember(&self, note: &Path, text: &[u8]) {
        let folder = note.parent().unwrap_or(&self.root);
        let _ = self.ensure_folder(folder).and_then(|()| self.put_note(note, text));
    }

    fn note(&self, path: &Path) -> PathBuf {
        let digits = Digest::of(path.as_os_str().as_bytes()).to_string();
        self.root.join("sources").join(&digits[..2]).join(format!("{}.json", &digits[2..]))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LATER: i64 = 10_000_000_000;

    fn setup() -> (tempfile::TempDir, Store, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = (Store::at(&folder.path().join("cache")), folder.path().join("events.csv"));
        fs::write(&file, "a\n1\n").unwrap();
        (folder, store, file)
    }

    /// Puts another digest into the memory: who returns it has not read the file.
    fn plant(store: &Store, file: &Path) -> Digest {
        let mut memory: Memory = sealed::open(VERSION, &fs::read(store.note(file)).unwrap()).unwrap();
        memory.digest = Digest::of(b"planted");
        fs::write(store.note(file), sealed::seal(VERSION, &memory).unwrap()).unwrap();
        memory.digest
    }

    #[test]
    fn an_unchanged_file_is_not_read_again() {
        let (_folder, store, file) = setup();
        assert_eq!(store.source_at(&file, now_ns() + LATER).unwrap().0, Digest::of(b"a\n1\n"));
        let planted = plant(&store, &file);
        assert_eq!(store.source(&file).unwrap(), planted);
    }

    #[test]
    fn a_file_that_was_just_written_is_read_again() {
        let (_folder, store, file) = setup();
        store.source(&file).unwrap();
        assert!(!store.note(&file).exists());
    }

    #[test]
    fn a_rewrite_of_the_same_size_and_time_of_modification_is_noticed() {
        let (_folder, store, file) = setup();
        store.source_at(&file, now_ns() + LATER).unwrap();
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&file, "a\n2\n").unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        assert_eq!(store.source(&file).unwrap(), Digest::of(b"a\n2\n"));
    }

    #[test]
    fn a_memory_that_is_torn_or_altered_is_no_obstacle() {
        let (_folder, store, file) = setup();
        store.source_at(&file, now_ns() + LATER).unwrap();
        let text = fs::read_to_string(store.note(&file)).unwrap();
        let digest = Digest::of(b"a\n1\n").to_string();
        for bad in ["{\"path\":", &*text.replace(&digest, &Digest::of(b"other").to_string())] {
            fs::write(store.note(&file), bad).unwrap();
            assert_eq!(store.source(&file).unwrap().to_string(), digest);
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_obstacle() {
        let (folder, _, file) = setup();
        fs::write(folder.path().join("blocked"), "").unwrap();
        let store = Store::at(&folder.path().join("blocked"));
        assert_eq!(store.source_at(&file, now_ns() + LATER).unwrap().0, Digest::of(b"a\n1\n"));
    }
}
