//! Files that the store owns: opened without following links or waiting, and written durably, to `tmp`, synced, renamed, and the folder synced
//! after them.
//!
//! A file system may lack a feature. Where durability alone suffers (a folder cannot be synced, a mode cannot be set), the store goes on; where
//! a rename cannot cross to another disk, the file is copied.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use rustix::{fs::OFlags, io::Errno};
use tempfile::NamedTempFile;

use super::{Output, Store, StoreError};
use crate::digest::Digest;

/// The size that no record, tag or other small file of the store exceeds, in bytes.
pub(crate) const MAX_SMALL: u64 = 64 << 20;

/// The beginning of the name of a file that is being copied to another disk.
const PART: &str = ".part-";

/// The beginning of the name of a file that was set aside.
const ASIDE: &str = "corrupt-";

/// Opens a file that the store owns, without following a link and without waiting for a pipe. What is no regular file is an error.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(path, OpenOptions::new().read(true))
}

/// Opens a file that the store owns with these options; see [`open`].
pub(super) fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let guards = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(guards.bits().cast_signed()).open(path).map_err(|error| {
        let foreign = [Errno::LOOP, Errno::ISDIR, Errno::NXIO].map(Errno::raw_os_error);
        if error.raw_os_error().is_some_and(|code| foreign.contains(&code)) { no_file() } else { error }
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is no regular file, or a link")
}

/// Returns whether an error of [`open`] says that something else is in the place of a file.
pub(super) fn is_foreign(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Reads a small file that the store owns. `None` if there is none: nothing, something that is no regular file, or more than is ever written.
pub(crate) fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    use io::Read;
    let file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_foreign(&error) => return Ok(None),
        opened => opened?,
    };
    if file.metadata()?.len() > MAX_SMALL {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    file.take(MAX_SMALL + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_SMALL).then_some(bytes))
}

/// Opens a lock of the store, which is made if it is not there. What lies in its place and is no file is taken away.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let open = || open_with(path, OpenOptions::new().read(true).write(true).create(true).truncate(false));
    match open() {
        Err(error) if is_foreign(&error) => {
            clear(path)?;
            open()
        }
        opened => opened,
    }
}

/// Makes an empty file that the store owns, for writing. What was there before is unlinked and never written into: it could be a link.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    clear(path)?;
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Removes what lies in the place of a folder and is none: a link could lead to files of others.
pub(super) fn clear_foreign_folder(path: &Path) -> io::Result<()> {
    let foreign = fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_dir());
    if foreign { clear(path) } else { Ok(()) }
}

/// Removes what lies at a path: a file, a link but not what it leads to, an empty folder. A folder with something in it is renamed.
fn clear(path: &Path) -> io::Result<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let cleared = if is_folder { fs::remove_dir(path) } else { fs::remove_file(path) };
    match cleared {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => fs::rename(path, aside(path)),
        cleared => cleared,
    }
}

/// A free name beside a file, under which it can be set aside.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    free(path.with_file_name(format!("{ASIDE}{name}")))
}

/// The path, or one like it at which nothing lies.
fn free(path: PathBuf) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut paths =
        std::iter::once(path.clone()).chain((1..).map(|nth: u32| path.with_file_name(format!("{name}-{nth}"))));
    paths.find(|path| path.symlink_metadata().is_err()).unwrap_or(path)
}

/// Returns whether this is a file that was set aside where it lay, or a copy to another disk that was cut off.
pub(super) fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(PART) || name.starts_with(ASIDE)
}

/// Makes a folder and those above it, and syncs what names them.
pub(super) fn ensure_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent != Path::new(".") && parent != Path::new("/") {
        ensure_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => {
            Err(StoreError::io("create", folder)(error))
        }
        _ => sync_folder(parent).map_err(StoreError::io("sync", parent)),
    }
}

/// Syncs a folder, where the file system can.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.or_else(|error| if is_refused(&error) { Ok(()) } else { Err(error) })
}

/// Syncs a file, where the file system can.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    file.sync_all().or_else(|error| if is_refused(&error) { Ok(()) } else { Err(error) })
}

