//! Durable files: written to `tmp`, synced, renamed, and the folder synced after them.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{Output, Store, StoreError};
use crate::digest::Digest;

/// Makes a folder and those above it, and syncs what names them.
pub(super) fn ensure_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure_folder_above(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::io("create", folder)(error)),
        _ => sync_folder(parent),
    }
}

fn ensure_folder_above(parent: &Path) -> Result<(), StoreError> {
    if parent == Path::new(".") || parent == Path::new("/") { Ok(()) } else { ensure_folder(parent) }
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StoreError::io("sync", folder))
}

/// Makes a file read-only and syncs it.
pub(super) fn protect(file: &Path) -> Result<(), StoreError> {
    let metadata = fs::symlink_metadata(file).map_err(StoreError::io("read", file))?;
    let read_only = Permissions::from_mode(metadata.permissions().mode() & 0o555 | 0o400);
    fs::set_permissions(file, read_only).map_err(StoreError::io("protect", file))?;
    File::open(file).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", file))
}

/// Renames a synced file of `tmp` to its place, which may hold an older one.
pub(super) fn publish(from: &Path, to: &Path) -> Result<(), StoreError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    ensure_folder(folder)?;
    fs::rename(from, to).map_err(StoreError::io("write", to))?;
    sync_folder(folder)?;
    // The folder may have been made by a run that was cut off before it synced what names it.
    folder.parent().map_or(Ok(()), sync_folder)
}

impl Store {
    /// Moves a file from `tmp` among the objects. An object of this content that is there already is replaced: should it
    /// have rotted meanwhile, this mends it.
    pub(super) fn put_file(&self, file: &Path) -> Result<Output, StoreError> {
        let metadata = fs::symlink_metadata(file).map_err(StoreError::io("read", file))?;
        if !metadata.is_file() {
            let reason = "a stage may leave plain files only".to_owned();
            return Err(StoreError::NotStorable { path: file.to_owned(), reason });
        }
        protect(file)?;
        let digest = Digest::of_file(file).map_err(StoreError::io("read", file))?;
        publish(file, &self.object(digest))?;
        Ok(Output { digest, size: metadata.len() })
    }

    /// Writes a small file so that it is there in full or not at all, also after a power cut.
    pub(crate) fn put_text(&self, to: &Path, text: &[u8]) -> Result<(), StoreError> {
        let tmp = self.write_tmp(text)?;
        tmp.as_file().sync_all().map_err(StoreError::io("sync", tmp.path()))?;
        publish(tmp.path(), to)?;
        forget(tmp);
        Ok(())
    }

    /// Writes a small file that readers see in full or not at all, but that may be lost in a power cut.
    pub(super) fn put_note(&self, to: &Path, text: &[u8]) -> Result<(), StoreError> {
        let tmp = self.write_tmp(text)?;
        fs::rename(tmp.path(), to).map_err(StoreError::io("write", to))?;
        forget(tmp);
        Ok(())
    }

    fn write_tmp(&self, text: &[u8]) -> Result<tempfile::NamedTempFile, StoreError> {
        let folder = self.tmp();
        ensure_folder(&folder)?;
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&folder)
            .map_err(StoreError::io("write into", &folder))?;
        file.write_all(text).map_err(StoreError::io("write", file.path()))?;
        Ok(file)
    }
}

/// The file has been renamed: there is nothing left to delete under its old name.
pub(super) fn forget(file: tempfile::NamedTempFile) {
    let (_file, mut path) = file.into_parts();
    path.disable_cleanup(true);
}
