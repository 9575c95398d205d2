//! Files and folders on their way: they are gone if they do not arrive, also when a signal ends the program.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// All that is on its way. Whoever makes, renames or removes any of it holds the lock, so that nothing escapes [`remove_all`].
static ALL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Names that are tried before the folder counts as unusable.
const NAMES: u32 = 100;
/// A folder is emptied this often while somebody else still writes into it.
const SWEEPS: u32 = 100;
/// Bytes that a name may have on the usual file systems.
const LONGEST_NAME: usize = 255;

fn all() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or folder on its way. Dropped, it is removed.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Makes a file or folder at this path. `make` must be quick: a signal waits for it.
    pub fn at<T>(path: PathBuf, make: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<(Self, T)> {
        let mut all = all();
        let made = make(&path)?;
        all.insert(path.clone());
        Ok((Self { path }, made))
    }

    /// Makes a file or folder beside a file, under a name that has the file's in it. `make` must refuse a name that is taken.
    pub fn beside<T>(file: &Path, mut make: impl FnMut(&Path) -> io::Result<T>) -> io::Result<(Self, T)> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut attempt = 0;
        loop {
            let sign = if attempt == 0 { String::new() } else { format!("-{attempt}") };
            let end = format!(".{}{sign}.partial", std::process::id());
            let begin = &name[..name.floor_char_boundary(LONGEST_NAME - 1 - end.len())];
            match Self::at(file.with_file_name(format!(".{begin}{end}")), &mut make) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < NAMES => attempt += 1,
                made => return made,
            }
        }
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to its place, where it replaces an older file.
    pub fn rename(self, to: &Path) -> io::Result<()> {
        let _all = all();
        fs::rename(&self.path, to)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut all = all();
        remove(&self.path);
        all.remove(&self.path);
    }
}

/// The proof that nothing is on its way: while it lives, nothing new is made and nothing arrives.
#[must_use = "what it keeps from being made comes to be when it is dropped"]
pub struct Removed(#[expect(dead_code, reason = "it is held, not read")] MutexGuard<'static, BTreeSet<PathBuf>>);

/// Removes everything that is on its way, for a program that is about to end.
pub fn remove_all() -> Removed {
    let mut all = all();
    while let Some(path) = all.pop_first() {
        remove(&path);
    }
    Removed(all)
}

/// Removes a file or a folder, if it is there: nobody can be told if that fails.
fn remove(path: &Path) {
    let Ok(metadata) = path.symlink_metadata() else { return };
    if !metadata.is_dir() {
        let _ = fs::remove_file(path);
        return;
    }
    for _ in 0..SWEEPS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => return,
        }
    }
}