/// Returns whether a file system refuses an operation that it does not have, or not for this user. Trouble of the disk is something else.
fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | IsADirectory | PermissionDenied | Unsupported)
        || [Errno::NOTSUP, Errno::NOTTY, Errno::BADF]
            .map(|code| Some(code.raw_os_error()))
            .contains(&error.raw_os_error())
}

/// The permissions that this process takes from the files that it makes.
fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    let told = || {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        u32::from_str_radix(status.lines().find_map(|line| line.strip_prefix("Umask:"))?.trim(), 8).ok()
    };
    // The system has no other way to ask than to set it, which would be seen by other threads.
    let tried = || {
        let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o777)).tempfile().ok()?;
        Some(!file.as_file().metadata().ok()?.mode() & 0o777)
    };
    *UMASK.get_or_init(|| told().or_else(tried).unwrap_or(0o022))
}

/// Lets those read an object who may read what its owner makes now. Nothing is done to the objects of others, and nothing is taken away.
pub(super) fn widen(path: &Path, metadata: &fs::Metadata) {
    let lacks = 0o444 & !umask() & !metadata.mode();
    if lacks != 0 && metadata.uid() == rustix::process::geteuid().as_raw() {
        // Where it cannot be, others make the result themselves.
        let _ = fs::set_permissions(path, Permissions::from_mode(metadata.mode() & 0o7777 | lacks));
    }
}

/// Makes a file read-only and syncs it. It takes the place of another: whoever could read that one can read this one.
fn protect(file: &Path, readable: u32, other: &Path) -> Result<(), StoreError> {
    let before = fs::symlink_metadata(other).map_or(0, |other| if other.is_file() { other.mode() & 0o444 } else { 0 });
    match fs::set_permissions(file, Permissions::from_mode(readable | before)) {
        Err(error) if !is_refused(&error) => return Err(StoreError::io("protect", file)(error)),
        _ => {}
    }
    open(file).and_then(|file| sync(&file)).map_err(StoreError::io("sync", file))
}

impl Store {
    /// Makes a folder of the store and those above it. Folders below the first level are the store's own: a link in the place of one
    /// could lead to files of others, and is taken away. (On the first level a link puts `objects` on another disk.)
    pub(super) fn ensure_folder(&self, folder: &Path) -> Result<(), StoreError> {
        let Ok(inside) = folder.strip_prefix(&self.root) else { return ensure_folder(folder) };
        let mut parts = inside.components();
        let mut path = parts.next().map_or_else(|| self.root.clone(), |first| self.root.join(first));
        ensure_folder(&path)?;
        for part in parts {
            if !matches!(part, Component::Normal(_)) {
                return Err(StoreError::NotStorable {
                    path: folder.to_owned(),
                    reason: "it leads elsewhere".to_owned(),
                });
            }
            let parent = path.clone();
            path.push(part);
            if is_own_folder(&path) {
                continue;
            }
            clear_foreign_folder(&path).map_err(StoreError::io("remove", &path))?;
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::io("create", &path)(error));
                }
                _ => sync_folder(&parent).map_err(StoreError::io("sync", &parent))?,
            }
        }
        Ok(())
    }

    /// Renames what lies in a place to a free name in `tmp`; or beside its place, where that is another disk.
    pub(super) fn put_aside(&self, path: &Path, name: &str) -> Result<(), StoreError> {
        let tmp = self.tmp();
        self.ensure_folder(&tmp)?;
        let renamed = match fs::rename(path, free(tmp.join(format!("{ASIDE}{name}")))) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => fs::rename(path, aside(path)),
            renamed => renamed,
        };
        match renamed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("set aside", path)(error)),
            _ => Ok(()),
        }
    }

    /// Moves a file from `tmp` among the objects. An object of this content that is there already is replaced: should it
    /// have rotted meanwhile, this mends it.
    pub(super) fn put_file(&self, file: &Path) -> Result<Output, StoreError> {
        let metadata = fs::symlink_metadata(file).map_err(StoreError::io("read", file))?;
        if !metadata.is_file() {
            let reason = "a stage may leave plain files only".to_owned();
            return Err(StoreError::NotStorable { path: file.to_owned(), reason });
        }
        let digest = Digest::of_file(file).map_err(StoreError::io("read", file))?;
        self.publish_object(file, digest)?;
        Ok(Output { digest, size: metadata.len() })
    }

    /// Moves a file of `tmp` among the objects, under the digest that its content was found to have.
    pub(crate) fn publish_object(&self, file: &Path, digest: Digest) -> Result<(), StoreError> {
        let object = self.object(digest);
        protect(file, self.readable()?, &object)?;
        self.publish(file, &object)
    }

    /// The permissions of an object: those of a file that this user makes here, whatever decides on them (the umask, a folder's own list),
    /// without the right to write.
    fn readable(&self) -> Result<u32, StoreError> {
        let born = self.new_tmp()?;
        let mode = born.as_file().metadata().map_err(StoreError::io("read", born.path()))?.mode();
        Ok(mode & 0o444 | 0o400)
    }

    /// Renames a synced file of `tmp` to its place, which may hold an older one.
    pub(super) fn publish(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let folder = to.parent().unwrap_or(Path::new("."));
        self.ensure_folder(folder)?;
        rename(from, to).map_err(StoreError::io("write", to))?;
        // The folder may have been made by a run that was cut off before it synced what names it.
        for folder in folder.ancestors().take(2) {
            sync_folder(folder).map_err(StoreError::io("sync", folder))?;
        }
        Ok(())
    }

    /// Writes a small file so that it is there in full or not at all, also after a power cut.
    pub(crate) fn put_text(&self, to: &Path, text: &[u8]) -> Result<(), StoreError> {
        let tmp = self.write_tmp(text)?;
        sync(tmp.as_file()).map_err(StoreError::io("sync", tmp.path()))?;
        self.publish(tmp.path(), to)?;
        forget(tmp);
        Ok(())
    }

    /// Writes a small file that readers see in full or not at all, but that may be lost in a power cut.
    pub(super) fn put_note(&self, to: &Path, text: &[u8]) -> Result<(), StoreError> {
        let tmp = self.write_tmp(text)?;
        rename(tmp.path(), to).map_err(StoreError::io("write", to))?;
        forget(tmp);
        Ok(())
    }

    fn write_tmp(&self, text: &[u8]) -> Result<NamedTempFile, StoreError> {
        let mut file = self.new_tmp()?;
        file.write_all(text).map_err(StoreError::io("write", file.path()))?;
        Ok(file)
    }

    /// Makes an empty file in `tmp`, which goes unless it is [published](Self::publish) and [forgotten](forget).
    pub(super) fn new_tmp(&self) -> Result<NamedTempFile, StoreError> {
        let folder = self.tmp();
        self.ensure_folder(&folder)?;
        let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(&folder);
        file.map_err(StoreError::io("write into", &folder))
    }
}

/// Returns whether there is a folder, and not a link to one.
pub(crate) fn is_own_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Renames a synced file; to another disk, by a copy. What is in its place goes.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match replace(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let part = copy_beside(from, to)?;
            replace(part.path(), to)?;
            forget(part);
            fs::remove_file(from)
        }
        renamed => renamed,
    }
}

/// Renames a file on its disk, also to where a folder is.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            clear(to)?;
            fs::rename(from, to)
        }
        renamed => renamed,
    }
}

/// Copies a file into the folder of its place, synced.
fn copy_beside(from: &Path, to: &Path) -> io::Result<NamedTempFile> {
    let (mut source, mode) = (open(from)?, fs::symlink_metadata(from)?.permissions());
    let part = tempfile::Builder::new()
        .prefix(PART)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(to.parent().unwrap_or(Path::new(".")))?;
    io::copy(&mut source, &mut part.as_file())?;
    let set = part.as_file().set_permissions(mode);
    set.or_else(|error| if is_refused(&error) { Ok(()) } else { Err(error) })?;
    sync(part.as_file())?;
    Ok(part)
}

/// The file has been renamed: there is nothing left to delete under its old name.
pub(super) fn forget(file: NamedTempFile) {
    let (_file, mut path) = file.into_parts();
    path.disable_cleanup(true);
}

#[cfg(test)]
mod tests;
